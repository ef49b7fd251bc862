"""From an observation event to the people: worker, Redis, broker and Alertmanager are the real ones."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from detection.hours import iso
from detection.subject import Subject
from local.stack import Stack
from settings import Settings
from state import keys
from tests.integration.test_alertmanager import Alertmanager, alertmanager
from tests.stack import settings_of, stack
from tests.worker import WorkerProcess, eventually, text

__all__ = ["alertmanager", "stack"]

pytestmark = [pytest.mark.debian, pytest.mark.timeout(240)]

RULES = """
rules:
  - id: low-accuracy
    metric: prediction_accuracy
    condition: lower than
    boundary: 0.3
    severity: critical
    owner: ml-team
"""
TARGETS = """
targets:
  log: {{kind: log, default: true}}
  alertmanager: {{kind: alertmanager, urls: [{url}], interval_seconds: 20, default: true}}
"""
MODELS = ("Llama", "Mistral", "Gemma", "Qwen", "Phi", "Falcon", "Command", "Granite", "Nova", "Yi")


@pytest.fixture
def settings(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return settings_of(stack, monkeypatch)


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    async with Redis.from_url(stack.valkey.url) as client:
        await client.flushdb()
        yield client


async def observe(settings: Settings, accuracies: dict[str, float]) -> None:
    """One event of each of these models, now."""
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_brokers) as sender:
        for name, accuracy in accuracies.items():
            event = {
                "name": name,
                "version": "v1",
                "timestamp": iso(time.time_ns() // 1_000_000),
                "prediction_accuracy": accuracy,
                "drift": 0.11,
                "inference_time": 12.76,
            }
            await sender.send_and_wait("observations", key=f"{name}/v1".encode(), value=orjson.dumps(event))


async def test_a_low_accuracy_is_one_alert_in_alertmanager_through_a_kill_and_resolves_once(
    stack: Stack, settings: Settings, redis: Redis, alertmanager: Alertmanager, tmp_path: Path
) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "targets.yaml").write_text(TARGETS.format(url=alertmanager.url))
    environment = stack.environment() | {
        "TIDEMARK_KAFKA_GROUP": tmp_path.name,
        "TIDEMARK_KAFKA_SESSION_SECONDS": "6",
        "TIDEMARK_RULES": str(tmp_path / "rules.yaml"),
        "TIDEMARK_TARGETS": str(tmp_path / "targets.yaml"),
        "TIDEMARK_NOTIFY_AFTER_SECONDS": "0",
        "TIDEMARK_FLUSH_SECONDS": "0.2",
    }
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:

        async def told(*states: str) -> str:
            assert worker.status is None, worker.log()
            found = [state for state, _ in alertmanager.said()]
            return "" if found == list(states) else f"people were told {found}, not {list(states)}"

        await observe(settings, dict.fromkeys(MODELS, 0.8))
        await observe(settings, {"Mistral": 0.193})
        await eventually(lambda: told("firing"), within_seconds=60)

        # Whatever happens in between, it is the same alert: lower values, a killed worker, all that is read again.
        await observe(settings, {"Mistral": 0.21, "Llama": 0.75})
        worker.kill()
        await observe(settings, {"Mistral": 0.22})
        worker.start()
        await eventually(lambda: _is_read(redis, 14), within_seconds=60)
        assert await told("firing") == ""
        (alert,) = await alertmanager.alerts()
        assert alert["labels"]["alertname"] == "low-accuracy"
        assert (alert["labels"]["name"], alert["labels"]["version"]) == ("Mistral", "v1")

        await observe(settings, {"Mistral": 0.79})
        await eventually(lambda: told("firing", "resolved"), within_seconds=60)
        assert worker.stop() == 0, worker.log()
    lines = [line for line in worker.log().splitlines() if line.startswith(("ALERT", "RESOLVED"))]
    assert len(lines) == 2, worker.log()
    assert lines[0].startswith(
        "ALERT prediction_accuracy lower than 0.3, {'name': 'Mistral', 'version': 'v1', 'prediction_accuracy': 0.193, "
        "'drift': 0.11, 'inference_time': 12.76"
    )
    assert lines[1].startswith("RESOLVED prediction_accuracy lower than 0.3, {'name': 'Mistral', 'version': 'v1'")


async def _is_read(redis: Redis, events: int) -> str:
    subjects = [keys.subject_key(Subject.model(name, "v1")) for name in MODELS]
    counts = [await redis.hget(key, "accepted") for key in subjects]
    total = sum(int(count) for count in counts if count is not None)
    return "" if total == events else f"{total} of {events} events are in the state"


async def _is_remembered(redis: Redis) -> str:
    """Both tellings: what was told and is not yet remembered is told again after a kill."""
    kept = await redis.hgetall(keys.NOTIFIED)
    targets = [set(orjson.loads(value)["targets"]) for name, value in kept.items() if text(name).startswith("model:")]
    return "" if targets == [{"log", "alertmanager"}] else f"remembered is {targets}"
