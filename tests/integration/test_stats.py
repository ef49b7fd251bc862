"""Statistics over a real PostgreSQL: what is answered is what a plain recomputation of the events says."""

import asyncio
import csv
import io
import math
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any
from uuid import uuid4

import httpx
import orjson
import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr
from redis.asyncio import Redis

from api.app import create_app
from detection.errors import TooLargeError
from detection.events import Observed
from detection.hours import HOUR_MS, MINUTE_MS, iso, parse_ms
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import Window
from local.stack import Stack
from settings import Settings
from state.archive import Archive, Arrived
from state.database import Database
from state.history import History
from state.migrate import migrate
from state.questions import Question, Summary
from state.redis_store import RedisStore
from state.statistics import Statistics
from tests.contract.states import FIRST_HOUR, advance, call_window, gauge_window

REDIS_DATABASE = 11
START_MS = parse_ms("2026-03-01T21:17:08.250Z")
DAY_MS = 24 * HOUR_MS
LLAMA = Subject.model("Llama", "v1")
RANKS = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
METRICS = ["drift", "inference_time", "prediction_accuracy"]


def events() -> list[Observed]:
    """Two days, every minute or two, in no order, with a gap of some hours, from two regions and from none."""
    chance = random.Random(5)
    found = []
    at_ms = START_MS
    while at_ms < START_MS + 2 * DAY_MS:
        gauges = {
            "prediction-accuracy": chance.choice((0.0, chance.betavariate(8, 2))),
            "drift": chance.gauss(0.0, 0.3),
            "inference-time": chance.lognormvariate(2.5, 0.6),
        }
        if chance.random() < 0.1:
            del gauges["drift"]
        labels = chance.choice(({}, {"region": "eu"}, {"region": "eu", "tier": "gold"}, {"region": "us"}))
        found.append(Observed(LLAMA, at_ms, gauges, labels))
        at_ms += chance.choice((1, 61_000, 130_000))
        if 900 < len(found) < 903:
            at_ms += 5 * HOUR_MS
    chance.shuffle(found)
    return found


EVENTS = events()


@pytest.fixture(scope="module")
def database_url(stack: Stack) -> Iterator[str]:
    """A database with the events in it."""
    name = f"stats_{uuid4().hex[:12]}"
    with psycopg.connect(stack.postgres.url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        url = stack.postgres.url.rsplit("/", 1)[0] + f"/{name}"
        migrate(url)
        asyncio.run(archive(url, EVENTS))
        yield url
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


async def archive(url: str, some: list[Observed]) -> None:
    """In batches, so that windows are added to."""
    async with Database(url) as database:
        store = Archive(database)
        for start in range(0, len(some), 500):
            batch = some[start : start + 500]
            offsets = list(range(start, start + len(batch)))
            await store.store([Arrived("kafka/observations/0", start, batch, offsets, start + len(batch))])


@pytest.fixture
def settings(stack: Stack, stack_settings: Settings, database_url: str) -> Settings:
    url = stack.valkey.url.rsplit("/", 1)[0] + f"/{REDIS_DATABASE}"
    return stack_settings.model_copy(update={"redis_url": SecretStr(url), "postgres_url": SecretStr(database_url)})


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        await redis.flushdb()
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tidemark") as client,
    ):
        yield client


def redis_store(settings: Settings) -> AbstractAsyncContextManager[RedisStore]:
    return aclosing(RedisStore.connect(settings.redis_url.get_secret_value(), Policy()))


async def asked(client: httpx.AsyncClient, path: str = "/stats/Llama/v1", **query: Any) -> Any:
    """`since` and `until` are the parameters from and to."""
    names = {"since": "from", "until": "to"}
    response = await client.get(path, params={names.get(key, key): value for key, value in query.items()})
    assert response.status_code == 200, response.text
    return response.json()


Taken = Callable[[Observed, float], bool]


def recomputed(slug: str, takes: Taken = lambda event, value: True) -> dict[str, Any]:
    """What is to be answered of the events' values, by nothing but the standard library."""
    values = [
        (event.timestamp_ms, event.gauges[slug])
        for event in EVENTS
        if slug in event.gauges and takes(event, event.gauges[slug])
    ]
    if not values:
        return {}
    ordered = sorted(value for _, value in values)
    last_ms, last = max(values)
    return {
        "count": len(values),
        "mean": math.fsum(ordered) / len(ordered),
        "min": ordered[0],
        "max": ordered[-1],
        "last": last,
        "last_at": iso(last_ms),
        **{name: ordered[math.ceil(share * len(ordered)) - 1] for name, share in RANKS.items()},
    }


