"""Percentiles of what histograms count: of any number of windows together, without the values that were counted."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from detection.gauge_bins import value_of_bin

Ints = NDArray[np.int64]

# An element of an array of smallint, or of integer, as PostgreSQL sends it: its length, then itself.
_BIN = np.dtype([("length", ">i4"), ("number", ">i2")])
_COUNT = np.dtype([("length", ">i4"), ("number", ">i4")])

# No value that is taken has a bin beyond ±2560.
_OUTERMOST = 4096


def nearest_ranks(values: NDArray[np.float64], counts: Ints, shares: Sequence[float]) -> tuple[float, ...]:
    """For each share (0..1], the smallest value that so many of the counted ones do not exceed; `values` ascend.

    Always a value that was counted, never one between two: PostgreSQL's `percentile_disc`.
    """
    reached = counts.cumsum()
    ranks = np.ceil(np.asarray(shares) * reached[-1])
    places = reached.searchsorted(np.maximum(ranks, 1.0))
    return tuple(values[places].tolist())


def gauge_percentiles(
    counted: tuple[Ints, Ints], shares: Sequence[float], *, minimum: float, maximum: float
) -> tuple[float, ...]:
    """As `nearest_ranks`, of bins and their counts, and within 1.6 % of the value that was observed.

    Values nearer to zero than 10⁻⁹ are zero; none is beyond the smallest and the largest that were observed.
    """
    bins, counts = counted
    return tuple(
        min(max(one, minimum), maximum) for one in nearest_ranks(_middles()[bins + _OUTERMOST], counts, shares)
    )


def merged(bins: bytes, counts: bytes) -> tuple[Ints, Ints]:
    """The bins, ascending, and the counts of one or more windows, whose arrays the database has put together.

    Each is what `sent_bins` and `sent_events` in the database give: to send and to read thousands of arrays one by one
    takes longer than everything else.
    """
    numbers = np.frombuffer(bins, _BIN)["number"].astype(np.int64)
    lowest = int(numbers.min())
    # As floats: whole numbers up to 2⁵³ are exact.
    events = np.bincount(numbers - lowest, weights=np.frombuffer(counts, _COUNT)["number"])
    (found,) = events.nonzero()
    return found + lowest, events[found].astype(np.int64)


@cache
def _middles() -> NDArray[np.float64]:
    """The value that stands for each bin, from the lowest to the highest."""
    return np.array([value_of_bin(one) for one in range(-_OUTERMOST, _OUTERMOST + 1)])
