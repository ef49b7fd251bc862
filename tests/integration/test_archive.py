"""The archive in a real PostgreSQL: each event once, and windows that are what its raw rows come to."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import numpy as np
import psycopg
import pytest

from detection.errors import DependencyError
from detection.events import Observed
from detection.gauge_bins import gauge_bins
from detection.hours import HOUR_MS
from detection.subject import Subject
from detection.windows import NANO
from local.stack import Stack
from state.archive import Archive, Archived, Horizon
from state.database import Database
from state.gauge_queries import Queries, parts_of
from state.label_sets import OTHER
from state.migrate import migrate
from state.questions import Comparison, Question
from tests.databases import ask, new_database
from tests.observations import METRICS, START_MS, arrived, observations, repeated_rows, rows_of, wrong_windows

MISTRAL = Subject.model("Mistral", "v1")


@pytest.fixture
def url(stack: Stack) -> Iterator[str]:
    with new_database(stack, "archive") as url:
        migrate(url)
        yield url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    async with Database(url) as database:
        yield database


@pytest.fixture
def archive(database: Database) -> Archive:
    return Archive(database, label_sets=3)


def observed(ms: int, value: float, **labels: str) -> Observed:
    return Observed(MISTRAL, START_MS + ms, {"drift": value}, labels)


async def test_windows_are_what_the_raw_rows_come_to(archive: Archive, url: str) -> None:
    events = observations(3000)
    for begin in range(0, 3000, 500):
        written = await archive.store([arrived(events[begin : begin + 500], begin=begin)])
        assert written == Archived(rows=rows_of(events[begin : begin + 500]))
    assert ask(url, "select count(*) from observation_events") == [(rows_of(events),)]
    assert wrong_windows(url) == []
    assert ask(url, 'select source, "offset" from archived_offsets') == [("log/observations/0", 3000)]


async def test_bins_count_each_value_where_it_lies(archive: Archive, url: str) -> None:
    events = observations(1200, models=1)
    for begin in range(0, 1200, 300):
        await archive.store([arrived(events[begin : begin + 300], begin=begin)])
    values = [event.gauges["drift"] for event in events if "drift" in event.gauges]
    expected = Counter(gauge_bins(np.array(values)).tolist())
    for table in ("gauge_minutes", "gauge_hours"):
        counted = ask(
            url,
            f"select bin, sum(events)::bigint from {table}, unnest(bins[1:1], bins[2:2]) as one (bin, events)"  # noqa: S608  # two names
            " where metric = 'drift' group by 1",
        )
        assert dict(counted) == expected


async def test_what_is_given_again_changes_nothing(archive: Archive, url: str) -> None:
    events = observations(400)
    await archive.store([arrived(events[:300])])
    before = rows(url)
    assert (await archive.store([arrived(events[:300])])).repeated == rows_of(events[:300])
    assert rows(url) == before
    overlapping = await archive.store([arrived(events[100:], begin=100)])
    assert overlapping == Archived(rows=rows_of(events[300:]), repeated=rows_of(events[100:300]))
    assert (repeated_rows(url), wrong_windows(url)) == ([], [])
    assert ask(url, "select count(*) from observation_events") == [(rows_of(events),)]


async def test_two_who_write_the_same_at_once_write_it_once(url: str) -> None:
    events = observations(2000)
    async with Database(url) as one, Database(url) as other:
        archives = [Archive(one), Archive(other)]
        for begin in range(0, 2000, 200):
            batch = arrived(events[begin : begin + 200], begin=begin)
            await asyncio.gather(*(archive.store([batch]) for archive in archives))
    assert (repeated_rows(url), wrong_windows(url)) == ([], [])
    assert ask(url, "select count(*) from observation_events") == [(rows_of(events),)]


async def test_sources_of_the_same_models_add_to_the_same_windows(url: str) -> None:
    async with Database(url) as one, Database(url) as other:
        archives = [Archive(one), Archive(other)]
        events = [observations(1500, seed=seed) for seed in range(2)]
        for begin in range(0, 1500, 150):
            await asyncio.gather(
                *(
                    archive.store([arrived(mine[begin : begin + 150], begin=begin, source=f"log/observations/{at}")])
                    for at, (archive, mine) in enumerate(zip(archives, events, strict=True))
                )
            )
    assert ask(url, "select sum(count)::bigint from gauge_hours") == [(sum(map(rows_of, events)),)]
    assert wrong_windows(url) == []


async def test_postgres_that_lost_what_it_had_is_noticed_and_nothing_is_written(archive: Archive, url: str) -> None:
    events = observations(300)
    await archive.store([arrived(events[:100])])
    assert await archive.store([arrived(events[200:], begin=200)]) == Archived(rewound={"log/observations/0": 100})
    assert ask(url, "select count(*) from observation_events") == [(rows_of(events[:100]),)]
    assert await archive.offsets(["log/observations/0", "log/observations/1"]) == {
        "log/observations/0": 100,
        "log/observations/1": 0,
    }


async def test_records_that_were_no_events_move_the_offset(archive: Archive) -> None:
    assert await archive.store([arrived([], begin=0)]) == Archived()
    batch = arrived(observations(5))
    await archive.store([batch])
    assert await archive.offsets([batch.source]) == {batch.source: 5}


async def test_the_last_value_is_the_newest_and_the_greatest_of_several(archive: Archive, url: str) -> None:
    await archive.store([arrived([observed(5, 1.0), observed(9, -2.0), observed(9, -3.0)])])
    await archive.store([arrived([observed(7, 8.0)], begin=3)])
    assert ask(url, "select last, count from gauge_minutes") == [(-2.0, 4)]
    await archive.store([arrived([observed(9, -1.0)], begin=4)])
    assert ask(url, "select last, count from gauge_hours") == [(-1.0, 5)]


async def test_sums_beyond_64_bits_are_exact(archive: Archive, url: str) -> None:
    values = [1e15, 1e15, -3.5, 1e15, 1e-9, -1e15, -1e15]
    events = [observed(number, value) for number, value in enumerate(values)]
    await archive.store([arrived(events[:5])])
    assert ask(url, "select sum_nano from gauge_hours") == [(sum(round(value * NANO) for value in values[:5]),)]
    await archive.store([arrived(events[5:], begin=5)])
    assert ask(url, "select sum_nano from gauge_hours") == [(sum(round(value * NANO) for value in values),)]


async def test_equal_label_sets_have_one_number(archive: Archive, url: str) -> None:
    events = [
        Observed(MISTRAL, START_MS, {"drift": 1.0}, {"a": "1", "b": "2"}),
        Observed(MISTRAL, START_MS, {"drift": 1.0}, {"b": "2", "a": "1"}),
        Observed(Subject.model("Llama", "v1"), START_MS, {"drift": 1.0}, {"a": "1", "b": "2"}),
        Observed(MISTRAL, START_MS, {"drift": 1.0}),
    ]
    await archive.store([arrived(events)])
    assert ask(url, "select id, labels from label_sets order by id") == [
        (0, {}),
        (1, None),
        (2, {"a": "1", "b": "2"}),
    ]
    assert ask(url, "select subject, label_set, count from gauge_hours order by 1, 2") == [
        ("model:Llama/v1", 2, 1),
        ("model:Mistral/v1", 0, 1),
        ("model:Mistral/v1", 2, 2),
    ]


async def test_a_flood_of_label_sets_is_counted_as_one(url: str) -> None:
    flood = [observed(number, 1.0, request=str(number)) for number in range(50)]
    others = Observed(Subject.model("Llama", "v1"), START_MS, {"drift": 1.0}, {"region": "eu"})
    async with Database(url) as one, Database(url) as other:
        await Archive(one, label_sets=3).store([arrived([*flood, others])])
        # Another process knows nothing of it yet.
        await Archive(other, label_sets=3).store([arrived([*flood, observed(0, 1.0)], begin=51)])
    counted = ask(url, "select label_set, count from gauge_hours where subject = 'model:Mistral/v1' order by 1")
    assert counted == [(0, 1), (OTHER, 94), *((number, 2) for number in sorted(one for one, _ in counted[2:]))]
    assert len(counted) == 5
    assert ask(url, "select count(*) from subject_label_sets where subject = 'model:Mistral/v1'") == [(5,)]
    assert ask(url, "select count from gauge_hours where subject = 'model:Llama/v1' and label_set > 1") == [(1,)]


async def test_a_label_that_json_can_hold_and_postgres_cannot_is_shown_otherwise(archive: Archive, url: str) -> None:
    await archive.store([arrived([observed(0, 1.0, text="a\0b\\u0000")])])
    assert ask(url, "select labels from label_sets where id > 1") == [({"text": "a�b\\u0000"},)]


async def test_events_older_than_is_kept_make_no_partition(archive: Archive, url: str) -> None:
    day_ms = 24 * HOUR_MS
    old = Observed(MISTRAL, START_MS - 40 * day_ms, {"drift": 1.0})
    horizon = Horizon(
        events_ms=START_MS - 30 * day_ms, minutes_ms=START_MS - 90 * day_ms, hours_ms=START_MS - 1830 * day_ms
    )
    assert await archive.store([arrived([old, observed(0, 2.0)])], horizon) == Archived(rows=1, expired=1)
    assert ask(url, "select count(*) from gauge_minutes") == [(2,)]
    assert partitions(url, "observation_events") == ["observation_events_20251121"]
    assert partitions(url, "gauge_minutes") == ["gauge_minutes_20251012", "gauge_minutes_20251121"]


async def test_observations_of_years_ago_are_kept_where_nothing_is_too_old(archive: Archive, url: str) -> None:
    old = Observed(MISTRAL, 946_684_800_000, {"drift": 1.0})
    young = Observed(MISTRAL, 4_102_444_799_999, {"drift": 1.0})
    assert await archive.store([arrived([old, young])]) == Archived(rows=2)
    assert ask(url, "select at from observation_events order by 1") == [
        (datetime(2000, 1, 1, tzinfo=UTC),),
        (datetime(2099, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),),
    ]
    assert wrong_windows(url) == []


async def test_a_partition_that_was_dropped_is_made_again(archive: Archive, url: str) -> None:
    events = observations(20)
    await archive.store([arrived(events[:10])])
    with psycopg.connect(url) as connection:
        connection.execute("drop table observation_events_20251121")
    with pytest.raises(DependencyError, match="no partition"):
        await archive.store([arrived(events[10:], begin=10)])
    assert await archive.store([arrived(events[10:], begin=10)]) == Archived(rows=rows_of(events[10:]))


def partitions(url: str, table: str) -> list[str]:
    """Names of the table's partitions."""
    found = ask(
        url, "select inhrelid::regclass::text from pg_inherits where inhparent = %s::regclass order by 1", table
    )
    return [name for (name,) in found]


def rows(url: str) -> list[object]:
    """Everything that the archive holds, each row with the transaction that wrote it last."""
    return [
        ask(url, f"select xmin::text, * from {table} order by 1, 2, 3, 4")  # noqa: S608  # three names
        for table in ("observation_events", "gauge_minutes", "gauge_hours")
    ]


async def test_raw_rows_of_a_series_are_found_by_their_index(archive: Archive, url: str) -> None:
    await archive.store([arrived(observations(500))])
    question = Question(Subject.model("Model1", "v1"), values=(Comparison("gt", 0.0),))
    statement, values = Queries(question).sums(parts_of(question, None, None), METRICS)
    with psycopg.connect(url) as connection:
        # As of tables that are not small.
        connection.execute("set enable_seqscan = off")
        plan = "\n".join(line for (line,) in connection.execute(b"explain " + statement.encode(), values))
    assert "Index Cond: ((hashtext(" in plan
