"""Rules at work on one subject: each judged point goes to the rules that mean its series, in the order of its time."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, Protocol

from detection.catalogue import Metric, metric_of
from detection.events import Observed
from detection.hours import HOUR_MS
from detection.policy import PUBLISHED_SILENCE_HOURS, Policy
from detection.rules.alert import Alert, Judged, advance, bar, end, key_of
from detection.rules.measured import Measured
from detection.rules.points import of_event, of_measured
from detection.rules.rule import CALLS, Rule
from detection.subject import Subject
from detection.subject_state import SubjectState

Point = tuple[str, Judged]

# How an alert changed, as one write tells of it at most.
_MOST_TRANSITIONS: Final = 1000


class Rules(Protocol):
    """Which rules mean a subject."""

    def for_subject(self, subject: Subject) -> Sequence[Rule]:
        """Those that are enabled, in an order that is always the same."""
        ...


class WithoutRules:
    """Nobody is to be told of anything."""

    def for_subject(self, subject: Subject) -> Sequence[Rule]:  # noqa: ARG002  # none means any subject
        return ()


def watch(
    state: SubjectState,
    rules: Rules,
    policy: Policy,
    *,
    observed: Iterable[Observed] = (),
    points: Iterable[Point] = (),
    measured: Iterable[Measured] = (),
) -> bool:
    """Let the rules look at all of this, and at the verdicts in `state.points`; whether they saw anything.

    Rules with a number look at single events of models and at what was `measured` of billers, the others at points.
    What becomes of it is in `state.alerts` and `state.transitions`, to be written with the rest of the state. An alert
    whose rule is gone ends, and so does one of a series that nothing was heard of for as long as makes it stale.
    """
    mine = rules.for_subject(state.subject)
    judged = [*points, *state.points]
    state.points.clear()
    fixed = [rule for rule in mine if not rule.is_learned]
    events = list(observed) if fixed else []
    counted = list(measured) if fixed else []
    if not (judged or events or counted or state.alerts):
        return False
    for event in events:
        _look_at_event(state, fixed, event)
    for one in sorted(counted, key=_time_of_measured):
        for rule in fixed:
            if rule.selects_metric(one.slug) and not rule.labels:
                point = of_measured(rule, state.subject, one, min_calls=policy.min_calls)
                _advance(state, rule, metric_of(one.slug), point)
    learned = [rule for rule in mine if rule.is_learned]
    for slug, point in sorted(judged, key=_time_of_point):
        for rule in learned:
            if rule.selects_metric(slug):
                _advance(state, rule, metric_of(slug), beyond_floor(rule, point))
    _end_orphans(state, {rule.id: rule for rule in mine}, policy)
    _shorten(state)
    return True


def _time_of_point(point: Point) -> tuple[int, int, str]:
    slug, judged = point
    # A minute before the hour that it ends: what is open by then is known to the hour's verdict.
    return judged.at_ms, judged.span == "hour", slug


def _time_of_measured(measured: Measured) -> tuple[int, bool, str]:
    return measured.at_ms, measured.span == "hour", measured.slug


def _look_at_event(state: SubjectState, rules: Sequence[Rule], event: Observed) -> None:
    for rule in rules:
        if rule.selects_labels(event.labels):
            for slug in event.gauges:
                if rule.selects_metric(slug):
                    _advance(state, rule, metric_of(slug), of_event(rule, event, slug))


def beyond_floor(rule: Rule, point: Judged) -> Judged:
    """Not beyond, where it is too near to what was expected to be worth anybody's time."""
    if point.estimate is None or not point.is_beyond:
        return point
    least = max(rule.floor.absolute, rule.floor.relative * abs(point.estimate))
    return replace(point, is_beyond=False) if abs(point.value - point.estimate) < least else point


def _advance(state: SubjectState, rule: Rule, metric: Metric, judged: Judged) -> None:
    key = key_of(rule.id, metric.slug)
    known = state.alerts.get(key)
    alert, transition = advance(
        known,
        rule,
        metric,
        state.subject,
        judged,
        bar=bar(state.opinions.get(metric.slug, 0)) if rule.is_learned else 1.0,
    )
    if alert is not known:
        _put(state, key, alert)
    if transition is not None:
        state.transitions.append(transition)


def _put(state: SubjectState, key: str, alert: Alert | None) -> None:
    alerts = {name: one for name, one in state.alerts.items() if name != key}
    if alert is not None:
        alerts[key] = alert
    state.alerts = alerts


def _shorten(state: SubjectState) -> None:
    """Leave out, the oldest first, alerts that began and ended in one write, where they are too many.

    A gauge that goes to and fro at its boundary would fill the write of a worker that reads up a backlog.
    """
    excess = len(state.transitions) - _MOST_TRANSITIONS
    if excess <= 0:
        return
    events = Counter((one.alert.id, one.event) for one in state.transitions)
    whole = {name for name, event in events if event == "opened" and (name, "resolved") in events}
    kept = []
    left_out: set[str] = set()
    for one in state.transitions:
        if one.alert.id in left_out or (excess > 0 and one.alert.id in whole):
            left_out.add(one.alert.id)
            excess -= 1
        else:
            kept.append(one)
    state.transitions[:] = kept


def _end_orphans(state: SubjectState, rules: Mapping[str, Rule], policy: Policy) -> None:
    for key, alert in list(state.alerts.items()):
        is_stale = state.watermark_ms >= 0 and _silent_ms(state, alert) > _patience_ms(alert, policy)
        rule = rules.get(alert.rule)
        if rule is not None and rule.selects_metric(alert.slug) and not is_stale:
            continue
        transition = end(alert, at_ms=max(alert.last_ms, _now_ms(state)))
        _put(state, key, None)
        if transition is not None:
            state.transitions.append(transition)


def _silent_ms(state: SubjectState, alert: Alert) -> int:
    """For how long nothing was heard: of a model's series no point, of a biller no call."""
    heard_ms = max(alert.last_ms, state.watermark_ms) if state.subject.kind == "biller" else alert.last_ms
    return _now_ms(state) - heard_ms


def _patience_ms(alert: Alert, policy: Policy) -> int:
    """An alert about silence is not over because nothing is heard."""
    return (PUBLISHED_SILENCE_HOURS if alert.slug == CALLS else policy.stale_after_hours) * HOUR_MS


def _now_ms(state: SubjectState) -> int:
    return max(state.watermark_ms, state.published_hour * HOUR_MS)
