"""What predict answers, over stores in memory."""

from typing import Any

import pytest

from detection.hours import HOUR_MS, MINUTE_MS, iso_hour
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import CallWindow, Window
from tests.memory_api import NOW_HOUR, NOW_MS, MemoryApi, memory_api

B1 = Subject.biller("B1")


def calls(count: int, *, latency_ms: int = 200, errors: int = 0, timeouts: int = 0) -> CallWindow:
    answered = count - timeouts
    return CallWindow(count, errors, timeouts, answered * latency_ms * 1000, answered * (latency_ms * 1000) ** 2)


async def live(
    api: MemoryApi,
    hours: int,
    *,
    last: CallWindow | None = None,
    minutes: dict[int, Window] | None = None,
    watermark_ms: int = NOW_MS - 5 * MINUTE_MS,
) -> None:
    """A biller whose last `hours` hours had calls, the very last of them `last`, and who was published now."""
    policy = api.settings.policy()
    windows: dict[int, Window] = {NOW_HOUR - ago: calls(60, latency_ms=200 + ago % 7) for ago in range(1, hours + 1)}
    if last is not None:
        windows[NOW_HOUR - 1] = last
    state = SubjectState(B1)
    state.absorb(Arrivals(watermark_ms=watermark_ms, accepted=1, windows=windows, minutes=minutes or {}))
    state.learn(policy)
    state.publish(api.now_ms, policy)
    assert await api.store.save([state]) == []


async def predict(api: MemoryApi, metric: str = "average-response-time", **body: Any) -> Any:
    response = await api.client.post(f"/metrics/predict/{metric}/B1", json=body or None)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_biller_that_was_never_seen_is_answered_with_the_prior() -> None:
    async with memory_api() as api:
        answer = await predict(api)
        assert api.dump() == {}
    assert (answer["status"], answer["n_learned"], answer["threshold"]) == ("prior", 0, 10_000.0)
    assert answer["window_start"] == iso_hour(NOW_HOUR)
    assert answer["alert"] == {"is_alert": False, "evidence": None}


async def test_a_young_biller_is_answered_while_it_is_learning() -> None:
    async with memory_api() as api:
        await live(api, 10)
        answer = await predict(api)
    assert answer["status"] == "learning"
    assert answer["estimate"] == pytest.approx(203, abs=10)


async def test_predict_answers_what_is_published_and_changes_nothing() -> None:
    async with memory_api() as api:
        await live(api, 100)
        before = api.dump()
        response = await api.client.post("/metrics/predict/1/B1")
        again = await api.client.post("/metrics/predict/AVERAGE_RESPONSE_TIME/B1", json={})
        sampled = await predict(api, sample={"value": 900.0, "count": 30})
        assert api.dump() == before
    answer = response.json()
    assert answer == again.json()
    assert answer["status"] == "ready"
    assert answer["subject"] == "biller:B1"
    assert answer["operator"] == ">"
    assert answer["lower"] <= answer["estimate"] <= answer["upper"] <= answer["threshold"]
    assert response.headers["etag"] == f'"{answer["version"]}"'
    assert "ms" in answer["explanation"]["sentence"]
    assert sampled["version"] != answer["version"]


async def test_an_hour_beyond_its_threshold_raises_the_flag_with_its_evidence() -> None:
    async with memory_api() as api:
        await live(api, 100, last=calls(40, latency_ms=5000))
        answer = await predict(api)
    evidence = answer["alert"]["evidence"]
    assert answer["alert"]["is_alert"]
    assert (evidence["source"], evidence["value"], evidence["calls"]) == ("hour", 5000.0, 40)
    assert evidence["window_start"] == iso_hour(NOW_HOUR - 1)
    assert evidence["value"] > evidence["threshold"]
    assert evidence["score"] > 1.0


async def test_an_hour_of_too_few_calls_raises_no_flag() -> None:
    async with memory_api() as api:
        await live(api, 100, last=calls(2, latency_ms=5000))
        answer = await predict(api)
    assert not answer["alert"]["is_alert"]
    assert answer["alert"]["evidence"]["calls"] == 2


