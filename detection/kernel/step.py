"""One hour of one series: look at it, then learn its value, or let it pass in silence.

The experts, combined on the raw scale by `mixture`, half their mean and half their weighted median:

- last value; average of z with rate 0.5; yesterday's hour + half of the change since then
- hour-of-day mean + 0.85 of the last deviation from it; hour-of-week mean + 0.9 and + 0.5 of that deviation
- least squares of z: on lags, both means, averages and the daily cycle; on the last z, both means and the average
- least squares of the value itself on lags, both means and the average

An hour far beyond its threshold, and far beyond all of the last weeks, is *gross*: it is judged, but taken as if it had
been silent, until it was followed by so many of its kind that it is the new level.
"""

import math
from typing import Any

import numba
import numpy as np

from detection.compiled import Record, compiled
from detection.kernel.bounds import begin_bounds, bound_distances, learn_bounds
from detection.kernel.mixture import disagreement, learn_experts, mix_experts
from detection.kernel.regression import begin_linear, learn_linear, predict_linear
from detection.kernel.row import HOURS_OF_DAY, HOURS_OF_WEEK, LAGS, OUTLOOK
from detection.kernel.scale import clip, from_z, raw_unit, settle_offset, to_z, z_unit

ADOPTED_AFTER = 6  # gross hours in a row; the next one is learned, and is the new level

_SETTLED_AFTER = 63  # hours learned before an influence is clipped and residuals are counted
_REGRESSION_AFTER = 27
_GROSS_AFTER = 72
_GROSS_DISTANCES = 8.0
_GROSS_PEAKS = 2.0
_PEAK_RATE = 0.002  # the peak of the last weeks fades so fast
_AVERAGE_RATES = (0.066, 0.2, 0.5)
_DAY_RATE, _WEEK_RATE = 0.085, 0.6
_SEASON_CLIP = 2.74  # standard deviations of z
_MOMENT_RATE = 0.0128
_MOMENT_CLIP = 6.0
_SPREAD_RATES = (0.02, 0.167)
_DAY_SPREAD_RATE = 0.107
_TERM_LARGEST, _TARGET_LARGEST = 8.0, 12.0  # of the regressions, in their normalised unit
_DAY_SHARE, _WEEK_SHARE, _WEEK_SHARE_LOW, _YESTERDAY_SHARE = 0.85, 0.9, 0.5, 0.5
_SEASONAL_FORGETTING, _SHORT_FORGETTING, _RAW_FORGETTING = 0.992, 0.98, 0.979
_SEASONAL_CLIP, _SHORT_CLIP, _RAW_CLIP = 1.47, 3.6, 10.0
_DISAGREEMENT_FLOOR = 0.23
_GRAIN = 0.05  # of the level
_REMEMBERED_AT = 2.5
_WINSORISED_AT = 1.7  # distances of the threshold, as far as surprises are remembered and taught
_BLIND_GROWTH = 0.01  # of the spreads per silent hour, for a day at most

# Means of what the regressions had learned of real series of every source, so that a new series begins as one of them.
_SEASONAL_PRIOR = np.array([-0.01, 0.44, -0.08, 0.06, 0.18, 0.09, 0.11, 0.15, 0.0, -0.06, 0.01, -0.01])
_SHORT_PRIOR = np.array([-0.01, 0.54, 0.15, 0.27, -0.04])
_RAW_PRIOR = np.array([0.04, 0.54, -0.04, 0.19, 0.13, 0.17, -0.1, 0.06])

_OUTLOOK: Any = numba.from_dtype(OUTLOOK)

_ANGLES = 2.0 * np.pi * np.arange(HOURS_OF_DAY) / HOURS_OF_DAY
_DAILY_CYCLE = np.stack([np.sin(_ANGLES), np.cos(_ANGLES), np.sin(2.0 * _ANGLES), np.cos(2.0 * _ANGLES)], axis=1)


