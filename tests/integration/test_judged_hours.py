"""What had been published of each hour, kept in a real PostgreSQL, and read again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, LiteralString

import httpx
import psycopg
import pytest
from alembic import command
from pydantic import SecretStr
from redis.asyncio import Redis

from api.app import create_app
from detection.exclusions import Exclusion, Exclusions
from detection.hours import HOUR_MS, iso
from detection.judged_hours import JudgedHour
from detection.policy import Policy
from detection.subject import Subject
from detection.windows import Window
from local.stack import Stack
from settings import Settings
from state import judged_hours
from state.history import History
from state.judged_hours import JudgedHours
from state.memory_store import MemoryStore
from state.migrate import migrate
from state.redis_store import RedisStore
from stream.relay import HistoryRelay
from tests.contract.states import FIRST_HOUR, POLICY, biller, call_window, gauge_window
from tests.databases import ask, new_database
from tests.unit.test_relay import KeptAlerts

REDIS_DATABASE = 8
B1, B2 = Subject.biller("B1"), Subject.biller("B2")
LLAMA = Subject.model("Llama", "v1")
RATE, ACCURACY = "error-rate", "prediction-accuracy"

Judged = dict[Subject, dict[int, dict[str, JudgedHour]]]


@pytest.fixture
async def history(stack: Stack) -> AsyncIterator[tuple[History, str]]:
    """A history of the test's own."""
    with new_database(stack, "judged") as url:
        await asyncio.to_thread(migrate, url)
        async with History(url) as history:
            yield history, url


def said(**changes: Any) -> JudgedHour:
    known = JudgedHour(
        estimate=1.5,
        lower=0.25,
        upper=3.0,
        threshold=4.0,
        score=0.1 + 0.2,
        is_exceeded=False,
        is_credible=True,
        coverage=0.99,
        expected_calls=12.5,
    )
    return JudgedHour(**{name: changes.get(name, getattr(known, name)) for name in known.__struct_fields__})


WINDOWS: dict[Subject, dict[int, Window]] = {
    B1: {FIRST_HOUR: call_window(100_000, 200_000, errors=1), FIRST_HOUR + 1: call_window(100_000)}
}
JUDGED: Judged = {B1: {FIRST_HOUR + 1: {RATE: said()}}}


def rows_of(url: str) -> list[tuple[Any, ...]]:
    """Every row with the transaction that wrote it last: an untouched row keeps its own."""
    return ask(url, "select xmin::text, * from observations order by subject, metric, hour")


def verdict_of(url: str, hour: int = FIRST_HOUR + 1) -> tuple[Any, ...]:
    ((*found,),) = ask(
        url,
        "select value, origin, estimate, lower, upper, threshold, score, is_exceeded, is_credible, coverage,"
        " expected_calls from observations where metric = 'error-rate' and hour = to_timestamp(%s)",
        hour * 3600,
    )
    return tuple(found)


PLAIN = (1.5, 0.25, 3.0, 4.0, 0.1 + 0.2, False, True, 0.99, 12.5)
NOTHING = (None,) * 9


async def test_a_verdict_is_kept_bit_for_bit_beside_its_value(history: tuple[History, str]) -> None:
    kept, url = history
    await kept.record(WINDOWS, JUDGED)
    assert verdict_of(url) == (0.0, "live", *PLAIN)
    assert verdict_of(url, FIRST_HOUR)[2:] == NOTHING, "the series was warming up"


async def test_the_same_again_touches_no_row(history: tuple[History, str]) -> None:
    kept, url = history
    await kept.record(WINDOWS, JUDGED)
    before = rows_of(url)
    await asyncio.gather(*(kept.record(WINDOWS, JUDGED) for _ in range(4)))
    # An entry that an older version of the program wrote, or only a window, says less and takes nothing away.
    await kept.record(WINDOWS)
    assert rows_of(url) == before


