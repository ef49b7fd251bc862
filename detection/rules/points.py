"""What is held against a boundary, a closed hour, some minutes or one event; and what people are told of it."""

from dataclasses import replace

from detection.catalogue import Metric
from detection.estimate import Scored
from detection.events import Observed
from detection.hours import HOUR_MS, iso, iso_hour
from detection.rules.alert import Judged
from detection.rules.measured import MINUTES, Measured
from detection.rules.rule import Rule
from detection.subject import Subject


def of_verdict(subject: Subject, metric: Metric, verdict: Scored) -> Judged:
    """A closed hour: beyond where it is reason to look, clear where enough calls say that it is not."""
    return Judged(
        at_ms=(verdict.hour + 1) * HOUR_MS,
        value=verdict.value,
        count=verdict.count,
        boundary=verdict.threshold,
        score=verdict.score,
        is_beyond=verdict.is_alert,
        is_clear=verdict.is_credible and not verdict.is_alert,
        span="hour",
        estimate=verdict.estimate,
        detail=named(subject)
        | {
            spoken(metric.slug): verdict.value,
            "threshold": verdict.threshold,
            "estimate": verdict.estimate,
            "count": float(verdict.count),
            "hour": iso_hour(verdict.hour),
        },
    )


def of_event(rule: Rule, observed: Observed, slug: str) -> Judged:
    """One gauge of an observation event against a fixed boundary; what people are told is the whole event."""
    detail = named(observed.subject) | {spoken(name): one for name, one in observed.gauges.items()}
    if observed.labels:
        detail |= {"labels": ", ".join(f"{name}={text}" for name, text in observed.labels.items())}
    detail |= {"timestamp": iso(observed.timestamp_ms)}
    return _against_number(rule, Measured(slug, observed.gauges[slug], 1, observed.timestamp_ms, "event"), detail)


def of_measured(rule: Rule, subject: Subject, measured: Measured, *, min_calls: int) -> Judged:
    """What a biller's calls came to against a fixed boundary: neither beyond nor clear, where too few calls say it."""
    slug = measured.slug
    detail = named(subject) | {
        spoken(slug): measured.value,
        "count": float(measured.count),
        "until": iso(measured.at_ms),
        "over": "hour" if measured.span == "hour" else f"{MINUTES} minutes",
    }
    judged = _against_number(rule, measured, detail)
    return judged if measured.count >= min_calls else replace(judged, is_beyond=False, is_clear=False)


def _against_number(rule: Rule, measured: Measured, detail: dict[str, float | str]) -> Judged:
    """The score counts how far beyond it is, in shares of the boundary."""
    value, boundary = measured.value, rule.fixed
    assert boundary is not None  # noqa: S101  # the caller has asked `is_learned`
    distance = boundary - value if rule.condition == "lower than" else value - boundary
    return Judged(
        at_ms=measured.at_ms,
        value=value,
        count=measured.count,
        boundary=boundary,
        score=1.0 + distance / max(abs(boundary), 1e-9),
        is_beyond=rule.is_beyond(value),
        is_clear=rule.is_clear(value),
        span=measured.span,
        detail=detail,
    )


def named(subject: Subject) -> dict[str, float | str]:
    """The subject as its events name it."""
    if subject.kind == "biller":
        return {"biller_id": subject.id}
    name, _, version = subject.id.partition("/")
    return {"name": name, "version": version}


def spoken(slug: str) -> str:
    """A metric as events and operators write it: `prediction_accuracy`."""
    return slug.replace("-", "_")
