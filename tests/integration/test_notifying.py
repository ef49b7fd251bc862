"""Two real workers, of which one is killed: one alert, told once, and resolved once by the other one."""

import base64
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis
from standardwebhooks import Webhook

from detection.hours import iso
from detection.rules.rule import Rule
from local.stack import Stack
from state.keys import NOTIFIED
from state.redis_rules import RedisRules
from state.rule_store import Author, change_rules, put
from tests.receiver import Receiver
from tests.worker import WorkerProcess, eventually, text

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]

SECRET = "whsec_" + base64.b64encode(b"a secret of at least 24 bytes").decode()
RULE = Rule(id="accuracy", metric="prediction_accuracy", condition="lower than", boundary=0.3, notify=("pager", "log"))


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """One for each test: the workers read whole topics."""
    with Stack(tmp_path / "stack") as running:
        yield running


@pytest.fixture
def pager() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture
def environment(stack: Stack, pager: Receiver, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "key").write_text(SECRET)
    targets = tmp_path / "targets.yaml"
    targets.write_text(
        "targets:\n"
        f"  pager: {{kind: webhook, url: '{pager.url}', secret_file: {tmp_path / 'key'}}}\n"
        "  log: {kind: log, default: true}\n"
    )
    return {
        **stack.environment(),
        "TIDEMARK_FLUSH_SECONDS": "0.2",
        "TIDEMARK_NOTIFY_AFTER_SECONDS": "1",
        "TIDEMARK_TARGETS": str(targets),
    }


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    async with Redis.from_url(stack.valkey.url) as client:
        yield client


async def observe(environment: dict[str, str], accuracy: float) -> str:
    """Send an event of now; its time."""
    event = {
        "name": "Mistral",
        "version": "v1",
        "timestamp": iso(time.time_ns() // 1_000_000),
        "prediction_accuracy": accuracy,
    }
    async with AIOKafkaProducer(bootstrap_servers=environment["TIDEMARK_KAFKA_BROKERS"]) as producer:
        await producer.send_and_wait("observations", key=b"Mistral/v1", value=orjson.dumps(event))
    return str(event["timestamp"])


async def told(pager: Receiver, times: int, workers: dict[str, WorkerProcess]) -> None:
    async def missing() -> str:
        logs = "\n".join(one.log()[-3000:] for one in workers.values())
        return "" if len(pager.requests) >= times else f"told {pager.said()}, and not yet {times} times; {logs}"

    # Compiled code that is not yet in the cache is made first.
    await eventually(missing, within_seconds=100)


async def holder(redis: Redis) -> str:
    """The process that notifies."""
    lease = await redis.hget(NOTIFIED, "lease")
    return "" if lease is None else str(orjson.loads(lease)["holder"]).split(":")[1]


async def test_an_alert_is_told_once_whichever_worker_notifies(
    environment: dict[str, str], pager: Receiver, redis: Redis, tmp_path: Path
) -> None:
    await change_rules(RedisRules(redis), lambda known: put(known, RULE, Author(by="test", at_ms=0)))
    logs = [tmp_path / f"worker-{at}.log" for at in (1, 2)]
    with WorkerProcess(environment, logs[0]) as first, WorkerProcess(environment, logs[1]) as second:
        workers = {str(one.pid): one for one in (first, second)}
        seen = await observe(environment, 0.193)
        await told(pager, 1, workers)
        # A kill between telling and remembering tells again, or, where it is over by then, does not tell of the end.
        await eventually(lambda: remembered(redis), within_seconds=10)
        workers.pop(await holder(redis)).kill()
        (left,) = workers

        async def missing() -> str:
            return "" if await holder(redis) == left else f"{left} does not notify"

        await eventually(missing, within_seconds=60)
        await observe(environment, 0.9)
        await told(pager, 2, workers)
        assert workers[left].stop() == 0
    assert pager.said() == ["opened", "resolved"]
    for got in pager.requests:
        Webhook(SECRET).verify(got.body, dict(got.headers))
    fields = {"name": "Mistral", "version": "v1", "prediction_accuracy": 0.193, "timestamp": seen}
    line = f"prediction_accuracy lower than 0.3, {fields}"
    printed = [one for log in logs for one in log.read_text().splitlines() if line in one]
    assert sorted(printed) == [f"ALERT {line}", f"RESOLVED {line}"]
    # What was told and is over is forgotten, and the lease is given back.
    assert await redis.hgetall(NOTIFIED) == {}


async def remembered(redis: Redis) -> str:
    fields = await redis.hgetall(NOTIFIED)
    return "" if any(text(name).startswith("model:") for name in fields) else "nobody remembers what was told"
