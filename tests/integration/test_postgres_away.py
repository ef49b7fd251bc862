"""PostgreSQL killed under a whole worker, an API and a steady load: nothing is lost, repeated or miscounted.

`tidemark simulate` sends through the API before, while and after PostgreSQL is away. Then what the API answers is
compared with the raw rows, counted again in SQL, and with the events themselves, which the same scenario gives again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest
from redis.asyncio import Redis

from detection.errors import DependencyError
from detection.hours import HOUR_MS, iso, parse_ms
from detection.simulation.events import Event, is_call, simulate_events
from detection.simulation.scenario import Scenario
from local.ports import LOOPBACK, free_port
from local.stack import Stack
from state import keys
from state.database import Database
from state.migrate import migrate
from state.moments import ms_of
from tests.databases import ask
from tests.observations import repeated_rows, wrong_windows
from tests.worker import WorkerProcess, eventually, hashes, text

pytestmark = pytest.mark.faults

START_MS = parse_ms("2026-03-02T08:00:00Z")
SLUGS = ("prediction_accuracy", "drift", "inference_time")
# What a worker may grow by while PostgreSQL is away, from a few seconds after it went: a batch that waits, and a poll.
MOST_WHILE_AWAY_BYTES = 48 * 1024 * 1024
# And when it catches up: two batches of 100,000 rows at a time, however many wait.
MOST_AFTERWARDS_BYTES = 256 * 1024 * 1024
SETTLED_SHARE = 0.2
# Until PostgreSQL is killed: the first rows have to be there.
BEGINNING_SECONDS = 15
# How long a question waits for a connection after PostgreSQL is back: the longest pause between two attempts, and room.
BACK_SECONDS = 4.0

# Counted from the raw rows alone; PostgreSQL's own percentiles, and sums of numerics, which lose no digit.
RECOUNTED = """
select subject, replace(metric, '-', '_'), count(*), sum(value::text::numeric) / count(*), min(value), max(value),
    (array_agg(value order by at desc, value desc))[1], max(at),
    percentile_disc(array[0.5, 0.9, 0.95, 0.99]) within group (order by value)