def same(found: dict[str, Any], slug: str, takes: Taken = lambda event, value: True, *, error: float = 0.0165) -> None:
    """Everything but the percentiles is exact; those are within `error`, and half a digit of the answer."""
    expected = recomputed(slug, takes)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if name in RANKS:
            assert found[name] == pytest.approx(value, rel=error, abs=1e-9), name
        elif name in {"mean", "min", "max", "last"}:
            assert found[name] == pytest.approx(value, rel=1e-11, abs=1e-9), name
        else:
            assert found[name] == value, name


def between(start: int, end: int) -> Taken:
    return lambda event, value: start <= event.timestamp_ms < end


async def test_a_model_is_summed_up_by_metric(client: httpx.AsyncClient) -> None:
    answer = await asked(client)
    assert list(answer) == ["name", "version", "from", "to", "metrics", "next_cursor"]
    assert (answer["name"], answer["version"], answer["next_cursor"]) == ("Llama", "v1", None)
    assert (answer["from"], answer["to"]) == (
        "2026-03-01T21:00:00Z",
        iso(max(e.timestamp_ms for e in EVENTS) // HOUR_MS * HOUR_MS + HOUR_MS),
    )
    assert list(answer["metrics"]) == METRICS
    for name, found in answer["metrics"].items():
        same(found, name.replace("_", "-"))


@pytest.mark.parametrize(
    ("step", "step_ms"), [("7m", 7 * MINUTE_MS), ("1h", HOUR_MS), ("5h", 5 * HOUR_MS), ("1d", DAY_MS)]
)
async def test_each_window_holds_its_own_observations(client: httpx.AsyncClient, step: str, step_ms: int) -> None:
    windows = []
    answer = await asked(client, step=step, limit=1000)
    while True:
        windows += answer["windows"]
        if answer["next_cursor"] is None:
            break
        answer = await asked(client, step=step, limit=1000, cursor=answer["next_cursor"])
    assert answer["step"] == step
    assert [one["start"] for one in windows] == sorted(
        {iso(event.timestamp_ms // step_ms * step_ms) for event in EVENTS}
    )
    for one in windows:
        start = parse_ms(one["start"])
        assert parse_ms(one["end"]) == start + step_ms
        for name, found in one["metrics"].items():
            same(found, name.replace("_", "-"), between(start, start + step_ms))
    counted = sum(found["count"] for one in windows for found in one["metrics"].values())
    assert counted == sum(len(event.gauges) for event in EVENTS)


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("2026-03-01T22:00:00Z", "2026-03-02T04:00:00Z"),
        ("2026-03-01T22:13:00Z", "2026-03-02T04:47:00Z"),
        ("2026-03-01T22:13:00Z", "2026-03-01T22:31:00Z"),
        ("2026-03-01T22:13:00Z", "2026-03-01T23:01:00Z"),
        ("2026-03-02T05:30:00+01:00", "2099-12-31T23:59:00Z"),
        ("2000-01-01T00:00:00Z", "2026-03-02T04:47:00Z"),
    ],
)
@pytest.mark.parametrize("step", ["", "1h"])
async def test_a_range_may_cut_through_hours(client: httpx.AsyncClient, since: str, until: str, step: str) -> None:
    takes = between(parse_ms(since), parse_ms(until))
    answer = await asked(client, since=since, until=until, step=step, limit=1000)
    assert (parse_ms(answer["from"]), parse_ms(answer["to"])) == (parse_ms(since), parse_ms(until))
    if not step:
        for name in METRICS:
            same(answer["metrics"][name], name.replace("_", "-"), takes)
        return
    for name in METRICS:
        found = [one["metrics"][name]["count"] for one in answer["windows"] if name in one["metrics"]]
        assert sum(found) == recomputed(name.replace("_", "-"), takes)["count"]


async def test_bounds_are_moved_out_to_full_minutes_and_the_answer_says_so(client: httpx.AsyncClient) -> None:
    answer = await asked(client, since="2026-03-01T22:13:40.5Z", until="2026-03-01T23:01:00.001Z")
    assert (answer["from"], answer["to"]) == ("2026-03-01T22:13:00Z", "2026-03-01T23:02:00Z")
    takes = between(parse_ms(answer["from"]), parse_ms(answer["to"]))
    same(answer["metrics"]["drift"], "drift", takes)


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (["region:eu"], {"region": "eu"}),
        (["region:eu", "tier:gold"], {"region": "eu", "tier": "gold"}),
        (["region:us"], {"region": "us"}),
    ],
)
async def test_only_events_with_the_labels_count(
    client: httpx.AsyncClient, labels: list[str], wanted: dict[str, str]
) -> None:
    answer = await asked(client, label=labels)
    for name in METRICS:
        same(answer["metrics"][name], name.replace("_", "-"), lambda event, _: wanted.items() <= event.labels.items())


