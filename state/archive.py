"""Observation events in PostgreSQL: raw rows and additive windows, exactly once.

One transaction for a batch: the offsets of its sources are locked, what is below them is left out, rows and windows are
written, the offsets are moved. Whatever is given again, after whichever crash, is below them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, LiteralString

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncConnection

from detection.events import Observed
from detection.hours import HOUR_MS, MINUTE_MS
from state.copy_rows import Int64s, Pairs, Texts, copy_rows, moments
from state.database import Database
from state.gauge_windows import Rows, Windows, windows_of
from state.json_text import json_text
from state.label_sets import EMPTY, LabelSets, Pair
from state.partitions import GAUGE_HOURS, GAUGE_MINUTES, OBSERVATION_EVENTS, Partitioned

_DAY_MS: Final = 24 * HOUR_MS
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_RADIX: Final = 10**18

_COPY_EVENTS: Final = """
copy observation_events (subject, metric, source, at, value, label_set, "offset") from stdin (format binary)
"""
# As in `state.history`: tables that only this connection sees, empty again after each transaction.
_STAGE: Final = """
create temporary table if not exists arrived_{0} (
    subject text collate "C", metric text collate "C", start timestamptz, label_set bigint, count bigint,
    sum_high bigint, sum_low bigint, minimum double precision, maximum double precision,
    last double precision, last_at timestamptz, bins bigint[]
) on commit delete rows
"""
# In the order of the primary key, so that two writers of the same rows wait for each other instead of dead-locking.
_UPSERT: Final = """
insert into gauge_{0} as known
    (subject, metric, start, label_set, count, sum_nano, minimum, maximum, last, last_at, bins)
select subject, metric, start, label_set, count, sum_high * 1000000000000000000::numeric + sum_low,
    minimum, maximum, last, last_at, bins
from arrived_{0} order by subject, metric, start, label_set
on conflict (subject, metric, start, label_set) do update set
    count = known.count + excluded.count,
    sum_nano = known.sum_nano + excluded.sum_nano,
    minimum = least(known.minimum, excluded.minimum),
    maximum = greatest(known.maximum, excluded.maximum),
    last = case when (excluded.last_at, excluded.last) > (known.last_at, known.last) then excluded.last
        else known.last end,
    last_at = greatest(known.last_at, excluded.last_at),
    bins = added_bins(known.bins, excluded.bins)
