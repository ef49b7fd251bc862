"""Why a threshold is what it is: the parts that it was made of, reason codes, and one sentence."""

import math
from collections.abc import Sequence
from typing import Any, Final

from detection.catalogue import Metric
from detection.kernel.row import CREEP, LEAST_SHARE, RATE_SIZES

Parts = dict[str, float | str]

_EXPERTS: Final = (
    "last",
    "day",
    "week",
    "yesterday",
    "average",
    "week_half",
    "regression_season",
    "regression_short",
    "regression_raw",
)
_WEIGHTS: Final = tuple(f"weight_{name}" for name in _EXPERTS)
_DRIFTS: Final = ("none", "level shift", "creep")
_DRIFT_SENTENCES: Final = ("", "; the level has shifted lately", "; the level has crept up for weeks")
_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_TOLD: Final = (
    "n_learned", "slot", "day_mean", "week_mean", "drift", "spread", "disagreement", "correction", "weights", "silent",
    "is_young", "is_outage", "is_counted", "has_shift", "shift_from", "shift_to", "shift_hours", "creep_rise",
    "expected_rate", "overdispersion", "limits",
)  # fmt: skip


def shares(row: Any, outlook: Any) -> Parts:
    """What the forecaster alone has to say of the hour that was looked at: spreads, correction, experts' weights."""
    parts: Parts = {
        "spread": float(outlook["scales"][0]),
        "disagreement": float(outlook["scales"][1]),
        "correction": math.exp(float(row["corrections"][0])),
    }
    for name, weight in zip(_WEIGHTS, outlook["weights"].tolist(), strict=True):
        if weight >= LEAST_SHARE:
            parts[name] = weight
    return parts


def explain_many(metrics: Sequence[Metric], told: Any, answers: Any) -> list[Parts]:
    """What is told beside each answer; nothing is computed from it. Records of `TOLD` and of `ANSWER`, N each.

    Numbers by name, in five significant digits, in the metric's unit where they have one, and a `sentence`.
    `spread` is the usual error, `disagreement` that of the experts among each other, `weight_…` the experts' shares,
    `correction` what the measured exceedance has done to the threshold's distance (1: nothing).
    `expected_rate`, `overdispersion` (the correlation of two calls of an hour) and `limits` (highest rate that is no
    evidence, by number of calls) belong to rates. `reasons`: `young`, `silent`, `outage`, `level-shift`, `creep`,
    `counted` (the threshold is a limit of failed calls). Of a series that nothing is known of: `basis`, the prior.
    """
    columns = [told[name].tolist() for name in _TOLD]
    spoken = (answers[name].tolist() for name in ("location", "threshold"))
    return [_explain(*each) for each in zip(metrics, *spoken, *columns, strict=True)]


def _explain(  # noqa: PLR0913, PLR0917  # one record, taken apart once for all of them
    metric: Metric,
    location: float,
    threshold: float,
    n_learned: int,
    slot: int,
    day_mean: float,
    week_mean: float,
    drift: int,
    spread: float,
    disagreement: float,
    correction: float,
    weights: list[float],
    silent: int,
    is_young: int,
    is_outage: int,
    is_counted: int,
    has_shift: int,
    shift_from: float,
    shift_to: float,
    shift_hours: int,
    creep_rise: float,
    expected_rate: float,
    overdispersion: float,
    limits: list[float],
) -> Parts:
    if not n_learned:
        return {"basis": "prior"}
    parts: Parts = {
        "slot": slot,
        "day_mean": day_mean,
        "week_mean": week_mean,
        "drift": _DRIFTS[drift],
        "spread": spread,
        "disagreement": disagreement,
        "correction": correction,
    }
    for name, weight in zip(_WEIGHTS, weights, strict=True):
        if weight:
            parts[name] = weight
    if silent:
        parts["silent_hours"] = silent
    if metric.kind == "ratio":
        parts["expected_rate"], parts["overdispersion"] = expected_rate, overdispersion
        parts["limits"] = _LIMITS % tuple(limits)
    if has_shift:
        parts["shift_from"], parts["shift_to"], parts["shift_hours"] = shift_from, shift_to, shift_hours
    if drift == CREEP:
        parts["creep_rise"] = creep_rise
    if is_young or silent or is_outage or drift or is_counted:
        parts["reasons"] = _reasons(is_young, silent, is_outage, drift, is_counted)
    parts["sentence"] = (
        _usual(metric, slot, week_mean, location, threshold)
        + _DRIFT_SENTENCES[drift]
        + ("; the last hours were too far out to be learned" if is_outage else "")
        + ("; little was learned yet" if is_young else "")
    )
    return parts


def _usual(metric: Metric, slot: int, week_mean: float, location: float, threshold: float) -> str:
    unit = f" {metric.unit}" if metric.unit else ""
    word = "most" if metric.direction == "above" else "least"
    return (
        f"{_DAYS[slot // 24]} {slot % 24:02d}h is usually {week_mean:.4g}{unit}; "
        f"expected is {location:.4g}{unit}, and normal is at {word} {threshold:.4g}{unit}"
    )


_LIMITS: Final = " ".join(f"{size}:%.3g" for size in RATE_SIZES)


def _reasons(is_young: int, silent: int, is_outage: int, drift: int, is_counted: int) -> str:
    reasons = []
    if is_young:
        reasons.append("young")
    if silent:
        reasons.append("silent")
    if is_outage:
        reasons.append("outage")
    if drift:
        reasons.append(_DRIFTS[drift].replace(" ", "-"))
    if is_counted:
        reasons.append("counted")
    return " ".join(reasons)


def for_reading(parts: Parts) -> Parts:
    """The parts with their numbers in five significant digits."""
    return {name: one if isinstance(one, str) else float(f"{one:.5g}") for name, one in parts.items()}
