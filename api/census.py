"""What has come of all subjects together, counted page by page in the background: 100,000 of them take seconds.

A count begins when somebody asks and the last one is old: the longer it took, the longer it is good for, so that
counting takes a twentieth of the time, or is done every two minutes. What is answered is the last finished one.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from api.answers import status_at
from api.connections import Connections
from detection.errors import DependencyError, UnreadableStateError

log = structlog.get_logger()

STATUSES: Final = ("prior", "learning", "ready", "stale")

_SUBJECTS_AT_ONCE: Final = 1000
_LEAST_SECONDS: Final = 3.0
_MOST_SECONDS: Final = 120.0
# Of the time that passes, what counting may take.
_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Census:
    """What a count found: events that are in the state, series by status, subjects that PostgreSQL is behind on."""

    subjects: int
    accepted: int
    late: int
    pending: int
    series: Mapping[str, int]
    counted_at_ms: int


class Counting:
    """Counts on, one count at a time; one for each app."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._newest: Census | None = None
        self._due_at = float("-inf")
        self.reason: str | None = None

    async def newest(self, parts: Connections, *, within_seconds: float) -> Census | None:
        """The last count, waited for so long; None where there is none yet, or the store cannot be read (`reason`)."""
        if self._task is None or self._task.done():
            if time.monotonic() < self._due_at:
                return self._newest
            self._task = asyncio.create_task(self._count(parts))
        await asyncio.wait([self._task], timeout=within_seconds)
        return None if self.reason is not None else self._newest

    async def aclose(self) -> None:
        """Stop counting."""
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=1.0)

    async def _count(self, parts: Connections) -> None:
        started = time.monotonic()
        try:
            self._newest = await _counted(parts)
            self.reason = None
        except DependencyError as error:
            self.reason = error.reason
        except UnreadableStateError as error:
            self.reason = str(error)
            log.warning("census.unreadable", reason=str(error))
        finally:
            taken = time.monotonic() - started
            pause = min(max(_LEAST_SECONDS, taken * (1.0 - _SHARE) / _SHARE), _MOST_SECONDS)
            self._due_at = time.monotonic() + pause


async def _counted(parts: Connections) -> Census:
    subjects = accepted = late = pending = 0
    series = dict.fromkeys(STATUSES, 0)
    clock_ms = await parts.clock_ms()
    after = ""
    while page := await parts.store.subjects(after=after, limit=_SUBJECTS_AT_ONCE):
        after = str(page[-1])
        for tally in (await parts.store.tallies(page)).values():
            subjects += 1
            accepted += tally.accepted
            late += tally.late
            pending += tally.is_pending
            for fields in tally.published:
                series[status_at(fields, clock_ms)] += 1
        # Whoever waits for an answer goes first.
        await asyncio.sleep(0)
    return Census(subjects, accepted, late, pending, series, parts.wall_ms())
