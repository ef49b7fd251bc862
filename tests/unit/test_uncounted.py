"""Arrays without their holders, in compiled code: what is read and written through them is the array's own."""

import numpy as np
import pytest
from numba.core.errors import TypingError
from numpy.typing import NDArray

from detection.compiled import compiled
from detection.kernel.uncounted import uncounted


@compiled
def reverse(numbers: NDArray[np.int64], turned: NDArray[np.int64]) -> int:
    """The size of both, of which the one then has the other's numbers in the opposite order."""
    size = len(numbers)
    numbers, turned = uncounted(numbers), uncounted(turned)
    for at in range(size):
        turned[at] = numbers[size - 1 - at]
    return size


@compiled
def first(octets: NDArray[np.uint8]) -> int:
    """The first of them."""
    found: int = uncounted(octets)[0]
    return found


def test_elements_are_read_and_written_where_the_array_has_them() -> None:
    room = np.zeros(9, np.int64)
    assert reverse(np.array([3, 1, 4, 1, 5]), room[2:7]) == 5
    assert room.tolist() == [0, 0, 5, 1, 4, 1, 3, 0, 0]
    assert first(np.frombuffer(b"abc", np.uint8)) == ord("a")


def test_an_array_whose_elements_are_not_side_by_side_is_refused() -> None:
    with pytest.raises(TypingError):
        reverse(np.arange(10)[::2], np.zeros(5, np.int64))
    with pytest.raises(TypingError):
        first(np.zeros((2, 2), np.uint8))
