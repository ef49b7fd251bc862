"""What the notifier remembers, and the lease of the one worker that notifies, over each store."""

import asyncio

import pytest

from detection.rules.notice import notice_of
from detection.rules.platform import PlatformAlert
from detection.subject import Subject
from state.alerting import AlertingHints, MemoryAlerting, RedisAlerting
from state.keys import NOTIFIED
from state.notified import MemoryNotified, Notified, NotifiedStore, Told, encode, notified_field, platform_field
from state.redis_notified import RedisNotified
from tests.alerts import alert_of
from tests.worker import eventually

NOW = 1_763_755_200_000
HOUR_MS = 3_600_000
B1, B2 = Subject.biller("B1"), Subject.biller("B2")


@pytest.fixture(params=["memory", "redis", "cluster"])
def store(request: pytest.FixtureRequest) -> NotifiedStore:
    if request.param == "memory":
        return MemoryNotified()
    # The fixture of the state store has emptied the server.
    return RedisNotified(request.getfixturevalue(f"{request.param}_store")._client)


@pytest.fixture(params=["memory", "redis", "cluster"])
def hints(request: pytest.FixtureRequest) -> AlertingHints:
    if request.param == "memory":
        return MemoryAlerting()
    return RedisAlerting(request.getfixturevalue(f"{request.param}_store")._client)


def notified(subject: Subject = B1) -> Notified:
    notice = notice_of(alert_of(subject, "error-rate"), description="Too many of them, “always”.")
    return Notified(notice, {"pager": Told("opened", 7.25, NOW), "chat": Told("passed", 7.25, NOW)}, gone_ms=NOW + 1)


def platform() -> PlatformAlert:
    return PlatformAlert(
        slug="error-rate",
        since_ms=NOW,
        opened_ms=NOW + 1,
        billers=7,
        active=20,
        told=7,
        severity="critical",
        worst=(("B1", 9.0), ("B2", 7.25)),
    )


async def test_what_is_recalled_is_what_was_kept(store: NotifiedStore) -> None:
    assert (await store.recall()).notified == {}
    assert await store.claim("one", for_ms=HOUR_MS) == "taken"
    one, other = notified(B1), notified(B2)
    assert await store.keep(
        "one",
        {
            notified_field(one.notice.id): encode(one),
            notified_field(other.notice.id): encode(other),
            platform_field("error-rate"): encode(platform()),
        },
    )
    memory = await store.recall()
    assert memory.notified == {one.notice.id: one, other.notice.id: other}
    assert memory.platforms == {"error-rate": platform()}
    assert await store.keep("one", {notified_field(one.notice.id): None, platform_field("error-rate"): None})
    memory = await store.recall()
    assert memory.notified == {other.notice.id: other}
    assert memory.platforms == {}


async def test_one_worker_has_the_lease_until_it_gives_it_back(store: NotifiedStore) -> None:
    names = [f"worker {at}" for at in range(8)]
    claimed = dict(
        zip(names, await asyncio.gather(*(store.claim(name, for_ms=HOUR_MS) for name in names)), strict=True)
    )
    (holder,) = [name for name in names if claimed[name] != "other"]
    assert claimed[holder] == "taken"
    assert await store.claim(holder, for_ms=HOUR_MS) == "kept"
    await store.release("somebody else")
    assert await store.claim("late", for_ms=HOUR_MS) == "other"
    await store.release(holder)
    assert await store.claim("late", for_ms=HOUR_MS) == "taken"
    assert await store.claim(holder, for_ms=HOUR_MS) == "other"


async def test_a_lease_that_is_not_prolonged_goes_to_another_worker(store: NotifiedStore) -> None:
    assert await store.claim("gone", for_ms=600) == "taken"
    assert await store.claim("next", for_ms=600) == "other"

    async def missing() -> str:
        return "" if await store.claim("next", for_ms=600) == "taken" else "the lease"

    await eventually(missing, within_seconds=10)


async def test_a_lease_that_ends_later_than_any_can_does_not_hold(store: NotifiedStore) -> None:
    assert await store.claim("before the clock was set back", for_ms=1000 * HOUR_MS) == "taken"
    assert await store.claim("after", for_ms=1000) == "taken"


async def test_who_lost_the_lease_cannot_overwrite_what_its_next_holder_keeps(store: NotifiedStore) -> None:
    one = notified()
    name = notified_field(one.notice.id)
    assert not await store.keep("nobody", {name: encode(one)})
    assert await store.claim("old", for_ms=1000 * HOUR_MS) == "taken"
    assert await store.keep("old", {name: encode(one)})
    assert await store.claim("new", for_ms=1000) == "taken"
    assert not await store.keep("old", {name: None})
    assert (await store.recall()).notified == {one.notice.id: one}


async def test_more_is_kept_than_fits_into_one_step(store: NotifiedStore) -> None:
    assert await store.claim("one", for_ms=HOUR_MS) == "taken"
    many = {notified_field(f"alert {at}"): encode(notified()) for at in range(1234)}
    assert await store.keep("one", many)
    assert len((await store.recall()).notified) == 1234
    assert await store.keep("one", dict.fromkeys(many))
    assert (await store.recall()).notified == {}


@pytest.mark.parametrize("value", [b"{", b"{}", b"7", b'{"notice": {}, "targets": {}}', b"\xff"])
async def test_a_damaged_field_is_named_and_hides_no_other(store: NotifiedStore, value: bytes) -> None:
    one = notified()
    assert await store.claim("one", for_ms=HOUR_MS) == "taken"
    changes: dict[bytes, bytes | None] = {b"biller:B2/x": value, platform_field("x"): value}
    assert await store.keep("one", {**changes, notified_field(one.notice.id): encode(one)})
    memory = await store.recall()
    assert memory.notified == {one.notice.id: one}
    assert set(memory.damaged) == set(changes)
    assert b"lease" not in memory.damaged


async def test_a_person_reads_who_notifies(redis_store: "object") -> None:
    client = redis_store._client  # type: ignore[attr-defined]  # the store's fixture, for its connection
    assert await RedisNotified(client).claim('worker "1"', for_ms=1000) == "taken"
    lease = (await client.hget(NOTIFIED, "lease")).decode()
    assert lease.startswith('{"holder":"worker \\"1\\"","until":1')
    assert "e+" not in lease


async def test_hints_come_back_with_those_first_that_are_longest_known(hints: AlertingHints) -> None:
    assert await hints.hinted() == {}
    await hints.hint([B2], now_ms=NOW + 1)
    await hints.hint([B1], now_ms=NOW)
    assert list((await hints.hinted()).items()) == [(B1, NOW), (B2, NOW + 1)]


async def test_a_subject_is_forgotten_only_if_nobody_hinted_again_since(hints: AlertingHints) -> None:
    await hints.hint([B1, B2], now_ms=NOW)
    seen = await hints.hinted()
    await hints.hint([B1], now_ms=NOW)  # In the same millisecond, as far as the worker's clock can tell.
    await hints.forget(seen)
    left = await hints.hinted()
    assert list(left) == [B1]
    await hints.forget(left)
    assert await hints.hinted() == {}


async def test_thousands_of_hints_are_all_found(hints: AlertingHints) -> None:
    many = [Subject.model("Llama", f"v{at}") for at in range(2500)]
    await hints.hint(many, now_ms=NOW)
    assert set(await hints.hinted()) == set(many)
    await hints.forget(await hints.hinted())
    assert await hints.hinted() == {}
