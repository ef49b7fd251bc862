"""Online linear regression of five terms, in plain Python: an expert that learns which lag a series follows."""

from collections.abc import Sequence

_TERMS = 5
_FORGETTING = 0.99  # memory of about 100 hours
_PRIOR_VARIANCE = 0.1
_TRACE_LIMIT = 10.0  # constant input must not let the covariance grow without bound
_CLIP = 4.0  # robust spreads of the error that may teach at once
_SPREAD_RATE = 0.02
_SPREAD_FLOOR = 1e-3  # of the normalised scale: after hours without any error the next one must still be able to teach
_TRUSTED_AFTER = 50  # updates before an error is called an outlier


class RecursiveLeastSquares:
    """Recursive least squares with exponential forgetting (Haykin, Adaptive Filter Theory, 4th ed., table 9.1).

    Inputs and target are normalised (order of magnitude 1). Errors beyond four robust spreads teach as if they were
    four, so one absurd hour cannot turn the weights. `covariance` is the upper triangle, row by row. River's
    `linear_model.LinearRegression` is first-order, and its optimiser keeps state that has no plain form.
    """

    __slots__ = ("covariance", "n_learned", "spread", "weights")

    def __init__(self, weights: Sequence[float]) -> None:
        self.weights = list(weights)
        self.covariance = [_PRIOR_VARIANCE if i == j else 0.0 for i in range(_TERMS) for j in range(i, _TERMS)]
        self.spread = 1.0
        self.n_learned = 0

    def predict_one(self, x: list[float]) -> float:
        """The normalised target expected for the terms `x`, one per weight."""
        w0, w1, w2, w3, w4 = self.weights
        x0, x1, x2, x3, x4 = x
        return w0 * x0 + w1 * x1 + w2 * x2 + w3 * x3 + w4 * x4

    def learn_one(self, x: list[float], error: float) -> None:
        """Learns from the terms and the error (target - prediction) that they led to."""
        n = self.n_learned = self.n_learned + 1
        spread = self.spread
        if n > _TRUSTED_AFTER:
            limit = _CLIP * spread
            error = limit if error > limit else -limit if error < -limit else error
        rate = 1.0 / n
        spread += (rate if rate > _SPREAD_RATE else _SPREAD_RATE) * (1.25 * abs(error) - spread)
        self.spread = spread if spread > _SPREAD_FLOOR else _SPREAD_FLOOR

        # Written out for its five terms: the same as loops over lists takes four times as long.
        p00, p01, p02, p03, p04, p11, p12, p13, p14, p22, p23, p24, p33, p34, p44 = self.covariance
        x0, x1, x2, x3, x4 = x
        g0 = p00 * x0 + p01 * x1 + p02 * x2 + p03 * x3 + p04 * x4
        g1 = p01 * x0 + p11 * x1 + p12 * x2 + p13 * x3 + p14 * x4
        g2 = p02 * x0 + p12 * x1 + p22 * x2 + p23 * x3 + p24 * x4
        g3 = p03 * x0 + p13 * x1 + p23 * x2 + p33 * x3 + p34 * x4
        g4 = p04 * x0 + p14 * x1 + p24 * x2 + p34 * x3 + p44 * x4
        power = x0 * g0 + x1 * g1 + x2 * g2 + x3 * g3 + x4 * g4
        inverse = 1.0 / (_FORGETTING + (power if power > 0.0 else 0.0))
        step = error * inverse
        w0, w1, w2, w3, w4 = self.weights
        self.weights = [w0 + g0 * step, w1 + g1 * step, w2 + g2 * step, w3 + g3 * step, w4 + g4 * step]
        trace = p00 + p11 + p22 + p33 + p44 - (g0 * g0 + g1 * g1 + g2 * g2 + g3 * g3 + g4 * g4) * inverse
        factor = 1.0 / _FORGETTING if trace < _TRACE_LIMIT * _FORGETTING else _TRACE_LIMIT / trace
        k0, k1, k2, k3, k4 = g0 * inverse, g1 * inverse, g2 * inverse, g3 * inverse, g4 * inverse
        self.covariance = [
            (p00 - k0 * g0) * factor,
            (p01 - k0 * g1) * factor,
            (p02 - k0 * g2) * factor,
            (p03 - k0 * g3) * factor,
            (p04 - k0 * g4) * factor,
            (p11 - k1 * g1) * factor,
            (p12 - k1 * g2) * factor,
            (p13 - k1 * g3) * factor,
            (p14 - k1 * g4) * factor,
            (p22 - k2 * g2) * factor,
            (p23 - k2 * g3) * factor,
            (p24 - k2 * g4) * factor,
            (p33 - k3 * g3) * factor,
            (p34 - k3 * g4) * factor,
            (p44 - k4 * g4) * factor,
        ]

    def copy(self) -> "RecursiveLeastSquares":
        """An independent twin; the lists are replaced, never changed, so that both may hold them."""
        twin = RecursiveLeastSquares.__new__(RecursiveLeastSquares)
        twin.weights = self.weights
        twin.covariance = self.covariance
        twin.spread = self.spread
        twin.n_learned = self.n_learned
        return twin
