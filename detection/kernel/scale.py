"""Where a series is learned: z = log(value + offset) for what cannot be negative, the value itself for what can."""

import math

from detection.compiled import Record, compiled

OFFSET_SHARE = 0.04
PROVISIONAL_OFFSET = 1e-6
_LARGEST_LOG = 80.0
_TINY = 1e-300  # keeps the logarithm of zero finite
_LEAST_LOG_UNIT = 5e-3


@compiled
def clip(value: float, low: float, high: float) -> float:
    """The nearest value between the two."""
    return min(max(value, low), high)


@compiled
def to_z(row: Record, setup: Record, value: float) -> float:
    """The value, counted from the base, on the scale of the season."""
    if setup.is_log:
        return math.log(max(value, 0.0) + row.offset + _TINY)
    return value


@compiled
def from_z(row: Record, setup: Record, z: float) -> float:
    """The value of that z, no further out than ten times the largest value seen."""
    top = 10.0 * row.largest
    if setup.is_log:
        return clip(math.exp(min(z, _LARGEST_LOG)) - row.offset, 0.0, top)
    return clip(z, -top, top)


@compiled
def z_unit(row: Record, setup: Record) -> float:
    """Standard deviation of z, floored so that a constant series can be divided by it."""
    if setup.is_log:
        return max(math.sqrt(row.z_variance), _LEAST_LOG_UNIT)
    return max(math.sqrt(row.z_variance), 1e-6 * row.largest + 1e-30)


@compiled
def raw_unit(row: Record) -> float:
    """Standard deviation of the values, floored likewise."""
    return max(math.sqrt(row.raw_variance), 1e-3 * abs(row.raw_mean) + 1e-30)


@compiled
def settle_offset(row: Record, value: float) -> float:
    """Choose the offset at the first value above zero; returns by how much every z moves.

    It is a small share of that value. Until then only zeros were seen, so all that was learned moves alike.
    """
    if row.n_learned <= 1:
        row.offset = PROVISIONAL_OFFSET
    if row.has_offset or value <= 0.0:
        return 0.0
    row.has_offset = 1
    before = row.offset
    row.offset = OFFSET_SHARE * value
    if row.n_learned <= 1:
        return 0.0
    moved = math.log(row.offset / before)
    row.z_mean += moved
    for i in range(len(row.averages)):
        row.averages[i] += moved
    for i in range(len(row.hour_of_day)):
        row.hour_of_day[i] += moved
    for i in range(len(row.hour_of_week)):
        row.hour_of_week[i] += moved
    row.week_before += moved
    row.day_before += moved
    return moved
