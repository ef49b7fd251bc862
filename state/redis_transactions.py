"""Many subjects' writes in one transaction: the quick way of a single server, where a script costs more than the write.

    WATCH the subjects' own keys, read their revisions        one round trip
    MULTI, HSET and HDEL of those that are as expected, EXEC  the other one

Somebody who writes one of the subjects in between makes the server refuse all of it; the script `write_subject.lua`
then tells subject by subject who was refused.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from hiredis import pack_command
from redis.asyncio import Redis

from detection.errors import DependencyError
from state.codec import Write
from state.counts_codec import Counted
from state.redis_exchange import Exchange, Exchanges, raise_first
from state.redis_pipeline import Command, Replicas

# What the script answers for a subject that has something else than a hash in a hash's place.
_NOT_WRITABLE: Final = b""
_MULTI: Final = pack_command(("MULTI",))
_EXEC: Final = pack_command(("EXEC",))


class Transactions:
    """Writes on the connections of a client of one server."""

    def __init__(self, client: Redis, replicas: Replicas) -> None:
        self._exchanges = Exchanges(client)
        self._replicas = replicas

    async def write(self, writes: Sequence[Write | Counted]) -> list[bool] | None:
        """Whether each was written, or refused for its revision; None where nothing was, and the script has to tell.

        DependencyError when the server does not answer; each of them may then be written.
        """
        return await self._exchanges.hold(lambda exchange: self._write(exchange, writes))

    async def _write(self, exchange: Exchange, writes: Sequence[Write | Counted]) -> list[bool] | None:
        own = [write.key for write in writes]
        if len(set(own)) < len(own):
            # The second write of a subject must see the first one's revision.
            return None
        keys = [write.keys for write in writes]
        asked = ("EVAL", _script(), sum(map(len, keys)), *(key for each in keys for key in each), *map(len, keys))
        replies = await exchange.ask([("WATCH", *own), asked])
        raise_first(replies)
        revisions = replies[1]
        is_due = [revision == write.expected_rev for revision, write in zip(revisions, writes, strict=True)]
        if not any(is_due) or _NOT_WRITABLE in revisions:
            raise_first(await exchange.ask([("UNWATCH",)]))
            return None if _NOT_WRITABLE in revisions else is_due
        commands = [_MULTI]
        for write, due in zip(writes, is_due, strict=True):
            if due:
                commands += write.commands
        commands.append(_EXEC)
        executed = len(commands) - 1
        if self._replicas.count:
            wait: Command = ("WAIT", self._replicas.count, self._replicas.within_ms)
            commands.append(pack_command(wait))
        replies = await exchange.ask_packed(commands)
        raise_first(replies)
        if replies[executed] is None:
            return None
        raise_first(replies[executed])
        self._require_replicas(replies[-1])
        return is_due

    def _require_replicas(self, reached: Any) -> None:
        wanted = self._replicas
        if wanted.count and reached < wanted.count:
            raise DependencyError(
                "redis", f"{reached} of {wanted.count} replicas had the write within {wanted.within_ms} ms"
            )


@cache
def _script() -> bytes:
    return files("state").joinpath("read_revisions.lua").read_bytes()
