"""What only the Redis store can get wrong: a server that forgets, hangs, refuses or goes away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from detection.errors import DependencyError, UnreadableStateError
from detection.subject import Subject
from state.keys import SUBJECTS, models_key, series_key, subject_key
from state.redis_store import RedisStore
from state.store import Reached
from tests.contract.states import POLICY, biller, fields, model

B1 = Subject.biller("B1")

LISTPACK = "hash-max-listpack-value"

DOCS = Path(__file__).parents[2] / "docs" / "redis.md"


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[str]:
    """The URL of a server that treats its connections in this way."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    finally:
        server.close()


@contextlib.asynccontextmanager
async def broken_server(answer: bytes | None) -> AsyncIterator[str]:
    """The URL of a server that answers everything with these bytes; None: with silence."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65_536):
            if answer is not None:
                writer.write(answer)
                await writer.drain()
        writer.close()

    async with listening(serve) as url:
        yield url


async def acl(store: RedisStore, *words: str) -> None:
    pipeline = store._client.pipeline(transaction=False)
    pipeline.execute_command("ACL", *words)
    await pipeline.execute()


async def test_a_server_that_forgot_the_scripts_is_given_them_again(redis_store: RedisStore) -> None:
    await redis_store.save([biller("B1")])
    await redis_store._client.script_flush()
    assert await redis_store.save([biller("B2"), biller("B3")]) == []
    await redis_store._client.script_flush()
    assert len(await redis_store.load([Subject.biller(one) for one in ("B1", "B2", "B3")])) == 3


async def test_more_subjects_than_fit_into_one_pipeline_are_all_written_and_read(redis_store: RedisStore) -> None:
    states = [biller(f"B{number}", hours=2) for number in range(600)]
    assert await redis_store.save(states) == []
    subjects = [state.subject for state in states]
    assert set(await redis_store.load(subjects)) == set(subjects)
    assert [head.subject for head in await redis_store.heads(subjects)] == subjects
    assert len(await redis_store.subjects(limit=1000)) == 600


async def test_a_repeated_write_whose_answer_was_lost_is_refused(redis_store: RedisStore) -> None:
    state, repeated = biller(), biller()
    await redis_store.save([state])
    before = await fields(redis_store)
    assert await redis_store.save([repeated]) == [B1]
    assert await fields(redis_store) == before
    loaded = (await redis_store.load([B1]))[B1]
    assert loaded.offsets == repeated.offsets


async def test_a_write_that_fails_half_way_can_be_repeated(redis_store: RedisStore) -> None:
    blocked = series_key(B1, "timeout-error-rate")
    await redis_store._client.set(blocked, "in the way")
    state = biller()
    with pytest.raises(DependencyError, match="WRONGTYPE"):
        await redis_store.save([state])
    assert await redis_store.heads([B1]) == []
    await redis_store._client.delete(blocked)
    assert await redis_store.save([state]) == []
    assert set((await redis_store.load([B1]))[B1].models) == set(state.models)


async def test_a_subject_is_listed_before_it_is_written(redis_store: RedisStore) -> None:
    await redis_store._client.set(series_key(B1, "error-rate"), "in the way")
    with pytest.raises(DependencyError):
        await redis_store.save([biller()])
    assert await redis_store.subjects() == [B1]
    assert await redis_store.heads([B1]) == []


async def test_a_metric_that_appears_while_a_model_is_read_is_read_too(redis_store: RedisStore) -> None:
    state = model()
    await redis_store.save([state])
    listed = await redis_store._slugs([state.subject])
    listed[state.subject].remove("drift")
    readings = []

    async def stale_list(subjects: list[Subject]) -> dict[Subject, list[str]]:
        readings.append(subjects)
        return listed if len(readings) == 1 else await RedisStore._slugs(redis_store, subjects)

    redis_store._slugs = stale_list  # type: ignore[method-assign,assignment]  # what another writer's timing does
    loaded = await redis_store.load([state.subject])
    assert set(loaded[state.subject].models) == {"drift", "prediction-accuracy"}
    assert len(readings) == 2


async def test_a_server_that_is_away_is_a_dependency_error() -> None:
    store = RedisStore.connect("redis://127.0.0.1:1/0", POLICY, timeout_seconds=0.2, retries=0)
    calls = [
        store.ping(),
        store.load([B1]),
        store.save([biller()]),
        store.heads([B1]),
        store.subjects(),
        store.answers([B1]),
        store.lately([B1]),
        store.glance(B1, "error-rate"),
        store.outbox([B1]),
        store.relayed({B1: [1]}),
        store.clock(),
        store.advance_clock(1),
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [DependencyError] * len(calls)
    assert all(isinstance(result, DependencyError) and result.dependency == "redis" for result in results)
    await store.aclose()


@pytest.mark.parametrize("answer", [None, b"-ERR no\r\n", b"-LOADING Loading\r\n", b"not redis at all\r\n"])
async def test_a_server_that_answers_nonsense_or_never_is_a_dependency_error(answer: bytes | None) -> None:
    async with broken_server(answer) as url:
        store = RedisStore.connect(url, POLICY, timeout_seconds=0.1, retries=1)
        with pytest.raises(DependencyError):
            await store.ping()
        with pytest.raises(DependencyError):
            await store.save([biller()])
        await store.aclose()


async def test_one_unreadable_subject_is_named_as_such_among_many(redis_store: RedisStore) -> None:
    states = [biller(f"B{number}", hours=2) for number in range(300)]
    await redis_store.save(states)
    await redis_store._client.hset(subject_key(Subject.biller("B280")), "schema", "9")
    with pytest.raises(UnreadableStateError, match="B280"):
        await redis_store.load([state.subject for state in states])


async def test_a_series_takes_no_more_than_five_kilobytes(redis_store: RedisStore) -> None:
    states = [biller(f"B{number}", hours=400, seed=number) for number in range(5)]
    client = redis_store._client
    before = (await client.config_get(LISTPACK))[LISTPACK]
    assert before is not None
    # As docs/redis.md tells operators to set it.
    await client.config_set(LISTPACK, 8192)
    try:
        await redis_store.save(states)
        used = [
            await client.memory_usage(key, samples=0) or 0
            for state in states
            for key in (
                subject_key(state.subject),
                models_key(state.subject),
                *(series_key(state.subject, slug) for slug in state.models),
            )
        ]
    finally:
        await client.config_set(LISTPACK, before)
    assert sum(used) / (3 * len(states)) <= 5_000


def documented_reader() -> list[str]:
    """The words of the documented ACL line after the user's name."""
    (line,) = (line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("ACL SETUSER"))
    return line.split()[3:]


