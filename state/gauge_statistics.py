"""What is known of a model's gauges: summed up from the hours and minutes that the archive keeps, or from raw events.

Counts, means, smallest, largest and newest values are those of the observations themselves; percentiles of windows come
from bins, within 1.6 % of the value. Conditions on single values can only be answered from the raw events, where the
percentiles are exact.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from detection.hours import HOUR_MS
from detection.rules.glob import matcher
from detection.windows import NANO
from state.gauge_queries import (
    LABEL_SETS,
    METRICS,
    OLDEST_MINUTES,
    Asked,
    Queries,
    is_of_hours,
    moved_out,
    parts_of,
)
from state.moments import ms_of
from state.percentiles import Bins, gauge_percentiles
from state.questions import Answer, Newest, Page, Position, Question, Summary

# The first slice of time holds about as many windows as are asked for; where most are empty, each next one is longer.
_WIDENING: Final = 4


async def page_of_gauges(
    connection: AsyncConnection, question: Question, *, after: Position | None, limit: int
) -> Page:
    """Up to `limit` answers behind `after`."""
    reading = _Reading(connection, moved_out(question, oldest_minutes_ms=await _oldest_minutes(connection, question)))
    known = await reading.metrics()
    from_ms, to_ms = reading.question.from_ms, reading.question.to_ms
    fits = [matcher(glob) for glob in question.metrics]
    metrics = [metric for metric in known if not fits or any(one(metric) for one in fits)]
    answers: Sequence[Answer] = ()
    rest: Position | None = None
    if question.step_ms is None or question.is_latest:
        metrics = [metric for metric in metrics if after is None or metric > after.metric]
        chosen = metrics[:limit]
        if chosen:
            await reading.find_label_sets()
            answers = await (reading.newest(chosen) if question.is_latest else reading.whole(chosen))
        if len(metrics) > limit:
            rest = Position(0, chosen[-1])
    elif metrics:
        await reading.find_label_sets()
        found = await reading.windows(metrics, after=after, limit=limit)
        answers = found[:limit]
        if len(found) > limit:
            rest = Position(found[limit - 1].start_ms, found[limit - 1].metric)
    return Page(answers=answers, after=rest, from_ms=from_ms, to_ms=to_ms, is_known=bool(known))


async def _oldest_minutes(connection: AsyncConnection, question: Question) -> int | None:
    """From when on minutes are kept, where that matters; None where there are none."""
    cuts = ((question.from_ms or 0) % HOUR_MS, (question.to_ms or 0) % HOUR_MS)
    if not is_of_hours(question) or not any(cuts):
        return None
    cursor = await connection.execute(OLDEST_MINUTES)
    ((oldest,),) = await cursor.fetchall()
    return None if oldest is None else ms_of(oldest)


class _Reading:
    """One question over one connection."""

    def __init__(self, connection: AsyncConnection, question: Question) -> None:
        self.question = question
        self._connection = connection
        self._queries = Queries(question)
        # When the rows of each metric begin and end, where all of them are in one table and every row counts.
        self._extents: dict[str, tuple[int, int] | None] = {}

    async def metrics(self) -> list[str]:
        """All of the subject's, in order."""
        question = self.question
        parts = parts_of(question, question.from_ms, question.to_ms)
        if question.step_ms is None or question.is_latest or question.labels or question.values or len(parts) != 1:
            rows = await self._rows((METRICS, {"subject": str(question.subject)}))
            return [metric for (metric,) in rows]
        for metric, first, last in await self._rows(self._queries.extents(parts[0])):
            self._extents[metric] = None if first is None else (ms_of(first), ms_of(last))
        return list(self._extents)

    async def find_label_sets(self) -> None:
        """Look up which sets have the labels that the question names."""
        if self.question.labels:
            labels = Jsonb(dict(self.question.labels))
            rows = await self._rows((LABEL_SETS, {"subject": str(self.question.subject), "labels": labels}))
            self._queries = Queries(self.question, [label_set for (label_set,) in rows])

    async def whole(self, metrics: Sequence[str]) -> list[Summary]:
        """Each metric over the whole range."""
        return await self._summaries(metrics, self.question.from_ms, self.question.to_ms)

    async def newest(self, metrics: Sequence[str]) -> list[Answer]:
        """Of each metric the newest observation, or the newest window where windows are asked for."""
        missing, starts, found = list(metrics), dict[str, int](), list[Answer]()
        for part in reversed(parts_of(self.question, self.question.from_ms, self.question.to_ms)):
            for metric, moment, last, last_at, labels in await self._rows(self._queries.newest(part, missing)):
                starts[metric] = ms_of(moment)
                found.append(Newest(metric=metric, last=last, last_ms=ms_of(last_at), labels=labels or {}))
            missing = [metric for metric in missing if metric not in starts]
        step_ms = self.question.step_ms
        if step_ms is not None:
            found = []
            for start in {each // step_ms * step_ms for each in starts.values()}:
                some = [metric for metric in metrics if starts.get(metric, start - 1) // step_ms * step_ms == start]
                found += await self._slice(some, start, start + step_ms)
        return sorted(found, key=lambda one: one.metric)

    async def windows(self, metrics: Sequence[str], *, after: Position | None, limit: int) -> list[Summary]:
        """One more than `limit`, or some: read in slices of time, so that a page costs what is on it."""
        step_ms, end = self.question.step_ms or HOUR_MS, self.question.to_ms
        start = self.question.from_ms if after is None else after.start_ms
        length = step_ms * (limit // len(metrics) + 1)
        found: list[Summary] = []
        while len(found) <= limit and (start is None or end is None or start < end):
            first = await self._first(metrics, start)
            if first is None:
                break
            begin = first // step_ms * step_ms
            start = begin + length
            found += await self._slice(metrics, begin, start, after=after)
            length *= _WIDENING
        return found

    async def _first(self, metrics: Sequence[str], start: int | None) -> int | None:
        """The beginning of the first row from `start` on."""
        if self._extents:
            extents = [extent for metric in metrics if (extent := self._extents[metric]) is not None]
            if all(start is not None and last < start for _, last in extents):
                return None
            first = min(first for first, _ in extents)
            if start is None or start <= first:
                return first
        for part in parts_of(self.question, _later(self.question.from_ms, start), self.question.to_ms):
            ((moment,),) = await self._rows(self._queries.first(part, metrics))
            if moment is not None:
                return ms_of(moment)
        return None

    async def _slice(
        self, metrics: Sequence[str], start: int, end: int, *, after: Position | None = None
    ) -> list[Summary]:
        upper = end if self.question.to_ms is None else min(end, self.question.to_ms)
        return await self._summaries(metrics, _later(self.question.from_ms, start), upper, after=after)

    async def _summaries(
        self,
        metrics: Sequence[str],
        start: int | None,
        end: int | None,
        *,
        after: Position | None = None,
    ) -> list[Summary]:
        """In the order of their positions."""
        parts = parts_of(self.question, start, end)
        if not parts:
            return []
        rows = await self._rows(self._queries.sums(parts, metrics, after=after))
        # In a thread: the first time machine code is loaded for it, and later others are answered meanwhile.
        spreads = await asyncio.to_thread(self._percentiles, rows)
        found = [self._summary(row, spread) for row, spread in zip(rows, spreads, strict=True)]
        return sorted(found, key=lambda one: (one.start_ms, one.metric))

    def _percentiles(self, rows: Sequence[Sequence[Any]]) -> list[tuple[float, ...]]:
        if not rows:
            return []
        if self.question.values:
            return [tuple(row[10]) for row in rows]
        return gauge_percentiles(
            [[Bins(*row[10:13])] for row in rows],
            self.question.shares,
            minima=[row[4] for row in rows],
            maxima=[row[5] for row in rows],
        )

    def _summary(self, row: Sequence[Any], percentiles: tuple[float, ...]) -> Summary:
        question = self.question
        metric, first, count, total, minimum, maximum, last, last_at, begin, until, *_ = row
        mean = total if question.values else int(total) / count / NANO
        if question.step_ms is None:
            start_ms = ms_of(begin) if question.from_ms is None else question.from_ms
            end_ms = ms_of(until) if question.to_ms is None else question.to_ms
        else:
            start_ms = ms_of(first)
            end_ms = start_ms + question.step_ms
        return Summary(
            metric=metric,
            start_ms=start_ms,
            end_ms=end_ms,
            count=count,
            mean=mean,
            minimum=minimum,
            maximum=maximum,
            last=last,
            last_ms=ms_of(last_at),
            percentiles=percentiles,
        )

    async def _rows(self, asked: Asked) -> list[tuple[Any, ...]]:
        statement, values = asked
        cursor = self._connection.cursor(binary=True)
        # Put together in `state.gauge_queries`, of its own texts alone.
        await cursor.execute(statement, values)
        return await cursor.fetchall()


def _later(one: int | None, other: int | None) -> int | None:
    """The later of two lower bounds."""
    return max((each for each in (one, other) if each is not None), default=None)
