"""Where every subject stands: what a page of the overview says, and that it says the same as predict."""

from typing import Any

import pytest

from api import overview
from detection.hours import HOUR_MS, MINUTE_MS
from detection.rules.alert import Alert
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import NANO, CallWindow, GaugeSum, GaugeWindow, Window
from tests.memory_api import NOW_HOUR, NOW_MS, MemoryApi, memory_api

SLUGS = ["average-response-time", "error-rate", "timeout-error-rate"]
NOW_MINUTE = NOW_MS // MINUTE_MS


async def live(
    api: MemoryApi, subject: Subject, hours: int, *, failing: bool = False, alerts: tuple[Alert, ...] = ()
) -> None:
    policy = api.settings.policy()
    windows: dict[int, Window] = {
        NOW_HOUR - ago: CallWindow(10, 1, 1, 9_000_000, 9 * 10**12)
        if subject.kind == "biller"
        else GaugeWindow(1, {"drift": GaugeSum(1, NANO // 10, 0.1, 0.1)})
        for ago in range(1, hours + 1)
    }
    minutes: dict[int, Window] = {}
    if failing:
        minutes = {NOW_MINUTE - ago: CallWindow(10, 9, 0, 9_000_000, 9 * 10**12) for ago in range(3)}
    state = SubjectState(subject)
    state.absorb(Arrivals(watermark_ms=NOW_MS - 35 * MINUTE_MS, windows=windows, minutes=minutes))
    state.learn(policy)
    state.publish(NOW_MS, policy)
    state.alerts = {one.key: one for one in alerts}
    assert await api.store.save([state]) == []


async def populate(api: MemoryApi) -> None:
    for number in range(5):
        await live(api, Subject.biller(f"B{number}"), 60 if number % 2 else 3, failing=number == 3)
    await live(api, Subject.model("Mistral", "v1"), 60)


async def asked(api: MemoryApi, **query: object) -> Any:
    response = await api.client.get("/overview", params={key: str(value) for key, value in query.items()})
    assert response.status_code == 200, response.text
    return response.json()


def alert(slug: str, **fields: Any) -> Alert:
    told: dict[str, Any] = {"severity": "warning", "state": "open", "opened_ms": NOW_MS} | fields
    return Alert(
        rule="a-rule",
        subject=Subject.biller("B1"),
        slug=slug,
        since_ms=NOW_MS - HOUR_MS,
        last_ms=NOW_MS,
        value=5.0,
        boundary=1.0,
        count=9,
        score=2.0,
        worst=2.0,
        condition="greater than",
        **told,
    )


async def test_every_series_of_the_overview_is_what_predict_answers() -> None:
    async with memory_api() as api:
        await populate(api)
        page = await asked(api)
        alerting = set()
        for subject in page["subjects"]:
            if not subject["subject"].startswith("biller:"):
                continue
            biller = subject["subject"].removeprefix("biller:")
            assert [one["metric"] for one in subject["series"]] == SLUGS
            for item in subject["series"]:
                predicted = (await api.client.post(f"/metrics/predict/{item['metric']}/{biller}")).json()
                shared = ("metric", "unit", "operator", "status", "estimate", "lower", "upper", "threshold")
                assert {name: item[name] for name in shared} == {name: predicted[name] for name in shared}
                assert item["is_alert"] == predicted["alert"]["is_alert"]
                evidence = predicted["alert"]["evidence"]
                if evidence is not None:
                    told = {name: evidence[name] for name in ("value", "calls", "score")}
                    assert {name: item[name] for name in told} == told
                if item["is_alert"]:
                    alerting.add((biller, item["metric"]))
    assert alerting == {("B3", "error-rate")}
    assert (page["total_known"], page["next_cursor"]) == (6, None)


async def test_a_subject_is_as_bad_as_its_worst_series_and_as_near_as_its_nearest() -> None:
    async with memory_api() as api:
        await populate(api)
        by_subject = {one["subject"]: one for one in (await asked(api))["subjects"]}
    assert {name: one["status"] for name, one in by_subject.items()} == {
        "biller:B0": "learning",
        "biller:B1": "ready",
        "biller:B2": "learning",
        "biller:B3": "ready",
        "biller:B4": "learning",
        "model:Mistral/v1": "ready",
    }
    failing = by_subject["biller:B3"]
    scores = {one["metric"]: one["score"] for one in failing["series"]}
    assert failing["nearest"] == {"metric": "error-rate", "score": scores["error-rate"]}
    assert scores["error-rate"] > 1.0 >= max(score for slug, score in scores.items() if slug != "error-rate")


async def test_subjects_that_have_been_silent_are_stale() -> None:
    async with memory_api() as api:
        await populate(api)
        api.now_ms += 5 * HOUR_MS
        page = await asked(api)
    assert {one["status"] for one in page["subjects"]} == {"stale"}
    assert not any(item["is_alert"] for one in page["subjects"] for item in one["series"])


async def test_the_most_severe_open_alert_is_shown_and_all_are_counted() -> None:
    alerts = (
        alert("error-rate"),
        alert("average-response-time", severity="critical", acknowledged_by="kim"),
        alert("timeout-error-rate", state="pending", severity="critical", opened_ms=None),
    )
    async with memory_api() as api:
        await live(api, Subject.biller("B1"), 60, alerts=alerts)
        await live(api, Subject.biller("B2"), 60)
        first, second = (await asked(api))["subjects"]
    assert first["alert"] == {
        "id": alerts[1].id,
        "state": "open",
        "severity": "critical",
        "metric": "average-response-time",
        "rule": "a-rule",
        "since": "2026-03-02T11:30:00Z",
        "acknowledged_by": "kim",
    }
    assert first["alerts"] == 2
    assert (second["alert"], second["alerts"]) == (None, 0)


async def test_a_subject_whose_first_hour_has_not_closed_is_listed_without_series() -> None:
    async with memory_api() as api:
        state = SubjectState(Subject.biller("B1"))
        state.absorb(Arrivals(watermark_ms=NOW_MS, windows={NOW_HOUR: CallWindow(1, 0, 0, 5, 25)}))
        assert await api.store.save([state]) == []
        (only,) = (await asked(api))["subjects"]
    assert only == {
        "subject": "biller:B1",
        "status": "prior",
        "alert": None,
        "alerts": 0,
        "nearest": None,
        "series": [],
    }


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 7])
async def test_pages_give_every_subject_once(limit: int) -> None:
    async with memory_api() as api:
        await populate(api)
        whole = (await asked(api))["subjects"]
        found: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            page = await asked(api, limit=limit, cursor=cursor)
            assert len(page["subjects"]) <= limit
            assert page["total_known"] == 6
            found += page["subjects"]
            cursor = page["next_cursor"]
    assert found == whole
    assert len(whole) == 6


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("B3", ["biller:B3"]),
        ("Mis", ["model:Mistral/v1"]),
        ("biller:B1", ["biller:B1"]),
        ("model:", ["model:Mistral/v1"]),
        ("X", []),
    ],
)
async def test_a_prefix_is_of_the_id_or_of_the_whole_text(prefix: str, expected: list[str]) -> None:
    async with memory_api() as api:
        await populate(api)
        page = await asked(api, prefix=prefix)
    assert [one["subject"] for one in page["subjects"]] == expected
    assert page["total_known"] == len(expected)


