"""How far the values of a series usually lie from what was expected of them, in its own unit."""

import math

from detection.season import HOURS_OF_DAY

_DAY_RATE, _SLOW_RATE, _QUICK_RATE = 0.08, 0.02, 0.1
_CLIP = 8.0  # slow spreads that a residual may teach at once


class Spread:
    """Mean |residual| over 50 hours, over 10, and by hour of the day."""

    __slots__ = ("day", "quick", "slow")

    def __init__(self) -> None:
        self.day = [0.0] * HOURS_OF_DAY
        self.slow = 0.0
        self.quick = 0.0

    def expected(self, hour: int, count: int, least: float) -> float:
        """The |residual| expected at an hour of the day that `count` values were seen at; at least `least`, > 0."""
        slow = self.slow
        by_hour = (self.day[hour] * count + 4.0 * slow) / (count + 4)
        return math.sqrt((0.5 * (slow + self.quick) + least) * (by_hour + least))

    def learn_one(self, residual: float, n: int, *, hour: int, count: int, is_clipped: bool) -> None:
        """Learns the n-th residual, the `count`-th at its hour of the day."""
        slow, before = self.slow, self.day[hour]
        size = residual if residual > 0.0 else -residual
        if is_clipped and size > _CLIP * slow:
            size = _CLIP * slow
        rate = 1.0 / count
        # Five digits: short in the stored state.
        self.day[hour] = float(f"{before + (_DAY_RATE if rate < _DAY_RATE else rate) * (size - before):.5g}")
        rate = 1.0 / n
        self.slow = slow + (_SLOW_RATE if rate < _SLOW_RATE else rate) * (size - slow)
        self.quick += (_QUICK_RATE if rate < _QUICK_RATE else rate) * (size - self.quick)

    def copy(self) -> "Spread":
        """An independent twin."""
        twin = Spread.__new__(Spread)
        twin.day = self.day[:]
        twin.slow = self.slow
        twin.quick = self.quick
        return twin
