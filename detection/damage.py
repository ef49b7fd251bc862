"""Records of series that nobody can have learned: what compiled code must never be given.

Compiled code checks no index, a count of hours is how often it goes round, and one NaN becomes all that a series says.
A record that is damaged on its way, or was written to by hand, is therefore refused before anything is made of it.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detection.events import NEWEST_MS
from detection.hours import HOUR_MS
from detection.kernel.bank import Records
from detection.kernel.row import HOURS_OF_WEEK, ROW

# Beyond it values are cut, and their squares are what is largest of all that is stored: half as many digits again.
_LARGEST: Final = 1e90
# More hours than there are from 1970 to the last event that is taken.
_HOURS: Final = 1 << 21
_COUNTERS: Final = ("n_observed", "n_learned", "hours", "silent", "n_before", "judged", "n_settled", "adopted_ago")
_UNSEEN: Final = "hour_of_week"  # NaN where the hour was not seen yet


def damaged(rows: Records) -> NDArray[np.bool_]:
    """For each record, whether it is none that was learned."""
    found = (rows["slot"] < 0) | (rows["slot"] >= HOURS_OF_WEEK) | (rows["creep_weekday"] > 6) | (rows["is_signed"] > 1)
    found |= (rows["next_hour"] < 0) | (rows["next_hour"] > NEWEST_MS // HOUR_MS) | (rows["gross_run"] < 0)
    data = rows.view(np.uint8).reshape(len(rows), ROW.itemsize)
    counters = _gathered(data, _AT_COUNTERS, "<i4")
    # The last of them is -1 before there was anything to count from.
    found |= ((counters < _LEAST) | (counters > _HOURS)).any(axis=1)
    # The sum of numbers is one, unless one of them is none.
    with np.errstate(over="ignore", invalid="ignore"):
        found |= ~np.isfinite(_gathered(data, _AT_SINGLES, "<f4").sum(axis=1))
    found |= ~(np.abs(_gathered(data, _AT_DOUBLES, "<f8")) <= _LARGEST).all(axis=1)
    found |= np.isinf(_gathered(data, _AT_UNSEEN, "<f4")).any(axis=1)
    return np.asarray(found, np.bool_)


def _gathered(data: NDArray[np.uint8], places: NDArray[np.int64], kind: str) -> NDArray[Any]:
    """The numbers that begin at these bytes, in a row of their own for each record."""
    return np.take(data, places, axis=1).view(kind)


def _places(kind: str, names: tuple[str, ...]) -> NDArray[np.int64]:
    """The bytes of all numbers of that kind in these fields, in their order."""
    found: list[int] = []
    fields: dict[str, Any] = dict(ROW.fields or {})
    for name in names:
        field, place = fields[name][:2]
        if (field.subdtype or (field,))[0] == np.dtype(kind):
            found += range(place, place + field.itemsize)
    return np.array(found, np.int64)


_OTHERS: Final = tuple(name for name in ROW.names or () if name != _UNSEEN)
_AT_SINGLES: Final = _places("<f4", _OTHERS)
_AT_DOUBLES: Final = _places("<f8", _OTHERS)
_AT_UNSEEN: Final = _places("<f4", (_UNSEEN,))
_AT_COUNTERS: Final = _places("<i4", _COUNTERS)
_LEAST: Final = np.array([0] * (len(_COUNTERS) - 1) + [-1])
