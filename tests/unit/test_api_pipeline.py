"""How events come through, over stores in memory: what is said of each part, and what when one of them is away."""

import asyncio
from typing import Any

import pytest

from api import census, pipeline
from api.event_log import CALLS, OBSERVATIONS
from detection.errors import DependencyError
from detection.hours import HOUR_MS
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from state.dead_letters import Letter
from state.store import Reached
from tests.memory_api import NOW_MS, MemoryApi, memory_api
from tests.unit.test_api_overview import live, populate


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_KEPT_SECONDS", -1.0)


async def asked(api: MemoryApi) -> Any:
    response = await api.client.get("/pipeline")
    assert response.status_code == 200, response.text
    return response.json()


async def reach(api: MemoryApi, **offsets: int) -> None:
    reached = {f"kafka/{topic}/0": Reached(offset) for topic, offset in offsets.items()}
    await api.store.advance_progress(dict.fromkeys(reached, 0), reached)


async def test_the_lag_is_what_lies_between_the_end_of_a_log_and_the_state() -> None:
    async with memory_api() as api:
        await api.log.append(CALLS, [(b"B1", b"{}")] * 7)
        await reach(api, calls=5)
        await api.store.advance_clock(NOW_MS)
        found = await asked(api)
    assert found["clock"] == "2026-03-02T12:30:00Z"
    calls, observations = found["topics"]
    assert calls["partitions"] == [{"partition": 0, "end": 7, "reached": 5, "lag": 2}]
    assert calls["lag"] == 2
    assert (observations["topic"], observations["partitions"], observations["lag"]) == (OBSERVATIONS, [], 0)
    assert found["dependencies"] == {"kafka": "up", "redis": "up", "postgres": "up"}
    assert found["reasons"] == {}


async def test_a_topic_that_was_made_anew_is_measured_in_its_present_life() -> None:
    async with memory_api() as api:
        await api.log.append(CALLS, [(b"B1", b"{}")] * 7)
        await reach(api, calls=5)
        await api.store.renew_log(CALLS, now_ms=NOW_MS)
        assert (await asked(api))["topics"][0]["lag"] == 7
        reached = {"kafka.1/calls/0": Reached(6)}
        await api.store.advance_progress(dict.fromkeys(reached, 0), reached)
        assert (await asked(api))["topics"][0]["lag"] == 1


async def test_the_rate_is_what_went_into_the_state_between_two_looks() -> None:
    rates = pipeline.Rates()
    assert rates.of(CALLS, 100, 10.0) is None
    assert rates.of(CALLS, 300, 14.0) == 50.0
    assert rates.of(OBSERVATIONS, 300, 14.0) is None
    assert rates.of(CALLS, 0, 20.0) is None
    assert rates.of(CALLS, 5, 25.0) == 1.0


async def test_series_are_counted_by_status_and_events_by_what_became_of_them() -> None:
    async with memory_api() as api:
        await populate(api)
        young = SubjectState(Subject.biller("late"))
        young.absorb(Arrivals(watermark_ms=NOW_MS, accepted=4, late=3))
        assert await api.store.save([young]) == []
        found = await asked(api)
    assert found["series"] == {"prior": 0, "learning": 9, "ready": 7, "stale": 0}
    assert (found["subjects"], found["accepted"], found["late"], found["history_pending"]) == (7, 4, 3, 6)
    assert found["counted_at"] == "2026-03-02T12:30:00Z"


async def test_a_count_is_made_again_only_when_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    async with memory_api() as api:
        await live(api, Subject.biller("B1"), 60)
        assert (await asked(api))["subjects"] == 1
        await live(api, Subject.biller("B2"), 60)
        assert (await asked(api))["subjects"] == 1
        monkeypatch.setattr(census, "_LEAST_SECONDS", 0.0)
        api.app.state.looking.counting._due_at = float("-inf")
        assert (await asked(api))["subjects"] == 2


