"""The API over the real broker, store and history: what only they can prove."""

import asyncio
import gzip
import math
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import httpx
import orjson
import psycopg
import pytest
import uvicorn
from aiokafka import AIOKafkaConsumer
from psycopg import sql
from pydantic import SecretStr
from redis.asyncio import Redis

from api.app import create_app
from api.event_log import MAX_EVENT_BYTES
from detection.backtest import backtest
from detection.catalogue import AVERAGE_RESPONSE_TIME
from detection.hours import iso_hour
from detection.rows import Observation
from detection.subject import Subject
from local.stack import Stack
from settings import Settings
from state.keys import models_key
from state.migrate import migrate
from tests.worker import eventually

# A database of our own on the shared server.
DATABASE = 7
FIRST_HOUR = 490_000


@pytest.fixture
def settings(stack: Stack, stack_settings: Settings) -> Settings:
    migrate(stack.postgres.url)
    url = stack.valkey.url.rsplit("/", 1)[0] + f"/{DATABASE}"
    return Settings(redis_url=url, clock="events", max_body_bytes=1_100_000)


@pytest.fixture
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    async with Redis.from_url(settings.redis_url.get_secret_value()) as client:
        await client.flushdb()
        yield client


@pytest.fixture
async def client(settings: Settings, redis: Redis) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tidemark") as client,
    ):
        yield client


async def test_an_api_that_starts_first_makes_the_tables_of_the_history(stack: Stack, settings: Settings) -> None:
    name = f"fresh_{uuid4().hex}"
    with psycopg.connect(stack.postgres.url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    url = stack.postgres.url.rsplit("/", 1)[0] + f"/{name}"
    app = create_app(settings.model_copy(update={"postgres_url": SecretStr(url)}))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tidemark") as client,
    ):
        rows = {"rows": [{"timestamp": iso_hour(FIRST_HOUR), "value": 5.0, "count": 3}]}

        async def refused() -> str:
            answer = await client.post(f"/metrics/train/1/{name}", json=rows)
            return "" if answer.status_code == 200 else answer.text

        await eventually(refused, within_seconds=30)


@pytest.fixture
def biller() -> str:
    """One that no other test trains: the history is shared."""
    return f"B-{uuid4().hex[:12]}"


def observations(count: int) -> list[Observation]:
    return [
        Observation(FIRST_HOUR + at, 200.0 + 50.0 * math.sin(at * math.pi / 12) + at * 7919 % 31 / 3.0, 40 + at % 9)
        for at in range(count)
    ]


def rows(some: list[Observation]) -> list[dict[str, Any]]:
    return [{"timestamp": iso_hour(one.hour), "value": one.value, "count": one.count} for one in some]


async def dump(redis: Redis) -> dict[bytes, Any]:
    found: dict[bytes, Any] = {}
    async for key in redis.scan_iter():
        found[key] = await redis.hgetall(key) if await redis.type(key) == b"hash" else await redis.zrange(key, 0, -1)
    return found


async def train(client: httpx.AsyncClient, biller: str, some: list[Observation]) -> Any:
    response = await client.post(f"/metrics/train/1/{biller}", json={"rows": rows(some)})
    assert response.status_code == 200, response.text
    return response.json()


async def test_training_and_then_predicting_is_the_backtest_of_the_same_rows(
    client: httpx.AsyncClient, settings: Settings, biller: str
) -> None:
    some = observations(200)
    said = list(backtest(AVERAGE_RESPONSE_TIME, some, settings.policy()))
    for start, end in ((0, 30), (30, 60), (60, 199)):
        await train(client, biller, some[start:end])
        answer = (await client.post(f"/metrics/predict/1/{biller}")).json()
        forecast = said[end].forecast
        assert answer["window_start"] == iso_hour(forecast.hour)
        assert answer["estimate"] == forecast.estimate.location
        assert (answer["lower"], answer["upper"]) == (forecast.estimate.lower, forecast.estimate.upper)
        assert (answer["threshold"], answer["status"]) == (forecast.threshold.value, forecast.status)


async def test_training_again_and_predicting_leave_redis_as_it_is(
    client: httpx.AsyncClient, redis: Redis, biller: str
) -> None:
    some = observations(100)
    await train(client, biller, some)
    before = await dump(redis)
    again = await train(client, biller, some)
    await client.post(f"/metrics/predict/1/{biller}")
    await client.post(f"/metrics/predict/1/{biller}", json={"sample": {"value": 900.0}})
    await client.post("/metrics/predict/1/never-seen")
    await client.get("/thresholds")
    await client.get("/metrics")
    assert await dump(redis) == before
    assert (again["accepted"], again["duplicate"], again["is_changed"]) == (0, 100, False)


async def test_halves_in_either_order_are_stored_as_the_whole_is(
    client: httpx.AsyncClient, redis: Redis, biller: str
) -> None:
    some = observations(150)
    for name, parts in (
        ("whole", (some,)),
        ("forth", (some[:70], some[70:])),
        ("back", (some[70:], some[:70])),
    ):
        for part in parts:
            await train(client, f"{biller}-{name}", part)
    stored = await dump(redis)
    models = [
        stored[models_key(Subject.biller(f"{biller}-{name}")).encode()][b"average-response-time"]
        for name in ("whole", "forth", "back")
    ]
    assert models[0] == models[1] == models[2]


