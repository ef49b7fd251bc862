"""The history in a real PostgreSQL: repeating changes nothing, and a value comes back bit for bit."""

import asyncio
import math
import struct
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import count
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from detection.errors import DependencyError, InvalidRowError
from detection.subject import Subject
from detection.windows import CallWindow, Window
from local.stack import Stack
from state.history import History, Row
from state.migrate import migrate
from tests.contract.states import FIRST_HOUR, call_window, gauge_window

B1 = Subject.biller("B1")
MISTRAL = Subject.model("Mistral", "v1")
SLUG = "average-response-time"
NUMBERS = count(1)


@pytest.fixture
def empty_database(stack: Stack) -> Iterator[str]:
    """The URL of a database of the test's own."""
    name = f"history_{NUMBERS.__next__()}"
    with psycopg.connect(stack.postgres.url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        yield urlsplit(stack.postgres.url)._replace(path=f"/{name}").geturl()
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def database(empty_database: str) -> str:
    migrate(empty_database)
    return empty_database


@pytest.fixture
async def history(database: str) -> AsyncIterator[History]:
    async with History(database) as history:
        yield history


def windows(hours: int = 3) -> dict[Subject, dict[int, Window]]:
    return {
        B1: {FIRST_HOUR + hour: call_window(100_000 + hour, 200_000, errors=1, timeouts=1) for hour in range(hours)},
        MISTRAL: {FIRST_HOUR: gauge_window(drift=0.1, prediction_accuracy=-0.7)},
    }


def rows_of(url: str, table: str) -> list[tuple[object, ...]]:
    """Every row with the transaction that wrote it last: an untouched row keeps its own."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            sql.SQL("select xmin::text, * from {} order by 2, 3, 4").format(sql.Identifier(table))
        ).fetchall()


async def origins(history: History) -> dict[int, str]:
    """Where each known hour of the series came from."""
    return {row.hour: row.origin for row in await history.read(B1, SLUG)}


async def test_closed_windows_and_their_values_are_kept(history: History, database: str) -> None:
    await history.record(windows())
    assert await history.read(B1, SLUG) == [
        Row(FIRST_HOUR + hour, (300_000 + hour) / 2 / 1000.0, 2, "live") for hour in range(3)
    ]
    assert await history.read(MISTRAL, "drift") == [Row(FIRST_HOUR, 0.1, 1, "live")]
    assert await history.count() == 3 * 3 + 2
    assert len(rows_of(database, "call_windows")) == 3


async def test_recording_the_same_again_touches_no_row(history: History, database: str) -> None:
    await history.record(windows())
    before = rows_of(database, "call_windows"), rows_of(database, "observations")
    await history.record(windows())
    await asyncio.gather(*(history.record(windows()) for _ in range(8)))
    assert (rows_of(database, "call_windows"), rows_of(database, "observations")) == before


async def test_a_corrected_window_takes_the_place_of_the_old_one(history: History, database: str) -> None:
    await history.record(windows())
    await history.record({B1: {FIRST_HOUR: call_window(5_000)}})
    assert (await history.read(B1, SLUG))[0] == Row(FIRST_HOUR, 5.0, 1, "live")
    assert await history.count() == 11


async def test_a_live_window_leaves_what_the_model_was_trained_with(history: History) -> None:
    await history.add_training(B1, SLUG, [(FIRST_HOUR + 1, 42.0, 7)])
    await history.record(windows())
    assert [row.origin for row in await history.read(B1, SLUG)] == ["live", "train", "live"]
    assert (await history.read(B1, SLUG))[1] == Row(FIRST_HOUR + 1, 42.0, 7, "train")
    assert await origins(history) == {FIRST_HOUR: "live", FIRST_HOUR + 1: "train", FIRST_HOUR + 2: "live"}


async def test_training_leaves_the_hours_that_are_known(history: History) -> None:
    await history.record(windows())
    live = await history.read(B1, SLUG)
    training = [(FIRST_HOUR + hour, 1.0, 1) for hour in range(-2, 3)]
    await history.add_training(B1, SLUG, training)
    await history.add_training(B1, SLUG, [(hour, 2.0, 2) for hour, _, _ in training])
    assert await history.read(B1, SLUG) == [Row(FIRST_HOUR + hour, 1.0, 1, "train") for hour in (-2, -1)] + live


async def test_replacing_a_series_leaves_the_others_alone(history: History) -> None:
    await history.record(windows())
    others = await history.read(B1, "error-rate")
    await history.replace(B1, SLUG, [(FIRST_HOUR + 9, 3.0, 4)], live_from_hour=FIRST_HOUR)
    assert await history.read(B1, SLUG) == [Row(FIRST_HOUR + 9, 3.0, 4, "train")]
    assert await history.read(B1, "error-rate") == others
    await history.replace(B1, SLUG, [], live_from_hour=FIRST_HOUR)
    assert await history.read(B1, SLUG) == []


async def test_what_was_learned_before_a_series_was_replaced_does_not_come_back(history: History) -> None:
    on_its_way = windows(5)
    await history.record(windows(2))
    await history.replace(B1, SLUG, [(FIRST_HOUR + 1, 42.0, 7)], live_from_hour=FIRST_HOUR + 3)
    await history.record(on_its_way)
    kept = {FIRST_HOUR + 1: "train", FIRST_HOUR + 3: "live", FIRST_HOUR + 4: "live"}
    assert await origins(history) == kept
    assert len(await history.read(B1, "error-rate")) == 5
    await history.replace(B1, SLUG, [], live_from_hour=FIRST_HOUR + 5)
    await history.record(on_its_way)
    assert await origins(history) == {}


async def test_a_series_is_replaced_only_after_what_is_being_written_is_there(history: History, database: str) -> None:
    """The worker's transaction has written the series' first hours, and waits for a lock that we hold on the last."""
    # There is a partition for its hours already.
    await history.record({MISTRAL: windows()[MISTRAL]})
    async with await psycopg.AsyncConnection.connect(database) as blocker:
        await blocker.execute(
            "insert into observations values (%s, 'timeout-error-rate', %s, 1, 1, 'live')",
            (str(B1), datetime.fromtimestamp((FIRST_HOUR + 2) * 3600, UTC)),
        )
        recording = asyncio.create_task(history.record(windows()))
        await waiting(database, sessions=1)
        replacing = asyncio.create_task(
            history.replace(B1, SLUG, [(FIRST_HOUR + 9, 3.0, 4)], live_from_hour=FIRST_HOUR + 5)
        )
        await waiting(database, sessions=2, unless=replacing)
        await blocker.rollback()
        await asyncio.gather(recording, replacing)
    assert await origins(history) == {FIRST_HOUR + 9: "train"}
    assert len(await history.read(B1, "timeout-error-rate")) == 3


async def waiting(url: str, *, sessions: int, unless: "asyncio.Task[None] | None" = None) -> None:
    """Until so many sessions of the history wait for a lock, or the task is done without."""
    async with asyncio.timeout(20), await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while unless is None or not unless.done():
            cursor = await connection.execute(
                "select count(*) from pg_stat_activity where datname = current_database()"
                " and application_name = 'tidemark' and wait_event_type = 'Lock'"
            )
            if await cursor.fetchone() == (sessions,):
                return
            await asyncio.sleep(0.02)


async def test_hours_are_read_in_order_from_one_to_before_another(history: History) -> None:
    rows = [(FIRST_HOUR + hour, float(hour), 1) for hour in (5, 1, 3, 2, 4)]
    await history.add_training(B1, SLUG, rows)
    found = await history.read(B1, SLUG, FIRST_HOUR + 2, FIRST_HOUR + 5)
    assert [row.hour - FIRST_HOUR for row in found] == [2, 3, 4]
    assert [row.hour - FIRST_HOUR for row in await history.read(B1, SLUG, FIRST_HOUR + 4)] == [4, 5]
    assert [row.hour - FIRST_HOUR for row in await history.read(B1, SLUG, to_hour=FIRST_HOUR + 2)] == [1]


async def test_a_value_comes_back_bit_for_bit(history: History) -> None:
    values = [0.1 + 0.2, 5e-324, -0.0, 1.7976931348623157e308, math.pi, 1e-9, 100 / 3]
    await history.add_training(B1, SLUG, [(hour, value, 1) for hour, value in enumerate(values)])
    found = await history.read(B1, SLUG)
    assert [struct.pack("<d", row.value) for row in found] == [struct.pack("<d", value) for value in values]


async def test_sums_beyond_64_bits_are_kept_exactly(history: History, database: str) -> None:
    window = CallWindow(calls=1, latency_us=2**63, latency_us2=2**126 + 1, bins={252: 1})
    await history.record({B1: {FIRST_HOUR: window}})
    ((_, *row),) = rows_of(database, "call_windows")
    assert row[5:] == [2**63, 2**126 + 1, {"252": 1}]


async def test_an_hour_without_calls_has_no_value(history: History, database: str) -> None:
    await history.record({B1: {FIRST_HOUR: CallWindow()}})
    assert await history.count() == 0
    assert len(rows_of(database, "call_windows")) == 1
    await history.record({})


async def test_writers_of_the_same_rows_in_another_order_do_not_block_each_other(history: History) -> None:
    forwards = {Subject.biller(f"B{number}"): windows()[B1] for number in range(200)}
    backwards = dict(reversed(forwards.items()))
    await asyncio.gather(*(history.record(each) for each in (forwards, backwards) * 4))
    assert await history.count() == 200 * 9


async def test_a_data_set_that_breaks_off_leaves_everything_as_it_was(history: History) -> None:
    await history.add_training(B1, SLUG, [(FIRST_HOUR, 1.0, 1)])

    def breaking_off() -> Iterator[tuple[int, float, int]]:
        yield FIRST_HOUR, 2.0, 2
        raise InvalidRowError(2, "value", "is missing")

    with pytest.raises(InvalidRowError):
        await history.replace(B1, SLUG, breaking_off(), live_from_hour=FIRST_HOUR)
    assert await history.read(B1, SLUG) == [Row(FIRST_HOUR, 1.0, 1, "train")]


async def test_what_postgres_cannot_keep_is_a_dependency_error(history: History) -> None:
    with pytest.raises(DependencyError, match="postgres"):
        await history.read(B1, "a\0b")


def test_migrating_twice_changes_nothing(database: str) -> None:
    migrate(database)
    assert rows_of(database, "call_windows") == []


async def test_everybody_who_starts_at_once_finds_the_tables(empty_database: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(migrate, empty_database) for _ in range(4)))
    async with History(empty_database) as history:
        assert await history.count() == 0


async def test_tables_that_are_missing_are_a_dependency_error(empty_database: str) -> None:
    async with History(empty_database) as history:
        await history.ping()
        with pytest.raises(DependencyError, match="observations"):
            await history.count()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_a_server_that_is_away_is_a_dependency_error() -> None:
    url = "postgresql://postgres@127.0.0.1:1/postgres"
    async with History(url, timeout_seconds=0.2) as history:
        calls = [
            history.ping(),
            history.count(),
            history.record(windows()),
            history.read(B1, SLUG),
            history.add_training(B1, SLUG, [(1, 1.0, 1)]),
            history.replace(B1, SLUG, [], live_from_hour=FIRST_HOUR),
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [DependencyError] * len(calls)
    with pytest.raises(DependencyError):
        await asyncio.to_thread(migrate, url)


async def test_a_session_that_was_ended_is_replaced(history: History, database: str) -> None:
    await history.ping()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
    await history.record(windows())
    assert await history.count() == 11
