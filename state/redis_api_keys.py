"""API keys in one hash of Redis, and how often those with a rate were used."""

from typing import Any, Final

from limits.aio.storage import Storage
from redis.asyncio import Redis

from state.api_keys import ApiKey, decode_keys, encode_key
from state.keys import API_KEYS, rate_key
from state.redis_pipeline import Command, redis_errors, run_pipeline


class RedisApiKeys:
    """A `state.api_keys.ApiKeys`."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def all(self) -> dict[str, ApiKey]:
        found = await _ask(self._client, ("HGETALL", API_KEYS))
        return decode_keys(found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True)))

    async def keep(self, key: ApiKey) -> None:
        await _ask(self._client, ("HSET", API_KEYS, key.id, encode_key(key)))

    async def forget(self, key_id: str) -> bool:
        return bool(await _ask(self._client, ("HDEL", API_KEYS, key_id)))


class RateCounts(Storage):
    """Where `limits` counts: over the connections that are there, whatever stands behind them.

    A count is a key of its own that goes with its window.
    """

    STORAGE_SCHEME: Final = None  # type: ignore[misc]  # never made from a URL

    def __init__(self, client: Redis) -> None:
        super().__init__()
        self._client = client

    @property
    def base_exceptions(self) -> type[Exception]:
        return Exception

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        name = rate_key(key)
        # A count that stayed for good would lock its key out: whoever counts next gives it an end, if it has none.
        count, made = await run_pipeline(self._client, [("INCRBY", name, amount), ("EXPIRE", name, expiry, "NX")])
        with redis_errors():
            for one in (made, count):
                if isinstance(one, Exception):
                    raise one
        return int(count)

    async def get(self, key: str) -> int:
        return int(await _ask(self._client, ("GET", rate_key(key))) or 0)

    async def get_expiry(self, key: str) -> float:
        return float(await _ask(self._client, ("EXPIRETIME", rate_key(key))))

    async def check(self) -> bool:
        return bool(await _ask(self._client, ("PING",)))

    async def reset(self) -> int | None:
        return None

    async def clear(self, key: str) -> None:
        await _ask(self._client, ("DEL", rate_key(key)))


async def _ask(client: Redis, command: Command) -> Any:
    (found,) = await run_pipeline(client, [command])
    with redis_errors():
        if isinstance(found, Exception):
            raise found
    return found
