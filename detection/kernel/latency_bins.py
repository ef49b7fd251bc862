"""Latencies of calls counted by bin (`detection.windows.latency_bin`), many windows at a time."""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled
from detection.kernel.window_text import BINS

Whole = NDArray[np.int64]


@compiled
def count_bins(
    latency_us: Whole, is_answered: NDArray[np.bool_], starts: Whole, bin_at: Whole, number: Whole, count: Whole
) -> None:
    """Count the answered of N calls by bin in each of M runs, the i-th of which begins at `starts[i]`.

    What run i comes to is then in `number` and `count` (N), by rising number, from `bin_at[i]` to `bin_at[i + 1]`.
    """
    bins = np.zeros(BINS, np.int64)
    size = 0
    for i in range(len(starts)):
        bin_at[i] = size
        stop = starts[i + 1] if i + 1 < len(starts) else len(latency_us)
        lowest, highest = BINS, -1
        for one in range(starts[i], stop):
            if is_answered[one]:
                found = _bin_of(latency_us[one])
                bins[found] += 1
                lowest, highest = min(lowest, found), max(highest, found)
        for found in range(lowest, highest + 1):
            if bins[found]:
                number[size], count[size] = found, bins[found]
                size += 1
                bins[found] = 0
    bin_at[len(starts)] = size


@compiled
def _bin_of(latency_us: int) -> int:
    if latency_us <= 0:
        return 0
    exponent = 0
    rest = latency_us
    for step in (32, 16, 8, 4, 2, 1):
        if rest >> step:
            rest >>= step
            exponent += step
    return 4 * exponent + ((latency_us << 2 >> exponent) & 3)
