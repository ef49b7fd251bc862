"""The life of an alert: pending, open, told again only when it is worse, resolved. Pure, one judged point at a time.

    nothing  ── beyond ──►  pending  ── n of m beyond ──►  open  ── n clear in a row ──►  resolved
       ▲                       │                            │ worse: told again              │
       └── none of m beyond ───┘                            └────────────────────────────────┘ forgotten

An alert is part of its subject's state and is written with it, so a restart neither resolves nor opens one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from detection.catalogue import Metric
from detection.hours import HOUR_MS, iso
from detection.rules.rule import Rule, Severity
from detection.subject import Subject

State = Literal["pending", "open", "resolved"]
Event = Literal["opened", "worse", "resolved", "acknowledged", "feedback"]
Opinion = Literal["true", "false"]
Span = Literal["event", "minute", "hour"]
Fields = Mapping[str, float | str]

# Told again when it is twice as far beyond its boundary as when it was last told, and half of its scale beyond at
# least: from one hair's breadth to two is not worth anybody's time.
_WORSE: Final = 2.0
_HIGHEST: Final = 1e6
_LEAST_WORSE: Final = 0.5
# A resolved alert is remembered this long, while hours that it was open in, or late events, may still come.
_REMEMBERED_MS: Final = 3 * HOUR_MS
# What a point changes in an alert that it neither opens nor resolves, but for what people were told.
_COUNTED: Final = (
    "last_ms",
    "last_hour_ms",
    "value",
    "boundary",
    "count",
    "score",
    "worst",
    "recent",
    "n_clear",
    "detail",
)


@dataclass(frozen=True, slots=True)
class Judged:
    """One point of a series that was held against a boundary.

    `at_ms` is the end of what was judged in event time: the event, or the end of the minute or hour. `score` is 1.0 at
    the boundary and grows beyond it. `is_clear` says that it speaks for the end of an open alert: a point with too
    little evidence is neither beyond nor clear. `estimate` is what was expected, where anything was. `detail` is what
    people are told of it, in order.
    """

    at_ms: int
    value: float
    count: int
    boundary: float
    score: float
    is_beyond: bool
    is_clear: bool
    span: Span = "event"
    estimate: float | None = None
    detail: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """What a rule has to say of one series: times in event-time milliseconds, `score` as of `Judged`.

    `recent` holds the last points before it opened, oldest first, "1" for one beyond; `n_clear` the clear ones in a row
    since; `last_ms` is the time of the last point of any kind. `value`, `boundary`, `count`, `score` and `detail` are
    those of the last point beyond, `worst` the highest score, `told` the one that was last told. `opened_ms` is None
    while it is pending, `resolved_ms` until it is resolved; a resolved one is kept until the hour it was open in is
    judged, and so that the next one can be told from it: `again` counts those that began at the same time before.

    A pending one with nothing beyond is forgotten, with the next hour at the latest.

    A closed hour may be judged again and again while late events correct it, and counts once: `last_hour_ms` is the end
    of the last one that counted, and `before` what was counted until then, empty where it began with this hour. It is
    None where points came since, for rules that count no further than one, and in what is told.
    """

    rule: str
    subject: Subject
    slug: str
    state: State
    since_ms: int
    last_ms: int
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
    again: int = 0
    opened_ms: int | None = None
    resolved_ms: int | None = None
    last_hour_ms: int | None = None
    before: Mapping[str, Any] | None = None
    acknowledged_by: str = ""
    acknowledged_ms: int | None = None
    opinion: Opinion | None = None
    detail: Fields = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Which alert this is, wherever it is told of."""
        again = f"/{self.again}" if self.again else ""
        return f"{self.subject}/{self.slug}/{self.rule}/{iso(self.since_ms)}{again}"

    @property
    def key(self) -> str:
        """Which of its subject's alerts this is: of a rule and a series there is one at a time."""
        return key_of(self.rule, self.slug)

    @property
    def line(self) -> str:
        """The line that operators see."""
        # What was learned has more digits than it is worth; what somebody wrote is shown as it was written.
        digits = 6 if self.condition == "outside threshold" else 12
        comparison = f"{self.condition} {self.boundary:.{digits}g}"
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
        return f"{self.alert.id}/{self.event}/{self.rev}/{iso(self.at_ms)}"


