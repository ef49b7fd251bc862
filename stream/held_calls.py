"""Calls between Kafka and the store, as columns of small numbers: 17 bytes each, of however many billers they are."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detection.kernel.id_numbers import FREE, number_ids, place_ids
from detection.kernel.number_order import order_by_number
from detection.subject import Subject
from stream.aggregation import Calls
from stream.decoding import CallColumns, Ids

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
# A column of numbers that are small nearly always.
Small: TypeAlias = Int32s | Int64s

_LARGEST_SMALL: Final = 2**31 - 1
# Subjects that are known by number: a flood of invented ids must not fill the memory.
_MOST_NUMBERS = 1_000_000


class Numbers:
    """Subjects and sources by the order in which they were first seen."""

    def __init__(self) -> None:
        self.subjects: list[Subject] = []
        self.sources: list[str] = []
        # The ids of the subjects as `detection.kernel.id_numbers` has them.
        self._secret = secrets.randbits(62)
        self._names = np.empty(1 << 12, np.uint8)
        self._ends = np.empty(1 << 8, np.int64)
        self._table = np.full(1 << 9, FREE, np.int64)

    def of_billers(self, ids: Ids) -> Int64s:
        """The number of each of these billers; all of the ids must be good ones."""
        self._make_room(ids)
        known = len(self.subjects)
        numbers = np.empty(len(ids), np.int64)
        ends = self._ends
        text = np.frombuffer(ids.text, np.uint8)
        after = number_ids(text, ids.places, self._secret, known, self._names, ends, self._table, numbers)
        begin = int(ends[known - 1]) if known else 0
        for end in ends[known:after].tolist():
            self.subjects.append(Subject.biller(self._names[begin:end].tobytes().decode()))
            begin = end
        return numbers

    def _make_room(self, ids: Ids) -> None:
        """For as much as there can be new."""
        known = len(self.subjects)
        names = (int(self._ends[known - 1]) if known else 0) + ids.size
        if names > len(self._names):
            self._names = np.concatenate([self._names, np.empty(names, np.uint8)])
        count = known + len(ids)
        if count > len(self._ends):
            self._ends = np.concatenate([self._ends, np.empty(count, np.int64)])
        if 2 * count > len(self._table):
            self._table = np.full(1 << (4 * count).bit_length(), FREE, np.int64)
            place_ids(self._names, self._ends, self._secret, known, self._table)

    def of_source(self, source: str) -> int:
        """The number of the source."""
        if source not in self.sources:
            self.sources.append(source)
        return self.sources.index(source)


@dataclass(frozen=True, slots=True)
class Merged:
    """All calls that wait, in the order in which they came; whatever is chosen of them has columns of whole numbers."""

    subjects: Sequence[Subject]
    sources: Sequence[str]
    subject: Int32s
    # For each call its batch; for each batch its source, and the least time and offset, which the columns count from.
    batch: Int32s
    batch_source: Int64s
    batch_first_ms: Int64s
    batch_first_offset: Int64s
    after_ms: Small
    latency_us: Small
    outcome: NDArray[np.int8]
    after_offset: Small

    def __len__(self) -> int:
        return len(self.subject)

    def of(self, places: Int32s | Int64s) -> Calls:
        """The calls at these places."""
        batch = self.batch[places]
        return Calls(
            subjects=self.subjects,
            sources=self.sources,
            subject=self.subject[places].astype(np.int64),
            source=self.batch_source[batch],
            timestamp_ms=self.batch_first_ms[batch] + self.after_ms[places],
            latency_us=self.latency_us[places].astype(np.int64),
            outcome=self.outcome[places].astype(np.int64),
            offset=self.batch_first_offset[batch] + self.after_offset[places],
        )

    def slices(self, *, subjects: int, calls: int) -> list[Int32s]:
        """The places of all calls, by whole subjects: as many as these to a slice, calls of more than one only so far.

        A slice is in the order of its subjects, and those of a subject in the order in which they came.
        """
        order = np.empty(len(self), np.int32)
        ends = np.empty(len(self.subjects), np.int64)
        order_by_number(self.subject, ends, order)
        begins = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
        is_there = ends > begins
        begins, ends = begins[is_there], ends[is_there]
        found = []
        at = 0
        while at < len(ends):
            within = int(np.searchsorted(ends, begins[at] + calls, side="right"))
            after = min(max(within, at + 1), at + subjects)
            found.append(order[begins[at] : ends[after - 1]])
            at = after
        return found


class HeldCalls:
    """Calls in the order in which they came, batch by batch."""

    def __init__(self, numbers: Numbers | None = None) -> None:
        self._numbers = Numbers() if numbers is None else numbers
        self._count = 0
        # Of each batch.
        self._source: list[int] = []
        self._newest_ms: list[int] = []
        self._first_ms: list[int] = []
        self._first_offset: list[int] = []
        # Of each batch a column.
        self._subject: list[Int32s] = []
        self._after_ms: list[Small] = []
        self._latency_us: list[Small] = []
        self._outcome: list[NDArray[np.int8]] = []
        self._after_offset: list[Small] = []

    def __len__(self) -> int:
        return self._count

    def successor(self) -> Self:
        """Empty, and with the same numbers where there are not too many of them."""
        return type(self)(self._numbers if len(self._numbers.subjects) <= _MOST_NUMBERS else None)

    def hold(self, source: str, columns: CallColumns) -> None:
        """Take a batch of one source, with one call at least."""
        numbers = self._numbers
        first_ms, after_ms = _since_first(columns.timestamp_ms)
        first_offset, after_offset = _since_first(columns.offset)
        self._source.append(numbers.of_source(source))
        self._newest_ms.append(int(columns.timestamp_ms.max()))
        self._first_ms.append(first_ms)
        self._first_offset.append(first_offset)
        self._subject.append(numbers.of_billers(columns.ids)[columns.biller].astype(np.int32))
        self._after_ms.append(after_ms)
        self._latency_us.append(_small(columns.latency_us))
        self._outcome.append(columns.outcome.astype(np.int8))
        self._after_offset.append(after_offset)
        self._count += len(columns)

    def extend(self, newer: Self) -> None:
        """Put what came later behind what is in here."""
        other = newer._numbers
        if other is self._numbers:
            self._source += newer._source
            self._subject += newer._subject
        else:
            self._source += [self._numbers.of_source(other.sources[one]) for one in newer._source]
            self._subject += [self._renumbered(one, other) for one in newer._subject]
        self._newest_ms += newer._newest_ms
        self._first_ms += newer._first_ms
        self._first_offset += newer._first_offset
        self._after_ms += newer._after_ms
        self._latency_us += newer._latency_us
        self._outcome += newer._outcome
        self._after_offset += newer._after_offset
        self._count += newer._count

    def _renumbered(self, subject: Int32s, other: Numbers) -> Int32s:
        codes, places = np.unique(subject, return_inverse=True)
        ids = Ids.of(other.subjects[code].id for code in codes.tolist())
        return self._numbers.of_billers(ids)[places].astype(np.int32)

    def newest_ms(self) -> Mapping[str, int]:
        """The newest call's time of each source, in ms since the epoch."""
        found: dict[str, int] = {}
        for number, newest in zip(self._source, self._newest_ms, strict=True):
            source = self._numbers.sources[number]
            found[source] = max(found.get(source, -1), newest)
        return found

    def merged(self) -> Merged:
        """All of them. What is in here shares its memory from then on: there is one copy of each column at a time."""
        sizes = [len(one) for one in self._subject]
        return Merged(
            subjects=self._numbers.subjects,
            sources=self._numbers.sources,
            subject=_merge(self._subject, sizes, np.int32),
            batch=np.repeat(np.arange(len(sizes), dtype=np.int32), sizes),
            batch_source=np.array(self._source, np.int64),
            batch_first_ms=np.array(self._first_ms, np.int64),
            batch_first_offset=np.array(self._first_offset, np.int64),
            after_ms=_merge(self._after_ms, sizes, np.int32),
            latency_us=_merge(self._latency_us, sizes, np.int32),
            outcome=_merge(self._outcome, sizes, np.int8),
            after_offset=_merge(self._after_offset, sizes, np.int32),
        )


def _merge(columns: list[Any], sizes: Sequence[int], kind: type[np.generic]) -> Any:
    """One column of all batches, whose own are parts of it from then on; of larger numbers where one of them is."""
    whole = np.concatenate([np.empty(0, kind), *columns])
    columns[:] = np.split(whole, np.cumsum(sizes)[:-1]) if sizes else []
    return whole


def _since_first(column: Int64s) -> tuple[int, Small]:
    """The least, and how much more each is."""
    first = int(column.min())
    return first, _small(column - first)


def _small(column: Int64s) -> Small:
    """In half the memory where no number is too large, and always a copy: what it comes from may hold much more."""
    return column.astype(np.int32) if int(column.max()) <= _LARGEST_SMALL else column.copy()
