"""The history of closed windows in PostgreSQL: every write is an upsert that can be repeated."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Literal, Self, cast

import orjson
from msgspec.structs import astuple
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from detection.judged_hours import JudgedHour
from detection.subject import Subject
from detection.windows import CallWindow, Window
from state.database import Database
from state.partitions import CALL_WINDOWS, OBSERVATIONS

Origin = Literal["live", "train"]

_EPOCH: Final = datetime.fromtimestamp(0, UTC)

# Live values are written under the shared lock and a series is replaced under the exclusive one, each until its commit:
# a replacement then sees every live value that was written before it, and every later one sees the replacement's mark.
# One lock for all series, because a write of the worker has hundreds of subjects and replacing is rare and short.
_LOCK: Final = int.from_bytes(b"observed", "big")
_LOCK_SHARED: Final = "select pg_advisory_xact_lock_shared(%s)"
_LOCK_EXCLUSIVE: Final = "select pg_advisory_xact_lock(%s)"

# Rows arrive by COPY in tables that only this connection sees and that are empty again after each transaction: a
# hundred thousand rows then take one statement. `if not exists`, because a connection pooler may hand us any session.
_STAGING: Final = """
create temporary table if not exists arrived_windows (
    subject text, hour timestamptz, calls bigint, errors bigint, timeouts bigint,
    latency_us numeric, latency_us2 numeric, bins jsonb
) on commit delete rows;
create temporary table if not exists arrived_observations (
    subject text, metric text, hour timestamptz, value double precision, count bigint
) on commit delete rows;
create temporary table if not exists arrived_judged (
    subject text, metric text, hour timestamptz, value double precision, count bigint,
    estimate double precision, lower double precision, upper double precision, threshold double precision,
    score double precision, is_exceeded boolean, is_credible boolean, coverage double precision,
    expected_calls double precision
) on commit delete rows
"""
_WINDOW_TYPES: Final = ("text", "timestamptz", "int8", "int8", "int8", "numeric", "numeric", "jsonb")
_OBSERVATION_TYPES: Final = ("text", "text", "timestamptz", "float8", "int8")
_JUDGED_TYPES: Final = (*_OBSERVATION_TYPES, *["float8"] * 5, "bool", "bool", "float8", "float8")
_UNJUDGED: Final = (None,) * 9

# In the order of the primary key, so that two writers of the same rows wait for each other instead of dead-locking.
_UPSERT_WINDOWS: Final = """
insert into call_windows as known (subject, hour, calls, errors, timeouts, latency_us, latency_us2, bins)
select subject, hour, calls, errors, timeouts, latency_us, latency_us2, bins
from arrived_windows order by subject, hour
on conflict (subject, hour) do update set
    calls = excluded.calls, errors = excluded.errors, timeouts = excluded.timeouts,
    latency_us = excluded.latency_us, latency_us2 = excluded.latency_us2, bins = excluded.bins
where (known.calls, known.errors, known.timeouts, known.latency_us, known.latency_us2, known.bins)
    is distinct from
    (excluded.calls, excluded.errors, excluded.timeouts, excluded.latency_us, excluded.latency_us2, excluded.bins)
"""
# The same value without a verdict is an entry that says less, and takes none away: an older version of this program
# wrote it, or whoever sent it has only the window.
_UPSERT_LIVE: Final = """
insert into observations as known (
    subject, metric, hour, value, count, origin,
    estimate, lower, upper, threshold, score, is_exceeded, is_credible, coverage, expected_calls
)
select subject, metric, hour, value, count, 'live',
    estimate, lower, upper, threshold, score, is_exceeded, is_credible, coverage, expected_calls
from arrived_judged as arrived
where not exists (
    select from replaced_series as replaced
    where replaced.subject = arrived.subject and replaced.metric = arrived.metric and arrived.hour < replaced.live_from
)
order by subject, metric, hour
on conflict (subject, metric, hour) do update set
    value = excluded.value, count = excluded.count, estimate = excluded.estimate, lower = excluded.lower,
    upper = excluded.upper, threshold = excluded.threshold, score = excluded.score,
    is_exceeded = excluded.is_exceeded, is_credible = excluded.is_credible, coverage = excluded.coverage,
    expected_calls = excluded.expected_calls
