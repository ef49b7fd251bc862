"""What people run instead: three ways to draw a boundary, on the same minutes and with the same life cycle of alerts.

Each looks, at the end of every minute, at the last five minutes: mean latency, failed and timed-out share, number of
calls. Beyond is above the boundary (of calls: below it) with at least `LEAST_CALLS` calls in the window; clear is what
is not beyond. Where a biller has fewer calls than that nothing is said, but of the number of calls.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks._incident_stream import METRICS, Points, Stream

Floats = NDArray[np.float64]

WINDOW: Final = 5
LEAST_CALLS: Final = 5
WEEK: Final = 7 * 1440
DAY: Final = 1440
SIGMAS: Final = 3.0
_CALLS: Final = 3


def fixed(values: Floats, margin: float) -> Points:
    """The largest value of the first week times a margin, the fewest calls of it divided by it: biller by biller."""
    week = values[:, WINDOW:WEEK]
    boundary = margin * np.nanmax(np.where(np.isnan(week), -np.inf, week), axis=1)
    boundary[:, _CALLS] = np.nanmin(week[:, :, _CALLS], axis=1) / margin
    return _held(values, np.broadcast_to(boundary[:, None, :], values.shape))


def trailing_day(values: Floats, sigmas: float = SIGMAS) -> Points:
    """Mean and so many standard deviations of the windows of the day before."""
    boundary = np.full(values.shape, np.nan)
    mean, deviation = _moments(values)
    # The window itself is not part of what it is held against.
    boundary[:, DAY + WINDOW :] = _beyond(mean, deviation, sigmas)[:, DAY:-WINDOW]
    return _held(values, boundary)


def hour_of_week(values: Floats, sigmas: float = SIGMAS) -> Points:
    """Mean and so many standard deviations of all earlier windows of the same hour of the week."""
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
    earlier = np.full((billers, weeks, 168, metrics), np.nan)
    earlier[:, 1:] = _beyond(mean, deviation, sigmas)[:, :-1]
    boundary = np.full(values.shape, np.nan)
    boundary[:, : weeks * WEEK] = np.repeat(earlier.reshape(billers, weeks * 168, metrics), 60, axis=1)
    return _held(values, boundary)


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


def _beyond(mean: Floats, deviation: Floats, sigmas: float) -> Floats:
    boundary = mean + sigmas * deviation
    boundary[..., _CALLS] = mean[..., _CALLS] - sigmas * deviation[..., _CALLS]
    return boundary


def _held(values: Floats, boundary: Floats) -> Points:
    with np.errstate(invalid="ignore"):
        is_beyond = values > boundary
        is_beyond[:, :, _CALLS] = values[:, :, _CALLS] < boundary[:, :, _CALLS]
    is_known = ~np.isnan(values) & ~np.isnan(boundary)
    return Points(is_beyond & is_known, ~is_beyond & is_known)
