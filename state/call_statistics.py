"""What is known of a biller's calls: the hours of the history, and those that are not in it yet.

Latencies are of the calls that were answered. Their mean is exact; smallest, largest and percentiles come from bins of
at most 25 %: smallest and largest are the outer bounds of the outermost bins, a percentile is within 11.2 % of the
latency that was measured. A rate has one value an hour: its mean is over all calls, the others are over the hours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
import numpy as np
from psycopg import AsyncConnection

from detection.catalogue import AVERAGE_RESPONSE_TIME, BILLER_METRICS, Metric
from detection.hours import HOUR_MS
from detection.rules.glob import matcher
from detection.windows import CallWindow, latency_bounds
from state.moments import bounds, ms_of
from state.percentiles import nearest_ranks
from state.questions import Answer, Newest, Page, Position, Question, Summary

Hour = tuple[int, CallWindow]

_WIDENING: Final = 4
_US_PER_MS: Final = 1000.0
_decode_bins: Final = msgspec.json.Decoder(dict[int, int]).decode

_HOURS: Final = """
select hour, calls, errors, timeouts, latency_us, bins::text from call_windows
where subject = %(subject)s and hour >= %(start)s::timestamptz and hour < %(end)s::timestamptz order by hour
"""
_FIRST: Final = """
select hour from call_windows
where subject = %(subject)s and hour >= %(start)s::timestamptz and hour < %(end)s::timestamptz order by hour limit 1
"""
_LAST: Final = """
select hour from call_windows
where subject = %(subject)s and hour >= %(start)s::timestamptz and hour < %(end)s::timestamptz
order by hour desc limit 1
"""


async def page_of_calls(
    connection: AsyncConnection,
    question: Question,
    *,
    recent: Mapping[int, CallWindow],
    after: Position | None,
    limit: int,
) -> Page:
    """Up to `limit` answers behind `after`; `recent` are windows, by hour, that the history may not have yet.

    They are to be read before this is called: what leaves them meanwhile is in the history.
    """
    question = _moved_out(question)
    reading = _Reading(connection, question, recent)
    fits = [matcher(glob) for glob in question.metrics]
    metrics = [one for one in BILLER_METRICS if not fits or any(fit(one.slug) for fit in fits)]
    answers: Sequence[Answer] = ()
    rest: Position | None = None
    if question.step_ms is None or question.is_latest:
        chosen = [metric for metric in metrics if after is None or metric.slug > after.metric]
        answers = await (reading.newest(chosen) if question.is_latest else reading.whole(chosen))
        if len(answers) > limit:
            answers = answers[:limit]
            rest = Position(0, answers[-1].metric)
    else:
        found = await reading.windows(metrics, after=after, limit=limit)
        answers = found[:limit]
        if len(found) > limit:
            rest = Position(found[limit - 1].start_ms, found[limit - 1].metric)
    is_known = bool(answers or recent) or await reading.is_known()
    return Page(answers=answers, after=rest, from_ms=question.from_ms, to_ms=question.to_ms, is_known=is_known)


def latency_percentiles(bins: Mapping[int, int], shares: Sequence[float]) -> tuple[float, float, tuple[float, ...]]:
    """Smallest, largest and percentiles, in milliseconds, of a window's bins."""
    limits = [latency_bounds(key) for key in sorted(bins)]
    counts = np.array([bins[key] for key in sorted(bins)], dtype=np.int64)
    # The harmonic mean of the bounds is as far from the one as from the other, in proportion to it.
    middles = [2.0 * low * high / (low + high) if low + high else 0.0 for low, high in limits]
    percentiles = nearest_ranks(np.array(middles) / _US_PER_MS, counts, shares)
    return limits[0][0] / _US_PER_MS, limits[-1][1] / _US_PER_MS, percentiles


