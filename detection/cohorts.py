"""What a young series borrows from its cohort: partial pooling, its own hours against everybody else's.

A cohort is a metric and a size class of expected calls an hour. Its summary (see `detection.cohort_learning`) is on a
scale on which its series lie evenly: logarithms of what is positive, logits of shares. There a series' own level, known
from n hours, is an estimate with the variance s² / n; the levels of the cohort vary by t². The best weight for the
series' own is then n / (n + k) with k = s² / t² (empirical Bayes: Efron and Morris 1975, "Data analysis using Stein's
estimator and its generalizations"; Gelman and Hill 2007, equation 12.1); the rest is the cohort's. The way from the
level to the threshold is pooled likewise, as a logarithm, with a k of its own. What the series says of its own
threshold knows how little its own level is known; what the cohort adds to the level is uncertain by t, so

    threshold = level + sqrt((q * t)² * (1 + 1/m) * (1 - weight)² + way²)

where q is the quantile of Student's distribution for m series at the claimed coverage. Without any hour of its own that
is the predictive quantile of a new series of the cohort.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from detection.catalogue import Metric

Numbers = NDArray[np.float64]

Scale = Literal["log", "logit", "plain"]

ANY_SIZE: Final = "any"
# The size classes' lower ends, calls an hour: powers of ten.
_SIZES: Final = ("<10", "10-100", "100-1000", "1000-10000", "10000-100000", "100000-1000000", ">=1000000")
SIZES: Final = (*_SIZES, ANY_SIZE)

# So many series that are `ready` make a cohort speak; fewer leave it to the metric's cohort of any size.
FEWEST_SERIES: Final = 5

# Percent that are added on both ends before a logit is taken: a rate of 0 is one too.
_LOGIT_OFFSET: Final = 0.1
_LARGEST_LOG: Final = 80.0
_SMALLEST: Final = math.exp(-_LARGEST_LOG)
# On the scales that are relative, no way is longer: a factor of 22,000.
_LONGEST_WAY: Final = 10.0

# No series' way is shorter than this share of its cohort's.
_LEAST_WAY: Final = 0.02

# What the band of an estimate claims.
_BAND_QUANTILE: Final = 0.975


@dataclass(frozen=True, slots=True)
class Prior:
    """What the `ready` series of a cohort have in common, in units of `scale`.

    `level` and `spread` (the t above) are their levels' mean and standard deviation, `kappa` the hours that the cohort
    counts for in a level. `above`, `below` and `way` lead from a level to the ends of its 95 % band and to its
    threshold, all > 0; `way_kappa` is the kappa of these.
    """

    scale: Scale
    series: int
    level: float
    spread: float
    kappa: float
    above: float
    below: float
    way: float
    way_kappa: float


@dataclass(frozen=True, slots=True)
class Cohort:
    """One cohort; `prior` is None while fewer than `FEWEST_SERIES` of it are `ready`.

    `measured_exceedance` is the share of closed hours that exceeded the threshold published for them, over the cohort's
    series, each with the weight of its `judged` hours; None while there are none.
    """

    metric: str
    size: str
    judged: int
    measured_exceedance: float | None
    prior: Prior | None

    @property
    def name(self) -> str:
        """As it is stored and answered: `average-response-time/10-100`."""
        return f"{self.metric}/{self.size}"


@dataclass(frozen=True, slots=True)
class Outlook:
    """An estimate, its 95 % band and its threshold, in the metric's unit, all finite."""

    estimate: float
    lower: float
    upper: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Pooled:
    """The pooled outlook, and the weight 0..1 that the series' own level has in it."""

    outlook: Outlook
    weight: float


class Cohorts:
    """The cohorts that are known, to be asked for the one that speaks for a series."""

    def __init__(self, known: Iterable[Cohort] = ()) -> None:
        self.known = {(one.metric, one.size): one for one in known}

    def find(self, metric: str, expected_calls: float) -> Cohort | None:
        """The series' own cohort, else that of any size of its metric; None where the catalogue has to speak."""
        for size in (size_of(expected_calls), ANY_SIZE):
            one = self.known.get((metric, size))
            if one is not None and one.prior is not None:
                return one
        return None


def size_of(expected_calls: float) -> str:
    """The size class of so many expected calls an hour; `any` while none are known.

    >>> [size_of(calls) for calls in (0.0, 2.5, 10.0, 61.3, 5e9)]
    ['any', '<10', '10-100', '10-100', '>=1000000']
    """
    if not expected_calls > 0.0:
        return ANY_SIZE
    # Compared, not taken from a logarithm, which rounds just below a power of ten.
    power = sum(expected_calls >= end for end in (10.0, 1e2, 1e3, 1e4, 1e5, 1e6))
    return _SIZES[power]


def cohort_name(metric: Metric, expected_calls: float | None) -> str:
    """The cohort of a series, as it is stored and answered; None where nobody knows how many calls it has."""
    return f"{metric.slug}/{ANY_SIZE if expected_calls is None else size_of(expected_calls)}"


