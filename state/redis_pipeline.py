"""How the Redis store talks to its server: bounded pipelines, scripts loaded when missing, one kind of error."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, Final, TypeVar

from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, NoScriptError, RedisError

from detection.errors import DependencyError

WRITE_SUBJECT: Final = "write_subject.lua"
READ_HASHES: Final = "read_hashes.lua"
ADVANCE_CLOCK: Final = "advance_clock.lua"

# What bounds the memory of one pipeline, here and in the server.
SUBJECTS_AT_ONCE: Final = 250

# While the server works on one pipeline, the next one is made.
_PIPELINES_AT_ONCE: Final = 2

Item = TypeVar("Item")
Command = tuple[Any, ...]


def client_of(url: str, *, connections: int, timeout_seconds: float, retries: int) -> Redis:
    """A client with its own bounded pool, which answers bytes; nothing is connected before it is used."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        health_check_interval=30,
        decode_responses=False,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), retries=retries),
        retry_on_error=[BusyLoadingError],
    )
    pool.connection_class = _QUICK[pool.connection_class]
    return Redis.from_pool(pool)


class Scripts:
    """Our scripts on one server: called by their hash, and loaded where the server does not have them.

    A server forgets them when it restarts, and a replica that took over may never have had them.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._hashes: dict[str, str] = {}

    async def run(self, calls: Sequence[Command]) -> list[Any]:
        """The replies to calls of the form `(script, number of keys, *keys, *arguments)`."""
        if not calls:
            return []
        with redis_errors():
            if not self._hashes:
                await self._load()
            replies = await self._call(calls)
            unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
            if unknown:
                await self._load()
                again = await self._call([calls[at] for at in unknown])
                for at, reply in zip(unknown, again, strict=True):
                    replies[at] = reply
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    async def _call(self, calls: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for script, *rest in calls:
            pipeline.execute_command("EVALSHA", self._hashes[script], *rest)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def _load(self) -> None:
        hashes = {}
        for name in (WRITE_SUBJECT, READ_HASHES, ADVANCE_CLOCK):
            source = files("state").joinpath(name).read_text(encoding="utf-8")
            hashes[name] = await self._client.script_load(source)
        # At once: another request that finds some of them takes them for all.
        self._hashes = hashes


async def in_parts(items: Sequence[Item], work: Callable[[Sequence[Item]], Coroutine[Any, Any, None]]) -> None:
    """Work on the items part by part."""
    starts = range(0, len(items), SUBJECTS_AT_ONCE)
    await each_part((items[start : start + SUBJECTS_AT_ONCE] for start in starts), work)


async def each_part(parts: Iterable[Item], work: Callable[[Item], Coroutine[Any, Any, None]]) -> None:
    """Work on a few parts at a time; the first failure ends it, after which nothing of it goes on."""
    running: set[asyncio.Task[None]] = set()
    try:
        for part in parts:
            running.add(asyncio.create_task(work(part)))
            # It starts now, so that the server is busy while the next part is made.
            await asyncio.sleep(0)
            if len(running) >= _PIPELINES_AT_ONCE:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@contextmanager
def redis_errors() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise DependencyError("redis", f"{type(error).__name__}: {error}") from error


class _QuickConnection(Connection):
    """Packs commands with hiredis: redis-py's own loop takes longer than the server does for the whole write."""

    def pack_command(self, *args: Any) -> list[bytes]:
        name, *rest = args
        words = name.split() if isinstance(name, str) else [name]
        return [pack_command((*words, *rest))]


class _QuickSSLConnection(_QuickConnection, SSLConnection):
    pass


class _QuickUnixConnection(UnixDomainSocketConnection):
    pack_command = _QuickConnection.pack_command


_QUICK: Final[dict[Any, Any]] = {
    Connection: _QuickConnection,
    SSLConnection: _QuickSSLConnection,
    UnixDomainSocketConnection: _QuickUnixConnection,
}
