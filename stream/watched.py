"""What the notifier looks at: open alerts, the rules in force, and how many billers are called at all."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from detection.hours import HOUR_MS, MINUTE_MS
from detection.rules.alert import Alert
from detection.rules.book import RuleBook
from detection.rules.rule import Rule
from detection.subject import Subject
from state.open_alerts import OpenAlerts
from state.store import StateStore
from stream.current_rules import CurrentRules

_PAGE: Final = 1000
# A biller is active that was called within this time before the newest event of all.
_ACTIVE_MS: Final = HOUR_MS
# How long a count of billers is good for: a share of them need not be exact, and counting reads a field of each.
_COUNTED_FOR_MS: Final = MINUTE_MS
# How often hints that lead to nothing are taken out.
_TIDY_MS: Final = MINUTE_MS


class WatchedStore:
    """A `stream.notifying.Watched` over the stores; `current` are this worker's rules, `wall_ms` its clock."""

    def __init__(
        self, store: StateStore, alerts: OpenAlerts, current: CurrentRules, wall_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._alerts = alerts
        self._current = current
        self._wall_ms = wall_ms
        self._rules: tuple[RuleBook | None, dict[str, Rule]] = (None, {})
        self._active: tuple[int, int] | None = None
        self._tidied_ms = wall_ms()

    async def open_alerts(self, also: Collection[Subject] = ()) -> Sequence[Alert]:
        """See `stream.notifying.Watched`; now and then, hints at subjects that have none are taken out."""
        now_ms = self._wall_ms()
        if not 0 <= now_ms - self._tidied_ms < _TIDY_MS:
            self._tidied_ms = now_ms
            await self._alerts.tidy()
        return await self._alerts.open_alerts(also)

    async def rules(self) -> Mapping[str, Rule]:
        # Without them a muted rule would be told of, and to whom it does not name.
        await self._current.read()
        book = self._current.book
        if book is not self._rules[0]:
            self._rules = (book, {rule.id: rule for rule in book.rules})
        return self._rules[1]

    async def active_billers(self) -> int:
        """Counted again after a minute."""
        now_ms = self._wall_ms()
        if self._active is None or not 0 <= now_ms - self._active[0] < _COUNTED_FOR_MS:
            self._active = (now_ms, await self._count())
        return self._active[1]

    async def _count(self) -> int:
        oldest_ms = await self._store.clock() - _ACTIVE_MS
        active, after = 0, ""
        while page := await self._store.subjects(after=after, limit=_PAGE, prefix="biller:"):
            after = str(page[-1])
            active += sum(head.watermark_ms >= oldest_ms for head in await self._store.heads(page))
        return active
