"""What the store acknowledged is what reading goes on from: lost writes, topics made anew, dropped records."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from detection.errors import LogRecreatedError
from detection.hours import HOUR_MS
from detection.policy import Policy
from metrics import instruments
from state import keys
from state.alerting import MemoryAlerting
from state.memory_store import MemoryStore
from state.store import Reached
from stream.announcing import Announcer
from stream.peek import Peeked, Place
from stream.pipeline import Pipeline
from stream.placement import Placement
from stream.progress import GivenUpError, Progress, reached_after
from stream.relay import HistoryRelay
from stream.worker import Batch, Worker
from tests.unit.test_pipeline import Record, comparable
from tests.unit.test_relay import Kept, KeptAlerts

POLICY = Policy()
PLACE = ("calls", 0)
SOURCE = "log/calls/0"
START_MS = 490_000 * HOUR_MS


class Log:
    """One partition, the consumer that reads it, and what it has committed."""

    def __init__(self, events: int) -> None:
        self.records = [record(offset) for offset in range(events)]
        self.beginning = 0
        self.committed: int | None = None
        self.peeked: list[int] = []

    async def peek(self, offsets: Mapping[Place, int]) -> dict[Place, Peeked]:
        found = {}
        for place, offset in offsets.items():
            self.peeked.append(offset)
            there = self.beginning <= offset < len(self.records)
            found[place] = Peeked(self.records[offset] if there else None, self.beginning, len(self.records))
        return found


def record(offset: int, *, salt: float = 0.0) -> Record:
    call = {
        "biller_id": f"B{offset % 3}",
        "timestamp": START_MS + offset * 60_000,
        "latency_ms": 100.0 + offset + salt,
        "outcome": "ok",
    }
    return Record(offset, orjson.dumps(call), timestamp=START_MS + offset * 60_000)


class Run:
    """A worker over a log and a store."""

    def __init__(self, log: Log, store: MemoryStore) -> None:
        async def nowhere(letters: Sequence[Any]) -> None:
            raise AssertionError(f"nothing is refused here: {letters}")

        self.log = log
        self.store = store
        self.registry = CollectorRegistry()
        live = instruments(self.registry)
        # Without a cache, so that each flush loads: that is where a loss would be written back.
        pipeline = Pipeline(
            store, POLICY, log_id="log", future_ms=300_000, send_dead_letters=nowhere, cached_subjects=0
        )
        self.acknowledged: list[Any] = []
        self.misplaced = 0
        self.worker = Worker(
            pipeline,
            store,
            HistoryRelay(store, Kept(), KeptAlerts()),
            Announcer(store, nowhere, MemoryAlerting()),
            live,
            placement=Placement(store, live, source=pipeline.source, peek=log.peek, now_ms=lambda: START_MS),
            acknowledge=self.acknowledged.append,
            misplace=self._misplace,
            flush_events=1000,
            dead_letter_share=0.5,
        )

    def _misplace(self) -> None:
        self.misplaced += 1

    async def begin(self) -> int:
        return (await self.worker.place({PLACE: self.log.committed}))[PLACE]

    async def read(self, begin: int, end: int) -> None:
        """One poll and one flush."""
        batch = Batch(*PLACE, self.log.records[begin:end], end, end=len(self.log.records))
        await self.worker.absorb(batch, is_current=lambda: True)
        await self.worker.flush()
        if self.acknowledged:
            self.log.committed = self.acknowledged[-1]

    def counted(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


def copy_of(store: MemoryStore) -> dict[str, dict[bytes, bytes]]:
    return {key: dict(fields) for key, fields in store.hashes.items()}


async def quiet(events: int) -> dict[str, dict[bytes, bytes]]:
    """What one worker leaves that nothing happens to."""
    store = MemoryStore(POLICY)
    run = Run(Log(events), store)
    await run.begin()
    await run.read(0, events)
    return comparable(store)


async def test_progress_names_the_last_record_of_each_flush_before_its_events_are_acknowledged() -> None:
    store, log = MemoryStore(POLICY), Log(10)
    run = Run(log, store)
    assert await run.begin() == 0
    await run.read(0, 6)
    assert run.acknowledged == [6]
    assert (await store.progress())[SOURCE] == reached_after(log.records[5])
    assert store.hashes[keys.PROGRESS][SOURCE.encode()].startswith(b'{"offset":6,"time":%d' % (START_MS + 5 * 60_000))


async def test_a_zombie_never_moves_the_progress_back() -> None:
    store = MemoryStore(POLICY)
    owner, zombie = Progress(store), Progress(store)
    zombie.begin({SOURCE: 0})
    await owner.advance({SOURCE: Reached(20)})
    await zombie.advance({SOURCE: Reached(8)})
    assert (await store.progress())[SOURCE].offset == 20


@pytest.mark.parametrize("left", ["nothing", "an older copy"])
async def test_a_store_that_lost_writes_while_the_worker_was_away_is_read_up_again(left: str) -> None:
    store, log = MemoryStore(POLICY), Log(60)
    run = Run(log, store)
    await run.begin()
    await run.read(0, 20)
    older = copy_of(store)
    await run.read(20, 40)
    store.hashes = older if left == "an older copy" else {}
    again = Run(log, store)
    assert await again.begin() == (20 if left == "an older copy" else 0)
    assert again.counted("tidemark_rewound_records_total", topic="calls") == (20 if left == "an older copy" else 40)
    for begin in range(20 if left == "an older copy" else 0, 60, 20):
        await again.read(begin, begin + 20)
    assert comparable(store) == await quiet(60)


@pytest.mark.parametrize("left", ["nothing", "an older copy"])
async def test_a_store_that_loses_writes_under_a_worker_gets_nothing_written_that_follows_on_them(left: str) -> None:
    store, log = MemoryStore(POLICY), Log(60)
    run = Run(log, store)
    await run.begin()
    await run.read(0, 20)
    older = copy_of(store)
    await run.read(20, 40)
    lost = older if left == "an older copy" else {}
    store.hashes = {key: dict(fields) for key, fields in lost.items()}
    await run.read(40, 60)
    assert {key: fields for key, fields in store.hashes.items() if key.endswith("}")} == {
        key: fields for key, fields in lost.items() if key.endswith("}")
    }
    assert (run.misplaced, run.acknowledged[-1], run.worker.is_placed, run.worker.in_memory) == (1, 40, False, 0)
    assert run.counted("tidemark_store_losses_total") == 1
    for begin in range(await run.begin(), 60, 20):
        await run.read(begin, begin + 20)
    assert comparable(store) == await quiet(60)


async def test_a_loss_is_noticed_while_nothing_arrives() -> None:
    store, log = MemoryStore(POLICY), Log(20)
    run = Run(log, store)
    await run.begin()
    await run.read(0, 20)
    store.hashes = {}
    await run.worker.flush()
    assert run.misplaced == 1
    assert await run.begin() == 0


async def test_state_of_a_version_without_progress_is_read_on_from_its_subjects_greatest_offset() -> None:
    store, log = MemoryStore(POLICY), Log(30)
    run = Run(log, store)
    await run.begin()
    await run.read(0, 30)
    del store.hashes[keys.PROGRESS]
    again = Run(log, store)
    assert await again.begin() == 30
    assert again.counted("tidemark_rewound_records_total", topic="calls") == 0
    assert (await store.progress())[SOURCE].offset == 30


async def test_offsets_that_an_operator_set_back_are_read_again_and_change_nothing() -> None:
    store, log = MemoryStore(POLICY), Log(30)
    run = Run(log, store)
    await run.begin()
    await run.read(0, 30)
    log.committed = 10
    again = Run(log, store)
    assert await again.begin() == 10
    await again.read(10, 30)
    assert comparable(store) == await quiet(30)


@pytest.mark.parametrize("events", [10, 21, 200])
async def test_a_topic_made_anew_is_noticed_however_long_it_already_is(events: int) -> None:
    store, log = MemoryStore(POLICY), Log(20)
    run = Run(log, store)
    await run.begin()
    await run.read(0, 20)
    anew = Log(0)
    anew.records = [record(offset, salt=0.5) for offset in range(events)]
    again = Run(anew, store)
    with pytest.raises(LogRecreatedError, match="tidemark log renew calls"):
        await again.begin()
    assert again.counted("tidemark_recreated_logs_total", topic="calls") == 1
    assert (await store.log_lives())["calls"].recreated == 1
    assert await store.renew_log("calls", now_ms=START_MS) == 1
    assert await again.begin() == 0
    assert set(await store.progress()) == {"log.1/calls/0"}


async def test_the_last_record_itself_is_no_sign_of_a_topic_made_anew() -> None:
    store, log = MemoryStore(POLICY), Log(20)
    run = Run(log, store)
    await run.begin()
    await run.read(0, 20)
    assert await Run(log, store).begin() == 20
    assert log.peeked == [19]


async def test_records_that_retention_dropped_unread_are_counted_and_reading_goes_on() -> None:
    store, log = MemoryStore(POLICY), Log(60)
    run = Run(log, store)
    await run.begin()
    await run.read(0, 20)
    log.beginning = 50
    again = Run(log, store)
    assert await again.begin() == 50
    assert again.counted("tidemark_lost_records_total", topic="calls") == 30


async def test_a_consumer_that_goes_back_by_itself_is_placed_anew() -> None:
    store, log = MemoryStore(POLICY), Log(60)
    run = Run(log, store)
    await run.begin()
    await run.read(0, 20)
    await run.read(10, 30)
    assert (run.misplaced, run.worker.is_placed) == (1, False)


async def test_what_was_given_up_while_it_was_written_never_becomes_progress() -> None:
    store = MemoryStore(POLICY)
    progress = Progress(store)
    progress.begin({SOURCE: 0})
    progress.start_flush()
    await progress.advance({SOURCE: Reached(20)})
    # The partitions go while a flush waits for the store, which then has lost what it had.
    progress.start_flush()
    progress.doubt()
    progress.begin({})
    store.hashes[keys.PROGRESS].clear()
    with pytest.raises(GivenUpError):
        await progress.advance({SOURCE: Reached(60)})
    with pytest.raises(GivenUpError):
        await progress.verify()
    assert await store.progress() == {}
