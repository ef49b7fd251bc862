"""Learned windows on their way to the history."""

from collections.abc import Mapping, Sequence

import pytest

from detection.errors import DependencyError
from detection.judged_hours import JudgedHour
from detection.policy import Policy
from detection.rules.alert import Transition
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import CallWindow, Window
from state.memory_store import MemoryStore
from stream.relay import HistoryRelay
from tests.alerts import alert_of

B1 = Subject.biller("B1")


class KeptAlerts:
    """The alerts of a history in memory, or one that is away."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.told: list[str] = []
        self.is_away = is_away

    async def record(self, changes: Sequence[Transition]) -> None:
        if self.is_away:
            raise DependencyError("postgres", "away")
        self.told += [one.event for one in changes]


class Kept:
    """A history in memory that lets something happen while it writes, or is away."""

    def __init__(self) -> None:
        self.windows: dict[tuple[Subject, int], Window] = {}
        self.judged: dict[tuple[Subject, int], Mapping[str, JudgedHour]] = {}
        self.is_away = False
        self.meanwhile: list[tuple[MemoryStore, HistoryRelay, int]] = []

    async def record(
        self,
        windows: Mapping[Subject, Mapping[int, Window]],
        judged: Mapping[Subject, Mapping[int, Mapping[str, JudgedHour]]],
    ) -> None:
        if self.is_away:
            raise DependencyError("postgres", "away")
        for store, relay, hour in self.meanwhile:
            await learn(store, relay, hour)
        self.meanwhile.clear()
        for subject, hours in windows.items():
            for hour, window in hours.items():
                self.windows[subject, hour] = window
                self.judged[subject, hour] = judged[subject][hour]


async def learn(store: MemoryStore, relay: HistoryRelay, hour: int) -> None:
    """What a flush does: the window goes into the outbox with the state's write, and the relay is told."""
    state = (await store.load([B1])).get(B1) or SubjectState(B1)
    state.learned[hour] = CallWindow(calls=hour % 7 + 1)
    assert await store.save([state]) == []
    relay.add([B1])


async def test_what_is_learned_while_the_history_writes_is_carried_too() -> None:
    store, history = MemoryStore(Policy()), Kept()
    relay = HistoryRelay(store, history, KeptAlerts())
    await learn(store, relay, 490_000)
    history.meanwhile.append((store, relay, 490_001))
    assert await relay.drain() == 2
    assert set(history.windows) == {(B1, 490_000), (B1, 490_001)}
    assert relay.pending == 0
    assert await store.outbox([B1]) == {}


async def test_nothing_is_taken_out_of_the_outbox_while_the_history_is_away() -> None:
    store, history = MemoryStore(Policy()), Kept()
    relay = HistoryRelay(store, history, KeptAlerts())
    await learn(store, relay, 490_000)
    history.is_away = True
    with pytest.raises(DependencyError):
        await relay.drain()
    assert relay.pending == 1
    assert 490_000 in (await store.outbox([B1]))[B1]
    history.is_away = False
    assert await relay.drain() == 1
    assert await store.outbox([B1]) == {}


async def test_what_became_of_an_alert_waits_in_the_outbox_until_the_history_has_it() -> None:
    store, alerts = MemoryStore(Policy()), KeptAlerts(is_away=True)
    relay = HistoryRelay(store, Kept(), alerts)
    state = SubjectState(B1)
    state.transitions.append(Transition("opened", alert_of(B1, "error-rate"), 0))
    await store.save([state])
    relay.add([B1])
    with pytest.raises(DependencyError):
        await relay.drain()
    alerts.is_away = False
    assert await relay.drain() == 1
    assert alerts.told == ["opened"]
    assert await relay.drain() == 0
    assert await store.alert_history([B1]) == {}
