"""Which dead letters were sent back to their topic: a mark each in Redis, so that none is sent twice by mistake.

    HGETALL tidemark:1:replayed    calls/3/120:9f2c4e6ab1d07735 → {"letter":"0/17","state":"sent","at":"2026-…"}

A mark is set before the letter is sent, `sending`, which also keeps two who send at once apart, and again when the
broker has it, `sent`. A letter whose sender was killed in between stays `sending`: nobody knows whether its topic has
it, so it is sent again only by somebody who says so. The header of the record (`state.dead_letters.REPLAYED_HEADER`)
tells who wants to look.

Marks go with the letters: those of letters that retention has taken out of the topic are deleted when others are sent.
Those of letters behind the ones that were looked at are not: somebody else may be sending them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import orjson
from redis.asyncio import Redis

from state.dead_letters import Letter
from state.keys import REPLAYED
from state.redis_pipeline import Command, redis_errors, run_pipeline

Mark = Literal["sending", "sent"]

_AT_ONCE: Final = 500


class Replayed:
    """The marks; DependencyError when Redis does not answer."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def marks(self, letters: Sequence[Letter]) -> list[Mark | None]:
        """What is marked of each letter, None where nothing is."""
        if not letters:
            return []
        (values,) = await self._ask([("HMGET", REPLAYED, *(one.identity for one in letters))])
        return [None if value is None else _state(value) for value in values]

    async def claim(self, letters: Sequence[Letter], *, at: str) -> list[bool]:
        """Mark those as being sent that have no mark; whether each is the caller's to send. Of twins, the first is."""
        values = [("HSETNX", REPLAYED, one.identity, _mark(one, "sending", at)) for one in letters]
        return [bool(reply) for reply in await self._ask(values)]

    async def set(self, letters: Iterable[Letter], mark: Mark, *, at: str) -> None:
        """Mark these, whatever mark they have."""
        flat = [each for one in letters for each in (one.identity, _mark(one, mark, at))]
        if flat:
            await self._ask([("HSET", REPLAYED, *flat)])

    async def forget_gone(self, beginnings: Mapping[int, int]) -> int:
        """Delete the marks of letters before the first of their partition: the topic has them no more. How many."""
        gone: list[bytes] = []
        cursor = 0
        while True:
            ((after, page),) = await self._ask([("HSCAN", REPLAYED, cursor, "COUNT", _AT_ONCE)])
            fields = page if isinstance(page, dict) else dict(zip(page[::2], page[1::2], strict=True))
            gone += [name for name, value in fields.items() if _is_gone(beginnings, value)]
            cursor = int(after)
            if not cursor:
                break
        for start in range(0, len(gone), _AT_ONCE):
            await self._ask([("HDEL", REPLAYED, *gone[start : start + _AT_ONCE])])
        return len(gone)

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        replies = await run_pipeline(self._client, commands)
        with redis_errors():
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies


def _mark(letter: Letter, mark: Mark, at: str) -> bytes:
    return orjson.dumps({"letter": letter.place, "state": mark, "at": at})


def _state(value: bytes) -> Mark:
    # What nobody can have written is taken for what keeps a letter from being sent.
    return "sent" if b'"sent"' in value else "sending"


def _is_gone(beginnings: Mapping[int, int], value: bytes) -> bool:
    try:
        partition, offset = map(int, orjson.loads(value)["letter"].split("/"))
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return offset < beginnings.get(partition, 0)