async def test_a_verdict_is_added_to_a_value_that_came_without(history: tuple[History, str]) -> None:
    kept, url = history
    await kept.record(WINDOWS)
    await kept.record(WINDOWS, JUDGED)
    assert verdict_of(url) == (0.0, "live", *PLAIN)
    await kept.record(WINDOWS, {B1: {FIRST_HOUR + 1: {RATE: said(score=2.0, is_exceeded=True)}}})
    assert verdict_of(url)[6:8] == (2.0, True), "what was judged last is what counts"


async def test_a_corrected_value_does_not_keep_the_verdict_on_another(history: tuple[History, str]) -> None:
    kept, url = history
    await kept.record(WINDOWS, JUDGED)
    await kept.record({B1: {FIRST_HOUR + 1: call_window(100_000, errors=1)}})
    assert verdict_of(url) == (100.0, "live", *NOTHING)


async def test_an_hour_of_a_data_set_is_not_judged(history: tuple[History, str]) -> None:
    kept, url = history
    await kept.add_training(B1, RATE, [(FIRST_HOUR + 1, 42.0, 7)])
    await kept.record(WINDOWS, JUDGED)
    assert verdict_of(url) == (42.0, "train", *NOTHING)


async def test_the_relay_carries_what_is_judged_from_the_outbox(history: tuple[History, str]) -> None:
    kept, url = history
    store = MemoryStore(POLICY)
    state = biller(hours=60)
    judged = {(hour, slug): one for hour, by_slug in state.judged.items() for slug, one in by_slug.items()}
    assert await store.save([state]) == []
    relay = HistoryRelay(store, kept, KeptAlerts())
    relay.add([B1])
    n_learned = len((await store.outbox([B1]))[B1])
    assert await relay.drain() == n_learned > 48
    found = ask(
        url,
        "select extract(epoch from hour)::bigint / 3600, metric, threshold, score, is_exceeded from observations"
        " where threshold is not null",
    )
    assert {(hour, slug): tuple(rest) for hour, slug, *rest in found} == {
        key: (one.threshold, one.score, one.is_exceeded) for key, one in judged.items()
    }


def test_a_history_of_an_older_version_gets_the_columns_without_being_written_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    upgrade = command.upgrade
    with new_database(stack, "judged") as url:
        with monkeypatch.context() as patched:
            patched.setattr(command, "upgrade", lambda config, _revision: upgrade(config, "0003"))
            migrate(url)
        with psycopg.connect(url) as connection:
            connection.execute(
                "create table observations_202602 partition of observations"
                " for values from ('2026-02-01 00:00+00') to ('2026-03-01 00:00+00')"
            )
            connection.execute(
                "insert into observations values ('biller:B1', 'error-rate', '2026-02-03 04:00+00', 1.5, 9, 'live')"
            )
        files, ((*row,),) = ask(url, FILES), ask(url, "select xmin::text, * from observations")
        migrate(url)
        assert ask(url, FILES) == files
        assert ask(url, "select xmin::text, * from observations") == [(*row, *NOTHING)]


async def fill(url: str) -> None:
    """Four days of one biller, two hours of another one two days later, and a model."""
    hours = range(FIRST_HOUR, FIRST_HOUR + 96)
    windows: dict[Subject, dict[int, Window]] = {
        B1: {hour: call_window(100_000, errors=int(hour % 10 == 3)) for hour in hours if hour % 24 != 5},
        B2: {hour: call_window(50_000) for hour in (hours[-1] + 46, hours[-1] + 48)},
        LLAMA: {hours[0]: gauge_window(prediction_accuracy=0.8)},
    }
    judged: Judged = {B1: {hour: {RATE: said(score=float(hour - FIRST_HOUR))} for hour in hours[48:]}}
    async with History(url) as history:
        await history.record(windows, judged)
        await history.add_training(B1, RATE, [(FIRST_HOUR - 1, 2.5, 9)])


