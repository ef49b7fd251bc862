"""Online linear regression: experts that learn which lag a series follows."""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled
from detection.kernel.scale import clip

PRIOR_VARIANCE = 0.1
_TRACE_LIMIT = 20.0 * PRIOR_VARIANCE  # a term; constant input must not let the covariance grow without bound
_ERROR_RATE = 0.02
_ERROR_FLOOR = 1e-3
_TRUSTED_AFTER = 80  # observations before an error is called an outlier

Numbers = NDArray[np.float64]


@compiled
def predict_linear(weights: Numbers, terms: Numbers) -> float:
    """The normalised target expected for the terms."""
    total = 0.0
    for i in range(len(weights)):
        total += weights[i] * terms[i]
    return total


@compiled
def learn_linear(
    weights: Numbers,
    covariance: Numbers,
    spread: Numbers,
    terms: Numbers,
    error: float,
    n: int,
    forgetting: float,
    clipped_at: float,
) -> None:
    """Recursive least squares with exponential forgetting (Haykin, Adaptive Filter Theory, 4th ed., table 9.1).

    Terms and target are normalised (order of magnitude 1); `error` is target - prediction of the n-th observation, and
    teaches as if it were no larger than `clipped_at` robust spreads, so that one absurd hour cannot turn the weights.
    `covariance` is the upper triangle, row by row. River's `linear_model.LinearRegression` is first-order.
    """
    size = len(weights)
    if n > _TRUSTED_AFTER:
        error = clip(error, -clipped_at * spread[0], clipped_at * spread[0])
    rate = max(_ERROR_RATE, 1.0 / max(1.0, n - 29.0))
    spread[0] = max(spread[0] + rate * (1.25 * abs(error) - spread[0]), _ERROR_FLOOR)

    gain = np.zeros(size)
    at = 0
    for i in range(size):
        term = terms[i]
        total = covariance[at] * term
        for j in range(i + 1, size):
            entry = covariance[at + j - i]
            total += entry * terms[j]
            gain[j] += entry * term
        gain[i] += total
        at += size - i
    power = 0.0
    for i in range(size):
        power += gain[i] * terms[i]
    inverse = 1.0 / (forgetting + max(power, 0.0))

    trace = 0.0
    at = 0
    for i in range(size):
        weights[i] += gain[i] * inverse * error
        share = gain[i] * inverse
        trace += covariance[at] - share * gain[i]
        at += size - i
    factor = 1.0 / forgetting
    limit = _TRACE_LIMIT * size
    if trace * factor > limit:
        factor = limit / trace
    at = 0
    for i in range(size):
        share = gain[i] * inverse
        for j in range(i, size):
            covariance[at] = (covariance[at] - share * gain[j]) * factor
            at += 1
        # Rounded to 32 bits, a variance may not fall below zero: the matrix would cease to be a covariance.
        diagonal = at - (size - i)
        covariance[diagonal] = max(covariance[diagonal], 1e-7)


@compiled
def begin_linear(weights: Numbers, covariance: Numbers, spread: Numbers, prior: Numbers) -> None:
    """The weights known beforehand, and a covariance that says how firmly."""
    size = len(weights)
    at = 0
    for i in range(size):
        weights[i] = prior[i]
        for j in range(i, size):
            covariance[at] = PRIOR_VARIANCE if i == j else 0.0
            at += 1
    spread[0] = 1.0
