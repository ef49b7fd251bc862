"""From the records of one partition to columns of numbers: one pass, no Python object per event kept.

Calls are read by machine code (`detection.kernel.call_text`); what that leaves, by `detection.events`, one by one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from detection import events
from detection.errors import InvalidEventError
from detection.events import CallEvent
from detection.hours import SECOND_MS
from detection.kernel.call_text import UNREAD, read_calls
from detection.kernel.log_records import OFFSET, RECORD_COLUMNS, TIMESTAMP, VALUE, VALUE_END
from detection.subject import PART_RULE, is_valid_part
from stream.log_records import LogRecords

Int64s = NDArray[np.int64]
Decoded = TypeVar("Decoded")


class Record(Protocol):
    """What is used of a Kafka record; `timestamp` is when the broker was given it, in ms since the epoch, or -1."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that is no event, with the reason that goes to the dead letters."""

    record: Any
    reason: str


@dataclass(frozen=True, slots=True)
class Ids(Sequence[str]):
    """Ids where they stand in a text: a row of `places` (N, 2) says from where to where. They are ASCII."""

    text: bytes
    places: Int64s

    @classmethod
    def of(cls, ids: Iterable[str]) -> Self:
        """These, one behind the other."""
        written = [one.encode() for one in ids]
        ends = np.cumsum([0, *map(len, written)], dtype=np.int64)
        return cls(b"".join(written), np.stack([ends[:-1], ends[1:]], axis=1))

    @property
    def size(self) -> int:
        """The bytes of all of them."""
        return int((self.places[:, 1] - self.places[:, 0]).sum())

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> "Ids": ...
    def __getitem__(self, at: int | slice) -> "str | Ids":
        if isinstance(at, slice):
            return Ids(self.text, self.places[at])
        start, end = self.places[at].tolist()
        return self.text[start:end].decode()

    def __iter__(self) -> Iterator[str]:
        return (self.text[start:end].decode() for start, end in self.places.tolist())


_NO_IDS = Ids.of([])


@dataclass(slots=True)
class CallColumns:
    """Calls as columns of equal length, in the order of arrival; `biller` is the place of each one's id.

    All of the `ids` are good. One may have several places.
    """

    ids: Ids = _NO_IDS
    biller: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    timestamp_ms: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    latency_us: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    outcome: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    offset: Int64s = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def biller_ids(self) -> list[str]:
        """Whose each call is."""
        ids = list(self.ids)
        return [ids[number] for number in self.biller.tolist()]

    def of(self, chosen: NDArray[np.bool_] | Int64s) -> "CallColumns":
        """The calls that the mask keeps, or those at these places."""
        return CallColumns(
            self.ids,
            self.biller[chosen],
            self.timestamp_ms[chosen],
            self.latency_us[chosen],
            self.outcome[chosen],
            self.offset[chosen],
        )


@dataclass(frozen=True, slots=True)
class ObservedAt:
    """An observation and the offset it came from."""

    observed: events.Observed
    offset: int


def decode_calls(records: Sequence[Record], *, future_ms: int) -> tuple[CallColumns, list[Rejected]]:
    """The calls of these records as columns, and the records that are none.

    A record is taken or refused as a whole. `future_ms` is by how much an event may be ahead of the broker's time of
    its record: judged by the log, not by this machine's clock, so that a replay decides alike.
    """
    if not records:
        return CallColumns(), []
    plain, sent, others = _read_plain(records)
    rejected: list[Rejected] = []
    if others:
        calls, offsets, received = _decode_one_by_one(others, rejected)
        decoded, refused = _columns(calls, offsets)
        plain = _joined(plain, decoded)
        # Both are in the order of the log: so is what is merged, and several calls of a record stay as they were.
        order = np.argsort(plain.offset, kind="stable")
        plain, sent = plain.of(order), np.concatenate([sent, np.array(received, np.int64)])[order]
    else:
        refused = {}
    _refuse_wrong_clocks(plain, sent, future_ms, refused)
    if refused:
        by_offset = {record.offset: record for record in records}
        rejected.extend(Rejected(by_offset[offset], reason) for offset, reason in refused.items())
        plain = _without_strangers(plain.of(~np.isin(plain.offset, np.array(list(refused), np.int64))))
    return plain, rejected


def _without_strangers(calls: CallColumns) -> CallColumns:
    """Without the ids that nobody has any more: what was refused may have one that none can be."""
    used, calls.biller = np.unique(calls.biller, return_inverse=True)
    calls.ids = Ids(calls.ids.text, calls.ids.places[used])
    return calls


def _read_plain(records: Sequence[Record]) -> tuple[CallColumns, Int64s, list[Record]]:
    """The calls that machine code can read, when the broker was given each of them, and the other records."""
    some = records if isinstance(records, LogRecords) else _side_by_side(records)
    starts, ends = some.values
    # Each by itself: what is kept of them keeps no other in memory.
    timestamp, latency, outcome, biller = (np.empty(len(some), np.int64) for _ in range(4))
    ids = np.empty((len(some), 2), np.int64)
    known = read_calls(np.frombuffer(some.data, np.uint8), starts, ends, timestamp, latency, outcome, biller, ids)
    columns = CallColumns(Ids(some.data, ids[:known]), biller, timestamp, latency, outcome, some.offsets)
    is_left = outcome == UNREAD
    if not is_left.any():
        return columns, some.timestamps, []
    others = [records[at] for at in np.flatnonzero(is_left).tolist()]
    return columns.of(~is_left), some.timestamps[~is_left], others


