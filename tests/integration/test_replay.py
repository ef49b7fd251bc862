"""Recorded calls reach the broker once each, in order for each biller, at the pace that was asked for."""

import asyncio
import json
import time
from collections import defaultdict
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import DefaultPartitioner
from typer.testing import CliRunner

from cli import replaying
from cli.main import app
from cli.recordings import RecordedCall, Recording
from cli.replaying import Replay
from detection.errors import DependencyError
from local.ports import free_port
from settings import Settings

EXAMPLE = Path(__file__).parents[2] / "examples" / "calls.ndjson.gz"
CALLS = 119_446


async def consumed(settings: Settings, topic: str, *, count: int) -> dict[int, list[tuple[bytes, bytes]]]:
    """Key and value of all that is in the topic, by partition: `count`, and more if there is more."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_brokers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in range(settings.kafka_partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: dict[int, list[tuple[bytes, bytes]]] = defaultdict(list)
        async with asyncio.timeout(60):
            while batches := await consumer.getmany(timeout_ms=500 if total(found) >= count else 60_000):
                for partition, records in batches.items():
                    found[partition.partition] += [(record.key, record.value) for record in records]
        return found
    finally:
        await consumer.stop()


def total(found: dict[int, list[tuple[bytes, bytes]]]) -> int:
    return sum(map(len, found.values()))


def recorded(path: Path) -> list[RecordedCall]:
    with Recording(path) as recording:
        return [item for item in recording if isinstance(item, RecordedCall)]


def short_recording(folder: Path, *, calls: int, step_ms: int) -> Path:
    path = folder / "short.ndjson"
    rows = (
        {"biller_id": f"B{n % 3}", "timestamp": 1_763_755_200_000 + n * step_ms, "latency_ms": 1.5, "outcome": "ok"}
        for n in range(calls)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


async def test_every_recorded_call_arrives_once_and_in_order(stack_settings: Settings) -> None:
    seen: list[Replay] = []
    done = await replaying.replay(EXAMPLE, stack_settings, topic="replay-all", on_progress=seen.append)
    assert (done.sent, done.acknowledged, done.rejected) == (CALLS, CALLS, 0)
    assert seen[-1] == done
    assert done.share == 1.0

    expected: dict[bytes, list[bytes]] = defaultdict(list)
    for call in recorded(EXAMPLE):
        expected[call.key].append(call.message)
    arrived: dict[bytes, list[bytes]] = defaultdict(list)
    partitioner = DefaultPartitioner()
    numbers = list(range(stack_settings.kafka_partitions))
    for partition, pairs in (await consumed(stack_settings, "replay-all", count=CALLS)).items():
        for key, value in pairs:
            assert partitioner(key, numbers, numbers) == partition
            arrived[key].append(value)
    assert sum(map(len, arrived.values())) == CALLS
    assert arrived == expected


async def test_a_speed_up_keeps_the_pace_of_event_time(stack_settings: Settings, tmp_path: Path) -> None:
    path = short_recording(tmp_path, calls=21, step_ms=60_000)
    started = time.monotonic()
    # Twenty minutes of event time at 1200 times their pace.
    done = await replaying.replay(path, stack_settings, topic="replay-paced", speed=1200)
    assert 0.9 < time.monotonic() - started < 10
    assert done.acknowledged == 21


async def test_a_limit_stops_after_so_many_calls(stack_settings: Settings, tmp_path: Path) -> None:
    path = short_recording(tmp_path, calls=50, step_ms=1)
    done = await replaying.replay(path, stack_settings, topic="replay-limited", limit=7)
    assert done.acknowledged == 7
    assert total(await consumed(stack_settings, "replay-limited", count=7)) == 7


def test_bad_rows_are_reported_and_not_sent(stack_settings: Settings, tmp_path: Path) -> None:
    path = short_recording(tmp_path, calls=3, step_ms=1)
    with path.open("a") as file:
        file.write('{"biller_id": "B1"}\n')
    run = CliRunner().invoke(app, ["replay", str(path), "--topic", "replay-bad", "--json"])
    assert run.exit_code == 2
    summary = json.loads(run.stdout)
    assert (summary["acknowledged"], summary["rejected"]) == (3, 1)
    assert summary["refusals"] == [{"row": 4, "field": "timestamp", "reason": "missing"}]
    assert "row 4" in run.stderr
    assert "Traceback" not in run.stderr
    assert CliRunner().invoke(app, ["replay", str(path), "--topic", "replay-bad", "--skip-bad"]).exit_code == 0


def test_a_broker_that_is_away_ends_with_exit_code_3(stack_settings: Settings, tmp_path: Path) -> None:
    path = short_recording(tmp_path, calls=3, step_ms=1)
    run = CliRunner().invoke(app, ["replay", str(path), "--brokers", f"127.0.0.1:{free_port()}"])
    assert run.exit_code == 3
    assert "Kafka" in run.stderr
    assert "tidemark up" in run.stderr


async def test_a_broker_that_is_away_is_a_dependency_error(tmp_path: Path) -> None:
    path = short_recording(tmp_path, calls=3, step_ms=1)
    with pytest.raises(DependencyError, match="Kafka"):
        await replaying.replay(path, Settings(kafka_brokers=f"127.0.0.1:{free_port()}"))
