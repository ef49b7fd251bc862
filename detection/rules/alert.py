"""The life of an alert: pending, open, told again only when it is worse, resolved. Pure, one judged point at a time.

    nothing  ── beyond ──►  pending  ── n of m beyond ──►  open  ── n clear in a row ──►  resolved
       ▲                       │                            │ worse: told again              │
       └── none of m beyond ───┘                            └────────────────────────────────┘ forgotten

An alert is part of its subject's state and is written with it, so a restart neither resolves nor opens one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from detection.catalogue import Metric
from detection.hours import HOUR_MS, iso
from detection.rules.rule import Rule, Severity
from detection.subject import Subject

State = Literal["pending", "open", "resolved"]
Event = Literal["opened", "worse", "resolved", "acknowledged", "feedback"]
Opinion = Literal["true", "false"]
Fields = Mapping[str, float | str]

# Told again when it is twice as far beyond its boundary as when it was last told.
_WORSE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Judged:
    """One point of a series that was held against a boundary.

    `at_ms` is the end of what was judged in event time: the event, or the end of the minute or hour. `score` is 1.0 at
    the boundary and grows beyond it. `is_clear` says that it speaks for the end of an open alert: a point with too
    little evidence is neither beyond nor clear. `detail` is what people are told of it, in order.
    """

    at_ms: int
    value: float
    count: int
    boundary: float
    score: float
    is_beyond: bool
    is_clear: bool
    span: Literal["event", "minute", "hour"] = "event"
    detail: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What a rule has to say of one series: times in event-time milliseconds, `score` as of `Judged`.

    `recent` holds the last points before it opened, oldest first, "1" for one beyond; `n_clear` the clear ones in a row
    since. `value`, `boundary`, `count`, `score` and `detail` are those of the last point beyond, `worst` the highest
    score, `told` the one that was last told. `opened_ms` is None while it is pending, `resolved_ms` until it is
    resolved; a resolved one is kept until the hour it was open in is judged.
    """

    rule: str
    subject: Subject
    slug: str
    state: State
    since_ms: int
    value: float
    boundary: float
    count: int
    score: float
    worst: float
    condition: str
    severity: Severity
    owner: str = ""
    recent: str = ""
    n_clear: int = 0
    told: float = 0.0
    opened_ms: int | None = None
    resolved_ms: int | None = None
    acknowledged_by: str = ""
    acknowledged_ms: int | None = None
    opinion: Opinion | None = None
    detail: Fields = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Which alert this is, wherever it is told of."""
        return f"{self.subject}/{self.slug}/{self.rule}/{iso(self.since_ms)}"

    @property
    def key(self) -> str:
        """Which of its subject's alerts this is: of a rule and a series there is one at a time."""
        return key_of(self.rule, self.slug)

    @property
    def line(self) -> str:
        """The line that operators see."""
        comparison = f"{self.condition} {self.boundary:g}"
        return f"ALERT {self.slug.replace('-', '_')} {comparison}, {dict(self.detail)!r}"


@dataclass(frozen=True, slots=True)
class Transition:
    """An alert became this; `rev` is the revision of the write that records it, 0 before."""

    event: Event
    alert: Alert
    at_ms: int
    rev: int = 0

    @property
    def id(self) -> str:
        """The same whenever it is told, so that a second telling can be recognised."""
        return f"{self.alert.id}/{self.event}/{self.rev}"


def key_of(rule: str, slug: str) -> str:
    return f"{rule}/{slug}"


def bar(opinions: int) -> float:
    """The score beyond which a learned boundary counts, after so many more false than true alerts of a series.

    Each false alert that people report raises it by a quarter, to three at most; each true one takes that back.
    """
    return min(1.25 ** max(opinions, 0), 3.0)


def judged_event(rule: Rule, at_ms: int, value: float, detail: Fields) -> Judged:
    """An event against a fixed boundary; the score counts how far beyond it is, in shares of the boundary."""
    boundary = rule.fixed
    assert boundary is not None  # noqa: S101  # the caller has asked `is_learned`
    distance = (boundary - value) if rule.condition == "lower than" else (value - boundary)
    score = 1.0 + distance / max(abs(boundary), 1e-9)
    return Judged(at_ms, value, 1, boundary, score, rule.is_beyond(value), rule.is_clear(value), "event", detail)


