"""Partitions in a real PostgreSQL: made beside writers, dropped beside readers, and old tables moved into them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg
import pytest
from alembic import command
from alembic.config import Config

from detection.hours import HOUR_MS
from detection.policy import Policy
from local.stack import Stack
from state.archive import Horizon
from state.database import Database
from state.keeping import Keeping
from state.memory_store import MemoryStore
from state.migrate import migrate
from state.partitions import ALERTS, GAUGE_HOURS, OBSERVATION_EVENTS, OBSERVATIONS, Partitions, days_kept, drop_older
from stream.retention import Retention
from tests.databases import ask, new_database

NOON = datetime(2025, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def empty(stack: Stack) -> Iterator[str]:
    with new_database(stack, "partitions") as url:
        yield url


@pytest.fixture
def url(empty: str) -> str:
    migrate(empty)
    return empty


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with Database(url) as database:
        yield database


def partitions(url: str, table: str) -> list[str]:
    """Names of the table's partitions, oldest first."""
    return [
        name
        for (name,) in ask(
            url, "select inhrelid::regclass::text from pg_inherits where inhparent = %s::regclass order by 1", table
        )
    ]


def insert_event(connection: psycopg.Connection, at: datetime) -> None:
    connection.execute("insert into observation_events values (%s, 'model:M/v1', 'drift', 1, 0, 'log', 0)", (at,))


def days_ago(days: int) -> datetime:
    return NOON - timedelta(days=days)


async def test_everybody_makes_the_same_partitions_at_once(url: str) -> None:
    needed = {OBSERVATION_EVENTS: [days_ago(days) for days in range(5)], GAUGE_HOURS: [days_ago(40), NOON]}

    async def make() -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await Partitions().ensure(connection, needed)

    await asyncio.gather(*(make() for _ in range(6)))
    assert partitions(url, "observation_events") == [f"observation_events_202511{day}" for day in range(17, 22)]
    assert partitions(url, "gauge_hours") == ["gauge_hours_202510", "gauge_hours_202511"]


