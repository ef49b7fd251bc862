"""Why a threshold is what it is: the parts that it was made of, reason codes, and one sentence."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from detection.catalogue import Metric
from detection.kernel import alert_reference
from detection.kernel.bank import describe_rate_of

Drift = Literal["none", "level shift", "creep"]

_EXPERTS = (
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
_SIZES = np.array([5, 20, 100, 1_000, 10_000])  # numbers of calls whose limits are published
_LEAST_WEIGHT = 0.05  # experts below it are left out
_SHIFT_TOLD_HOURS = 7 * 24
_CREEP_TOLD_HOURS = 14 * 24
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def drift_of(row: Any) -> Drift:
    """Whether normal itself has lately moved: at once, reported for a week, or slowly, reported for two."""
    kind = int(row["shift_kind"])
    is_shift = kind in {alert_reference.PROVISIONAL_SHIFT, alert_reference.ADOPTED_SHIFT}
    if is_shift and int(row["shift_hours"]) <= _SHIFT_TOLD_HOURS:
        return "level shift"
    if 0 <= int(row["adopted_ago"]) <= _SHIFT_TOLD_HOURS:
        return "level shift"
    return "creep" if 0 < int(row["creep_hours"]) <= _CREEP_TOLD_HOURS else "none"


def shares(row: Any, outlook: Any) -> dict[str, float | str]:
    """What the forecaster alone has to say of the hour that was looked at: spreads, correction, experts' weights."""
    parts: dict[str, float | str] = {
        "spread": float(outlook["scales"][0]),
        "disagreement": float(outlook["scales"][1]),
        "correction": math.exp(float(row["corrections"][0])),
    }
    for name, weight in zip(_EXPERTS, outlook["weights"].tolist(), strict=True):
        if weight >= _LEAST_WEIGHT:
            parts[f"weight_{name}"] = weight
    return parts


@dataclass(frozen=True, slots=True)
class Rate:
    """What counting says of a rate: `expected` in %, the correlation of two calls of an hour, and what is evidence.

    `min_calls`: of fewer calls not even all failing is evidence; `limits`: by number of calls, the highest rate in %
    that is none.
    """

    expected: float
    overdispersion: float
    min_calls: int
    limits: tuple[tuple[int, float], ...]


def rate_of(rows: Any, setups: Any, location: float) -> Rate:
    """Asks the compiled core; `location` is what is expected, in %."""
    numbers = np.zeros(3 + len(_SIZES))
    describe_rate_of(rows, setups, location, _SIZES, numbers)
    expected, overdispersion, fewest, *limits = numbers.tolist()
    return Rate(expected, overdispersion, int(fewest), tuple(zip(_SIZES.tolist(), limits, strict=True)))


def explain(metric: Metric, row: Any, outlook: Any, answer: Any, rate: Rate | None) -> dict[str, float | str]:
    """Numbers by name, in the metric's unit where they have one, and a `sentence`; nothing is computed from them.

    `spread` is the usual error, `disagreement` that of the experts among each other, `weight_…` the experts' shares,
    `correction` what the measured exceedance has done to the threshold's distance (1: nothing).
    `expected_rate` and `limits` (highest rate that is no evidence, by number of calls) belong to rates. `reasons`:
    `young`, `silent`, `outage`, `level-shift`, `creep`, `counted` (the threshold is a limit of failed calls).
    """
    side = 1.0 if metric.direction == "above" else -1.0
    slot = int(outlook["slot"])
    drift = drift_of(row)
    parts: dict[str, float | str] = {
        "slot": slot,
        "day_mean": float(outlook["raw_day"]),
        "week_mean": float(outlook["raw_week"]),
        "drift": drift,
        **shares(row, outlook),
    }
    if int(row["silent"]) > 0:
        parts["silent_hours"] = int(row["silent"])
    if rate is not None:
        parts["expected_rate"], parts["overdispersion"] = rate.expected, rate.overdispersion
        parts["limits"] = " ".join(f"{size}:{limit:.3g}" for size, limit in rate.limits)
    if drift == "level shift" and int(row["shift_kind"]) != alert_reference.NONE:
        parts["shift_from"], parts["shift_to"] = side * float(row["shift_from"]), side * float(row["shift_to"])
        parts["shift_hours"] = int(row["shift_hours"])
    if drift == "creep":
        parts["creep_rise"] = float(row["creep_rise"])
    reasons = _reasons(metric, row, answer, drift)
    if reasons:
        parts["reasons"] = " ".join(reasons)
    parts["sentence"] = _sentence(metric, outlook, answer, slot, reasons)
    return parts


def _reasons(metric: Metric, row: Any, answer: Any, drift: Drift) -> list[str]:
    reasons = []
    if int(row["n_learned"]) < 48:
        reasons.append("young")
    if int(row["silent"]) > 0:
        reasons.append("silent")
    if int(row["gross_run"]) > 0:
        reasons.append("outage")
    if drift != "none":
        reasons.append(drift.replace(" ", "-"))
    if metric.kind == "ratio" and float(answer["counted"]) * 100.0 == float(answer["threshold"]):
        reasons.append("counted")
    return reasons


def _sentence(metric: Metric, outlook: Any, answer: Any, slot: int, reasons: list[str]) -> str:
    unit = f" {metric.unit}" if metric.unit else ""
    word = "at most" if metric.direction == "above" else "at least"
    text = (
        f"{_DAYS[slot // 24]} {slot % 24:02d}h is usually {float(outlook['raw_week']):.4g}{unit}; "
        f"expected is {float(answer['location']):.4g}{unit}, "
        f"and normal is {word} {float(answer['threshold']):.4g}{unit}"
    )
    if "level-shift" in reasons:
        text += "; the level has shifted lately"
    if "creep" in reasons:
        text += "; the level has crept up for weeks"
    if "outage" in reasons:
        text += "; the last hours were too far out to be learned"
    if "young" in reasons:
        text += "; little was learned yet"
    return text