async def test_the_hours_of_a_series_are_read_from_either_end(history: tuple[History, str]) -> None:
    kept, url = history
    await fill(url)
    reader = JudgedHours(kept.database)
    oldest = await reader.points(B1, RATE, limit=3, is_newest=False)
    assert [point.hour - FIRST_HOUR for point in oldest] == [-1, 0, 1]
    assert [point.origin for point in oldest] == ["train", "live", "live"]
    newest = await reader.points(B1, RATE, limit=2, is_newest=True)
    assert [(point.hour - FIRST_HOUR, point.score, point.threshold) for point in newest] == [
        (94, 94.0, 4.0),
        (95, 95.0, 4.0),
    ]
    some = await reader.points(
        B1, RATE, from_ms=(FIRST_HOUR + 4) * HOUR_MS, to_ms=(FIRST_HOUR + 7) * HOUR_MS, limit=9, is_newest=True
    )
    # The hour FIRST_HOUR + 5 of the day is silent, wherever the day begins.
    assert [point.hour for point in some] == [hour for hour in range(FIRST_HOUR + 4, FIRST_HOUR + 7) if hour % 24 != 5]


async def test_sparklines_end_with_the_newest_hour_that_any_of_them_has(history: tuple[History, str]) -> None:
    kept, url = history
    await fill(url)
    found = await JudgedHours(kept.database).sparklines([B1, B2, Subject.biller("B3")], RATE, hours=48)
    assert found is not None
    newest = FIRST_HOUR + 95 + 48
    assert found.start == newest - 47
    assert found.values[B1] == [None] * 48
    assert found.values[B2] == [*[None] * 45, 0.0, None, 0.0]
    assert found.values[Subject.biller("B3")] == [None] * 48
    (values,) = (await JudgedHours(kept.database).sparklines([B1], RATE, hours=48) or found).values.values()
    hours = range(FIRST_HOUR + 48, FIRST_HOUR + 96)
    assert values == [None if hour % 24 == 5 else _rate(hour) for hour in hours]
    assert await JudgedHours(kept.database).sparklines([B2], ACCURACY, hours=48) is None


def _rate(hour: int) -> float:
    return 100.0 if hour % 10 == 3 else 0.0


