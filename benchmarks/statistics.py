"""`GET /stats/{name}/{version}` over 10 million stored observations, against the same questions asked of the raw rows.

Ten models send an event of four metrics every ten seconds for a month, from two regions. They are stored by the
archive itself, as a worker does it. Then five questions are asked of models at random, one after the other: over HTTP
of the API's own process, of the query layer without HTTP, and in plain SQL of the raw rows. The plan of the first of
them is written beside the results. `python -m benchmarks.statistics --quick` takes a fiftieth, and writes nothing.
"""

import asyncio
import http.client
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import urlencode

import numpy as np
import orjson
import psycopg
from rich.console import Console
from rich.progress import Progress

from benchmarks._observations import END_MS, METRICS, batches, subject_of
from benchmarks.context import RESULTS, ROOT, Context
from benchmarks.result import Result, Target
from detection.hours import HOUR_MS, MINUTE_MS, iso
from detection.policy import Policy
from detection.subject import Subject
from local.ports import free_port
from local.stack import Stack
from state.archive import Archive
from state.database import Database
from state.gauge_queries import Queries, parts_of
from state.migrate import migrate
from state.questions import Question
from state.redis_store import RedisStore
from state.statistics import Statistics

PLAN: Final = RESULTS / "statistics.plan.txt"

