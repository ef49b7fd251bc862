"""A real worker whose store loses what it had acknowledged, and whose topics are made anew."""

import gzip
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from local.stack import Stack
from settings import Settings, load
from state import keys
from tests.integration.test_worker import as_stored, folded
from tests.worker import BOOKKEEPING, CALLS, ROOT, WorkerProcess, eventually, hashes, unsettled

pytestmark = pytest.mark.faults

CALLS_EACH = 1500


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """One for each test: the worker reads whole topics."""
    with Stack(tmp_path / "stack") as running:
        yield running


@pytest.fixture
def environment(stack: Stack) -> dict[str, str]:
    return {
        **stack.environment(),
        "TIDEMARK_CLOCK": "events",
        "TIDEMARK_KAFKA_LOG_ID": "recorded",
        "TIDEMARK_FLUSH_SECONDS": "0.2",
        "TIDEMARK_FLUSH_EVENTS": "200",
    }


@pytest.fixture
def settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load()


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    async with Redis.from_url(stack.valkey.url) as client:
        yield client


async def send(settings: Settings, begin: int, end: int) -> None:
    """These of the recorded calls."""
    with gzip.open(CALLS) as file:
        rows = [row.strip() for row, _ in zip(file, range(end), strict=False)][begin:]
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_brokers) as producer:
        for row in rows:
            await producer.send("calls", key=orjson.loads(row)["biller_id"].encode(), value=row)
        await producer.flush()


async def settled(redis: Redis, settings: Settings, worker: WorkerProcess, events: int) -> None:
    async def missing() -> str:
        assert worker.status is None, worker.log()
        if not await redis.exists(keys.CLOCK):
            return "nothing is in the store"
        return await unsettled(redis, events, settings.policy())

    await eventually(missing, within_seconds=120)


async def copy_of(redis: Redis) -> dict[bytes, bytes]:
    return {key: await redis.dump(key) or b"" async for key in redis.scan_iter(match="*")}


async def lose(redis: Redis, copied: dict[bytes, bytes]) -> None:
    """At once, as a replica that was behind takes over, or a copy is restored."""
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.execute_command("FLUSHALL")
        for key, value in copied.items():
            pipeline.execute_command("RESTORE", key, 0, value)
        await pipeline.execute()


@pytest.mark.slow
@pytest.mark.parametrize("left", ["nothing", "an older copy"])
@pytest.mark.parametrize("when", ["while the worker is down", "while the worker runs"])
async def test_a_store_that_lost_acknowledged_writes_ends_with_the_state_of_the_offline_fold(
    environment: dict[str, str], settings: Settings, redis: Redis, tmp_path: Path, when: str, left: str
) -> None:
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:
        await send(settings, 0, CALLS_EACH)
        await settled(redis, settings, worker, CALLS_EACH)
        copied = await copy_of(redis) if left == "an older copy" else {}
        await send(settings, CALLS_EACH, 2 * CALLS_EACH)
        await settled(redis, settings, worker, 2 * CALLS_EACH)
        if when == "while the worker is down":
            assert worker.stop() == 0, worker.log()
            await lose(redis, copied)
            worker.start()
        else:
            await lose(redis, copied)
        # What arrives at the very moment must not be written on top of what is left.
        await send(settings, 2 * CALLS_EACH, 3 * CALLS_EACH)
        await settled(redis, settings, worker, 3 * CALLS_EACH)
        assert worker.stop() == 0, worker.log()
        assert "store.rewound" in worker.log()
        assert ("store.lost_writes" in worker.log()) == (when == "while the worker runs")
    stored = await hashes(redis, without=BOOKKEEPING)
    expected = await as_stored(*folded(settings, limit=3 * CALLS_EACH), settings)
    assert stored.keys() == expected.keys()
    for key, fields in expected.items():
        assert stored[key] == fields, key


@pytest.mark.slow
async def test_a_topic_made_anew_that_outgrew_the_old_one_stops_the_worker_until_an_operator_renews_it(
    stack: Stack, environment: dict[str, str], settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    with WorkerProcess(environment, tmp_path / "first.log") as worker:
        await send(settings, 0, 200)
        await settled(redis, settings, worker, 200)
        worker.stop()
    stack.broker.restart()  # It keeps its log in memory: the topics are gone.
    # Other records at the same offsets, and more of them.
    await send(settings, 200, 200 + CALLS_EACH)
    with WorkerProcess(environment, tmp_path / "second.log") as worker:

        async def running() -> str:
            return "" if worker.status is not None else "the worker reads the new topic"

        await eventually(running, within_seconds=40)
        assert worker.status == 4, worker.log()
        assert "tidemark log renew calls" in worker.log()
    assert orjson.loads(tidemark("show", "--json").stdout)["topics"]["calls"]["recreated"] == 1
    # The embedded broker takes a worker for alive that left without a word.
    renewed = tidemark("renew", "calls", "--yes", "--force", "--json")
    assert orjson.loads(renewed.stdout) == {"topic": "calls", "life": 1}
    with WorkerProcess(environment, tmp_path / "third.log") as worker:
        await settled(redis, settings, worker, 200 + CALLS_EACH)
        assert worker.stop() == 0, worker.log()


async def test_a_topic_is_not_renewed_under_living_workers(
    environment: dict[str, str], settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:
        await send(settings, 0, 200)
        await settled(redis, settings, worker, 200)
        done = tidemark("renew", "calls", "--yes")
        assert (done.returncode, worker.status) == (4, None)
        assert b"stop the workers first" in done.stderr
        assert not await redis.exists(keys.LOG)


def tidemark(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "log", *arguments], cwd=ROOT, capture_output=True, check=False
    )
