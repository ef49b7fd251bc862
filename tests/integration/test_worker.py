"""A real worker between a real broker and a real store: what it ends with is what the recorded calls say."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from cli.replaying import replay
from detection.subject_state import SubjectState
from detection.windows import CallWindow
from local.stack import Stack
from settings import Settings, load
from state.memory_store import MemoryStore
from tests import offline
from tests.kafka.apache import ApacheKafka
from tests.worker import BOOKKEEPING, CALLS, RECORDED_CALLS, Hashes, WorkerProcess, eventually, hashes, text, unsettled


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    """One for each test: the worker reads whole topics."""
    folder = tmp_path / "stack"
    with Stack(folder, broker=ApacheKafka(folder) if request.param == "apache" else None) as running:
        yield running


@pytest.fixture
def environment(stack: Stack) -> dict[str, str]:
    # One name for every run's log, so that the offsets of two runs can be compared.
    return {
        **stack.environment(),
        "TIDEMARK_CLOCK": "events",
        "TIDEMARK_KAFKA_LOG_ID": "recorded",
        "TIDEMARK_FLUSH_SECONDS": "0.2",
    }


@pytest.fixture
def settings(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load()


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    async with Redis.from_url(stack.valkey.url) as client:
        yield client


def folded(settings: Settings, *, limit: int | None = None) -> tuple[dict[str, SubjectState], int]:
    states, newest = offline.fold(settings.policy(), limit=limit)
    return {str(subject): state for subject, state in states.items()}, newest


def is_logged(line: str) -> bool:
    """Whether it is a line of the log, as collectors of logs want it: an object with an event, a level and a time."""
    try:
        return bool(orjson.loads(line).keys() >= {"event", "level", "timestamp"})
    except orjson.JSONDecodeError:
        return False


async def as_stored(states: dict[str, SubjectState], newest_ms: int, settings: Settings) -> Hashes:
    store = MemoryStore(settings.policy())
    assert await store.save(list(states.values())) == []
    await store.advance_clock(newest_ms)
    return {
        key: {text(name): text(value) for name, value in fields.items() if text(name) not in BOOKKEEPING}
        for key, fields in store.hashes.items()
        if not key.endswith("_outbox")  # The worker's were carried on by the time of the comparison.
    }


async def test_calls_are_read_however_their_producer_compresses_them(
    environment: dict[str, str], settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    codecs = (None, "gzip", "snappy", "lz4", "zstd")
    call = b'{"biller_id":"%b","timestamp":1767225600000,"latency_ms":12.5,"outcome":"ok"}'
    for codec in codecs:
        name = f"by-{codec or 'none'}".encode()
        async with AIOKafkaProducer(bootstrap_servers=settings.kafka_brokers, compression_type=codec) as producer:
            for _ in range(700):
                await producer.send("calls", key=name, value=call % name)
            await producer.flush()
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:

        async def missing() -> str:
            assert worker.status is None, worker.log()
            accepted = {
                name: fields.get("accepted") for name, fields in (await hashes(redis)).items() if name[-1] == "}"
            }
            wanted = {f"tidemark:1:{{biller:by-{codec or 'none'}}}": "700" for codec in codecs}
            return "" if accepted == wanted else f"{accepted}"

        await eventually(missing, within_seconds=60)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_recorded_call_replayed_gives_the_state_of_the_offline_fold(
    stack: Stack, environment: dict[str, str], settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:
        sent = await replay(CALLS, settings)
        assert sent.acknowledged == RECORDED_CALLS

        async def missing() -> str:
            assert worker.status is None, worker.log()
            return await unsettled(redis, RECORDED_CALLS, settings.policy())

        await eventually(missing, within_seconds=200)
        assert worker.stop() == 0, worker.log()
    assert [line for line in worker.log().splitlines() if not is_logged(line)] == []

    states, newest_ms = folded(settings)
    windows = {
        str(name): [window for hours in (state.learned, state.windows) for window in hours.values()]
        for name, state in states.items()
    }
    expected = await as_stored(states, newest_ms, settings)
    stored = await hashes(redis, without=BOOKKEEPING)
    assert stored.keys() == expected.keys()
    for key, fields in expected.items():
        assert stored[key] == fields, key

    in_windows = sum(one.calls for some in windows.values() for one in some if isinstance(one, CallWindow))
    late = sum(int(fields["late"]) for key, fields in stored.items() if key.endswith("}"))
    dead = await dead_letters(settings)
    assert in_windows + late + len(dead) == RECORDED_CALLS
    assert late == 0
    assert dead == []
    async with await psycopg.AsyncConnection.connect(stack.postgres.url) as connection:
        kept = await (await connection.execute("select sum(calls), count(*) from call_windows")).fetchone()
    open_calls = sum(
        one.calls for state in states.values() for one in state.windows.values() if isinstance(one, CallWindow)
    )
    assert kept is not None
    assert int(kept[0]) + open_calls == RECORDED_CALLS


@pytest.mark.timeout(200)
async def test_a_worker_killed_in_the_middle_of_a_replay_ends_in_the_same_state(
    stack: Stack, environment: dict[str, str], settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    calls = 12_000
    environment |= {"TIDEMARK_FLUSH_EVENTS": "500"}
    kills = 0
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:
        sent = await replay(CALLS, settings, limit=calls)
        assert sent.acknowledged == calls
        for share in (0.1, 0.4, 0.7):

            async def behind(least: float = share * calls) -> str:
                assert worker.status is None, worker.log()
                stored = await hashes(redis)
                total = sum(int(one["accepted"]) for key, one in stored.items() if key.endswith("}"))
                return "" if total >= least else f"{total} of {least} calls are in the state"

            await eventually(behind, within_seconds=60)
            kills += bool(await unsettled(redis, calls, settings.policy()))
            worker.kill()
            worker.start()

        async def missing() -> str:
            assert worker.status is None, worker.log()
            return await unsettled(redis, calls, settings.policy())

        await eventually(missing, within_seconds=120)
        assert worker.stop() == 0, worker.log()
    assert kills >= 2, "the worker was too quick to be killed in the middle"

    states, newest_ms = folded(settings, limit=calls)
    expected = await as_stored(states, newest_ms, settings)
    stored = await hashes(redis, without=BOOKKEEPING)
    assert stored.keys() == expected.keys()
    for key, fields in expected.items():
        assert stored[key] == fields, key


async def test_what_cannot_be_read_is_kept_with_its_reason_and_origin(
    environment: dict[str, str], settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    good = b'{"biller_id":"B1","timestamp":"2026-03-01T10:00:00Z","latency_ms":12.5,"outcome":"ok"}'
    bad = {
        b"not json": "malformed",
        b'{"biller_id":"B1","timestamp":"2026-03-01T10:00:00Z","latency_ms":-1,"outcome":"ok"}': "latency_ms",
        b'{"biller_id":"B 1","timestamp":"2026-03-01T10:00:00Z","latency_ms":1,"outcome":"ok"}': "biller_id",
        b'{"biller_id":"B1","timestamp":"2026-03-01T10:00:00","latency_ms":1,"outcome":"ok"}': "timezone",
        b'{"biller_id":"B1","timestamp":1772359200,"latency_ms":1,"outcome":"ok"}': "milliseconds",
        b'{"biller_id":"B1","timestamp":"2098-03-01T10:00:00Z","latency_ms":1,"outcome":"ok"}': "ahead",
        b'{"biller_id":"B1","timestamp":"2026-03-01T10:00:00Z","latency_ms":1}': "outcome",
        b"\xff\xfe": "malformed",
    }
    async with producer(settings) as sender:
        for value in (good, *bad, good):
            await sender.send_and_wait("calls", key=b"B1", value=value)
        batch = b'{"calls":[' + good + b"," + good + b"]}"
        await sender.send_and_wait("calls", key=b"B1", value=batch)
        late = good.replace(b"2026-03-01T10", b"2026-02-01T10")
        await sender.send_and_wait("calls", key=b"B1", value=late)
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:

        async def missing() -> str:
            assert worker.status is None, worker.log()
            return await unsettled(redis, 5, settings.policy())

        await eventually(missing, within_seconds=40)
        assert worker.stop() == 0
    letters = await dead_letters(settings)
    invalid = [letter for letter in letters if letter["reason"] == "invalid"]
    assert len(invalid) == len(bad)
    for letter, reason in zip(sorted(invalid, key=offset_of), bad.values(), strict=True):
        assert reason in str(letter["detail"])
        assert letter["origin"]["topic"] == "calls"
        assert letter["key"] == "B1"
    (late_letter,) = (letter for letter in letters if letter["reason"] == "late")
    assert late_letter["value"]["calls"][0]["biller_id"] == "B1"
    fields = (await hashes(redis))["tidemark:1:{biller:B1}"]
    assert (fields["accepted"], fields["late"]) == ("4", "1")


async def test_observations_become_gauges_of_a_model_version(
    environment: dict[str, str], settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    async with producer(settings) as sender:
        for hour in range(4):
            for accuracy in (0.25, 0.75):
                event = {
                    "name": "Mistral",
                    "version": "v1",
                    "timestamp": f"2026-03-01T{hour:02}:30:00Z",
                    "prediction_accuracy": accuracy,
                    "drift": 0.1,
                    "labels": {"region": "eu"},
                }
                await sender.send_and_wait("observations", key=b"Mistral/v1", value=orjson.dumps(event))
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:

        async def missing() -> str:
            assert worker.status is None, worker.log()
            return await unsettled(redis, 8, settings.policy())

        await eventually(missing, within_seconds=40)
    stored = await hashes(redis)
    series = stored["tidemark:1:{model:Mistral/v1}:prediction-accuracy"]
    assert series["operator"] == "<"
    assert float(series["estimate"]) == pytest.approx(0.5, abs=0.05)
    assert orjson.loads(series["last"])["value"] == 0.5
    assert "tidemark:1:{model:Mistral/v1}:drift" in stored


async def test_a_topic_that_was_made_anew_stops_the_worker_instead_of_passing_for_replayed(
    stack: Stack, environment: dict[str, str], settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    with WorkerProcess(environment, tmp_path / "first.log") as worker:
        await replay(CALLS, settings, limit=200)

        async def missing() -> str:
            assert worker.status is None, worker.log()
            return await unsettled(redis, 200, settings.policy())

        await eventually(missing, within_seconds=40)
        worker.stop()
    await delete_topics(stack)
    await replay(CALLS, settings, limit=20)
    with WorkerProcess(environment, tmp_path / "second.log") as worker:

        async def running() -> str:
            return "" if worker.status is not None else "the worker reads the new topic"

        await eventually(running, within_seconds=40)
        assert worker.status == 4, worker.log()
        assert "TIDEMARK_KAFKA_LOG_ID" in worker.log()


async def delete_topics(stack: Stack) -> None:
    """Returns when the broker knows none of them any more."""
    if not isinstance(stack.broker, ApacheKafka):
        stack.broker.restart()  # It keeps its log in memory.
        return
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.broker.bootstrap)
    await admin.start()
    try:
        topics = ["calls", "observations"]
        await admin.delete_topics(topics)

        async def left() -> str:
            return ", ".join(name for name in await admin.list_topics() if name in topics)

        await eventually(left, within_seconds=20)
    finally:
        await admin.close()


def producer(settings: Settings) -> AIOKafkaProducer:
    return AIOKafkaProducer(bootstrap_servers=settings.kafka_brokers)


def offset_of(letter: dict[str, Any]) -> int:
    return int(letter["origin"]["offset"])


async def dead_letters(settings: Settings) -> list[dict[str, Any]]:
    """All of them; the topic is made when the first one is sent, so it may not exist."""
    letters = []
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka_brokers, auto_offset_reset="earliest") as consumer:
        if "dead-letters" not in await consumer.topics():
            return []
        consumer.subscribe(["dead-letters"])
        while fetched := await consumer.getmany(timeout_ms=2000):
            letters += [orjson.loads(record.value) for records in fetched.values() for record in records]
    return letters


async def test_a_state_that_cannot_be_read_stops_the_worker_instead_of_letting_it_hang(
    environment: dict[str, str], settings: Settings, redis: Redis, tmp_path: Path
) -> None:
    key = "tidemark:1:{biller:B1}"
    await redis.zadd("tidemark:1:subjects", {"biller:B1": 0})
    await redis.hset(key, mapping={"schema": "99", "rev": "1"})
    await replay(CALLS, settings, limit=1)
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:

        async def running() -> str:
            return "" if worker.status is not None else "the worker runs"

        await eventually(running, within_seconds=40)
        assert worker.status == 4, worker.log()
        assert key in worker.log()
