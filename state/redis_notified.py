"""The notifier's memory in Redis (see `state.notified`): each step that reads and decides is one script."""

from collections.abc import Mapping
from typing import Final, Self

from redis.asyncio import Redis

from state.keys import NOTIFIED
from state.notified import Lease, Memory, decode
from state.redis_pipeline import (
    CLAIM_NOTIFYING,
    KEEP_NOTIFIED,
    RELEASE_NOTIFYING,
    Scripts,
    client_of,
    redis_errors,
    run_pipeline,
)

# Of one script call: what bounds its time in the server.
_FIELDS_AT_ONCE = 500

# By what the script answers.
_LEASES: Final[tuple[Lease, ...]] = ("other", "taken", "kept")


class RedisNotified:
    """A `state.notified.NotifiedStore`."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._scripts = Scripts(client)

    @classmethod
    def connect(cls, url: str, *, connections: int = 2, timeout_seconds: float = 5.0, retries: int = 3) -> Self:
        """With a small pool of its own; nothing is connected before it is used."""
        return cls(client_of(url, connections=connections, timeout_seconds=timeout_seconds, retries=retries))

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def claim(self, holder: str, *, for_ms: int) -> Lease:
        (answer,) = await self._scripts.run([(CLAIM_NOTIFYING, 1, NOTIFIED, holder, for_ms)])
        lease: Lease = _LEASES[answer]
        return lease

    async def release(self, holder: str) -> None:
        await self._scripts.run([(RELEASE_NOTIFYING, 1, NOTIFIED, holder)])

    async def recall(self) -> Memory:
        (found,) = await run_pipeline(self._client, [("HGETALL", NOTIFIED)])
        with redis_errors():
            if isinstance(found, Exception):
                raise found
        return decode(found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True)))

    async def keep(self, holder: str, changes: Mapping[bytes, bytes | None]) -> bool:
        names = list(changes)
        for start in range(0, len(names), _FIELDS_AT_ONCE):
            part = names[start : start + _FIELDS_AT_ONCE]
            removed = [name for name in part if changes[name] is None]
            kept = [each for name in part if (value := changes[name]) is not None for each in (name, value)]
            (answer,) = await self._scripts.run([(KEEP_NOTIFIED, 1, NOTIFIED, holder, len(removed), *removed, *kept)])
            if not answer:
                return False
        return True
