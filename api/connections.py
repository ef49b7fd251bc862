"""What a request handler works with: the store, the history, the event log, and the clock that the settings name."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from fastapi import Request
from limits.aio.storage import Storage
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from api.event_log import EventLog, KafkaLog
from detection.cohorts import Cohorts
from detection.errors import DependencyError, UnreadableStateError
from detection.judged_hours import JudgedHour
from detection.policy import Policy
from detection.rules.alert import Alert
from detection.subject import Subject
from detection.windows import Window
from settings import Settings
from state.alert_history import AlertHistory
from state.alerting import AlertingHints, RedisAlerting
from state.api_keys import ApiKeys, MemoryApiKeys
from state.coverage import Coverage
from state.history import History, Row
from state.judged_hours import JudgedHours
from state.migrate import migrate
from state.open_alerts import OpenAlerts
from state.redis_api_keys import RateCounts, RedisApiKeys
from state.redis_rules import RedisRules
from state.redis_store import RedisStore
from state.rule_audit import PostgresRuleAudit, RuleAudit, relay_changes
from state.rule_store import RuleStore
from state.statistics import Statistics
from state.store import StateStore

# The stream's clock is asked for once in a while: nothing that is answered depends on seconds.
_CLOCK_SECONDS = 1.0
_COHORT_SECONDS = 10.0
_AUDIT_SECONDS = 10.0
_CANCEL_SECONDS = 1.0

log = structlog.get_logger()


class SeriesHistory(Protocol):
    """The part of `state.history.History` that training needs; DependencyError while it does not answer."""

    async def read(self, subject: Subject, metric_slug: str) -> Sequence[Row]:
        """All closed hours that are known of a series."""
        ...

    async def add_training(self, subject: Subject, metric_slug: str, rows: Iterable[tuple[int, float, int]]) -> None:
        """Keep `(hour, value, count)` of a data set, except for hours that are known already."""
        ...

    async def replace(
        self, subject: Subject, metric_slug: str, rows: Iterable[tuple[int, float, int]], *, live_from_hour: int
    ) -> None:
        """Keep a data set in place of all that was known of the series, and of live hours before `live_from_hour`."""
        ...

    async def record(
        self,
        windows: Mapping[Subject, Mapping[int, Window]],
        judged: Mapping[Subject, Mapping[int, Mapping[str, JudgedHour]]] | None = None,
    ) -> None:
        """Keep learned windows, and by slug how they compared; the same again changes nothing."""
        ...

    async def ping(self) -> None:
        """Raises DependencyError when the history does not answer."""
        ...


@dataclass(slots=True)
class Connections:
    """One per app; DependencyError comes from whichever part is away, when it is used."""

    settings: Settings
    policy: Policy
    store: StateStore
    history: SeriesHistory
    log: EventLog
    statistics: Statistics
    hints: AlertingHints
    rules: RuleStore
    rule_audit: RuleAudit
    alert_history: AlertHistory
    judged_hours: JudgedHours = field(kw_only=True)
    coverage: Coverage = field(kw_only=True)
    api_keys: ApiKeys = field(default_factory=MemoryApiKeys)
    counts: Storage | None = None
    wall_ms: Callable[[], int] = field(default=lambda: time.time_ns() // 1_000_000)
    _event_ms: int = -1
    _asked_at: float = float("-inf")
    _cohorts: Cohorts = field(default_factory=Cohorts)
    _cohorts_at: float = float("-inf")
    _reading_cohorts: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def clock_ms(self) -> int:
        """The wall clock, or the newest event's time: -1 before the first event."""
        if self.settings.clock == "wall":
            return self.wall_ms()
        now = time.monotonic()
        if now - self._asked_at > _CLOCK_SECONDS:
            self._event_ms = await self.store.clock()
            self._asked_at = now
        return self._event_ms

    async def cohorts(self) -> Cohorts:
        """What young series borrow from, as it was a few seconds ago at most."""
        if time.monotonic() - self._cohorts_at > _COHORT_SECONDS:
            # Many requests find them old at once: one reads, the others wait for it.
            async with self._reading_cohorts:
                if time.monotonic() - self._cohorts_at > _COHORT_SECONDS:
                    self._cohorts = await self._read_cohorts()
                    self._cohorts_at = time.monotonic()
        return self._cohorts

    async def _read_cohorts(self) -> Cohorts:
        try:
            return Cohorts(await self.store.cohorts())
        except UnreadableStateError as error:
            # Without them the catalogue speaks, as for the very first series; the next refresh writes them anew.
            log.warning("cohorts.unreadable", reason=str(error))
            return Cohorts()

    async def open_alerts(self) -> list[Alert]:
        """All that are open now, in no particular order."""
        return [one for one in await OpenAlerts(self.store, self.hints).open_alerts() if one.state == "open"]

    def begun_ms(self, shown_ms: int) -> int:
        """What the clock shows, or the wall clock while a stream that has its own has not begun."""
        return shown_ms if shown_ms >= 0 else self.wall_ms()


Connect = Callable[[Settings], AbstractAsyncContextManager[Connections]]


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[Connections]:
    """Connections to what the settings name; none of them needs to answer yet."""
    policy = settings.policy()
    store = RedisStore.connect(settings.redis(), policy, replicas=settings.redis_replicas)
    history = History(settings.postgres())
    log = KafkaLog(settings)
    await history.open()
    preparing = asyncio.create_task(_prepare(settings.postgres()))
    relaying: asyncio.Task[None] | None = None
    try:
        statistics, hints = Statistics(history.database, store), RedisAlerting(store.client)
        alerts = AlertHistory(history.database)
        rules, audit = RedisRules(store.client), PostgresRuleAudit(history.database)
        relaying = asyncio.create_task(_relay_rule_changes(rules, audit))
        keys, counts = RedisApiKeys(store.client), RateCounts(store.client)
        yield Connections(
            settings,
            policy,
            store,
            history,
            log,
            statistics,
            hints,
            rules,
            audit,
            alerts,
            keys,
            counts,
            judged_hours=JudgedHours(history.database),
            coverage=Coverage(history.database),
        )
    finally:
        await _ended([task for task in (preparing, relaying) if task is not None])
        await log.close()
        await history.close()
        await store.aclose()


async def _ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel them until they are done: `asyncio.wait_for` of Python 3.11 can swallow a cancellation (gh-86296)."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=_CANCEL_SECONDS)


async def _prepare(postgres_url: str) -> None:
    """Bring the history's tables to the newest schema as soon as PostgreSQL answers; a worker may have been first."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(DependencyError), wait=wait_random_exponential(max=10)
    ):
        with attempt:
            await asyncio.to_thread(migrate, postgres_url)


async def _relay_rule_changes(rules: RuleStore, audit: RuleAudit) -> None:
    """Again and again, whoever made them: a change that was not audited when it was made must not wait for the next."""
    while True:
        try:
            await relay_changes(rules, audit)
        except (DependencyError, UnreadableStateError) as error:
            log.warning("rule_changes.not_audited", reason=str(error))
        await asyncio.sleep(_AUDIT_SECONDS)


def connections(request: Request) -> Connections:
    """Those of the app that answers this request."""
    found: Connections = request.app.state.connections
    return found