@compiled
def begin(row: Record) -> None:
    """A series nothing was learned of; the record is all zeros before."""
    for i in range(HOURS_OF_WEEK):
        row.hour_of_week[i] = math.nan
    begin_linear(row.seasonal_weights, row.seasonal_covariance, row.seasonal_error, _SEASONAL_PRIOR)
    begin_linear(row.short_weights, row.short_covariance, row.short_error, _SHORT_PRIOR)
    begin_linear(row.raw_weights, row.raw_covariance, row.raw_error, _RAW_PRIOR)
    begin_bounds(row)
    row.adopted_ago = -1


@compiled
def look(row: Record, setup: Record, slot: int, outlook: Record) -> None:
    """Fill in what is expected of the next hour, were it this slot of the week; the row stays as it is."""
    outlook.slot = slot
    _look_at_season(row, setup, slot, outlook)
    _look_at_lags(row, setup, slot, outlook)
    mix_experts(row, outlook)

    slow = row.slow_spread
    least = 1e-3 * slow + 1e-9 * row.largest + 1e-30  # what is told apart from none
    hour = slot % HOURS_OF_DAY
    count = row.day_count[hour]
    by_hour = (row.day_spread[hour] * count + 4.0 * slow) / (count + 4.0)
    usual = 0.5 * (row.quick_spread + slow) + least
    blind = 1.0 + _BLIND_GROWTH * min(row.silent, HOURS_OF_DAY)
    outlook.least = least
    # No surprise is cut to less than this; a series without any spread or level yet is not cut at all.
    grain = max(0.5 * slow, _GRAIN * row.level)
    outlook.grain = grain if grain > 0.0 else math.inf
    outlook.scales[0] = blind * usual
    outlook.scales[1] = blind * (disagreement(outlook) + _DISAGREEMENT_FLOOR * slow + least)
    outlook.scales[2] = blind * math.sqrt(usual * (by_hour + least))
    outlook.scales[3] = abs(outlook.location) + 0.1 * row.level + least
    bound_distances(row, setup, outlook)
    _publish(setup, outlook)


@compiled
def _look_at_season(row: Record, setup: Record, slot: int, outlook: Record) -> None:
    hour = slot % HOURS_OF_DAY
    day = float(row.hour_of_day[hour]) if row.day_count[hour] > 0 else float(row.averages[1])
    week = float(row.hour_of_week[slot])
    outlook.is_new_week = 1 if math.isnan(week) else 0
    if math.isnan(week):
        week = day
    outlook.week, outlook.day = week, day
    outlook.raw_week, outlook.raw_day = from_z(row, setup, week), from_z(row, setup, day)
    outlook.week_deviation = row.last - from_z(row, setup, row.week_before)
    outlook.day_deviation = row.last - from_z(row, setup, row.day_before)


