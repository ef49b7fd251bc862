"""Learned windows, and what became of alerts, on their way to the history: out of the outbox, at least once.

PostgreSQL may be away: the outbox keeps what it has not taken, and here only the names of the subjects are remembered.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from detection.judged_hours import JudgedHour
from detection.rules.alert import Transition
from detection.subject import Subject
from detection.windows import Window
from state.store import StateStore
from stream.outboxes import Outboxes


class HistorySink(Protocol):
    """Where learned windows are kept for good; writing the same window again changes nothing."""

    async def record(
        self,
        windows: Mapping[Subject, Mapping[int, Window]],
        judged: Mapping[Subject, Mapping[int, Mapping[str, JudgedHour]]],
    ) -> object:
        """Keep these windows, by hour, and how they compared, by slug; raises DependencyError when it cannot."""
        ...


class AlertSink(Protocol):
    """Where alerts are kept for good; recording the same change again, or an older one, changes nothing."""

    async def record(self, changes: Sequence[Transition]) -> object:
        """Keep what has become of these alerts; raises DependencyError when it cannot."""
        ...


class HistoryRelay(Outboxes):
    """Carries outboxes to the history; raises DependencyError, and remembers the rest, when one of the two is away."""

    def __init__(self, store: StateStore, history: HistorySink, alerts: AlertSink) -> None:
        super().__init__()
        self._store = store
        self._history = history
        self._alerts = alerts

    async def _carry(self, subjects: Sequence[Subject]) -> int:
        return await self._carry_windows(subjects) + await self._carry_alerts(subjects)

    async def _carry_alerts(self, subjects: Sequence[Subject]) -> int:
        changes = await self._store.alert_history(subjects)
        transitions = [one for of_subject in changes.values() for one in of_subject.values()]
        if transitions:
            await self._alerts.record(transitions)
            await self._store.alert_history_kept(changes)
        return len(transitions)

    async def _carry_windows(self, subjects: Sequence[Subject]) -> int:
        learned = await self._store.learned_hours(subjects)
        if not learned:
            return 0
        await self._history.record(
            {subject: {hour: one.window for hour, one in hours.items()} for subject, hours in learned.items()},
            {subject: {hour: one.judged for hour, one in hours.items()} for subject, hours in learned.items()},
        )
        await self._store.relayed({subject: list(hours) for subject, hours in learned.items()})
        return sum(map(len, learned.values()))
