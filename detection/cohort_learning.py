"""How cohorts are learned, from nothing but what is published of their series: robust moments of what they have.

One series that went astray must not widen everybody's prior, so every mean and variance is winsorised: what lies more
than three robust standard deviations (1.4826 times the median absolute deviation) from the median is moved there.
"""

import math
from array import array
from statistics import NormalDist
from typing import Final

import numpy as np

from detection.catalogue import Metric, metric_of
from detection.cohorts import (
    ANY_SIZE,
    FEWEST_SERIES,
    Cohort,
    Numbers,
    Outlook,
    Prior,
    Scale,
    onto,
    places,
    size_of,
    ways_between,
)

# The largest cohorts, so that neither a field of Redis nor a label of Prometheus grows with invented gauges.
MOST_COHORTS: Final = 200

_NORMAL_MAD: Final = 1.4826
_CLIPPED_AT: Final = 3.0
# A published estimate follows about the last day: so many hours stand behind a level, however many were learned.
_REMEMBERED_HOURS: Final = 24.0
# Levels are never taken to be more alike than this, 2 % on the scales that are relative.
_LEAST_SPREAD: Final = 0.02
_LEAST_PLAIN_SPREAD: Final = 1e-6
# The same for the way to the threshold, which follows about the last two weeks.
_REMEMBERED_TAIL_HOURS: Final = 336.0
_LARGEST_KAPPA: Final = 1e6
_LEAST_KAPPA: Final = 1e-3
_UPPER: Final = NormalDist().inv_cdf(0.975)


class Census:
    """Takes in the published answers of series one by one, in any order, then sums them up by cohort."""

    def __init__(self) -> None:
        self._ready: dict[tuple[str, str], array[float]] = {}
        self._judged: dict[tuple[str, str], array[float]] = {}

    def add_ready(self, metric: str, expected_calls: float, outlook: Outlook, n_learned: int) -> None:
        """What is published of a `ready` series; what is not finite is left out."""
        row = (outlook.estimate, outlook.lower, outlook.upper, outlook.threshold, float(n_learned))
        if all(map(math.isfinite, row)):
            for size in {size_of(expected_calls), ANY_SIZE}:
                self._ready.setdefault((metric, size), array("d")).extend(row)

    def add_judged(self, metric: str, expected_calls: float, judged: int, measured_exceedance: float) -> None:
        """How often a series of any status went beyond what was published for it."""
        for size in {size_of(expected_calls), ANY_SIZE}:
            self._judged.setdefault((metric, size), array("d")).extend((float(judged), measured_exceedance))

    def cohorts(self, coverage: float) -> list[Cohort]:
        """The summaries, largest cohort first; the same for every order in which the series came."""
        found = [self._cohort(*key, coverage) for key in self._ready.keys() | self._judged.keys()]
        found.sort(key=lambda one: (-(one.prior.series if one.prior else 0), -one.judged, one.name))
        return found[:MOST_COHORTS]

    def _cohort(self, slug: str, size: str, coverage: float) -> Cohort:
        rows = _table(self._ready.get((slug, size)), 5)
        judged, measured = _table(self._judged.get((slug, size)), 2).T
        total = math.fsum(judged)
        return Cohort(
            metric=slug,
            size=size,
            judged=round(total),
            measured_exceedance=math.fsum(judged * measured) / total if total > 0.0 else None,
            prior=prior_of(metric_of(slug), rows, coverage),
        )


def prior_of(metric: Metric, rows: Numbers, coverage: float) -> Prior | None:
    """The prior of series with these outlooks (estimate, lower, upper, threshold, n_learned); None for too few."""
    scale = _scale(metric, rows)
    rows = rows[rows[:, 0] > 0.0] if scale == "log" else rows
    series = len(rows)
    if series < FEWEST_SERIES:
        return None
    # One order for every arrival: a sum of floats depends on it.
    rows = rows[np.lexsort(rows.T)]
    side = 1.0 if metric.direction == "above" else -1.0
    n_learned = np.maximum(rows[:, 4], 1.0)
    levels = places(scale, rows[:, 0])
    above, below, ways = (
        ways_between(scale, levels, places(scale, rows[:, column]), sign)
        for column, sign in ((2, 1.0), (1, -1.0), (3, side))
    )
    levels = _with_catalogue(metric, scale, _winsorised(levels))
    level = float(levels.mean())
    least = _LEAST_SPREAD if scale != "plain" else _least_plain(level, ways)
    hour_variance = (_winsorised(above if side > 0.0 else below) / _UPPER) ** 2
    log_ways = _log_ways(ways, least)
    # What the published levels do not yet know is no difference between the series (method of moments).
    unknown = float((hour_variance / np.minimum(n_learned, _REMEMBERED_HOURS)).mean())
    variance = max(float(levels.var(ddof=1)) - unknown, least * least)
    # The relative variance of a normal quantile known from one hour: share (1 - share) / (density * quantile)².
    quantile = NormalDist().inv_cdf(coverage)
    tail = coverage * (1.0 - coverage) / (NormalDist().pdf(quantile) * quantile) ** 2
    unknown_tail = tail * float((1.0 / np.minimum(n_learned, _REMEMBERED_TAIL_HOURS)).mean())
    way_variance = max(float(log_ways.var(ddof=1)) - unknown_tail, _LEAST_SPREAD**2)
    return Prior(
        scale=scale,
        series=series,
        level=level,
        spread=math.sqrt(variance),
        kappa=_kappa(float(hour_variance.mean()), variance),
        above=math.exp(float(_log_ways(above, least).mean())),
        below=math.exp(float(_log_ways(below, least).mean())),
        way=math.exp(float(log_ways.mean())),
        way_kappa=_kappa(tail, way_variance),
    )


def _scale(metric: Metric, rows: Numbers) -> Scale:
    match metric.kind:
        case "mean":
            return "log"
        case "ratio":
            return "logit"
        case "gauge":
            return "log" if bool((rows[:, 0] > 0.0).all() and (rows[:, 1] >= 0.0).all()) else "plain"


def _with_catalogue(metric: Metric, scale: Scale, levels: Numbers) -> Numbers:
    """A cohort in which no call has failed yet expects some failures all the same: the catalogue counts as a series."""
    return np.append(levels, onto(scale, metric.prior)) if scale == "logit" else levels


def _least_plain(level: float, ways: Numbers) -> float:
    """What is small beside the cohort's own numbers, which may be of any size."""
    return _LEAST_PLAIN_SPREAD * max(abs(level), float(np.median(ways))) or _LEAST_PLAIN_SPREAD


def _log_ways(ways: Numbers, least: float) -> Numbers:
    """Logarithms of ways, none shorter than the least or than a small share of the median."""
    floor = max(least, _LEAST_SPREAD * float(np.median(ways)))
    return _winsorised(np.log(np.maximum(ways, floor)))


def _kappa(within: float, between: float) -> float:
    # Series that are all alike leave nothing between them, not even in the smallest floats: then the cohort speaks.
    if between <= within / _LARGEST_KAPPA:
        return _LARGEST_KAPPA
    return max(within / between, _LEAST_KAPPA)


def _winsorised(values: Numbers) -> Numbers:
    middle = float(np.median(values))
    spread = _NORMAL_MAD * float(np.median(np.abs(values - middle)))
    if spread == 0.0:
        # More than half are equal: what the others differ by is all that there is to go by.
        return values
    return np.clip(values, middle - _CLIPPED_AT * spread, middle + _CLIPPED_AT * spread)


def _table(rows: "array[float] | None", columns: int) -> Numbers:
    return np.array(rows if rows is not None else (), np.float64).reshape(-1, columns)
