"""Histograms of many windows, added up from the bytes in which they are stored: a bin takes six.

The number of the bin, 16 bits, signed, and behind it how often something fell into it, 32 bits, both big-endian.
"""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled

Bytes = NDArray[np.uint8]
Whole = NDArray[np.int64]
Numbers = NDArray[np.float64]

_BIN_BYTES = 6
_SIGN = 1 << 15


@compiled
def range_of_bins(packed: Bytes) -> tuple[np.int64, np.int64]:
    """The lowest and the highest bin; (0, -1) where there is none."""
    lowest, highest = np.int64(_SIGN), np.int64(-_SIGN - 1)
    for at in range(0, len(packed) - _BIN_BYTES + 1, _BIN_BYTES):
        number = (np.int64(packed[at]) << 8 | np.int64(packed[at + 1])) ^ _SIGN
        number -= _SIGN
        if number < lowest:  # noqa: PLR1730 (of two kinds of whole numbers, which `min` does not know here)
            lowest = number
        if number > highest:  # noqa: PLR1730 (as above)
            highest = number
    return (lowest, highest) if lowest <= highest else (np.int64(0), np.int64(-1))


@compiled
def count_bins(packed: Bytes, sizes: Whole, lowest: int, width: int, events: Numbers) -> None:
    """Add the next `sizes[i]` bins to the `width` places of window i, of which the first is for the bin `lowest`."""
    at = 0
    for i in range(len(sizes)):
        begin = i * width - lowest
        for _ in range(sizes[i]):
            number = (np.int64(packed[at]) << 8 | np.int64(packed[at + 1])) ^ _SIGN
            count = np.int64(packed[at + 2]) << 24 | np.int64(packed[at + 3]) << 16
            count |= np.int64(packed[at + 4]) << 8 | np.int64(packed[at + 5])
            events[begin + number - _SIGN] += count
            at += _BIN_BYTES
