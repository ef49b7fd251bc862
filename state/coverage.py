"""How often thresholds held, summed up by PostgreSQL from the judged hours: of series when asked, of cohorts ahead.

The cohorts' sums are over many series of a month, so they are made once in a while, by one worker, and kept in a table
of their own for everybody who asks.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_args

from psycopg import AsyncConnection, sql

from detection.catalogue import slugs_below
from detection.cohorts import ANY_SIZE, SIZES
from detection.coverage import NOTHING, SPAN_HOURS, Span, Tally
from detection.errors import TooLargeError
from detection.hours import HOUR_MS, SECOND_MS
from detection.subject import Subject
from state.database import Database
from state.moments import moment_of, ms_of

# Any number that no other program on the same database takes: who sums up the cohorts holds this lock.
_LOCK: Final = int.from_bytes(b"coverage", "big")
# A refresh is at least this many times as long ago as it took: it costs at most a twentieth of a connection.
_LEAST_PAUSE: Final = 20
_SECONDS: Final = 20.0

_HOURS: Final = sql.SQL(
    """
    select judged.subject, judged.metric, judged.hour, judged.value, judged.threshold, judged.coverage,
        judged.is_exceeded, judged.expected_calls, before.value as naive,
        case when judged.metric = any(%(below)s) then -1 else 1 end as side
    from observations as judged
    left join observations as before on before.subject = judged.subject and before.metric = judged.metric
        and before.hour = judged.hour - interval '168 hours'
        and before.hour >= %(start)s::timestamptz - interval '168 hours'
        and before.hour < %(end)s::timestamptz - interval '168 hours'
    where {which} and judged.hour >= %(start)s::timestamptz and judged.hour < %(end)s::timestamptz
        and judged.threshold is not null
    """
)
_DAYS: Final = sql.SQL(
    """
    select {keys}, count(*) as judged, count(*) filter (where is_exceeded) as exceeded, sum(1 - coverage) as claimed,
        count(naive) as compared,
        sum(greatest(coverage * side * (value - threshold), (coverage - 1) * side * (value - threshold)))
            filter (where naive is not null) as loss,
        sum(greatest(coverage * side * (value - naive), (coverage - 1) * side * (value - naive))) as naive_loss
    from ({hours}) as hours
    group by {groups}
    """
)
_SUMS: Final = sql.SQL(
    """
    sum(judged)::bigint, sum(exceeded)::bigint, sum(claimed), sum(compared)::bigint,
    coalesce(sum(loss), 0), coalesce(sum(naive_loss), 0), count(*)::bigint,
    sum(judged * judged)::bigint, sum(exceeded * exceeded)::bigint, sum(judged * exceeded)::bigint
    """
)
_DAY: Final = sql.SQL("date_bin(interval '24 hours', hour, timestamptz 'epoch')")
_OF_SERIES: Final = sql.SQL(
    """
    select wanted.number, summed.*
    from unnest(%(subjects)s::text[], %(metrics)s::text[]) with ordinality as wanted (subject, metric, number)
    cross join lateral (select {sums} from ({days}) as days having count(*) > 0) as summed
    """
).format(
    sums=_SUMS,
    days=_DAYS.format(
        keys=sql.SQL("{} as day").format(_DAY),
        groups=sql.SQL("day"),
        hours=_HOURS.format(which=sql.SQL("judged.subject = wanted.subject and judged.metric = wanted.metric")),
    ),
)
# Size -1 is that of hours of which no calls were expected; without a size, the row is of all of them.
_SIZE: Final = sql.SQL(
    "case when expected_calls > 0 then width_bucket(expected_calls, array[10, 1e2, 1e3, 1e4, 1e5, 1e6]::float8[])"
    " else -1 end"
)
_OF_COHORTS: Final = sql.SQL(
    """
    insert into cohort_coverage (
        span, until, every_nth, metric, size, series,
        judged, exceeded, claimed, compared, loss, naive_loss, clusters, judged2, exceeded2, product
    )
    select %(span)s, %(end)s::timestamptz, %(every_nth)s,
        metric, coalesce((%(sizes)s::text[])[size + 1], %(any)s), count(distinct subject), {sums}
    from ({days}) as days where size is distinct from -1
    group by metric, size order by sum(judged) desc limit %(limit)s
    """
).format(
    sums=_SUMS,
    days=_DAYS.format(
        keys=sql.SQL("subject, metric, size"),
        groups=sql.SQL("grouping sets ((subject, metric, day, size), (subject, metric, day))"),
        hours=sql.SQL("select *, {} as day, {} as size from ({}) as known").format(
            _DAY, _SIZE, _HOURS.format(which=sql.SQL("judged.subject = any(%(chosen)s::text[])"))
        ),
    ),
)
_READ: Final = """
select metric, size, until, every_nth, series,
    judged, exceeded, claimed, compared, loss, naive_loss, clusters, judged2, exceeded2, product
