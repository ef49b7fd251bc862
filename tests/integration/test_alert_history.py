"""Alerts and the audit of rules in a real PostgreSQL: the greatest revision stays, whatever comes again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from local.stack import Stack
from state.alert_history import AlertFilter, AlertHistory, AlertRow, AuditRow
from state.database import Database
from state.migrate import migrate
from tests.databases import ask, new_database

OPENED = datetime(2025, 11, 21, 20, 0, 0, 123_000, tzinfo=UTC)
LINE = "ALERT prediction_accuracy lower than 0.3, {'name': 'Mistral', 'version': 'v1', 'prediction_accuracy': 0.193}"
ALERT = AlertRow(
    id="a1",
    opened_at=OPENED,
    subject="model:Mistral/v1",
    metric="prediction-accuracy",
    rule="accuracy",
    severity="critical",
    owner="team-a",
    state="open",
    value=0.193,
    boundary=0.1 + 0.2,
    worst=5e-324,
    count=3,
    line=LINE,
    detail={"labels": {"region": "eu"}, "text": "a\0b"},
    rev=1,
)
KEPT = replace(ALERT, detail={"labels": {"region": "eu"}, "text": "a�b"})
CHANGE = AuditRow(
    at=OPENED, rule_id="accuracy", action="put", by="ada", rev=1, before=None, after={"boundary": 0.3, "for": [2, 3]}
)


@pytest.fixture
def url(stack: Stack) -> Iterator[str]:
    with new_database(stack, "alerts") as url:
        migrate(url)
        yield url


@pytest.fixture
async def history(url: str) -> AsyncIterator[AlertHistory]:
    async with Database(url) as database:
        yield AlertHistory(database)


async def test_an_alert_comes_back_as_it_was_kept(history: AlertHistory) -> None:
    await history.record([ALERT])
    assert await history.alerts() == [KEPT]
    assert await history.alert("a1") == KEPT
    assert await history.alert("a2") is None


async def test_of_each_alert_the_greatest_revision_stays(history: AlertHistory, url: str) -> None:
    resolved = replace(KEPT, rev=3, state="resolved", resolved_at=OPENED + timedelta(hours=1), reason="recovered")
    await history.record([resolved, replace(ALERT, rev=2, worst=0.1), ALERT])
    before = ask(url, "select xmin::text, * from alerts")
    for again in ([ALERT], [replace(ALERT, rev=2)], [resolved]):
        await history.record(again)
    assert await history.alerts() == [resolved]
    assert ask(url, "select xmin::text, * from alerts") == before
    judged = replace(resolved, rev=4, feedback="false alert", acknowledged_by="ada", acknowledged_at=OPENED)
    await history.record([judged])
    assert await history.alerts() == [judged]


async def test_writers_of_the_same_alerts_at_once_leave_the_greatest_revisions(history: AlertHistory) -> None:
    alerts = [replace(KEPT, id=f"a{number:02}", rev=rev) for number in range(20) for rev in (1, 2, 3)]
    await asyncio.gather(*(history.record(each) for each in (alerts, alerts[::-1], alerts[::3], alerts[1::3]) * 2))
    assert [(alert.id, alert.rev) for alert in await history.alerts()] == [
        (f"a{number:02}", 3) for number in reversed(range(20))
    ]


async def test_alerts_are_found_by_what_they_are_about_newest_first_page_by_page(history: AlertHistory) -> None:
    alerts = [
        replace(
            KEPT,
            id=f"a{number}",
            # Months apart, two of each time.
            opened_at=OPENED + timedelta(days=20 * (number // 2)),
            subject=f"model:M{number % 2}/v1",
            state="open" if number > 5 else "resolved",
        )
        for number in range(8)
    ]
    await history.record(alerts)
    newest_first = alerts[::-1]
    assert await history.alerts() == newest_first
    paged: list[AlertRow] = []
    while page := await history.alerts(after=(paged[-1].opened_at, paged[-1].id) if paged else None, limit=3):
        paged += page
    assert paged == newest_first
    assert await history.alerts(AlertFilter(subject="model:M1/v1")) == newest_first[::2]
    assert (
        await history.alerts(AlertFilter(state="open", rule="accuracy", metric="prediction-accuracy")) == alerts[:5:-1]
    )
    assert await history.alerts(AlertFilter(rule="drift")) == []
    second = OPENED + timedelta(days=20)
    assert await history.alerts(AlertFilter(start=second, end=second + timedelta(days=20))) == [alerts[3], alerts[2]]


async def test_a_change_of_a_rule_is_kept_once(history: AlertHistory) -> None:
    removed = replace(CHANGE, at=OPENED + timedelta(days=60), rev=2, action="delete", before=CHANGE.after, after=None)
    other = replace(CHANGE, rule_id="drift")
    await history.record_audit([CHANGE, removed])
    await history.record_audit([other, removed, replace(CHANGE, by="eve")])
    assert await history.audit() == [removed, other, CHANGE]
    assert await history.audit(rule_id="accuracy") == [removed, CHANGE]
    assert await history.audit(after=(removed.at, removed.rule_id, removed.rev), limit=1) == [other]
    assert await history.audit(start=OPENED, end=removed.at) == [other, CHANGE]
