"""Numbers as JSON writes them (RFC 8259), in machine code, to about as many digits as a double has.

Who needs the last one asks Python: a quotient, or a product, of two doubles is all that is made of the digits.
"""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled

Octets = NDArray[np.uint8]

_TOO_LARGE = 10**17
_LARGEST_POWER = 99
_POWERS_OF_TEN = np.array([float(f"1e{power}") for power in range(_LARGEST_POWER + 1)])
_DOT, _MINUS, _PLUS, _ZERO, _NINE, _LOWER_E, _UPPER_E = (ord(one) for one in ".-+09eE")


@compiled
def read_real(text: Octets, at: int, stop: int) -> float:
    """A number of JSON, to some 15 digits; NaN for anything else, and for one with too many digits or zeros."""
    sign = 1.0
    if at < stop and text[at] == _MINUS:
        sign = -1.0
        at += 1
    first = at
    number, at = _digits(text, first, stop, 0)
    if number < 0 or at == first or (text[first] == _ZERO and at - first > 1):
        return np.nan
    power = 0
    if at < stop and text[at] == _DOT:
        first = at + 1
        number, at = _digits(text, first, stop, number)
        power = first - at
        if number < 0 or power == 0:
            return np.nan
    if at < stop and (text[at] == _LOWER_E or text[at] == _UPPER_E):
        exponent, at = _exponent(text, at + 1, stop)
        power += exponent
    if at != stop or not -_LARGEST_POWER <= power <= _LARGEST_POWER:
        return np.nan
    return sign * (number * _POWERS_OF_TEN[power] if power >= 0 else number / _POWERS_OF_TEN[-power])


@compiled
def _exponent(text: Octets, at: int, stop: int) -> tuple[int, int]:
    """The number, and the place behind it, which is -1 where none is here."""
    is_negative = at < stop and text[at] == _MINUS
    if at < stop and (text[at] == _MINUS or text[at] == _PLUS):
        at += 1
    number, behind = _digits(text, at, stop, 0)
    if number < 0 or behind == at:
        return 0, -1
    return (-number if is_negative else number), behind


@compiled
def _digits(text: Octets, at: int, stop: int, number: int) -> tuple[int, int]:
    """The number that goes on with the digits here, -1 where it becomes too large, and the place behind them."""
    while at < stop and _ZERO <= text[at] <= _NINE:
        number = 10 * number + text[at] - _ZERO
        at += 1
        if number >= _TOO_LARGE:
            return -1, at
    return number, at