@compiled
def _look_at_lags(row: Record, setup: Record, slot: int, outlook: Record) -> None:
    """Every expert's opinion, and the terms of the regressions among them."""
    known = row.hours
    last = row.last
    before_last = row.before_last if known > 1 else last
    yesterday = float(row.recent[(known - 24) % LAGS]) if known >= 24 else last
    yesterday_before = float(row.recent[(known - 25) % LAGS]) if known >= LAGS else yesterday

    mean = row.z_mean
    # While the spread is not known: a factor of e, or the level; never the logarithm of it, which depends on the unit.
    unit = z_unit(row, setup) if row.n_learned > 5 else 1.0 if setup.is_log else max(abs(mean), 1e-30)
    outlook.unit = unit
    z_last = _term(to_z(row, setup, last), mean, unit)
    z_before = _term(to_z(row, setup, before_last), mean, unit)
    z_yesterday = _term(to_z(row, setup, yesterday), mean, unit)
    z_week, z_day = _term(outlook.week, mean, unit), _term(outlook.day, mean, unit)
    z_slow, z_quick = _term(row.averages[0], mean, unit), _term(row.averages[2], mean, unit)

    terms = outlook.seasonal_terms
    terms[0], terms[1], terms[2], terms[3] = 1.0, z_last, z_before, z_day
    terms[4], terms[5], terms[6], terms[7] = z_yesterday, z_week, z_slow, z_quick
    cycle = _DAILY_CYCLE[slot % HOURS_OF_DAY]
    for i in range(4):
        terms[8 + i] = cycle[i]
    terms = outlook.short_terms
    terms[0], terms[1], terms[2], terms[3], terms[4] = 1.0, z_last, z_week, z_day, z_quick

    level, raw = row.raw_mean, raw_unit(row)
    outlook.raw_unit = raw
    terms = outlook.raw_terms
    terms[0], terms[1], terms[2] = 1.0, _term(last, level, raw), _term(before_last, level, raw)
    terms[3], terms[4] = _term(yesterday, level, raw), _term(outlook.raw_week, level, raw)
    terms[5], terms[6] = _term(outlook.raw_day, level, raw), _term(yesterday_before, level, raw)
    terms[7] = _term(from_z(row, setup, row.averages[1]), level, raw)

    predicted = outlook.regressions
    predicted[0] = predict_linear(row.seasonal_weights, outlook.seasonal_terms)
    predicted[1] = predict_linear(row.short_weights, outlook.short_terms)
    predicted[2] = predict_linear(row.raw_weights, outlook.raw_terms)

    top = 10.0 * row.largest
    bottom = 0.0 if setup.is_log else -top
    told = outlook.opinions
    told[0] = last
    told[1] = outlook.raw_day + _DAY_SHARE * outlook.day_deviation
    told[2] = outlook.raw_week + _WEEK_SHARE * outlook.week_deviation
    told[3] = yesterday + _YESTERDAY_SHARE * (last - yesterday_before)
    told[4] = from_z(row, setup, row.averages[2])
    told[5] = outlook.raw_week + _WEEK_SHARE_LOW * outlook.week_deviation
    told[6] = from_z(row, setup, predicted[0] * unit + mean)
    told[7] = from_z(row, setup, predicted[1] * unit + mean)
    told[8] = clip(predicted[2] * raw + level, bottom, top)


@compiled
def _term(value: float, mean: float, unit: float) -> float:
    return clip((value - mean) / unit, -_TERM_LARGEST, _TERM_LARGEST)


@compiled
def _publish(setup: Record, outlook: Record) -> None:
    """Location and bounds as they are said, inside what the metric can be.

    Two quantiles of one distribution do not cross; where those that are tracked apart do, in order they are never worse
    (Chernozhukov, Fernandez-Val, Galichon 2010, "Quantile and probability curves without crossing").
    """
    beyond, above, below = outlook.bounds[0], outlook.bounds[1], outlook.bounds[2]
    side = setup.sides[0]
    same = above if side > 0.0 else below
    if (beyond < same) == (setup.tails[0] < setup.tails[1]):
        beyond, same = same, beyond
    if side > 0.0:
        above = same
    else:
        below = same
    location = outlook.location + setup.base
    outlook.location = location
    location = clip(location, setup.lower, setup.upper)
    outlook.lower = clip(location - below, setup.lower, setup.upper)
    outlook.upper = clip(location + above, setup.lower, setup.upper)
    outlook.threshold = clip(location + side * beyond, setup.lower, setup.upper)


