"""Rules over REST, with Redis and PostgreSQL behind them: audited, and tried over real history."""

from collections.abc import AsyncIterator

import httpx
import pytest

from api.app import create_app
from detection.hours import iso_hour
from local.stack import Stack
from settings import Settings
from state.migrate import migrate
from state.redis_rules import RedisRules
from stream.current_rules import CurrentRules
from tests.databases import new_database

DATABASE = 13
FIRST_HOUR = 490_000
RULE = {"metric": "prediction_accuracy", "condition": "lower than", "boundary": 0.3}


@pytest.fixture
async def rules(stack: Stack) -> AsyncIterator[RedisRules]:
    store = RedisRules.connect(stack.valkey.url.rsplit("/", 1)[0] + f"/{DATABASE}")
    await store._client.flushdb()
    yield store
    await store.aclose()


@pytest.fixture
async def client(stack: Stack, stack_settings: Settings, rules: RedisRules) -> AsyncIterator[httpx.AsyncClient]:
    with new_database(stack, "rules") as url:
        migrate(url)
        redis_url = stack.valkey.url.rsplit("/", 1)[0] + f"/{DATABASE}"
        app = create_app(Settings(redis_url=redis_url, postgres_url=url, clock="events"))
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tidemark") as client,
        ):
            yield client


async def test_a_rule_that_was_put_is_audited_and_followed_by_a_worker(
    client: httpx.AsyncClient, rules: RedisRules
) -> None:
    current = CurrentRules(rules, wall_ms=lambda: 0)
    await current.read()
    assert current.book.rule("low") is None
    assert (await client.put("/rules/low?by=ann", json=RULE)).status_code == 201
    assert (await client.delete("/rules/low?by=bob")).status_code == 204
    assert (await client.put("/rules/low?by=ann", json=RULE)).status_code == 201
    await current.read()
    assert current.book.rule("low") is not None
    changes = (await client.get("/rules/audit")).json()["changes"]
    assert [(one["revision"], one["action"], one["by"]) for one in changes] == [
        (3, "created", "ann"),
        (2, "deleted", "bob"),
        (1, "created", "ann"),
    ]
    assert changes[1]["before"] == changes[2]["after"]
    assert await rules.waiting() == []


async def test_a_rule_is_tried_over_the_history_that_postgres_has(client: httpx.AsyncClient) -> None:
    values = [0.8] * 20 + [0.2] * 3 + [0.8] * 5
    rows = [{"timestamp": iso_hour(FIRST_HOUR + at), "value": value} for at, value in enumerate(values)]
    trained = await client.post("/metrics/train/gauges/prediction-accuracy/Mistral/v1", json={"rows": rows})
    assert trained.status_code == 200, trained.text
    answer = (await client.post("/rules/dry-run", json={"id": "low", **RULE})).json()
    assert (answer["hours"], answer["alerts_total"]) == (28, 1)
    assert answer["alerts"][0]["opened"] == iso_hour(FIRST_HOUR + 21)
    assert answer["alerts"][0]["resolved"] == iso_hour(FIRST_HOUR + 24)
