"""How often thresholds held, summed up by a real PostgreSQL: what a plain recomputation says, and shown by a worker."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any, LiteralString

import httpx
import numpy as np
import psycopg
import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from redis.asyncio import Redis

import metrics
from api.app import create_app
from detection.catalogue import metric_of, slugs_below
from detection.claim import Days, days_of, held, together
from detection.cohorts import size_of
from detection.coverage import NOTHING, SPAN_HOURS, Span, Tally
from detection.errors import TooLargeError
from detection.hours import HOUR_MS, iso
from detection.judged_hours import JudgedHour
from detection.policy import Policy
from detection.subject import Subject
from detection.windows import CallWindow, GaugeSum, GaugeWindow, Window
from local.stack import Stack
from settings import Settings
from state import coverage as queries
from state.coverage import Coverage
from state.database import Database
from state.history import History
from state.memory_store import MemoryStore
from state.migrate import migrate
from state.redis_store import RedisStore
from stream.coverage import CoverageRefresh, chosen
from tests.contract.states import FIRST_HOUR, POLICY, biller, model
from tests.databases import new_database

REDIS_DATABASE = 10
BILLERS = [Subject.biller(f"B{number}") for number in range(3)]
LLAMA = Subject.model("Llama", "v1")
HOURS = 36 * 24
END = FIRST_HOUR + HOURS
END_MS = END * HOUR_MS
SPANS: list[Span] = ["day", "week", "month"]
ACCURACY = "prediction-accuracy"
# A week before an hour of the month.
TRAINED, TRAINED_HOUR = (BILLERS[0], "error-rate"), FIRST_HOUR - 9


def observed() -> tuple[dict[Subject, dict[int, Window]], dict[Subject, dict[int, dict[str, JudgedHour]]]]:
    """Five weeks with gaps: billers whose error rates are judged from the second week on, and a model."""
    chance = random.Random(11)
    windows: dict[Subject, dict[int, Window]] = {subject: {} for subject in (*BILLERS, LLAMA)}
    judged: dict[Subject, dict[int, dict[str, JudgedHour]]] = {subject: {} for subject in windows}
    for number, subject in enumerate(windows):
        for hour in range(FIRST_HOUR, END + 5):
            if chance.random() < 0.07:
                continue
            is_incident = (hour // 24) % 9 == number and hour % 24 < 4
            if subject is LLAMA:
                level = 0.4 if is_incident else chance.uniform(0.7, 0.9)
                windows[subject][hour] = GaugeWindow(1, {ACCURACY: GaugeSum(1, round(level * 1e9), level, level)})
                threshold, slug = 0.6, ACCURACY
                is_exceeded = level < threshold
            else:
                errors = 12 if is_incident else chance.choice((0, 0, 1, 2))
                windows[subject][hour] = CallWindow(calls=40, errors=errors, latency_us=40_000, latency_us2=40_000_000)
                threshold, slug = chance.choice((4.0, 10.0)), "error-rate"
                is_exceeded = errors / 40 * 100 > threshold
            if hour >= FIRST_HOUR + 100:
                judged[subject][hour] = {
                    slug: JudgedHour(
                        1.0, 0.0, 3.0, threshold, 0.5, is_exceeded, True, 0.99 if hour % 2 else 0.95, 7.0 + hour % 24
                    )
                }
    return windows, judged


WINDOWS, JUDGED = observed()


def hours_of(subject: Subject, slug: str) -> dict[int, tuple[float, JudgedHour | None]]:
    trained = {TRAINED_HOUR: (1.0, None)} if (subject, slug) == TRAINED else {}
    return trained | {
        hour: (value.value, JUDGED[subject].get(hour, {}).get(slug))
        for hour, window in WINDOWS[subject].items()
        for value in window.values()
        if value.metric.slug == slug
    }


def pinball(value: float, quantile: float, coverage: float, slug: str) -> float:
    """Koenker and Bassett (1978); the quantile of a metric whose low values are bad is the lower one."""
    share = 1.0 - coverage if metric_of(slug).direction == "below" else coverage
    return share * (value - quantile) if value >= quantile else (1.0 - share) * (quantile - value)


def recomputed(
    series: list[tuple[Subject, str]], span: Span, *, size: str | None = None
) -> tuple[dict[str, Any], Days]:
    """What is to be said of these series together, by nothing but the standard library; only hours of this size."""
    judged = exceeded = compared = 0
    claimed = loss = naive_loss = 0.0
    days = []
    for subject, slug in series:
        hours = hours_of(subject, slug)
        counted = []
        for hour, (value, one) in sorted(hours.items()):
            if one is None or not END - SPAN_HOURS[span] <= hour < END:
                continue
            if size not in {None, size_of(one.expected_calls)}:
                continue
            counted.append((hour, one.is_exceeded))
            judged, exceeded, claimed = judged + 1, exceeded + one.is_exceeded, claimed + 1.0 - one.coverage
            if hour - 168 in hours:
                compared += 1
                loss += pinball(value, one.threshold, one.coverage, slug)
                naive_loss += pinball(value, hours[hour - 168][0], one.coverage, slug)
        days.append(days_of(np.array([hour for hour, _ in counted]), np.array([is_so for _, is_so in counted], bool)))
    numbers = {
        "judged": judged,
        "exceeded": exceeded,
        "claimed": pytest.approx(claimed, rel=1e-9),
        "compared": compared,
        "loss": pytest.approx(loss, rel=1e-9),
        "naive_loss": pytest.approx(naive_loss, rel=1e-9),
    }
    return numbers, together(days)


def assert_is(found: Tally, expected: tuple[dict[str, Any], Days]) -> None:
    numbers, days = expected
    assert {name: getattr(found, name) for name in numbers} == numbers
    claim = held(0.01, days)
    assert found.clusters == days.judged.size
    assert found.interval == pytest.approx((claim.low, claim.high), rel=1e-9)


@pytest.fixture(scope="module")
def database_url(stack: Stack) -> Iterator[str]:
    with new_database(stack, "coverage") as url:
        migrate(url)
        asyncio.run(fill(url))
        yield url


async def fill(url: str) -> None:
    async with History(url) as history:
        await history.record(WINDOWS, JUDGED)
        # Hours of a data set are not judged, but are what hours a week later are compared with.
        await history.add_training(*TRAINED, [(TRAINED_HOUR, 1.0, 1)])


@pytest.fixture
async def coverage(database_url: str) -> AsyncIterator[Coverage]:
    async with Database(database_url) as database:
        yield Coverage(database)


@pytest.mark.parametrize("span", SPANS)
async def test_the_coverage_of_a_series_is_that_of_its_hours(coverage: Coverage, span: Span) -> None:
    asked = [(BILLERS[2], "error-rate"), (LLAMA, ACCURACY), (BILLERS[0], "error-rate")]
    # The clock is within an hour, of which nothing is known yet.
    found = await coverage.of_series(asked, span=span, until_ms=END_MS + HOUR_MS // 2)
    for series, tally in zip(asked, found, strict=True):
        assert_is(tally, recomputed([series], span))
        assert tally.judged > 0.8 * SPAN_HOURS[span]


async def test_what_was_never_judged_has_no_coverage(coverage: Coverage) -> None:
    asked = [(BILLERS[0], "average-response-time"), (Subject.biller("nobody"), "error-rate")]
    assert await coverage.of_series(asked, span="month", until_ms=END_MS) == [NOTHING, NOTHING]
    assert await coverage.of_series([], span="month", until_ms=END_MS) == []
    long_ago = await coverage.of_series([(BILLERS[0], "error-rate")], span="day", until_ms=END_MS - 10**11)
    assert long_ago == [NOTHING]


async def test_a_question_that_takes_too_long_is_refused(database_url: str) -> None:
    async with Database(database_url) as database:
        with pytest.raises(TooLargeError, match="fewer series or a shorter span"):
            await Coverage(database, seconds=0.0).of_series([(BILLERS[0], "error-rate")], span="month", until_ms=END_MS)


async def test_a_cohort_is_all_hours_of_its_size(coverage: Coverage) -> None:
    subjects = [*BILLERS, LLAMA]
    assert await coverage.is_due(1000)
    assert await coverage.refresh_cohorts(subjects, until_ms=END_MS, now_ms=1000, every_ms=60_000)
    for span in SPANS:
        found = {one.name: one for one in await coverage.of_cohorts(span)}
        assert list(found) == sorted(found)
        rates = [(subject, "error-rate") for subject in BILLERS]
        assert set(found) == {
            f"{slug}/{size}" for slug in ("error-rate", ACCURACY) for size in ("<10", "10-100", "any")
        }
        for size in ("<10", "10-100"):
            assert_is(found[f"error-rate/{size}"].tally, recomputed(rates, span, size=size))
        assert_is(found["error-rate/any"].tally, recomputed(rates, span))
        assert_is(found[f"{ACCURACY}/any"].tally, recomputed([(LLAMA, ACCURACY)], span))
        any_size = found["error-rate/any"]
        assert (any_size.series, any_size.every_nth, any_size.until_ms) == (3, 1, END_MS)
    # Nobody sums up again what was summed up just now, and afterwards somebody does.
    assert not await coverage.is_due(60_999)
    assert not await coverage.refresh_cohorts([], until_ms=END_MS, now_ms=60_999, every_ms=60_000)
    assert len(await coverage.of_cohorts("day")) == 6
    assert await coverage.refresh_cohorts(BILLERS[:1], every_nth=4, until_ms=END_MS, now_ms=10**8, every_ms=60_000)
    (one, *_) = await coverage.of_cohorts("day")
    assert (one.series, one.every_nth) == (1, 4)


async def test_several_workers_sum_up_once(coverage: Coverage) -> None:
    now_ms = 10**10
    done = await asyncio.gather(
        *(coverage.refresh_cohorts(BILLERS, until_ms=END_MS, now_ms=now_ms, every_ms=60_000) for _ in range(4))
    )
    assert sorted(done) == [False, False, False, True]


async def test_a_series_is_found_by_its_key(database_url: str) -> None:
    asked = {
        **queries._range("month", END_MS),
        "subjects": [str(BILLERS[0])],
        "metrics": ["error-rate"],
        "below": slugs_below(),
    }
    with psycopg.connect(database_url, autocommit=True) as connection:
        others: LiteralString = (
            "insert into observations (subject, metric, hour, value, count, origin)"
            " select 'biller:C' || one, 'error-rate', hour, 1, 1, 'live'"
            " from generate_series(1, 200) one, (select distinct hour from observations) hours"
        )
        connection.execute(others)
        connection.execute("analyze observations")
        plan = "\n".join(
            line for (line,) in connection.execute(b"explain " + queries._OF_SERIES.as_bytes(connection), asked)
        )
        connection.execute("delete from observations where subject like %s", ("biller:C%",))
    assert "Seq Scan on observations" not in plan, plan


async def test_every_nth_subject_is_looked_at_where_there_are_too_many() -> None:
    store = MemoryStore(POLICY)
    assert await store.save([biller(f"B{number:04}", hours=1) for number in range(41)]) == []
    everybody, every_nth = await chosen(store, 41)
    assert (len(everybody), every_nth) == (41, 1)
    some, every_nth = await chosen(store, 10)
    assert (some, every_nth) == (everybody[::8], 8)
    assert await chosen(MemoryStore(POLICY), 10) == ([], 1)


class Away(Coverage):
    """PostgreSQL, which is away when a test says so."""

    database_away = Database("postgresql://nowhere")
    database_here: Database

    def leave(self) -> None:
        self.database_here, self._database = self._database, self.database_away

    def come_back(self) -> None:
        self._database = self.database_here


async def test_a_worker_shows_what_was_summed_up_while_postgresql_answers(database_url: str) -> None:
    store, registry = MemoryStore(POLICY), CollectorRegistry()
    assert await store.save([biller("B0", hours=1), biller("B1", hours=1), model(hours=1)]) == []
    clock_ms = -1

    async def clock() -> int:
        return clock_ms

    def shown(name: str, size: str = "any", span: str = "week") -> float | None:
        labels = {"metric": "error-rate", "size": size, "span": span}
        return registry.get_sample_value(f"tidemark_coverage_{name}", labels)

    async with Database(database_url) as database:
        coverage = Away(database)
        async with database.connection() as connection:
            await connection.execute("delete from cohort_coverage")
            await connection.execute("delete from coverage_refresh")
        refresh = CoverageRefresh(
            coverage, store, metrics.instruments(registry), every_seconds=300, clock_ms=clock, wall_ms=lambda: 10**12
        )
        await refresh.refresh()
        assert shown("judged_hours") is None, "before the first event there is no span"
        clock_ms = END_MS
        await refresh.refresh()
        (known,) = [one.tally for one in await coverage.of_cohorts("week") if one.name == "error-rate/any"]
        assert known.judged == recomputed([(subject, "error-rate") for subject in BILLERS[:2]], "week")[0]["judged"]
        low, high = known.interval or (0.0, 0.0)
        assert (shown("judged_hours"), shown("observed_exceedance")) == (known.judged, known.observed_exceedance)
        assert (shown("claimed_exceedance"), shown("skill")) == (known.claimed_exceedance, known.skill)
        assert (shown("exceedance_low"), shown("exceedance_high")) == (low, high)
        assert shown("judged_hours", "<10", "month") is not None
        coverage.leave()
        await refresh.refresh()
        assert shown("judged_hours") is None
        coverage.come_back()
        await refresh.refresh()
        assert shown("judged_hours") == known.judged


@pytest.fixture
async def client(stack: Stack, stack_settings: Settings, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The API over the judged hours; the stream's clock is at their end, and the billers are known to Redis."""
    redis_url = stack.valkey.url.rsplit("/", 1)[0] + f"/{REDIS_DATABASE}"
    settings = stack_settings.model_copy(
        update={"redis_url": SecretStr(redis_url), "postgres_url": SecretStr(database_url), "clock": "events"}
    )
    async with Redis.from_url(redis_url) as redis:
        await redis.flushdb()
    async with aclosing(RedisStore.connect(redis_url, Policy())) as store:
        states = [biller(f"B{number}", hours=60, seed=number) for number in range(3)]
        assert await store.save([*states, model(hours=60)]) == []
        await store.advance_clock(END_MS + 1234)
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tidemark") as client,
    ):
        yield client


