"""Rows a second into PostgreSQL: 10,000,000 observations as raw rows, minutes and hours, each batch one transaction.

Ten models with three metrics each and an event every 100 ms: what a batch brings falls into the windows of its own
time. Events are made outside of what is measured. The reference writes the raw rows alone, one by one, with psycopg's
own COPY, into the same table with the same index: no windows, no offsets.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import LiteralString

import psycopg

from benchmarks.context import Context
from benchmarks.result import Result, Target
from detection.events import Observed
from detection.subject import Subject
from local.postgres import Postgres
from state.archive import Archive, Arrived
from state.database import Database
from state.migrate import migrate
from state.partitions import OBSERVATION_EVENTS

OBSERVATIONS = 10_000_000
METRICS = ("prediction-accuracy", "drift", "inference-time")
MODELS = 10
STEP_MS = 100
START_MS = 1_763_755_200_000
# As many rows as the reader makes one transaction of.
EVENTS_OF_BATCH = 33_333
# Batches that are made, then measured: enough that preparing one beside writing another is what is seen.
BATCHES_AT_ONCE = 10
REFERENCE_ROWS = 500_000

_SOURCE = "bench/observations/0"
_DRAWN = 10_007
_COPY = """
copy observation_events (at, subject, metric, value, label_set, source, "offset") from stdin (format binary)
"""


def run(context: Context) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as name:
        postgres = Postgres(Path(name))
        postgres.start()
        try:
            migrate(postgres.url)
            with context.part(f"{OBSERVATIONS:,} observations"):
                seconds = asyncio.run(_archive(postgres.url, context))
            counted = _one(postgres.url, "select sum(count)::bigint from gauge_hours")
            if counted != _one(postgres.url, "select count(*) from observation_events") or counted < OBSERVATIONS:
                raise RuntimeError(f"the hours count {counted} observations")
            windows = _one(postgres.url, "select count(*) from gauge_minutes")
            size = _one(postgres.url, "select sum(pg_total_relation_size(inhrelid))::bigint from pg_inherits")
            with context.part(f"{REFERENCE_ROWS:,} rows, one by one"):
                reference = asyncio.run(_one_by_one(postgres.url))
        finally:
            postgres.stop()
    return [
        Result(
            name=f"{OBSERVATIONS:,} observations into raw rows and {windows:,} minutes, with hours and offsets",
            value=counted / seconds,
            unit="rows/s",
            reference="psycopg's write_row: the raw rows alone, same table and index",
            reference_value=reference,
            target=Target(at_least=100_000),
        ),
        Result(name="bytes of an observation, windows and indexes included", value=size / counted, unit="bytes"),
    ]


async def _archive(url: str, context: Context) -> float:
    """Seconds for preparing and writing all; making the events is not counted."""
    made = _batches()
    seconds, done = 0.0, 0
    async with Database(url) as database:
        archive = Archive(database)
        while batches := list(islice(made, BATCHES_AT_ONCE)):
            begun = time.perf_counter()
            writing: asyncio.Task[object] | None = None
            for batch in batches:
                prepared = await archive.prepare([batch])
                if writing is not None:
                    await writing
                writing = asyncio.create_task(archive.write(prepared))
            if writing is not None:
                await writing
            seconds += time.perf_counter() - begun
            done += sum(len(batch.events) for batch in batches) * len(METRICS)
            context.say(f"{done:,} rows, {done / seconds:,.0f} rows/s")
    return seconds


async def _one_by_one(url: str) -> float:
    """Rows a second."""
    types = ("timestamptz", "text", "text", "float8", "int8", "text", "int8")
    # A day that the archive has no rows of: the same empty index to begin with.
    first = datetime.fromtimestamp(START_MS / 1000, UTC) + timedelta(days=1000)
    rows: list[tuple[datetime, str, str, float, int, str, int]] = []
    for batch in _batches():
        for event, offset in zip(batch.events, batch.offsets, strict=True):
            at = first + timedelta(milliseconds=event.timestamp_ms - START_MS)
            rows += [(at, str(event.subject), slug, value, 0, _SOURCE, offset) for slug, value in event.gauges.items()]
        if len(rows) >= REFERENCE_ROWS:
            break
    async with Database(url) as database, database.transaction({OBSERVATION_EVENTS: [row[0] for row in rows]}):
        pass
    begun = time.perf_counter()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        size = EVENTS_OF_BATCH * len(METRICS)
        for begin in range(0, len(rows), size):
            async with cursor.copy(_COPY) as copy:
                copy.set_types(types)
                for row in rows[begin : begin + size]:
                    await copy.write_row(row)
    return len(rows) / (time.perf_counter() - begun)


def _batches() -> Iterator[Arrived]:
    """Repeatable events, at least as many as are asked for; values are drawn from a list, which costs nothing."""
    chance = random.Random(0)
    subjects = [Subject.model(f"Model{number}", "v1") for number in range(MODELS)]
    drawn = [
        {
            METRICS[0]: chance.betavariate(8, 2),
            METRICS[1]: chance.gauss(0, 0.1),
            METRICS[2]: chance.lognormvariate(2.5, 0.4),
        }
        for _ in range(_DRAWN)
    ]
    begin, events = 0, -(-OBSERVATIONS // len(METRICS))
    while begin < events:
        end = min(begin + EVENTS_OF_BATCH, events)
        yield Arrived(_SOURCE, begin, _events(subjects, drawn, begin, end), range(begin, end), end)
        begin = end


def _events(subjects: Sequence[Subject], drawn: Sequence[dict[str, float]], begin: int, end: int) -> list[Observed]:
    return [
        Observed(subjects[number % MODELS], START_MS + number * STEP_MS, drawn[number % _DRAWN])
        for number in range(begin, end)
    ]


def _one(url: str, statement: LiteralString) -> int:
    with psycopg.connect(url) as connection:
        ((found,),) = connection.execute(statement).fetchall()
    return int(found)
