"""Calls per second from Kafka through to Redis in one worker process, one JSON call to the message.

Beside it, on the same topic in the same run: a stock Faust agent that only decodes, and aiokafka's bare loop.
"""

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.context import ROOT, Context
from benchmarks.result import Result, Target
from local.ports import free_port
from local.stack import PARTITIONS, Stack

CALLS = 600_000
BILLERS = 1_000
# What a stock agent reads of them: enough for a steady rate.
STOCK_CALLS = 80_000
_START_MS = 1_767_261_600_000
_MINUTES = 30
_DEADLINE_SECONDS = 300


def run(context: Context) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder, Stack(Path(folder) / "stack") as stack:
        brokers = stack.broker.bootstrap
        with context.part(f"sending {CALLS:,} calls of {BILLERS:,} billers"):
            asyncio.run(_produce(brokers))
        with context.part("bare aiokafka loop"):
            bare = CALLS / _read("bare", brokers, CALLS)
        with context.part("stock Faust agent"):
            stock = STOCK_CALLS / _read("stock", brokers, STOCK_CALLS)
        with context.part("worker"):
            ours = CALLS / _worker(stack, Path(folder))
    return [
        Result(
            name="calls through to Redis, 1,000 billers",
            value=ours,
            unit="calls/s",
            reference="a stock Faust agent that only decodes",
            reference_value=stock,
            target=Target(ratio_at_least=15, at_least=200_000),
        ),
        Result(
            name="the same, of what the client can carry",
            value=ours,
            unit="calls/s",
            reference="aiokafka's bare getmany loop, nothing decoded",
            reference_value=bare,
        ),
    ]


async def _produce(brokers: str) -> None:
    """Whole batches, built by hand: a send for each call would take longer than all that is measured."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    await admin.create_topics([NewTopic("calls", PARTITIONS, 1)])
    await admin.close()
    chance = random.Random(7)
    async with AIOKafkaProducer(bootstrap_servers=brokers, max_batch_size=512 * 1024) as producer:
        for partition in range(PARTITIONS):
            batch = producer.create_batch()
            for at in range(CALLS // PARTITIONS):
                biller = chance.randrange(BILLERS // PARTITIONS) * PARTITIONS + partition
                ms = _START_MS + at * _MINUTES * 60_000 * PARTITIONS // CALLS
                value = b'{"biller_id":"B%06d","timestamp":%d,"latency_ms":%.1f,"outcome":"%s"}' % (
                    biller,
                    ms,
                    chance.lognormvariate(5, 0.4),
                    b"error" if chance.random() < 0.01 else b"ok",
                )
                key = b"B%06d" % biller
                if batch.append(key=key, value=value, timestamp=None) is None:
                    await (await producer.send_batch(batch, "calls", partition=partition))
                    batch = producer.create_batch()
                    batch.append(key=key, value=value, timestamp=None)
            await (await producer.send_batch(batch, "calls", partition=partition))


def _read(kind: str, brokers: str, count: int) -> float:
    """Seconds that the reader took from its first record to its last."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._readers", kind, brokers, "calls", str(count)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=_DEADLINE_SECONDS,
    )
    if done.returncode or not done.stdout.strip():
        raise RuntimeError(f"the {kind} reader ended with {done.returncode}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def _worker(stack: Stack, folder: Path) -> float:
    """Seconds from the worker's first batch until every call is in Redis."""
    port = free_port()
    environment = {**stack.environment(), "TIDEMARK_WORKER_HTTP_PORT": str(port), "TIDEMARK_CLOCK": "events"}
    with _process(environment, folder / "worker.log"), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        started = 0.0
        deadline = time.monotonic() + _DEADLINE_SECONDS
        while time.monotonic() < deadline:
            time.sleep(0.02)
            try:
                text = client.get("/metrics").text
            except httpx.TransportError:
                continue
            now = time.perf_counter()
            if not started and "tidemark_consumer_lag_records{" in text:
                started = now
            if _accepted(text) >= CALLS:
                return now - started
    raise RuntimeError(f"the worker did not take {CALLS:,} calls: {(folder / 'worker.log').read_text()[-2000:]}")


def _accepted(metrics: str) -> float:
    prefix = "tidemark_events_total{"
    return sum(
        float(line.split()[-1])
        for line in metrics.splitlines()
        if line.startswith(prefix) and 'result="accepted"' in line
    )


@contextmanager
def _process(environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "worker"],
            env={**os.environ, **environment},
            cwd=ROOT,
            stdout=output,
            stderr=output,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)
