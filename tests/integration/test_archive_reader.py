"""From a real broker into a real PostgreSQL, with one of them, or the reader, killed: each event is there once."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import orjson
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from detection.events import Observed
from detection.hours import iso
from local.stack import PARTITIONS, Stack
from state.migrate import migrate
from tests.databases import ask
from tests.kafka.apache import ApacheKafka
from tests.observations import observations, repeated_rows, rows_of, wrong_windows
from tests.worker import WorkerProcess, eventually

READER = ("-m", "tests.archiving")

pytestmark = pytest.mark.faults


@pytest.fixture(params=["embedded"])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    """One for each test: the reader reads the whole topic, and PostgreSQL is killed."""
    folder = tmp_path / "stack"
    with Stack(folder, broker=ApacheKafka(folder) if request.param == "apache" else None) as running:
        migrate(running.postgres.url)
        yield running


@pytest.fixture
def environment(stack: Stack) -> dict[str, str]:
    return {**stack.environment(), "TIDEMARK_KAFKA_GROUP": "archiving", "TIDEMARK_FLUSH_SECONDS": "0.1"}


@pytest.fixture
async def producer(stack: Stack) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=stack.broker.bootstrap) as producer:
        yield producer


def as_record(event: Observed, number: int) -> bytes:
    """As it is sent; every seventh with its time as text."""
    name, version = event.subject.id.split("/")
    at: object = iso(event.timestamp_ms) if number % 7 == 0 else event.timestamp_ms
    return orjson.dumps({"name": name, "version": version, "timestamp": at, "labels": event.labels, **event.gauges})


async def send(producer: AIOKafkaProducer, events: Sequence[Observed]) -> None:
    """Over all partitions, with a record that is no event after every fifty."""
    for number, event in enumerate(events):
        partition = number % PARTITIONS
        await producer.send("observations", as_record(event, number), partition=partition)
        if number % 50 == 49:
            await producer.send("observations", b"no event", partition=partition)
    await producer.flush()


async def archived(url: str, rows: int) -> None:
    """Wait until so many rows are there, and no more."""

    async def missing() -> str:
        try:
            ((found,),) = await asyncio.to_thread(ask, url, "select count(*) from observation_events")
        except psycopg.OperationalError as error:
            return str(error)
        return "" if found == rows else f"{found} rows of {rows}"

    await eventually(missing, within_seconds=90)


async def committed(stack: Stack, group: str) -> int:
    """Records that the group has told Kafka it is done with."""
    async with AIOKafkaConsumer(bootstrap_servers=stack.broker.bootstrap, group_id=group) as consumer:
        offsets = [await consumer.committed(TopicPartition("observations", one)) for one in range(PARTITIONS)]
    return sum(offset or 0 for offset in offsets)


def everything(url: str) -> list[object]:
    """All rows of the archive, each with the transaction that wrote it last."""
    return [
        ask(url, f"select xmin::text, * from {table} order by 1, 2, 3, 4")  # noqa: S608  # three names
        for table in ("observation_events", "gauge_minutes", "gauge_hours")
    ]


@pytest.mark.parametrize("stack", ["embedded", pytest.param("apache", marks=pytest.mark.kafka)], indirect=True)
async def test_postgres_is_killed_under_load_and_every_event_is_there_once(
    stack: Stack, environment: dict[str, str], producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    await killed_under_load(stack, environment, producer, tmp_path, parts=4, away_seconds=1.0)


@pytest.mark.timeout(300)
async def test_postgres_is_away_for_a_minute_and_every_event_is_there_once(
    stack: Stack, environment: dict[str, str], producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    await killed_under_load(stack, environment, producer, tmp_path, parts=3, away_seconds=60.0)


async def killed_under_load(
    stack: Stack,
    environment: dict[str, str],
    producer: AIOKafkaProducer,
    folder: Path,
    *,
    parts: int,
    away_seconds: float,
) -> None:
    """Two readers, events without a pause, and PostgreSQL killed in the middle of every second part of them."""
    events = observations(parts * 3000, step_ms=400)
    url = stack.postgres.url
    with (
        WorkerProcess(environment, folder / "one.log", READER) as one,
        WorkerProcess(environment, folder / "other.log", READER) as other,
    ):
        for part in range(parts):
            sending = asyncio.create_task(send(producer, events[part * 3000 : (part + 1) * 3000]))
            if part % 2 == 1:
                stack.postgres.kill()
                if away_seconds > 1:
                    # While it is away events go on.
                    end = asyncio.get_running_loop().time() + away_seconds
                    while asyncio.get_running_loop().time() < end:
                        more = observations(100, seed=len(events), step_ms=400)
                        events += more
                        await send(producer, more)
                        await asyncio.sleep(0.1)
                await asyncio.to_thread(stack.postgres.start)
            await sending
        await archived(url, rows_of(events))
        assert (one.status, other.status) == (None, None)
    assert repeated_rows(url) == []
    assert wrong_windows(url) == []


async def test_a_reader_killed_between_the_two_commits_adds_nothing(
    stack: Stack, environment: dict[str, str], producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    events = observations(2000)
    url = stack.postgres.url
    await send(producer, events[:1000])
    with WorkerProcess(environment, tmp_path / "killed.log", (*READER, "between")) as killed:

        async def is_alive() -> str:
            return "it lives" if killed.status is None else ""

        await eventually(is_alive, within_seconds=60)
    assert ask(url, "select count(*) > 0 from observation_events") == [(True,)]
    assert await committed(stack, "archiving-archive") == 0
    with WorkerProcess(environment, tmp_path / "next.log", READER):
        await send(producer, events[1000:])
        await archived(url, rows_of(events))
    assert (repeated_rows(url), wrong_windows(url)) == ([], [])


async def test_a_reader_whose_cancellation_is_lost_stops_all_the_same(
    environment: dict[str, str], producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    await send(producer, observations(100))
    with WorkerProcess(environment, tmp_path / "deaf.log", (*READER, "deaf")) as deaf:
        assert await asyncio.to_thread(deaf.wait, 30) == 0, deaf.log()
    assert "archive.placed" in deaf.log()


async def test_a_topic_that_is_read_again_adds_nothing(
    stack: Stack, environment: dict[str, str], producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    events = observations(1500)
    url = stack.postgres.url
    await send(producer, events[:1000])
    with WorkerProcess(environment, tmp_path / "first.log", READER):
        await archived(url, rows_of(events[:1000]))
    before = everything(url)
    # A group that has read nothing, and one whose last transactions PostgreSQL does not know by their offsets alone.
    anew = {**environment, "TIDEMARK_KAFKA_GROUP": "anew"}
    with WorkerProcess(anew, tmp_path / "anew.log", READER) as reader:

        async def is_placed() -> str:
            return "" if "archive.placed" in reader.log() else "it does not read yet"

        await eventually(is_placed, within_seconds=60)
        assert everything(url) == before
        await send(producer, events[1000:])
        await archived(url, rows_of(events))
    assert (repeated_rows(url), wrong_windows(url)) == ([], [])


async def test_what_postgres_lost_is_read_again(
    stack: Stack, environment: dict[str, str], producer: AIOKafkaProducer, tmp_path: Path
) -> None:
    events = observations(1500)
    url = stack.postgres.url
    with WorkerProcess(environment, tmp_path / "reader.log", READER) as reader:
        await send(producer, events[:1000])
        await archived(url, rows_of(events[:1000]))
        # As a restored copy that is older than all of it.
        with psycopg.connect(url) as connection:
            connection.execute("truncate observation_events, gauge_minutes, gauge_hours, archived_offsets")
        await send(producer, events[1000:])
        await archived(url, rows_of(events))
        assert "archive.rewound" in reader.log()
    assert (repeated_rows(url), wrong_windows(url)) == ([], [])
