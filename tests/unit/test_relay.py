"""Learned windows on their way to the history."""

from collections.abc import Mapping

import pytest

from detection.errors import DependencyError
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import CallWindow, Window
from state.memory_store import MemoryStore
from stream.relay import HistoryRelay

B1 = Subject.biller("B1")


class Kept:
    """A history in memory that lets something happen while it writes, or is away."""

    def __init__(self) -> None:
        self.windows: dict[tuple[Subject, int], Window] = {}
        self.is_away = False
        self.meanwhile: list[tuple[MemoryStore, HistoryRelay, int]] = []

    async def record(self, windows: Mapping[Subject, Mapping[int, Window]]) -> None:
        if self.is_away:
            raise DependencyError("postgres", "away")
        for store, relay, hour in self.meanwhile:
            await learn(store, relay, hour)
        self.meanwhile.clear()
        for subject, hours in windows.items():
            for hour, window in hours.items():
                self.windows[subject, hour] = window


async def learn(store: MemoryStore, relay: HistoryRelay, hour: int) -> None:
    """What a flush does: the window goes into the outbox with the state's write, and the relay is told."""
    state = (await store.load([B1])).get(B1) or SubjectState(B1)
    state.learned[hour] = CallWindow(calls=hour % 7 + 1)
    assert await store.save([state]) == []
    relay.add([B1])


async def test_what_is_learned_while_the_history_writes_is_carried_too() -> None:
    store, history = MemoryStore(Policy()), Kept()
    relay = HistoryRelay(store, history)
    await learn(store, relay, 490_000)
    history.meanwhile.append((store, relay, 490_001))
    assert await relay.drain() == 2
    assert set(history.windows) == {(B1, 490_000), (B1, 490_001)}
    assert relay.pending == 0
    assert await store.outbox([B1]) == {}


async def test_nothing_is_taken_out_of_the_outbox_while_the_history_is_away() -> None:
    store, history = MemoryStore(Policy()), Kept()
    relay = HistoryRelay(store, history)
    await learn(store, relay, 490_000)
    history.is_away = True
    with pytest.raises(DependencyError):
        await relay.drain()
    assert relay.pending == 1
    assert 490_000 in (await store.outbox([B1]))[B1]
    history.is_away = False
    assert await relay.drain() == 1
    assert await store.outbox([B1]) == {}