async def test_labels_that_no_event_has_leave_nothing(client: httpx.AsyncClient) -> None:
    answer = await asked(client, label="region:mars")
    assert (answer["metrics"], answer["from"]) == ({}, None)
    assert (await asked(client, label="region:mars", step="1h"))["windows"] == []


@pytest.mark.parametrize(
    ("conditions", "takes"),
    [
        (["lt:0.3"], lambda value: value < 0.3),
        (["le:0"], lambda value: value <= 0),
        (["gt:0.1", "lt:0.5"], lambda value: 0.1 < value < 0.5),
        (["eq:0"], lambda value: value == 0),
        (["ne:0", "ge:-0.2"], lambda value: value != 0 and value >= -0.2),
    ],
)
async def test_values_are_compared_one_by_one_and_the_percentiles_are_exact(
    client: httpx.AsyncClient, conditions: list[str], takes: Callable[[float], bool]
) -> None:
    answer = await asked(client, value=conditions)
    for name in METRICS:
        slug = name.replace("_", "-")
        if recomputed(slug, lambda _, value: takes(value)):
            same(answer["metrics"][name], slug, lambda _, value: takes(value), error=1e-11)
        else:
            assert name not in answer["metrics"]


async def test_values_are_compared_to_the_millisecond(client: httpx.AsyncClient) -> None:
    since, until = START_MS + 1, START_MS + 3 * HOUR_MS + 17
    answer = await asked(client, value="ge:0", since=since, until=until)
    assert (answer["from"], answer["to"]) == (iso(since), iso(until))
    takes = between(since, until)
    same(answer["metrics"]["drift"], "drift", lambda event, value: value >= 0 and takes(event, value), error=1e-11)
    windows = (await asked(client, value="ge:0", since=since, until=until, step="1m", limit=1000, metric="drift"))[
        "windows"
    ]
    assert sum(one["metrics"]["drift"]["count"] for one in windows) == answer["metrics"]["drift"]["count"]


