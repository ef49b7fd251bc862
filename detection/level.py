"""Where a series lies without its season, and how far it varies around that."""

import math

_SLOW, _MIDDLE, _QUICK = 0.05, 0.2, 0.5
_MEAN_RATE = 0.01


class Level:
    """Averages of z that follow it slowly, at a middle speed and quickly; mean and variance over about 100 hours."""

    __slots__ = ("averages", "mean", "variance")

    def __init__(self) -> None:
        self.averages = [0.0, 0.0, 0.0]
        self.mean = 0.0
        self.variance = 0.0

    def learn_one(self, z: float, n: int, *, is_settled: bool) -> None:
        """Learns the n-th z; in a settled series it moves mean and variance by at most six standard deviations."""
        rate = 1.0 / n
        slow, middle, quick = self.averages
        slow += (_SLOW if rate < _SLOW else rate) * (z - slow)
        middle += (_MIDDLE if rate < _MIDDLE else rate) * (z - middle)
        quick += (_QUICK if rate < _QUICK else rate) * (z - quick)
        self.averages = [slow, middle, quick]

        rate = _MEAN_RATE if rate < _MEAN_RATE else rate
        deviation = z - self.mean
        variance = self.variance
        if is_settled:
            limit = 6.0 * math.sqrt(variance) + 1e-12
            deviation = limit if deviation > limit else -limit if deviation < -limit else deviation
        self.mean += rate * deviation
        self.variance = variance + rate * ((1.0 - rate) * deviation * deviation - variance)

    def copy(self) -> "Level":
        """An independent twin; the list is replaced, never changed, so that both may hold it."""
        twin = Level.__new__(Level)
        twin.averages = self.averages
        twin.mean = self.mean
        twin.variance = self.variance
        return twin
