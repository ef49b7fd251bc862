"""What was published of an hour, in the few numbers that its minutes are judged by."""

import math

import numpy as np
from numpy.typing import NDArray

from detection.compiled import Record, compiled
from detection.kernel import counts
from detection.kernel.bank import Records
from detection.kernel.row import HOURS_OF_DAY, HOURS_OF_WEEK, MEAN, RATIO
from detection.kernel.scale import from_z
from detection.kernel.series import READY_AFTER

Whole = NDArray[np.int64]

# What was published of one series for one hour, as the minutes in it are judged. `location` is the expected mean,
# failed share or number of calls of the hour, `before` that of the hour before it; a location of NaN judges nothing.
# `reach` is how much the hour's own level varies: for a latency the way to its threshold, for a rate the
# over-dispersion, for calls the relative variance of an hour. `noise` is the relative standard deviation of a minute's
# level from the location, beyond what sampling explains. `spread` is the standard deviation of one call's latency
# relative to the mean; for calls those that were missed in whole silent hours.
NORMAL = np.dtype(
    [
        ("hour", "<i8"),
        ("location", "<f8"),
        ("before", "<f8"),
        ("reach", "<f8"),
        ("spread", "<f8"),
        ("noise", "<f8"),
    ]
)

# A location is at most so many times what is usual at that hour, or the rate of the last weeks.
_SEASON_SHARE = 1.25
_SLOW_RATES = 1.3
# Of the number of calls of an hour: weekends and holidays are not learned.
_LEAST_VARIANCE = 0.1
# Share of the days on which an hour has calls, for their absence to mean anything.
_USUAL = 0.7


@compiled
def describe_live(
    rows: Records, setups: Records, kinds: Whole, slots: Whole, answers: Records, normals: Records, silences: Records
) -> None:
    """Fill in normal i from what answer i expects of an hour in slot i, and of a rate also the calls (`silences`).

    Only `location` and `reach`: what else there is is learned from minutes. A forecaster that follows an incident does
    not make it normal: no latency is expected to be a quarter above what is usual at that hour, unless the slow level
    is there too, and no rate to be a third above that of the last weeks.
    """
    for i in range(len(rows)):
        row, setup, answer = rows[i], setups[kinds[i]], answers[i]
        normals[i].location = normals[i].reach = math.nan
        silences[i].location = silences[i].reach = math.nan
        if row.n_learned < READY_AFTER:
            continue
        if setup.kind == MEAN:
            highest = max(row.reference_level, _SEASON_SHARE * _season(row, setup, slots[i]))
            normals[i].location = min(answer.location, highest)
            normals[i].reach = max(answer.threshold - answer.location, 0.0)
        elif setup.kind == RATIO:
            rate, unknown = counts.expected_rate(row, answer.location / 100.0)
            rho = counts.overdispersion(row)
            normals[i].location = min(rate, _SLOW_RATES * row.failed_slow / row.calls_slow)
            normals[i].reach = rho + (1.0 - rho) * unknown
            hour = slots[i] % HOURS_OF_DAY
            expected, deviation = counts.expected_calls(row, hour)
            if _is_usual(row, slots[i]):
                silences[i].location = expected
                silences[i].reach = max((deviation / expected) ** 2 - 1.0 / expected, _LEAST_VARIANCE)


@compiled
def _season(row: Record, setup: Record, slot: int) -> float:
    """What is usual at this hour of the day, or of the week where that is more."""
    hour = slot % HOURS_OF_DAY
    day = row.hour_of_day[hour] if row.day_count[hour] > 0 else row.averages[1]
    week = row.hour_of_week[slot]
    usual = day if math.isnan(week) or week < day else week
    return float(from_z(row, setup, float(usual)))


@compiled
def _is_usual(row: Record, slot: int) -> bool:
    """Whether there are calls in this hour of the day and week, as a rule: where nobody calls nothing is missed."""
    hour = slot % HOURS_OF_DAY
    most = 0
    for other in range(HOURS_OF_DAY):
        most = max(most, row.day_count[other])
    is_known = row.hours < 2 * HOURS_OF_WEEK or not math.isnan(row.hour_of_week[slot])
    # An hour that the current day has not reached yet has had one day less than others.
    return is_known and row.day_count[hour] >= _USUAL * (most - 1)