"""
_STAGE_MINUTES: Final[LiteralString] = _STAGE.format("minutes")
_STAGE_HOURS: Final[LiteralString] = _STAGE.format("hours")
_COPY_MINUTES: Final = "copy arrived_minutes from stdin (format binary)"
_COPY_HOURS: Final = "copy arrived_hours from stdin (format binary)"
_UPSERT_MINUTES: Final[LiteralString] = _UPSERT.format("minutes")
_UPSERT_HOURS: Final[LiteralString] = _UPSERT.format("hours")

_KNOW: Final = """
insert into archived_offsets (source, "offset") select unnest(%s::text[]), 0 on conflict do nothing
"""
_LOCK: Final = 'select source, "offset" from archived_offsets where source = any(%s) order by source for update'
_MOVE: Final = """
update archived_offsets as known set "offset" = reached."offset"
from unnest(%s::text[], %s::bigint[]) as reached (source, "offset") where known.source = reached.source
"""
_READ: Final = 'select source, "offset" from archived_offsets where source = any(%s)'


@dataclass(frozen=True, slots=True)
class Arrived:
    """Events of one source in the order of their offsets.

    `begin` is the offset from which it was read: what is below must be archived before. `end` is the one after the last
    record.
    """

    source: str
    begin: int
    events: Sequence[Observed]
    offsets: Sequence[int]
    end: int


@dataclass(frozen=True, slots=True)
class Horizon:
    """The oldest moments that are kept, in ms since the epoch: of older events there is no partition to make."""

    events_ms: int = 0
    minutes_ms: int = 0
    hours_ms: int = 0


@dataclass(frozen=True, slots=True)
class Archived:
    """What became of a batch: rows written, rows older than is kept, rows there already.

    `rewound` names the sources of which PostgreSQL has less than was read before, and where each is to be read again:
    then nothing was written.
    """

    rows: int = 0
    expired: int = 0
    repeated: int = 0
    rewound: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Events as columns; `pairs` are the label sets, by subject, that `pair` numbers."""

    subjects: list[bytes]
    metrics: list[bytes]
    sources: list[bytes]
    pairs: list[Pair]
    subject: Int64s
    metric: Int64s
    source: Int64s
    pair: Int64s
    at_ms: Int64s
    offset: Int64s
    value: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Written:
    """What is sent to PostgreSQL, and the partitions it needs."""

    events: bytes = b""
    minutes: bytes = b""
    hours: bytes = b""
    rows: int = 0
    expired: int = 0
    needed: Mapping[Partitioned, Sequence[datetime]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch, ready to be written: what takes time and no database is done."""

    arrived: Sequence[Arrived]
    horizon: Horizon
    written: _Written


class Archive:
    """Raw observation events and their windows; every method raises DependencyError while PostgreSQL is away."""

    def __init__(self, database: Database, *, label_sets: int = 1000) -> None:
        self._database = database
        self._label_sets = LabelSets(database, most=label_sets)

    async def offsets(self, sources: Sequence[str]) -> dict[str, int]:
        """The next offset to archive of each source, 0 of an unknown one."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_READ, (list(sources),))
            return dict.fromkeys(sources, 0) | dict(await cursor.fetchall())

    async def prepare(self, arrived: Sequence[Arrived], horizon: Horizon = Horizon()) -> Prepared:
        """The computing part of `store`, in a thread: the next batch's, while this one's is written."""
        columns = await asyncio.to_thread(_columns, arrived)
        numbers = await self._label_sets.ids(columns.pairs)
        label_set = np.array([numbers[pair] for pair in columns.pairs], np.int64)[columns.pair]
        return Prepared(arrived, horizon, await asyncio.to_thread(_write, columns, label_set, horizon))

    async def write(self, prepared: Prepared) -> Archived:
        """One transaction; what is there already is left out."""
        ends = {one.source: one.end for one in prepared.arrived}
        sources = sorted(ends)
        written = prepared.written
        async with self._database.transaction(written.needed) as connection:
            await connection.execute(_KNOW, (sources,))
            cursor = await connection.execute(_LOCK, (sources,))
            stored: dict[str, int] = dict(await cursor.fetchall())
            # PostgreSQL lost what it had, after a failover or a restored copy.
            rewound = {one.source: stored[one.source] for one in prepared.arrived if stored[one.source] < one.begin}
            if rewound:
                return Archived(rewound=rewound)
            arrived = [_after(one, stored[one.source]) for one in prepared.arrived]
            repeated = _rows(prepared.arrived) - _rows(arrived)
            if repeated:
                # Of the same moments, so no other partition is needed.
                columns = await asyncio.to_thread(_columns, arrived)
                numbers = await self._label_sets.ids(columns.pairs)
                label_set = np.array([numbers[pair] for pair in columns.pairs], np.int64)[columns.pair]
                written = await asyncio.to_thread(_write, columns, label_set, prepared.horizon)
            await _send(connection, written)
            moved = {source: max(end, stored[source]) for source, end in ends.items()}
            await connection.execute(_MOVE, (list(moved), list(moved.values())))
        return Archived(rows=written.rows, expired=written.expired, repeated=repeated)

    async def store(self, arrived: Sequence[Arrived], horizon: Horizon = Horizon()) -> Archived:
        """Prepare and write."""
        return await self.write(await self.prepare(arrived, horizon))


async def _send(connection: AsyncConnection, written: _Written) -> None:
    if written.events:
        await _copy(connection, _COPY_EVENTS, written.events)
    if written.minutes:
        await connection.execute(_STAGE_MINUTES)
        await _copy(connection, _COPY_MINUTES, written.minutes)
        await connection.execute(_UPSERT_MINUTES)
    if written.hours:
        await connection.execute(_STAGE_HOURS)
        await _copy(connection, _COPY_HOURS, written.hours)
        await connection.execute(_UPSERT_HOURS)


async def _copy(connection: AsyncConnection, statement: LiteralString, rows: bytes) -> None:
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        await copy.write(rows)


def _rows(arrived: Sequence[Arrived]) -> int:
    return sum(len(event.gauges) for one in arrived for event in one.events)


def _after(arrived: Arrived, offset: int) -> Arrived:
    """Without the events of records below the offset."""
    if not arrived.offsets or arrived.offsets[0] >= offset:
        return arrived
    kept = [at for at, one in enumerate(arrived.offsets) if one >= offset]
    return replace(arrived, events=[arrived.events[at] for at in kept], offsets=[arrived.offsets[at] for at in kept])


def _columns(arrived: Sequence[Arrived]) -> _Columns:
    pairs: dict[tuple[str, bytes], int] = {}
    slugs: list[str] = []
    values: list[float] = []
    sizes: list[int] = []
    pair: list[int] = []
    at_ms: list[int] = []
    offset: list[int] = []
    source: list[int] = []
    texts: dict[tuple[str, str], str] = {}
    for number, one in enumerate(arrived):
        offset += one.offsets
        source += [number] * len(one.offsets)
        for event in one.events:
            subject = event.subject
            text = texts.get(name := (subject.kind, subject.id))
            if text is None:
                text = texts[name] = str(subject)
            key = json_text(event.labels) if event.labels else EMPTY
            pair.append(pairs.setdefault((text, key), len(pairs)))
            at_ms.append(event.timestamp_ms)
            sizes.append(len(event.gauges))
            slugs += event.gauges
            values += event.gauges.values()
    subjects = sorted({text for text, _ in pairs})
    subject_code = {text: code for code, text in enumerate(subjects)}
    metrics = sorted(set(slugs))
    metric_code = {slug: code for code, slug in enumerate(metrics)}
    size = np.array(sizes, np.int64)
    by_pair = np.array([subject_code[text] for text, _ in pairs], np.int64)
    repeated = np.repeat(np.array(pair, np.int64), size)
    return _Columns(
        subjects=[text.encode() for text in subjects],
        metrics=[slug.encode() for slug in metrics],
        sources=[one.source.encode() for one in arrived],
        pairs=list(pairs),
        subject=by_pair[repeated],
        metric=np.array([metric_code[slug] for slug in slugs], np.int64),
        source=np.repeat(np.array(source, np.int64), size),
        pair=repeated,
        at_ms=np.repeat(np.array(at_ms, np.int64), size),
        offset=np.repeat(np.array(offset, np.int64), size),
        value=np.array(values, np.float64),
    )


def _write(columns: _Columns, label_set: Int64s, horizon: Horizon) -> _Written:
    if not len(columns.value):
        return _Written()
    series = columns.subject * len(columns.metrics) + columns.metric
    rows = Rows(series, label_set, columns.at_ms, columns.value)
    order = rows.sorted_order()
    rows = Rows(series[order], label_set[order], columns.at_ms[order], columns.value[order])
    kept = rows.at_ms >= horizon.events_ms
    chosen = order[kept]
    events = (
        copy_rows(
            [
                Texts(columns.subjects, columns.subject[chosen]),
                Texts(columns.metrics, columns.metric[chosen]),
                Texts(columns.sources, columns.source[chosen]),
            ],
            [moments(columns.at_ms[chosen]), columns.value[chosen], label_set[chosen], columns.offset[chosen]],
        )
        if len(chosen)
        else b""
    )
    minutes = _windows(columns, rows, horizon.minutes_ms, MINUTE_MS)
    hours = _windows(columns, rows, horizon.hours_ms, HOUR_MS)
    return _Written(
        events=events,
        minutes=minutes,
        hours=hours,
        rows=len(chosen),
        expired=len(order) - len(chosen),
        needed={
            OBSERVATION_EVENTS: _days(rows.at_ms, horizon.events_ms),
            GAUGE_MINUTES: _days(rows.at_ms, horizon.minutes_ms),
            GAUGE_HOURS: _days(rows.at_ms, horizon.hours_ms),
        },
    )


def _windows(columns: _Columns, rows: Rows, oldest_ms: int, span_ms: int) -> bytes:
    kept = rows.at_ms // span_ms * span_ms >= oldest_ms
    if not kept.any():
        return b""
    if not kept.all():
        rows = Rows(rows.series[kept], rows.label_set[kept], rows.at_ms[kept], rows.value[kept])
    windows = windows_of(rows, span_ms=span_ms)
    high, low = _halves(windows)
    subject, metric = np.divmod(windows.series, len(columns.metrics))
    return copy_rows(
        [Texts(columns.subjects, subject), Texts(columns.metrics, metric)],
        [
            moments(windows.start_ms),
            windows.label_set,
            windows.count,
            high,
            low,
            windows.minimum,
            windows.maximum,
            windows.last,
            moments(windows.last_ms),
        ],
        Pairs(windows.bin, windows.events, windows.bin_ends),
    )


def _halves(windows: Windows) -> tuple[Int64s, Int64s]:
    """The sums as two numbers of 64 bits each, the first in 10¹⁸."""
    sums = windows.sum_nano
    return (sums // _RADIX).astype(np.int64), (sums % _RADIX).astype(np.int64)


def _days(at_ms: Int64s, oldest_ms: int) -> list[datetime]:
    """One moment of each day of these that is kept."""
    days = np.unique(at_ms[at_ms >= oldest_ms - _DAY_MS] // _DAY_MS).tolist()
    return [_EPOCH + timedelta(days=day) for day in days]
