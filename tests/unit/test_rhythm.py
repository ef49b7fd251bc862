"""What comes first is written soon, with what comes in the same moment; what follows is written in even steps."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import SubjectState
from state.memory_store import MemoryStore
from stream.app import WorkerApp
from stream.rhythm import Rhythm
from stream.worker import Batch
from tests.unit.test_progress import PLACE, Log, Run

PARTITIONS = 4


@pytest.fixture
def any_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few records are enough to be behind."""
    monkeypatch.setattr("stream.rhythm._FEW_RECORDS", 0)


class Flow:
    """A worker that reads some partitions of the same records, in its rhythm."""

    def __init__(self, *, flush_seconds: float, events: int = 200, store: MemoryStore | None = None) -> None:
        self.run = Run(Log(events), MemoryStore(Policy()) if store is None else store)
        self.rhythm = Rhythm(
            self.run.worker, sleep=asyncio.sleep, should_stop=lambda: False, flush_seconds=flush_seconds
        )

    @asynccontextmanager
    async def begun(self) -> AsyncIterator[None]:
        await self.run.worker.place({("calls", partition): None for partition in range(PARTITIONS)})
        task = asyncio.create_task(self.rhythm.run())
        try:
            # So that what comes first does not come at the very beginning of a pause.
            await asyncio.sleep(0.1)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def absorb(self, begin: int, end: int, *, partition: int = 0, of: int | None = None) -> None:
        """Read these records, where the partition ends behind them or at `of`."""
        batch = Batch(
            "calls", partition, self.run.log.records[begin:end], (partition, end), end=end if of is None else of
        )
        await self.run.worker.absorb(batch, is_current=lambda: True)

    @property
    def writes(self) -> int:
        return int(self.run.counted("tidemark_flush_seconds_count"))

    async def written(self) -> float:
        """Seconds until nothing is in memory."""
        begun = time.monotonic()
        await until(lambda: not self.run.worker.in_memory)
        return time.monotonic() - begun


async def until(is_so: Callable[[], bool]) -> None:
    for _ in range(2000):
        if is_so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("not so after 10 s")


async def test_a_first_batch_is_written_long_before_a_pause_is_over() -> None:
    flow = Flow(flush_seconds=5)
    async with flow.begun():
        await flow.absorb(0, 10)
        assert await flow.written() < 2
    assert flow.run.acknowledged == [(0, 10)]


async def test_partitions_that_come_one_after_the_other_are_written_together() -> None:
    flow = Flow(flush_seconds=5)
    async with flow.begun():
        for partition in range(PARTITIONS):
            await flow.absorb(0, 10, partition=partition)
            await asyncio.sleep(0.03)
        assert flow.run.acknowledged == []
        assert await flow.written() < 2
    assert (len(flow.run.acknowledged), flow.writes) == (PARTITIONS, 1)


async def test_what_comes_at_the_end_of_a_pause_is_written_with_what_comes_in_the_same_moment() -> None:
    flow = Flow(flush_seconds=0.4)
    async with flow.begun():
        await asyncio.sleep(0.27)
        for partition in range(PARTITIONS):
            await flow.absorb(0, 10, partition=partition)
            await asyncio.sleep(0.03)
        await flow.written()
    assert (len(flow.run.acknowledged), flow.writes) == (PARTITIONS, 1)


async def test_what_comes_first_is_written_soon_though_more_comes_without_a_gap() -> None:
    flow = Flow(flush_seconds=5)
    async with flow.begun():
        begun = time.monotonic()
        for offset in range(200):
            await flow.absorb(offset, offset + 1)
            await asyncio.sleep(0.01)
            if flow.writes:
                break
        assert time.monotonic() - begun < 2
    assert flow.writes == 1


async def test_a_steady_flow_is_written_once_in_a_pause() -> None:
    flow = Flow(flush_seconds=1)
    async with flow.begun():
        begun = time.monotonic()
        for offset in range(120):
            await flow.absorb(offset, offset + 1)
            await asyncio.sleep(0.015)
        # The first one is early; each of the others comes a whole pause after the one before.
        assert 2 <= flow.writes <= 1 + (time.monotonic() - begun)


async def test_a_write_follows_on_another_after_a_whole_pause_and_after_an_idle_one_soon() -> None:
    flow = Flow(flush_seconds=1.5)
    async with flow.begun():
        await flow.absorb(0, 10)
        await flow.written()
        await flow.absorb(10, 20)
        assert await flow.written() > 1.2
        # The pause after that write, and the beginning of an idle one.
        await asyncio.sleep(1.8)
        await flow.absorb(20, 30)
        assert await flow.written() < 0.9
    assert flow.writes == 3