@pytest.mark.parametrize(
    ("minutes", "is_alert"),
    [
        ({1: calls(10, errors=9)}, True),
        ({1: calls(10, errors=1), 3: calls(10, errors=8)}, True),
        ({1: calls(10)}, False),
        ({1: calls(4, errors=4)}, False),
        ({1: calls(30, errors=1)}, False),
        ({40: calls(10, errors=9)}, False),
    ],
)
async def test_the_last_minutes_raise_the_flag_when_enough_calls_stand_behind_them(
    minutes: dict[int, CallWindow], *, is_alert: bool
) -> None:
    newest = NOW_MS - min(minutes) * MINUTE_MS
    async with memory_api() as api:
        placed: dict[int, Window] = {NOW_MS // MINUTE_MS - ago: window for ago, window in minutes.items()}
        await live(api, 100, minutes=placed, watermark_ms=newest)
        answer = await predict(api, "error-rate")
    assert answer["alert"]["is_alert"] is is_alert
    if is_alert:
        evidence = answer["alert"]["evidence"]
        assert evidence["source"] == "minutes"
        assert evidence["calls"] == sum(window.calls for window in minutes.values())


async def test_an_answer_that_nobody_renewed_is_stale() -> None:
    async with memory_api() as api:
        await live(api, 100, last=calls(40, latency_ms=5000))
        api.now_ms = NOW_MS + 2 * HOUR_MS
        assert (await predict(api))["status"] == "ready"
        api.now_ms = NOW_MS + 3 * HOUR_MS
        answer = await predict(api)
    assert answer["status"] == "stale"
    assert not answer["alert"]["is_alert"]


async def test_the_clock_of_recorded_data_is_that_of_its_events() -> None:
    async with memory_api(clock="events") as api:
        await live(api, 100)
        await api.store.advance_clock(NOW_MS)
        api.now_ms = NOW_MS + 1000 * HOUR_MS
        assert (await predict(api))["status"] == "ready"


async def test_before_the_first_event_the_prior_is_said_about_the_present_hour() -> None:
    async with memory_api(clock="events") as api:
        api.now_ms = NOW_MS
        answer = await predict(api)
    assert answer["status"] == "prior"
    assert answer["window_start"] == iso_hour(NOW_HOUR)


async def test_a_sample_is_judged_and_then_thought_of_as_seen() -> None:
    async with memory_api() as api:
        await live(api, 100)
        published = await predict(api)
        answer = await predict(api, sample={"value": 5000.0, "count": 30})
        quiet = await predict(api, sample={"timestamp": iso_hour(NOW_HOUR), "value": 203.0})
    assert answer["sample"]["verdict"] == "exceeded"
    assert answer["sample"]["threshold"] == published["threshold"]
    assert answer["sample"]["window_start"] == published["window_start"]
    assert answer["window_start"] == published["window_end"]
    assert answer["n_learned"] == published["n_learned"] + 1
    assert answer["alert"]["is_alert"]
    assert quiet["sample"]["verdict"] == "normal"
    assert not quiet["alert"]["is_alert"]


@pytest.mark.parametrize(
    ("sample", "field"),
    [
        ({"value": 1.0, "timestamp": iso_hour(NOW_HOUR - 1)}, "sample.timestamp"),
        ({"value": 1.0, "timestamp": iso_hour(NOW_HOUR + 5000)}, "sample.timestamp"),
        ({"value": 1.0, "timestamp": "2026-03-02T12:00:00"}, "sample.timestamp"),
        ({"value": 1.0, "timestamp": 10**17}, "sample.timestamp"),
        ({"value": 1.0, "timestamp": 7}, "sample.timestamp"),
        ({"value": 1.0, "timestamp": "9999-12-31T23:30:00-10:00"}, "sample.timestamp"),
        ({"value": 1.0, "timestamp": "0001-01-01T00:00:00+23:00"}, "sample.timestamp"),
        ({"value": 1e308}, "sample.value"),
        ({"value": 3_600_000.1}, "sample.value"),
        ({"value": -1.0}, "sample.value"),
        ({"value": "many"}, "sample.value"),
        ({"count": 1}, "sample.value"),
        ({"value": 1.0, "count": 0}, "sample.count"),
        ({"value": 1.0, "cuont": 7}, "sample.cuont"),
    ],
)
async def test_a_sample_that_cannot_be_one_names_its_field(sample: dict[str, Any], field: str) -> None:
    async with memory_api() as api:
        await live(api, 100)
        response = await api.client.post("/metrics/predict/1/B1", json={"sample": sample})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"].startswith(field)


async def test_many_series_are_answered_in_the_order_of_the_items() -> None:
    async with memory_api() as api:
        await live(api, 100)
        items = [{"metricTypeId": 2, "billerId": "B2"}, {"metricTypeId": "average-response-time", "billerId": "B1"}]
        response = await api.client.post("/metrics/predict", json={"items": items})
        single = await predict(api)
        wrong = await api.client.post(
            "/metrics/predict", json={"items": [*items, {"metricTypeId": 9, "billerId": "B"}]}
        )
        many = await api.client.post("/metrics/predict", json={"items": items * 501})
    found = response.json()["predictions"]
    assert [(one["subject"], one["metric"], one["status"]) for one in found] == [
        ("biller:B2", "error-rate", "prior"),
        ("biller:B1", "average-response-time", "ready"),
    ]
    assert found[1] == single
    assert wrong.status_code == 404
    assert (wrong.json()["errors"][0]["index"], wrong.json()["errors"][0]["field"]) == (2, "metricTypeId")
    assert many.status_code == 422


async def test_a_sample_beyond_what_a_live_observation_can_be_is_refused() -> None:
    path = "/metrics/predict/gauges/drift/Mistral/v1"
    async with memory_api() as api:
        refused = [await api.client.post(path, json={"sample": {"value": value}}) for value in (1.1e15, -1.1e15)]
        taken = await api.client.post(path, json={"sample": {"value": -1e15}})
    assert [one.status_code for one in (*refused, taken)] == [422, 422, 200]


async def test_a_gauge_that_was_never_seen_is_answered_with_the_prior() -> None:
    async with memory_api() as api:
        response = await api.client.post("/metrics/predict/gauges/prediction_accuracy/Mistral/v1")
    answer = response.json()
    assert (answer["subject"], answer["metric"]) == ("model:Mistral/v1", "prediction-accuracy")
    assert (answer["status"], answer["operator"]) == ("prior", "<")