from observation_events group by 1, 2
"""

Series = tuple[str, str]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path / "stack") as running:
        migrate(running.postgres.url)
        yield running


@pytest.fixture
def environment(stack: Stack) -> dict[str, str]:
    return {
        **stack.environment(),
        "TIDEMARK_CLOCK": "events",
        "TIDEMARK_FLUSH_SECONDS": "0.2",
        "TIDEMARK_HTTP_PORT": str(free_port()),
    }


@pytest.fixture
async def client(environment: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    url = f"http://{LOOPBACK}:{environment['TIDEMARK_HTTP_PORT']}"
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


async def test_however_long_postgres_was_away_it_is_asked_soon_after_it_is_back(stack: Stack) -> None:
    async with Database(stack.postgres.url, timeout_seconds=BACK_SECONDS) as database:
        await database.ping()
        stack.postgres.kill()
        # A pool that only waits longer after each attempt makes its fifth after 15 s, and its sixth after 31.
        for _ in range(4):
            with pytest.raises(DependencyError):
                await database.ping()
        await asyncio.sleep(17 - 4 * BACK_SECONDS)
        await asyncio.to_thread(stack.postgres.start)
        await database.ping()


@pytest.mark.timeout(600)
async def test_postgres_is_killed_under_a_whole_worker_and_statistics_are_exact_afterwards(
    stack: Stack, environment: dict[str, str], client: httpx.AsyncClient, tmp_path: Path
) -> None:
    scenario = Scenario(seed=3, billers=5, models=20, start_ms=START_MS, hours=8, incidents=1, model_incidents=1)
    await killed_under_load(stack, environment, client, tmp_path, scenario=scenario, away_seconds=5.0)


@pytest.mark.timeout(900)
async def test_postgres_is_away_for_a_minute_and_statistics_are_exact_afterwards(
    stack: Stack, environment: dict[str, str], client: httpx.AsyncClient, tmp_path: Path
) -> None:
    scenario = Scenario(seed=4, billers=4, models=30, start_ms=START_MS, hours=24, incidents=3, model_incidents=3)
    await killed_under_load(stack, environment, client, tmp_path, scenario=scenario, away_seconds=60.0)


async def killed_under_load(
    stack: Stack,
    environment: dict[str, str],
    client: httpx.AsyncClient,
    folder: Path,
    *,
    scenario: Scenario,
    away_seconds: float,
) -> None:
    """The load goes on for a quarter of that time after PostgreSQL was away, and for what it takes to begin."""
    events = list(simulate_events(scenario))
    speed = scenario.hours * 3600 / (1.25 * away_seconds + BEGINNING_SECONDS)
    with ExitStack() as processes:
        worker = processes.enter_context(WorkerProcess(environment, folder / "worker.log"))
        api = processes.enter_context(WorkerProcess(environment, folder / "api.log", ("-m", "cli.main", "api")))
        await eventually(lambda: away(client), within_seconds=120)
        load = processes.enter_context(
            WorkerProcess(environment, folder / "load.log", simulating(scenario, speed, client))
        )
        await eventually(lambda: rows_missing(stack.postgres.url, least=1000), within_seconds=120)
        before = memory(worker)
        stack.postgres.kill()
        await while_away(stack, client, (worker, api), away_seconds)
        await asyncio.to_thread(stack.postgres.start)
        await eventually(lambda: running(load), within_seconds=300)
        assert load.status == 0, load.log()
        wanted = sum(not is_call(event) for event in events) * len(SLUGS)
        await eventually(lambda: rows_missing(stack.postgres.url, least=wanted), within_seconds=300)
        await eventually(lambda: unfinished(stack, events), within_seconds=300)
        assert (worker.status, api.status) == (None, None), worker.log() + api.log()
        assert memory(worker) < before + MOST_AFTERWARDS_BYTES
        assert "archive.postponed" in worker.log()
        every_event_is_one_row(stack.postgres.url, events)
        every_call_is_counted_once(stack.postgres.url, events)
        await models_are_as_recounted(client, stack.postgres.url, scenario)
        await billers_are_as_sent(client, events)


def simulating(scenario: Scenario, speed: float, client: httpx.AsyncClient) -> tuple[str, ...]:
    options: Mapping[str, object] = {
        "--seed": scenario.seed,
        "--billers": scenario.billers,
        "--models": scenario.models,
        "--start": iso(scenario.start_ms),
        "--hours": scenario.hours,
        "--incidents": scenario.incidents,
        "--speed": speed,
        "--url": client.base_url,
    }
    return ("-m", "cli.main", "simulate", "--json", *(str(part) for option in options.items() for part in option))


async def while_away(
    stack: Stack, client: httpx.AsyncClient, processes: tuple[WorkerProcess, WorkerProcess], seconds: float
) -> None:
    """What PostgreSQL is not needed for goes on all the time, and nothing piles up in the worker."""
    loop = asyncio.get_running_loop()
    worker, api = processes
    begin = loop.time()
    sizes: list[int] = []
    async with Redis.from_url(stack.valkey.url) as redis:
        clock_ms = await clock_of(redis)
        while loop.time() < begin + seconds:
            if loop.time() > begin + SETTLED_SHARE * seconds:
                sizes.append(memory(worker))
            assert (worker.status, api.status) == (None, None), worker.log() + api.log()
            asked = await client.get("/stats/Llama/v1")
            assert asked.status_code == 503, asked.text
            assert (await client.get("/thresholds")).status_code == 200
            await asyncio.sleep(0.25)
        # Events were taken, counted and closed all the while.
        assert await clock_of(redis) > clock_ms + HOUR_MS
    # A question that waits for PostgreSQL takes as long as the pool waits: there may be few sizes.
    sizes.append(memory(worker))
    assert max(sizes) < sizes[0] + MOST_WHILE_AWAY_BYTES


def every_event_is_one_row(url: str, events: list[Event]) -> None:
    """No event is lost, none is there twice, and no window counts what the rows do not come to."""
    sent = Counter(
        (f"model:{event['name']}/{event['version']}", slug.replace("_", "-"), event["timestamp"], event[slug])
        for event in events
        if not is_call(event)
        for slug in SLUGS
    )
    found = ask(url, "select subject, metric, at, value from observation_events")
    assert Counter((subject, metric, ms_of(at), value) for subject, metric, at, value in found) == sent
    assert repeated_rows(url) == []
    assert wrong_windows(url) == []


def every_call_is_counted_once(url: str, events: list[Event]) -> None:
    """Of the hours that are in the history, none has more or fewer calls than were sent."""
    calls = calls_of(events, by_hour=True)
    found = ask(
        url, "select subject, hour, calls, errors, timeouts, latency_us::bigint from call_windows where calls > 0"
    )
    assert found
    for subject, hour, *sums in found:
        assert tuple(sums) == calls[subject, ms_of(hour) // HOUR_MS]


async def models_are_as_recounted(client: httpx.AsyncClient, url: str, scenario: Scenario) -> None:
    """Each number of `/stats/{model}` beside that of the raw rows."""
    recounted = {(subject, metric): numbers for subject, metric, *numbers in ask(url, RECOUNTED)}
    for subject in scenario.model_subjects:
        answer = await asked(client, f"/stats/{subject.id}")
        assert set(answer["metrics"]) == set(SLUGS)
        for metric, one in answer["metrics"].items():
            count, mean, least, most, last, last_at, percentiles = recounted[str(subject), metric]
            assert one["count"] == count
            assert one["mean"] == pytest.approx(float(mean), rel=1e-11)
            assert (one["min"], one["max"], one["last"]) == (least, most, last)
            assert parse_ms(one["last_at"]) == ms_of(last_at)
            assert [one[name] for name in ("p50", "p90", "p95", "p99")] == pytest.approx(percentiles, rel=0.017)
        # Where values are compared the raw rows are what is asked, and their percentiles are exact.
        exact = await asked(client, f"/stats/{subject.id}", value="gt:-1e9")
        for metric, one in exact["metrics"].items():
            assert [one[name] for name in ("p50", "p90", "p95", "p99")] == recounted[str(subject), metric][-1]


async def billers_are_as_sent(client: httpx.AsyncClient, events: list[Event]) -> None:
    """Hours of the history and hours that are still open, together, are all the calls."""
    for subject, (calls, errors, timeouts, latency_us) in calls_of(events, by_hour=False).items():
        metrics = (await asked(client, f"/stats/billers/{subject[0].removeprefix('biller:')}"))["metrics"]
        rates = {"error-rate": errors, "timeout-error-rate": timeouts}
        for metric, failed in rates.items():
            assert metrics[metric]["count"] == calls
            assert metrics[metric]["mean"] == pytest.approx(100.0 * failed / calls, rel=1e-11)
        latency = metrics["average-response-time"]
        assert latency["count"] == calls - timeouts
        assert latency["mean"] == pytest.approx(latency_us / (calls - timeouts) / 1000.0, rel=1e-11)


def calls_of(events: list[Event], *, by_hour: bool) -> dict[tuple[str, int], tuple[int, int, int, int]]:
    """Calls, errors, timeouts and answered microseconds of each biller, and of each of its hours."""
    sums: dict[tuple[str, int], list[int]] = {}
    for event in filter(is_call, events):
        hour = event["timestamp"] // HOUR_MS if by_hour else 0
        one = sums.setdefault((f"biller:{event['biller_id']}", hour), [0, 0, 0, 0])
        is_late = event["outcome"] == "timeout"
        one[0] += 1
        one[1] += event["outcome"] == "error"
        one[2] += is_late
        one[3] += 0 if is_late else round(1000.0 * event["latency_ms"])
    return {name: (one[0], one[1], one[2], one[3]) for name, one in sums.items()}


async def asked(client: httpx.AsyncClient, path: str, **query: str) -> Any:
    response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def away(client: httpx.AsyncClient) -> str:
    try:
        return "" if (await client.get("/readyz")).status_code == 200 else "the API is not ready"
    except httpx.TransportError as error:
        return repr(error)


async def running(process: WorkerProcess) -> str:
    return "it still sends" if process.status is None else ""


async def rows_missing(url: str, *, least: int) -> str:
    """Fails where there are more than could be, for that is no longer a matter of time."""
    try:
        ((found,),) = await asyncio.to_thread(ask, url, "select count(*) from observation_events")
    except psycopg.OperationalError as error:
        return str(error)
    return "" if found >= least else f"{found} of {least} rows"


async def unfinished(stack: Stack, events: list[Event]) -> str:
    """Events that are not in the state, and windows that wait for the history."""
    async with Redis.from_url(stack.valkey.url) as redis:
        stored = await hashes(redis)
    counted = sum(int(fields["accepted"]) for name, fields in stored.items() if name.endswith("}"))
    if counted != len(events):
        return f"{counted} of {len(events)} events are in the state"
    waiting = [name for name in stored if name.endswith("_outbox")]
    return f"windows wait in {waiting}" if waiting else ""


async def clock_of(redis: "Redis") -> int:
    fields = await redis.hgetall(keys.CLOCK)
    return int({text(name): text(value) for name, value in fields.items()}["ms"])


def memory(worker: WorkerProcess) -> int:
    """Resident bytes."""
    found: int = psutil.Process(worker.pid).memory_info().rss
    return found
