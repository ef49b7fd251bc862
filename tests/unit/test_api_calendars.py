"""Calendars through HTTP, over stores in memory: whose hours they exclude, and what becomes of it when they change."""

from typing import Any

import pytest

from detection.hours import iso_hour
from detection.subject import Subject
from detection.subject_state import SubjectState
from tests.memory_api import NOW_HOUR, MemoryApi, memory_api
from tests.unit.test_api_exclusions import HOURS, INCIDENT, hear, stored
from tests.unit.test_calendar_files import calendar

SUBJECTS = [Subject.biller("B1"), Subject.biller("B2"), Subject.biller("C1"), Subject.model("Mistral", "v1")]
WEEKLY = "SUMMARY:Maintenance\nDTSTART:20260308T010000Z\nDURATION:PT2H\nRRULE:FREQ=WEEKLY;COUNT=3"
ONCE = "SUMMARY:Move\nDTSTART:20260310T200000Z\nDTEND:20260311T020000Z"
HEADERS = {"Content-Type": "text/calendar"}


async def known(api: MemoryApi) -> None:
    assert await api.store.save([SubjectState(subject) for subject in SUBJECTS]) == []


async def put(api: MemoryApi, *events: str, name: str = "maintenance", **query: str) -> Any:
    response = await api.client.put(
        f"/calendars/{name}", params={"by": "kim", **query}, content=calendar(*events), headers=HEADERS
    )
    assert response.status_code == 200, response.text
    return response.json()


async def excluded(api: MemoryApi) -> dict[str, list[str]]:
    """The beginnings of what is excluded, by subject."""
    states = await api.store.load(SUBJECTS)
    return {str(one): [iso_hour(each.from_hour) for each in states[one].exclusions] for one in SUBJECTS}


async def test_events_are_excluded_of_the_subjects_that_are_chosen() -> None:
    async with memory_api() as api:
        await known(api)
        answer = await put(api, WEEKLY, ONCE, subject="B*", kind="biller")
        hours = ["2026-03-08T01:00:00Z", "2026-03-10T20:00:00Z", "2026-03-15T01:00:00Z", "2026-03-22T01:00:00Z"]
        assert await excluded(api) == {"biller:B1": hours, "biller:B2": hours, "biller:C1": [], "model:Mistral/v1": []}
        listed = (await api.client.get("/billers/B1/exclusions")).json()["exclusions"]
    assert [answer[name] for name in ("events", "subjects", "changed", "added", "failed_total")] == [4, 2, 2, 8, 0]
    assert answer["from"] == iso_hour(NOW_HOUR)
    assert (listed[1]["reason"], listed[1]["by"], listed[1]["calendar"], listed[1]["uid"]) == (
        "Move",
        "kim",
        "maintenance",
        "2",
    )


async def test_the_same_calendar_again_changes_nothing() -> None:
    async with memory_api() as api:
        await known(api)
        await put(api, WEEKLY)
        before = api.dump()
        api.now_ms += 1
        answer = await put(api, WEEKLY)
        assert api.dump() == before
    assert (answer["changed"], answer["added"], answer["taken_back"]) == (0, 0, 0)


async def test_events_that_are_gone_or_moved_are_taken_back_and_what_people_excluded_stays() -> None:
    async with memory_api() as api:
        await known(api)
        await put(api, WEEKLY, ONCE)
        await put(api, ONCE, name="other")
        own = {"from": "2026-03-08T01:00:00Z", "to": "2026-03-08T03:00:00Z", "reason": "known", "by": "kim"}
        assert (await api.client.post("/billers/B1/exclusions", json=own)).status_code == 201
        answer = await put(api, WEEKLY.replace("COUNT=3", "COUNT=2"), ONCE.replace("20260310T20", "20260310T21"))
        assert (answer["changed"], answer["added"], answer["taken_back"]) == (4, 4, 8)
        assert (await excluded(api))["biller:B1"] == [
            "2026-03-08T01:00:00Z",
            "2026-03-08T01:00:00Z",
            "2026-03-10T20:00:00Z",
            "2026-03-10T21:00:00Z",
            "2026-03-15T01:00:00Z",
        ]


