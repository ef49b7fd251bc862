"""Exclusions over the real broker, worker, store and history: the state of one who never heard those hours."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from redis.asyncio import Redis

from api.app import create_app
from detection.hours import HOUR_MS, MINUTE_MS, iso_hour
from local.stack import Stack
from settings import Settings, load
from tests.worker import BOOKKEEPING, WorkerProcess, eventually, hashes, unsettled

FIRST_HOUR = 490_000
INCIDENT = range(FIRST_HOUR + 55, FIRST_HOUR + 61)
AHEAD = range(FIRST_HOUR + 82, FIRST_HOUR + 85)

# Who it is, how many events it had, and what was excluded of it.
OWN = BOOKKEEPING | {"subject", "accepted", "exclusions"}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Our own: the worker reads whole topics, and PostgreSQL goes away."""
    with Stack(tmp_path / "stack") as running:
        yield running


@pytest.fixture
def environment(stack: Stack) -> dict[str, str]:
    return {**stack.environment(), "TIDEMARK_CLOCK": "events", "TIDEMARK_FLUSH_SECONDS": "0.2"}


@pytest.fixture
def settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load()


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tidemark", timeout=60) as client,
    ):
        yield client


def calls(biller: str, hours: Sequence[int]) -> list[dict[str, Any]]:
    """Eight calls in each of these hours; those of the incident, and of what was ahead, are slow and fail."""
    return [
        {
            "biller_id": biller,
            "timestamp": hour * HOUR_MS + at * 7 * MINUTE_MS,
            "latency_ms": 900.0 if hour in INCIDENT or hour in AHEAD else 150.0 + hour % 24 + at,
            "outcome": "error" if at % 3 == 0 and (hour in INCIDENT or hour in AHEAD) else "ok",
        }
        for hour in hours
        for at in range(8)
    ]


async def send(client: httpx.AsyncClient, hours: Sequence[int]) -> int:
    """To one biller that has exclusions, to one that was never called in these hours, and to one that has none."""
    quiet = [hour for hour in hours if hour not in INCIDENT and hour not in AHEAD]
    some = calls("excluded", hours) + calls("silent", quiet) + calls("whole", hours)
    some.sort(key=lambda call: call["timestamp"])
    response = await client.post("/events/calls", json={"calls": some})
    assert response.status_code == 202, response.text
    return len(some)


async def stored(redis: Redis, biller: str) -> dict[str, dict[str, str]]:
    found = await hashes(redis)
    return {
        key.replace(biller, "*"): {name: value for name, value in fields.items() if name not in OWN}
        for key, fields in found.items()
        if f"{{biller:{biller}}}" in key and not key.endswith("_outbox")
    }


def given(hours: Sequence[int]) -> dict[str, Any]:
    return {"from": iso_hour(hours[0]), "to": iso_hour(hours[-1] + 1), "reason": "outage", "by": "kim"}


@pytest.mark.slow
@pytest.mark.timeout(200)
async def test_excluded_hours_were_never_seen_and_taken_back_were_never_excluded(
    stack: Stack, environment: dict[str, str], settings: Settings, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    path = "/billers/excluded/exclusions"
    policy = settings.policy()
    async with Redis.from_url(stack.valkey.url) as redis:
        with WorkerProcess(environment, tmp_path / "worker.log") as worker:
            sent = 0

            async def settled() -> None:
                async def missing() -> str:
                    assert worker.status is None, worker.log()
                    return await unsettled(redis, sent, policy)

                await eventually(missing, within_seconds=60)

            sent += await send(client, range(FIRST_HOUR, FIRST_HOUR + 70))
            await settled()
            whole = await stored(redis, "whole")
            assert await stored(redis, "excluded") == whole != await stored(redis, "silent")
            made = await client.post(path, json=given(INCIDENT))
            assert made.status_code == 201, made.text
            assert made.json()["relearned"]["error-rate"]["n_excluded"] == len(INCIDENT)
            assert await stored(redis, "excluded") == await stored(redis, "silent")
            before = await hashes(redis)
            again = await client.post(path, json=given(INCIDENT))
            assert (again.status_code, await hashes(redis)) == (200, before)

            # Both write the same subject at the same time.
            more, ahead = await asyncio.gather(
                send(client, range(FIRST_HOUR + 70, FIRST_HOUR + 81)), client.post(path, json=given(AHEAD))
            )
            assert ahead.status_code == 201, ahead.text
            sent += more
            sent += await send(client, range(FIRST_HOUR + 81, FIRST_HOUR + 90))
            await settled()
            assert await stored(redis, "excluded") == await stored(redis, "silent")
            async with await psycopg.AsyncConnection.connect(stack.postgres.url) as connection:
                kept = await connection.execute(
                    "select subject, count(*), sum(count) from observations group by subject order by subject"
                )
                rows = await kept.fetchall()
            assert rows[0][1:] == rows[2][1:] > rows[1][1:], "what is excluded is in the history all the same"

            stack.postgres.stop()
            refused = await client.delete(f"{path}/{made.json()['id']}")
            assert refused.status_code == 503, refused.text
            assert await stored(redis, "excluded") == await stored(redis, "silent")
            stack.postgres.start()
            for one in (made, ahead):

                async def not_taken_back(exclusion_id: str = one.json()["id"]) -> str:
                    gone = await client.delete(f"{path}/{exclusion_id}")
                    return "" if gone.status_code == 200 else gone.text

                await eventually(not_taken_back, within_seconds=60)
            assert await stored(redis, "excluded") == await stored(redis, "whole")
            assert worker.stop() == 0, worker.log()
