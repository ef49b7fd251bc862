"""What is answered about a series, made of its stored readable fields: no model is loaded, nothing is written."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from api.borrowing import borrowed, lender_of
from detection.catalogue import Metric
from detection.cohorts import Cohort, Cohorts
from detection.estimate import Forecast, Verdict
from detection.hours import HOUR_MS, MINUTE_MS, iso, parse_ms
from detection.policy import Policy
from detection.series_model import SeriesModel
from detection.subject import Subject
from detection.subject_state import KEPT_MINUTES
from detection.windows import Value
from state.readable_series import readable
from state.series_codec import encode_series
from state.survey import Lately

Fields = Mapping[str, str]
Answer = dict[str, Any]

# An answer this much older than the clock was not renewed although it should have been.
OVERDUE_MS: Final = 2 * HOUR_MS

_FAILED_CALLS: Final = 2
_LARGEST_SCORE: Final = 1000.0


def prediction(
    subject: Subject,
    metric: Metric,
    fields: Fields,
    *,
    lately: Lately | None,
    clock_ms: int,
    cohorts: Cohorts,
) -> Answer:
    """The answer of predict, of the readable fields of a series, its subject's last minutes, and what it borrows."""
    status = status_at(fields, clock_ms)
    cohort = cohorts.find(metric.slug, float(fields["expected_calls"]))
    fields = borrowed(metric, fields, cohort)
    return {
        **_common(subject, metric, fields, status, cohort),
        "expected_calls": number_of(fields["expected_calls"]),
        "min_calls": int(fields["min_calls"]),
        "claimed_exceedance": number_of(fields["claimed_exceedance"]),
        "measured_exceedance": number_of(fields["measured_exceedance"]),
        "judged": int(fields["judged"]),
        "alert": alert(metric, fields, lately=lately, clock_ms=clock_ms, status=status),
        "explanation": {"sentence": _sentence(metric, fields, status), "parts": orjson.loads(fields["explanation"])},
    }


def listed(
    subject: Subject,
    metric: Metric,
    fields: Fields,
    *,
    lately: Lately | None,
    clock_ms: int,
    cohorts: Cohorts,
) -> Answer:
    """One item of the list of thresholds."""
    status = status_at(fields, clock_ms)
    cohort = cohorts.find(metric.slug, float(fields["expected_calls"]))
    fields = borrowed(metric, fields, cohort)
    return {
        **_common(subject, metric, fields, status, cohort),
        "last_window": fields["last_window"] or None,
        "last_value": number_of(fields["last_value"]),
        "alert": alert(metric, fields, lately=lately, clock_ms=clock_ms, status=status),
    }


def _common(subject: Subject, metric: Metric, fields: Fields, status: str, cohort: Cohort | None) -> Answer:
    """What every answer about a series begins with."""
    return {
        "subject": str(subject),
        "metric": metric.slug,
        "estimate": number_of(fields["estimate"]),
        "lower": number_of(fields["lower"]),
        "upper": number_of(fields["upper"]),
        "threshold": number_of(fields["threshold"]),
        "operator": fields["operator"],
        "unit": fields["unit"],
        "window_start": fields["window_start"],
        "window_end": fields["window_end"],
        "valid_until": fields["valid_until"],
        "version": fields["version"],
        "status": status,
        "n_learned": int(fields["n_learned"]),
        "cohort": None if cohort is None else cohort.name,
        "cohort_measured_exceedance": None if cohort is None else cohort.measured_exceedance,
    }


def status_at(fields: Fields, clock_ms: int) -> str:
    """The published status, or `stale` when the answer was not renewed although the clock is past it."""
    is_overdue = clock_ms > _ms(fields["valid_until"]) + OVERDUE_MS
    return "stale" if is_overdue and fields["status"] != "prior" else fields["status"]


def alert(metric: Metric, fields: Fields, *, lately: Lately | None, clock_ms: int, status: str) -> dict[str, Any]:
    """Whether someone should look now: the last minutes are beyond the threshold, or the closed hour scored above 1.

    Only a `ready` series alerts. The evidence is what alerts, else the last closed hour that was judged, else null.
    """
    if status == "ready" and lately is not None:
        live = _live_evidence(metric, fields, lately, clock_ms)
        if live is not None:
            return {"is_alert": True, "evidence": live}
    hour = _hour_evidence(fields)
    is_alert = status == "ready" and hour is not None and fields["last_is_alert"] == "true" and _is_recent(fields)
    return {"is_alert": is_alert, "evidence": hour}


def fields_of(
    subject: Subject, metric: Metric, forecast: Forecast, verdict: Verdict | None, policy: Policy
) -> dict[str, str]:
    """The readable fields that this forecast and verdict would be stored as."""
    return readable(encode_series(subject, metric, forecast=forecast, verdict=verdict, policy=policy))


def prior_fields(subject: Subject, metric: Metric, *, clock_ms: int, policy: Policy) -> dict[str, str]:
    """The readable fields of a series that was never seen: what the catalogue assumes of its metric."""
    forecast = SeriesModel(metric, policy).forecast(max(policy.closed_before(clock_ms), 0), policy)
    return fields_of(subject, metric, forecast, None, policy)


def shown(number: float) -> str:
    """Four digits, as people read them: 10,000 and not 1e+04."""
    return f"{float(f'{number:.4g}'):,.10g}"


