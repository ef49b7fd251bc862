"""A dry run: which alerts rules would have opened over the hours that were recorded of a series.

Rules see hours here, one point each. Live they see more: fixed boundaries each single event, and a biller's minutes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from detection.backtest import backtest
from detection.catalogue import Metric
from detection.estimate import Scored, Verdict
from detection.hours import HOUR_MS, iso_hour
from detection.policy import Policy
from detection.rows import Observation
from detection.rules.alert import Alert, Judged, advance
from detection.rules.points import named, of_verdict, spoken
from detection.rules.rule import Rule
from detection.rules.watch import beyond_floor
from detection.subject import Subject


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What became of one series under the rules: the alerts that opened, in the order of rules and of time."""

    hours: int
    alerts: tuple[Alert, ...]


def rehearse(
    rules: Iterable[Rule],
    subject: Subject,
    metric: Metric,
    observations: Sequence[Observation],
    policy: Policy,
    *,
    from_hour: int,
) -> Rehearsed:
    """Fold the series as it was learned live, from its first hour on; alerts count that opened in `from_hour` or later.

    The hours must ascend. An alert that nothing resolved is `open`.
    """
    meant = _meant(rules, subject, metric)
    judged = backtest(metric, observations, policy) if any(rule.is_learned for rule in meant) else ()
    verdicts = [one.verdict for one in judged]
    found: list[Alert] = []
    for rule in meant:
        if rule.is_learned:
            found += alerts_of([rule], subject, metric, verdicts)
        else:
            found += _opened(rule, subject, metric, (_of_hour(rule, subject, metric, one) for one in observations))
    found = [one for one in found if (one.opened_ms or 0) > from_hour * HOUR_MS]
    return Rehearsed(sum(one.hour >= from_hour for one in observations), tuple(found))


def alerts_of(rules: Iterable[Rule], subject: Subject, metric: Metric, verdicts: Iterable[Verdict]) -> list[Alert]:
    """The alerts that learned boundaries would have opened over the verdicts on a series' hours, which must ascend."""
    points = [of_verdict(subject, metric, verdict) for verdict in verdicts if isinstance(verdict, Scored)]
    return [
        alert
        for rule in _meant(rules, subject, metric)
        if rule.is_learned
        for alert in _opened(rule, subject, metric, (beyond_floor(rule, point) for point in points))
    ]


def _meant(rules: Iterable[Rule], subject: Subject, metric: Metric) -> list[Rule]:
    return [
        rule for rule in rules if rule.is_enabled and rule.selects_subject(subject) and rule.selects_metric(metric.slug)
    ]


def _opened(rule: Rule, subject: Subject, metric: Metric, points: Iterable[Judged]) -> list[Alert]:
    found: list[Alert] = []
    alert: Alert | None = None
    for point in points:
        alert, transition = advance(alert, rule, metric, subject, point)
        if transition is not None and transition.event == "opened":
            found.append(transition.alert)
        elif alert is not None and alert.state != "pending" and found and alert.id == found[-1].id:
            found[-1] = alert
    return found


def _of_hour(rule: Rule, subject: Subject, metric: Metric, one: Observation) -> Judged:
    """An hour's mean against a fixed boundary: a point as an event is, without what minutes say of an hour."""
    boundary = rule.fixed
    assert boundary is not None  # noqa: S101  # the caller has asked `is_learned`
    distance = boundary - one.value if rule.condition == "lower than" else one.value - boundary
    return Judged(
        at_ms=(one.hour + 1) * HOUR_MS,
        value=one.value,
        # The rule's own evidence is counted in calls for billers, in events of one each for models.
        count=one.count if subject.kind == "biller" else 1,
        boundary=boundary,
        score=1.0 + distance / max(abs(boundary), 1e-9),
        is_beyond=rule.is_beyond(one.value),
        is_clear=rule.is_clear(one.value),
        detail=named(subject) | {spoken(metric.slug): one.value, "count": float(one.count), "hour": iso_hour(one.hour)},
    )
