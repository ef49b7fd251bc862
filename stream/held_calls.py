"""Calls between Kafka and the store, as columns of small numbers: 29 bytes each, of however many billers they are."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from detection.kernel.id_numbers import FREE, number_ids, place_ids
from detection.subject import Subject
from stream.aggregation import Calls
from stream.decoding import CallColumns, Ids

Int64s = NDArray[np.int64]

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
class _Part:
    """Calls of one source, in the order of arrival."""

    source: int
    subject: NDArray[np.int32]
    timestamp_ms: NDArray[np.int64]
    latency_us: NDArray[np.int64]
    outcome: NDArray[np.int8]
    offset: NDArray[np.int64]


class HeldCalls:
    """Calls in the order in which they came."""

    def __init__(self, numbers: Numbers | None = None) -> None:
        self._numbers = Numbers() if numbers is None else numbers
        self._parts: list[_Part] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def successor(self) -> Self:
        """Empty, and with the same numbers where there are not too many of them."""
        return type(self)(self._numbers if len(self._numbers.subjects) <= _MOST_NUMBERS else None)

    def hold(self, source: str, columns: CallColumns) -> None:
        """Take a batch of one source."""
        numbers = self._numbers
        part = _Part(
            numbers.of_source(source),
            numbers.of_billers(columns.ids)[columns.biller].astype(np.int32),
            columns.timestamp_ms,
            columns.latency_us,
            columns.outcome.astype(np.int8),
            # A copy: what it comes from knows much more of each record.
            columns.offset.copy(),
        )
        self._parts.append(part)
        self._count += len(columns)

    def extend(self, newer: Self) -> None:
        """Put what came later behind what is in here."""
        for part in newer._parts:
            self._parts.append(part if newer._numbers is self._numbers else self._renumbered(part, newer._numbers))
        self._count += newer._count

    def _renumbered(self, part: _Part, other: Numbers) -> _Part:
        codes, places = np.unique(part.subject, return_inverse=True)
        ids = Ids.of(other.subjects[code].id for code in codes.tolist())
        return _Part(
            self._numbers.of_source(other.sources[part.source]),
            self._numbers.of_billers(ids)[places].astype(np.int32),
            part.timestamp_ms,
            part.latency_us,
            part.outcome,
            part.offset,
        )

    def newest_ms(self) -> Mapping[str, int]:
        """The newest call's time of each source, in ms since the epoch."""
        found: dict[str, int] = {}
        for part in self._parts:
            source = self._numbers.sources[part.source]
            found[source] = max(found.get(source, -1), int(part.timestamp_ms.max()))
        return found

    def calls(self) -> Calls:
        """All of them."""
        parts = self._parts
        none = np.empty(0, np.int64)
        return Calls(
            subjects=self._numbers.subjects,
            sources=self._numbers.sources,
            subject=np.concatenate([none.astype(np.int32), *(part.subject for part in parts)]),
            source=np.repeat(
                np.array([part.source for part in parts], np.int32), [len(part.subject) for part in parts]
            ),
            timestamp_ms=np.concatenate([none, *(part.timestamp_ms for part in parts)]),
            latency_us=np.concatenate([none, *(part.latency_us for part in parts)]),
            outcome=np.concatenate([none.astype(np.int8), *(part.outcome for part in parts)]),
            offset=np.concatenate([none, *(part.offset for part in parts)]),
        )
