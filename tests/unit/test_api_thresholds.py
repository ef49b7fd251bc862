"""The list of thresholds: filters, pages, streams and the page for people."""

import json
from typing import Any

from detection.hours import HOUR_MS, MINUTE_MS, iso, iso_hour
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import NANO, CallWindow, GaugeSum, GaugeWindow, Window
from tests.memory_api import NOW_HOUR, NOW_MS, MemoryApi, memory_api

SLUGS = ["average-response-time", "error-rate", "timeout-error-rate"]


async def live(api: MemoryApi, subject: Subject, hours: int) -> None:
    policy = api.settings.policy()
    windows: dict[int, Window] = {
        NOW_HOUR - ago: CallWindow(10, 1, 1, 9_000_000, 9 * 10**12)
        if subject.kind == "biller"
        else GaugeWindow(1, {"drift": GaugeSum(1, NANO // 10, 0.1, 0.1)})
        for ago in range(1, hours + 1)
    }
    state = SubjectState(subject)
    state.absorb(Arrivals(watermark_ms=NOW_MS - 35 * MINUTE_MS, windows=windows))
    state.learn(policy)
    state.publish(NOW_MS, policy)
    assert await api.store.save([state]) == []


async def populate(api: MemoryApi) -> None:
    for number in range(5):
        await live(api, Subject.biller(f"B{number}"), 60 if number % 2 else 3)
    await live(api, Subject.model("Mistral", "v1"), 60)


async def listed(api: MemoryApi, **query: object) -> list[Any]:
    response = await api.client.get("/thresholds", params={key: str(value) for key, value in query.items()})
    assert response.status_code == 200, response.text
    found: list[Any] = response.json()["thresholds"]
    return found


async def test_pages_give_every_series_once_in_the_order_of_the_subjects() -> None:
    async with memory_api() as api:
        await populate(api)
        whole = await listed(api)
        for limit in (1, 2, 4, 7, 16, 17):
            found: list[Any] = []
            cursor: str | None = ""
            while cursor is not None:
                page = (await api.client.get("/thresholds", params={"limit": limit, "cursor": cursor})).json()
                assert len(page["thresholds"]) <= limit
                found += page["thresholds"]
                cursor = page["next_cursor"]
            assert found == whole
    billers = [(f"biller:B{number}", slug) for number in range(5) for slug in SLUGS]
    assert [(one["subject"], one["metric"]) for one in whole] == [*billers, ("model:Mistral/v1", "drift")]


async def test_a_listed_threshold_is_what_predict_answers() -> None:
    async with memory_api() as api:
        await populate(api)
        for item in await listed(api, kind="biller"):
            biller = item["subject"].removeprefix("biller:")
            predicted = (await api.client.post(f"/metrics/predict/{item['metric']}/{biller}")).json()
            shared = item.keys() & predicted.keys()
            assert len(shared) == len(item) - 2
            assert {name: item[name] for name in shared} == {name: predicted[name] for name in shared}


async def test_filters_leave_what_was_asked_for() -> None:
    async with memory_api() as api:
        await populate(api)
        assert {one["metric"] for one in await listed(api, metric="ERROR_RATE_PERCENTAGE")} == {"error-rate"}
        assert {one["metric"] for one in await listed(api, metric=2)} == {"error-rate"}
        assert [one["subject"] for one in await listed(api, kind="model")] == ["model:Mistral/v1"]
        assert {one["subject"] for one in await listed(api, prefix="B3")} == {"biller:B3"}
        assert [one["subject"] for one in await listed(api, prefix="Mis")] == ["model:Mistral/v1"]
        assert {one["status"] for one in await listed(api, status="ready")} == {"ready"}
        assert len(await listed(api, status="learning")) == 9
        assert await listed(api, status="stale") == []
        assert len(await listed(api, changed_since=iso_hour(NOW_HOUR))) == 16
        assert await listed(api, changed_since="2026-03-02T13:01:00Z") == []
        api.now_ms += 5 * HOUR_MS
        assert len(await listed(api, status="stale")) == 16


async def test_nothing_that_is_still_published_changes_unseen() -> None:
    """A correction in an hour's first minute is published for the hour before; a training for the current hour."""
    async with memory_api() as api:
        await populate(api)
        seen = {(one["subject"], one["metric"]): one["version"] for one in await listed(api)}
        asked = [iso(NOW_HOUR * HOUR_MS + ms) for ms in (0, 1, 29 * MINUTE_MS, HOUR_MS - 1, HOUR_MS, HOUR_MS + 30_000)]
        asked += ["0001-01-01T00:00:00+23:00", "2026-03-02T14:15:00+02:00"]
        path = "/metrics/train/1/B1"
        row = {"timestamp": iso_hour(NOW_HOUR - 200), "value": 1.0}
        assert (await api.client.post(path, json={"rows": [row]})).status_code == 200
        api.now_ms = (NOW_HOUR + 1) * HOUR_MS + 40_000
        for since in asked:
            changed = await listed(api, changed_since=since)
            versions = {(one["subject"], one["metric"]): one["version"] for one in changed}
            assert versions.keys() == seen.keys()
            assert versions["biller:B1", SLUGS[0]] != seen["biller:B1", SLUGS[0]]
        api.now_ms += MINUTE_MS
        assert await listed(api, changed_since=iso((NOW_HOUR + 1) * HOUR_MS + MINUTE_MS)) == []


async def test_a_series_that_is_no_longer_published_is_not_listed_as_changed() -> None:
    async with memory_api() as api:
        await live(api, Subject.biller("B1"), 60)
        state = (await api.store.load([Subject.biller("B1")]))[Subject.biller("B1")]
        api.now_ms += 40 * 24 * HOUR_MS
        state.publish(api.now_ms, api.settings.policy())
        assert await api.store.save([state]) == []
        assert {one["status"] for one in await listed(api)} == {"stale"}
        assert await listed(api, changed_since=iso(api.now_ms)) == []


async def test_a_stream_gives_every_series_on_its_own_line() -> None:
    async with memory_api() as api:
        await populate(api)
        whole = await listed(api)
        response = await api.client.get("/thresholds?limit=2", headers={"Accept": "application/x-ndjson"})
        nothing = await api.client.get("/thresholds?prefix=X", headers={"Accept": "application/x-ndjson"})
    assert response.headers["content-type"].startswith("application/x-ndjson")
    assert [json.loads(line) for line in response.text.splitlines()] == whole
    assert (nothing.status_code, nothing.text) == (200, "")


async def test_a_page_that_is_known_is_not_sent_again() -> None:
    async with memory_api() as api:
        await populate(api)
        first = await api.client.get("/thresholds")
        etag = first.headers["etag"]
        again = await api.client.get("/thresholds", headers={"If-None-Match": f'"other", W/{etag}'})
        await live(api, Subject.biller("B9"), 1)
        changed = await api.client.get("/thresholds", headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == etag
    assert changed.status_code == 200
