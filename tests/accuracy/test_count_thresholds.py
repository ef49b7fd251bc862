"""The claim of the rates' thresholds, measured by simulation from 5 to 50,000 calls an hour, learned as in production.

Each cell is 40,000 hours, so that the measured 1 % has a standard error of 5 % of itself. Score, then learn: the
threshold of every hour is published before its calls are known, and nothing of the truth is told.
"""

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest

from detection.kernel.counts import FIELDS, learn, start, threshold

Floats = npt.NDArray[np.float64]

HOURS = 40_000
CLAIM = 0.01
LEARNING_HOURS = 168
CALLS = (5, 20, 100, 1000, 50_000)
RATES = (0.002, 0.01, 0.05, 0.3)
RHOS = (0.0, 0.002, 0.02)


# Not kept on disk: a kept loop would go on with an old `learn` after that one's file has changed.
@numba.njit(error_model="numpy")
def _publish_and_learn(row: Any, failed: Floats, calls: Floats, location: float, published: Floats) -> None:
    for hour in range(len(failed)):
        published[hour] = threshold(row, location, hour % 24, CLAIM)
        learn(row, failed[hour], calls[hour], location, published[hour], hour % 24, CLAIM)


def published_thresholds(failed: Floats, calls: Floats, *, location: float = math.nan, seed: int = 0) -> Floats:
    row: Any = np.zeros(1, np.dtype(FIELDS))[0]
    start(row, 0.01, seed)
    published: Floats = np.zeros(len(failed))
    _publish_and_learn(row, failed, calls, location, published)
    return published


def failing(rng: np.random.Generator, calls: Floats, p: float, rho: float) -> Floats:
    rates = rng.beta(p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho, len(calls)) if rho else np.full(len(calls), p)
    failed: Floats = rng.binomial(calls.astype(np.int64), rates).astype(np.float64)
    return failed


def always_the_same(_: np.random.Generator, calls: int) -> Floats:
    return np.full(HOURS, float(calls))


def by_chance(rng: np.random.Generator, calls: int) -> Floats:
    return rng.poisson(calls, HOURS).astype(np.float64)


def in_gusts(rng: np.random.Generator, calls: int) -> Floats:
    return rng.poisson(calls * rng.gamma(4.0, 0.25, HOURS)).astype(np.float64)


def by_day(rng: np.random.Generator, calls: int) -> Floats:
    """Nineteen times as many by day as by night."""
    busy: Floats = rng.poisson(calls * (1.0 + 0.9 * np.sin(2.0 * np.pi * np.arange(HOURS) / 24.0))).astype(np.float64)
    return busy


def exceedance(failed: Floats, calls: Floats, published: Floats) -> float:
    judged = (calls > 0.0) & (np.arange(len(calls)) >= LEARNING_HOURS)
    return float(np.mean(failed[judged] > published[judged] * calls[judged]))


@pytest.mark.parametrize("calls", CALLS)
@pytest.mark.parametrize("arriving", [always_the_same, by_chance, in_gusts, by_day], ids=lambda f: str(f.__name__))
def test_false_exceedances_are_within_a_fifth_of_the_claim(
    arriving: Callable[[np.random.Generator, int], Floats], calls: int
) -> None:
    for p in RATES:
        for rho in RHOS:
            rng = np.random.default_rng([calls, int(p * 1000), int(rho * 1000)])
            n = arriving(rng, calls)
            failed = failing(rng, n, p, rho)
            measured = exceedance(failed, n, published_thresholds(failed, n))
            assert 0.8 * CLAIM <= measured <= 1.2 * CLAIM, (p, rho, measured)


@pytest.mark.parametrize("location", ["the truth", "the median", "nonsense"])
def test_the_claim_holds_whatever_the_forecaster_says(location: str) -> None:
    for calls in CALLS:
        for p in RATES:
            rng = np.random.default_rng([calls, int(p * 1000)])
            n = by_chance(rng, calls)
            failed = failing(rng, n, p, 0.002)
            told = {"the truth": p, "the median": float(np.median(failed / np.maximum(n, 1.0))), "nonsense": 0.9}
            measured = exceedance(failed, n, published_thresholds(failed, n, location=told[location]))
            assert 0.8 * CLAIM <= measured <= 1.2 * CLAIM, (calls, p, measured)


@pytest.mark.parametrize("calls", [20, 1000])
def test_quiet_and_busy_hours_of_one_series_both_keep_the_claim(calls: int) -> None:
    for p in (0.01, 0.05):
        rng = np.random.default_rng([calls, int(p * 1000)])
        n = by_day(rng, calls)
        failed = failing(rng, n, p, 0.002)
        published = published_thresholds(failed, n)
        busy = np.sin(2.0 * np.pi * np.arange(HOURS) / 24.0) > 0.0
        for part in (busy, ~busy):
            measured = exceedance(failed[part], n[part], published[part])
            assert 0.6 * CLAIM <= measured <= 1.4 * CLAIM, (p, measured)


def test_a_series_that_fails_in_fewer_hours_than_claimed_exceeds_in_every_hour_that_fails() -> None:
    rng = np.random.default_rng(1)
    n = always_the_same(rng, 5)
    failed = failing(rng, n, 0.0005, 0.0)
    measured = exceedance(failed, n, published_thresholds(failed, n))
    assert measured == pytest.approx(float(np.mean(failed[LEARNING_HOURS:] > 0.0)), rel=0.05)


def test_exceedances_of_series_born_together_fall_in_different_hours() -> None:
    n = np.full(2000, 5.0)
    failed = failing(np.random.default_rng(1), n, 0.01, 0.0)
    lower = [published_thresholds(failed, n, seed=seed)[200:] < 0.2 for seed in (1, 2)]
    both = float(np.mean(lower[0] & lower[1]))
    assert both < 0.5 * float(np.mean(lower[0]))


@pytest.mark.parametrize(
    ("calls", "p", "rho", "most"), [(100, 0.01, 0.002, 0.1), (1000, 0.05, 0.02, 0.05), (50_000, 0.01, 0.002, 0.05)]
)
def test_six_hours_of_outage_hardly_move_the_thresholds_of_the_next_week(
    calls: int, p: float, rho: float, most: float
) -> None:
    outage, week = 24 * 28, slice(24 * 29, 24 * 36)
    moved = []
    for seed in range(9):
        rng = np.random.default_rng(seed)
        n = np.maximum(rng.poisson(calls, 24 * 36), 1).astype(np.float64)
        failed = failing(rng, n, p, rho)
        usual = published_thresholds(failed, n)[week]
        failed[outage : outage + 6] = n[outage : outage + 6]
        moved.append(abs(published_thresholds(failed, n)[week].mean() / usual.mean() - 1.0))
    assert np.median(moved) < most


@pytest.mark.parametrize(("calls", "hours"), [(100, 48), (50_000, 12)])
def test_a_rate_that_rose_for_good_becomes_normal(calls: int, hours: int) -> None:
    rose = 24 * 28
    rng = np.random.default_rng(2)
    n = rng.poisson(calls, 24 * 42).astype(np.float64)
    failed = failing(rng, n, 0.01, 0.002)
    failed[rose:] = failing(rng, n[rose:], 0.2, 0.002)
    exceeded = failed > published_thresholds(failed, n) * n
    assert np.mean(exceeded[rose : rose + 6]) > 0.7
    assert np.mean(exceeded[rose + hours :]) < 0.03
