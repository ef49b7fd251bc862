"""What calls came to by subject and hour or minute, as columns, and each subject's part of them as windows."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.windows import CallWindow

Int64s = NDArray[np.int64]

# Squares of microseconds are summed in parts: the squares of a few calls of an hour each would fill an int64.
HALF_BITS = 16


@dataclass(frozen=True, slots=True)
class WindowColumns:
    """Rows by subject and window: which hour or minute since the epoch (N), and the sums (SUMS, N) of its calls.

    The latencies of row i are counted in the bins `bin_number`, ascending, as `bin_count` from `bin_at[i]` to
    `bin_at[i + 1]`; nobody asks for those of minutes, which have none.
    """

    moment: Int64s
    sums: Int64s
    bin_at: Int64s
    bin_number: Int64s
    bin_count: Int64s

    @classmethod
    def without_bins(cls, moment: Int64s, sums: Int64s) -> "WindowColumns":
        """Of these windows."""
        nothing = np.empty(0, np.int64)
        return cls(moment, sums, np.zeros(len(moment) + 1, np.int64), nothing, nothing)

    def window(self, row: int) -> CallWindow:
        """A new one of the row."""
        calls, errors, timeouts, latency_us, high, mixed, low = self.sums[:, row].tolist()
        squares = (high << 2 * HALF_BITS) + (mixed << HALF_BITS + 1) + low
        begin, end = self.bin_at[row : row + 2].tolist()
        numbers, counts = self.bin_number[begin:end].tolist(), self.bin_count[begin:end].tolist()
        return CallWindow(calls, errors, timeouts, latency_us, squares, dict(zip(numbers, counts, strict=True)))


@dataclass(slots=True, eq=False)
class CountedWindows(Mapping[int, CallWindow]):
    """One subject's rows, oldest first; each window is made when it is asked for, and whoever asks has it alone."""

    columns: WindowColumns
    begin: int
    end: int

    def __getitem__(self, moment: int) -> CallWindow:
        at = bisect_left(self.columns.moment, moment, self.begin, self.end)
        if at == self.end or self.columns.moment[at] != moment:
            raise KeyError(moment)
        return self.columns.window(at)

    def __iter__(self) -> Iterator[int]:
        return iter(self.columns.moment[self.begin : self.end].tolist())

    def __len__(self) -> int:
        return self.end - self.begin
