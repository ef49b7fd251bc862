"""Glances that are asked for together share a round trip, and nothing else."""

import asyncio

import pytest

from detection.errors import DependencyError
from detection.subject import Subject
from state.keys import series_key
from state.redis_store import RedisStore
from state.survey import lately_of
from tests.contract.states import biller, glanced
from tests.contract.test_redis_store import broken_server

SLUG = "error-rate"
B1 = Subject.biller("B1")


async def served(store: RedisStore) -> int:
    statistics = await store._client.info("stats")
    return int(statistics["total_reads_processed"])


async def test_many_at_once_are_each_answered_with_their_own(redis_store: RedisStore) -> None:
    states = [biller(f"B{number}", hours=2) for number in range(40)]
    await redis_store.save(states)
    before = await served(redis_store)
    found = await asyncio.gather(*(glanced(redis_store, state.subject, SLUG) for state in states))
    shared = await served(redis_store) - before
    for state, (fields, lately) in zip(states, found, strict=True):
        assert fields is not None
        assert fields["subject"] == str(state.subject)
        assert lately == lately_of(state.minutes)
    assert shared < len(states) / 2


async def test_a_glance_sees_what_was_written_before_it_was_asked_for(redis_store: RedisStore) -> None:
    earlier = [asyncio.create_task(glanced(redis_store, B1, SLUG)) for _ in range(10)]
    await asyncio.sleep(0)
    await redis_store.save([biller("B1")])
    fields, _ = await glanced(redis_store, B1, SLUG)
    assert fields is not None
    await asyncio.gather(*earlier)


async def test_one_that_fails_leaves_the_others_alone(redis_store: RedisStore) -> None:
    await redis_store.save([biller("B1")])
    await redis_store._client.set(series_key(Subject.biller("B2"), SLUG), "not a hash")
    good, bad = await asyncio.gather(
        *(glanced(redis_store, Subject.biller(one), SLUG) for one in ("B1", "B2")), return_exceptions=True
    )
    assert isinstance(good, tuple)
    assert isinstance(bad, DependencyError)
    assert "WRONGTYPE" in str(bad)


async def test_one_that_is_given_up_leaves_the_others_alone(redis_store: RedisStore) -> None:
    await redis_store.save([biller("B1")])
    given_up, kept = (asyncio.create_task(glanced(redis_store, B1, SLUG)) for _ in range(2))
    await asyncio.sleep(0)
    given_up.cancel()
    assert (await kept)[0] is not None
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_a_server_that_is_silent_fails_each_of_them_in_time(redis_store: RedisStore) -> None:
    async with broken_server(None) as url:
        store = RedisStore.connect(url, redis_store._policy, timeout_seconds=0.2, retries=0)
        async with asyncio.timeout(5):
            found = await asyncio.gather(
                *(glanced(store, Subject.biller(f"B{number}"), SLUG) for number in range(5)), return_exceptions=True
            )
        assert all(isinstance(one, DependencyError) for one in found)
        await store.aclose()