async def test_subjects_that_are_no_longer_chosen_lose_it() -> None:
    async with memory_api() as api:
        await known(api)
        await put(api, ONCE)
        answer = await put(api, ONCE, kind="model")
        assert {name for name, hours in (await excluded(api)).items() if hours} == {"model:Mistral/v1"}
    assert (answer["subjects"], answer["taken_back"]) == (1, 3)


async def test_events_that_are_over_are_left_alone_unless_they_are_asked_for() -> None:
    async with memory_api() as api:
        await known(api)
        await put(api, WEEKLY)
        api.now_ms += 10 * 24 * 3_600_000
        await put(api, ONCE)
        assert (await excluded(api))["biller:B1"] == ["2026-03-08T01:00:00Z"]
        await put(api, ONCE, **{"from": "2026-03-01T00:00:00Z"})
        assert (await excluded(api))["biller:B1"] == ["2026-03-10T20:00:00Z"]


async def test_events_of_the_past_are_unlearned_and_learned_again_when_the_calendar_is_deleted() -> None:
    event = (
        f"DTSTART:{iso_hour(INCIDENT[0]).replace('-', '').replace(':', '')}\n"
        f"DTEND:{iso_hour(INCIDENT[-1] + 1).replace('-', '').replace(':', '')}"
    )
    async with memory_api() as api, memory_api() as never:
        await hear(api, HOURS)
        await hear(never, [hour for hour in HOURS if hour not in INCIDENT])
        before = stored(api)
        await put(api, event, **{"from": iso_hour(HOURS[0])})
        assert stored(api) == stored(never)
        answer = (await api.client.delete("/calendars/maintenance")).json()
        assert stored(api) == before
    assert (answer["changed"], answer["taken_back"]) == (1, 1)


async def test_a_cohort_is_chosen_by_the_calls_that_its_series_expect() -> None:
    async with memory_api() as api:
        await known(api)
        await hear(api, HOURS)
        answer = await put(api, ONCE, cohort="error-rate/10-100")
        assert {name for name, hours in (await excluded(api)).items() if hours} == {"biller:B1"}
        assert (await put(api, ONCE, cohort="error-rate/100-1000"))["subjects"] == 0
    assert answer["subjects"] == 1


async def test_a_subject_that_cannot_be_changed_is_named_and_the_others_are_changed() -> None:
    event = f"DTSTART:{iso_hour(INCIDENT[0]).replace('-', '').replace(':', '')}\nDURATION:PT1H"
    async with memory_api() as api:
        await known(api)
        await hear(api, HOURS)
        on_its_way = await api.store.outbox([SUBJECTS[0]])
        await api.store.relayed({subject: list(hours) for subject, hours in on_its_way.items()})
        answer = await put(api, event, **{"from": iso_hour(HOURS[0])})
        assert {name for name, hours in (await excluded(api)).items() if not hours} == {"biller:B1"}
    assert (answer["changed"], answer["failed_total"]) == (3, 1)
    assert answer["failed"][0]["subject"] == "biller:B1"
    assert answer["failed"][0]["type"] == "urn:tidemark:problem:history-incomplete"


@pytest.mark.parametrize(
    ("path", "headers", "content", "status", "name"),
    [
        ("/calendars/c?by=kim", HEADERS, b"hello", 422, "invalid-calendar"),
        ("/calendars/c?by=kim", {"Content-Type": "application/json"}, b"{}", 415, "unsupported-media-type"),
        ("/calendars/c", HEADERS, calendar(ONCE), 422, "invalid-request"),
        ("/calendars/c%20d?by=kim", HEADERS, calendar(ONCE), 422, "invalid-request"),
        ("/calendars/c?by=kim&zone=Nowhere", HEADERS, calendar(ONCE), 422, "invalid-calendar"),
        ("/calendars/c?by=kim&from=0001-01-01T00:00:00Z", HEADERS, calendar(ONCE), 422, "invalid-request"),
        ("/calendars/c?by=kim", HEADERS, b" " * 1_000_001, 413, "too-large"),
    ],
)
async def test_what_is_no_calendar_is_refused(
    path: str, headers: dict[str, str], content: bytes, status: int, name: str
) -> None:
    async with memory_api() as api:
        response = await api.client.put(path, content=content, headers=headers)
    assert (response.status_code, response.json()["type"]) == (status, f"urn:tidemark:problem:{name}")