where known.origin = 'live' and (
    (known.value, known.count) is distinct from (excluded.value, excluded.count)
    or excluded.threshold is not null
    and (
        known.estimate, known.lower, known.upper, known.threshold, known.score,
        known.is_exceeded, known.is_credible, known.coverage, known.expected_calls
    ) is distinct from (
        excluded.estimate, excluded.lower, excluded.upper, excluded.threshold, excluded.score,
        excluded.is_exceeded, excluded.is_credible, excluded.coverage, excluded.expected_calls
    )
)
"""
_INSERT_TRAINING: Final = """
insert into observations (subject, metric, hour, value, count, origin)
select subject, metric, hour, value, count, 'train' from arrived_observations order by subject, metric, hour
on conflict (subject, metric, hour) do nothing
"""
_MARK_REPLACED: Final = """
insert into replaced_series (subject, metric, live_from) values (%s, %s, %s)
on conflict (subject, metric) do update set live_from = excluded.live_from
"""
_READ: Final = """
select hour, value, count, origin from observations
where subject = %s and metric = %s
    and (%s::timestamptz is null or hour >= %s::timestamptz)
    and (%s::timestamptz is null or hour < %s::timestamptz)
order by hour
"""


@dataclass(frozen=True, slots=True)
class Row:
    """The value of one closed hour (since the epoch), and whether it came from the stream or from a data set."""

    hour: int
    value: float
    count: int
    origin: Origin


class History:
    """Every closed window, and every value that a model learned; DependencyError while PostgreSQL does not answer.

    The tables are those of `state.migrate.migrate`. Every method is one transaction.
    """

    def __init__(self, url: str, *, connections: int = 4, timeout_seconds: float = 10.0) -> None:
        self.database = Database(url, connections=connections, timeout_seconds=timeout_seconds)

    async def open(self) -> None:
        """Start to connect; does not wait for it, and does not fail where PostgreSQL is away."""
        await self.database.open()

    async def close(self) -> None:
        """Give the connections back."""
        await self.database.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def record(
        self,
        windows: Mapping[Subject, Mapping[int, Window]],
        judged: Mapping[Subject, Mapping[int, Mapping[str, JudgedHour]]] | None = None,
    ) -> None:
        """Keep these windows, by hour, and each value of them as `live`; the same again changes nothing.

        `judged` says, by slug, how values compared with what had been published of them. A live value never takes the
        place of one that the model was trained with: the model learned that one. Nor does one come back that was
        learned before its series was started over (see `replace`).
        """
        rows = [
            (str(subject), hour, window) for subject, by_hour in windows.items() for hour, window in by_hour.items()
        ]
        if not rows:
            return
        verdicts = {
            (str(subject), hour): by_slug
            for subject, by_hour in (judged or {}).items()
            for hour, by_slug in by_hour.items()
        }
        hours = _hours(hour for _, hour, _ in rows)
        async with self.database.transaction({CALL_WINDOWS: hours, OBSERVATIONS: hours}) as connection:
            await connection.execute(_STAGING)
            await _copy(
                connection,
                "copy arrived_windows from stdin (format binary)",
                _WINDOW_TYPES,
                (
                    (
                        subject,
                        _moment(hour),
                        window.calls,
                        window.errors,
                        window.timeouts,
                        window.latency_us,
                        window.latency_us2,
                        _bins(window),
                    )
                    for subject, hour, window in rows
                    if isinstance(window, CallWindow)
                ),
            )
            await _copy(
                connection,
                "copy arrived_judged from stdin (format binary)",
                _JUDGED_TYPES,
                (
                    (
                        subject,
                        value.metric.slug,
                        _moment(hour),
                        float(value.value),
                        value.count,
                        *_verdict(verdicts.get((subject, hour), {}).get(value.metric.slug)),
                    )
                    for subject, hour, window in rows
                    for value in window.values()
                ),
            )
            await connection.execute(_UPSERT_WINDOWS)
            await connection.execute(_LOCK_SHARED, (_LOCK,))
            await connection.execute(_UPSERT_LIVE)

    async def read(
        self, subject: Subject, metric_slug: str, from_hour: int | None = None, to_hour: int | None = None
    ) -> list[Row]:
        """The series' values of the hours `from_hour <= hour < to_hour`, oldest first."""
        start = None if from_hour is None else _moment(from_hour)
        end = None if to_hour is None else _moment(to_hour)
        async with self.database.connection() as connection:
            cursor = connection.cursor(binary=True)
            await cursor.execute(_READ, (str(subject), metric_slug, start, start, end, end))
            found = await cursor.fetchall()
        return [Row(_hour(moment), value, count, cast(Origin, origin)) for moment, value, count, origin in found]

    async def add_training(self, subject: Subject, metric_slug: str, rows: Iterable[tuple[int, float, int]]) -> None:
        """Keep `(hour, value, count)` of a data set, except for hours that are known already."""
        kept = list(rows)
        async with self.database.transaction({OBSERVATIONS: _hours(hour for hour, _, _ in kept)}) as connection:
            await self._stage_rows(connection, subject, metric_slug, kept)
            await connection.execute(_INSERT_TRAINING)

    async def replace(
        self, subject: Subject, metric_slug: str, rows: Iterable[tuple[int, float, int]], *, live_from_hour: int
    ) -> None:
        """Keep `(hour, value, count)` of a data set in place of everything that was known of the series.

        Live values of hours before `live_from_hour`, below which every window was learned when the series was started
        over, are left out from now on: a worker may have taken them out of the outbox already, and be about to write
        them. What is learned later is of that hour or younger.
        """
        series = str(subject), metric_slug
        kept = list(rows)
        async with self.database.transaction({OBSERVATIONS: _hours(hour for hour, _, _ in kept)}) as connection:
            await self._stage_rows(connection, subject, metric_slug, kept)
            await connection.execute(_LOCK_EXCLUSIVE, (_LOCK,))
            await connection.execute("delete from observations where subject = %s and metric = %s", series)
            await connection.execute(_INSERT_TRAINING)
            await connection.execute(_MARK_REPLACED, (*series, _moment(live_from_hour)))

    async def count(self) -> int:
        """Values of all series together."""
        async with self.database.connection() as connection:
            cursor = await connection.execute("select count(*) from observations")
            found = await cursor.fetchone()
        return 0 if found is None else int(found[0])

    async def ping(self) -> None:
        """Raises DependencyError when PostgreSQL does not answer."""
        await self.database.ping()

    async def _stage_rows(
        self,
        connection: AsyncConnection,
        subject: Subject,
        metric_slug: str,
        rows: Iterable[tuple[int, float, int]],
    ) -> None:
        await connection.execute(_STAGING)
        text = str(subject)
        await _copy_observations(
            connection, ((text, metric_slug, _moment(hour), float(value), count) for hour, value, count in rows)
        )


async def _copy_observations(connection: AsyncConnection, rows: Iterable[tuple[Any, ...]]) -> None:
    await _copy(connection, "copy arrived_observations from stdin (format binary)", _OBSERVATION_TYPES, rows)


async def _copy(
    connection: AsyncConnection,
    statement: Literal[
        "copy arrived_windows from stdin (format binary)",
        "copy arrived_observations from stdin (format binary)",
        "copy arrived_judged from stdin (format binary)",
    ],
    types: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
) -> None:
    """Binary, so that a float arrives bit for bit."""
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(types)
        for row in rows:
            await copy.write_row(row)


def _verdict(one: JudgedHour | None) -> tuple[float | bool | None, ...]:
    return _UNJUDGED if one is None else astuple(one)


def _bins(window: CallWindow) -> Jsonb:
    return Jsonb({str(key): window.bins[key] for key in sorted(window.bins)}, dumps=orjson.dumps)


def _hours(hours: Iterable[int]) -> list[datetime]:
    return [_moment(hour) for hour in set(hours)]


@lru_cache(maxsize=65_536)
def _moment(hour: int) -> datetime:
    return _EPOCH + timedelta(hours=hour)


def _hour(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(hours=1)