def pool(metric: Metric, prior: Prior, *, n: int, own: Outlook | None, coverage: float) -> Pooled:
    """A series' outlook after `n` learned hours; `own` is what it says by itself, None only with n = 0."""
    fresh = _outlook(metric, prior, prior.level, (prior.below, prior.above, prior.way), 1.0, coverage)
    if own is None or n <= 0:
        return Pooled(fresh, 0.0)
    scale, side = prior.scale, _side(metric)
    weight, share = n / (n + prior.kappa), n / (n + prior.way_kappa)
    if scale == "log" and own.estimate <= 0.0:
        # No way leads there from a level of 0, which is the lowest place there is.
        return Pooled(_between(scale, fresh, own, weight), weight)
    start, *ends = places(scale, np.array([own.estimate, own.lower, own.upper, own.threshold]))
    level = prior.level + weight * (float(start) - prior.level)
    below, above, way = ways_between(scale, start, np.array(ends), np.array([-1.0, 1.0, side])).tolist()
    ways = (
        _pooled_way(below, prior.below, share),
        _pooled_way(above, prior.above, share),
        _pooled_way(way, prior.way, share),
    )
    return Pooled(_outlook(metric, prior, level, ways, 1.0 - weight, coverage), weight)


def _side(metric: Metric) -> float:
    return 1.0 if metric.direction == "above" else -1.0


def _outlook(
    metric: Metric, prior: Prior, level: float, ways: tuple[float, float, float], borrowed: float, coverage: float
) -> Outlook:
    """From a level, the ways down, up and to the threshold, and the share of the level that is the cohort's."""
    below, above, way = ways
    unknown = prior.spread * math.sqrt(1.0 + 1.0 / prior.series) * borrowed
    band = unknown * student(_BAND_QUANTILE, prior.series - 1)
    bound = unknown * student(coverage, prior.series - 1)

    def told(place: float) -> float:
        return metric.clip(back(prior.scale, place))

    return Outlook(
        estimate=told(level),
        lower=told(level - math.hypot(band, below)),
        upper=told(level + math.hypot(band, above)),
        threshold=told(level + _side(metric) * math.hypot(bound, way)),
    )


def _between(scale: Scale, fresh: Outlook, own: Outlook, weight: float) -> Outlook:
    def told(ours: float, its: float) -> float:
        return back(scale, onto(scale, ours) + weight * (onto(scale, its) - onto(scale, ours)))

    return Outlook(
        estimate=told(fresh.estimate, own.estimate),
        lower=told(fresh.lower, own.lower),
        upper=told(fresh.upper, own.upper),
        threshold=told(fresh.threshold, own.threshold),
    )


def _pooled_way(own: float, ours: float, share: float) -> float:
    """Between the two, as logarithms; a series that has not moved yet will, a little."""
    return ours * math.exp(share * math.log(max(own / ours, _LEAST_WAY)))


def onto(scale: Scale, value: float) -> float:
    """A value of the metric on this scale; what the scale has no place for is its nearest end."""
    return float(places(scale, np.array([value]))[0])


def places(scale: Scale, values: Numbers) -> Numbers:
    """As `onto`, of many values."""
    match scale:
        case "log":
            return np.log(np.maximum(values, _SMALLEST))
        case "logit":
            share = np.clip(values, 0.0, 100.0)
            return np.log((share + _LOGIT_OFFSET) / (100.0 + _LOGIT_OFFSET - share))
        case "plain":
            return values


def back(scale: Scale, place: float) -> float:
    """The inverse of `onto`, finite for every finite place."""
    match scale:
        case "log":
            return math.exp(min(max(place, -_LARGEST_LOG), _LARGEST_LOG))
        case "logit":
            odds = math.exp(min(max(place, -_LARGEST_LOG), _LARGEST_LOG))
            share = (100.0 + 2.0 * _LOGIT_OFFSET) * odds / (1.0 + odds) - _LOGIT_OFFSET
            return min(max(share, 0.0), 100.0)
        case "plain":
            return place


def ways_between(scale: Scale, starts: Numbers, ends: Numbers, side: float | Numbers) -> Numbers:
    """How far the ends, on this scale, lie from the starts on this side (1 above, -1 below), >= 0."""
    ways = np.maximum(side * (ends - starts), 0.0)
    return ways if scale == "plain" else np.minimum(ways, _LONGEST_WAY)


@lru_cache(maxsize=1_024)
def student(share: float, freedom: int) -> float:
    """The quantile of Student's distribution, to 1 % for 4 degrees of freedom and more (Fisher and Cornish 1960)."""
    z = NormalDist().inv_cdf(share)
    terms = (
        (z**3 + z) / 4.0,
        (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0,
        (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0,
    )
    return z + math.fsum(term / float(freedom) ** power for power, term in enumerate(terms, start=1))
