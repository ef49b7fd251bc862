"""The API over stores in memory: everything but the servers is what production runs."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
from fastapi import FastAPI

from api.app import create_app
from api.connections import Connections
from api.event_log import CALLS
from api.log_extents import Extent
from detection.errors import DependencyError
from detection.hours import HOUR_MS, parse_ms
from detection.judged_hours import JudgedHour
from detection.subject import Subject
from detection.windows import Window
from settings import Settings
from state.alert_history import AlertHistory
from state.alerting import MemoryAlerting
from state.api_keys import MemoryApiKeys
from state.coverage import Coverage
from state.database import Database
from state.dead_letters import TOPIC, Letter
from state.history import Row
from state.judged_hours import JudgedHours
from state.memory_rules import MemoryRules
from state.memory_store import MemoryStore
from state.rule_store import RuleChange
from state.statistics import Statistics

NOW_MS = parse_ms("2026-03-02T12:30:00Z")
NOW_HOUR = NOW_MS // HOUR_MS


class MemoryHistory:
    """`state.history.History` in a dict."""

    def __init__(self) -> None:
        self.rows: dict[tuple[Subject, str], dict[int, Row]] = {}
        self.live_from: dict[tuple[Subject, str], int] = {}

    async def read(self, subject: Subject, metric_slug: str) -> Sequence[Row]:
        return [row for _, row in sorted(self.rows.get((subject, metric_slug), {}).items())]

    async def add_training(self, subject: Subject, metric_slug: str, rows: Iterable[tuple[int, float, int]]) -> None:
        known = self.rows.setdefault((subject, metric_slug), {})
        for hour, value, count in rows:
            known.setdefault(hour, Row(hour, value, count, "train"))

    async def replace(
        self, subject: Subject, metric_slug: str, rows: Iterable[tuple[int, float, int]], *, live_from_hour: int
    ) -> None:
        self.rows.pop((subject, metric_slug), None)
        self.live_from[subject, metric_slug] = live_from_hour
        await self.add_training(subject, metric_slug, rows)

    async def record(
        self,
        windows: Mapping[Subject, Mapping[int, Window]],
        judged: Mapping[Subject, Mapping[int, Mapping[str, JudgedHour]]] | None = None,
    ) -> None:
        for subject, by_hour in windows.items():
            for hour, window in by_hour.items():
                for value in window.values():
                    series = subject, value.metric.slug
                    if hour >= self.live_from.get(series, 0):
                        known = self.rows.setdefault(series, {})
                        known.setdefault(hour, Row(hour, value.value, value.count, "live"))

    async def ping(self) -> None:
        return None


class MemoryLog:
    """A broker that takes everything, or is away."""

    def __init__(self) -> None:
        self.events: list[tuple[str, bytes, bytes]] = []
        self.letters: list[Letter] = []
        self.is_away = False

    async def append(self, topic: str, events: Sequence[tuple[bytes, bytes]]) -> None:
        await self.ping()
        self.events += [(topic, key, value) for key, value in events]

    async def extents(self, topics: Collection[str]) -> dict[str, dict[int, Extent]]:
        await self.ping()
        known = {CALLS: len(self.events), TOPIC: len(self.letters)}
        return {topic: {0: Extent(0, known[topic])} for topic in topics if topic in known}

    async def dead_letters(self, limit: int) -> list[Letter]:
        await self.ping()
        return self.letters[::-1][:limit]

    async def ping(self) -> None:
        if self.is_away:
            raise DependencyError("kafka", "no answer in time")


class MemoryRuleAudit:
    """`state.rule_audit.RuleAudit` in a dict, or away."""

    def __init__(self) -> None:
        self.changes: dict[tuple[int, str, int], RuleChange] = {}
        self.is_away = False

    async def keep(self, changes: Sequence[RuleChange]) -> None:
        self._ask()
        self.changes |= {(one.at_ms, one.rule_id, one.revision): one for one in changes}

    async def read(
        self, *, rule_id: str | None = None, before: tuple[int, str, int] | None = None, limit: int
    ) -> list[RuleChange]:
        self._ask()
        wanted = sorted(place for place in self.changes if before is None or place < before)
        found = [self.changes[place] for place in reversed(wanted)]
        return [one for one in found if rule_id in {None, one.rule_id}][:limit]

    def _ask(self) -> None:
        if self.is_away:
            raise DependencyError("postgres", "no answer in time")


@dataclass
class MemoryApi:
    """A client and what stands behind it; `now_ms` is the wall clock."""

    settings: Settings
    store: MemoryStore = field(init=False)
    history: MemoryHistory = field(default_factory=MemoryHistory)
    log: MemoryLog = field(default_factory=MemoryLog)
    hints: MemoryAlerting = field(default_factory=MemoryAlerting)
    rules: MemoryRules = field(default_factory=MemoryRules)
    rule_audit: MemoryRuleAudit = field(default_factory=MemoryRuleAudit)
    keys: MemoryApiKeys = field(default_factory=MemoryApiKeys)
    now_ms: int = NOW_MS
    app: FastAPI = field(init=False)
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.settings.policy())
        self.app = create_app(self.settings, connect=self._connected)

    @asynccontextmanager
    async def _connected(self, settings: Settings) -> AsyncIterator[Connections]:
        # What only PostgreSQL knows is away: this pool never connects.
        nowhere = Database("postgresql://nowhere")
        statistics = Statistics(nowhere, self.store)
        yield Connections(
            settings,
            settings.policy(),
            self.store,
            self.history,
            self.log,
            statistics,
            self.hints,
            self.rules,
            self.rule_audit,
            AlertHistory(nowhere),
            api_keys=self.keys,
            judged_hours=JudgedHours(nowhere),
            coverage=Coverage(nowhere),
            wall_ms=lambda: self.now_ms,
        )

    def dump(self) -> dict[str, dict[bytes, bytes]]:
        """Everything that is stored, byte for byte."""
        return {key: dict(fields) for key, fields in self.store.hashes.items()}


@asynccontextmanager
async def memory_api(**settings: object) -> AsyncIterator[MemoryApi]:
    """The started API with these settings."""
    api = MemoryApi(Settings(**settings))  # type: ignore[arg-type]  # validated by pydantic
    transport = httpx.ASGITransport(api.app, raise_app_exceptions=False)
    async with (
        api.app.router.lifespan_context(api.app),
        httpx.AsyncClient(transport=transport, base_url="http://tidemark") as api.client,
    ):
        yield api