from cohort_coverage where span = %s order by metric, size
"""
# As many cohorts as there are elsewhere, so that no label of Prometheus grows with invented gauges.
_MOST_COHORTS: Final = 200


@dataclass(frozen=True, slots=True)
class CohortCoverage:
    """The hours of one cohort in the span that ends at `until_ms`, of all its series or of every n-th subject's."""

    metric: str
    size: str
    until_ms: int
    every_nth: int
    series: int
    tally: Tally

    @property
    def name(self) -> str:
        """`average-response-time/10-100`."""
        return f"{self.metric}/{self.size}"


class Coverage:
    """DependencyError while PostgreSQL does not answer, or takes longer than it is given."""

    def __init__(self, database: Database, *, seconds: float = _SECONDS) -> None:
        self._database = database
        self._seconds = seconds

    async def of_series(self, series: Sequence[tuple[Subject, str]], *, span: Span, until_ms: int) -> list[Tally]:
        """The tally of each of the series, by subject and slug, over the span that ends with the last full hour.

        TooLargeError where that takes too long to find.
        """
        found = [NOTHING] * len(series)
        asked = {
            **_range(span, until_ms),
            "subjects": [str(subject) for subject, _ in series],
            "metrics": [slug for _, slug in series],
            "below": slugs_below(),
        }
        async with self._database.connection() as connection:
            cursor = connection.cursor(binary=True)
            try:
                async with asyncio.timeout(self._seconds):
                    await cursor.execute(_OF_SERIES, asked)
                    rows = await cursor.fetchall()
            except TimeoutError:
                raise TooLargeError(
                    f"the coverage of {len(series)} series over a {span} takes more than {self._seconds:g} seconds to "
                    "find: ask for fewer series or a shorter span"
                ) from None
        for number, *sums in rows:
            found[number - 1] = _tally(sums)
        return found

    async def is_due(self, now_ms: int) -> bool:
        """Whether the cohorts are to be summed up anew; it may be that somebody does it just now."""
        async with self._database.connection() as connection:
            return await _is_due(connection, now_ms)

    async def refresh_cohorts(
        self, subjects: Sequence[Subject], *, every_nth: int = 1, until_ms: int, now_ms: int, every_ms: int
    ) -> bool:
        """Sum the cohorts up anew, from these subjects, unless somebody has done so lately or does it now.

        Returns whether it was done. They are next due `every_ms` from now, or later if it took long.
        """
        async with self._database.transaction() as connection:
            cursor = await connection.execute("select pg_try_advisory_xact_lock(%s)", (_LOCK,))
            if await cursor.fetchone() != (True,) or not await _is_due(connection, now_ms):
                return False
            started = time.perf_counter()
            await connection.execute("delete from cohort_coverage")
            # Most of the work is to find the hours of a week before.
            await connection.execute("set local work_mem = '64MB'")
            for span in get_args(Span):
                asked = {
                    **_range(span, until_ms),
                    "span": span,
                    "chosen": [str(subject) for subject in subjects],
                    "every_nth": every_nth,
                    "below": slugs_below(),
                    "sizes": [size for size in SIZES if size != ANY_SIZE],
                    "any": ANY_SIZE,
                    "limit": _MOST_COHORTS,
                }
                await connection.execute(_OF_COHORTS, asked)
            pause_ms = max(every_ms, _LEAST_PAUSE * round((time.perf_counter() - started) * SECOND_MS))
            await connection.execute("delete from coverage_refresh")
            await connection.execute("insert into coverage_refresh values (%s)", (moment_of(now_ms + pause_ms),))
        return True

    async def of_cohorts(self, span: Span) -> list[CohortCoverage]:
        """As they were summed up last, in the order of metric and size."""
        async with self._database.connection() as connection:
            cursor = connection.cursor(binary=True)
            await cursor.execute(_READ, (span,))
            rows = await cursor.fetchall()
        return [
            CohortCoverage(metric, size, ms_of(until), every_nth, series, _tally(sums))
            for metric, size, until, every_nth, series, *sums in rows
        ]


async def _is_due(connection: AsyncConnection, now_ms: int) -> bool:
    cursor = await connection.execute("select due from coverage_refresh where due > %s", (moment_of(now_ms),))
    return await cursor.fetchone() is None


def _range(span: Span, until_ms: int) -> dict[str, datetime]:
    end_ms = until_ms // HOUR_MS * HOUR_MS
    return {"start": moment_of(end_ms - SPAN_HOURS[span] * HOUR_MS), "end": moment_of(end_ms)}


def _tally(sums: Sequence[Any]) -> Tally:
    judged, exceeded, claimed, compared, loss, naive_loss, clusters, judged2, exceeded2, product = sums
    return Tally(
        judged=judged,
        exceeded=exceeded,
        claimed=claimed,
        compared=compared,
        loss=loss,
        naive_loss=naive_loss,
        clusters=clusters,
        judged2=judged2,
        exceeded2=exceeded2,
        product=product,
    )
