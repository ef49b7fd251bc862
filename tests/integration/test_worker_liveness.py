"""A real worker that stands still, stops, or has a slow store; and what it says of itself on its port."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from local.ports import free_port
from settings import Settings
from tests.integration.test_worker_progress import environment, redis, send, settings, settled, stack
from tests.worker import WorkerProcess, eventually, hashes

__all__ = ["environment", "redis", "settings", "stack"]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

# A fetch that is never answered, after two batches, in the first life of the process only.
HANGING = """
import asyncio
from stream import restart, transport

batches = 0
fetch = transport.BatchConsumer.getmany

async def getmany(self, timeout):
    global batches
    if batches >= 2 and not restart.restarts():
        await asyncio.Event().wait()
    async for tp, message in fetch(self, timeout):
        batches += 1
        yield tp, message

transport.BatchConsumer.getmany = getmany

from cli.main import app

app(["worker"])
"""


@pytest.fixture
def port(environment: dict[str, str]) -> int:
    """Where the worker answers."""
    port = free_port()
    environment["TIDEMARK_WORKER_HTTP_PORT"] = str(port)
    return port


async def ask(port: int, path: str) -> tuple[int, str]:
    """Status and body; 0 while nobody listens."""

    def get() -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    return await asyncio.to_thread(get)


async def metric(port: int, name: str, labels: Mapping[str, str] | None = None) -> float:
    """The sum of the samples with these labels, -1 while nobody answers."""
    status, text = await ask(port, "/metrics")
    if status != 200:
        return -1
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and (labels or {}).items() <= sample.labels.items()
    )


@pytest.mark.slow
async def test_a_worker_that_reads_nothing_though_records_wait_starts_itself_again(
    environment: dict[str, str], settings: Settings, redis: Redis, port: int, tmp_path: Path
) -> None:
    environment |= {"TIDEMARK_STALL_SECONDS": "2"}
    with WorkerProcess(environment, tmp_path / "worker.log", ("-c", HANGING)) as worker:
        await send(settings, 0, 3000)
        await settled(redis, settings, worker, 3000)
        assert "worker.stalled" in worker.log()
        assert await metric(port, "tidemark_stalls_total") == 1
        assert (await ask(port, "/healthz"))[0] == 200
        assert worker.stop() == 0, worker.log()


@pytest.mark.slow
async def test_a_worker_with_nothing_to_read_is_left_alone(
    environment: dict[str, str], settings: Settings, redis: Redis, port: int, tmp_path: Path
) -> None:
    environment |= {"TIDEMARK_STALL_SECONDS": "2"}
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:
        await send(settings, 0, 100)
        await settled(redis, settings, worker, 100)
        # Three times what a standstill may last.
        await asyncio.sleep(6)
        assert await metric(port, "tidemark_stalls_total") == 0
        assert worker.stop() == 0, worker.log()


@pytest.mark.slow
async def test_a_worker_that_is_stopped_has_committed_what_it_absorbed_and_the_next_one_repeats_nothing(
    environment: dict[str, str], settings: Settings, redis: Redis, port: int, tmp_path: Path
) -> None:
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:
        sending = asyncio.create_task(send(settings, 0, 6_000))

        async def idle() -> str:
            return "" if await metric(port, "tidemark_events_total") >= 400 else "nothing is written yet"

        await eventually(idle, within_seconds=90)
        assert worker.stop() == 0, worker.log()
    await sending
    absorbed = sum(int(fields["accepted"]) for key, fields in (await hashes(redis)).items() if key.endswith("}"))
    committed = await committed_offsets(settings)
    assert sum(committed.values()) == absorbed > 0
    with WorkerProcess(environment, tmp_path / "next.log") as worker:
        await settled(redis, settings, worker, 6_000)
        assert await metric(port, "tidemark_events_total", {"result": "replayed"}) == 0
        assert await metric(port, "tidemark_events_total", {"result": "accepted"}) == 6_000 - absorbed
        assert worker.stop() == 0, worker.log()


async def committed_offsets(settings: Settings) -> dict[TopicPartition, int]:
    async with AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_brokers, group_id=settings.kafka_group, enable_auto_commit=False
    ) as consumer:
        await consumer.topics()
        partitions = [TopicPartition("calls", one) for one in consumer.partitions_for_topic("calls") or ()]
        return {one: await consumer.committed(one) or 0 for one in partitions}


@pytest.mark.slow
async def test_a_slow_store_slows_reading_and_the_memory_stays_bounded(
    environment: dict[str, str], settings: Settings, redis: Redis, port: int, tmp_path: Path
) -> None:
    flush_events = 500
    environment |= {"TIDEMARK_FLUSH_EVENTS": str(flush_events)}
    seen: list[float] = []

    async def hold_back() -> None:
        while True:
            await redis.client_pause(1500)
            await asyncio.sleep(1.6)

    async def look() -> None:
        while True:
            seen.append(await metric(port, "tidemark_buffered_events"))
            await asyncio.sleep(0.05)

    with WorkerProcess(environment, tmp_path / "worker.log") as worker:
        await eventually(lambda: unready(port), within_seconds=90)
        tasks = [asyncio.create_task(hold_back()), asyncio.create_task(look())]
        await send(settings, 0, 8000)
        await eventually(lambda: enough(seen, flush_events), within_seconds=40)
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await settled(redis, settings, worker, 8000)
        assert worker.stop() == 0, worker.log()
    # What one poll brings of a partition is at most as much again.
    assert max(seen) <= 2 * flush_events


async def unready(port: int) -> str:
    status, body = await ask(port, "/readyz")
    return "" if status == 200 else f"/readyz answers {status} {body}"


async def enough(seen: list[float], flush_events: int) -> str:
    full = sum(one >= flush_events for one in seen)
    return "" if full >= 3 else f"the buffer was full {full} times, at most {max(seen, default=0)}"


async def test_a_worker_says_that_it_is_healthy_and_not_ready_while_its_store_is_away(
    environment: dict[str, str], settings: Settings, redis: Redis, port: int, tmp_path: Path
) -> None:
    environment |= {"TIDEMARK_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:

        async def postponed() -> str:
            assert worker.status is None, worker.log()
            return "" if "placement.postponed" in worker.log() else "the store is not asked yet"

        await eventually(postponed, within_seconds=90)
        status, body = await ask(port, "/readyz")
        assert status == 503
        assert "where to read" in body
        assert (await ask(port, "/healthz"))[0] == 200
        assert (await ask(port, "/nothing"))[0] == 404
