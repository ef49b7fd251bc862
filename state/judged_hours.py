"""The judged hours of series, as PostgreSQL has them: what was observed beside what had been published of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from detection.hours import HOUR_MS
from detection.subject import Subject
from state.database import Database
from state.history import Origin
from state.moments import bounds, ms_of

_COLUMNS: Final = """
select hour, value, count, origin, estimate, lower, upper, threshold, score, is_exceeded, is_credible
from observations
where subject = %(subject)s and metric = %(metric)s
    and hour >= %(start)s::timestamptz and hour < %(end)s::timestamptz
"""
_OLDEST: Final = _COLUMNS + "order by hour limit %(limit)s"
_NEWEST: Final = _COLUMNS + "order by hour desc limit %(limit)s"
# One short walk down the primary key for each series.
_RECENT: Final = """
select wanted.subject, recent.hour, recent.value
from unnest(%(subjects)s::text[]) as wanted (subject)
cross join lateral (
    select hour, value from observations
    where subject = wanted.subject and metric = %(metric)s order by hour desc limit %(hours)s
) as recent
"""


@dataclass(frozen=True, slots=True)
class Point:
    """One closed hour (since the epoch); the parts from `estimate` on are None where nothing had been published."""

    hour: int
    value: float
    count: int
    origin: Origin
    estimate: float | None
    lower: float | None
    upper: float | None
    threshold: float | None
    score: float | None
    is_exceeded: bool | None
    is_credible: bool | None


@dataclass(frozen=True, slots=True)
class Sparklines:
    """Values of several series side by side from the hour `start` on, None where an hour has none."""

    start: int
    values: Mapping[Subject, Sequence[float | None]]


class JudgedHours:
    """Reads, and never writes; DependencyError while PostgreSQL does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def points(
        self,
        subject: Subject,
        slug: str,
        *,
        from_ms: int | None = None,
        to_ms: int | None = None,
        limit: int,
        is_newest: bool,
    ) -> list[Point]:
        """Up to `limit` hours that begin in the range, oldest first: its newest ones, or its oldest."""
        asked = {"subject": str(subject), "metric": slug, "limit": limit, **bounds(from_ms, to_ms)}
        async with self._database.connection() as connection:
            cursor = connection.cursor(binary=True)
            await cursor.execute(_NEWEST if is_newest else _OLDEST, asked)
            rows = await cursor.fetchall()
        points = [Point(ms_of(hour) // HOUR_MS, *rest) for hour, *rest in rows]
        return points[::-1] if is_newest else points

    async def sparklines(self, subjects: Sequence[Subject], slug: str, *, hours: int) -> Sparklines | None:
        """The newest hours, up to the newest one that any of the series has; None where none of them has any."""
        texts = {str(subject): subject for subject in subjects}
        async with self._database.connection() as connection:
            cursor = connection.cursor(binary=True)
            await cursor.execute(_RECENT, {"subjects": list(texts), "metric": slug, "hours": hours})
            rows = [(texts[subject], ms_of(hour) // HOUR_MS, value) for subject, hour, value in await cursor.fetchall()]
        if not rows:
            return None
        start = max(hour for _, hour, _ in rows) - hours + 1
        values: dict[Subject, list[float | None]] = {subject: [None] * hours for subject in subjects}
        for subject, hour, value in rows:
            if hour >= start:
                values[subject][hour - start] = value
        return Sparklines(start, values)
