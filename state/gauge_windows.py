"""Observation events as columns, and the additive windows that they come to."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.gauge_bins import gauge_bins
from detection.windows import NANO

Int64s = NDArray[np.int64]
Floats = NDArray[np.float64]

# Sums below this are whole 64-bit numbers, whatever the order of their terms.
_SAFE_SUM = 2.0**62
# A bin's number lies within ±2^12.
_BINS = 1 << 13


@dataclass(frozen=True, slots=True)
class Rows:
    """One value of one metric of one event to a row; codes are those of the texts they stand for.

    `series` numbers subject and metric together, in the order of their texts.
    """

    series: Int64s
    label_set: Int64s
    at_ms: Int64s
    value: Floats

    def sorted_order(self) -> Int64s:
        """By series, then time, then value: so that the last of a window is its newest, the greatest of several."""
        return np.lexsort((self.value, self.at_ms, self.series))


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows by series, start and label set, in this order; `bin` and `events` of window n end at `bin_ends[n]`."""

    series: Int64s
    start_ms: Int64s
    label_set: Int64s
    count: Int64s
    # Whole numbers of any size: NumPy's of 64 bits where they suffice, Python's where not.
    sum_nano: NDArray[Any]
    minimum: Floats
    maximum: Floats
    last: Floats
    last_ms: Int64s
    bin: Int64s
    events: Int64s
    bin_ends: Int64s


def windows_of(rows: Rows, *, span_ms: int) -> Windows:
    """What these rows, sorted, come to in windows of this span; there must be at least one."""
    start = rows.at_ms // span_ms
    # Stable sorts: within a window rows keep their order in time.
    order = np.lexsort((rows.label_set, start, rows.series))
    series, start, label_set = rows.series[order], start[order], rows.label_set[order]
    at_ms, value = rows.at_ms[order], rows.value[order]
    is_new = np.ones(len(order), np.bool_)
    is_new[1:] = (series[1:] != series[:-1]) | (start[1:] != start[:-1]) | (label_set[1:] != label_set[:-1])
    begin = np.flatnonzero(is_new)
    end = np.append(begin[1:], len(order))
    window = np.cumsum(is_new) - 1
    bins, events = np.unique(window * _BINS + gauge_bins(value) + _BINS // 2, return_counts=True)
    return Windows(
        series=series[begin],
        start_ms=start[begin] * span_ms,
        label_set=label_set[begin],
        count=end - begin,
        sum_nano=_sums(value, begin),
        minimum=np.minimum.reduceat(value, begin),
        maximum=np.maximum.reduceat(value, begin),
        last=value[end - 1],
        last_ms=at_ms[end - 1],
        bin=bins % _BINS - _BINS // 2,
        events=events.astype(np.int64),
        bin_ends=np.searchsorted(bins, np.arange(1, len(begin) + 1) * _BINS),
    )


def _sums(value: Floats, begin: Int64s) -> NDArray[Any]:
    """Each value rounded to a whole number of 10⁻⁹, and those added: exact, however large."""
    nano = np.rint(value * NANO)
    if float(np.abs(nano).max()) * len(nano) < _SAFE_SUM:
        return np.add.reduceat(nano.astype(np.int64), begin)
    whole = np.empty(len(nano), np.object_)
    whole[:] = [int(one) for one in nano.tolist()]
    return np.asarray(np.add.reduceat(whole, begin), np.object_)