@pytest.mark.usefixtures("any_is_behind")
async def test_what_is_behind_waits_and_is_written_soon_after_it_has_caught_up() -> None:
    flow = Flow(flush_seconds=5)
    async with flow.begun():
        await flow.absorb(0, 10, of=30)
        await asyncio.sleep(0.5)
        assert flow.run.acknowledged == []
        await flow.absorb(10, 30)
        assert await flow.written() < 2
    assert flow.writes == 1


@pytest.mark.usefixtures("any_is_behind")
async def test_a_backlog_is_not_written_by_half() -> None:
    flow = Flow(flush_seconds=5)
    async with flow.begun():
        for offset in range(0, 196, 4):
            await flow.absorb(offset, offset + 4, of=200)
            await asyncio.sleep(0.015)
        assert flow.run.acknowledged == []
        # From the last one on it may be written at any moment.
        await flow.absorb(196, 200)
        assert await flow.written() < 2
    assert flow.writes == 1


@pytest.mark.usefixtures("any_is_behind")
async def test_while_more_waits_in_the_broker_than_is_in_memory_a_write_waits_too() -> None:
    flow = Flow(flush_seconds=1, events=30)
    run = flow.run
    await run.begin()
    assert not run.worker.is_busy
    await flow.absorb(0, 10, of=30)
    await flow.rhythm.flush_in_time()
    assert (run.acknowledged, run.worker.in_memory) == ([], 10)
    assert run.worker.is_busy
    await flow.absorb(10, 20, of=30)
    await flow.rhythm.flush_in_time()
    assert (run.acknowledged, run.worker.in_memory) == ([(0, 10), (0, 20)], 0)
    assert not run.worker.is_busy
    await flow.absorb(20, 30)
    await flow.rhythm.flush_in_time()
    assert run.acknowledged == [(0, 10), (0, 20), (0, 30)]


@pytest.mark.usefixtures("any_is_behind")
async def test_a_write_does_not_wait_for_ever_for_what_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.rhythm._BEHIND_SECONDS", 0.0)
    flow = Flow(flush_seconds=1, events=30)
    await flow.run.begin()
    await flow.absorb(0, 10, of=30)
    await flow.rhythm.flush_in_time()
    assert flow.run.acknowledged == [(0, 10)]


class SlowStore(MemoryStore):
    """Writes when it is let."""

    def __init__(self) -> None:
        super().__init__(Policy())
        self.may_write = asyncio.Event()

    async def save(self, states: Sequence[SubjectState]) -> list[Subject]:
        await self.may_write.wait()
        return await super().save(states)


@pytest.mark.usefixtures("any_is_behind")
async def test_what_comes_while_a_write_is_under_way_has_its_own_time_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.rhythm._BEHIND_SECONDS", 0.5)
    store = SlowStore()
    flow = Flow(flush_seconds=1, store=store)
    await flow.run.begin()
    await flow.absorb(0, 10, of=200)
    write = asyncio.create_task(flow.run.worker.flush())
    await asyncio.sleep(0.6)
    await flow.absorb(10, 20, of=200)
    store.may_write.set()
    await write
    await flow.rhythm.flush_in_time()
    assert (flow.run.acknowledged, flow.run.worker.in_memory) == ([(0, 10)], 10)
    await asyncio.sleep(0.6)
    await flow.rhythm.flush_in_time()
    assert flow.run.acknowledged == [(0, 10), (0, 20)]


async def test_a_few_records_that_nobody_is_given_keep_no_write_waiting() -> None:
    flow = Flow(flush_seconds=5)
    async with flow.begun():
        for partition in range(PARTITIONS):
            await flow.absorb(0, 1, partition=partition, of=3)
        assert await flow.written() < 2


async def test_while_nothing_comes_the_store_is_still_asked_each_pause_whether_it_has_everything() -> None:
    flow = Flow(flush_seconds=0.1)
    async with flow.begun():
        await flow.absorb(0, 10)
        await flow.written()
        flow.run.store.hashes = {}
        await until(lambda: flow.run.misplaced > 0)


@pytest.mark.parametrize("is_after_a_write", [False, True])
async def test_a_worker_that_stops_does_not_wait_for_the_end_of_a_pause(*, is_after_a_write: bool) -> None:
    app = WorkerApp("nobody", broker="kafka://127.0.0.1:1", store="memory://", autodiscover=False)
    run = Run(Log(10), MemoryStore(Policy()))
    await run.begin()
    if is_after_a_write:
        await run.worker.absorb(Batch(*PLACE, run.log.records, 10, end=10), is_current=lambda: True)
    rhythm = Rhythm(run.worker, sleep=app.sleep, should_stop=lambda: app.should_stop, flush_seconds=60)
    task = asyncio.create_task(rhythm.run())
    await asyncio.sleep(0.4)
    assert run.acknowledged == ([10] if is_after_a_write else [])
    await app.stop()
    await asyncio.wait_for(task, timeout=1)
