"""How the Redis store talks to its server: bounded pipelines, scripts loaded when missing, one kind of error."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
)

from detection.errors import DependencyError
from state.redis_address import parse
from state.redis_topology import client_at

WRITE_SUBJECT: Final = "write_subject.lua"
READ_HASHES: Final = "read_hashes.lua"
READ_ANSWERS: Final = "read_answers.lua"
ADVANCE_CLOCK: Final = "advance_clock.lua"
CLAIM_COHORTS: Final = "claim_cohorts.lua"
CONFIRM_SUBJECT: Final = "confirm_subject.lua"
LIST_SUBJECTS: Final = "list_subjects.lua"
REPLACE_HASH: Final = "replace_hash.lua"
FORGET_PUBLISHED: Final = "forget_published.lua"
FIND_BEHIND: Final = "find_behind.lua"
CLAIM_NOTIFYING: Final = "claim_notifying.lua"
KEEP_NOTIFIED: Final = "keep_notified.lua"
RELEASE_NOTIFYING: Final = "release_notifying.lua"
HINT_ALERTING: Final = "hint_alerting.lua"
FORGET_ALERTING: Final = "forget_alerting.lua"

# What bounds the memory of one pipeline, here and in the server.
SUBJECTS_AT_ONCE: Final = 250

# While the server works on one pipeline, the next one is made.
_PIPELINES_AT_ONCE: Final = 2

Item = TypeVar("Item")
Command = tuple[Any, ...]
# What answers commands in one round trip, errors among the replies.
Exchange = Callable[[Sequence[Command]], Awaitable[list[Any]]]


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many replicas must have a write before it counts as written, and how long they are waited for."""

    count: int = 0
    within_ms: int = 1000


NO_REPLICAS: Final = Replicas()

# Of the time that a connection waits for an answer: it must not be given up while the server waits for its replicas.
REPLICAS_SHARE: Final = 0.4


def client_of(url: str, *, connections: int, timeout_seconds: float, retries: int) -> Redis:
    """A client with its own bounded pool, which answers bytes; nothing is connected before it is used.

    Raises SettingsError for a URL that names nothing.
    """
    return client_at(parse(url), connections=connections, timeout_seconds=timeout_seconds, retries=retries)


async def run_pipeline(client: Redis, commands: Sequence[Command], *, replicas: Replicas = NO_REPLICAS) -> list[Any]:
    """The replies, errors among them; DependencyError where that many replicas did not get what was written in time.

    The waiting is part of the pipeline: another connection may already go to a server that took over, whose replicas
    say nothing about what this one was told.
    """
    if not commands:
        return []
    with redis_errors():
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        if replicas.count:
            pipeline.execute_command("WAIT", replicas.count, replicas.within_ms)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        if replicas.count:
            reached = replies.pop()
            if isinstance(reached, Exception):
                raise reached
            if reached < replicas.count:
                raise DependencyError(
                    "redis", f"{reached} of {replicas.count} replicas had the write within {replicas.within_ms} ms"
                )
    return replies


class Scripts:
    """Our scripts: called by their hash, and loaded where the server does not have them.

    A server forgets them when it restarts, and a replica that took over may never have had them. `replicas` holds for
    what is run as durable. `exchange`, where there is one, takes all the rest.
    """

    def __init__(self, client: Redis, *, replicas: Replicas = NO_REPLICAS, exchange: Exchange | None = None) -> None:
        self._client = client
        self._replicas = replicas
        self._exchange = exchange

    async def run(self, calls: Sequence[Command], *, is_durable: bool = False) -> list[Any]:
        """The replies to calls of the form `(script, number of keys, *keys, *arguments)`.

        A durable run has at least one write for each server that it reaches: without one there is nothing to wait for.
        """
        replicas = self._replicas if is_durable else NO_REPLICAS
        replies = await self._round_trip(_by_hash(calls), replicas)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            # In the same pipeline, so that they are called where they were loaded.
            again = [calls[at] for at in unknown]
            loads = [("SCRIPT LOAD", _script(name)[1]) for name in dict.fromkeys(call[0] for call in again)]
            found = await self._round_trip([*loads, *_by_hash(again)], replicas)
            for at, reply in zip(unknown, found[len(loads) :], strict=True):
                replies[at] = reply
        with redis_errors():
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies

    async def _round_trip(self, commands: Sequence[Command], replicas: Replicas) -> list[Any]:
        if self._exchange is None or replicas.count:
            return await run_pipeline(self._client, commands, replicas=replicas)
        with redis_errors():
            return await self._exchange([(*name.split(), *rest) for name, *rest in commands])


def _by_hash(calls: Sequence[Command]) -> list[Command]:
    return [("EVALSHA", _script(name)[0], *rest) for name, *rest in calls]


@cache
def _script(name: str) -> tuple[str, bytes]:
    """Its hash, by which servers know it, and its text."""
    source = files("state").joinpath(name).read_bytes()
    return sha1(source, usedforsecurity=False).hexdigest(), source


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
    # The errors of a cluster's client have a root of their own.
    except (RedisError, RedisClusterException, OSError) as error:
        raise DependencyError("redis", f"{type(error).__name__}: {error}{to_do(error)}") from error


def to_do(error: BaseException | None) -> str:
    """What a person can do about it, where it is we who are not let in: such a thing does not mend itself."""
    text = str(error)
    if isinstance(error, NoPermissionError):
        return "; the users that Tidemark needs are in state/acl, `tidemark acl` prints them"
    if isinstance(error, AuthenticationError) or text.startswith(("NOAUTH", "WRONGPASS")):
        return "; correct TIDEMARK_REDIS_USERNAME and TIDEMARK_REDIS_PASSWORD, or those in TIDEMARK_REDIS_URL"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "; set TIDEMARK_REDIS_CA_FILE to the CA that signed its certificate, and name it as that does"
    return ""