def advance(
    known: Alert | None, rule: Rule, metric: Metric, subject: Subject, judged: Judged, *, bar: float = 1.0
) -> tuple[Alert | None, Transition | None]:
    """The alert after this point, None where there is nothing to remember, and what others are to be told of it."""
    is_beyond = judged.is_beyond and (not rule.is_learned or judged.score > bar) and judged.count >= rule.min_count
    if known is not None and known.state == "resolved":
        known = _remembered(known, judged)
        if known is not None and judged.span == "hour":
            # What this hour has to say was said while it was open.
            return known, None
        if is_beyond or known is None:
            known = None
        else:
            return known, None
    if known is not None and known.state == "open":
        return _while_open(known, rule, judged, is_beyond=is_beyond)
    return _while_pending(known, rule, metric, subject, judged, is_beyond=is_beyond)


def acknowledge(alert: Alert, *, by: str, at_ms: int) -> tuple[Alert, Transition]:
    """Somebody has taken it on: nobody is told again unless it gets worse."""
    taken = replace(alert, acknowledged_by=by, acknowledged_ms=at_ms)
    return taken, Transition("acknowledged", taken, at_ms)


def give_opinion(alert: Alert, opinion: Opinion, *, at_ms: int) -> tuple[Alert, Transition]:
    """Somebody says whether it was worth telling."""
    judged = replace(alert, opinion=opinion)
    return judged, Transition("feedback", judged, at_ms)


def end(alert: Alert, *, at_ms: int) -> Transition | None:
    """What is to be told when its rule is gone, or nothing was heard of its series for too long; the alert is over."""
    if alert.state != "open":
        return None
    return Transition("resolved", replace(alert, state="resolved", resolved_ms=at_ms), at_ms)


def _remembered(known: Alert, judged: Judged) -> Alert | None:
    """A resolved alert, as long as an hour that it was open in is still to be judged."""
    assert known.resolved_ms is not None  # noqa: S101  # it is resolved
    is_past = judged.span == "hour" and judged.at_ms - HOUR_MS >= known.resolved_ms
    is_long_past = judged.at_ms >= known.resolved_ms + 3 * HOUR_MS
    return None if is_past or is_long_past else known


def _while_pending(
    known: Alert | None, rule: Rule, metric: Metric, subject: Subject, judged: Judged, *, is_beyond: bool
) -> tuple[Alert | None, Transition | None]:
    if known is None and not is_beyond:
        return None, None
    recent = (("" if known is None else known.recent) + ("1" if is_beyond else "0"))[-rule.window.size :]
    if "1" not in recent:
        return None, None
    if known is None:
        known = Alert(
            rule=rule.id,
            subject=subject,
            slug=metric.slug,
            state="pending",
            since_ms=judged.at_ms,
            value=judged.value,
            boundary=judged.boundary,
            count=judged.count,
            score=judged.score,
            worst=judged.score,
            condition=rule.condition,
            severity=rule.severity,
            owner=rule.owner,
            detail=judged.detail,
        )
    alert = replace(_struck(known, judged) if is_beyond else known, recent=recent)
    if is_beyond and recent.count("1") >= rule.window.n:
        opened = replace(alert, state="open", opened_ms=judged.at_ms, told=alert.worst, recent="")
        return opened, Transition("opened", opened, judged.at_ms)
    return alert, None


def _while_open(known: Alert, rule: Rule, judged: Judged, *, is_beyond: bool) -> tuple[Alert | None, Transition | None]:
    if is_beyond:
        alert = replace(_struck(known, judged), n_clear=0)
        if alert.score - 1.0 > _WORSE * max(alert.told - 1.0, 0.0) and alert.score > alert.told:
            told = replace(alert, told=alert.score)
            return told, Transition("worse", told, judged.at_ms)
        return alert, None
    if not judged.is_clear:
        return (replace(known, n_clear=0) if known.n_clear else known), None
    if judged.span == "hour":
        # An hour that began before it opened says nothing of now; one that began later says enough.
        is_over = known.opened_ms is not None and judged.at_ms - HOUR_MS >= known.opened_ms
        n_clear = rule.recovery.n if is_over else known.n_clear
    else:
        n_clear = known.n_clear + 1
    alert = known if n_clear == known.n_clear else replace(known, n_clear=n_clear)
    if n_clear < rule.recovery.n:
        return alert, None
    resolved = replace(alert, state="resolved", resolved_ms=judged.at_ms)
    return (resolved if rule.is_learned else None), Transition("resolved", resolved, judged.at_ms)


def _struck(known: Alert, judged: Judged) -> Alert:
    worst = judged.score if math.isnan(known.worst) else max(known.worst, judged.score)
    return replace(
        known,
        value=judged.value,
        boundary=judged.boundary,
        count=judged.count,
        score=judged.score,
        worst=worst,
        detail=judged.detail,
    )
