"""How far from the location a normal value may lie, on each side, so that the claimed share really stays inside."""

import math
from dataclasses import dataclass
from itertools import pairwise

# A histogram of residuals over their spread. Its bins are equal on the scale sign(z) log(1 + |z| / 0.1), |z| <= 60.
_BINS = 32
_REACH = 60.0
_CORE = 0.1
_EXTENT = math.log1p(_REACH / _CORE)
_BINS_PER_UNIT = _BINS / (2.0 * _EXTENT)
_EDGES = [
    math.copysign(math.expm1(abs(position)) * _CORE, position)
    for position in [_EXTENT * (2.0 * i / _BINS - 1.0) for i in range(_BINS + 1)]
]
_WIDTHS = [high - low for low, high in pairwise(_EDGES)]
_PRIOR_WEIGHT = 10.0  # hours that the prior histogram counts for
_FORGETTING = 0.98  # of the histogram: a memory of 50 hours, the tail itself is the trackers' part
_TRACKING_RATE = 0.2
_SPREAD_RATE = 0.01
_CORRECTION_RATE = 0.05
_CORRECTION_LOWEST, _CORRECTION_HIGHEST = -1.5, 2.5


def _student_t3(z: float) -> float:
    """Distribution function of Student's t with 3 degrees of freedom and scale 0.9: residuals of a young series."""
    t = z / (0.9 * math.sqrt(3.0))
    return 0.5 + (math.atan(t) + t / (1.0 + t * t)) / math.pi


_PRIOR = [_student_t3(b) - _student_t3(a) for a, b in pairwise(_EDGES)]
_PRIOR_BINS = [round(_PRIOR_WEIGHT * share / sum(_PRIOR), 4) for share in _PRIOR]


@dataclass(frozen=True, slots=True)
class Claim:
    """One bound to keep: on the side of larger (1) or smaller (-1) values, with the share meant to stay inside."""

    side: int
    share: float


