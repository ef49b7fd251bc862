"""Percentiles of bins: as near as is promised, whatever was counted, and however it was cut into windows."""

import math
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.events import MAX_GAUGE
from detection.gauge_bins import gauge_bins, value_of_bin
from detection.windows import latency_bin, latency_bounds
from state.call_statistics import latency_percentiles
from state.percentiles import Bins, gauge_percentiles, nearest_ranks

# The smallest value that is told from zero, and what a bin promises.
TOLD_FROM_ZERO = 2.0**-30
GAUGE_ERROR = 1 / 64
LATENCY_ERROR = 1 / 9

gauges = st.one_of(
    st.floats(-MAX_GAUGE, MAX_GAUGE),
    st.floats(-1.0, 1.0),
    st.sampled_from([0.0, -0.0, 1e-9, -1e-9, 1.0, -1.0, MAX_GAUGE, -MAX_GAUGE]),
)
samples = st.lists(gauges, min_size=1, max_size=60)
shares = st.lists(st.floats(0.001, 1.0), min_size=1, max_size=5)
latencies = st.lists(st.integers(0, 3_600_000_000), min_size=1, max_size=60)


def packed(counts: Mapping[int, int]) -> Bins:
    """As `packed_bins` in PostgreSQL."""
    return Bins(b"".join(struct.pack(">hi", one, counts[one]) for one in sorted(counts)))


def sent(counts: Mapping[int, int]) -> Bins:
    """As elements of arrays are sent."""
    return Bins(
        None,
        b"".join(struct.pack(">ih", 2, one) for one in sorted(counts)),
        b"".join(struct.pack(">ii", 4, counts[one]) for one in sorted(counts)),
    )


@pytest.fixture(autouse=True, scope="module")
def _loaded() -> None:
    """The first call loads the compiled core, which takes longer than an example may."""
    gauge_percentiles([[packed({1: 1})]], [1.0], minima=[0.0], maxima=[1.0])


def binned(values: Sequence[float]) -> Counter[int]:
    return Counter(gauge_bins(np.array(values, np.float64)).tolist()) if values else Counter()


def percentiles(windows: Sequence[Sequence[float]], shares: Sequence[float]) -> list[tuple[float, ...]]:
    bins = [[packed(binned(one))] for one in windows]
    return gauge_percentiles(bins, shares, minima=list(map(min, windows)), maxima=list(map(max, windows)))


def exact(values: Sequence[float], share: float) -> float:
    """The smallest value that so many do not exceed, by its definition."""
    return min(one for one in values if sum(other <= one for other in values) >= share * len(values))


@given(samples, shares)
def test_a_percentile_of_bins_is_near_the_one_of_the_values(values: list[float], asked: list[float]) -> None:
    (found,) = percentiles([values], asked)
    for share, value in zip(asked, found, strict=True):
        assert math.isclose(value, exact(values, share), rel_tol=GAUGE_ERROR, abs_tol=TOLD_FROM_ZERO)


@given(samples, shares)
def test_the_ranks_of_values_that_are_counted_one_by_one_are_exact(values: list[float], asked: list[float]) -> None:
    ordered = np.array(sorted(values))
    found = nearest_ranks(ordered, np.ones(len(values), dtype=np.int64), asked)
    assert list(found) == [exact(values, share) for share in asked]


@given(samples, st.lists(st.integers(0, 3), min_size=60, max_size=60), shares)
def test_any_split_into_windows_adds_up_to_the_same(values: list[float], places: list[int], asked: list[float]) -> None:
    parts = [[value for value, place in zip(values, places, strict=False) if place == number] for number in range(4)]
    pieces = [
        packed(binned(parts[0])),
        Bins(packed(binned(parts[1])).packed, *sent(binned(parts[2]))[1:]),
        sent(binned(parts[3])),
    ]
    least, most = [min(values)], [max(values)]
    whole = percentiles([values], asked)
    assert gauge_percentiles([pieces], asked, minima=least, maxima=most) == whole
    joined = [Bins(*(b"".join(one or b"" for one in form) for form in zip(*pieces, strict=True)))]
    assert gauge_percentiles([joined], asked, minima=least, maxima=most) == whole


@given(st.lists(samples, min_size=1, max_size=8), shares)
def test_windows_that_are_asked_for_together_do_not_touch_each_other(
    windows: list[list[float]], asked: list[float]
) -> None:
    # More than are counted at once.
    many = windows * 40
    assert percentiles(many, asked) == [percentiles([one], asked)[0] for one in windows] * 40


@given(st.dictionaries(st.integers(-2560, 2560), st.integers(1, 2**31 - 1), min_size=1, max_size=9))
def test_counts_of_any_size_add_up_exactly(counts: dict[int, int]) -> None:
    pieces = [packed(counts), packed(counts), sent(counts)]
    asked = [Fraction(reached, sum(counts.values())) for reached in accumulate(counts[key] for key in sorted(counts))]
    (found,) = gauge_percentiles([pieces], list(map(float, asked)), minima=[-math.inf], maxima=[math.inf])
    for share, value in zip(map(float, asked), found, strict=True):
        rank = max(math.ceil(share * (3 * sum(counts.values()))), 1)
        reached = accumulate(3 * counts[key] for key in sorted(counts))
        first = next(key for key, so_far in zip(sorted(counts), reached, strict=True) if so_far >= rank)
        assert value == value_of_bin(first)


@given(latencies, shares)
def test_a_percentile_of_latencies_is_near_the_one_of_the_calls(values: list[int], asked: list[float]) -> None:
    bins = Counter(map(latency_bin, values))
    least, most, found = latency_percentiles(bins, asked)
    assert least <= min(values) / 1000 <= max(least * 1.25, 0.001)
    assert most >= max(values) / 1000 >= most / 1.25 - 0.001
    for share, value in zip(asked, found, strict=True):
        assert math.isclose(value, exact(values, share) / 1000, rel_tol=LATENCY_ERROR, abs_tol=0.001)


@pytest.mark.parametrize("key", [0, 4, 6, 8, 9, 31, 71, 120, 127])
def test_the_bounds_of_a_latency_bin_are_the_outermost_latencies_in_it(key: int) -> None:
    shortest, longest = latency_bounds(key)
    assert {latency_bin(shortest), latency_bin(longest)} == {key}
    assert latency_bin(longest + 1) > key
    assert key == 0 or latency_bin(shortest - 1) < key
