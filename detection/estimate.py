"""What is answered about a series: the estimate, the threshold, and the verdict on a window that has closed."""

from dataclasses import dataclass
from typing import Literal

from detection.catalogue import Direction

Status = Literal["prior", "learning", "ready", "stale"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the model expects of one hour: a location, the band that claims 95 %, and how many calls."""

    location: float
    lower: float
    upper: float
    expected_count: float
    n_learned: int


@dataclass(frozen=True, slots=True)
class Threshold:
    """The highest (or lowest) value that is still normal, with the share of normal hours that it claims to hold."""

    value: float
    direction: Direction
    coverage: float
    min_count: int

    @property
    def operator(self) -> Literal[">", "<"]:
        """How a value beyond this threshold compares with it."""
        return ">" if self.direction == "above" else "<"

    def is_exceeded_by(self, value: float) -> bool:
        """Whether the value lies beyond; a value on the threshold is still normal."""
        return value > self.value if self.direction == "above" else value < self.value


@dataclass(frozen=True, slots=True)
class Forecast:
    """Everything that is published of a series for the hour `hour` (hours since the epoch, UTC).

    `measured_exceedance` is the share of closed hours that exceeded the threshold published for them, over about the
    last three weeks; None until an hour was judged. `judged` counts those hours over all time.
    """

    hour: int
    estimate: Estimate
    threshold: Threshold
    status: Status
    measured_exceedance: float | None
    judged: int
    explanation: dict[str, float | str]


@dataclass(frozen=True, slots=True)
class WarmingUp:
    """A closed window of a series that has learned too little to judge."""

    hour: int
    value: float
    count: int


@dataclass(frozen=True, slots=True)
class Scored:
    """A closed window, judged against the forecast that stood before it was learned.

    `is_exceeded` compares with the threshold, beyond which one normal hour in a hundred is. `score` is for people: it
    joins that with a slow reference that an incident does not move, and is 1.0 exactly where an alert is due.
    `is_credible` says whether enough calls stand behind the value for either to mean something.
    """

    hour: int
    value: float
    count: int
    estimate: float
    threshold: float
    score: float
    is_exceeded: bool
    is_credible: bool

    @property
    def is_alert(self) -> bool:
        """Whether this window alone is reason to look."""
        return self.score > 1.0 and self.is_credible


Verdict = WarmingUp | Scored
