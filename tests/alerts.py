"""Alerts to test with."""

from detection.hours import HOUR_MS
from detection.rules.alert import Alert
from detection.subject import Subject

SINCE_MS = 489_984 * HOUR_MS


def alert_of(subject: Subject, slug: str, *, rule: str = "beyond", since_ms: int = SINCE_MS) -> Alert:
    """One that is open, with something in each of its fields."""
    return Alert(
        rule=rule,
        subject=subject,
        slug=slug,
        state="open",
        since_ms=since_ms,
        last_ms=since_ms + 60_000,
        opened_ms=since_ms + 60_000,
        value=31.25,
        boundary=4.5,
        count=32,
        score=7.25,
        worst=9.0,
        told=7.25,
        condition="outside threshold",
        severity="critical",
        owner="payments",
        again=2,
        n_clear=1,
        last_hour_ms=since_ms + 60_000,
        before={
            "last_ms": since_ms,
            "last_hour_ms": None,
            "value": 30.5,
            "boundary": 4.5,
            "count": 31,
            "score": 7.0,
            "worst": 9.0,
            "recent": "",
            "n_clear": 0,
            "detail": {"biller_id": subject.id},
        },
        acknowledged_by="kim",
        acknowledged_ms=since_ms + 90_000,
        opinion="false",
        detail={"biller_id": subject.id, slug.replace("-", "_"): 31.25},
    )