@pytest.mark.parametrize("query", [{}, {"value": "gt:-9"}, {"until": "2026-03-02T04:47:00Z"}, {"label": "region:eu"}])
async def test_the_newest_observation_comes_with_its_labels(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    answer = await asked(client, latest="true", **query)
    before = parse_ms(query.get("until", "2099-01-01T00:00:00Z"))
    for name in METRICS:
        slug = name.replace("_", "-")
        newest = max(
            (
                event
                for event in EVENTS
                if slug in event.gauges
                and event.timestamp_ms < before
                and ("label" not in query or event.labels.get("region") == "eu")
            ),
            key=lambda event: (event.timestamp_ms, event.gauges[slug]),
        )
        assert answer["metrics"][name] == {
            "last": pytest.approx(newest.gauges[slug], rel=1e-11),
            "last_at": iso(newest.timestamp_ms),
            "labels": newest.labels,
        }


@pytest.mark.parametrize("step", ["10m", "6h"])
async def test_the_newest_window_is_that_of_each_metric(client: httpx.AsyncClient, step: str) -> None:
    windows = (await asked(client, step=step, limit=1000, since="2026-03-02T18:00:00Z"))["windows"]
    newest = (await asked(client, step=step, latest="true"))["windows"]
    for name in METRICS:
        (found,) = [one for one in newest if name in one["metrics"]]
        expected = [one for one in windows if name in one["metrics"]][-1]
        assert (found["start"], found["metrics"][name]) == (expected["start"], expected["metrics"][name])


@pytest.mark.parametrize(
    ("metric", "names"),
    [
        ("drift", ["drift"]),
        ("prediction_accuracy", ["prediction_accuracy"]),
        ("Prediction-*", ["prediction_accuracy"]),
        ("*i*", METRICS),
        ("d????", ["drift"]),
        (["drift", "inference*"], ["drift", "inference_time"]),
        ("nothing", []),
    ],
)
async def test_metrics_are_named_with_wildcards(client: httpx.AsyncClient, metric: str, names: list[str]) -> None:
    assert list((await asked(client, metric=metric))["metrics"]) == names
    windows = (await asked(client, metric=metric, step="1d"))["windows"]
    assert sorted({name for one in windows for name in one["metrics"]}) == names


@pytest.mark.parametrize(
    "query",
    [{}, {"step": "3h"}, {"step": "1h", "value": "gt:0.2"}, {"latest": "true"}, {"step": "1d", "latest": "true"}],
)
async def test_pages_and_tables_give_every_row_once_and_in_one_order(
    client: httpx.AsyncClient, query: dict[str, str]
) -> None:
    lines = (await client.get("/stats/Llama/v1", params={**query, "format": "ndjson"})).text.splitlines()
    whole = [orjson.loads(line) for line in lines]
    assert len({(row.get("start"), row["metric"]) for row in whole}) == len(whole) >= 3
    for limit in (1, 2, 5, 1000):
        found: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await asked(client, **query, limit=limit, cursor=cursor)
            rows = rows_of(page)
            assert len(rows) <= limit
            found += rows
            cursor = page["next_cursor"]
        assert found == whole
    accept = {"Accept": "text/csv"}
    table = await client.get("/stats/Llama/v1", params=query, headers=accept)
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    read = list(csv.DictReader(io.StringIO(table.text, newline="")))
    assert list(read[0]) == list(whole[0])
    assert [{name: str(value) for name, value in row.items() if name != "labels"} for row in whole] == [
        {name: value for name, value in row.items() if name != "labels"} for row in read
    ]


def rows_of(page: Any) -> list[Any]:
    """A page as the rows that NDJSON has."""
    if "metrics" in page:
        return [
            {"metric": name} | ({} if "labels" in found else {"start": page["from"], "end": page["to"]}) | found
            for name, found in page["metrics"].items()
        ]
    return [
        {"metric": name, "start": one["start"], "end": one["end"], **found}
        for one in page["windows"]
        for name, found in one["metrics"].items()
    ]


async def test_a_page_that_is_known_is_not_sent_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/stats/Llama/v1")
    again = await client.get("/stats/Llama/v1", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_who_was_never_seen_is_told_from_who_has_nothing_to_show(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    for path in ("/stats/Llama/v2", "/stats/billers/nobody"):
        response = await client.get(path)
        assert (response.status_code, response.json()["type"]) == (404, "urn:tidemark:problem:unknown-subject")
    async with redis_store(settings) as store:
        new = advance(SubjectState(Subject.model("Llama", "v2")), {FIRST_HOUR: gauge_window(drift=0.1)})
        assert await store.save([new]) == []
    assert (await asked(client, "/stats/Llama/v2"))["metrics"] == {}


async def test_hours_stand_in_for_minutes_that_are_not_kept_any_more(stack: Stack, settings: Settings) -> None:
    name = f"stats_{uuid4().hex[:12]}"
    with psycopg.connect(stack.postgres.url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    url = stack.postgres.url.rsplit("/", 1)[0] + f"/{name}"
    await asyncio.to_thread(migrate, url)
    await archive(url, EVENTS)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop table gauge_minutes_20260301")
    since, until = parse_ms("2026-03-01T22:13:00Z"), parse_ms("2026-03-02T04:47:00Z")
    async with redis_store(settings) as store, Database(url) as database:
        page = await Statistics(database, store).page(Question(LLAMA, ("drift",), since, until))
    assert (page.from_ms, page.to_ms) == (parse_ms("2026-03-01T22:00:00Z"), until)
    (summary,) = page.answers
    assert isinstance(summary, Summary)
    assert summary.count == recomputed("drift", between(summary.start_ms, until))["count"]


async def test_a_question_that_takes_too_long_is_given_up_and_the_next_is_answered(
    settings: Settings, database_url: str
) -> None:
    async with (
        redis_store(settings) as store,
        Database(database_url, connections=1) as database,
    ):
        statistics = Statistics(database, store, seconds=0.2)
        async with await psycopg.AsyncConnection.connect(database_url) as other:
            await other.execute("lock table gauge_hours in access exclusive mode")
            with pytest.raises(TooLargeError, match="shorter range"):
                await statistics.page(Question(LLAMA))
        assert len((await Statistics(database, store).page(Question(LLAMA))).answers) == 3


BILLER = Subject.biller("B1")
HOURS = 30


def latencies(hour: int) -> list[int]:
    """Microseconds of the answered calls of an hour; in one hour of ten there are none."""
    chance = random.Random(hour)
    return [] if hour % 10 == 3 else [int(chance.lognormvariate(12.0, 0.7)) for _ in range(chance.randrange(1, 60))]


async def fill(settings: Settings) -> None:
    """A day and more of calls: the older hours in the history, some on their way to it, the newest still open."""
    windows: dict[int, Window] = {
        FIRST_HOUR + hour: call_window(*latencies(hour), errors=min(hour % 3, len(latencies(hour))), timeouts=hour % 4)
        for hour in range(HOURS)
    }
    state = advance(SubjectState(BILLER), windows)
    async with redis_store(settings) as store, History(settings.postgres_url.get_secret_value()) as history:
        assert await store.save([state]) == []
        waiting = (await store.outbox([BILLER]))[BILLER]
        assert {FIRST_HOUR + 20, FIRST_HOUR + 25} < waiting.keys()
        relayed = {hour: window for hour, window in waiting.items() if hour < FIRST_HOUR + 20}
        await history.record({BILLER: relayed})
        await store.relayed({BILLER: list(relayed)})
        (open_state,) = (await store.load_counts([BILLER])).values()
        assert FIRST_HOUR + HOURS - 1 in open_state.windows


async def test_a_billers_calls_are_summed_up_with_the_hour_that_is_still_open(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    await fill(settings)
    answer = await asked(client, "/stats/billers/B1")
    assert list(answer) == ["biller_id", "from", "to", "metrics", "next_cursor"]
    assert (answer["from"], answer["to"]) == (iso(FIRST_HOUR * HOUR_MS), iso((FIRST_HOUR + HOURS) * HOUR_MS))
    ordered = sorted(one / 1000 for hour in range(HOURS) for one in latencies(hour))
    newest = latencies(HOURS - 1)
    response = answer["metrics"]["average-response-time"]
    assert response["count"] == len(ordered)
    assert response["mean"] == pytest.approx(math.fsum(ordered) / len(ordered))
    assert response["last"] == pytest.approx(sum(newest) / len(newest) / 1000)
    assert response["last_at"] == iso((FIRST_HOUR + HOURS - 1) * HOUR_MS)
    assert ordered[0] / 1.25 <= response["min"] <= ordered[0]
    assert ordered[-1] <= response["max"] <= ordered[-1] * 1.25
    for name, share in RANKS.items():
        assert response[name] == pytest.approx(ordered[math.ceil(share * len(ordered)) - 1], rel=0.113)
    calls = [len(latencies(hour)) + hour % 4 for hour in range(HOURS)]
    timeouts = [100 * (hour % 4) / calls[hour] for hour in range(HOURS) if calls[hour]]
    rate = answer["metrics"]["timeout-error-rate"]
    assert rate["count"] == sum(calls)
    assert rate["mean"] == pytest.approx(100 * sum(hour % 4 for hour in range(HOURS)) / sum(calls))
    assert (rate["min"], rate["max"]) == (pytest.approx(min(timeouts)), pytest.approx(max(timeouts)))
    assert rate["p50"] == pytest.approx(sorted(timeouts)[math.ceil(len(timeouts) / 2) - 1], rel=1e-3)


@pytest.mark.parametrize(("step", "hours"), [("1h", 1), ("6h", 6), ("1d", 24)])
async def test_a_billers_windows_are_whole_hours(
    client: httpx.AsyncClient, settings: Settings, step: str, hours: int
) -> None:
    await fill(settings)
    for limit in (1, 7, 1000):
        found: dict[tuple[str, str], int] = {}
        cursor: str | None = ""
        while cursor is not None:
            page = await asked(client, "/stats/billers/B1", step=step, limit=limit, cursor=cursor)
            for row in rows_of(page):
                assert (row["start"], row["metric"]) not in found
                found[row["start"], row["metric"]] = row["count"]
            cursor = page["next_cursor"]
        expected: dict[str, int] = {}
        for hour in range(HOURS):
            start = iso((FIRST_HOUR + hour) // hours * hours * HOUR_MS)
            if count := len(latencies(hour)):
                expected[start] = expected.get(start, 0) + count
        assert {start: n for (start, metric), n in found.items() if metric == "average-response-time"} == expected


async def test_a_billers_metrics_range_and_newest_hour(client: httpx.AsyncClient, settings: Settings) -> None:
    await fill(settings)
    path = "/stats/billers/B1"
    for metric in ("1", "AVERAGE_RESPONSE_TIME", "average-*"):
        assert list((await asked(client, path, metric=metric))["metrics"]) == ["average-response-time"]
    since, until = (FIRST_HOUR + 18) * HOUR_MS, (FIRST_HOUR + 22) * HOUR_MS
    part = await asked(client, path, since=since + 1, until=until - 1)
    assert (part["from"], part["to"]) == (iso(since), iso(until))
    calls = sum(len(latencies(hour)) + hour % 4 for hour in range(18, 22))
    assert part["metrics"]["error-rate"]["count"] == calls
    newest = await asked(client, path, latest="true", until=until)
    assert newest["metrics"]["error-rate"]["last_at"] == iso(until - HOUR_MS)
    response = await client.get(path, params={"step": "90m"})
    assert (response.status_code, response.json()["errors"][0]["field"]) == (422, "step")