async def test_a_count_that_takes_long_is_not_waited_for() -> None:
    async with memory_api() as api:
        go_on = asyncio.Event()
        read = api.store.tallies

        async def slow(subjects: Any) -> Any:
            await go_on.wait()
            return await read(subjects)

        api.store.tallies = slow  # type: ignore[method-assign]  # a store that takes its time
        await live(api, Subject.biller("B1"), 60)
        found = await asked(api)
        assert found["series"] is None
        assert found["reasons"]["series"] == "not counted yet"
        assert found["topics"] is not None
        go_on.set()
        assert (await asked(api))["series"]["ready"] == 3


async def test_without_kafka_what_the_state_has_reached_is_still_said() -> None:
    async with memory_api() as api:
        await reach(api, calls=5)
        api.log.is_away = True
        found = await asked(api)
    assert found["topics"][0]["partitions"] == [{"partition": 0, "end": None, "reached": 5, "lag": None}]
    assert (found["topics"][0]["lag"], found["dead_letters"]) == (None, None)
    assert found["dependencies"]["kafka"] == "no answer in time"
    assert found["reasons"]["topics"] == found["reasons"]["dead_letters"] == "no answer in time"
    assert found["series"] is not None


async def test_without_redis_the_ends_of_the_logs_are_still_said(monkeypatch: pytest.MonkeyPatch) -> None:
    async with memory_api(clock="events") as api:
        await api.log.append(CALLS, [(b"B1", b"{}")] * 7)

        async def away(*_: Any, **__: Any) -> Any:
            raise DependencyError("redis", "it sleeps")

        for name in ("progress", "log_lives", "clock", "subjects"):
            monkeypatch.setattr(api.store, name, away)
        found = await asked(api)
    assert found["topics"][0]["partitions"] == [{"partition": 0, "end": 7, "reached": None, "lag": None}]
    assert found["topics"][0]["records_per_second"] is None
    assert (found["clock"], found["series"], found["accepted"]) == (None, None, None)
    assert found["dependencies"] == {"kafka": "up", "redis": "it sleeps", "postgres": "up"}
    assert set(found["reasons"].values()) == {"it sleeps"}


async def test_dead_letters_are_shown_with_their_reason_and_the_beginning_of_what_came() -> None:
    async with memory_api() as api:
        api.log.letters = [
            Letter(0, 0, NOW_MS, "invalid", "latency_ms: is missing", "calls", 3, 17, b"B1", b"x" * 900),
            Letter(0, 1, NOW_MS + HOUR_MS, "late", "too late", "calls", 3, None, None, None, is_whole=False),
        ]
        late, invalid = (await api.client.get("/pipeline/dead-letters")).json()["dead_letters"]
        (only,) = (await api.client.get("/pipeline/dead-letters?limit=1")).json()["dead_letters"]
        counted = (await asked(api))["dead_letters"]
        api.log.is_away = True
        away = await api.client.get("/pipeline/dead-letters?limit=2")
    assert only == late
    assert late["origin"] == {"topic": "calls", "partition": 3, "offset": None}
    assert (late["time"], late["bytes"], late["is_whole"]) == ("2026-03-02T13:30:00Z", None, False)
    assert invalid["origin"] == {"topic": "calls", "partition": 3, "offset": 17}
    assert (invalid["reason"], invalid["detail"], invalid["key"]) == ("invalid", "latency_ms: is missing", "B1")
    assert (len(invalid["excerpt"]), invalid["bytes"]) == (500, 900)
    assert counted == {"records": 2, "ever": 2}
    assert away.status_code == 503


async def test_many_pages_cost_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_KEPT_SECONDS", 3.0)
    looks = 0
    async with memory_api() as api:
        read = api.store.progress

        async def counted() -> Any:
            nonlocal looks
            looks += 1
            return await read()

        api.store.progress = counted  # type: ignore[method-assign]  # counts, and reads
        pages = await asyncio.gather(*(api.client.get("/pipeline") for _ in range(10)))
    assert looks == 1
    assert len({page.content for page in pages}) == 1
