"""A notifier to test with: alerts that a test opens and ends, a clock that it moves, and what targets were told."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from prometheus_client import CollectorRegistry

import metrics
from detection.errors import DependencyError
from detection.rules.alert import Alert
from detection.rules.platform import Grouping
from detection.rules.rule import Rule
from detection.subject import Subject
from state.notified import MemoryNotified, NotifiedStore
from stream.channels.channel import DeliveryError, Telling
from stream.channels.targets import Target
from stream.notifying import Notifier
from tests.alerts import alert_of

NOW = 1_763_755_200_000
SECOND = 1000
MINUTE = 60 * SECOND


class Alerts:
    """The alerts that there are, and the rules; `is_away` makes it answer nothing."""

    def __init__(self) -> None:
        self.alerts: dict[str, Alert] = {}
        self.by_id: dict[str, Rule] = {}
        self.active = 20
        self.is_away = False
        self.hides: frozenset[Subject] = frozenset()

    def open(self, subject: Subject, *, slug: str = "error-rate", rule: str = "slow", since_ms: int = NOW) -> Alert:
        alert = replace(
            alert_of(subject, slug, rule=rule, since_ms=since_ms),
            acknowledged_by="",
            acknowledged_ms=None,
            opinion=None,
        )
        self.alerts[alert.id] = alert
        return alert

    def worsen(self, alert: Alert, *, told: float) -> None:
        self.alerts[alert.id] = replace(self.alerts[alert.id], told=told, score=told, worst=told)

    def acknowledge(self, alert: Alert, *, by: str = "ann") -> None:
        self.alerts[alert.id] = replace(self.alerts[alert.id], acknowledged_by=by, acknowledged_ms=NOW)

    def end(self, alert: Alert) -> None:
        del self.alerts[alert.id]

    async def open_alerts(self, also: Collection[Subject] = ()) -> Sequence[Alert]:
        if self.is_away:
            raise DependencyError("redis", "it is away")
        return [one for one in self.alerts.values() if one.subject not in self.hides or one.subject in also]

    async def rules(self) -> Mapping[str, Rule]:
        return self.by_id

    async def active_billers(self) -> int:
        return self.active


class Recorder:
    """A channel that keeps what it is told; `fails` and `hangs` may be set at any time."""

    at_once = 1
    parallel = 4
    timeout_seconds = 30.0

    def __init__(self, *, repeat_ms: int | None = None) -> None:
        self.repeat_ms = repeat_ms
        self.told: list[Telling] = []
        self.attempts = 0
        self.fails: Callable[[Telling], bool] = lambda _: False
        self.hangs: asyncio.Event | None = None

    async def tell(self, tellings: Sequence[Telling]) -> None:
        self.attempts += 1
        if self.hangs is not None:
            await self.hangs.wait()
        if any(self.fails(one) for one in tellings):
            raise DeliveryError("it is down")
        self.told += tellings

    async def aclose(self) -> None:
        return None

    def said(self) -> list[str]:
        """What it was told: the occasion and the subject."""
        return [f"{one.occasion} {one.notice.subject}" for one in self.told]


class Round:
    """A notifier with its surroundings: `pass_` lets time go by, second by second, and all that is due be told."""

    def __init__(
        self,
        channels: Mapping[str, Recorder],
        *,
        alerts: Alerts | None = None,
        memory: NotifiedStore | None = None,
        holder: str = "worker 1",
        now_ms: int = NOW,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self.channels = channels
        self.alerts = Alerts() if alerts is None else alerts
        self.memory = MemoryNotified() if memory is None else memory
        self.now_ms = now_ms
        self.registry = CollectorRegistry() if registry is None else registry
        targets = [Target(name, one, is_default=at == 0) for at, (name, one) in enumerate(channels.items())]
        self.notifier = Notifier(
            self.alerts,
            self.memory,
            targets,
            metrics.instruments(self.registry),
            holder=holder,
            wait_ms=10 * SECOND,
            grouping=Grouping(),
        )

    async def pass_(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_ms += SECOND
            await self.notifier.reconcile(self.now_ms)
            await settled()

    async def restart(self, *, holder: str = "worker 2") -> "Round":
        """As another process that has the same store and the same targets."""
        await self.notifier.aclose()
        return Round(self.channels, alerts=self.alerts, memory=self.memory, holder=holder, now_ms=self.now_ms)

    def crashed(self, *, holder: str = "worker 1") -> "Round":
        """As a process that began anew where this one was killed; it has no time to say anything."""
        return Round(self.channels, alerts=self.alerts, memory=self.memory, holder=holder, now_ms=self.now_ms)


async def settled() -> None:
    """Let every task that can go on do so, unless it waits for something else than the loop."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(holds: Callable[[], bool], *, within_seconds: float = 20.0) -> None:
    """Wait until it holds; fails after the deadline."""
    deadline = time.monotonic() + within_seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {within_seconds} s"
        await asyncio.sleep(0.01)
