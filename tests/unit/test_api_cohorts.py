"""What young series are answered with: their cohort's prior, pooled with their own hours, and nothing of it stored."""

import json
import math
from typing import Any

import pytest

from detection.cohort_learning import Census
from detection.hours import HOUR_MS, MINUTE_MS
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import CallWindow, Window
from state.keys import COHORTS
from stream.cohorts import count_in
from tests.memory_api import NOW_HOUR, NOW_MS, MemoryApi, memory_api

SLUG = "average-response-time"


async def live(api: MemoryApi, biller: str, hours: int, *, latency_ms: int, calls: int = 60) -> None:
    """A biller with that many hours of calls behind it, with a swing of a few per cent."""
    windows: dict[int, Window] = {}
    for ago in range(1, hours + 1):
        us = latency_ms * (1000 + 20 * (ago % 5))
        windows[NOW_HOUR - ago] = CallWindow(calls, 1 if ago % 9 == 0 else 0, 0, calls * us, calls * us * us)
    state = SubjectState(Subject.biller(biller))
    state.absorb(Arrivals(watermark_ms=NOW_MS - 5 * MINUTE_MS, accepted=1, windows=windows))
    state.learn(api.settings.policy())
    state.publish(api.now_ms, api.settings.policy())
    assert await api.store.save([state]) == []


async def refresh(api: MemoryApi) -> None:
    """As a worker does."""
    census = Census()
    for series in (await api.store.answers(await api.store.subjects())).values():
        for slug, fields in series.items():
            count_in(census, slug, fields)
    cohorts = census.cohorts(api.settings.coverage)
    await api.store.keep_cohorts(cohorts, now_ms=api.now_ms, due_ms=api.now_ms + HOUR_MS)


async def populate(api: MemoryApi, *, level_ms: int = 200) -> None:
    for number in range(6):
        await live(api, f"R{number}", 60, latency_ms=level_ms + 20 * number)
    await refresh(api)


async def predict(api: MemoryApi, biller: str, metric: str = SLUG, **body: Any) -> Any:
    response = await api.client.post(f"/metrics/predict/{metric}/{biller}", json=body or None)
    assert response.status_code == 200, response.text
    assert response.headers["etag"] == f'"{response.json()["version"]}"'
    return response.json()


async def test_a_new_biller_is_answered_with_what_the_others_have_in_common() -> None:
    async with memory_api() as api:
        await populate(api)
        before = api.dump()
        answer = await predict(api, "NEW")
        assert api.dump() == before
    assert (answer["status"], answer["n_learned"], answer["cohort"]) == ("prior", 0, f"{SLUG}/any")
    assert 200.0 < answer["estimate"] < 320.0
    assert answer["lower"] < answer["estimate"] < answer["upper"]
    assert 320.0 < answer["threshold"] < 1000.0
    assert answer["explanation"]["parts"]["basis"] == "cohort prior"
    assert answer["explanation"]["parts"]["cohort_series"] == 6
    assert f"by what 6 series of {SLUG}/any have in common." in answer["explanation"]["sentence"]


async def test_no_first_answer_is_zero_or_missing() -> None:
    async with memory_api() as api:
        await populate(api)
        for metric in (SLUG, "error-rate", "timeout-error-rate"):
            answer = await predict(api, "NEW", metric)
            assert answer["estimate"] > 0.0
            assert answer["threshold"] > answer["estimate"]


async def test_without_enough_ready_series_the_catalogue_speaks_as_before() -> None:
    async with memory_api() as api:
        for number in range(4):
            await live(api, f"R{number}", 60, latency_ms=200)
        await refresh(api)
        answer = await predict(api, "NEW")
    assert (answer["cohort"], answer["cohort_measured_exceedance"]) == (None, None)
    assert (answer["estimate"], answer["threshold"]) == (500.0, 10_000.0)
    assert "by what is assumed of average-response-time" in answer["explanation"]["sentence"]


async def test_a_young_biller_is_between_its_own_hours_and_its_cohort() -> None:
    async with memory_api() as api:
        await live(api, "YOUNG", 3, latency_ms=900)
        own = await predict(api, "YOUNG")
    async with memory_api() as api:
        await populate(api)
        await live(api, "YOUNG", 3, latency_ms=900)
        cohort = (await predict(api, "NEW"))["estimate"]
        before = api.dump()
        answer = await predict(api, "YOUNG")
        assert api.dump() == before
    weight = answer["explanation"]["parts"]["own_weight"]
    expected = weight * math.log(own["estimate"]) + (1.0 - weight) * math.log(cohort)
    assert (answer["status"], answer["cohort"]) == ("learning", f"{SLUG}/10-100")
    assert 0.0 < weight < 1.0
    assert math.log(answer["estimate"]) == pytest.approx(expected, rel=1e-3)
    assert answer["threshold"] > answer["estimate"]
    assert answer["version"] != own["version"]
    assert "by its own hours and the rest by what 6 series of" in answer["explanation"]["sentence"]


async def test_a_ready_biller_is_answered_as_it_is_published_with_its_cohorts_coverage() -> None:
    async with memory_api() as api:
        await populate(api)
        answer = await predict(api, "R3")
        fields = (await api.store.answers([Subject.biller("R3")]))[Subject.biller("R3")][SLUG]
    assert answer["status"] == "ready"
    assert (answer["estimate"], answer["threshold"]) == (float(fields["estimate"]), float(fields["threshold"]))
    assert answer["version"] == fields["version"]
    assert answer["cohort"] == f"{SLUG}/10-100"
    assert 0.0 <= answer["cohort_measured_exceedance"] <= 1.0


async def test_every_way_of_asking_gives_the_same_pooled_answer() -> None:
    async with memory_api() as api:
        await populate(api)
        await live(api, "YOUNG", 3, latency_ms=900)
        one = await predict(api, "YOUNG")
        items = {"items": [{"metricTypeId": 1, "billerId": "YOUNG"}]}
        (bulk,) = (await api.client.post("/metrics/predict", json=items)).json()["predictions"]
        query = {"prefix": "YOUNG", "metric": SLUG}
        (listed,) = (await api.client.get("/thresholds", params=query)).json()["thresholds"]
        stream = await api.client.get("/thresholds", params=query, headers={"Accept": "application/x-ndjson"})
    assert bulk == one
    assert listed == json.loads(stream.text)
    shared = listed.keys() & one.keys()
    assert {"cohort", "cohort_measured_exceedance", "threshold", "version"} <= shared
    assert {name: listed[name] for name in shared} == {name: one[name] for name in shared}


async def test_what_a_sample_would_change_is_pooled_too() -> None:
    async with memory_api() as api:
        await populate(api)
        answer = await predict(api, "NEW", sample={"value": 900.0, "count": 60})
    assert (answer["status"], answer["n_learned"]) == ("learning", 1)
    assert answer["explanation"]["parts"]["basis"] == "cohort prior"
    assert answer["estimate"] < 900.0


async def test_the_version_of_a_borrowed_answer_changes_with_the_cohort() -> None:
    async with memory_api() as api:
        await populate(api)
        before = (await predict(api, "NEW"))["version"]
    async with memory_api() as api:
        await populate(api, level_ms=400)
        assert (await predict(api, "NEW"))["version"] != before


async def test_damaged_cohorts_refuse_nobody_an_answer() -> None:
    async with memory_api() as api:
        await populate(api)
        api.store.hashes[COHORTS][b"error-rate/any"] = b"{"
        answer = await predict(api, "NEW")
    assert (answer["cohort"], answer["threshold"]) == (None, 10_000.0)
