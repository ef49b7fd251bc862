"""Refreshes what the series of a cohort have in common, from what is published of all series.

Beside the path of events, not in it: nothing that is learned depends on it. Whichever worker finds the cohorts due does
it for all; that two do, after a clock was set back say, is harmless.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from detection.cohort_learning import Census
from detection.cohorts import Cohort, Outlook
from detection.errors import DependencyError, UnreadableStateError
from detection.hours import SECOND_MS
from metrics import Instruments
from state.store import StateStore

log = structlog.get_logger()

_PAGE: Final = 1000
# A refresh is at least this many times as long ago as it took: it costs at most a twentieth of one worker.
_LEAST_PAUSE: Final = 20
# While nothing can be said of any cohort, it is looked more often: a new installation need not wait for its first ones.
_SOON_MS: Final = 20 * SECOND_MS


class CohortRefresh:
    """The refresh of one worker; `wall_ms` is its clock in milliseconds."""

    def __init__(
        self,
        store: StateStore,
        instruments: Instruments,
        *,
        coverage: float,
        every_seconds: int,
        wall_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._instruments = instruments
        self._coverage = coverage
        self._every_ms = every_seconds * SECOND_MS
        self._wall_ms = wall_ms

    async def refresh(self) -> None:
        """Refresh the cohorts if they are due, then show them; what is away is waited for by the next call."""
        try:
            now_ms = self._wall_ms()
            if await self._store.claim_cohorts(now_ms=now_ms, due_ms=now_ms + self._every_ms):
                await self._refresh()
            self._show(await self._store.cohorts())
        except DependencyError as error:
            log.warning("cohorts.postponed", dependency=error.dependency, reason=error.reason)
        except UnreadableStateError as error:
            # The next refresh writes all of it anew.
            log.warning("cohorts.unreadable", reason=str(error))

    async def _refresh(self) -> None:
        started = time.perf_counter()
        census = Census()
        subjects, after = 0, ""
        while page := await self._store.subjects(after=after, limit=_PAGE):
            after = str(page[-1])
            subjects += len(page)
            for series in (await self._store.answers(page)).values():
                for slug, fields in series.items():
                    count_in(census, slug, fields)
        # In a thread, so that batches go on meanwhile.
        cohorts = await asyncio.to_thread(census.cohorts, self._coverage)
        took_ms = round((time.perf_counter() - started) * SECOND_MS)
        pause_ms = self._every_ms if any(one.prior for one in cohorts) else min(self._every_ms, _SOON_MS)
        now_ms = self._wall_ms()
        await self._store.keep_cohorts(cohorts, now_ms=now_ms, due_ms=now_ms + max(pause_ms, _LEAST_PAUSE * took_ms))
        log.info("cohorts.refreshed", cohorts=len(cohorts), subjects=subjects, took_ms=took_ms)

    def _show(self, cohorts: list[Cohort]) -> None:
        gauge = self._instruments.cohort_exceedance
        gauge.clear()
        for one in cohorts:
            if one.measured_exceedance is not None:
                gauge.labels(one.metric, one.size).set(one.measured_exceedance)


def count_in(census: Census, slug: str, fields: Mapping[str, str]) -> None:
    """Count in one series by its readable fields; one that was not published yet says nothing."""
    if not fields["status"]:
        return
    expected = float(fields["expected_calls"])
    if fields["measured_exceedance"]:
        census.add_judged(slug, expected, int(fields["judged"]), float(fields["measured_exceedance"]))
    if fields["status"] == "ready":
        outlook = Outlook(*(float(fields[name]) for name in ("estimate", "lower", "upper", "threshold")))
        census.add_ready(slug, expected, outlook, int(fields["n_learned"]))
