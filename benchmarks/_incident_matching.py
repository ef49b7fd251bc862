"""The references at their best: each with the setting that finds most at as few false alerts as Tidemark may have.

A rule of thumb that alerts on everything finds everything, and at once. So each reference is also given, on the seeds
for development, every one of `STRICTNESS` (sigmas, or the margin of the fixed threshold), with and without the floors
and the evidence that Tidemark asks for, at once or only after several minutes in a row or among the last; and of those
that keep to the budget the one that finds most, then soonest, is measured on the seeds that were held out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final, Self

import numpy as np

from benchmarks._incident_outcome import Outcome, together
from benchmarks._incident_references import Floats, Rule, day_rule, fixed_rule, held, week_rule, worth_it
from benchmarks._incident_stream import Flags, Points
from detection.live import LivePolicy

BUDGET: Final = 0.05
STRICTNESS: Final[Mapping[str, tuple[float, ...]]] = {
    "sigmas": (3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 20.0, 30.0),
    "margin": (1.0, 1.1, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0),
}
# n of the last m minutes must be beyond, the newest of them too.
PERSISTENCE: Final = ((1, 1), (2, 2), (3, 3), (5, 5))

# The alerts of these points on one of the streams, judged.
Judge = Callable[[Points], Outcome]


@dataclass(frozen=True, slots=True)
class Setting:
    """How a reference is used; `strictness` in sigmas or as a margin."""

    strictness: float
    n: int
    m: int
    has_floors: bool

    def __str__(self) -> str:
        floors = ", above Tidemark's floors" if self.has_floors else ""
        return f"{self.strictness:g}, {self.n} of {self.m} min{floors}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A way to draw a boundary, and what its strictness is called."""

    name: str
    unit: str
    rule: Callable[[Floats], Rule]


REFERENCES: Final = (
    Reference("fixed, from the first week", "margin", fixed_rule),
    Reference("mean + k sigma, trailing day", "sigmas", day_rule),
    Reference("mean + k sigma, same hour of week", "sigmas", week_rule),
)


def best_setting(
    reference: Reference, streams: Sequence[tuple[Floats, Judge]], *, budget: float = BUDGET
) -> tuple[Setting, Outcome] | None:
    """The one that finds most of all streams together within the budget, and what it came to; None where none keeps it.

    From strict to lax, until the budget is used up: what is laxer calls people still more often.
    """
    prepared = [(Prepared.of(reference, values), judge) for values, judge in streams]
    best: tuple[Setting, Outcome] | None = None
    for has_floors, (n, m) in product((False, True), PERSISTENCE):
        for strictness in sorted(STRICTNESS[reference.unit], reverse=True):
            setting = Setting(strictness, n, m, has_floors)
            outcome = together([judge(one.points(setting)) for one, judge in prepared])
            if outcome.false_alerts > budget:
                break
            if best is None or _rank(outcome) > _rank(best[1]):
                best = setting, outcome
    return best


@dataclass(frozen=True, slots=True)
class Prepared:
    """A reference on one stream, and where the floors are passed."""

    rule: Rule
    is_worth_it: Flags

    @classmethod
    def of(cls, reference: Reference, values: Floats) -> Self:
        """What does not depend on the setting."""
        rule = reference.rule(values)
        return cls(rule, worth_it(values, rule.usual, LivePolicy()))

    def points(self, setting: Setting) -> Points:
        """What the reference says of every minute."""
        points = held(self.rule, setting.strictness)
        if setting.has_floors:
            points.is_beyond &= self.is_worth_it
        points.is_beyond = persistent(points.is_beyond, setting.n, setting.m)
        return points


def persistent(is_beyond: Flags, n: int, m: int) -> Flags:
    """Minutes that are beyond, and with them n of the last m."""
    sums = np.cumsum(is_beyond, axis=1, dtype=np.int32)
    sums[:, m:] -= sums[:, :-m].copy()
    found: Flags = is_beyond & (sums >= n)
    return found


def _rank(outcome: Outcome) -> tuple[float, float]:
    return outcome.recall, -outcome.median_delay