async def test_no_question_looks_through_a_whole_partition(history: tuple[History, str]) -> None:
    """Of 20,000 other series' hours, each question reads what it answers with."""
    _, url = history
    await fill(url)
    ask_all: LiteralString = (
        "insert into observations (subject, metric, hour, value, count, origin)"
        " select 'biller:C' || one, 'error-rate', hour, 1, 1, 'live'"
        " from generate_series(1, 2000) one, (select distinct hour from observations limit 10) hours"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(ask_all)
        connection.execute("analyze observations")
    asked = {"subject": str(B1), "metric": RATE, "limit": 500, "start": "-infinity", "end": "infinity"}
    recent = {"subjects": [str(B1), str(B2)], "metric": RATE, "hours": 48}
    for statement, values in (
        (judged_hours._NEWEST, asked),
        (judged_hours._OLDEST, asked),
        (judged_hours._RECENT, recent),
    ):
        with psycopg.connect(url) as connection:
            plan = "\n".join(line for (line,) in connection.execute(b"explain " + statement.encode(), values))
        assert "Seq Scan" not in plan, plan
        assert "Index Scan" in plan, plan


FILES: LiteralString = "select relname, relfilenode from pg_class where relname ~ '^observations' order by 1"


@pytest.fixture
def settings(stack: Stack, stack_settings: Settings, history: tuple[History, str]) -> Settings:
    url = stack.valkey.url.rsplit("/", 1)[0] + f"/{REDIS_DATABASE}"
    return stack_settings.model_copy(update={"redis_url": SecretStr(url), "postgres_url": SecretStr(history[1])})


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The API over a history that is filled; B1 is known to Redis too."""
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        await redis.flushdb()
    await fill(settings.postgres_url.get_secret_value())
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tidemark") as client,
    ):
        yield client


async def asked(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    """`since` and `until` are the parameters from and to."""
    names = {"since": "from", "until": "to"}
    response = await client.get(path, params={names.get(key, key): value for key, value in query.items()})
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_history_tells_what_was_published_of_each_hour(client: httpx.AsyncClient) -> None:
    page = await asked(client, "/history", subject="biller:B1", metric="2", limit=2)
    assert (page["subject"], page["metric"], page["unit"], page["operator"]) == ("biller:B1", RATE, "%", ">")
    assert page["points"][-1] == {
        "window_start": iso((FIRST_HOUR + 95) * HOUR_MS),
        "value": _rate(FIRST_HOUR + 95),
        "count": 1,
        "estimate": 1.5,
        "lower": 0.25,
        "upper": 3.0,
        "threshold": 4.0,
        "score": 95.0,
        "exceeded": False,
        "credible": True,
        "origin": "live",
        "excluded": False,
    }
    (trained,) = (
        await asked(client, "/history", subject="biller:B1", metric=RATE, since="2000-01-01T00:00:00Z", limit=1)
    )["points"]
    assert (trained["origin"], trained["threshold"], trained["exceeded"]) == ("train", None, None)
    accuracy = await asked(client, "/history", subject="model:Llama/v1", metric="prediction_accuracy")
    assert (accuracy["operator"], [point["value"] for point in accuracy["points"]]) == ("<", [0.8])


@pytest.mark.parametrize("since", [None, "2000-01-01T00:00:00Z"])
async def test_pages_of_the_history_have_each_hour_once(client: httpx.AsyncClient, since: str | None) -> None:
    query: dict[str, Any] = {"subject": "biller:B1", "metric": RATE} | ({} if since is None else {"since": since})
    whole = (await asked(client, "/history", limit=1000, **query))["points"]
    assert len(whole) == 93
    pages: list[list[dict[str, Any]]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await asked(client, "/history", limit=31, cursor=cursor, **query)
        pages.append(page["points"])
        cursor = page["next_cursor"]
    assert [len(points) for points in pages] == [31, 31, 31]
    in_order = pages if since else pages[::-1]
    assert [point for points in in_order for point in points] == whole
    until = whole[10]["window_start"]
    assert (await asked(client, "/history", until=until, limit=3, **query))["points"] in (whole[7:10], whole[:3])


async def test_an_excluded_hour_says_so(client: httpx.AsyncClient, settings: Settings) -> None:
    state = biller(hours=3)
    excluded = Exclusion(from_hour=FIRST_HOUR + 90, before_hour=FIRST_HOUR + 92, slug=RATE, reason="r", by="kim")
    state.exclusions, state.has_new_exclusions = Exclusions([excluded]), True
    async with aclosing(RedisStore.connect(settings.redis_url.get_secret_value(), Policy())) as store:
        assert await store.save([state]) == []
    points = (await asked(client, "/history", subject="biller:B1", metric=RATE, limit=9))["points"]
    starts = {point["window_start"] for point in points if point["excluded"]}
    assert starts <= {iso((FIRST_HOUR + 90) * HOUR_MS), iso((FIRST_HOUR + 91) * HOUR_MS)} != set()
    other = await asked(client, "/history", subject="biller:B1", metric="1", limit=9)
    assert not any(point["excluded"] for point in other["points"])


async def test_sparklines_are_answered_side_by_side(client: httpx.AsyncClient) -> None:
    found = await asked(client, "/history/sparklines", subject=["biller:B1", "biller:B2"], metric=RATE, hours=3)
    assert found["hours"] == 3
    assert found["from"] == iso((FIRST_HOUR + 95 + 46) * HOUR_MS)
    assert found["series"] == {"biller:B1": [None] * 3, "biller:B2": [0.0, None, 0.0]}
    nothing = await asked(client, "/history/sparklines", subject="biller:B9", metric=RATE)
    assert (nothing["from"], nothing["series"]) == (None, {"biller:B9": [None] * 48})


async def test_what_nobody_has_seen_is_a_problem_and_what_has_no_hours_is_not(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    response = await client.get("/history", params={"subject": "biller:B9", "metric": RATE})
    assert (response.status_code, response.json()["type"]) == (404, "urn:tidemark:problem:unknown-subject")
    async with aclosing(RedisStore.connect(settings.redis_url.get_secret_value(), Policy())) as store:
        assert await store.save([biller("B9", hours=3)]) == []
    assert (await asked(client, "/history", subject="biller:B9", metric=RATE))["points"] == []
