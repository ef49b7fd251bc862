"""Moments of whole minutes as RFC 3339 writes them in UTC, `2026-01-05T09:00:00Z`, in machine code.

Dates are those of the Gregorian calendar from 1970 to 2099, in which every fourth year is a leap year.
"""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled

Octets = NDArray[np.uint8]

# Letters of a moment.
LENGTH = 20

_DAY_MINUTES = 1440
_FOUR_YEARS = 1461
_LAST_YEAR = 2099
_FEBRUARY = 1
_ZERO, _NINE = (ord(one) for one in "09")
# With digits where it has a 0, but for the seconds, which are none.
_FORM = np.frombuffer(b"0000-00-00T00:00:00Z", np.uint8)
_SECONDS = 17
_MONTH_DAYS = np.array([31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)


@compiled
def read_minute(text: Octets, at: int, stop: int) -> int:
    """The minute since the epoch that begins at this moment; -1 for anything else."""
    if stop - at < LENGTH:
        return -1
    for one in range(LENGTH):
        octet = text[at + one]
        if _FORM[one] == _ZERO and not _SECONDS <= one <= _SECONDS + 1:
            if not _ZERO <= octet <= _NINE:
                return -1
        elif octet != _FORM[one]:
            return -1
    year = 100 * _two(text, at) + _two(text, at + 2)
    month, day = _two(text, at + 5), _two(text, at + 8)
    hour, minute = _two(text, at + 11), _two(text, at + 14)
    if not (1970 <= year <= _LAST_YEAR and 1 <= month <= 12 and hour < 24 and minute < 60):
        return -1
    leap = 1 if year % 4 == 0 else 0
    if not 1 <= day <= _MONTH_DAYS[month - 1] + leap * (month - 1 == _FEBRUARY):
        return -1
    days = 365 * (year - 1970) + (year - 1969) // 4 + day - 1
    for one in range(month - 1):
        days += _MONTH_DAYS[one] + leap * (one == _FEBRUARY)
    return _DAY_MINUTES * days + 60 * hour + minute


@compiled
def put_minute(text: Octets, at: int, minute: int) -> int:
    """Write the moment at which this minute since the epoch begins, and return the place behind it."""
    days, rest = minute // _DAY_MINUTES, minute % _DAY_MINUTES
    # From 1968 on, a leap year, whose first two years are 731 days.
    cycles, day = (days + 731) // _FOUR_YEARS, (days + 731) % _FOUR_YEARS
    leap = 1 if day < 366 else 0
    year = 1968 + 4 * cycles
    if not leap:
        year += (day - 1) // 365
        day = (day - 1) % 365
    month = 0
    while day >= _MONTH_DAYS[month] + leap * (month == _FEBRUARY):
        day -= _MONTH_DAYS[month] + leap * (month == _FEBRUARY)
        month += 1
    for one in range(LENGTH):
        text[at + one] = _FORM[one]
    _put_two(text, at, year // 100)
    _put_two(text, at + 2, year % 100)
    _put_two(text, at + 5, month + 1)
    _put_two(text, at + 8, day + 1)
    _put_two(text, at + 11, rest // 60)
    _put_two(text, at + 14, rest % 60)
    return at + LENGTH


@compiled
def _two(text: Octets, at: int) -> int:
    return _ZERO * -11 + 10 * text[at] + text[at + 1]


@compiled
def _put_two(text: Octets, at: int, number: int) -> None:
    text[at] = _ZERO + number // 10
    text[at + 1] = _ZERO + number % 10
