"""The servers that runs meet one after the other, with a handle on each: start anew, kill, freeze, cut off."""

import asyncio
import contextlib
import os
import signal
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import psycopg
from psycopg import sql
from redis.asyncio import Redis

from local.broker import Broker
from local.ports import LOOPBACK
from local.stack import SESSION_SECONDS
from local.valkey import Valkey
from tests.faults.proxy import How, Proxy
from tests.faults.schedule import Kind
from tests.faults.stream import PARTITIONS
from tests.faults.topics import CLIENT_ID

# The database that each run's is a copy of.
TEMPLATE = "faults_template"


class Servers(ABC):
    """A Valkey and, for each run, empty topics and a database; the PostgreSQL server is shared with others.

    Subclasses know how a broker is had. The network to both is cut by proxies; `kinds` are the faults that there is a
    handle for.
    """

    kinds: frozenset[Kind] = frozenset(
        {
            Kind.KILL_WORKER,
            Kind.STOP_WORKER,
            Kind.FREEZE_WORKER,
            Kind.ZOMBIE,
            Kind.SCALE,
            Kind.REWIND,
            Kind.FREEZE_BROKER,
            Kind.CUT_BROKER,
            Kind.KILL_REDIS,
            Kind.PAUSE_REDIS,
            Kind.CUT_REDIS,
            Kind.TRAIN,
            Kind.KILL_API,
        }
    )
    # What asks for these servers on the command line.
    option = ""
    # Whether the broker tells a producer's repetition from a second record.
    is_idempotent = False

    def __init__(self, folder: Path, postgres_url: str) -> None:
        self._folder = folder
        self._postgres = postgres_url
        self._valkey = Valkey(folder)
        self._broker_proxy = Proxy(exempt=CLIENT_ID.encode())
        self._redis_proxy = Proxy()
        self._redis_lock = asyncio.Lock()
        self._broker_lock = asyncio.Lock()
        self._closing = contextlib.AsyncExitStack()
        self.postgres_url = ""
        self.redis: Redis

    async def __aenter__(self) -> Self:
        await self._closing.enter_async_context(self._broker_proxy)
        await self._closing.enter_async_context(self._redis_proxy)
        self._closing.push_async_callback(asyncio.to_thread, self._stop)
        await asyncio.to_thread(self._valkey.start)
        self._redis_proxy.target = self._valkey.port
        self.redis = Redis.from_url(self._valkey.url)
        self._closing.push_async_callback(self.redis.aclose)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._closing.aclose()
        await asyncio.to_thread(self._drop_database)

    def _stop(self) -> None:
        self._valkey.stop()
        if self.broker is not None:
            self.broker.kill()

    @property
    @abstractmethod
    def broker(self) -> Broker | None:
        """The broker of the run; None before the first one."""

    @abstractmethod
    async def fresh_log(self) -> str:
        """Empty topics; how the log is called."""

    @abstractmethod
    async def rewound(self, group: str) -> str:
        """The consumer group, which has no member now, with all its offsets at the beginning; or another one."""

    @property
    def bootstrap(self) -> str:
        """Past the proxy; the broker then sends everybody through it."""
        return self._running.bootstrap

    @property
    def _running(self) -> Broker:
        assert self.broker is not None
        return self.broker

    async def fresh(self) -> dict[str, str]:
        """Empty topics, an empty Redis, an empty history; what a worker must be told to use them."""
        log_id = await self.fresh_log()
        await self.redis.flushall()
        await asyncio.to_thread(self._fresh_database)
        return {
            "TIDEMARK_KAFKA_BROKERS": f"{LOOPBACK}:{self._broker_proxy.port}",
            "TIDEMARK_KAFKA_LOG_ID": log_id,
            "TIDEMARK_KAFKA_GROUP": f"faults-{log_id}",
            "TIDEMARK_KAFKA_PARTITIONS": str(PARTITIONS),
            "TIDEMARK_KAFKA_SESSION_SECONDS": str(SESSION_SECONDS),
            "TIDEMARK_REDIS_URL": f"redis://{LOOPBACK}:{self._redis_proxy.port}/0",
            "TIDEMARK_POSTGRES_URL": self.postgres_url,
        }

    def _fresh_database(self) -> None:
        self._drop_database()
        name = f"faults_{uuid4().hex}"
        with psycopg.connect(self._postgres, autocommit=True) as connection:
            connection.execute(
                sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE))
            )
        self.postgres_url = self._postgres.rsplit("/", 1)[0] + f"/{name}"

    def _drop_database(self) -> None:
        if self.postgres_url:
            name = self.postgres_url.rsplit("/", 1)[1]
            with psycopg.connect(self._postgres, autocommit=True) as connection:
                connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))
            self.postgres_url = ""

    async def freeze_broker(self, seconds: float) -> None:
        """It keeps its connections and its log, and answers nothing."""
        async with self._broker_lock:
            pid = self._running.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(seconds)
            finally:
                os.kill(pid, signal.SIGCONT)

    async def restart_broker(self, seconds: float) -> None:
        """By kill -9, with so many seconds in between; for a broker that keeps its log."""
        async with self._broker_lock:
            await asyncio.to_thread(self._running.kill)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self._running.start)

    async def cut_broker(self, how: How, seconds: float) -> None:
        """For workers and APIs alone."""
        async with self._broker_lock:
            await _cut(self._broker_proxy, how, seconds)

    async def restart_redis(self, seconds: float) -> None:
        """By kill -9, with so many seconds in between."""
        async with self._redis_lock:
            await asyncio.to_thread(self._valkey.kill)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self._valkey.start)

    async def pause_redis(self, seconds: float) -> None:
        """It answers nobody for so long."""
        async with self._redis_lock:
            await self.redis.client_pause(round(seconds * 1000))
            await asyncio.sleep(seconds)

    async def cut_redis(self, how: How, seconds: float) -> None:
        """For workers and APIs alone."""
        async with self._redis_lock:
            await _cut(self._redis_proxy, how, seconds)


async def _cut(proxy: Proxy, how: How, seconds: float) -> None:
    proxy.cut(how)
    try:
        await asyncio.sleep(seconds)
    finally:
        proxy.mend()
