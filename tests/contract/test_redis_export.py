"""Whole subjects out of one Redis and into another, on one server and on a cluster."""

import pytest

from detection.subject import Subject
from state.export import OUTBOX, OWN
from state.keys import SUBJECTS, outbox_key, subject_key
from state.redis_export import RedisExport, Restore, fingerprint
from state.redis_store import RedisStore
from tests.contract.states import advance, biller, call_window, fields, model


@pytest.fixture(params=["redis", "cluster"])
def redis(request: pytest.FixtureRequest) -> RedisStore:
    store: RedisStore = request.getfixturevalue(f"{request.param}_store")
    return store


async def test_what_is_restored_into_an_empty_redis_is_what_was_read(redis: RedisStore) -> None:
    states = [biller("B1"), biller("B2", seed=2), model()]
    assert await redis.save(states) == []
    export = RedisExport(redis.client)
    before = await fields(redis)
    subjects = await redis.subjects()
    found = await export.read(subjects)
    assert await export.count() == len(found) == 3
    await redis.client.flushdb()
    assert await export.restore([Restore(one, parts, {}, 0) for one, parts in found.items()]) == []
    assert await fields(redis) == before
    assert await redis.subjects() == subjects
    assert set(await redis.load(subjects)) == set(subjects)


async def test_what_is_restored_takes_the_place_of_all_that_was_stored(redis: RedisStore) -> None:
    state = biller("B1", hours=60)
    subject = state.subject
    assert await redis.save([state]) == []
    export = RedisExport(redis.client)
    older = (await export.read([subject]))[subject]
    newest = max(state.windows)
    advance(state, {newest + hour: call_window(200_000, 210_000) for hour in range(1, 5)}, offset=9)
    assert await redis.save([state]) == []
    await redis.client.hset(subject_key(subject), "field-of-a-later-version", "1")
    newer = (await export.read([subject]))[subject]
    assert len(newer[OUTBOX]) > len(older[OUTBOX])

    assert await export.restore([Restore(subject, older, newer, state.rev)]) == []
    assert (await export.read([subject]))[subject] == older


async def test_who_has_written_meanwhile_is_not_written_over(redis: RedisStore) -> None:
    state, other = biller("B1"), biller("B2")
    assert await redis.save([state, other]) == []
    export = RedisExport(redis.client)
    found = await export.read([state.subject, other.subject])
    state.is_outdated = True
    assert await redis.save([state]) == []
    before = (await export.read([state.subject]))[state.subject]
    restores = [Restore(one, parts | {OWN: parts[OWN] | {b"rev": b"9"}}, parts, 1) for one, parts in found.items()]
    assert await export.restore(restores) == [state.subject]
    assert (await export.read([state.subject]))[state.subject] == before
    assert (await export.read([other.subject]))[other.subject][OWN][b"rev"] == b"9"


async def test_the_server_works_out_the_same_fingerprints_as_we_do_and_a_write_changes_one(redis: RedisStore) -> None:
    states = [biller("B1"), biller("B2", seed=2), model()]
    assert await redis.save(states) == []
    export = RedisExport(redis.client)
    subjects = [*await redis.subjects(), Subject.biller("nobody")]
    before = await export.fingerprints(subjects)
    assert before == {one: fingerprint(one, parts) for one, parts in (await export.read(subjects)).items()}
    assert len(set(before.values())) == 3
    await redis.client.delete(outbox_key(states[0].subject))
    states[1].is_outdated = True
    assert await redis.save(states[1:2]) == []
    after = await export.fingerprints(subjects)
    assert {one for one in before if before[one] != after[one]} == {states[0].subject, states[1].subject}


async def test_a_subject_that_is_only_listed_is_left_out(redis: RedisStore) -> None:
    await redis.client.zadd(SUBJECTS, {"biller:B1": 0})
    assert await RedisExport(redis.client).read([Subject.biller("B1")]) == {}


async def test_an_outbox_beyond_the_stack_of_a_script_is_restored(redis: RedisStore) -> None:
    state = biller("B1")
    assert await redis.save([state]) == []
    export = RedisExport(redis.client)
    parts = (await export.read([state.subject]))[state.subject]
    parts[OUTBOX] |= {b"field-%d" % number: b"x" for number in range(9_000)}
    assert await export.restore([Restore(state.subject, parts, parts, state.rev)]) == []
    assert (await export.read([state.subject]))[state.subject] == parts


async def test_hashes_that_belong_to_no_subject_come_along(redis: RedisStore) -> None:
    await redis.advance_clock(1_700_000_000_000)
    await redis.renew_log("calls", now_ms=0)
    export = RedisExport(redis.client)
    shared = await export.shared()
    assert set(shared) == {"clock", "log"}
    await redis.client.flushdb()
    await export.restore_shared("log", shared["log"])
    assert (await redis.log_lives())["calls"].life == 1
