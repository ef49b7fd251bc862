"""What `/pipeline` says over the real broker, store and history, and over servers that never answer."""

import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from api import pipeline
from api.app import create_app
from api.event_producer import ensure_topics, started_producer
from local.stack import Stack
from settings import Settings
from state.dead_letters import TOPIC
from state.migrate import migrate
from state.redis_store import RedisStore
from state.store import Reached
from stream.dead_letters import of_rejected
from stream.decoding import Rejected

# A database of our own on the shared server.
DATABASE = 9
# A good answer comes within a second; a machine that does other things as well takes its time for the rest.
WITHIN_SECONDS = 2.5


@pytest.fixture
def settings(stack: Stack, stack_settings: Settings) -> Settings:
    migrate(stack.postgres.url)
    url = stack.valkey.url.rsplit("/", 1)[0] + f"/{DATABASE}"
    return Settings(redis_url=url, clock="events", kafka_log_id=f"log-{uuid4().hex}")


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_KEPT_SECONDS", -1.0)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tidemark") as client,
    ):
        yield client


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    async with Redis.from_url(settings.redis_url.get_secret_value()) as client:
        await client.flushdb()
        yield client


@dataclass(frozen=True, slots=True)
class Refused:
    """A record of the topic `calls` that is none."""

    offset: int
    value: bytes
    key: bytes | None = b"B1"


@contextmanager
def silence() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def look(client: httpx.AsyncClient) -> Any:
    started = time.monotonic()
    response = await client.get("/pipeline")
    assert time.monotonic() - started < WITHIN_SECONDS
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_lag_of_each_partition_is_in_records_also_where_a_batch_holds_many(
    settings: Settings, redis: Redis
) -> None:
    call = {"biller_id": "B1", "timestamp": 1_763_755_200_000, "latency_ms": 5, "outcome": "ok"}
    lines = b"\n".join(orjson.dumps(call) for _ in range(300))
    async with serving(settings) as client:
        posted = await client.post("/events/calls", content=lines, headers={"content-type": "application/x-ndjson"})
        assert posted.status_code == 202, posted.text
        calls = (await look(client))["topics"][0]
        fullest = max(calls["partitions"], key=lambda one: one["lag"])
        assert fullest["lag"] >= 300
        store = RedisStore.connect(settings.redis_url.get_secret_value(), settings.policy())
        source = f"{settings.kafka_log_id}/calls/{fullest['partition']}"
        await store.advance_progress({source: 0}, {source: Reached(fullest["end"] - 3)})
        await store.aclose()
        found = await look(client)
    after = {one["partition"]: one for one in found["topics"][0]["partitions"]}[fullest["partition"]]
    assert after == fullest | {"reached": fullest["end"] - 3, "lag": 3}
    assert len(found["topics"][0]["partitions"]) == settings.kafka_partitions
    assert found["dependencies"] == {"kafka": "up", "redis": "up", "postgres": "up"}
    assert found["reasons"] == {}


async def test_what_a_worker_refused_is_shown_with_where_it_came_from(settings: Settings, redis: Redis) -> None:
    await ensure_topics(settings, [TOPIC])
    producer, _ = await started_producer(settings.brokers(), linger_ms=5)
    try:
        async with serving(settings) as client:
            before = (await look(client))["dead_letters"]["records"]
            for number in range(30):
                refused = Refused(number, f"no call {number}".encode())
                letter = of_rejected("calls", 1, Rejected(refused, "is no JSON"))
                await producer.send_and_wait(TOPIC, letter.as_json())
            await producer.send_and_wait(TOPIC, b"\xff no letter")
            letters = (await client.get("/pipeline/dead-letters?limit=10")).json()["dead_letters"]
            found = await look(client)
    finally:
        await producer.stop()
    assert found["dead_letters"]["records"] == before + 31
    assert letters[0]["reason"] == "unreadable"
    assert [one["origin"] for one in letters[1:]] == [
        {"topic": "calls", "partition": 1, "offset": number} for number in range(29, 20, -1)
    ]
    assert (letters[1]["reason"], letters[1]["detail"]) == ("invalid", "is no JSON")
    assert letters[1]["excerpt"] == "no call 29"


async def test_servers_that_never_answer_are_named_and_not_waited_for(settings: Settings) -> None:
    async with AsyncExitStack() as stack:
        ports = [stack.enter_context(silence()) for _ in range(3)]
        silent = settings.model_copy(
            update={
                "kafka_brokers": f"127.0.0.1:{ports[0]}",
                "redis_url": SecretStr(f"redis://127.0.0.1:{ports[1]}/0"),
                "postgres_url": SecretStr(f"postgresql://postgres@127.0.0.1:{ports[2]}/postgres"),
            }
        )
        client = await stack.enter_async_context(serving(silent))
        found = await look(client)
    assert found["dependencies"] == dict.fromkeys(("kafka", "redis", "postgres"), "no answer in time")
    assert {found[part] for part in ("clock", "topics", "dead_letters", "series", "accepted")} == {None}


async def test_servers_that_are_not_there_are_named(settings: Settings) -> None:
    gone = settings.model_copy(
        update={
            "kafka_brokers": "127.0.0.1:1",
            "redis_url": SecretStr("redis://127.0.0.1:1/0"),
            "postgres_url": SecretStr("postgresql://postgres@127.0.0.1:1/postgres"),
        }
    )
    async with serving(gone) as client:
        found = await look(client)
    assert "up" not in found["dependencies"].values()
    assert found["topics"] is None
