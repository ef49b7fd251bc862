"""The two readers that ingestion is measured against, each a process of its own: `python -m benchmarks._readers KIND`.

    stock   a Faust agent as its documentation shows it, that only decodes each call
    bare    aiokafka's own `getmany` loop, that does not even decode: what the client can carry at most

Each reads COUNT records of TOPIC and prints the seconds from the first to the last.
"""

import asyncio
import os
import sys
import tempfile
import time
from typing import Any

READERS = ("stock", "bare")


def main() -> None:
    kind, brokers, topic, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    if kind == "stock":
        _stock(brokers, topic, count)
    else:
        asyncio.run(_bare(brokers, topic, count))


def _stock(brokers: str, topic: str, count: int) -> None:
    import faust
    import orjson

    app = faust.App(
        f"stock-{time.time_ns()}",
        broker=f"kafka://{brokers}",
        datadir=tempfile.mkdtemp(prefix="tidemark-bench-"),
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=6,
        broker_heartbeat_interval=1,
    )
    source = app.topic(topic, value_serializer="raw")
    seen = 0
    started = 0.0

    @app.agent(source)
    async def read(stream: Any) -> None:
        nonlocal seen, started
        async for value in stream:
            if not seen:
                started = time.perf_counter()
            orjson.loads(value)
            seen += 1
            if seen == count:
                _say(time.perf_counter() - started)
                # An agent that stops its own app waits for itself.
                os._exit(0)

    app.Worker(loglevel="ERROR", quiet=True, redirect_stdouts=False).execute_from_commandline()


async def _bare(brokers: str, topic: str, count: int) -> None:
    from aiokafka import AIOKafkaConsumer

    async with AIOKafkaConsumer(
        topic, bootstrap_servers=brokers, auto_offset_reset="earliest", max_partition_fetch_bytes=4 * 1024 * 1024
    ) as consumer:
        seen = 0
        started = 0.0
        while seen < count:
            fetched = await consumer.getmany(timeout_ms=1000, max_records=20_000)
            if fetched and not seen:
                started = time.perf_counter()
            seen += sum(len(records) for records in fetched.values())
        _say(time.perf_counter() - started)


def _say(seconds: float) -> None:
    sys.stdout.write(f"\nseconds {seconds}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
