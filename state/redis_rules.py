"""The book of rules in Redis (see `state.rule_store`): one hash, changed in one step by a script."""

from collections.abc import Collection
from typing import Any, Final, Self

from redis.asyncio import Redis

from state.keys import RULES
from state.redis_pipeline import NO_REPLICAS, Command, Replicas, Scripts, client_of, redis_errors, run_pipeline
from state.rule_store import (
    CHANGE,
    REVISION,
    Revision,
    RuleChange,
    StoredBook,
    decode_book,
    decode_changes,
    encode_revision,
)

_CHANGE_RULES: Final = "change_rules.lua"


class RedisRules:
    """A `state.rule_store.RuleStore`."""

    def __init__(self, client: Redis, *, replicas: Replicas = NO_REPLICAS) -> None:
        self._client = client
        self._scripts = Scripts(client, replicas=replicas)

    @classmethod
    def connect(cls, url: str, *, connections: int = 2, timeout_seconds: float = 5.0, retries: int = 3) -> Self:
        """With a small pool of its own; nothing is connected before it is used."""
        return cls(client_of(url, connections=connections, timeout_seconds=timeout_seconds, retries=retries))

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def rules(self) -> StoredBook:
        return decode_book(await self._fields())

    async def revision(self) -> int:
        return int(await self._ask(("HGET", RULES, REVISION)) or 0)

    async def revise(self, revision: Revision) -> bool:
        pairs = [each for pair in encode_revision(revision).items() for each in pair]
        removed = revision.removed
        expected = revision.book.revision - 1
        (answer,) = await self._scripts.run([(_CHANGE_RULES, 1, RULES, expected, len(removed), *removed, *pairs)])
        return bool(answer)

    async def waiting(self) -> list[RuleChange]:
        return decode_changes(await self._fields())

    async def audited(self, revisions: Collection[int]) -> None:
        if revisions:
            await self._ask(("HDEL", RULES, *(CHANGE + b"%010d" % one for one in sorted(revisions))))

    async def _fields(self) -> dict[bytes, bytes]:
        found = await self._ask(("HGETALL", RULES))
        return found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))

    async def _ask(self, command: Command) -> Any:
        (found,) = await run_pipeline(self._client, [command])
        with redis_errors():
            if isinstance(found, Exception):
                raise found
        return found