@compiled
def learn(row: Record, setup: Record, value: float, outlook: Record) -> None:
    """Learn the value of the hour that was just looked at, and move on to the next one; `value` is finite."""
    row.n_observed += 1
    if row.adopted_ago >= 0:
        row.adopted_ago += 1
    y = value - setup.base
    location = outlook.location - setup.base
    if _is_gross(row, setup, y, location, outlook):
        row.gross_run += 1
        row.gross_last = y
        if row.gross_run <= ADOPTED_AFTER:
            _pass(row, setup, outlook)
            return
        row.adopted_ago = 0
        # The new level has a grain of its own: cut by the former one's, its spread would take days to be learned.
        row.level = max(row.level, abs(y))
        outlook.grain = max(outlook.grain, _GRAIN * abs(y))
        row.adopted_ratio = clip(y / max(location, 1e-9 * row.largest + 1e-30), 0.0, 1e6) if setup.is_log else 0.0
    row.gross_run = 0
    row.n_learned += 1
    n = row.n_learned
    moved = settle_offset(row, y) if setup.is_log else 0.0
    outlook.week += moved
    outlook.day += moved
    z = to_z(row, setup, y)
    if n == 1:  # there was no season before, from which the first value could deviate
        outlook.week, outlook.day = z, z

    if n > _REGRESSION_AFTER:
        _learn_regressions(row, y, z, outlook)
    learn_experts(row, outlook, y)
    residual = y - location
    is_settled = n > _SETTLED_AFTER
    learn_bounds(row, setup, outlook, residual, row.slow_spread + outlook.least, is_settled)
    _learn_season(row, setup, z, outlook)
    _learn_moments(row, setup, y, z, outlook)
    _learn_spread(row, residual, outlook)
    for i in range(3):
        row.averages[i] += max(_AVERAGE_RATES[i], 1.0 / n) * (z - row.averages[i])
    size = abs(y)
    row.level += max(0.02, 1.0 / n) * (size - row.level)
    row.largest = max(row.largest, size)
    row.peak = max(row.peak * (1.0 - _PEAK_RATE), size)

    # Yesterday's hour is remembered no further out than a surprise may be.
    remembered = y
    if n > _GROSS_AFTER:
        reach = _REMEMBERED_AT * max(outlook.bounds[0], outlook.grain)
        remembered = clip(y, location - reach, location + reach)
    row.silent = 0
    _move_on(row, y, remembered, outlook)


@compiled
def skip(row: Record, setup: Record, hours: int) -> None:
    """Let hours without a value pass: each is taken as its season plus what is left of the last deviation."""
    outlook = np.zeros(1, _OUTLOOK)[0]
    for _ in range(hours):
        if row.n_observed == 0:
            row.slot = (row.slot + 1) % HOURS_OF_WEEK
            continue
        if row.adopted_ago >= 0:
            row.adopted_ago += 1
        _look_at_season(row, setup, row.slot, outlook)
        outlook.slot = row.slot
        _pass(row, setup, outlook)


@compiled
def _pass(row: Record, setup: Record, outlook: Record) -> None:
    imputed = 0.5 * (
        outlook.raw_week
        + _WEEK_SHARE_LOW * outlook.week_deviation
        + outlook.raw_day
        + _DAY_SHARE * outlook.day_deviation
    )
    if setup.is_log:
        imputed = max(imputed, 0.0)
    row.silent += 1
    _move_on(row, imputed, imputed, outlook)


@compiled
def _move_on(row: Record, value: float, remembered: float, outlook: Record) -> None:
    row.recent[row.hours % LAGS] = remembered
    row.before_last = row.last if row.hours > 0 else value
    row.last = value
    row.week_before, row.day_before = outlook.week, outlook.day
    row.hours += 1
    row.slot = (outlook.slot + 1) % HOURS_OF_WEEK


@compiled
def _is_gross(row: Record, setup: Record, y: float, location: float, outlook: Record) -> bool:
    if row.n_learned <= _GROSS_AFTER or row.level <= 0.0:
        return False
    outward = setup.sides[0] * (y - location)
    distance = max(outlook.bounds[0], outlook.grain, 0.2 * row.level)
    if row.gross_run > 0:
        return outward > distance and abs(y) > row.peak
    return outward > _GROSS_DISTANCES * distance and (setup.sides[0] < 0.0 or y > _GROSS_PEAKS * row.peak)


