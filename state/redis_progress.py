"""How far each partition is in the state, and which life of a topic is read: two hashes of the whole stream.

    HGETALL tidemark:1:progress    kafka/calls/3 → {"offset":5120,"time":1763755200000,"record":"9f2c4e6ab1d07735"}
    HGETALL tidemark:1:log         calls:life → 1, calls:renewed → when; calls:recreated → 2, calls:noticed → when

The progress of a source is set after all writes of a flush were acknowledged, so everything before its offset is in the
state. A server that lost writes has lost the end of what it was told: the progress with the writes that came before it.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

import orjson
from redis.asyncio import Redis

from detection.errors import UnreadableStateError
from detection.hours import iso
from state.keys import LOG, PROGRESS
from state.redis_pipeline import Command, redis_errors
from state.store import LogLife, Reached

_LONGEST: Final = 300
_MOST: Final = 2**63 - 1


def encode_progress(progress: Mapping[str, Reached]) -> dict[bytes, bytes]:
    """The fields, by source."""
    return {
        source.encode(): orjson.dumps({"offset": one.offset, "time": one.time_ms, "record": one.record})
        for source, one in progress.items()
    }


def decode_progress(fields: Mapping[bytes, bytes]) -> dict[str, Reached]:
    """The inverse of `encode_progress`; UnreadableStateError for a field that nobody can have kept."""
    found = {}
    for source, text in fields.items():
        try:
            value = orjson.loads(text)
            reached = Reached(int(value["offset"]), int(value["time"]), str(value["record"]))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise UnreadableStateError(f"{PROGRESS}: {source!r} is {text[:200]!r}") from error
        # No broker gives any other offset or time.
        if not (0 <= reached.offset <= _MOST and -1 <= reached.time_ms <= _MOST):
            raise UnreadableStateError(f"{PROGRESS}: {source!r} is {text[:200]!r}")
        found[source.decode()] = reached
    return found


def decode_lives(fields: Mapping[bytes, bytes]) -> dict[str, LogLife]:
    """What the fields of the log say of each topic; UnreadableStateError for a field that nobody can have kept."""
    by_topic: dict[str, dict[str, str]] = {}
    try:
        for name, value in fields.items():
            topic, _, field = name.decode().rpartition(":")
            by_topic.setdefault(topic, {})[field] = value.decode()
        return {
            topic: LogLife(
                life=int(one.get("life", "0")),
                recreated=int(one.get("recreated", "0")),
                noticed=one.get("noticed", ""),
                renewed=one.get("renewed", ""),
            )
            for topic, one in by_topic.items()
        }
    except ValueError as error:
        raise UnreadableStateError(f"{LOG}: damaged: {error!r}"[:_LONGEST]) from error


def fields_of_topic(sources: Iterable[bytes], topic: str) -> list[bytes]:
    """Those of the sources that are partitions of the topic, in whichever life and log."""
    return [source for source in sources if source.split(b"/")[1:-1] == [topic.encode()]]


async def read(client: Redis) -> dict[str, Reached]:
    """The progress of every source."""
    (fields,) = await _ask(client, ("HGETALL", PROGRESS))
    return decode_progress(fields)


async def advance(
    client: Redis, known: Mapping[str, int], reached: Mapping[str, Reached], written: Mapping[str, int]
) -> dict[str, int]:
    """See `state.store.StateStore.advance_progress`; one step, in one round trip.

    `written` are keys of subjects and the revisions that they have at least, each the last of some that were written.
    """
    if not known:
        return {}
    texts = encode_progress(reached)
    arguments: list[Any] = list(written.values())
    for source, offset in known.items():
        moved = reached.get(source)
        arguments += [source, offset, "" if moved is None else moved.offset, texts.get(source.encode(), b"")]
    # Sent as text each time: it is short, and a server that took over knows no script.
    (stored,) = await _ask(client, ("EVAL", _script(), 1 + len(written), PROGRESS, *written, *arguments))
    return dict(zip(known, map(int, stored), strict=True))


@cache
def _script() -> str:
    return files("state").joinpath("advance_progress.lua").read_text(encoding="utf-8")


async def lives(client: Redis) -> dict[str, LogLife]:
    """What is kept of topics that were made anew."""
    (fields,) = await _ask(client, ("HGETALL", LOG))
    return decode_lives(fields)


async def note_recreated(client: Redis, topic: str, *, now_ms: int) -> None:
    """Count that a worker found the topic made anew."""
    await _count(client, topic, counter="recreated", time="noticed", now_ms=now_ms)


async def renew(client: Redis, topic: str, *, now_ms: int) -> int:
    """The topic's next life: first its number, so that no worker reads on under the old one, then the old progress."""
    life = await _count(client, topic, counter="life", time="renewed", now_ms=now_ms)
    (sources,) = await _ask(client, ("HKEYS", PROGRESS))
    old = fields_of_topic(sources, topic)
    if old:
        await _ask(client, ("HDEL", PROGRESS, *old))
    return life


async def _count(client: Redis, topic: str, *, counter: str, time: str, now_ms: int) -> int:
    count, _ = await _ask(
        client, ("HINCRBY", LOG, f"{topic}:{counter}", 1), ("HSET", LOG, f"{topic}:{time}", iso(now_ms))
    )
    return int(count)


async def _ask(client: Redis, *commands: Command) -> list[Any]:
    """The replies to these; by a pipeline, which a client of one server and that of a cluster take alike."""
    with redis_errors():
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute()
    return replies