async def test_the_documented_operator_can_read_everything_and_change_nothing(
    redis_store: RedisStore, redis_url: str
) -> None:
    await redis_store.save([biller()])
    await redis_store._client.set("somebody-else", "1")
    await acl(redis_store, "SETUSER", "operator", *documented_reader())
    try:
        operator = Redis.from_url(redis_url.replace("redis://", "redis://operator:PASSWORD@"))
        assert await operator.hgetall(subject_key(B1))
        assert await operator.hget(series_key(B1, "error-rate"), "threshold")
        assert await operator.zrange(SUBJECTS, 0, -1) == [b"biller:B1"]
        assert await operator.info("memory")
        for refused in (
            operator.hset(subject_key(B1), "rev", "9"),
            operator.delete(subject_key(B1)),
            operator.expire(subject_key(B1), 1),
            operator.get("somebody-else"),
            operator.flushdb(),
            operator.eval("return redis.call('DEL', KEYS[1])", 1, subject_key(B1)),
            operator.keys("*"),
            operator.config_get("*"),
        ):
            with pytest.raises(NoPermissionError):
                await refused
        await operator.aclose()
    finally:
        await acl(redis_store, "DELUSER", "operator")
    assert (await redis_store.load([B1]))[B1].rev == 1


async def test_a_write_that_is_gone_before_its_progress_was_said_is_noticed(redis_store: RedisStore) -> None:
    assert await redis_store.advance_progress({"kafka/calls/0": 0}, {"kafka/calls/0": Reached(5)}) == {
        "kafka/calls/0": 0
    }
    states = [biller(f"B{number}", hours=2) for number in range(300)]
    assert await redis_store.save(states) == []
    assert await redis_store.save(states) == []
    # The server that took over never had the second write of the last of them; its progress is what it was.
    await redis_store._client.hset(subject_key(states[-1].subject), "rev", "1")
    lost = await redis_store.advance_progress({"kafka/calls/0": 5}, {"kafka/calls/0": Reached(9)})
    assert lost == {"kafka/calls/0": -1}
    assert (await redis_store.progress())["kafka/calls/0"].offset == 5
    # It was said once; what is written from now on is what counts.
    assert await redis_store.advance_progress({"kafka/calls/0": 5}, {"kafka/calls/0": Reached(9)}) == {
        "kafka/calls/0": 5
    }
