"""What people are told of an alert: plain values that every channel can write in its own way. Pure.

A notice is what is kept of an alert that people were told of, so that they can be told of its end when the alert itself
is gone.
"""

import hashlib
import math
from typing import Any, Final, Literal

import msgspec

from detection.hours import iso
from detection.rules.alert import Alert
from detection.rules.rule import Severity

# "firing" says again what was said, for channels that forget what is not said again.
Occasion = Literal["opened", "worse", "firing", "resolved"]

_WORD: Final = "ALERT "


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An alert as of its last point beyond; times in event-time milliseconds, `score` as of `detection.rules.alert`.

    `subject` is a subject's text, or `platform`; `id` the alert's, the same for as long as it is open. `score` is the
    one for which people are told again.
    """

    id: str
    subject: str
    metric: str
    rule: str
    severity: Severity
    condition: str
    line: str
    value: float
    boundary: float
    count: int
    score: float
    opened_ms: int
    resolved_ms: int | None = None
    owner: str = ""
    description: str = ""
    acknowledged_by: str = ""
    detail: dict[str, Any] = {}


def notice_of(alert: Alert, *, description: str = "") -> Notice:
    """What is told of an alert that is open, or was; `description` is its rule's."""
    return Notice(
        id=alert.id,
        subject=str(alert.subject),
        metric=alert.slug,
        rule=alert.rule,
        severity=alert.severity,
        condition=alert.condition,
        line=alert.line,
        value=alert.value,
        boundary=alert.boundary,
        count=alert.count,
        score=alert.told if math.isfinite(alert.told) else 0.0,
        opened_ms=alert.since_ms if alert.opened_ms is None else alert.opened_ms,
        resolved_ms=alert.resolved_ms,
        owner=alert.owner,
        description=description,
        acknowledged_by=alert.acknowledged_by,
        detail=dict(alert.detail),
    )


def line_of(notice: Notice, occasion: Occasion) -> str:
    """The line that operators see; it begins with RESOLVED when the alert is over."""
    return f"RESOLVED {notice.line.removeprefix(_WORD)}" if occasion == "resolved" else notice.line


def telling_id(notice: Notice, occasion: Occasion) -> str:
    """The same whenever this is told, also by another process, and another one for anything else: letters and digits.

    An alert is told as worse once for each score.
    """
    score = f"/{notice.score!r}" if occasion == "worse" else ""
    return "msg_" + hashlib.sha256(f"{notice.id}/{occasion}{score}".encode()).hexdigest()[:32]


def as_plain(notice: Notice) -> dict[str, Any]:
    """The notice for JSON: times as RFC 3339, nothing left out."""
    return {
        "id": notice.id,
        "subject": notice.subject,
        "metric": notice.metric,
        "rule": notice.rule,
        "severity": notice.severity,
        "condition": notice.condition,
        "value": notice.value,
        "boundary": notice.boundary,
        "count": notice.count,
        "score": notice.score,
        "opened": iso(notice.opened_ms),
        "resolved": None if notice.resolved_ms is None else iso(notice.resolved_ms),
        "owner": notice.owner,
        "description": notice.description,
        "acknowledged_by": notice.acknowledged_by,
        "detail": notice.detail,
    }
