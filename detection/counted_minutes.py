"""What calls came to by subject and minute, as columns, and each subject's part of them as windows."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.windows import CallWindow

Int64s = NDArray[np.int64]

# Squares of microseconds are summed in parts: the squares of a few calls of an hour each would fill an int64.
HALF_BITS = 16


def window_of(sums: list[int]) -> CallWindow:
    """The window of one column of the sums of `detection.kernel.minute_text`, without bins."""
    calls, errors, timeouts, latency_us, high, mixed, low = sums
    squares = (high << 2 * HALF_BITS) + (mixed << HALF_BITS + 1) + low
    return CallWindow(calls, errors, timeouts, latency_us, squares)


@dataclass(frozen=True, slots=True)
class MinuteColumns:
    """Rows by subject and minute: the minute since the epoch (N), and the sums (SUMS, N) of its calls."""

    minute: Int64s
    sums: Int64s


@dataclass(frozen=True, slots=True)
class CountedMinutes(Mapping[int, CallWindow]):
    """One subject's rows, oldest first; each window is made when it is asked for, and whoever asks has it alone."""

    columns: MinuteColumns
    begin: int
    end: int

    def __getitem__(self, minute: int) -> CallWindow:
        at = bisect_left(self.columns.minute, minute, self.begin, self.end)
        if at == self.end or self.columns.minute[at] != minute:
            raise KeyError(minute)
        return window_of(self.columns.sums[:, at].tolist())

    def __iter__(self) -> Iterator[int]:
        return iter(self.columns.minute[self.begin : self.end].tolist())

    def __len__(self) -> int:
        return self.end - self.begin
