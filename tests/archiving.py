"""A process that does nothing but archive, for tests: the reader as the worker has it, without the rest of a worker.

`between` as its argument makes it end, as by SIGKILL, after its first transaction and before Kafka hears of it.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from prometheus_client import CollectorRegistry

import logs
import metrics
from detection.hours import SECOND_MS
from settings import Settings, load
from state.archive import Archive, Horizon
from state.database import Database
from state.redis_store import RedisStore
from stream import archive
from stream.archive import ArchiveReader


async def read(settings: Settings, *, is_killed_between: bool) -> None:
    """Until somebody ends the process."""

    def connect() -> Any:
        consumer = archive.connect(
            settings.brokers(), settings.kafka_group, session_seconds=settings.kafka_session_seconds
        )
        if is_killed_between:
            consumer.commit = die
        return consumer

    async def die(_offsets: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    store = RedisStore.connect(settings.redis_url.get_secret_value(), settings.policy())
    async with Database(settings.postgres_url.get_secret_value(), timeout_seconds=1.0) as database:
        reader = ArchiveReader(
            Archive(database),
            store,
            metrics.instruments(CollectorRegistry()),
            log_id=settings.kafka_log_id,
            connect=connect,
            horizon=Horizon,
            future_ms=settings.future_seconds * SECOND_MS,
            pause_seconds=settings.flush_seconds,
        )
        await reader.run()


if __name__ == "__main__":
    chosen = load()
    logs.configure(chosen)
    asyncio.run(read(chosen, is_killed_between="between" in sys.argv))
