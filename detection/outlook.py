"""What is expected of the next hour, as it is told and as the model needs it to learn."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is expected of one hour, in the unit of the series and inside its bounds.

    `lower <= location <= upper`; [lower, upper] claims the forecaster's `interval`. `threshold` claims its `coverage`
    on the side of its `direction`: at or above the location for "above", at or below it for "below".
    """

    location: float
    lower: float
    upper: float
    threshold: float


class Outlook(NamedTuple):
    """Everything that a prediction was made of, which learning the hour's value needs again."""

    slot: int
    location: float
    opinions: list[float]
    weights: list[float]
    slow_mix: float
    quick_mix: float
    terms: list[float]
    regression: float
    unit: float  # of z, that the regression's terms are counted in
    means: tuple[float, float]  # of the hour of week and the hour of day
    disagreement: float
    spread: float
    distances: list[float]
