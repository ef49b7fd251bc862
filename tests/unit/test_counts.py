"""The Beta-Binomial's limits against scipy, and what is published of them beside a threshold."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import betabinom, binom

from detection.kernel.beta_binomial import (
    dithered_threshold,
    is_credible,
    limits_by_count,
    min_calls,
    rate_threshold,
)
from detection.kernel.counts import (
    FIELDS,
    expected_calls,
    expected_rate,
    joined,
    learn,
    learn_joined,
    overdispersion,
    start,
    threshold,
)

CALLS = (1, 2, 5, 20, 100, 1000, 10_000, 50_000)
RATES = (1e-5, 1e-4, 0.002, 0.01, 0.05, 0.3, 0.7)
RHOS = (0.0, 1e-5, 1e-4, 0.002, 0.02, 0.2)


def distribution(p: float, rho: float, n: int) -> Any:
    return binom(n, p) if rho == 0.0 else betabinom(n, p * (1.0 - rho) / rho, (1.0 - p) * (1.0 - rho) / rho)


def new_row() -> Any:
    row = np.zeros(1, np.dtype(FIELDS))[0]
    start(row, 0.01, 0)
    return row


def learned(failed: list[float], calls: list[float]) -> Any:
    row = new_row()
    for hour, (k, n) in enumerate(zip(failed, calls, strict=True)):
        published = threshold(row, math.nan, hour % 24, 0.01)
        learn(row, k, n, math.nan, published, hour % 24, 0.01)
    return row


def test_the_fields_are_at_most_a_hundred_bytes() -> None:
    assert np.dtype(FIELDS).itemsize <= 100


@pytest.mark.parametrize("tail", [0.01, 0.001, 0.05])
@pytest.mark.parametrize("n", CALLS)
def test_a_limit_is_the_smallest_that_keeps_the_claim(n: int, tail: float) -> None:
    for p in RATES:
        for rho in RHOS:
            law = distribution(p, rho, n)
            k = round(rate_threshold(p, rho, float(n), tail) * n)
            above, from_here = law.sf(k), law.sf(k - 1)
            if k < 200 and p * n + 4.0 * law.std() < 240.0:
                assert above <= tail * (1.0 + 1e-6), (n, p, rho)
                assert k == 0 or from_here > tail * (1.0 - 1e-6), (n, p, rho)
            else:
                # Approximated: within one call of the right limit, or within 3 % of the claim.
                assert law.sf(k + 1) <= tail * 1.03, (n, p, rho)
                assert law.sf(k - 2) >= tail * 0.97, (n, p, rho)


@pytest.mark.parametrize("n", [1e6, 5e7])
def test_limits_of_many_calls_approach_those_of_the_rate_itself(n: float) -> None:
    assert rate_threshold(0.01, 0.0, n, 0.01) == pytest.approx(binom(n, 0.01).isf(0.01) / n, rel=1e-4)
    for p, rho in ((0.002, 0.02), (0.05, 0.002), (0.3, 0.2)):
        both = (1.0 - rho) / rho
        # The rate's own distribution, for that of sampling is narrow against it.
        rates = np.random.default_rng(5).beta(p * both, (1.0 - p) * both, 400_000)
        assert np.mean(rates > rate_threshold(p, rho, n, 0.01)) == pytest.approx(0.01, rel=0.06), (p, rho)


@pytest.mark.parametrize(("n", "p", "rho"), [(5, 0.01, 0.0), (5, 0.3, 0.02), (20, 0.05, 0.002), (1000, 0.01, 0.002)])
def test_the_dithered_limit_keeps_the_claim_exactly_on_average(n: int, p: float, rho: float) -> None:
    law = distribution(p, rho, n)
    phases = (np.arange(4000) + 0.5) / 4000
    limits = np.array([dithered_threshold(p, rho, float(n), 0.0, 0.01, phase) for phase in phases])
    assert np.mean(law.sf(np.floor(limits * n))) == pytest.approx(0.01, rel=0.01)


def test_a_dithered_limit_is_never_decided_by_the_last_bit() -> None:
    for n in range(1, 60):
        for phase in (0.0, 0.999):
            limit = 100.0 * dithered_threshold(0.05, 0.01, float(n), 0.0, 0.01, phase)
            for k in range(1, n):
                assert abs(limit - 100.0 * k / n) > 1e-3


def test_no_count_teaches_a_limit_below_zero_or_above_one() -> None:
    for n in (1.0, 1.5, 3.2, 40.0, 1e4, 5e7):
        for p in (0.0, 1e-12, 1e-6, 0.01, 0.5, 0.999, 1.0):
            for rho in (0.0, 1e-12, 1e-6, 0.01, 0.5):
                for deviation in (0.0, 0.4 * n, 3.0 * n):
                    assert 0.0 <= dithered_threshold(p, rho, n, deviation, 0.01, 0.3) <= 1.0, (n, p, rho, deviation)


def test_one_failed_call_of_three_is_no_evidence_and_three_of_three_are() -> None:
    assert not is_credible(1.0, 3.0, 0.01, 0.002, 0.01)
    assert not is_credible(1.0, 1.0, 1e-6, 0.0, 0.01)
    assert is_credible(3.0, 3.0, 0.01, 0.002, 0.01)


@pytest.mark.parametrize(("p", "rho"), [(0.001, 0.0), (0.05, 0.02), (0.3, 0.002), (0.7, 0.01), (0.3, 0.3)])
def test_the_fewest_calls_are_the_first_whose_failing_all_is_evidence(p: float, rho: float) -> None:
    fewest = min_calls(p, rho, 0.01)
    assert fewest >= 2.0
    assert is_credible(fewest, fewest, p, rho, 0.01)
    assert fewest == 2.0 or not is_credible(fewest - 1.0, fewest - 1.0, p, rho, 0.01)


def test_limits_by_count_are_the_highest_shares_that_are_no_evidence() -> None:
    for n, limit in limits_by_count(0.02, 0.005, 0.01, (3, 5, 20, 100, 1000)):
        k = round(limit * n)
        assert not is_credible(float(k), float(n), 0.02, 0.005, 0.01)
        assert is_credible(float(k + 1), float(n), 0.02, 0.005, 0.01)


def test_more_calls_allow_a_smaller_failed_share() -> None:
    limits = [limit for _, limit in limits_by_count(0.02, 0.001, 0.01)]
    assert limits == sorted(limits, reverse=True)


def test_little_known_widens_the_threshold() -> None:
    few = learned([1.0] * 3, [100.0] * 3)
    many = learned([1.0] * 500, [100.0] * 500)
    assert expected_rate(few, math.nan)[1] > 10.0 * expected_rate(many, math.nan)[1]
    assert threshold(few, math.nan, 3, 0.01) > threshold(many, math.nan, 20, 0.01)


def test_the_location_is_believed_as_far_as_it_was_right() -> None:
    rng = np.random.default_rng(3)
    right, wrong = new_row(), new_row()
    rate = 0.0
    for hour in range(24 * 30):
        rate = 0.01 if hour % 24 < 12 else 0.05
        failed = float(rng.binomial(2000, rate))
        for row, location in ((right, rate), (wrong, 0.0)):
            learn(row, failed, 2000.0, location, threshold(row, location, hour % 24, 0.01), hour % 24, 0.01)
    assert expected_rate(right, 0.01)[0] == pytest.approx(0.01, rel=0.1)
    assert expected_rate(right, 0.05)[0] == pytest.approx(0.05, rel=0.1)
    assert expected_rate(wrong, 0.0)[0] > 0.02


def test_the_hours_of_day_have_their_own_number_of_calls() -> None:
    rng = np.random.default_rng(4)
    calls = [float(rng.poisson(1000.0 if hour % 24 < 8 else 100.0)) for hour in range(24 * 40)]
    row = learned([0.0] * len(calls), calls)
    assert expected_calls(row, 3)[0] == pytest.approx(1000.0, rel=0.2)
    assert expected_calls(row, 15)[0] == pytest.approx(100.0, rel=0.2)


@pytest.mark.parametrize("rho", [0.0, 0.002, 0.02])
def test_the_over_dispersion_is_found(rho: float) -> None:
    rng = np.random.default_rng(6)
    rates = rng.beta(0.05 * (1 - rho) / rho, 0.95 * (1 - rho) / rho, 3000) if rho else np.full(3000, 0.05)
    row = learned(rng.binomial(2000, rates).astype(float).tolist(), [2000.0] * 3000)
    assert overdispersion(row) == pytest.approx(rho, rel=0.25, abs=3e-4)


def test_an_hour_without_calls_teaches_nothing() -> None:
    row = learned([1.0, 0.0, 2.0], [50.0, 60.0, 70.0])
    before = row.tobytes()
    learn(row, 0.0, 0.0, math.nan, 0.1, 3, 0.01)
    assert row.tobytes() == before


def test_asking_for_a_threshold_changes_nothing_and_a_stored_row_answers_alike() -> None:
    row = learned([1.0, 0.0, 2.0] * 50, [50.0, 60.0, 70.0] * 50)
    before = row.tobytes()
    answer = threshold(row, 0.02, 5, 0.01)
    assert row.tobytes() == before
    assert threshold(np.frombuffer(before, np.dtype(FIELDS))[0], 0.02, 5, 0.01) == answer


def test_the_forecasters_threshold_is_published_where_it_lost_less() -> None:
    row = new_row()
    assert joined(row, 0.2, 0.1) == 0.2
    for _ in range(10):
        learn_joined(row, 0.05, 0.2, 0.1, 0.01)
    assert joined(row, 0.2, 0.1) == 0.1
    learn_joined(row, 0.5, 0.4, 0.1, 0.01)
    assert joined(row, 0.2, 0.1) == 0.2


@pytest.mark.parametrize("calls", [1.0, 5e7])
def test_extremes_stay_finite_and_inside_the_bounds(calls: float) -> None:
    rng = np.random.default_rng(8)
    row = new_row()
    for hour in range(2000):
        n = calls if rng.random() < 0.9 else float(rng.integers(1, 10**7))
        failed = (0.0, n, math.floor(n / 3.0))[int(rng.integers(3)) if hour % 300 > 150 else 0]
        location = (math.nan, 0.0, 1.0, 1e-300)[hour % 4]
        published = threshold(row, location, hour % 24, 0.01)
        assert 0.0 <= published <= 1.0
        learn(row, failed, n, location, published, hour % 24, 0.01)
        assert all(np.all(np.isfinite(row[name])) for name in row.dtype.names)