def _hour_evidence(fields: Fields) -> dict[str, Any] | None:
    if not fields["last_score"]:
        return None
    start = fields["last_window"]
    return {
        "source": "hour",
        "window_start": start,
        "window_end": _iso(_ms(start) + HOUR_MS),
        "value": number_of(fields["last_value"]),
        "calls": int(fields["last_count"]),
        "min_calls": int(fields["min_calls"]),
        "threshold": number_of(fields["last_threshold"]),
        "score": number_of(fields["last_score"]),
    }


def _is_recent(fields: Fields) -> bool:
    """Whether the last judged hour is the one right before the published one: what was days ago is not now."""
    return _ms(fields["window_start"]) - _ms(fields["last_window"]) <= HOUR_MS


def _live_evidence(metric: Metric, fields: Fields, lately: Lately, clock_ms: int) -> dict[str, Any] | None:
    """What the last minutes say, if that is beyond the threshold."""
    newest = lately.minute
    if not _is_now(newest, clock_ms):
        return None
    found = lately.values.get(metric.slug)
    if found is None or not _is_beyond(metric, fields, found):
        return None
    oldest = newest - KEPT_MINUTES + 1
    estimate, threshold = float(fields["estimate"]), float(fields["threshold"])
    return {
        "source": "minutes",
        "window_start": _iso(oldest * MINUTE_MS),
        "window_end": _iso((newest + 1) * MINUTE_MS),
        "value": found.value,
        "calls": found.count,
        "min_calls": int(fields["min_calls"]),
        "threshold": threshold,
        "score": _beyond(found.value, estimate=estimate, threshold=threshold),
    }


def _is_now(minute: int, clock_ms: int) -> bool:
    return clock_ms // MINUTE_MS - minute <= KEPT_MINUTES


def _beyond(value: float, *, estimate: float, threshold: float) -> float:
    """How far from the estimate a value beyond the threshold is, in units of the way to the threshold: 1 to 1000.

    Minutes have no slow reference, as closed hours have, that could say more.
    """
    way = threshold - estimate
    return min(max((value - estimate) / way, 1.0), _LARGEST_SCORE) if way else _LARGEST_SCORE


def _is_beyond(metric: Metric, fields: Fields, seen: Value) -> bool:
    threshold = float(fields["threshold"])
    if not (seen.value > threshold if fields["operator"] == ">" else seen.value < threshold):
        return False
    if seen.count < int(fields["min_calls"]):
        return False
    return metric.kind != "ratio" or round(seen.value * seen.count / 100.0) >= _FAILED_CALLS


# The same few hours and minutes stand in the answers of all series.
_ms = lru_cache(maxsize=4_096)(parse_ms)
_iso = lru_cache(maxsize=4_096)(iso)


def number_of(text: str) -> float | None:
    """JSON has no infinity, and an empty field is not yet known."""
    if not text:
        return None
    number = float(text)
    return number if math.isfinite(number) else None


def published_sentence(
    metric: Metric,
    *,
    status: str,
    estimate: float,
    threshold: float,
    operator: str,
    window_start: str,
    n_learned: str,
    claimed_exceedance: float,
) -> str:
    """What a person is told of a series that is `ready`, or was until it went silent."""
    expected, normal = _expected(metric, estimate), _normal(metric, threshold, operator, window_start)
    if status == "stale":
        return f"Nothing new was learned for a while: {normal}, by the last that is known."
    percent = f"{100.0 * claimed_exceedance:.3g} %"
    return f"{expected} is expected after {n_learned} learned hours: {normal}, {percent} of normal hours go beyond."


def _expected(metric: Metric, estimate: float) -> str:
    return f"{shown(estimate)} {metric.unit}" if metric.unit else shown(estimate)


def _normal(metric: Metric, threshold: float, operator: str, window_start: str) -> str:
    side = "up to" if operator == ">" else "down to"
    return f"{side} {_expected(metric, threshold)} is normal in the hour from {window_start}"


def _sentence(metric: Metric, fields: Fields, status: str) -> str:
    estimate, threshold = float(fields["estimate"]), float(fields["threshold"])
    expected = _expected(metric, estimate)
    normal = _normal(metric, threshold, fields["operator"], fields["window_start"])
    n_learned = fields["n_learned"]
    lender = lender_of(fields) if status in {"prior", "learning"} else None
    match status:
        case "prior" if lender is not None:
            return f"Nothing was learned of this series yet: {normal} by what {lender.text} have in common."
        case "prior":
            return f"Nothing was learned of this series yet: {normal} by what is assumed of {metric.slug}."
        case "learning" if lender is not None:
            return (
                f"{n_learned} hours were learned, too few to judge by alone: {normal}, {expected} is expected, "
                f"{100.0 * lender.own_weight:.3g} % by its own hours and the rest by what {lender.text} have in common."
            )
        case "learning":
            return f"{n_learned} hours were learned, too few to judge by alone: {normal}, {expected} is expected."
        case _:
            return published_sentence(
                metric,
                status=status,
                estimate=estimate,
                threshold=threshold,
                operator=fields["operator"],
                window_start=fields["window_start"],
                n_learned=n_learned,
                claimed_exceedance=float(fields["claimed_exceedance"]),
            )
