"""What is open, who takes it on, and what people's opinion of it changes."""

from dataclasses import replace

import pytest

from detection.rules.alert import Alert
from detection.subject import Subject
from detection.subject_state import SubjectState
from tests.alerts import SINCE_MS, alert_of
from tests.memory_api import MemoryApi, memory_api

B1 = Subject.biller("B1")
MISTRAL = Subject.model("Mistral", "v1")


def fresh(subject: Subject, slug: str, **changes: object) -> Alert:
    """One that nobody has said anything of."""
    alert = replace(alert_of(subject, slug), acknowledged_by="", acknowledged_ms=None, opinion=None, again=0)
    return replace(alert, **changes)  # type: ignore[arg-type]  # names of fields


async def keep(api: MemoryApi, *alerts: Alert) -> None:
    for subject in {one.subject for one in alerts}:
        state = SubjectState(subject, alerts={one.key: one for one in alerts if one.subject == subject})
        assert await api.store.save([state]) == []
    await api.hints.hint([one.subject for one in alerts], now_ms=1)


async def test_open_alerts_are_listed_the_most_severe_and_newest_first() -> None:
    async with memory_api() as api:
        await keep(
            api,
            fresh(B1, "error-rate", severity="warning"),
            fresh(MISTRAL, "prediction-accuracy", severity="critical"),
            fresh(Subject.biller("B2"), "error-rate", severity="warning", opened_ms=SINCE_MS + 90_000),
            fresh(Subject.biller("B3"), "error-rate", state="pending", opened_ms=None),
            fresh(Subject.biller("B4"), "error-rate", state="resolved", resolved_ms=SINCE_MS + 90_000),
        )
        body = (await api.client.get("/alerts")).json()
        assert [one["subject"] for one in body["alerts"]] == ["model:Mistral/v1", "biller:B2", "biller:B1"]
        assert body["total"] == 3
        assert body["alerts"][2]["line"].startswith("ALERT error_rate outside threshold 4.5, {'biller_id': 'B1'")
        assert not {"last_hour", "before", "n_clear"} & set(body["alerts"][2])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("kind=model", ["model:Mistral/v1"]),
        ("subject=B*", ["biller:B1"]),
        ("metric=prediction_accuracy", ["model:Mistral/v1"]),
        ("rule=other", []),
        ("severity=info", []),
    ],
)
async def test_alerts_are_chosen_by_what_they_are_of(query: str, expected: list[str]) -> None:
    async with memory_api() as api:
        await keep(api, fresh(B1, "error-rate"), fresh(MISTRAL, "prediction-accuracy"))
        body = (await api.client.get(f"/alerts?{query}")).json()
        assert [one["subject"] for one in body["alerts"]] == expected


async def test_who_takes_an_alert_on_is_seen_and_told_once() -> None:
    async with memory_api() as api:
        alert = fresh(B1, "error-rate")
        await keep(api, alert)
        for _ in range(2):
            answer = await api.client.post("/alerts/acknowledge", json={"id": alert.id, "by": "kim"})
            assert answer.status_code == 200, answer.text
            assert answer.json()["acknowledged_by"] == "kim"
        (listed,) = (await api.client.get("/alerts")).json()["alerts"]
        assert listed["acknowledged_by"] == "kim"
        (told,) = (await api.store.announcements([B1])).values()
        assert [one.event for one in told.alerts.values()] == ["acknowledged"]


async def test_a_false_alert_raises_the_bar_of_its_series_once_and_a_true_one_takes_it_back() -> None:
    async with memory_api() as api:
        alert = fresh(B1, "error-rate")
        await keep(api, alert)
        seen = []
        for opinion in ("false", "false", "true"):
            answer = await api.client.post("/alerts/feedback", json={"id": alert.id, "opinion": opinion})
            seen.append((answer.json()["opinion"], answer.json()["false_alerts"], answer.json()["bar"]))
        assert seen == [("false", 1, 1.25), ("false", 1, 1.25), ("true", 0, 1.0)]
        assert (await api.store.load([B1]))[B1].opinions == {"error-rate": 0}


@pytest.mark.parametrize(
    ("alert_id", "status", "kind"),
    [
        ("biller:B1/error-rate/beyond/2001-01-01T00:00:00Z", 404, "unknown-alert"),
        ("biller:B9/error-rate/beyond/2001-01-01T00:00:00Z", 404, "unknown-alert"),
        ("nonsense", 422, "invalid-request"),
        ("biller:B1", 422, "invalid-request"),
        ("other:B1/error-rate/beyond/2001-01-01T00:00:00Z", 422, "invalid-request"),
    ],
)
async def test_an_alert_that_is_not_there_is_said_to_be_so(alert_id: str, status: int, kind: str) -> None:
    async with memory_api() as api:
        await keep(api, fresh(B1, "error-rate"))
        for path, body in (("acknowledge", {"by": "kim"}), ("feedback", {"opinion": "true"})):
            answer = await api.client.post(f"/alerts/{path}", json={"id": alert_id, **body})
            assert (answer.status_code, answer.json()["type"]) == (status, f"urn:tidemark:problem:{kind}")
