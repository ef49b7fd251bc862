"""What people run instead: three ways to draw a boundary, on the same minutes and with the same life cycle of alerts.

Each looks, at the end of every minute, at the last five minutes: mean latency, failed and timed-out share, number of
calls. Beyond is above the boundary (of calls: below it) with at least `LEAST_CALLS` calls in the window; clear is what
is not beyond. Where a biller has fewer calls than that nothing is said, but of the number of calls.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks._incident_stream import METRICS, Points, Stream
from detection.live import LivePolicy

Floats = NDArray[np.float64]

WINDOW: Final = 5
LEAST_CALLS: Final = 5
WEEK: Final = 7 * 1440
DAY: Final = 1440
SIGMAS: Final = 3.0
_CALLS: Final = 3


@dataclass(frozen=True, slots=True)
class Rule:
    """What is usual, and how far each window is from it, [biller, minute, metric]: in sigmas, or as a margin.

    A window is beyond where its distance is greater than what is allowed; NaN where nothing can be said.
    """

    usual: Floats
    distance: Floats


def fixed_rule(values: Floats) -> Rule:
    """In multiples of the largest value of the biller's first week; of calls, of its fewest in multiples of these."""
    week = values[:, WINDOW:WEEK]
    largest = np.nanmax(np.where(np.isnan(week), -np.inf, week), axis=1, keepdims=True)
    fewest = np.nanmin(week[:, :, _CALLS], axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = values / largest
        distance[:, :, _CALLS] = fewest / values[:, :, _CALLS]
    # Nothing of what never was any.
    distance[np.isnan(distance) & ~np.isnan(values)] = 0.0
    return Rule(np.nanmean(week, axis=1, keepdims=True), distance)


def day_rule(values: Floats) -> Rule:
    """Standard deviations from the mean of the windows of the day before."""
    mean, deviation = (np.full(values.shape, np.nan) for _ in range(2))
    for part, found in zip(_moments(values), (mean, deviation), strict=True):
        # The window itself is not part of what it is held against.
        found[:, DAY + WINDOW :] = part[:, DAY:-WINDOW]
    return Rule(mean, _sigmas(values, mean, deviation))


def week_rule(values: Floats) -> Rule:
    """Standard deviations from the mean of all earlier windows of the same hour of the week."""
    billers, minutes, metrics = values.shape
    weeks = minutes // WEEK
    by_hour = values[:, : weeks * WEEK].reshape(billers, weeks, 168, 60, metrics)
    seen = ~np.isnan(by_hour)
    filled = np.where(seen, by_hour, 0.0)
    number, total, squares = (
        np.cumsum(part.sum(axis=3), axis=1) for part in (seen.astype(np.float64), filled, filled * filled)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / number
        deviation = np.sqrt(np.maximum(squares / number - mean * mean, 0.0))

    def by_minute(of_hours: Floats) -> Floats:
        earlier = np.full((billers, weeks, 168, metrics), np.nan)
        earlier[:, 1:] = of_hours[:, :-1]
        found = np.full(values.shape, np.nan)
        found[:, : weeks * WEEK] = np.repeat(earlier.reshape(billers, weeks * 168, metrics), 60, axis=1)
        return found

    usual = by_minute(mean)
    return Rule(usual, _sigmas(values, usual, by_minute(deviation)))


def fixed(values: Floats, margin: float) -> Points:
    """`fixed_rule` with this margin."""
    return held(fixed_rule(values), margin)


def trailing_day(values: Floats, sigmas: float = SIGMAS) -> Points:
    """`day_rule` with so many sigmas."""
    return held(day_rule(values), sigmas)


def hour_of_week(values: Floats, sigmas: float = SIGMAS) -> Points:
    """`week_rule` with so many sigmas."""
    return held(week_rule(values), sigmas)


def windows(stream: Stream) -> Floats:
    """[biller, minute, metric]: what the five minutes that end with the minute come to; NaN where too few calls did."""
    sums = stream.minutes.astype(np.float64).cumsum(axis=1)
    sums[:, WINDOW:] -= sums[:, :-WINDOW].copy()
    calls, errors, timeouts, latency = (sums[:, :, at] for at in range(4))
    answered = calls - timeouts
    values = np.full((*calls.shape, len(METRICS)), np.nan)
    np.divide(latency, 1000.0 * answered, out=values[:, :, 0], where=answered >= LEAST_CALLS)
    np.divide(100.0 * errors, calls, out=values[:, :, 1], where=calls >= LEAST_CALLS)
    np.divide(100.0 * timeouts, calls, out=values[:, :, 2], where=calls >= LEAST_CALLS)
    values[:, :, _CALLS] = calls
    return values


def held(rule: Rule, allowed: float) -> Points:
    """Every window against what is allowed."""
    with np.errstate(invalid="ignore"):
        is_beyond = rule.distance > allowed
    return Points(is_beyond, ~is_beyond & ~np.isnan(rule.distance))


def worth_it(values: Floats, usual: Floats, policy: LivePolicy) -> NDArray[np.bool_]:
    """Which windows are, compared with what is usual, above the floors of Tidemark's own judge, and have its evidence.

    Calls and failures are those of the five minutes.
    """
    usual = np.broadcast_to(usual, values.shape)
    calls = values[:, :, _CALLS]
    with np.errstate(invalid="ignore"):
        above = values - usual
        found = np.zeros(values.shape, bool)
        found[:, :, 0] = above[:, :, 0] >= np.maximum(policy.least_ms, policy.least_share * usual[:, :, 0])
        found[:, :, 0] &= calls - calls * values[:, :, 2] / 100.0 >= policy.least_answered
        for metric in (1, 2):
            least = np.maximum(100.0 * policy.least_rate, policy.least_rise * usual[:, :, metric])
            found[:, :, metric] = above[:, :, metric] >= least
            found[:, :, metric] &= calls * values[:, :, metric] / 100.0 >= policy.least_failed
        found[:, :, _CALLS] = calls <= (1.0 - policy.least_drop) * usual[:, :, _CALLS]
    return found


def _moments(values: Floats) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the day that ends with each minute."""
    seen = ~np.isnan(values)
    # About the mean of each series, or the squares of large levels would leave nothing of small spreads.
    centre = np.nanmean(values, axis=1, keepdims=True)
    filled = np.where(seen, values - centre, 0.0)
    sums = []
    for part in (seen.astype(np.float64), filled, filled * filled):
        total = np.cumsum(part, axis=1)
        total[:, DAY:] -= total[:, :-DAY].copy()
        sums.append(total)
    number, total, squares = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / number
        return mean + centre, np.sqrt(np.maximum(squares / number - mean * mean, 0.0))


def _sigmas(values: Floats, mean: Floats, deviation: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (values - mean) / deviation
        found[:, :, _CALLS] *= -1.0
    found[(values == mean) & (deviation == 0.0)] = 0.0
    return found
