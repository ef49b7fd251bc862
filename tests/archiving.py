"""A process that does nothing but archive, for tests: the reader as the worker has it, without the rest of a worker.

`between` as its argument makes it end, as by SIGKILL, after its first transaction and before Kafka hears of it. `deaf`
makes it stop while it asks where to read, with a cancellation that is lost there.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
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


class DeafArchive(Archive):
    """Hears no cancellation while it is asked for offsets, which takes until there was one."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.is_asked = asyncio.Event()

    async def offsets(self, sources: Sequence[str]) -> dict[str, int]:
        self.is_asked.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return await super().offsets(sources)


async def read(settings: Settings, *, is_killed_between: bool, is_deaf: bool) -> None:
    """Until somebody ends the process, or, of the deaf one, until it has stopped."""

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
        deaf = DeafArchive(database)
        is_asked = deaf.is_asked if is_deaf else asyncio.Event()
        reader = ArchiveReader(
            deaf if is_deaf else Archive(database),
            store,
            metrics.instruments(CollectorRegistry()),
            log_id=settings.kafka_log_id,
            connect=connect,
            horizon=Horizon,
            future_ms=settings.future_seconds * SECOND_MS,
            pause_seconds=settings.flush_seconds,
        )
        reading = asyncio.create_task(reader.run(is_asked.is_set))
        if is_deaf:
            await is_asked.wait()
            reading.cancel()
        await reading


if __name__ == "__main__":
    chosen = load()
    logs.configure(chosen)
    asyncio.run(read(chosen, is_killed_between="between" in sys.argv, is_deaf="deaf" in sys.argv))