async def test_a_page_that_is_known_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "KEPT_SECONDS", -1.0)
    async with memory_api() as api:
        await populate(api)
        etag = (await api.client.get("/overview")).headers["etag"]
        again = await api.client.get("/overview", headers={"If-None-Match": f'"other", {etag}'})
        await live(api, Subject.biller("B9"), 1)
        changed = await api.client.get("/overview", headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert changed.status_code == 200


async def test_what_was_made_a_moment_ago_is_answered_again() -> None:
    async with memory_api() as api:
        await populate(api)
        first = await asked(api)
        await live(api, Subject.biller("B9"), 1)
        assert await asked(api) == first
        assert len((await asked(api, prefix="B"))["subjects"]) == 6


async def test_a_cursor_of_nobody_is_refused() -> None:
    async with memory_api() as api:
        for cursor in ("x", "%%%", "YTpi"):
            response = await api.client.get("/overview", params={"cursor": cursor})
            assert response.status_code == 422
            assert response.json()["errors"][0]["field"] == "cursor"


def test_what_a_young_series_says_of_its_first_hours_is_nearest_only_where_none_is_ready() -> None:
    young = {"metric": "drift", "status": "learning", "score": 7.0}
    ready = {"metric": "accuracy", "status": "ready", "score": 0.25}
    silent = {"metric": "speed", "status": "ready", "score": None}
    assert overview._nearest([young, ready, silent]) == {"metric": "accuracy", "score": 0.25}
    assert overview._nearest([young, silent]) == {"metric": "drift", "score": 7.0}
    assert overview._nearest([silent]) is None
