"""From the records of one partition to columns of numbers: one pass, no Python object per event kept."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from detection import events
from detection.errors import InvalidEventError
from detection.events import CallEvent
from detection.hours import SECOND_MS
from detection.subject import PART_RULE, is_valid_part

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


@dataclass(slots=True)
class CallColumns:
    """Calls as columns of equal length, in the order in which they arrived."""

    biller_ids: list[str] = field(default_factory=list)
    timestamp_ms: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    latency_us: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    outcome: Int64s = field(default_factory=lambda: np.empty(0, np.int64))
    offset: Int64s = field(default_factory=lambda: np.empty(0, np.int64))


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
    decoded, offsets, received, rejected = _decode(records)
    columns, refused = _columns(decoded, offsets, received, future_ms)
    if refused:
        by_offset = {record.offset: record for record in records}
        rejected.extend(Rejected(by_offset[offset], reason) for offset, reason in refused.items())
    return columns, rejected


def _decode(
    records: Sequence[Record],
) -> tuple[list[CallEvent], list[int], list[int], list[Rejected]]:
    decode = events.decode_call
    try:
        # The path of nearly all batches: one call in each record, all of them well-formed.
        calls = [decode(record.value) for record in records]  # type: ignore[arg-type]  # None is refused below
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError):
        return _decode_one_by_one(records)
    return calls, [record.offset for record in records], [record.timestamp for record in records], []


def _decode_one_by_one(
    records: Sequence[Record],
) -> tuple[list[CallEvent], list[int], list[int], list[Rejected]]:
    calls: list[CallEvent] = []
    offsets: list[int] = []
    received: list[int] = []
    rejected: list[Rejected] = []
    for record, found in _each(records, events.decode_calls, rejected):
        calls += found
        offsets += [record.offset] * len(found)
        received += [record.timestamp] * len(found)
    return calls, offsets, received, rejected


def _columns(
    calls: list[CallEvent], offsets: list[int], received: list[int], future_ms: int
) -> tuple[CallColumns, dict[int, str]]:
    """Columns of the calls whose whole record is good, and the reason for each offset that is not."""
    if not calls:
        return CallColumns(), {}
    refused: dict[int, str] = {}
    offset = np.array(offsets, np.int64)
    outcomes = events.OUTCOMES
    try:
        outcome = np.array([outcomes[call.outcome] for call in calls], np.int64)  # type: ignore[index]  # KeyError below
        timestamp = np.array([call.timestamp for call in calls], np.int64)
    except (KeyError, TypeError, ValueError, OverflowError):
        outcome, timestamp = _slow_columns(calls, offsets, refused)
    ids = [call.biller_id for call in calls]
    bad_ids = {one for one in set(ids) if not is_valid_part(one)}
    too_old = (timestamp < events.OLDEST_MS) | (timestamp >= events.NEWEST_MS)
    sent = np.array(received, np.int64)
    # A record of the oldest message format has no time (-1): then nothing can be said of its clock.
    ahead = (sent >= 0) & (timestamp > sent + future_ms)
    for at in np.flatnonzero(too_old | ahead).tolist():
        refused.setdefault(
            offsets[at],
            f"timestamp: {timestamp[at]} is not in milliseconds since 1970, or before 2000, or after 2099"
            if too_old[at]
            else f"timestamp: {(int(timestamp[at]) - received[at]) / SECOND_MS:.0f} s ahead of the time it was sent",
        )
    if bad_ids:
        for at, one in enumerate(ids):
            if one in bad_ids:
                refused.setdefault(
                    offsets[at],
                    f"biller_id {one[:140]!r}: {PART_RULE}",
                )
    latency = np.rint(np.array([call.latency_ms for call in calls]) * 1000.0).astype(np.int64)
    if not refused:
        return CallColumns(ids, timestamp, latency, outcome, offset), {}
    kept = ~np.isin(offset, np.array(list(refused), np.int64))
    return (
        CallColumns(
            [one for one, keep in zip(ids, kept, strict=True) if keep],
            timestamp[kept],
            latency[kept],
            outcome[kept],
            offset[kept],
        ),
        refused,
    )


def _slow_columns(calls: list[CallEvent], offsets: list[int], refused: dict[int, str]) -> tuple[Int64s, Int64s]:
    """Outcome and time of calls that are sent with a status or with an RFC 3339 time."""
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