_DEADLINE_SECONDS: Final = 60
_EUROPE: Final = """(select id from label_sets where labels @> '{"region": "eu"}')"""
_SHARES: Final = "array[0.5, 0.9, 0.95, 0.99]"
# As quick as raw rows can be asked: by what their index has, metric by metric.
_RAW: Final = """
select {window}, metric, count(*), avg(value), min(value), max(value), max(at),
    (max(array[date_part('epoch', at), value]))[2], percentile_disc({shares}) within group (order by value)
from observation_events where subject = %(subject)s and {condition}
    and hashtext(subject || ' ' || metric)
        = any(array(select hashtext(%(subject)s::text || ' ' || one) from unnest(%(metrics)s::text[]) as one))
group by 1, 2 order by 1, 2
"""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is stored, and how often each question is asked."""

    models: int
    events_per_model: int
    asked: int
    asked_raw: int

    @property
    def observations(self) -> int:
        return self.models * self.events_per_model * len(METRICS)


WHOLE: Final = Size(models=10, events_per_model=250_000, asked=200, asked_raw=10)
QUICK: Final = Size(models=5, events_per_model=10_000, asked=30, asked_raw=3)


@dataclass(frozen=True, slots=True)
class Asked:
    """One question, as a person says it, as the API is asked, and what of the raw rows answers it."""

    name: str
    parameters: dict[str, str]
    question: Callable[[Subject], Question]
    window: str = "to_timestamp(0)"
    condition: str = "true"


def _since(ms: int) -> dict[str, str]:
    return {"from": iso(END_MS - ms)}


ASKED: Final = (
    Asked("everything that is known of a model", {}, Question),
    Asked(
        "the last day, hour by hour",
        {**_since(24 * HOUR_MS), "step": "1h", "limit": "1000"},
        lambda subject: Question(subject, from_ms=END_MS - 24 * HOUR_MS, step_ms=HOUR_MS),
        window="date_bin('1 hour', at, to_timestamp(0))",
        condition=f"at >= '{iso(END_MS - 24 * HOUR_MS)}'",
    ),
    Asked(
        "one metric, day by day",
        {"metric": "inference_time", "step": "1d"},
        lambda subject: Question(subject, metrics=("inference-time",), step_ms=24 * HOUR_MS),
        window="date_bin('1 day', at, to_timestamp(0))",
        condition="metric = 'inference-time'",
    ),
    Asked(
        "the last hour, minute by minute",
        {**_since(HOUR_MS), "step": "1m", "limit": "1000"},
        lambda subject: Question(subject, from_ms=END_MS - HOUR_MS, step_ms=MINUTE_MS),
        window="date_bin('1 minute', at, to_timestamp(0))",
        condition=f"at >= '{iso(END_MS - HOUR_MS)}'",
    ),
    Asked(
        "a week of one region",
        {**_since(7 * 24 * HOUR_MS), "label": "region:eu"},
        lambda subject: Question(subject, from_ms=END_MS - 7 * 24 * HOUR_MS, labels={"region": "eu"}),
        condition=f"at >= '{iso(END_MS - 7 * 24 * HOUR_MS)}' and label_set in {_EUROPE}",
    ),
)


def run(context: Context) -> list[Result]:
    return measured(context, WHOLE, plan=PLAN)


def measured(context: Context, size: Size, *, plan: Path | None) -> list[Result]:
    """As `run`; the plan is shown, and written where it is to be."""
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as name, Stack(Path(name) / "stack") as stack:
        migrate(stack.postgres.url)
        with context.part(f"{size.observations:,} observations into PostgreSQL"):
            seconds = asyncio.run(_fill(stack.postgres.url, size))
        context.say(f"stored by the archive at {size.observations / seconds:,.0f} observations/s")
        with psycopg.connect(stack.postgres.url, autocommit=True) as connection:
            connection.execute("vacuum analyze")
        explained = asyncio.run(_explained(stack.postgres.url))
        context.say(explained)
        if plan is not None:
            plan.write_text(explained + "\n", encoding="utf-8")
        with context.part("over HTTP"), _api(stack, Path(name) / "api.log") as port:
            over_http = _ask_http(port, size)
        with context.part("of the query layer"):
            of_layer = asyncio.run(_ask_layer(stack, size))
        with context.part("of the raw rows"):
            of_rows = _ask_rows(stack.postgres.url, size)
    return list(_results(size, over_http, of_layer, of_rows))


Latencies = dict[str, list[float]]


def _results(size: Size, over_http: Latencies, of_layer: Latencies, of_rows: Latencies) -> Iterator[Result]:
    everything = [one for some in over_http.values() for one in some]
    raw = "the same questions of the raw rows, in SQL"
    yield Result(
        name=f"GET /stats over {size.observations:,} observations, five questions in turn, 99th percentile",
        value=_p99(everything),
        unit="ms",
        reference=f"{raw}: 99th percentile",
        reference_value=_p99([one for some in of_rows.values() for one in some]),
        target=Target(at_most=50),
    )
    yield Result(
        name="of which in the query layer, 99th percentile",
        value=_p99([one for some in of_layer.values() for one in some]),
        unit="ms",
        target=Target(at_most=50),
    )
    for asked in ASKED:
        yield Result(
            name=f"{asked.name}: median over HTTP",
            value=median(over_http[asked.name]),
            unit="ms",
            reference="the same of the raw rows, in SQL",
            reference_value=median(of_rows[asked.name]),
        )
        yield Result(name=f"{asked.name}: 99th percentile over HTTP", value=_p99(over_http[asked.name]), unit="ms")


def _p99(values: Sequence[float]) -> float:
    return float(np.percentile(values, 99))


async def _fill(url: str, size: Size) -> float:
    """Seconds that storing took; the next batch is prepared while one is written."""
    seconds = 0.0
    async with Database(url) as database:
        archive = Archive(database)
        for arrived in batches(models=size.models, events_per_model=size.events_per_model):
            started = time.perf_counter()
            await archive.store([arrived])
            seconds += time.perf_counter() - started
    return seconds


def _questions(size: Size, times: int) -> Iterator[tuple[Asked, Subject]]:
    """Each of the five as often, of models at random."""
    chance = random.Random(11)
    for _ in range(times):
        for asked in ASKED:
            yield asked, subject_of(chance.randrange(size.models))


def _ask_http(port: int, size: Size) -> Latencies:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_DEADLINE_SECONDS)

    def ask(asked: Asked, subject: Subject) -> Any:
        connection.request("GET", f"/stats/{subject.id}?{urlencode(asked.parameters)}")
        response = connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(body.decode())
        return body

    for asked, subject in _questions(size, times=8):
        ask(asked, subject)
    found: Latencies = {}
    for asked, subject in _questions(size, times=size.asked):
        started = time.perf_counter()
        ask(asked, subject)
        found.setdefault(asked.name, []).append(1000 * (time.perf_counter() - started))
    counted = sum(one["count"] for one in orjson.loads(ask(ASKED[0], subject_of(0)))["metrics"].values())
    if counted != size.events_per_model * len(METRICS):
        raise RuntimeError(f"{counted} observations were counted, {size.events_per_model * len(METRICS)} were stored")
    return found


async def _ask_layer(stack: Stack, size: Size) -> Latencies:
    found: Latencies = {}
    store = RedisStore.connect(stack.valkey.url, Policy())
    async with aclosing(store), Database(stack.postgres.url) as database:
        statistics = Statistics(database, store)
        for is_warm, times in ((False, 8), (True, size.asked)):
            for asked, subject in _questions(size, times=times):
                started = time.perf_counter()
                await statistics.page(asked.question(subject), limit=1000)
                if is_warm:
                    found.setdefault(asked.name, []).append(1000 * (time.perf_counter() - started))
    return found


def _ask_rows(url: str, size: Size) -> Latencies:
    found: Latencies = {}
    with psycopg.connect(url, autocommit=True) as connection:
        for asked, subject in _questions(size, times=size.asked_raw):
            statement = _RAW.format(window=asked.window, condition=asked.condition, shares=_SHARES)
            started = time.perf_counter()
            connection.execute(statement.encode(), {"subject": str(subject), "metrics": list(METRICS)}).fetchall()
            found.setdefault(asked.name, []).append(1000 * (time.perf_counter() - started))
    return found


async def _explained(url: str) -> str:
    """How PostgreSQL finds the answer to the first question."""
    question = ASKED[0].question(subject_of(3))
    statement, values = Queries(question).sums(parts_of(question, None, None), METRICS)
    async with Database(url) as database, database.connection() as connection:
        await connection.execute(statement, values)
        cursor = await connection.execute("explain (analyze, buffers, costs off) " + statement, values)
        return "\n".join(line for (line,) in await cursor.fetchall())


@contextmanager
def _api(stack: Stack, log: Path) -> Iterator[int]:
    """The API as it is run, in a process of its own; its port, once it answers."""
    port = free_port()
    environment = {**os.environ, **stack.environment(), "TIDEMARK_HTTP_PORT": str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "api"], env=environment, cwd=ROOT, stdout=output, stderr=output
        )
        try:
            _await_answer(port, log)
            yield port
        finally:
            process.terminate()
            process.wait(_DEADLINE_SECONDS)


def _await_answer(port: int, log: Path) -> None:
    end = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            time.sleep(0.1)
        finally:
            connection.close()
    raise RuntimeError(f"the API does not answer: {log.read_text()[-2000:]}")


def main() -> None:
    """The quick size, as a table."""
    from benchmarks.__main__ import table

    console = Console()
    with Progress(console=console) as progress:
        results = measured(Context(console=console, progress=progress), QUICK, plan=None)
    console.print(table("statistics, quick", results))


if __name__ == "__main__":
    if sys.argv[1:] != ["--quick"]:
        sys.exit("python -m benchmarks statistics measures all of it; python -m benchmarks.statistics --quick a part")
    main()
