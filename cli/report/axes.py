"""Where values and times are in a picture, and which of them are written beside it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Self

import numpy as np

from cli.report.text import tick
from cli.trace import Floats, Trace

# Above this ratio of the highest to the typical value, the typical ones are a flat line on a linear axis.
_STEEPEST_LINEAR = 20.0
# What is said of a series may take this many times the height that its values take, above them and below.
_ROOM = 1.0
_MOST_TICKS = 6
# Where zero and small values lie, in units of the smallest typical value, a logarithm is bent into a line.
_BEND = 0.5

_DAYS = (1, 2, 7, 14)
_MONTHS = (1, 2, 3, 6, 12, 24, 60)
_MOST_LABELS = 10


@dataclass(frozen=True, slots=True)
class Axis:
    """The scale of values: linear, or where `bend` is above 0 the inverse hyperbolic sine of value / bend.

    That is a logarithm far from zero, and has a place for zero.
    """

    bottom: float
    top: float
    bend: float

    @classmethod
    def of(cls, trace: Trace) -> Self:
        """Every observed value is inside; a threshold or band may leave the picture where it lies far from them all."""
        bottom, top = float(trace.values.min()), float(trace.values.max())
        judged = trace.is_judged if trace.is_judged.any() else np.ones_like(trace.is_judged)
        said = np.concatenate([trace.lowers[judged], trace.uppers[judged], trace.thresholds[judged]])
        said = said[np.isfinite(said)]
        if said.size:
            low, middle, high = (float(one) for one in np.quantile(said, (0.005, 0.5, 0.99)))
            room = _ROOM * (top - bottom)
            bottom = min(bottom, middle, max(low, bottom - room))
            top = max(top, middle, min(high, top + room))
        positive = trace.values[trace.values > 0.0]
        if bottom >= 0.0 and positive.size and top > _STEEPEST_LINEAR * float(np.median(positive)):
            least = float(np.quantile(positive, 0.01))
            has_zeros = bool((trace.values == 0.0).any())
            return cls(0.0 if has_zeros else float(positive.min()) / 1.3, 1.3 * top, _BEND * least)
        margin = 0.04 * (top - bottom) or 0.1 * abs(top) or 1.0
        # Zero is the end of most scales: nothing is drawn below it for a margin's sake.
        return cls(0.0 if 0.0 <= bottom <= 0.15 * top else bottom - margin, top + margin, 0.0)

    def shares(self, values: Floats) -> Floats:
        """How high in the picture: 0 at its bottom, 1 at its top."""
        place, bottom, top = (self._place(one) for one in (values, np.array(self.bottom), np.array(self.top)))
        return (place - bottom) / (top - bottom)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values, the lowest first, and how they are written."""
        values = self._round_values()
        step = min((b - a for a, b in pairwise(values)), default=abs(self.top - self.bottom))
        # On a bent axis the step grows with the value.
        return [(one, tick(one, max(step, 0.1 * abs(one)) if self.bend else step)) for one in values]

    def _round_values(self) -> list[float]:
        if not self.bend:
            return _round_ticks(self.bottom, self.top)
        first, last = math.ceil(math.log10(max(self.bottom, self.bend))), math.floor(math.log10(self.top))
        steps = (1.0, 2.0, 5.0) if last - first < 2 else (1.0,)
        every = max(1, (last - first) // _MOST_TICKS + 1)
        decades = range(first - 1, last + 1, every)
        found = [step * 10.0**decade for decade in decades for step in steps]
        zero = [0.0] if self.bottom == 0.0 else []
        return zero + [one for one in found if max(self.bottom, 2.0 * self.bend * bool(zero)) <= one <= self.top]

    def _place(self, values: Floats) -> Floats:
        return np.asarray(np.arcsinh(values / self.bend) if self.bend else values, np.float64)


def time_ticks(first: float, last: float) -> list[tuple[float, str]]:
    """Days since the epoch, UTC, between these two, and what is written at each of them: ten at the most."""
    begin, end = (datetime.fromtimestamp(0, UTC) + timedelta(days=day) for day in (first, last))
    for step in _DAYS:
        if (last - first) / step <= _MOST_LABELS:
            # Day 4 was the first Monday.
            days = range(4 + math.ceil((first - 4) / step) * step, math.floor(last) + 1, step)
            return _told([datetime.fromtimestamp(day * 86_400, UTC) for day in days], "%-d %b")
    for step in _MONTHS:
        if (last - first) / (30.4 * step) <= _MOST_LABELS or step == _MONTHS[-1]:
            months = range(begin.year * 12 + begin.month, end.year * 12 + end.month)
            return _told([datetime(at // 12, at % 12 + 1, 1, tzinfo=UTC) for at in months if at % step == 0], "%b")
    return []


def _told(moments: Sequence[datetime], form: str) -> list[tuple[float, str]]:
    """The year is written where it is the first that is seen of it."""
    found = []
    year = 0
    for moment in moments:
        text = f"{moment:{form} %Y}" if moment.year != year else f"{moment:{form}}"
        year = moment.year
        found.append((moment.timestamp() / 86_400, text))
    return found


def round_up(number: float) -> float:
    """The next round number: 1, 2, 2.5 or 5 times a power of ten."""
    size = 10.0 ** math.floor(math.log10(number))
    return next(factor * size for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * size >= number * (1.0 - 1e-9))


def _round_ticks(bottom: float, top: float) -> list[float]:
    step = round_up((top - bottom) / _MOST_TICKS)
    # Whole steps times the step: adding it up would end in 0.30000000000000004.
    return [at * step for at in range(math.ceil(bottom / step), math.floor(top / step) + 1)]
