"""What is to be simulated, as numbers; every draw of it comes from its seed and from what is drawn."""

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from detection.errors import InputError
from detection.events import NEWEST_MS, OLDEST_MS
from detection.hours import HOUR_MS, MINUTE_MS
from detection.subject import Subject

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

DAY_MINUTES = 1440
MODEL_NAMES = ("Llama", "Mistral", "Gemma", "Qwen", "Falcon", "Phi", "Yi", "Bloom", "Olmo", "Granite")

# A Monday, 00 h UTC, in November 2025.
FIRST_MS = 489_984 * HOUR_MS


class Draw(IntEnum):
    """What a generator is for: two purposes never share one, so that adding a biller changes no other one."""

    BILLER = 1
    BILLER_NOISE = 2
    CALLS = 3
    INCIDENTS = 4
    MODEL = 5
    MODEL_NOISE = 6
    OBSERVATIONS = 7
    MODEL_INCIDENTS = 8


@dataclass(frozen=True)
class Scenario:
    """So many billers and models over so many hours, with so many incidents.

    `start_ms` is a whole hour. In the first `calm_hours` nothing starts. What a subject is, and what is normal of it on
    a day, depends on the seed and on the day alone: scenarios that follow each other in time join without a seam, and
    every incident is over at the end of its own. InputError for numbers that contradict each other.
    """

    seed: int = 1
    billers: int = 10
    models: int = 10
    start_ms: int = FIRST_MS
    hours: int = 24
    incidents: int = 0
    model_incidents: int = 0
    calm_hours: int = 0

    def __post_init__(self) -> None:
        if min(self.seed, self.billers, self.models, self.incidents, self.model_incidents, self.calm_hours) < 0:
            raise InputError("a scenario: its seed and all that it counts must be 0 or more")
        if self.hours < 1 or self.calm_hours > self.hours:
            raise InputError(f"a scenario of {self.hours} hours, {self.calm_hours} of them calm: there is no such time")
        if self.start_ms % HOUR_MS or self.start_ms < OLDEST_MS or self.end_ms > NEWEST_MS:
            raise InputError(f"start {self.start_ms}: must be a whole hour between 2000 and 2099, in milliseconds")

    @property
    def end_ms(self) -> int:
        """The first moment that is not simulated any more."""
        return self.start_ms + self.hours * HOUR_MS

    @property
    def first_minute(self) -> int:
        """The minute since the epoch with which it begins."""
        return self.start_ms // MINUTE_MS

    @property
    def minutes(self) -> int:
        """How many minutes it lasts."""
        return self.hours * 60

    @property
    def days(self) -> range:
        """The days since the epoch, in UTC, of which it takes a part."""
        return range(self.first_minute // DAY_MINUTES, -(-(self.first_minute + self.minutes) // DAY_MINUTES))

    @cached_property
    def biller_subjects(self) -> tuple[Subject, ...]:
        """`biller-001` and on."""
        return tuple(Subject.biller(f"biller-{number + 1:03d}") for number in range(self.billers))

    @cached_property
    def model_subjects(self) -> tuple[Subject, ...]:
        """`Llama/v1`, `Mistral/v1` and on; when the names are used up, their version v2."""
        names = len(MODEL_NAMES)
        return tuple(Subject.model(MODEL_NAMES[n % names], f"v{n // names + 1}") for n in range(self.models))

    def following(self) -> "Scenario":
        """The same subjects over as many hours after the end, with other incidents from the first hour on."""
        return replace(self, start_ms=self.end_ms, calm_hours=0)

    def generator(self, draw: Draw, *which: int) -> np.random.Generator:
        """The source of what is drawn for one purpose: the same for the same numbers, whatever was drawn before."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, draw, *which]))


def autocorrelated(innovations: Floats, persistence: float) -> Floats:
    """The second half of an AR(1) process with variance 1 whose innovations, standard normal, are these.

    As the moving average that it is, cut where less than 1 % of an innovation is left: so a day can be drawn by itself,
    from its own innovations and those of the day before.
    """
    half = len(innovations) // 2
    terms = min(half, int(np.ceil(np.log(0.01) / np.log(persistence))))
    weights = np.sqrt(1.0 - persistence**2) * persistence ** np.arange(terms)
    return np.convolve(innovations, weights)[half : 2 * half]


def hourly(innovations: Floats, persistence: float) -> Floats:
    """An AR(1) process over the hours of two days, as the minutes of the second: each hour leads on from the last.

    A level that jumped at each full hour would give away where the hours begin.
    """
    half = len(innovations) // 2
    values = autocorrelated(np.concatenate([np.zeros(2), innovations]), persistence)[-half - 1 :]
    return np.interp(np.arange(half * 60) / 60.0, np.arange(half + 1), values)
