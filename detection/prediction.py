"""What is said of one hour, and what of values and bounds the compiled core is given to say it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.catalogue import Direction

_LARGEST = 1e30  # values are cut here, so that their squares stay finite
_SMALLEST = 1e-30  # and what is nearer to zero than this is zero, so that their squares do not vanish


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is expected of one hour: a location, the interval around it, and the threshold, all inside the bounds."""

    location: float
    lower: float
    upper: float
    threshold: float


def cut(value: float) -> float:
    """The value, no larger than what can be squared, and zero where it is next to it."""
    value = min(max(value, -_LARGEST), _LARGEST)
    return value if abs(value) >= _SMALLEST else 0.0


def cut_many(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`cut` of each value; NaN stays NaN."""
    return np.where(np.abs(values) < _SMALLEST, 0.0, np.clip(values, -_LARGEST, _LARGEST))


def write_setup(
    setup: Any, *, lower: float, upper: float, direction: Direction, coverage: float, interval: float
) -> None:
    """Fill a record of `SETUP` with how values are bounded, and what the threshold and the interval claim."""
    is_log = lower > -math.inf
    half = (1.0 - interval) / 2.0
    setup["lower"], setup["upper"] = lower, upper
    setup["base"] = lower if is_log else 0.0
    setup["is_log"] = is_log
    setup["sides"] = (1.0 if direction == "above" else -1.0, 1.0, -1.0)
    setup["tails"] = (1.0 - coverage, half, half)
