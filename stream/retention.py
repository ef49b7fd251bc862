"""What PostgreSQL keeps, kept so: partitions made ahead, and dropped when all they hold is older than is kept.

"Older" is by the clock that applies. Recorded data is of a time that is not ours: with the clock of the events, their
newest one is now, and nothing of the recording is dropped for being of another year.
"""

from collections.abc import Callable

import structlog

from detection.errors import DependencyError
from detection.hours import HOUR_MS
from state.archive import Horizon
from state.database import Database
from state.keeping import Keeping
from state.moments import moment_of
from state.store import StateStore

log = structlog.get_logger()

_DAY_MS = 24 * HOUR_MS


class Retention:
    """Drops what is older than is kept; `wall_ms` is the clock it goes by, None for that of the events."""

    def __init__(
        self, database: Database, store: StateStore, keeping: Keeping, *, wall_ms: Callable[[], int] | None
    ) -> None:
        self._database = database
        self._store = store
        self._keeping = keeping
        self._wall_ms = wall_ms
        self._now_ms = -1 if wall_ms is None else wall_ms()

    def horizon(self) -> Horizon:
        """The oldest moments that are kept, as of the last look."""
        if self._now_ms < 0:
            return Horizon()
        return Horizon(
            events_ms=self._now_ms - self._keeping.events_days * _DAY_MS,
            minutes_ms=self._now_ms - self._keeping.minutes_days * _DAY_MS,
            hours_ms=self._now_ms - self._keeping.hours_days * _DAY_MS,
        )

    async def tell_time(self) -> bool:
        """Whether there is a time to go by; `horizon` then does. Raises DependencyError."""
        self._now_ms = await self._store.clock() if self._wall_ms is None else self._wall_ms()
        return self._now_ms >= 0

    async def look(self) -> bool:
        """Make and drop what is due; False where the next look should be soon: something is away, or has not begun."""
        try:
            if not await self.tell_time():
                return False
            dropped = await self._database.retain(self._keeping, moment_of(self._now_ms))
        except DependencyError as error:
            log.warning("retention.postponed", dependency=error.dependency, reason=error.reason)
            return False
        if dropped:
            log.info("retention.dropped", partitions=dropped)
        return True
