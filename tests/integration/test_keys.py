"""`tidemark keys` and an API that asks for them, on a real Redis: made, used, counted, rotated, taken back."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import orjson
import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner, Result

from api.app import create_app
from cli.main import app
from local.stack import Stack
from settings import Settings
from tests.worker import eventually

# A database of our own on the shared server.
DATABASE = 13


@pytest.fixture
async def client(
    stack: Stack, stack_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    url = stack.valkey.url.rsplit("/", 1)[0] + f"/{DATABASE}"
    monkeypatch.setenv("TIDEMARK_REDIS_URL", url)
    monkeypatch.setenv("TIDEMARK_AUTH", "on")
    async with Redis.from_url(url) as redis:
        await redis.flushdb()
    served = create_app(Settings())
    async with (
        served.router.lifespan_context(served),
        httpx.AsyncClient(transport=httpx.ASGITransport(served), base_url="http://tidemark") as found,
    ):
        yield found


async def tidemark(*arguments: str) -> Result:
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
    assert result.exit_code == 0, result.output
    return result


async def made(*arguments: str) -> tuple[str, dict[str, str]]:
    answer = orjson.loads((await tidemark("keys", "create", *arguments, "--json")).stdout)
    return answer["id"], {"Authorization": f"Bearer {answer['key']}"}


async def refused_soon(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    async def missing() -> str:
        status = (await client.post("/metrics/predict/1/own-1", headers=headers)).status_code
        return "" if status == 401 else f"answered {status}"

    await eventually(missing, within_seconds=20)


async def test_a_key_opens_the_api_until_it_is_taken_back(client: httpx.AsyncClient) -> None:
    key_id, headers = await made("kim", "--scope", "read", "--subject", "biller:own-*", "--days", "1")
    assert (await client.post("/metrics/predict/1/own-1", headers=headers)).status_code == 200
    assert (await client.post("/metrics/predict/1/foreign-1", headers=headers)).status_code == 403
    listed = orjson.loads((await tidemark("keys", "list", "--json")).stdout)
    assert [(one["id"], one["name"], one["scopes"], one["subjects"]) for one in listed] == [
        (key_id, "kim", ["read"], ["biller:own-*"])
    ]
    assert "key" not in listed[0]
    assert key_id in (await tidemark("keys", "list")).stdout
    await tidemark("keys", "revoke", key_id)

    await refused_soon(client, headers)


async def test_a_rotated_key_goes_on_beside_the_new_one_until_its_grace_is_over(client: httpx.AsyncClient) -> None:
    key_id, old = await made("kim", "--scope", "read")
    answer = orjson.loads((await tidemark("keys", "rotate", key_id, "--json")).stdout)
    new = {"X-API-Key": answer["key"]}
    assert [(await client.get("/thresholds", headers=one)).status_code for one in (old, new)] == [200, 200]
    other_id, other = await made("sam", "--scope", "read")
    await tidemark("keys", "rotate", other_id, "--grace-hours", "0")
    await refused_soon(client, other)


async def test_a_key_that_is_used_too_often_is_told_to_wait(client: httpx.AsyncClient) -> None:
    _, headers = await made("kim", "--scope", "read", "--per-second", "3")
    answers = [await client.get("/rules", headers=headers) for _ in range(40)]
    statuses = {answer.status_code for answer in answers}
    assert statuses == {200, 429}
    assert all(answer.headers["Retry-After"] == "1" for answer in answers if answer.status_code == 429)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["keys", "create", "kim", "--scope", "root"], "the scopes are"),
        (["keys", "create", "kim", "--scope", "read", "--subject", "acme"], "globs"),
        (["keys", "revoke", "abc"], "there is no key 'abc'"),
        (["keys", "rotate", "abc"], "there is no key 'abc'"),
    ],
)
async def test_what_cannot_be_is_refused(client: httpx.AsyncClient, arguments: list[str], reason: str) -> None:
    result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
    assert result.exit_code == 2
    assert reason in result.output
