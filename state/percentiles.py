"""Percentiles of what histograms count: of any number of windows together, without the values that were counted."""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detection.gauge_bins import value_of_bin
from detection.kernel.histograms import count_bins, range_of_bins

Ints = NDArray[np.int64]

# One bin as PostgreSQL's function `packed_bins` has it: `detection.kernel.histograms`.
_PACKED_BYTES = 6
# An element of an array of smallint, or of integer, as PostgreSQL sends it: its length, then itself.
_BIN = np.dtype([("length", ">i4"), ("number", ">i2")])
_COUNT = np.dtype([("length", ">i4"), ("number", ">i4")])

# No value that is taken has a bin beyond ±2560.
_OUTERMOST = 4096

_WINDOWS_AT_ONCE = 256


class Bins(NamedTuple):
    """Bins with their counts as PostgreSQL gives them, None for none: `packed`, or elements of two arrays.

    Several of one form put behind each other are one: to send and to read thousands one by one takes longer than
    everything else. A bin may be there more than once.
    """

    packed: bytes | None = None
    sent_bins: bytes | None = None
    sent_events: bytes | None = None


def nearest_ranks(values: NDArray[np.float64], counts: Ints, shares: Sequence[float]) -> tuple[float, ...]:
    """For each share (0..1], the smallest value that so many of the counted ones do not exceed; `values` ascend.

    Always a value that was counted, never one between two: PostgreSQL's `percentile_disc`.
    """
    reached = counts.cumsum()
    ranks = np.ceil(np.asarray(shares) * reached[-1])
    places = reached.searchsorted(np.maximum(ranks, 1.0))
    return tuple(values[places].tolist())


def gauge_percentiles(
    windows: Sequence[Sequence[Bins]], shares: Sequence[float], *, minima: Sequence[float], maxima: Sequence[float]
) -> list[tuple[float, ...]]:
    """As `nearest_ranks`, of the bins of each window, in any number of pieces: within 1.6 % of what was observed.

    Values nearer to zero than 10⁻⁹ are zero; none is beyond the window's smallest and largest.
    """
    found: list[tuple[float, ...]] = []
    at = 0
    while at < len(windows):
        # Every window has a place for each bin from the lowest to the highest of all: not of too many windows at once.
        chunk = slice(at, at + _WINDOWS_AT_ONCE)
        values = _chunk_percentiles(windows[chunk], np.asarray(shares))
        limited = np.clip(values, np.array(minima[chunk])[:, None], np.array(maxima[chunk])[:, None])
        found += map(tuple, limited.tolist())
        at += _WINDOWS_AT_ONCE
    return found


def _chunk_percentiles(windows: Sequence[Sequence[Bins]], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of N windows the values of S shares, N by S."""
    packed, packed_sizes = _packed(windows)
    sent = _sent(windows)
    ranges = [tuple(map(int, range_of_bins(packed)))]
    if len(sent.numbers):
        ranges.append((int(sent.numbers.min()), int(sent.numbers.max())))
    lowest = min(low for low, high in ranges if low <= high)
    width = max(high for low, high in ranges if low <= high) - lowest + 1
    # As floats: whole numbers up to 2⁵³ are exact.
    events = np.zeros(len(windows) * width)
    count_bins(packed, packed_sizes, lowest, width, events)
    places = np.repeat(np.arange(len(windows)) * width - lowest, sent.sizes) + sent.numbers
    events += np.bincount(places, weights=sent.counts, minlength=len(events))
    # One window's counts go on where those of the window before end: one search finds the ranks of all.
    reached = events.cumsum()
    ends = reached[width - 1 :: width]
    begins = np.concatenate(([0.0], ends[:-1]))
    ranks = np.maximum(np.ceil(shares * (ends - begins)[:, None]), 1.0) + begins[:, None]
    first = reached.searchsorted(ranks) - (np.arange(len(windows)) * width)[:, None]
    values: NDArray[np.float64] = _middles()[first + lowest + _OUTERMOST]
    return values


class _Sent(NamedTuple):
    """All bins that were sent as elements of arrays, their counts, and how many each window has."""

    numbers: Ints
    counts: NDArray[Any]
    sizes: Ints


def _packed(windows: Sequence[Sequence[Bins]]) -> tuple[NDArray[np.uint8], Ints]:
    """All packed bins, and how many each window has."""
    parts = [one.packed or b"" for pieces in windows for one in pieces]
    return np.frombuffer(b"".join(parts), np.uint8), _sizes(windows, parts, _PACKED_BYTES)


def _sent(windows: Sequence[Sequence[Bins]]) -> _Sent:
    parts = [one.sent_bins or b"" for pieces in windows for one in pieces]
    numbers = np.frombuffer(b"".join(parts), _BIN)["number"].astype(np.int64)
    counts = np.frombuffer(b"".join(one.sent_events or b"" for pieces in windows for one in pieces), _COUNT)["number"]
    return _Sent(numbers, counts, _sizes(windows, parts, _BIN.itemsize))


def _sizes(windows: Sequence[Sequence[Bins]], parts: Sequence[bytes], bin_bytes: int) -> Ints:
    """Of each window, how many bins its parts hold."""
    ends = np.cumsum([0, *(len(pieces) for pieces in windows)])
    before = np.cumsum([0, *(len(one) // bin_bytes for one in parts)])
    sizes: Ints = np.diff(before[ends])
    return sizes


@cache
def _middles() -> NDArray[np.float64]:
    """The value that stands for each bin, from the lowest to the highest."""
    return np.array([value_of_bin(one) for one in range(-_OUTERMOST, _OUTERMOST + 1)])