async def test_requests_that_train_at_once_lose_nothing(client: httpx.AsyncClient, biller: str) -> None:
    some = observations(120)
    answers = await asyncio.gather(*(train(client, biller, some[part::3]) for part in range(3)))
    assert [answer["accepted"] for answer in answers] == [40, 40, 40]
    predicted = (await client.post(f"/metrics/predict/1/{biller}")).json()
    assert predicted["n_learned"] == 120
    assert not (await train(client, biller, some))["is_changed"]


async def test_events_are_accepted_when_they_are_in_the_topic(client: httpx.AsyncClient, stack: Stack) -> None:
    name = uuid4().hex[:12]
    call = {"biller_id": f"B-{name}", "timestamp": "2026-03-02T12:00:00Z", "latency_ms": 184.2, "outcome": "ok"}
    seen = {"name": name, "version": "v1", "timestamp": "2026-03-02T12:00:00Z", "drift": 0.1}
    calls = await client.post("/events/calls", json=[call, call, call])
    observed = await client.post("/events/observations", json=seen)
    assert (calls.status_code, calls.json()) == (202, {"accepted": 3}), calls.text
    assert (observed.status_code, observed.json()) == (202, {"accepted": 1}), observed.text
    refused = await client.post("/events/calls", json=[call, {**call, "latency_ms": -1}])
    assert refused.status_code == 422
    consumer = AIOKafkaConsumer(
        "calls", "observations", bootstrap_servers=stack.broker.bootstrap, auto_offset_reset="earliest"
    )
    found: list[tuple[str, bytes, Any]] = []
    async with consumer, asyncio.timeout(20):
        while len(found) < 4:
            record = await consumer.getone()
            if name.encode() in (record.key or b""):
                found.append((record.topic, record.key, orjson.loads(record.value)))
    assert sorted(found, key=lambda one: one[0]) == [
        *[("calls", f"B-{name}".encode(), call)] * 3,
        ("observations", f"{name}/v1".encode(), seen),
    ]


async def test_readiness_names_what_answers(client: httpx.AsyncClient) -> None:
    response = await client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "dependencies": {name: {"status": "ok"} for name in ("redis", "postgres", "kafka")},
    }


async def test_what_is_away_is_named_and_answered_with_a_problem(settings: Settings, unused_port: int) -> None:
    away = settings.model_copy(
        update={
            "redis_url": type(settings.redis_url)(f"redis://127.0.0.1:{unused_port}/0"),
            "postgres_url": type(settings.postgres_url)(f"postgresql://postgres@127.0.0.1:{unused_port}/postgres"),
            "kafka_brokers": f"127.0.0.1:{unused_port}",
        }
    )
    app = create_app(away)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://tidemark", timeout=30) as client,
    ):
        ready = await client.get("/readyz")
        predicted = await client.post("/metrics/predict/1/B1")
        event = {"biller_id": "B1", "timestamp": "2026-03-02T12:00:00Z", "latency_ms": 1, "outcome": "ok"}
        taken = await client.post("/events/calls", json=event)
        page = await client.get("/")
        metrics = await client.get("/metrics")
    assert ready.status_code == 503
    assert {name: one["status"] for name, one in ready.json()["dependencies"].items()} == {
        "redis": "error",
        "postgres": "error",
        "kafka": "error",
    }
    for response, dependency in ((predicted, "redis"), (taken, "kafka")):
        assert response.status_code == 503
        assert response.json()["detail"].startswith(dependency)
        assert "retry-after" in response.headers
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert 'tidemark_dependency_up{dependency="redis"} 0.0' in metrics.text


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def served(settings: Settings, unused_port: int) -> Iterator[str]:
    """The address of the API behind a real socket."""
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings), host="127.0.0.1", port=unused_port, log_config=None, access_log=False)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield f"http://127.0.0.1:{unused_port}"
    finally:
        server.should_exit = True
        thread.join(20)


async def test_the_longest_event_is_taken_by_the_broker_and_a_longer_one_refused(
    client: httpx.AsyncClient,
) -> None:
    seen = {
        "biller_id": f"B-{uuid4().hex[:12]}",
        "timestamp": "2026-03-02T12:00:00Z",
        "latency_ms": 10,
        "outcome": "ok",
    }
    room = MAX_EVENT_BYTES - len(orjson.dumps({**seen, "note": ""}))
    longest, longer = (orjson.dumps({**seen, "note": "x" * (room + more)}) for more in (0, 1))
    taken = await client.post("/events/calls", content=longest)
    refused = await client.post("/events/calls", content=longer)
    assert taken.status_code == 202, taken.text
    assert (refused.status_code, refused.json()["errors"][0]["index"]) == (413, 0)


async def test_a_malformed_biller_id_is_named_over_a_real_socket(served: str) -> None:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=20)) as client:
        for biller_id in ("", "a/b", "a%2Fb", "B1%0A"):
            for verb in ("predict", "train"):
                response = await client.post(f"{served}/metrics/{verb}/1/{biller_id}", json={"rows": []})
                assert response.status_code == 422, (verb, biller_id)
                assert [error["field"] for error in response.json()["errors"]] == ["billerId"]


async def test_a_body_that_is_too_large_is_refused_over_a_real_socket(served: str) -> None:
    path = f"{served}/metrics/train/1/B1"
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=20)) as client:
        alive = await client.get(f"{served}/healthz")
        plain = await client.post(path, content=bytes(1_100_001))
        bomb = await client.post(path, content=gzip.compress(bytes(200_000_000)), headers={"Content-Encoding": "gzip"})
    assert alive.status_code == 200
    assert (plain.status_code, bomb.status_code) == (413, 413)