async def asked_for(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    response = await client.get(path, params=query)
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_coverage_of_one_series_is_answered_over_a_span(client: httpx.AsyncClient) -> None:
    page = await asked_for(client, "/coverage", subject="biller:B1", metric="2", span="month")
    assert (page["from"], page["to"]) == (iso(END_MS - 30 * 24 * HOUR_MS), iso(END_MS))
    (one,) = page["series"]
    numbers, days = recomputed([(BILLERS[1], "error-rate")], "month")
    claim = held(0.01, days)
    assert (one["subject"], one["metric"], one["span"]) == ("biller:B1", "error-rate", "month")
    assert one["cohort"] == "error-rate/<10"
    assert (one["judged"], one["exceeded"], one["compared"]) == tuple(
        numbers[name] for name in ("judged", "exceeded", "compared")
    )
    assert one["observed_exceedance"] == claim.observed
    assert one["claimed_exceedance"] == pytest.approx(0.03, abs=0.002)
    assert one["interval"] == pytest.approx([claim.low, claim.high], rel=1e-9)
    assert one["skill"] == pytest.approx(1.0 - one["pinball_loss"] / one["naive_pinball_loss"])


async def test_pages_of_the_coverage_have_each_series_once(client: httpx.AsyncClient) -> None:
    whole = (await asked_for(client, "/coverage"))["series"]
    assert [(one["subject"], one["metric"]) for one in whole][:3] == [
        ("biller:B0", slug) for slug in ("average-response-time", "error-rate", "timeout-error-rate")
    ]
    assert len(whole) == 3 * 3 + 2
    assert {one["span"] for one in whole} == {"week"}
    pages: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await asked_for(client, "/coverage", limit=4, cursor=cursor)
        pages.append(page["series"])
        cursor = page["next_cursor"]
    assert [len(page) for page in pages] == [4, 4, 3]
    assert [one for page in pages for one in page] == whole
    rates = (await asked_for(client, "/coverage", cohort="error-rate/any"))["series"]
    assert [one["subject"] for one in rates] == ["biller:B0", "biller:B1", "biller:B2"]
    assert (await asked_for(client, "/coverage", cohort="error-rate/>=1000000"))["series"] == []
    unjudged = [one for one in whole if one["metric"] == "timeout-error-rate"]
    assert {(one["judged"], one["observed_exceedance"], one["interval"]) for one in unjudged} == {(0, None, None)}


async def test_the_coverage_of_cohorts_is_answered_as_it_was_summed_up(
    client: httpx.AsyncClient, coverage: Coverage
) -> None:
    assert await coverage.refresh_cohorts(BILLERS, until_ms=END_MS, now_ms=10**14, every_ms=1)
    answer = await asked_for(client, "/coverage/cohorts", span="day")
    assert answer["to"] == iso(END_MS)
    rows = {one["cohort"]: one for one in answer["cohorts"]}
    numbers, _ = recomputed([(subject, "error-rate") for subject in BILLERS], "day")
    one = rows["error-rate/any"]
    assert (one["metric"], one["size"], one["series"], one["every_nth"]) == ("error-rate", "any", 3, 1)
    assert (one["judged"], one["exceeded"]) == (numbers["judged"], numbers["exceeded"])


async def test_a_subject_that_nobody_has_seen_is_a_problem(client: httpx.AsyncClient) -> None:
    response = await client.get("/coverage", params={"subject": "biller:B9"})
    assert (response.status_code, response.json()["type"]) == (404, "urn:tidemark:problem:unknown-subject")
