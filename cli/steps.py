"""A column as steps in time: one step an hour, or whole days where a series is long."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from cli.trace import Floats, Hours

HOURS_A_DAY = 24

# So many hours can be told apart in the width of a picture; and so many days.
_MOST_HOURS = 2400
_MOST_DAYS = 1200


def pace_of(hours: Hours) -> int:
    """How many hours share a step.

    One, or whole days: over months, the daily season of the lines would fill the picture, and its range says as much.
    """
    span = int(hours[-1]) - int(hours[0]) + 1
    return 1 if span <= _MOST_HOURS else HOURS_A_DAY * math.ceil(span / HOURS_A_DAY / _MOST_DAYS)


@dataclass(frozen=True, slots=True)
class Steps:
    """Each step lasts from its day (since the epoch, UTC) to the next one's; not a number where nothing is known.

    Hours that share a step keep the least, the mean and the most of them: no peak is lost to the width of the picture.
    """

    days: Floats
    least: Floats
    mean: Floats
    most: Floats

    @classmethod
    def of(cls, hours: Hours, numbers: Floats, pace: int) -> Self:
        """Steps of `pace` hours; `hours` ascend."""
        step = hours // pace
        starts = np.flatnonzero(np.diff(step, prepend=step[0] - 1))
        step = step[starts]
        # Each run of steps is closed by the end of its last one, after which nothing is known.
        last = np.append(np.flatnonzero(np.diff(step) > 1), step.size - 1)
        ends, is_unknown = np.repeat(last + 1, 2), np.tile([False, True], last.size)

        def closed(column: Floats) -> Floats:
            return np.insert(column, ends, np.where(is_unknown, np.nan, np.repeat(column[last], 2)))

        return cls(
            days=np.insert(step, ends, np.repeat(step[last] + 1, 2)).astype(np.float64) * pace / HOURS_A_DAY,
            least=closed(np.minimum.reduceat(numbers, starts)),
            mean=closed(np.add.reduceat(numbers, starts) / np.diff(starts, append=numbers.size)),
            most=closed(np.maximum.reduceat(numbers, starts)),
        )