async def test_a_partition_is_made_while_a_writer_and_a_reader_hold_the_table(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await Partitions().ensure(connection, {OBSERVATION_EVENTS: [NOON]})
        with psycopg.connect(url) as writer:
            insert_event(writer, NOON)
            writer.execute("select count(*) from observation_events")
            await connection.execute("set lock_timeout = '2s'")
            await Partitions().ensure(connection, {OBSERVATION_EVENTS: [days_ago(1)]})
            insert_event(writer, days_ago(1))
    assert ask(url, "select count(*) from observation_events") == [(2,)]


def test_the_partition_of_a_moment_is_that_of_its_day_or_month_in_utc() -> None:
    evening_in_new_york = datetime.fromisoformat("2025-12-31T19:30:00-05:00")
    assert OBSERVATION_EVENTS.start_of(evening_in_new_york) == datetime(2026, 1, 1, tzinfo=UTC)
    assert OBSERVATIONS.name_of(OBSERVATIONS.start_of(evening_in_new_york)) == "observations_202601"
    december = datetime(2025, 12, 1, tzinfo=UTC)
    assert OBSERVATIONS.end_of(december) == datetime(2026, 1, 1, tzinfo=UTC)


async def test_what_is_older_than_is_kept_is_dropped_and_new_rows_are_untouched(database: Database, url: str) -> None:
    needed = {OBSERVATION_EVENTS: [days_ago(days) for days in range(40)], ALERTS: [days_ago(4000)]}
    async with database.transaction(needed):
        pass
    with psycopg.connect(url) as connection:
        for days in range(40):
            insert_event(connection, days_ago(days))
    kept = "select ctid::text, xmin::text, at from observation_events where at >= %s order by at"
    before = ask(url, kept, days_ago(30) - timedelta(hours=12))
    dropped = await database.retain(Keeping(), NOON)
    # The partition of the thirtieth day ends twelve hours too late to be all old.
    assert sorted(dropped) == ["alerts_201412", *(f"observation_events_202510{day}" for day in range(13, 22))]
    assert len(before) == 31
    assert ask(url, kept, days_ago(1000)) == before
    assert "observation_events_20251122" in partitions(url, "observation_events")
    assert await database.retain(Keeping(), NOON) == []


async def test_who_reads_and_writes_new_rows_does_not_wait_for_a_drop(database: Database, url: str) -> None:
    async with database.transaction({OBSERVATION_EVENTS: [days_ago(50), NOON]}):
        pass
    with psycopg.connect(url) as reader, psycopg.connect(url, autocommit=True) as writer:
        # A reader that is in the middle of old and new rows keeps the old ones there, and nobody else waits for it.
        reader.execute("select count(*) from observation_events")
        writer.execute("set lock_timeout = '500ms'")
        dropping = asyncio.create_task(database.retain(Keeping(), NOON))
        while not dropping.done():
            await asyncio.to_thread(insert_event, writer, NOON)
            await asyncio.to_thread(writer.execute, "select count(*) from observation_events")
            await asyncio.sleep(0.05)
        assert await dropping == []
    assert await database.retain(Keeping(), NOON) == ["observation_events_20251002"]
    assert ask(url, "select to_regclass('observation_events_20251002')") == [(None,)]


async def test_a_partition_on_its_way_out_is_made_anew_for_rows_of_its_time(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for left_by in ("a reader", "a crash"):
            await Partitions().ensure(connection, {OBSERVATION_EVENTS: [NOON]})
            if left_by == "a reader":
                with psycopg.connect(url) as reader:
                    reader.execute("select count(*) from observation_events")
                    assert await drop_older(connection, OBSERVATION_EVENTS, NOON + timedelta(days=9)) == []
            else:
                await connection.execute("alter table observation_events detach partition observation_events_20251121")
            await Partitions().ensure(connection, {OBSERVATION_EVENTS: [NOON]})
            with psycopg.connect(url) as writer:
                insert_event(writer, NOON)
            assert await drop_older(connection, OBSERVATION_EVENTS, NOON + timedelta(days=9)) == [
                "observation_events_20251121"
            ]


async def test_a_detached_partition_that_a_crash_left_is_dropped(url: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await Partitions().ensure(connection, {OBSERVATION_EVENTS: [NOON]})
        await connection.execute("alter table observation_events detach partition observation_events_20251121")
        assert await drop_older(connection, OBSERVATION_EVENTS, days_ago(100)) == ["observation_events_20251121"]


async def test_recorded_data_is_kept_by_the_clock_of_its_events(database: Database, url: str) -> None:
    recorded = datetime(2014, 3, 1, tzinfo=UTC)
    moments = [recorded - timedelta(days=days) for days in (0, 20, 40)]
    async with database.transaction({OBSERVATION_EVENTS: moments}):
        pass
    store = MemoryStore(Policy())
    by_events = Retention(database, store, Keeping(), wall_ms=None)
    # Nothing is known of the time yet, so nothing is too old.
    await by_events.look()
    assert (len(partitions(url, "observation_events")), by_events.horizon()) == (3, Horizon())
    newest_ms = round(recorded.timestamp() * 1000)
    await store.advance_clock(newest_ms)
    begun = Retention(database, store, Keeping(), wall_ms=None)
    assert await begun.tell_time()
    assert (len(partitions(url, "observation_events")), begun.horizon().events_ms) == (3, newest_ms - 30 * 24 * HOUR_MS)
    await by_events.look()
    assert partitions(url, "observation_events")[:2] == ["observation_events_20140209", "observation_events_20140301"]
    assert by_events.horizon().events_ms == newest_ms - 30 * 24 * HOUR_MS
    await Retention(database, store, Keeping(), wall_ms=lambda: round(NOON.timestamp() * 1000)).look()
    assert partitions(url, "observation_events") == ["observation_events_20251121", "observation_events_20251122"]


def test_every_partitioned_table_is_kept_for_so_many_days(url: str) -> None:
    tables = {name for (name,) in ask(url, "select relname from pg_class where relkind = 'p'")}
    assert {table.table for table in days_kept(Keeping())} == tables


def test_the_tables_of_before_are_moved_into_partitions_with_their_rows(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade = command.upgrade

    def to_before(config: Config, _revision: str) -> None:
        upgrade(config, "0002")

    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", to_before)
        migrate(empty)
    with psycopg.connect(empty) as connection:
        connection.execute(
            "insert into observations select 'biller:B' || one, 'error-rate', %s::timestamptz + one * interval '1 day',"
            " one, one, 'live' from generate_series(1, 100) one",
            (NOON,),
        )
        connection.execute(
            "insert into call_windows select 'biller:B' || one, %s::timestamptz + one * interval '1 day',"
            " one, 0, 0, 2::numeric ^ 100, 3, '{\"7\": 1}' from generate_series(1, 100) one",
            (NOON,),
        )
    observed: LiteralString = "select subject, metric, hour, value, count, origin from observations order by 1"
    before = [ask(empty, observed), ask(empty, "select * from call_windows order by 1")]
    migrate(empty)
    after = [ask(empty, observed), ask(empty, "select * from call_windows order by 1")]
    assert after == before
    assert partitions(empty, "observations") == [
        f"observations_{month}" for month in (202511, 202512, 202601, 202602, 202603)
    ]
