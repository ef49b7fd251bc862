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

_WINDOWS_AT_ONCE = 256


def nearest_ranks(values: NDArray[np.float64], counts: Ints, shares: Sequence[float]) -> tuple[float, ...]:
    """For each share (0..1], the smallest value that so many of the counted ones do not exceed; `values` ascend.

    Always a value that was counted, never one between two: PostgreSQL's `percentile_disc`.
    """
    reached = counts.cumsum()
    ranks = np.ceil(np.asarray(shares) * reached[-1])
    places = reached.searchsorted(np.maximum(ranks, 1.0))
    return tuple(values[places].tolist())


def gauge_percentiles(
    bins: Sequence[bytes],
    counts: Sequence[bytes],
    shares: Sequence[float],
    *,
    minima: Sequence[float],
    maxima: Sequence[float],
) -> list[tuple[float, ...]]:
    """As `nearest_ranks`, of the bins of each of N windows and their counts: within 1.6 % of what was observed.

    `bins` and `counts` are what `sent_bins` and `sent_events` in the database give, put together where a window is the
    sum of smaller ones: to send and to read thousands of arrays one by one takes longer than everything else. Values
    nearer to zero than 10⁻⁹ are zero; none is beyond the window's smallest and largest.
    """
    found: list[tuple[float, ...]] = []
    at = 0
    while at < len(bins):
        # Every window has a place for each bin from the lowest to the highest of all: not of too many windows at once.
        chunk = slice(at, at + _WINDOWS_AT_ONCE)
        values = _chunk_percentiles(bins[chunk], counts[chunk], np.asarray(shares))
        limited = np.clip(values, np.array(minima[chunk])[:, None], np.array(maxima[chunk])[:, None])
        found += map(tuple, limited.tolist())
        at += _WINDOWS_AT_ONCE
    return found


def _chunk_percentiles(
    bins: Sequence[bytes], counts: Sequence[bytes], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Of N windows the values of S shares, N by S."""
    numbers = np.frombuffer(b"".join(bins), _BIN)["number"].astype(np.int64)
    sizes = np.array([len(one) // _BIN.itemsize for one in bins])
    lowest = int(numbers.min())
    width = int(numbers.max()) - lowest + 1
    places = np.repeat(np.arange(len(bins)) * width, sizes) + (numbers - lowest)
    # As floats: whole numbers up to 2⁵³ are exact.
    events = np.bincount(places, weights=np.frombuffer(b"".join(counts), _COUNT)["number"], minlength=len(bins) * width)
    # One window's counts go on where those of the window before end: one search finds the ranks of all.
    reached = events.cumsum()
    ends = reached[width - 1 :: width]
    begins = np.concatenate(([0.0], ends[:-1]))
    ranks = np.maximum(np.ceil(shares * (ends - begins)[:, None]), 1.0) + begins[:, None]
    first = reached.searchsorted(ranks) - (np.arange(len(bins)) * width)[:, None]
    values: NDArray[np.float64] = _middles()[first + lowest + _OUTERMOST]
    return values


@cache
def _middles() -> NDArray[np.float64]:
    """The value that stands for each bin, from the lowest to the highest."""
    return np.array([value_of_bin(one) for one in range(-_OUTERMOST, _OUTERMOST + 1)])
