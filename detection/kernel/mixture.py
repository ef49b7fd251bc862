"""Weights of experts, and of bounds, that are right by turns: learned from their losses alone.

ML-Poly (Gaillard, Stoltz, van Erven 2014, "A second-order bound with excess losses", algorithm 3, p = 2), with the
losses by their gradient and discounted regrets: the weight of an expert is proportional to regret+ / (1 + squares). Two
discounts, whose mixtures are averaged: the slow one knows the series, the quick one notices that it changed. River's
`ensemble.EWARegressor` has a fixed learning rate and no discount, and wraps one learning model per expert; these share
one season.
"""

import math

import numpy as np

from detection.compiled import Record, compiled
from detection.kernel.regression import Numbers
from detection.kernel.row import CANDIDATES, CLAIMS, DISCOUNTS, EXPERTS
from detection.kernel.scale import clip

_EXPERT_DISCOUNTS = (0.9993, 0.9727)  # memories of three weeks and of a day and a half
_BOUND_DISCOUNTS = (0.9997, 0.967)
_LOSS_RATE = 0.01
_LOSS_CLIP = 2.7  # usual losses
_MEDIAN_SHARE = 0.7  # of the weighted median, beside the weighted mean
_REGRET_LARGEST = 5.0
_LEAST = 1e-290


@compiled
def _weights(regrets: Numbers, squares: Numbers, weights: Numbers) -> None:
    """Those of one discount, summing to 1; equal ones while no regret is positive."""
    total = 0.0
    for i in range(len(regrets)):
        weights[i] = max(regrets[i], 0.0) / (1.0 + squares[i])
        total += weights[i]
    for i in range(len(regrets)):
        weights[i] = weights[i] / total if total > _LEAST else 1.0 / len(regrets)


@compiled
def mix_experts(row: Record, outlook: Record) -> None:
    """Fill in the location, the mixture of either discount and the mean weights, of the opinions that are there."""
    opinions = outlook.opinions
    order = np.empty(EXPERTS, np.int64)
    for i in range(EXPERTS):
        at = i
        while at > 0 and opinions[order[at - 1]] > opinions[i]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = i
        outlook.weights[i] = 0.0
    weights = np.empty(EXPERTS)
    location = 0.0
    for discount in range(DISCOUNTS):
        _weights(row.expert_regrets[discount], row.expert_squares[discount], weights)
        mean = 0.0
        for i in range(EXPERTS):
            mean += weights[i] * opinions[i]
            outlook.weights[i] += weights[i] / DISCOUNTS
        passed = 0.0
        median = opinions[order[EXPERTS - 1]]
        for i in range(EXPERTS):
            passed += weights[order[i]]
            if passed >= 0.49999:
                median = opinions[order[i]]
                break
        outlook.mixtures[discount] = (1.0 - _MEDIAN_SHARE) * mean + _MEDIAN_SHARE * median
        location += outlook.mixtures[discount] / DISCOUNTS
    outlook.location = location


@compiled
def learn_experts(row: Record, outlook: Record, value: float) -> None:
    """One step of regret for each expert, by absolute loss."""
    n = row.n_learned
    for discount in range(DISCOUNTS):
        mixture = outlook.mixtures[discount]
        loss = row.expert_loss[discount]
        error = abs(value - mixture)
        if n > 20 and loss > 0.0:
            error = min(error, max(_LOSS_CLIP * loss, outlook.grain))
        loss += max(_LOSS_RATE, 1.0 / n) * (error - loss)
        row.expert_loss[discount] = loss
        if loss <= _LEAST:
            continue
        slope = (1.0 if mixture > value else -1.0 if mixture < value else 0.0) / loss
        memory = _EXPERT_DISCOUNTS[discount]
        for i in range(EXPERTS):
            regret = clip(slope * (mixture - outlook.opinions[i]), -_REGRET_LARGEST, _REGRET_LARGEST)
            row.expert_regrets[discount, i] = row.expert_regrets[discount, i] * memory + regret
            row.expert_squares[discount, i] = row.expert_squares[discount, i] * memory + regret * regret


@compiled
def mix_bounds(row: Record, outlook: Record, claim: int) -> float:
    """The mixture of the candidates for one claim, as a distance; keeps that of either discount."""
    weights = np.empty(CANDIDATES)
    mixed = 0.0
    for discount in range(DISCOUNTS):
        _weights(row.bound_regrets[claim, discount], row.bound_squares[claim, discount], weights)
        total = 0.0
        for i in range(CANDIDATES):
            total += weights[i] * outlook.candidates[claim, i]
        outlook.bound_mixtures[claim, discount] = total
        mixed += total / DISCOUNTS
    return mixed


@compiled
def learn_bounds_mixture(row: Record, setup: Record, outlook: Record, residual: float, unit: float) -> None:
    """One step of regret for each candidate, by pinball loss in usual errors; `residual` is value - location."""
    for claim in range(CLAIMS):
        outward = setup.sides[claim] * residual
        share = 1.0 - setup.tails[claim]
        for discount in range(DISCOUNTS):
            mixture = outlook.bound_mixtures[claim, discount]
            slope = (-share if outward > mixture else 1.0 - share) / unit
            memory = _BOUND_DISCOUNTS[discount]
            for i in range(CANDIDATES):
                regret = clip(slope * (mixture - outlook.candidates[claim, i]), -_REGRET_LARGEST, _REGRET_LARGEST)
                row.bound_regrets[claim, discount, i] = row.bound_regrets[claim, discount, i] * memory + regret
                row.bound_squares[claim, discount, i] = row.bound_squares[claim, discount, i] * memory + regret * regret


@compiled
def disagreement(outlook: Record) -> float:
    """Weighted mean distance of the experts from the location."""
    total = 0.0
    for i in range(EXPERTS):
        total += outlook.weights[i] * abs(outlook.opinions[i] - outlook.location)
    return total if math.isfinite(total) else 0.0