def key_of(rule: str, slug: str) -> str:
    return f"{rule}/{slug}"


def bar(opinions: int) -> float:
    """The score beyond which a learned boundary counts, after so many more false than true alerts of a series.

    Each false alert that people report raises it by a quarter, to three at most; each true one takes that back.
    """
    return min(1.25 ** max(opinions, 0), 3.0)


def advance(
    known: Alert | None, rule: Rule, metric: Metric, subject: Subject, judged: Judged, *, bar: float = 1.0
) -> tuple[Alert | None, Transition | None]:
    """The alert after this point, None where there is nothing to remember, and what others are to be told of it.

    A point with too little evidence changes nothing, and so does one that comes after the alert has moved on: an event
    or an hour from before it opened, or from while it was open and is resolved.

    A closed hour that is judged again counts as it was judged last, as if it had not been judged before, and not at all
    where its evidence is too little by now; but what was told stands, and so does what was counted, where minutes came
    since.
    """
    if known is not None and judged.span == "hour" and judged.at_ms <= _counted_ms(known):
        return _advance_again(known, rule, metric, subject, judged, bar=bar)
    return _advance(known, rule, metric, subject, judged, bar=bar)


def acknowledge(alert: Alert, *, by: str, at_ms: int) -> tuple[Alert, Transition]:
    """Somebody has taken it on: nobody is told again unless it gets worse."""
    taken = replace(alert, acknowledged_by=by, acknowledged_ms=at_ms)
    return taken, Transition("acknowledged", replace(taken, before=None), at_ms)


def give_opinion(alert: Alert, opinion: Opinion, *, at_ms: int) -> tuple[Alert, Transition]:
    """Somebody says whether it was worth telling."""
    judged = replace(alert, opinion=opinion)
    return judged, Transition("feedback", replace(judged, before=None), at_ms)


def end(alert: Alert, *, at_ms: int) -> Transition | None:
    """What is to be told when its rule is gone, or nothing was heard of its series for too long; the alert is over."""
    if alert.state != "open":
        return None
    return Transition("resolved", replace(alert, state="resolved", resolved_ms=at_ms, before=None), at_ms)


def _began_ms(judged: Judged) -> int:
    """When what was judged began: minutes are short enough to be taken for moments."""
    return judged.at_ms - HOUR_MS if judged.span == "hour" else judged.at_ms


def _counted_ms(known: Alert) -> int:
    """The end of the last hour that counts in an alert that is not over; no hour ends as early where there is none."""
    return -1 if known.last_hour_ms is None or known.resolved_ms is not None else known.last_hour_ms


def _advance_again(
    known: Alert, rule: Rule, metric: Metric, subject: Subject, judged: Judged, *, bar: float
) -> tuple[Alert | None, Transition | None]:
    """By an hour that counts already, or an earlier one."""
    if known.before is not None and judged.at_ms == known.last_hour_ms:
        return _advance(_without_hour(known), rule, metric, subject, judged, bar=bar)
    if known.state == "pending" or judged.at_ms != known.last_hour_ms:
        return known, None
    alert, transition = _advance(known, rule, metric, subject, judged, bar=bar)
    if alert is not None and alert.state == "open":
        # It may be worse than it was, but has broken the row of clear points already.
        alert = replace(alert, n_clear=known.n_clear, before=None)
    return alert, transition


def _advance(
    known: Alert | None, rule: Rule, metric: Metric, subject: Subject, judged: Judged, *, bar: float
) -> tuple[Alert | None, Transition | None]:
    """By a point that does not count yet."""
    if judged.count < rule.min_count or not (judged.is_beyond or judged.is_clear or judged.span == "event"):
        return known, None
    # As JSON keeps it: a score beyond all bounds is as good as a million.
    judged = replace(judged, score=_HIGHEST) if judged.score > _HIGHEST else judged
    is_beyond = judged.is_beyond and (not rule.is_learned or judged.score > bar)
    again = 0
    if known is not None and _is_forgotten(known):
        if judged.span != "hour" and not is_beyond:
            return known, None
        known = None
    if known is not None and known.resolved_ms is not None:
        if _began_ms(judged) < known.resolved_ms:
            return known, None
        if not is_beyond:
            return (known if judged.at_ms < known.resolved_ms + _REMEMBERED_MS else None), None
        # Many events may have the same time.
        again = known.again + 1 if known.since_ms == judged.at_ms else 0
        known = None
    if known is None:
        known = _begun(rule, metric, subject, judged, again=again) if is_beyond else None
        if known is None:
            return None, None
    elif known.since_ms > _began_ms(judged):
        return known, None
    known = replace(_marked(known, rule, judged), last_ms=max(known.last_ms, judged.at_ms))
    if known.state == "open":
        return _while_open(known, rule, judged, is_beyond=is_beyond)
    return _while_pending(known, rule, judged, is_beyond=is_beyond)