@compiled
def _learn_regressions(row: Record, y: float, z: float, outlook: Record) -> None:
    n = row.n_learned
    target = clip((z - row.z_mean) / outlook.unit, -_TARGET_LARGEST, _TARGET_LARGEST)
    raw_target = clip((y - row.raw_mean) / outlook.raw_unit, -_TARGET_LARGEST, _TARGET_LARGEST)
    predicted = outlook.regressions
    learn_linear(
        row.seasonal_weights, row.seasonal_covariance, row.seasonal_error,
        outlook.seasonal_terms, target - predicted[0], n, _SEASONAL_FORGETTING, _SEASONAL_CLIP,
    )  # fmt: skip
    learn_linear(
        row.short_weights, row.short_covariance, row.short_error,
        outlook.short_terms, target - predicted[1], n, _SHORT_FORGETTING, _SHORT_CLIP,
    )  # fmt: skip
    learn_linear(
        row.raw_weights, row.raw_covariance, row.raw_error,
        outlook.raw_terms, raw_target - predicted[2], n, _RAW_FORGETTING, _RAW_CLIP,
    )  # fmt: skip


@compiled
def _known_spread(spread: float, grain: float) -> float:
    """What influence is cut by: a series that was constant would else stay deaf for weeks to what it has become.

    One that never varied at all is not cut: the first change says more of its spread than its past does.
    """
    return max(spread, grain) if spread > 1e-6 * grain else math.inf


@compiled
def _learn_season(row: Record, setup: Record, z: float, outlook: Record) -> None:
    """The means learn z clipped to what is believable: an outage is not normal."""
    if row.n_learned > _SETTLED_AFTER:
        reach = _SEASON_CLIP * _known_spread(math.sqrt(row.z_variance), _GRAIN if setup.is_log else outlook.grain)
        z = clip(z, row.z_mean - reach, row.z_mean + reach)
    slot, hour = outlook.slot, outlook.slot % HOURS_OF_DAY
    weeks = min(row.hours // HOURS_OF_WEEK, 3)
    rate = max(_WEEK_RATE, 1.0 / (1.0 + weeks))
    row.hour_of_week[slot] = z if outlook.is_new_week else outlook.week + rate * (z - outlook.week)
    count = min(row.day_count[hour] + 1, 255)
    row.day_count[hour] = count
    row.hour_of_day[hour] = outlook.day + max(_DAY_RATE, 1.0 / count) * (z - outlook.day) if count > 1 else z


@compiled
def _learn_moments(row: Record, setup: Record, y: float, z: float, outlook: Record) -> None:
    rate = max(_MOMENT_RATE, 1.0 / row.n_learned)
    is_clipped = row.n_learned > 48
    step = z - row.z_mean
    if is_clipped:
        reach = _MOMENT_CLIP * _known_spread(math.sqrt(row.z_variance), _GRAIN if setup.is_log else outlook.grain)
        step = clip(step, -reach, reach)
    row.z_mean += rate * step
    row.z_variance += rate * ((1.0 - rate) * step * step - row.z_variance)
    step = y - row.raw_mean
    if is_clipped:
        reach = _MOMENT_CLIP * _known_spread(math.sqrt(row.raw_variance), outlook.grain)
        step = clip(step, -reach, reach)
    row.raw_mean += rate * step
    row.raw_variance += rate * ((1.0 - rate) * step * step - row.raw_variance)


@compiled
def _learn_spread(row: Record, residual: float, outlook: Record) -> None:
    n = row.n_learned
    size = abs(residual)
    slow = row.slow_spread
    if n > _GROSS_AFTER:
        size = min(size, _WINSORISED_AT * max(outlook.bounds[0], outlook.grain))
    if n > 100:
        size = min(size, max(6.0 * slow, outlook.grain))
    hour = outlook.slot % HOURS_OF_DAY
    rate = max(_DAY_SPREAD_RATE, 1.0 / row.day_count[hour])
    row.day_spread[hour] += rate * (size - row.day_spread[hour])
    row.slow_spread += max(_SPREAD_RATES[0], 1.0 / n) * (size - slow)
    row.quick_spread += max(_SPREAD_RATES[1], 1.0 / n) * (size - row.quick_spread)
