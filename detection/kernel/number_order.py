"""Places in the order of small numbers: counting sort (Knuth, The Art of Computer Programming, vol. 3, section 5.2)."""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled


@compiled
def order_by_number(numbers: NDArray[np.int32], ends: NDArray[np.int64], order: NDArray[np.int32]) -> None:
    """Put the places of N numbers, 0 to K - 1, into `order` (N), those of the same number as they stand.

    Those of number i are then in `order` from `ends[i - 1]`, or the beginning, to `ends[i]`; `ends` has K places.
    """
    ends[:] = 0
    for number in numbers:
        ends[number] += 1
    begin = 0
    for i in range(len(ends)):
        count = ends[i]
        # For now where the next one of this number goes: behind the last it will be the end.
        ends[i] = begin
        begin += count
    for place in range(len(numbers)):
        number = numbers[place]
        order[ends[number]] = place
        ends[number] += 1