def _is_forgotten(known: Alert) -> bool:
    """Whether nothing is left of a pending one but the last hour, which may be corrected."""
    return known.state == "pending" and "1" not in known.recent


def _without_hour(known: Alert) -> Alert | None:
    """As it was before the last hour counted; what people did with it and were told stands."""
    if not known.before:
        return None
    return replace(known, before=None, **known.before)


def _marked(known: Alert, rule: Rule, judged: Judged) -> Alert:
    """With what an hour needs to be taken back, where its number of points matters."""
    if judged.span != "hour":
        return known if known.before is None else replace(known, before=None)
    if rule.window.size == 1 and rule.recovery.n == 1:
        return known
    is_begun = not known.recent and known.state == "pending"
    before = {} if is_begun else {name: getattr(known, name) for name in _COUNTED}
    return replace(known, last_hour_ms=judged.at_ms, before=before)


def _begun(rule: Rule, metric: Metric, subject: Subject, judged: Judged, *, again: int) -> Alert:
    return Alert(
        rule=rule.id,
        subject=subject,
        slug=metric.slug,
        state="pending",
        since_ms=judged.at_ms,
        last_ms=judged.at_ms,
        value=judged.value,
        boundary=judged.boundary,
        count=judged.count,
        score=judged.score,
        worst=judged.score,
        again=again,
        condition=rule.condition,
        severity=rule.severity,
        owner=rule.owner,
        detail=judged.detail,
    )


def _while_pending(
    known: Alert, rule: Rule, judged: Judged, *, is_beyond: bool
) -> tuple[Alert | None, Transition | None]:
    recent = (known.recent + ("1" if is_beyond else "0"))[-rule.window.size :]
    if "1" not in recent:
        # The hour may yet turn out to be beyond, and this is what it is added to then.
        return (None if known.last_hour_ms is None else replace(known, recent=recent)), None
    alert = replace(_struck(known, judged) if is_beyond else known, recent=recent)
    if is_beyond and recent.count("1") >= rule.window.n:
        opened = replace(alert, state="open", opened_ms=judged.at_ms, told=alert.worst, recent="", before=None)
        return opened, Transition("opened", opened, judged.at_ms)
    return alert, None


def _while_open(known: Alert, rule: Rule, judged: Judged, *, is_beyond: bool) -> tuple[Alert, Transition | None]:
    assert known.opened_ms is not None  # noqa: S101  # it is open
    if _began_ms(judged) < known.opened_ms:
        return known, None
    if is_beyond:
        alert = replace(_struck(known, judged), n_clear=0)
        if alert.score - 1.0 > max(_WORSE * (alert.told - 1.0), _LEAST_WORSE):
            # What was told stands, even if its hour is corrected.
            before = None if alert.before is None else {**alert.before, "worst": alert.worst}
            told = replace(alert, told=alert.score, before=before)
            return told, Transition("worse", replace(told, before=None), judged.at_ms)
        return alert, None
    if not judged.is_clear:
        # Between the boundary and the recovery, or beyond a boundary but not its bar, it breaks the row.
        return (replace(known, n_clear=0) if known.n_clear else known), None
    # An hour of a biller stands for all of its minutes; of a model it is one point.
    is_enough = judged.span == "hour" and known.subject.kind == "biller"
    alert = replace(known, n_clear=rule.recovery.n if is_enough else known.n_clear + 1)
    if alert.n_clear < rule.recovery.n:
        return alert, None
    resolved = replace(alert, state="resolved", resolved_ms=judged.at_ms, before=None)
    return resolved, Transition("resolved", resolved, judged.at_ms)


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
