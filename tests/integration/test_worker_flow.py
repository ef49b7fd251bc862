"""A real worker with more before it than it can take at once: it never waits for what is empty, with work in reach."""

import gzip
import os
from itertools import islice, pairwise
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from settings import Settings
from tests.integration.test_worker_progress import environment, redis, settings, stack
from tests.worker import CALLS, WorkerProcess, eventually, hashes

__all__ = ["environment", "redis", "settings", "stack"]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

COUNT = 20_000
# The fetches get ahead of it: batches wait for the agent, and their partition is held back.
SLOW = """
import asyncio, os, time
from stream.worker import Worker

absorb = Worker.absorb
times = open(os.environ["TEST_TIMES"], "a")

async def slowly(self, batch, **how):
    begun = time.monotonic()
    await absorb(self, batch, **how)
    await asyncio.sleep(0.01)
    times.write(f"[{len(batch.records)},{begun},{time.monotonic()}]\\n")
    times.flush()

Worker.absorb = slowly

from cli.main import app

app(["worker"])
"""


async def test_a_slow_agent_is_given_its_next_batch_at_once_though_other_partitions_are_empty(
    environment: dict[str, str], settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    times = tmp_path / "times"
    environment |= {"TIDEMARK_FLUSH_EVENTS": "1000", "TEST_TIMES": os.fspath(times)}
    with gzip.open(CALLS) as file:
        rows = list(islice(file, COUNT))
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_brokers) as producer:
        for row in rows:
            await producer.send("calls", key=b"of one partition", value=row)
    with WorkerProcess(environment, tmp_path / "worker.log", ("-c", SLOW)) as worker:

        async def missing() -> str:
            assert worker.status is None, worker.log()
            stored = (await hashes(redis)).items()
            read = sum(int(fields["accepted"]) + int(fields["late"]) for key, fields in stored if key.endswith("}"))
            return "" if read == COUNT else f"{read} of {COUNT} calls were written"

        await eventually(missing, within_seconds=120)
    batches = [orjson.loads(line) for line in times.read_text().splitlines()]
    assert sum(count for count, _, _ in batches) == COUNT
    assert len(batches) >= COUNT // 1000
    waits = [begun - ended for (_, _, ended), (_, begun, _) in pairwise(batches)]
    # A second less what the waiting batches take, where nothing wakes the consumer when the agent has taken them.
    assert max(waits) < 0.3, sorted(waits)[-3:]