def _side_by_side(records: Sequence[Record]) -> LogRecords:
    """The values of records that came as objects, one behind the other, as `LogRecords` has them."""
    values = [record.value or b"" for record in records]
    columns = np.full((RECORD_COLUMNS, len(values)), -1, np.int64)
    columns[OFFSET] = [record.offset for record in records]
    columns[TIMESTAMP] = [record.timestamp for record in records]
    columns[VALUE_END] = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
    columns[VALUE] = np.concatenate([[0], columns[VALUE_END, :-1]])
    return LogRecords(b"".join(values), columns)


def _decode_one_by_one(
    records: Sequence[Record], rejected: list[Rejected]
) -> tuple[list[CallEvent], list[int], list[int]]:
    calls: list[CallEvent] = []
    offsets: list[int] = []
    received: list[int] = []
    for record, found in _each(records, events.decode_calls, rejected):
        calls += found
        offsets += [record.offset] * len(found)
        received += [record.timestamp] * len(found)
    return calls, offsets, received


def _joined(first: CallColumns, second: CallColumns) -> CallColumns:
    return CallColumns(
        Ids.of([*first.ids, *second.ids]),
        np.concatenate([first.biller, second.biller + len(first.ids)]),
        np.concatenate([first.timestamp_ms, second.timestamp_ms]),
        np.concatenate([first.latency_us, second.latency_us]),
        np.concatenate([first.outcome, second.outcome]),
        np.concatenate([first.offset, second.offset]),
    )


def _refuse_wrong_clocks(calls: CallColumns, sent: Int64s, future_ms: int, refused: dict[int, str]) -> None:
    """Add the offsets of calls whose time nobody's clock can have shown, each with the reason."""
    timestamp = calls.timestamp_ms
    too_old = (timestamp < events.OLDEST_MS) | (timestamp >= events.NEWEST_MS)
    # A record of the oldest message format has no time (-1): then nothing can be said of its clock.
    ahead = (sent >= 0) & (timestamp > sent + future_ms)
    for at in np.flatnonzero(too_old | ahead).tolist():
        refused.setdefault(
            int(calls.offset[at]),
            f"timestamp: {timestamp[at]} is not in milliseconds since 1970, or before 2000, or after 2099"
            if too_old[at]
            else f"timestamp: {int(timestamp[at] - sent[at]) / SECOND_MS:.0f} s ahead of the time it was sent",
        )


def _columns(calls: list[CallEvent], offsets: list[int]) -> tuple[CallColumns, dict[int, str]]:
    """Columns of decoded calls, and the reason for each offset whose outcome, time or id is none."""
    refused: dict[int, str] = {}
    outcome, timestamp = _outcomes_and_times(calls, offsets, refused)
    ids = [call.biller_id for call in calls]
    numbers = {one: number for number, one in enumerate(dict.fromkeys(ids))}
    bad_ids = {one for one in numbers if not is_valid_part(one)}
    if bad_ids:
        for at, one in enumerate(ids):
            if one in bad_ids:
                refused.setdefault(offsets[at], f"biller_id {one[:140]!r}: {PART_RULE}")
    latency = np.rint(np.array([call.latency_ms for call in calls]) * 1000.0).astype(np.int64)
    biller = np.array([numbers[one] for one in ids], np.int64)
    good = Ids.of("" if one in bad_ids else one for one in numbers)
    return CallColumns(good, biller, timestamp, latency, outcome, np.array(offsets, np.int64)), refused


def _outcomes_and_times(calls: list[CallEvent], offsets: list[int], refused: dict[int, str]) -> tuple[Int64s, Int64s]:
    outcome = np.zeros(len(calls), np.int64)
    timestamp = np.full(len(calls), events.OLDEST_MS, np.int64)
    for at, call in enumerate(calls):
        try:
            outcome[at] = events.outcome_code(call)
            timestamp[at] = events.timestamp_ms(call.timestamp)
        except InvalidEventError as error:
            refused.setdefault(offsets[at], str(error))
    return outcome, timestamp


def decode_observations(records: Sequence[Record], *, future_ms: int) -> tuple[list[ObservedAt], list[Rejected]]:
    """The observations of these records, and the records that are none."""
    found: list[ObservedAt] = []
    rejected: list[Rejected] = []
    for record, one in _each(records, events.decode_observation, rejected):
        ahead_ms = one.timestamp_ms - record.timestamp
        if record.timestamp >= 0 and ahead_ms > future_ms:
            rejected.append(Rejected(record, f"timestamp: {ahead_ms / SECOND_MS:.0f} s ahead of the time it was sent"))
            continue
        found.append(ObservedAt(one, record.offset))
    return found, rejected


def _each(
    records: Sequence[Record], decode: Callable[[bytes], Decoded], rejected: list[Rejected]
) -> Iterator[tuple[Record, Decoded]]:
    """What each record holds; those that hold nothing of the kind go to `rejected`, with the reason."""
    for record in records:
        if record.value is None:
            rejected.append(Rejected(record, "the record has no value"))
            continue
        try:
            found = decode(record.value)
        except InvalidEventError as error:
            rejected.append(Rejected(record, str(error)))
            continue
        yield record, found
