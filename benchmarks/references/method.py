"""What a reference must do, and the one way in which all are run: an hour is predicted, and only then learned."""

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from detection.evaluation import Prediction, Recording

HISTORY_HOURS = 28 * 24
DAY_HOURS = 24
# Of the standard normal distribution: one side for the threshold, two for the band.
Z99 = 2.3263478740408408
Z95 = 1.959963984540054


class Method(Protocol):
    """One series' model; hours come ascending, and those without a value do not come at all."""

    def predict_one(self, hour: int) -> Mapping[str, Prediction]:
        """What it says of an hour that it has not learned; one model can have several rows, each with its name."""

    def learn_one(self, hour: int, value: float) -> None:
        """Take in the value of the hour."""


def run(recording: Recording, method: Method, hours: Collection[int]) -> dict[str, dict[int, Prediction]]:
    """What the method says of these hours, by the name of the row; it learns the others too."""
    said: dict[str, dict[int, Prediction]] = {}
    for hour in sorted(recording.values):
        if hour in hours:
            for name, prediction in method.predict_one(hour).items():
                said.setdefault(name, {})[hour] = prediction
        method.learn_one(hour, recording.values[hour])
    return said


def prediction(*, estimate: float, lower: float, upper: float, threshold: float) -> Prediction:
    """Cut off at zero, below which no value of the examples can be."""
    return Prediction(max(estimate, 0.0), max(lower, 0.0), max(upper, 0.0), max(threshold, 0.0))


class LogScale:
    """Natural logarithm of the value and a small offset, which keeps zeros finite."""

    def __init__(self, values: Sequence[float]) -> None:
        positive = [value for value in values if value > 0.0]
        self.offset = 0.05 * sum(positive) / len(positive) if positive else 1.0

    def of(self, value: float) -> float:
        return math.log(max(value, 0.0) + self.offset)

    def back(self, number: float) -> float:
        """Bounded, so that a model that has lost its way still says a number."""
        return math.exp(min(number, 700.0)) - self.offset


class Past:
    """The values of the last weeks, hour by hour."""

    def __init__(self, hours: int = HISTORY_HOURS) -> None:
        self._kept_hours = hours
        self._pairs: deque[tuple[int, float]] = deque()

    def learn_one(self, hour: int, value: float) -> None:
        self._pairs.append((hour, value))

    def before(self, hour: int) -> tuple[list[int], list[float]]:
        """The observed hours in the weeks before this one, ascending, and their values."""
        while self._pairs and self._pairs[0][0] < hour - self._kept_hours:
            self._pairs.popleft()
        return [at for at, _ in self._pairs], [value for _, value in self._pairs]

    def filled(self, hour: int) -> npt.NDArray[np.float64]:
        """Every hour from the first that is kept to the one before this one.

        Gaps are bridged by a straight line between the values around them, and by the last value where none follows.
        """
        hours, values = self.before(hour)
        return np.interp(np.arange(hours[0], hour), hours, values)
