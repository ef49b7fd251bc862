"""What is published of many subjects, read from Redis in one question: however it is kept, and whatever goes wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from detection.errors import DependencyError
from detection.subject import Subject
from state.as_stored import StoredTexts
from state.keys import series_key
from state.redis_store import RedisStore
from tests.contract.states import POLICY, biller
from tests.contract.test_redis_store import LISTPACK, broken_server, listening

B1 = Subject.biller("B1")
SERIES_OF_A_BILLER = 3


def everything(texts: StoredTexts) -> list[object]:
    return [texts.one(i) for i in range(len(texts.subjects))]


async def test_a_hash_that_is_kept_in_no_order_is_one_text_all_the_same(redis_store: RedisStore) -> None:
    client = redis_store._client
    before = (await client.config_get(LISTPACK))[LISTPACK]
    assert before is not None
    found = []
    try:
        for longest in (8192, 8):
            await client.config_set(LISTPACK, longest)
            await client.flushdb()
            states = [biller(f"B{number}", seed=number) for number in range(20)]
            assert await redis_store.save(states) == []
            encodings = {await client.object("encoding", series_key(B1, "error-rate"))}
            assert encodings == {b"listpack" if longest > 8 else b"hashtable"}
            found.append(await redis_store.as_stored([state.subject for state in states]))
    finally:
        await client.config_set(LISTPACK, before)
    for texts in found:
        assert not texts.others
        assert len(texts.slugs) == SERIES_OF_A_BILLER * len(texts.subjects)
    assert everything(found[0]) == everything(found[1])


async def test_more_than_a_connection_carries_at_a_time_is_read_whole(redis_store: RedisStore) -> None:
    states = [biller(f"B{number}", hours=3, seed=number) for number in range(400)]
    await redis_store.save(states)
    subjects = [state.subject for state in states]
    nobody = Subject.biller("nobody")
    texts = await redis_store.as_stored([*subjects, nobody])
    assert sum(len(texts.text(j)) for j in range(len(texts.slugs))) > 2**19
    one_by_one = [
        (await redis_store.as_stored([subject])).one(0) for subject in (*subjects[:3], *subjects[-3:], nobody)
    ]
    each = everything(texts)
    assert [*each[:3], *each[-4:]] == one_by_one


async def test_a_series_that_is_no_hash_is_an_error_and_the_connection_goes_on(redis_store: RedisStore) -> None:
    await redis_store.save([biller("B1"), biller("B2")])
    subjects = [B1, Subject.biller("B2")]
    expected = everything(await redis_store.as_stored(subjects))
    blocked = series_key(Subject.biller("B3"), "error-rate")
    await redis_store._client.set(blocked, "not a hash")
    for _ in range(3):
        with pytest.raises(DependencyError, match="WRONGTYPE"):
            await redis_store.as_stored([*subjects, Subject.biller("B3")])
        assert everything(await redis_store.as_stored(subjects)) == expected


async def test_one_that_is_given_up_leaves_no_reply_to_the_next(redis_store: RedisStore) -> None:
    states = [biller(f"B{number}", hours=2) for number in range(200)]
    await redis_store.save(states)
    subjects = [state.subject for state in states]
    expected = everything(await redis_store.as_stored(subjects))
    for turns in range(1, 12):
        given_up = asyncio.create_task(redis_store.as_stored(list(reversed(subjects))))
        for _ in range(turns):
            await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        assert everything(await redis_store.as_stored(subjects)) == expected


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="nothing"),
        pytest.param(b"-ERR no\r\n", id="an error"),
        pytest.param(b"not redis at all\r\n", id="nonsense"),
        pytest.param(4 * b"$-1\r\n", id="fewer replies"),
        pytest.param(b"$-1\r\n*2\r\n$6\r\nschema\r\n$1\r\n", id="half a reply"),
    ],
)
async def test_a_server_that_does_not_answer_in_full_is_a_dependency_error(answer: bytes | None) -> None:
    async with broken_server(answer) as url:
        store = RedisStore.connect(url, POLICY, timeout_seconds=0.2, retries=1)
        async with asyncio.timeout(5):
            with pytest.raises(DependencyError):
                await store.as_stored([B1, Subject.biller("B2")])
        await store.aclose()


@asynccontextmanager
async def verbose_server(answer: bytes) -> AsyncIterator[str]:
    """The URL of a server that answers in this way what is no greeting."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while asked := await reader.read(65_536):
            writer.write(asked.count(b"HELLO") * b"%1\r\n$5\r\nproto\r\n:3\r\n")
            writer.write(asked.count(b"MAINT_NOTIFICATIONS") * b"-ERR unknown\r\n")
            writer.write(asked.count(b"SETINFO") * b"+OK\r\n" + asked.count(b"PING") * b"+PONG\r\n")
            if b"HGETALL" in asked:
                writer.write(answer)
            await writer.drain()
        writer.close()

    async with listening(serve) as url:
        yield url


async def test_a_server_that_says_more_than_it_was_asked_is_a_dependency_error(redis_store: RedisStore) -> None:
    expected = everything(await redis_store.as_stored([B1]))
    answer = b"$-1\r\n" + SERIES_OF_A_BILLER * b"*0\r\n"
    async with verbose_server(answer) as url:
        store = RedisStore.connect(url, POLICY, timeout_seconds=0.5, retries=0)
        assert everything(await store.as_stored([B1])) == expected
        await store.aclose()
    async with verbose_server(answer + b"$-1\r\n") as url:
        store = RedisStore.connect(url, POLICY, timeout_seconds=0.5, retries=0)
        with pytest.raises(DependencyError, match="more than it was asked"):
            await store.as_stored([B1])
        await store.aclose()
