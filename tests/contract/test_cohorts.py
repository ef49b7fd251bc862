"""The hash of the cohorts, over each store."""

import asyncio

import pytest

from detection.catalogue import AVERAGE_RESPONSE_TIME, ERROR_RATE
from detection.cohorts import Cohort
from detection.errors import UnreadableStateError
from state.keys import COHORTS
from state.memory_store import MemoryStore
from tests.cohorts import COVERAGE, Truth, census
from tests.contract.states import Store, fields

NOW = 1_763_755_200_000
MINUTE = 60_000


def learned(seed: int = 1) -> list[Cohort]:
    counted = census(AVERAGE_RESPONSE_TIME, Truth(), series=12, seed=seed)
    counted.add_judged(ERROR_RATE.slug, 5.0, 1000, 0.0125)
    return counted.cohorts(COVERAGE)


async def set_field(store: Store, name: str, value: str) -> None:
    if isinstance(store, MemoryStore):
        store.hashes[COHORTS][name.encode()] = value.encode()
    else:
        await store._client.hset(COHORTS, name, value)


async def test_before_the_first_refresh_there_are_no_cohorts(store: Store) -> None:
    assert await store.cohorts() == []


async def test_what_is_read_is_what_was_kept(store: Store) -> None:
    cohorts = learned()
    await store.keep_cohorts(cohorts, now_ms=NOW, due_ms=NOW + MINUTE)
    assert sorted(await store.cohorts(), key=lambda one: one.name) == sorted(cohorts, key=lambda one: one.name)


async def test_keeping_forgets_what_is_no_cohort_any_more(store: Store) -> None:
    await store.keep_cohorts(learned(), now_ms=NOW, due_ms=NOW + MINUTE)
    left = learned(seed=2)[:1]
    await store.keep_cohorts(left, now_ms=NOW, due_ms=NOW + MINUTE)
    assert await store.cohorts() == left
    assert set((await fields(store))[COHORTS]) == {b"due_ms", b"refreshed", left[0].name.encode()}


async def test_one_worker_refreshes_when_the_time_has_come(store: Store) -> None:
    def claim(now_ms: int) -> "asyncio.Task[bool]":
        return asyncio.ensure_future(store.claim_cohorts(now_ms=now_ms, due_ms=now_ms + MINUTE))

    claimed = [await claim(NOW + after) for after in (0, 1, MINUTE - 1, MINUTE, MINUTE + 1)]
    assert claimed == [True, False, False, True, False]
    together = await asyncio.gather(*(claim(NOW + 5 * MINUTE) for _ in range(8)))
    assert sum(together) == 1


async def test_a_claim_leaves_the_cohorts_as_they_are(store: Store) -> None:
    await store.keep_cohorts(learned(), now_ms=NOW, due_ms=NOW + MINUTE)
    before = await store.cohorts()
    assert await store.claim_cohorts(now_ms=NOW + MINUTE, due_ms=NOW + 2 * MINUTE)
    assert sorted(await store.cohorts(), key=lambda one: one.name) == sorted(before, key=lambda one: one.name)


async def test_a_due_time_from_a_clock_that_was_years_ahead_does_not_hold(store: Store) -> None:
    await store.keep_cohorts(learned(), now_ms=NOW, due_ms=10 * NOW)
    assert await store.claim_cohorts(now_ms=NOW, due_ms=NOW + MINUTE)


async def test_a_field_that_nobody_can_have_kept_is_named(store: Store) -> None:
    await store.keep_cohorts(learned(), now_ms=NOW, due_ms=NOW + MINUTE)
    for damaged in ("{", "{}", '{"judged": 1, "measured_exceedance": null, "scale": "log"}', "7"):
        await set_field(store, "drift/any", damaged)
        with pytest.raises(UnreadableStateError, match="tidemark:1:cohorts drift/any: damaged"):
            await store.cohorts()
