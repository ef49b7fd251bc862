"""Exclusions through HTTP, over stores in memory: what they take out, give back and leave alone, and every refusal."""

from collections.abc import Sequence
from typing import Any

import pytest

from detection.errors import DependencyError
from detection.exclusions import Exclusion, Exclusions
from detection.hours import HOUR_MS, iso_hour
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import CallWindow, Window
from state.keys import outbox_key, subject_key
from tests.contract.states import gauge_window
from tests.memory_api import NOW_HOUR, NOW_MS, MemoryApi, memory_api

B1 = Subject.biller("B1")
MISTRAL = Subject.model("Mistral", "v1")
PATH = "/billers/B1/exclusions"
FIRST = NOW_HOUR - 120
INCIDENT = range(NOW_HOUR - 30, NOW_HOUR - 24)

# What counts events or writes, and what says what was excluded; minutes are judged by what was known at a moment.
OWN = frozenset({b"rev", b"accepted", b"exclusions", b"live"})


def window(hour: int) -> CallWindow:
    """An hour of forty calls and a few; in the incident they are slow and fail."""
    is_bad = hour in INCIDENT
    calls = 40 + hour % 5
    latency_us = calls * (900_000 if is_bad else 150_000 + 11_000 * (hour % 24))
    return CallWindow(calls, 30 if is_bad else hour % 3, 0, latency_us, latency_us**2 // calls)


async def hear(api: MemoryApi, hours: Sequence[int], *, subject: Subject = B1) -> None:
    """These hours come from the stream, as a worker counts, learns and publishes them."""
    policy = api.settings.policy()
    windows: dict[int, Window] = {
        hour: window(hour)
        if subject.kind == "biller"
        else gauge_window(drift=5.0 if hour in INCIDENT else 0.1 + hour % 7 / 50)
        for hour in hours
    }
    state = (await api.store.load([subject])).get(subject) or SubjectState(subject)
    state.absorb(Arrivals(watermark_ms=max(windows) * HOUR_MS + HOUR_MS // 2, accepted=len(windows), windows=windows))
    state.learn(policy)
    state.publish(min(state.watermark_ms + HOUR_MS, NOW_MS), policy)
    assert await api.store.save([state]) == []


async def carry(api: MemoryApi) -> None:
    """What is in the outbox goes into the history, and is gone."""
    on_its_way = await api.store.outbox([B1, MISTRAL])
    await api.history.record(on_its_way)
    await api.store.relayed({subject: list(hours) for subject, hours in on_its_way.items()})


def given(hours: Sequence[int] = INCIDENT, **more: object) -> dict[str, Any]:
    return {"from": iso_hour(hours[0]), "to": iso_hour(hours[-1] + 1), "reason": "outage", "by": "kim", **more}


def stored(api: MemoryApi) -> dict[str, dict[bytes, bytes]]:
    """All fields that depend on what was learned alone."""
    found = {}
    for key, fields in api.dump().items():
        if not key.endswith("_outbox"):
            own = OWN if key in {subject_key(B1), subject_key(MISTRAL)} else frozenset()
            found[key] = {name: value for name, value in fields.items() if name not in own}
    return found


async def n_learned(api: MemoryApi, slug: str) -> int:
    return (await api.store.load([B1]))[B1].models[slug].n_learned


def without(hours: Sequence[int], excluded: Sequence[int]) -> list[int]:
    return [hour for hour in hours if hour not in excluded]


HOURS = range(FIRST, NOW_HOUR)


@pytest.mark.parametrize("carried", [1, 60, 119])
async def test_excluded_hours_of_the_past_leave_the_state_that_never_saw_them(carried: int) -> None:
    async with memory_api() as api, memory_api() as never:
        await hear(api, HOURS[:carried])
        await carry(api)
        await hear(api, HOURS[carried:])
        await hear(never, without(HOURS, INCIDENT))
        assert stored(api) != stored(never)
        response = await api.client.post(PATH, json=given())
        assert response.status_code == 201, response.text
        assert stored(api) == stored(never)
    made = response.json()
    assert made["relearned"] == {
        slug: {"n_learned": 112, "n_excluded": 6}
        for slug in ("average-response-time", "error-rate", "timeout-error-rate")
    }
    assert (made["from"], made["to"], made["hours"]) == (iso_hour(INCIDENT[0]), iso_hour(INCIDENT[-1] + 1), 6)
    assert (made["metric"], made["reason"], made["by"]) == (None, "outage", "kim")


async def test_the_same_again_changes_nothing_and_is_answered_the_same() -> None:
    async with memory_api() as api:
        await hear(api, HOURS)
        first = await api.client.post(PATH, json=given())
        before = api.dump()
        again = await api.client.post(PATH, json=given(reason="said otherwise"))
        assert api.dump() == before
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json() | {"relearned": {}}


async def test_what_is_taken_back_is_learned_as_if_it_had_never_been_excluded() -> None:
    async with memory_api() as api, memory_api() as never:
        for each in (api, never):
            await hear(each, HOURS[:-3])
            await carry(each)
        made = (await api.client.post(PATH, json=given())).json()
        for each in (api, never):
            await hear(each, HOURS[-3:])
        assert stored(api) != stored(never)
        gone = await api.client.delete(f"{PATH}/{made['id']}")
        assert gone.status_code == 200, gone.text
        assert stored(api) == stored(never)
        assert (await api.client.get(PATH)).json() == {"exclusions": [], "total": 0}
        assert api.store.hashes[subject_key(B1)][b"exclusions"] == b"{}"
    assert gone.json()["relearned"]["error-rate"] == {"n_learned": 118, "n_excluded": 0}


async def test_hours_ahead_are_excluded_when_they_come_and_kept_in_the_history() -> None:
    ahead = HOURS[-40:-34]
    async with memory_api() as api, memory_api() as never:
        api.now_ms = ahead[0] * HOUR_MS - 1
        for each in (api, never):
            await hear(each, HOURS[:-41])
        response = await api.client.post(PATH, json=given(ahead))
        assert (response.status_code, response.json()["relearned"]) == (201, {})
        for hour in HOURS[-41:]:
            await hear(api, [hour])
            if hour not in ahead:
                await hear(never, [hour])
        assert stored(api) == stored(never)
        await carry(api)
        assert {row.hour for row in await api.history.read(B1, "error-rate")} >= set(ahead)


async def test_hours_ahead_need_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise DependencyError("postgres", "no answer in time")

    async with memory_api() as api:
        await hear(api, HOURS)
        monkeypatch.setattr(api.history, "read", away)
        before = api.dump()
        past = await api.client.post(PATH, json=given())
        assert (past.status_code, past.headers["retry-after"]) == (503, "5")
        assert api.dump() == before
        ahead = await api.client.post(PATH, json=given(range(NOW_HOUR + 1, NOW_HOUR + 3)))
        assert ahead.status_code == 201


async def test_an_hour_that_is_closed_but_may_still_be_corrected_is_no_longer_judged() -> None:
    last = HOURS[-1:]
    async with memory_api() as api, memory_api() as never:
        await hear(api, HOURS)
        await hear(never, HOURS[:-1])
        state = (await never.store.load([B1]))[B1]
        state.publish(NOW_MS, never.settings.policy())
        await never.store.save([state])
        response = await api.client.post(PATH, json=given(last))
        assert (response.status_code, response.json()["relearned"]) == (201, {})
        state, silent = (await api.store.load([B1]))[B1], (await never.store.load([B1]))[B1]
    assert state.windows.keys() - silent.windows.keys() == set(last)
    assert (state.published_hour, silent.published_hour) == (NOW_HOUR, NOW_HOUR)
    assert state.verdicts == silent.verdicts
    assert state.forecasts == silent.forecasts


async def test_one_metric_is_excluded_and_the_others_stay_as_they_were() -> None:
    async with memory_api() as api, memory_api() as whole:
        for each in (api, whole):
            await hear(each, HOURS)
        response = await api.client.post(PATH, json=given(metric="ERROR_RATE_PERCENTAGE"))
        assert response.json()["metric"] == "error-rate"
        assert response.json()["relearned"].keys() == {"error-rate"}
        kept, before = stored(api), stored(whole)
        for slug in ("average-response-time", "timeout-error-rate"):
            assert kept[f"{subject_key(B1)}:{slug}"] == before[f"{subject_key(B1)}:{slug}"]
        assert kept[f"{subject_key(B1)}:error-rate"] != before[f"{subject_key(B1)}:error-rate"]


async def test_an_hour_of_two_exclusions_is_learned_when_both_are_taken_back() -> None:
    async with memory_api() as api:
        await hear(api, HOURS)
        before = stored(api)
        ids = [
            (await api.client.post(PATH, json=given(hours))).json()["id"]
            for hours in (INCIDENT, range(INCIDENT[2], INCIDENT[-1] + 3))
        ]
        assert await n_learned(api, "error-rate") == 110
        await api.client.delete(f"{PATH}/{ids[0]}")
        assert await n_learned(api, "error-rate") == 112
        await api.client.delete(f"{PATH}/{ids[1]}")
        assert stored(api) == before


async def test_a_span_is_every_hour_that_it_touches() -> None:
    async with memory_api() as api:
        await hear(api, HOURS)
        body = given() | {"from": "2026-03-01T10:59:59.999+01:00", "to": "2026-03-01T12:00:00.001Z"}
        made = (await api.client.post(PATH, json=body)).json()
    assert (made["id"], made["hours"]) == ("20260301T09Z-20260301T13Z", 4)
    assert (made["from"], made["to"]) == ("2026-03-01T09:00:00Z", "2026-03-01T13:00:00Z")


async def test_a_history_that_has_lost_hours_is_said_and_nothing_is_changed() -> None:
    async with memory_api() as api:
        await hear(api, HOURS)
        await carry(api)
        for hour in HOURS[:7]:
            del api.history.rows[B1, "error-rate"][hour]
        before = api.dump()
        refused = await api.client.post(PATH, json=given())
        other = await api.client.post(PATH, json=given(metric="timeout-error-rate"))
        assert refused.status_code == 409
        assert refused.json()["type"] == "urn:tidemark:problem:history-incomplete"
        assert refused.json()["errors"] == [{"field": "error-rate", "reason": "7 learned hours are missing"}]
        assert "error-rate: 7 learned hours are missing" in refused.json()["detail"]
        assert other.status_code == 201
        assert api.dump() != before


async def test_another_writer_is_never_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    async with memory_api() as api, memory_api() as never:
        await hear(api, HOURS[:-3])
        await hear(never, without(HOURS, INCIDENT))
        outbox, others = api.store.outbox, [HOURS[-3], HOURS[-2], HOURS[-1]]

        async def learn_then_read(subjects: list[Subject]) -> Any:
            if others:
                await hear(api, [others.pop(0)])
            return await outbox(subjects)

        monkeypatch.setattr(api.store, "outbox", learn_then_read)
        assert (await api.client.post(PATH, json=given())).status_code == 201
        assert stored(api) == stored(never)


async def test_a_model_version_has_exclusions_of_its_own() -> None:
    path = "/models/Mistral/v1/exclusions"
    async with memory_api() as api, memory_api() as never:
        await hear(api, HOURS, subject=MISTRAL)
        await hear(never, without(HOURS, INCIDENT), subject=MISTRAL)
        made = await api.client.post(path, json=given(metric="drift"))
        assert made.status_code == 201, made.text
        assert made.json()["relearned"] == {"drift": {"n_learned": 112, "n_excluded": 6}}
        assert stored(api) == stored(never)
        assert (await api.client.get(path)).json()["exclusions"] == [
            {name: value for name, value in made.json().items() if name != "relearned"}
        ]
        assert (await api.client.delete(f"{path}/{made.json()['id']}")).status_code == 200


async def test_training_keeps_rows_of_excluded_hours_and_learns_them_when_they_are_taken_back() -> None:
    path = "/metrics/train/error-rate/B1"
    rows = [{"timestamp": iso_hour(hour), "value": float(hour % 3), "count": 40} for hour in range(FIRST - 100, FIRST)]
    excluded = range(FIRST - 50, FIRST - 40)
    async with memory_api() as api, memory_api() as whole:
        for each in (api, whole):
            await hear(each, HOURS)
        made = (await api.client.post(PATH, json=given(excluded))).json()
        for each in (api, whole):
            answer = (await each.client.post(path, json={"rows": rows})).json()
            assert (answer["accepted"], answer["rejected_total"]) == (100, 0)
        assert await n_learned(api, "error-rate") == await n_learned(whole, "error-rate") - 10
        before = api.dump()
        assert not (await api.client.post(path, json={"rows": rows})).json()["is_changed"]
        assert not (await api.client.post(path, json={"source": "history"})).json()["is_changed"]
        assert api.dump() == before
        await api.client.delete(f"{PATH}/{made['id']}")
        assert stored(api) == stored(whole)


async def test_excluded_hours_in_the_history_do_not_make_up_for_hours_that_it_has_lost() -> None:
    async with memory_api() as api:
        await hear(api, HOURS)
        await carry(api)
        await api.client.post(PATH, json=given())
        for hour in HOURS[:3]:
            del api.history.rows[B1, "error-rate"][hour]
        before = await n_learned(api, "error-rate")
        row = {"timestamp": iso_hour(FIRST - 1), "value": 1.0, "count": 40}
        refused = await api.client.post("/metrics/train/error-rate/B1", json={"rows": [row]})
        assert (refused.status_code, await n_learned(api, "error-rate")) == (422, before)
        assert "no longer holds all" in refused.json()["errors"][0]["reason"]


async def test_the_last_excluded_hour_raises_no_alert_flag() -> None:
    async with memory_api() as api:
        await hear(api, HOURS[: INCIDENT[0] - FIRST])
        await hear(api, INCIDENT[:2])
        api.now_ms = (INCIDENT[1] + 1) * HOUR_MS + 120_000
        said = (await api.client.post("/metrics/predict/error-rate/B1")).json()
        await api.client.post(PATH, json=given())
        excluded = (await api.client.post("/metrics/predict/error-rate/B1")).json()
    assert said["alert"]["is_alert"]
    assert not excluded["alert"]["is_alert"]
    assert excluded["alert"]["evidence"]["window_start"] == iso_hour(INCIDENT[0] - 1)
    assert excluded["threshold"] < said["threshold"]


@pytest.mark.parametrize(
    ("body", "status", "name", "field"),
    [
        ({"to": "2026-02-01T00:00:00Z"}, 422, "invalid-request", "to"),
        ({"from": "2025-02-28T00:00:00Z", "to": "2026-03-02T00:00:00Z"}, 422, "invalid-request", "to"),
        ({"from": "1999-12-31T23:00:00Z"}, 422, "invalid-request", "from"),
        ({"to": "2100-01-01T01:00:00Z"}, 422, "invalid-request", "to"),
        ({"from": "2026-03-01T10:00:00"}, 422, "invalid-request", "from"),
        ({"reason": ""}, 422, "invalid-request", "reason"),
        ({"by": "k" * 129}, 422, "invalid-request", "by"),
        ({"hours": 3}, 422, "invalid-request", "hours"),
        ({"metric": "drift"}, 404, "unknown-metric", None),
    ],
)
async def test_what_cannot_be_an_exclusion_is_refused_by_its_field(
    body: dict[str, Any], status: int, name: str, field: str | None
) -> None:
    async with memory_api() as api:
        await hear(api, HOURS[:3])
        before = api.dump()
        response = await api.client.post(PATH, json=given() | body)
        assert api.dump() == before
    assert (response.status_code, response.json()["type"]) == (status, f"urn:tidemark:problem:{name}")
    assert [one["field"] for one in response.json().get("errors", ())] == ([field] if field else [])


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/billers/B2/exclusions", 404, "unknown-subject"),
        ("POST", "/billers/B2/exclusions", 404, "unknown-subject"),
        ("DELETE", "/billers/B2/exclusions/20260301T10Z-20260301T11Z", 404, "unknown-subject"),
        ("DELETE", "/billers/B1/exclusions/20260301T10Z-20260301T11Z", 404, "unknown-exclusion"),
        ("DELETE", "/billers/B1/exclusions", 405, "method-not-allowed"),
        ("GET", "/billers/a:b/exclusions", 422, "invalid-subject"),
        ("GET", "/billers//exclusions", 422, "invalid-subject"),
        ("GET", "/models/Mistral/a%2Fb/exclusions", 422, "invalid-subject"),
    ],
)
async def test_what_is_not_there_is_said(method: str, path: str, status: int, name: str) -> None:
    async with memory_api() as api:
        await hear(api, HOURS[:3])
        response = await api.client.request(method, path, json=given() if method == "POST" else None)
    assert (response.status_code, response.json()["type"]) == (status, f"urn:tidemark:problem:{name}")


async def test_a_subject_has_two_hundred_exclusions_at_most() -> None:
    async with memory_api() as api:
        await hear(api, HOURS[:3])
        state = (await api.store.load([B1]))[B1]
        hours = range(NOW_HOUR + 11, NOW_HOUR + 210)
        state.exclusions = Exclusions(Exclusion(from_hour=hour, before_hour=hour + 1) for hour in hours)
        state.has_new_exclusions = True
        await api.store.save([state])
        made = await api.client.post(PATH, json=given([NOW_HOUR + 10]))
        assert made.status_code == 201
        more = await api.client.post(PATH, json=given([NOW_HOUR + 9]))
        assert (more.status_code, more.json()["type"]) == (409, "urn:tidemark:problem:too-many-exclusions")
        assert (await api.client.get(PATH)).json()["total"] == 200
        assert (await api.client.post(PATH, json=given([NOW_HOUR + 10]))).status_code == 200
        assert (await api.client.delete(f"{PATH}/{made.json()['id']}")).status_code == 200
        assert (await api.client.post(PATH, json=given([NOW_HOUR + 9]))).status_code == 201


async def test_what_was_published_is_told_with_the_next_closing() -> None:
    async with memory_api() as api:
        await hear(api, HOURS)
        await api.store.announced(await api.store.announcements([B1]))
        await api.client.post(PATH, json=given())
        assert b"published" not in api.store.hashes[outbox_key(B1)]