class BoundTracker:
    """Distances of the bounds from the location, one per claim.

    A distance is the mean of three candidates, times a correction. The candidates: the quantile of a forgetting
    histogram of residuals over the first spread, and a quantile on either spread tracked by pinball gradient steps
    (Angelopoulos et al. 2023, "Conformal PID control", equation 2). The correction: log += 0.05 * (was outside -
    claimed outside), adaptive conformal inference (Gibbs & Candes 2021, equation 2) on the log of the distance, so that
    the share that is *measured* approaches the share that is claimed whatever the residuals' law. Weighing the
    candidates by their pinball losses instead gained less than 1 %. River's `stats.Quantile` never forgets;
    `stats.RollingQuantile` keeps its window, ten times this histogram.
    """

    __slots__ = ("_sides", "bins", "corrections", "increment", "n_learned", "tracked_first", "tracked_second", "units")

    def __init__(self, claims: tuple[Claim, ...]) -> None:
        # Per claim: whether it is on the upper side, its share, and the share meant to stay outside.
        self._sides = tuple((claim.side > 0, claim.share, 1.0 - claim.share) for claim in claims)
        self.bins = list(_PRIOR_BINS)
        self.increment = 1.0  # weight of the newest hour; it grows instead of every bin shrinking every hour
        self.n_learned = 0
        self.units = [1.0, 1.0]  # usual |residual| / spread of the two trackers
        self.tracked_first = [4.0] * len(claims)
        self.tracked_second = [4.0] * len(claims)
        self.corrections = [0.0] * len(claims)

    def distances(self, first: float, second: float) -> list[float]:
        """Per claim how far from the location its bound is, not negative, for an hour of these two spreads."""
        bins = self.bins
        total = sum(bins)
        distances = []
        for (is_above, _, tail), a, b, correction in zip(  # noqa: B905 (hot path)
            self._sides, self.tracked_first, self.tracked_second, self.corrections
        ):
            left = tail * total
            if is_above:
                i = _BINS - 1
                while (weight := bins[i]) < left and i:
                    left -= weight
                    i -= 1
                quantile = _EDGES[i + 1] - left / weight * _WIDTHS[i] if weight > 0.0 else _EDGES[i]
            else:
                i = 0
                while (weight := bins[i]) < left and i < _BINS - 1:
                    left -= weight
                    i += 1
                quantile = -_EDGES[i] - left / weight * _WIDTHS[i] if weight > 0.0 else -_EDGES[i + 1]
            distance = (first * (quantile + a) + second * b) * (math.exp(correction) / 3.0)
            distances.append(distance if distance > 0.0 else 0.0)
        return distances

    def learn_one(self, residual: float, first: float, second: float, told: list[float], *, is_settled: bool) -> None:
        """Learns the residual (value - location) of an hour for which `distances(first, second)` told these.

        Until `is_settled` only the corrections learn: the spreads of the first hours are guesses.
        """
        corrections = self.corrections
        for i, (is_above, share, tail) in enumerate(self._sides):
            if (residual if is_above else -residual) > told[i]:
                correction = corrections[i] + _CORRECTION_RATE * share
                corrections[i] = _CORRECTION_HIGHEST if correction > _CORRECTION_HIGHEST else correction
            else:
                correction = corrections[i] - _CORRECTION_RATE * tail
                corrections[i] = _CORRECTION_LOWEST if correction < _CORRECTION_LOWEST else correction
        if is_settled:
            self.n_learned += 1
            z = residual / first
            self._count(z)
            self._track(z, residual / second)

    def copy(self) -> "BoundTracker":
        """An independent twin."""
        twin = BoundTracker.__new__(BoundTracker)
        twin._sides = self._sides  # noqa: SLF001 (our own twin)
        twin.bins = self.bins[:]
        twin.increment = self.increment
        twin.n_learned = self.n_learned
        twin.units = self.units[:]
        twin.tracked_first = self.tracked_first[:]
        twin.tracked_second = self.tracked_second[:]
        twin.corrections = self.corrections[:]
        return twin

    def _count(self, z: float) -> None:
        """Puts a normalised residual into the histogram."""
        position = math.log1p(abs(z) / _CORE)
        at = int((_EXTENT + (position if z > 0.0 else -position)) * _BINS_PER_UNIT)
        at = 0 if at < 0 else _BINS - 1 if at >= _BINS else at
        bins = self.bins
        increment = self.increment = self.increment / _FORGETTING
        bins[at] = round(bins[at] + increment, 4)  # short in the stored state
        if increment > 1e4:
            self.bins = [round(weight / increment, 4) for weight in bins]
            self.increment = 1.0

    def _track(self, first_z: float, second_z: float) -> None:
        """One pinball gradient step of every claim's quantile on either spread."""
        first_z, first_step = self._step(0, first_z)
        second_z, second_step = self._step(1, second_z)
        firsts, seconds = self.tracked_first, self.tracked_second
        for i, (is_above, share, tail) in enumerate(self._sides):
            first, second = firsts[i], seconds[i]
            firsts[i] = first + (
                first_step * share if (first_z if is_above else -first_z) > first else -first_step * tail
            )
            seconds[i] = second + (
                second_step * share if (second_z if is_above else -second_z) > second else -second_step * tail
            )

    def _step(self, which: int, z: float) -> tuple[float, float]:
        """A normalised residual within the histogram's reach, and the step that it makes the quantiles take."""
        z = _REACH if z > _REACH else -_REACH if z < -_REACH else z
        size = z if z > 0.0 else -z
        unit = self.units[which]
        n = self.n_learned
        if n > 20 and size > 10.0 * unit:
            size = 10.0 * unit
        rate = 1.0 / n
        unit += (rate if rate > _SPREAD_RATE else _SPREAD_RATE) * (size - unit)
        self.units[which] = unit
        return z, _TRACKING_RATE * unit
