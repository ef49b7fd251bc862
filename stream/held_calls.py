"""Calls between Kafka and the store, as columns of small numbers: 29 bytes each, of however many billers they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from detection.subject import Subject
from stream.aggregation import Calls
from stream.decoding import CallColumns

# Subjects that are known by number: a flood of invented ids must not fill the memory.
_MOST_NUMBERS = 1_000_000


@dataclass(slots=True)
class Numbers:
    """Subjects and sources by the order in which they were first seen."""

    subjects: list[Subject] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    _codes: dict[str, int] = field(default_factory=dict)

    def of_billers(self, ids: Sequence[str]) -> NDArray[np.int32]:
        """The number of each of these billers."""
        codes = self._codes
        try:
            return np.array([codes[one] for one in ids], np.int32)
        except KeyError:
            return np.array([self._of_biller(one) for one in ids], np.int32)

    def _of_biller(self, biller_id: str) -> int:
        code = self._codes.get(biller_id)
        if code is None:
            code = self._codes[biller_id] = len(self.subjects)
            self.subjects.append(Subject.biller(biller_id))
        return code

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
            numbers.of_billers(columns.ids)[columns.biller],
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
        ids = [other.subjects[code].id for code in codes.tolist()]
        return _Part(
            self._numbers.of_source(other.sources[part.source]),
            self._numbers.of_billers(ids)[places],
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
        empty = np.empty(0, np.int64)
        return Calls(
            subjects=self._numbers.subjects,
            sources=self._numbers.sources,
            subject=np.concatenate([empty, *(part.subject for part in parts)]),
            source=np.repeat(
                np.array([part.source for part in parts], np.int64), [len(part.subject) for part in parts]
            ),
            timestamp_ms=np.concatenate([empty, *(part.timestamp_ms for part in parts)]),
            latency_us=np.concatenate([empty, *(part.latency_us for part in parts)]),
            outcome=np.concatenate([empty, *(part.outcome for part in parts)]),
            offset=np.concatenate([empty, *(part.offset for part in parts)]),
        )
