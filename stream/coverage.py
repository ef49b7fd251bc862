"""How often thresholds held, by cohort: summed up in PostgreSQL now and then by one worker, and shown by all of them.

Beside the path of events, as the cohorts are: nothing that is learned depends on it.
"""

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, get_args

import structlog

from detection.coverage import Span
from detection.errors import DependencyError
from detection.hours import SECOND_MS
from detection.subject import Subject
from metrics import Instruments
from state.coverage import Coverage

log = structlog.get_logger()

_PAGE: Final = 1000
# Of so many subjects the hours of a month are some million: enough for what is said of a cohort.
MOST_SUBJECTS: Final = 500


class Listing(Protocol):
    """The part of `state.store.StateStore` that names subjects."""

    async def subjects(self, *, after: str = "", limit: int = 1000, prefix: str = "") -> list[Subject]:
        """Up to `limit` subjects in the order of their text, after `after`."""
        ...


class CoverageRefresh:
    """The refresh of one worker; `clock_ms` is the stream's clock, -1 before the first event, `wall_ms` its own."""

    def __init__(
        self,
        coverage: Coverage,
        store: Listing,
        instruments: Instruments,
        *,
        every_seconds: int,
        clock_ms: Callable[[], Awaitable[int]],
        wall_ms: Callable[[], int],
    ) -> None:
        self._coverage = coverage
        self._store = store
        self._instruments = instruments
        self._every_ms = every_seconds * SECOND_MS
        self._clock_ms = clock_ms
        self._wall_ms = wall_ms

    async def refresh(self) -> None:
        """Sum up if it is due, then show; nothing is shown while PostgreSQL, or the store, is away."""
        try:
            clock_ms = await self._clock_ms()
            if clock_ms >= 0 and await self._coverage.is_due(self._wall_ms()):
                subjects, every_nth = await chosen(self._store, MOST_SUBJECTS)
                is_done = await self._coverage.refresh_cohorts(
                    subjects,
                    every_nth=every_nth,
                    until_ms=clock_ms,
                    now_ms=self._wall_ms(),
                    every_ms=self._every_ms,
                )
                if is_done:
                    log.info("coverage.refreshed", subjects=len(subjects), every_nth=every_nth)
            await self._show()
        except DependencyError as error:
            self._clear()
            log.warning("coverage.postponed", dependency=error.dependency, reason=error.reason)

    async def _show(self) -> None:
        known = {span: await self._coverage.of_cohorts(span) for span in get_args(Span)}
        self._clear()
        shown = self._instruments
        for span, cohorts in known.items():
            for one in cohorts:
                labels, tally = (one.metric, one.size, span), one.tally
                shown.coverage_judged.labels(*labels).set(tally.judged)
                numbers = {
                    shown.coverage_claimed: tally.claimed_exceedance,
                    shown.coverage_observed: tally.observed_exceedance,
                    shown.coverage_low: None if tally.interval is None else tally.interval[0],
                    shown.coverage_high: None if tally.interval is None else tally.interval[1],
                    shown.coverage_skill: tally.skill,
                }
                for gauge, number in numbers.items():
                    if number is not None:
                        gauge.labels(*labels).set(number)

    def _clear(self) -> None:
        shown = self._instruments
        for gauge in (
            shown.coverage_judged,
            shown.coverage_claimed,
            shown.coverage_observed,
            shown.coverage_low,
            shown.coverage_high,
            shown.coverage_skill,
        ):
            gauge.clear()


async def chosen(store: Listing, most: int) -> tuple[list[Subject], int]:
    """All subjects, or every n-th of them where they are more than `most`; and that n, a power of two."""
    found: list[Subject] = []
    every_nth, seen, after = 1, 0, ""
    while page := await store.subjects(after=after, limit=_PAGE):
        after = str(page[-1])
        for subject in page:
            if seen % every_nth == 0:
                found.append(subject)
            seen += 1
            if len(found) > most:
                found, every_nth = found[::2], 2 * every_nth
    return found, every_nth
