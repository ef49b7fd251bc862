"""Bins of a gauge's values: a histogram that can be added to, exact in its bounds, within 1.6 % of each value.

32 bins to the octave, of equal width inside it: the exponent of two and the next five bits, as `latency_bin` does it
with two. The bin of a value is found without a logarithm, so that every machine finds the same. Values nearer to zero
than 2⁻³⁰ (about 10⁻⁹, the unit of the sums) are in bin 0; bins of negative values are negative: bins and values have
one order.
"""

import numpy as np
from numpy.typing import NDArray

PER_OCTAVE = 32
# The exponent, as frexp gives it, of the first octave above bin 0.
_FIRST_EXPONENT = -29
_SMALLEST = 2.0 ** (_FIRST_EXPONENT - 1)


def gauge_bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each value, which must be finite; within ±2560 for values up to 10¹⁵."""
    sizes = np.abs(values)
    fraction, exponent = np.frexp(sizes)
    step = np.floor((fraction - 0.5) * (2 * PER_OCTAVE)).astype(np.int64)
    magnitude = 1 + (exponent.astype(np.int64) - _FIRST_EXPONENT) * PER_OCTAVE + step
    return np.where(sizes < _SMALLEST, 0, np.where(values < 0, -magnitude, magnitude))


def value_of_bin(gauge_bin: int) -> float:
    """The middle of a bin: at most 1.6 % from every value in it.

    >>> value_of_bin(int(gauge_bins(np.array([12.76]))[0]))
    12.875
    """
    if gauge_bin == 0:
        return 0.0
    octave, step = divmod(abs(gauge_bin) - 1, PER_OCTAVE)
    middle = 2.0**octave * _SMALLEST * (1.0 + (step + 0.5) / PER_OCTAVE)
    return middle if gauge_bin > 0 else -middle