def _moved_out(question: Question) -> Question:
    """Bounds on full hours: calls are kept by the hour."""
    start, end = question.from_ms, question.to_ms
    return replace(
        question,
        from_ms=None if start is None else start // HOUR_MS * HOUR_MS,
        to_ms=None if end is None else -(-end // HOUR_MS) * HOUR_MS,
    )


class _Reading:
    """One question over one connection, and the hours that the history may not have yet."""

    def __init__(self, connection: AsyncConnection, question: Question, recent: Mapping[int, CallWindow]) -> None:
        self.question = question
        self._connection = connection
        self._recent = recent

    async def is_known(self) -> bool:
        """Whether the history has any hour of the biller."""
        return bool(await self._rows(_FIRST, None, None))

    async def whole(self, metrics: Sequence[Metric]) -> list[Summary]:
        """Each metric over the whole range."""
        hours = await self._hours(self.question.from_ms, self.question.to_ms)
        if not hours:
            return []
        start = hours[0][0] * HOUR_MS if self.question.from_ms is None else self.question.from_ms
        end = (hours[-1][0] + 1) * HOUR_MS if self.question.to_ms is None else self.question.to_ms
        return list(self._summaries(metrics, hours, start, end))

    async def newest(self, metrics: Sequence[Metric]) -> list[Answer]:
        """Of each metric the value of the newest hour, or the newest window where windows are asked for."""
        last = await self._end(_LAST, self.question.from_ms, self.question.to_ms)
        if last is None:
            return []
        step_ms = self.question.step_ms or HOUR_MS
        start = last // step_ms * step_ms
        summaries = list(self._summaries(metrics, await self._slice(start, start + step_ms), start, start + step_ms))
        if self.question.step_ms is not None:
            return list(summaries)
        return [Newest(metric=one.metric, last=one.last, last_ms=one.last_ms, labels={}) for one in summaries]

    async def windows(self, metrics: Sequence[Metric], *, after: Position | None, limit: int) -> list[Summary]:
        """Up to some more than `limit`, in slices of time."""
        step_ms, end = self.question.step_ms or HOUR_MS, self.question.to_ms
        start = self.question.from_ms if after is None else after.start_ms
        length = step_ms * (limit // max(len(metrics), 1) + 1)
        found: list[Summary] = []
        while metrics and len(found) <= limit and (start is None or end is None or start < end):
            first = await self._end(_FIRST, start, end)
            if first is None:
                break
            begin = first // step_ms * step_ms
            start = begin + length
            by_window: dict[int, list[Hour]] = {}
            for hour in await self._slice(begin, start):
                by_window.setdefault(hour[0] * HOUR_MS // step_ms * step_ms, []).append(hour)
            for window, hours in by_window.items():
                summaries = self._summaries(metrics, hours, window, window + step_ms)
                found += [one for one in summaries if after is None or Position(window, one.metric) > after]
            length *= _WIDENING
        return found

    def _summaries(self, metrics: Iterable[Metric], hours: Sequence[Hour], start: int, end: int) -> Iterable[Summary]:
        for metric in metrics:
            values = [
                (hour, value) for hour, window in hours for value in window.values() if value.metric.slug == metric.slug
            ]
            if not values:
                continue
            total = CallWindow()
            for _, window in hours:
                total.add(window)
            (whole,) = (one for one in total.values() if one.metric.slug == metric.slug)
            if metric is AVERAGE_RESPONSE_TIME and total.bins:
                least, most, percentiles = latency_percentiles(total.bins, self.question.shares)
            else:
                ordered = np.sort([value.value for _, value in values])
                least, most = float(ordered[0]), float(ordered[-1])
                percentiles = nearest_ranks(ordered, np.ones(len(ordered), dtype=np.int64), self.question.shares)
            last_hour, last = values[-1]
            yield Summary(
                metric=metric.slug,
                start_ms=start,
                end_ms=end,
                count=whole.count,
                mean=whole.value,
                minimum=least,
                maximum=most,
                last=last.value,
                last_ms=last_hour * HOUR_MS,
                percentiles=percentiles,
            )

    async def _slice(self, start: int, end: int) -> list[Hour]:
        lower = start if self.question.from_ms is None else max(start, self.question.from_ms)
        upper = end if self.question.to_ms is None else min(end, self.question.to_ms)
        return await self._hours(lower, upper)

    async def _hours(self, start: int | None, end: int | None) -> list[Hour]:
        """The hours of the range, oldest first."""
        found = {
            ms_of(hour) // HOUR_MS: CallWindow(calls, errors, timeouts, int(latency_us), 0, _decode_bins(bins))
            for hour, calls, errors, timeouts, latency_us, bins in await self._rows(_HOURS, start, end)
        }
        # Those of the state are the newer ones: a late call may have corrected one that an earlier worker kept.
        found |= {hour: window for hour, window in self._recent.items() if _is_between(hour, start, end)}
        return sorted(found.items())

    async def _end(self, statement: str, start: int | None, end: int | None) -> int | None:
        """The start, in ms, of the first or the last hour of the range."""
        found = [ms_of(hour) for (hour,) in await self._rows(statement, start, end)]
        found += [hour * HOUR_MS for hour in self._recent if _is_between(hour, start, end)]
        choose = min if statement is _FIRST else max
        return choose(found, default=None)

    async def _rows(self, statement: str, start: int | None, end: int | None) -> list[tuple[Any, ...]]:
        cursor = self._connection.cursor(binary=True)
        await cursor.execute(statement, {"subject": str(self.question.subject), **bounds(start, end)})
        return await cursor.fetchall()


def _is_between(hour: int, start: int | None, end: int | None) -> bool:
    return (start is None or hour * HOUR_MS >= start) and (end is None or hour * HOUR_MS < end)
