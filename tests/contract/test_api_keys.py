"""One contract for API keys, in Redis, in a cluster and in memory; and how often those with a rate may be used."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from limits import RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.aio.strategies import FixedWindowRateLimiter
from redis.asyncio import Redis

from detection.errors import DependencyError
from state.api_keys import ApiKeys, MemoryApiKeys, new_key
from state.keys import API_KEYS
from state.redis_api_keys import RateCounts, RedisApiKeys
from state.redis_pipeline import client_of
from tests.contract.redis_servers import Cluster

KIM, KIMS = new_key("kim", ["read", "train"], subjects=["biller:own-*"], now_ms=1, expires_ms=2, per_second=3)
SAM, _ = new_key("sam", ["admin"], now_ms=1)


def url_of(request: pytest.FixtureRequest, of_one_server: str) -> str:
    if request.param != "cluster":
        return of_one_server
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.url


@pytest.fixture
async def client(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Redis]:
    found = client_of(url_of(request, redis_url), connections=2, timeout_seconds=5.0, retries=1)
    await found.flushdb()
    yield found
    await found.aclose()


servers = pytest.mark.parametrize("client", ["server", "cluster"], indirect=True)


@pytest.fixture
async def keys(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[ApiKeys]:
    if request.param == "memory":
        yield MemoryApiKeys()
        return
    client = client_of(url_of(request, redis_url), connections=2, timeout_seconds=5.0, retries=1)
    await client.flushdb()
    yield RedisApiKeys(client)
    await client.aclose()


@pytest.mark.parametrize("keys", ["memory", "server", "cluster"], indirect=True)
async def test_keys_are_kept_and_forgotten_by_their_id(keys: ApiKeys) -> None:
    assert await keys.all() == {}
    await keys.keep(KIM)
    await keys.keep(SAM)
    await keys.keep(KIM)
    assert await keys.all() == {KIM.id: KIM, SAM.id: SAM}
    assert [await keys.forget(KIM.id), await keys.forget(KIM.id)] == [True, False]
    assert await keys.all() == {SAM.id: SAM}


@servers
async def test_the_key_itself_is_nowhere_in_redis(client: Redis) -> None:
    await RedisApiKeys(client).keep(KIM)
    secret = KIMS.split("_", 2)[2].encode()
    assert secret.decode() not in repr(await client.hgetall(API_KEYS))


@servers
async def test_a_key_that_cannot_be_read_keeps_no_other_one_out(client: Redis) -> None:
    await RedisApiKeys(client).keep(KIM)
    await client.hset(API_KEYS, "abc", "{}")
    assert await RedisApiKeys(client).all() == {KIM.id: KIM}


@servers
async def test_a_count_without_an_end_gets_one(client: Redis) -> None:
    await client.set("tidemark:1:rate:kim", 7)
    assert await RateCounts(client).incr("kim", 60) == 8
    assert 0 < await client.ttl("tidemark:1:rate:kim") <= 60


@servers
async def test_a_rate_holds_over_all_who_count(client: Redis) -> None:
    limiters = [FixedWindowRateLimiter(RateCounts(client)) for _ in range(2)]
    item = RateLimitItemPerMinute(5)
    if time.time() % 60 > 55:
        # The window would end within the test.
        await asyncio.sleep(60 - time.time() % 60)
    taken = [await limiters[number % 2].hit(item, "kim") for number in range(8)]
    assert taken == [True] * 5 + [False] * 3
    assert await limiters[0].hit(item, "sam"), "each key has its own"


@servers
async def test_a_count_goes_with_its_window(client: Redis) -> None:
    await FixedWindowRateLimiter(RateCounts(client)).hit(RateLimitItemPerSecond(5), "kim")
    (name,) = [name async for name in client.scan_iter(match="tidemark:1:rate:*")]
    assert 0 < await client.ttl(name) <= 2


async def test_a_server_that_is_away_is_a_dependency_that_is_away() -> None:
    client = client_of("redis://127.0.0.1:1/0", connections=1, timeout_seconds=0.2, retries=0)
    for ask in (RedisApiKeys(client).all, lambda: RateCounts(client).incr("kim", 1)):
        with pytest.raises(DependencyError):
            await ask()
    await client.aclose()
