"""One back-tested series as a report tells of it: how its claim held, which alerts it would have had."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from cli.recorded import Recorded
from cli.trace import Trace
from detection.alert_findings import AlertFindings, IncidentFinding, Stretch, find
from detection.backtest import Predicted
from detection.claim import Claim, Days, days_of, held
from detection.cohorts import cohort_name
from detection.estimate import Scored, Verdict
from detection.evaluation import INTERVAL
from detection.hours import HOUR_MS, WEEK_HOURS, iso, iso_hour
from detection.rules.alert import Alert
from detection.rules.book import DEFAULT_RULES
from detection.rules.rehearsal import alerts_of
from detection.rules.rule import Floor

# Hour 0, 1970-01-01, was a Thursday: weeks begin on Mondays.
_MONDAY = 4 * 24
_MOST_SPANS = 60
_WITHOUT_FLOORS = tuple(msgspec.structs.replace(rule, floor=Floor()) for rule in DEFAULT_RULES)


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldBeAlert:
    """An alert that a default rule would have opened at the end of the hour `opened`; times RFC 3339, UTC.

    `value`, `threshold`, `estimate`, `score` and `calls` are those of that hour, `worst` is the highest score while it
    was open. `resolved` is None where the recording ended first. `is_false` says that it came near no labelled
    incident, None where nobody looked for any.
    """

    series: str
    rule: str
    opened: str
    resolved: str | None
    value: float
    threshold: float
    estimate: float
    score: float
    worst: float
    is_false: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A labelled incident, from the beginning of its first to the end of its last hour, and whether it was found."""

    series: str
    begin: str
    end: str
    outcome: str
    delay_hours: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Some weeks of a series from `begin` on: how many hours were judged, and how many of these exceeded."""

    begin: str
    hours: int
    judged: int
    exceeded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFigures:
    """Everything that a report says of one series; shares of 1, losses in the unit of the metric.

    `unfloored_alerts` is how many there would be without the floors of the rules, which are in the unit of the metric,
    `unevidenced_alerts` how many if any number of calls made an hour credible.
    `pinball` and `skill` are those of `detection.backtest.Tally`; `relative_error` is 1 - skill. `relative_pinball` is
    the pinball loss of the threshold divided by the mean absolute error of seasonal naive, so that series of different
    units can be put together. `inside` is the share of judged hours inside the band, which claims
    `inside_claimed`. `is_labelled` says that somebody looked for incidents, whether or not there are `labelled_hours`.
    """

    name: str
    metric: str
    unit: str
    operator: str
    cohort: str
    expected_calls: float | None
    begin: str
    end: str
    hours: int
    claim: Claim
    inside_claimed: float
    inside: float | None
    pinball: float | None
    relative_pinball: float | None
    skill: float | None
    relative_error: float | None
    is_labelled: bool
    labelled_hours: int
    alerts: tuple[WouldBeAlert, ...]
    unfloored_alerts: int
    unevidenced_alerts: int
    incidents: tuple[Incident, ...]
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class ReportedSeries:
    """What was back-tested and what is said of it; `days` are kept for the claims of groups."""

    trace: Trace
    figures: SeriesFigures
    days: Days
    stretches: tuple[Stretch, ...]


def reported(trace: Trace, recorded: Recorded, predicted: Sequence[Predicted]) -> ReportedSeries:
    """Judge one back-tested series, which has an hour at least."""
    judged_hours = trace.hours[trace.is_judged]
    days = days_of(judged_hours, trace.is_exceeded[trace.is_judged])
    verdicts = [_with_evidence(one.verdict, recorded) for one in predicted]
    believed = [_believed(one) for one in verdicts]
    alerts, unfloored, unevidenced = (
        alerts_of(rules, recorded.subject, trace.metric, judged)
        for rules, judged in ((DEFAULT_RULES, verdicts), (_WITHOUT_FLOORS, verdicts), (DEFAULT_RULES, believed))
    )
    stretches = tuple(map(_stretch, alerts))
    findings = _findings(trace, stretches) if recorded.looked_at else None
    expected = predicted[-1].forecast.estimate.expected_count if recorded.is_counted else None
    tally = trace.tally
    is_inside = (trace.lowers <= trace.values) & (trace.values <= trace.uppers)
    naive = tally.naive_error_sum / tally.paired_hours if tally.paired_hours else 0.0
    figures = SeriesFigures(
        name=trace.series,
        metric=trace.metric.slug,
        unit=trace.metric.unit,
        operator=predicted[-1].forecast.threshold.operator,
        cohort=cohort_name(trace.metric, expected),
        expected_calls=expected,
        begin=iso_hour(int(trace.hours[0])),
        end=iso_hour(int(trace.hours[-1]) + 1),
        hours=int(trace.hours.size),
        claim=held(trace.claimed, days),
        inside_claimed=INTERVAL,
        inside=float(is_inside[trace.is_judged].mean()) if judged_hours.size else None,
        pinball=tally.pinball,
        relative_pinball=tally.pinball / naive if tally.pinball is not None and naive > 0.0 else None,
        skill=tally.skill,
        relative_error=None if tally.skill is None else 1.0 - tally.skill,
        is_labelled=bool(recorded.looked_at),
        labelled_hours=int(trace.is_labelled.sum()),
        alerts=tuple(_would_be(trace, alert, findings, at) for at, alert in enumerate(alerts)),
        unfloored_alerts=len(unfloored),
        unevidenced_alerts=len(unevidenced),
        incidents=tuple(_incident(trace.series, one) for one in findings.incidents) if findings else (),
        spans=tuple(_spans(trace)),
    )
    return ReportedSeries(trace, figures, days, stretches)


def _with_evidence(verdict: Verdict, recorded: Recorded) -> Verdict:
    """Where nobody says how many calls stand behind an hour, they are taken to be enough."""
    return _believed(verdict) if verdict.hour in recorded.uncounted else verdict


def _believed(verdict: Verdict) -> Verdict:
    return replace(verdict, is_credible=True) if isinstance(verdict, Scored) else verdict


def _findings(trace: Trace, stretches: Sequence[Stretch]) -> AlertFindings | None:
    """None where nothing was judged."""
    if not trace.is_judged.any():
        return None
    first = int(trace.hours[trace.is_judged][0])
    return find(stretches, trace.hours[trace.is_labelled].tolist(), judged_from=first)


def _stretch(alert: Alert) -> Stretch:
    first = _opened_hour(alert)
    end_ms = alert.last_ms if alert.resolved_ms is None else alert.resolved_ms - HOUR_MS
    return Stretch(first, max(first, end_ms // HOUR_MS - 1))


def _opened_hour(alert: Alert) -> int:
    """The hour at whose end it opened."""
    assert alert.opened_ms is not None  # noqa: S101  # only alerts that opened are handed out
    return alert.opened_ms // HOUR_MS - 1


def _would_be(trace: Trace, alert: Alert, findings: AlertFindings | None, number: int) -> WouldBeAlert:
    at = int(np.searchsorted(trace.hours, _opened_hour(alert)))
    return WouldBeAlert(
        series=trace.series,
        rule=alert.rule,
        opened=iso_hour(int(trace.hours[at])),
        resolved=None if alert.resolved_ms is None else iso(alert.resolved_ms),
        value=float(trace.values[at]),
        threshold=float(trace.thresholds[at]),
        estimate=float(trace.estimates[at]),
        score=float(trace.scores[at]),
        worst=alert.worst,
        is_false=None if findings is None else findings.is_false[number],
    )


def _incident(series: str, one: IncidentFinding) -> Incident:
    return Incident(
        series=series,
        begin=iso_hour(one.first),
        end=iso_hour(one.last + 1),
        outcome=one.outcome,
        delay_hours=one.delay_hours,
    )


def span_hours(trace: Trace) -> int:
    """One week, or as many whole ones as make sixty spans of the series at most."""
    weeks = int(trace.hours[-1] - trace.hours[0]) // WEEK_HOURS + 2
    return WEEK_HOURS * -(-weeks // _MOST_SPANS)


def span_begin(trace: Trace) -> int:
    """The Monday, 00 h UTC, on or before the first hour."""
    return int(trace.hours[0]) - (int(trace.hours[0]) - _MONDAY) % WEEK_HOURS


def _spans(trace: Trace) -> list[Span]:
    length, begin = span_hours(trace), span_begin(trace)
    number = (trace.hours - begin) // length
    size = int(number[-1]) + 1
    hours, judged, exceeded = (
        np.bincount(number[which], minlength=size).tolist()
        for which in (np.ones_like(trace.is_judged), trace.is_judged, trace.is_exceeded)
    )
    return [
        Span(begin=iso_hour(begin + at * length), hours=hours[at], judged=judged[at], exceeded=exceeded[at])
        for at in range(size)
        if hours[at]
    ]
