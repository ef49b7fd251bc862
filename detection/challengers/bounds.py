"""How far from a forecast a normal value may lie: one small conformal part for every challenger."""

import math
from typing import NamedTuple

from detection.challengers.fields import Fields, State

# A histogram of residuals over their spread, its bins equal in u = asinh(residual / spread / 0.5), up to 60 spreads.
_BINS = 32
_CORE = 0.5
_REACH = 60.0
_EXTENT = math.asinh(_REACH / _CORE)
_WIDTH = 2.0 * _EXTENT / _BINS
_FORGETTING = 0.99  # of the histogram, an hour
_PRIOR_WEIGHT = 10.0  # hours that the prior counts for
_SLOW, _QUICK = 0.01, 0.1  # rates of the two spreads that are averaged
_PRIOR_SPREAD = 0.2  # of z: a fifth of the level
_SMALLEST_SPREAD = 1e-9
_LONGEST = 3.0  # spreads that one residual counts for in the spread
_BEYOND = 1.5  # of the bound that was told, that one residual counts for in the quantiles: how far out hardly matters
_TRACKING_STEP = 0.2  # spreads
_CORRECTION_STEP = 0.05
_LEAST_CORRECTION, _MOST_CORRECTION = -1.5, 2.5


_EDGES = [_CORE * math.sinh(i * _WIDTH - _EXTENT) for i in range(_BINS + 1)]


def _prior() -> list[float]:
    """Logistic in 2u: a tail that falls with the square of the distance, the 99 % quantile at 2.5 spreads."""
    shares = [1.0 / (1.0 + math.exp(-2.0 * (i * _WIDTH - _EXTENT))) for i in range(_BINS + 1)]
    whole = shares[-1] - shares[0]
    return [_PRIOR_WEIGHT * (shares[i + 1] - shares[i]) / whole for i in range(_BINS)]


class Claim(NamedTuple):
    """A bound on the side of larger (1) or smaller (-1) values, and the share of values meant to stay inside it."""

    side: int
    share: float


class ConformalBounds:
    """Per claim a distance: the mean of a forgetting histogram's quantile and a tracked one, times a correction.

    All in units of the usual |residual|. The tracked quantile moves by q += 0.2 (was outside - tail) (Angelopoulos,
    Candes and Tibshirani 2023, "Conformal PID control", equation 2). The correction is adaptive conformal inference
    (Gibbs and Candes 2021, equation 2) on the log of the distance, log += 0.05 (was outside - tail), bounded, where
    outside means outside of the bound *as it was told*: so the measured share approaches the claimed one whatever the
    residuals do.
    """

    __slots__ = ("_claims", "_corrections", "_histogram", "_n_learned", "_quick", "_slow", "_tracked")

    def __init__(self, claims: tuple[Claim, ...]) -> None:
        self._claims = claims
        self._histogram = _prior()
        self._n_learned = 0
        self._slow = self._quick = _PRIOR_SPREAD
        self._tracked = [2.5] * len(claims)
        self._corrections = [0.0] * len(claims)

    @property
    def spread(self) -> float:
        """Usual |residual|, more than 0."""
        return max(0.5 * (self._slow + self._quick), _SMALLEST_SPREAD)

    @property
    def corrections(self) -> tuple[float, ...]:
        """Per claim the factor that its distance was corrected by."""
        return tuple(map(math.exp, self._corrections))

    def distances(self) -> tuple[float, ...]:
        """Per claim how far from the location its bound is; finite, not negative."""
        spread, total = self.spread, sum(self._histogram)
        return tuple(
            0.5 * spread * (max(self._quantile(claim, total), 0.0) + max(tracked, 0.0)) * math.exp(correction)
            for claim, tracked, correction in zip(self._claims, self._tracked, self._corrections, strict=True)
        )

    def learn_one(self, residual: float, told: tuple[float, ...], *, is_usual: bool) -> None:
        """Learns value - location of an hour for which `distances()` told these; only corrects by what is not usual."""
        for i, (side, share) in enumerate(self._claims):
            correction = self._corrections[i] + _CORRECTION_STEP * ((side * residual > told[i]) - (1.0 - share))
            self._corrections[i] = min(max(correction, _LEAST_CORRECTION), _MOST_CORRECTION)
        if is_usual:
            self._learn_size(residual, told)

    def copy(self) -> "ConformalBounds":
        """An independent twin."""
        twin = ConformalBounds(self._claims)
        twin.restore(self.to_state())
        return twin

    def to_state(self) -> State:
        """Plain numbers and lists of them."""
        return {
            "n_learned": self._n_learned,
            "spreads": [self._slow, self._quick],
            "histogram": self._histogram[:],
            "tracked": self._tracked[:],
            "corrections": self._corrections[:],
        }

    def restore(self, state: object) -> None:
        """Takes on what `to_state` told; raises UnreadableStateError."""
        fields = Fields(state, "bounds")
        self._n_learned = fields.whole("n_learned")
        self._slow, self._quick = fields.numbers("spreads", 2)
        self._histogram = fields.numbers("histogram", _BINS)
        self._tracked = fields.numbers("tracked", len(self._claims))
        self._corrections = fields.numbers("corrections", len(self._claims))

    def _learn_size(self, residual: float, told: tuple[float, ...]) -> None:
        spread = self.spread
        reach = min(_BEYOND * max(told) / spread + _CORE, _REACH)
        scaled = min(max(residual / spread, -reach), reach)
        for i, (side, share) in enumerate(self._claims):
            self._tracked[i] += _TRACKING_STEP * ((side * scaled > self._tracked[i]) - (1.0 - share))
        self._histogram = [weight * _FORGETTING for weight in self._histogram]
        at = int((math.asinh(scaled / _CORE) + _EXTENT) / _WIDTH)
        self._histogram[min(at, _BINS - 1)] += 1.0
        self._n_learned += 1
        size = min(abs(residual), _LONGEST * spread) if self._n_learned > 1 else abs(residual)
        rate = 1.0 / (self._n_learned + 1)
        self._slow += max(_SLOW, rate) * (size - self._slow)
        self._quick += max(_QUICK, rate) * (size - self._quick)

    def _quantile(self, claim: Claim, total: float) -> float:
        """Distance, in spreads, beyond which the tail of the histogram on the claim's side begins."""
        side, share = claim
        left = (1.0 - share) * total
        # From the outermost bin on the claim's side inwards.
        for i in range(_BINS - 1, -1, -1) if side > 0 else range(_BINS):
            weight = self._histogram[i]
            if weight >= left:
                outer, inner = (_EDGES[i + 1], _EDGES[i]) if side > 0 else (_EDGES[i], _EDGES[i + 1])
                inside = left / weight if weight > 0.0 else 0.0
                return side * (outer + inside * (inner - outer))
            left -= weight
        return 0.0
