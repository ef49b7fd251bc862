"""What a cohort is learned as, and what its young series make of it."""

import math
import random
from dataclasses import replace

import pytest

from detection.catalogue import AVERAGE_RESPONSE_TIME, ERROR_RATE, Metric, gauge
from detection.cohort_learning import MOST_COHORTS, Census
from detection.cohorts import FEWEST_SERIES, Cohorts, Outlook, pool, size_of, student
from tests.cohorts import COVERAGE, Truth, census, known, place, prior_in, published

METRICS = (AVERAGE_RESPONSE_TIME, ERROR_RATE, gauge("load"))
LEVELS = {"mean": 5.0, "ratio": -3.0, "gauge": -40.0}


def truth_of(metric: Metric, *, spread: float = 0.5, noise: float = 1.0) -> Truth:
    return Truth(level=LEVELS[metric.kind], spread=spread, noise=noise)


@pytest.mark.parametrize(
    ("calls", "size"),
    [
        (0.0, "any"),
        (math.nan, "any"),
        (0.2, "<10"),
        (9.99, "<10"),
        (10.0, "10-100"),
        (1e3, "1000-10000"),
        (1e300, ">=1000000"),
    ],
)
def test_the_size_class_is_the_power_of_ten_of_the_expected_calls(calls: float, size: str) -> None:
    assert size_of(calls) == size


@pytest.mark.parametrize("metric", METRICS, ids=str)
@pytest.mark.parametrize(("spread", "noise"), [(0.5, 1.0), (1.0, 0.5), (0.3, 1.5)])
def test_kappa_is_recovered_within_a_quarter(metric: Metric, spread: float, noise: float) -> None:
    """Of 2000 series; with the catalogue's own prior among the rates, and 24 hours of noise in every level."""
    prior = prior_in(known(metric, truth_of(metric, spread=spread, noise=noise), series=2000), metric)
    assert prior.kappa == pytest.approx((noise / spread) ** 2, rel=0.25)
    assert prior.spread == pytest.approx(spread, rel=0.12)
    assert prior.level == pytest.approx(LEVELS[metric.kind], abs=0.06)


@pytest.mark.parametrize("metric", METRICS, ids=str)
@pytest.mark.parametrize("series", [6, 60])
def test_a_new_series_exceeds_its_first_threshold_as_often_as_claimed(metric: Metric, series: int) -> None:
    """The quantile must hold what lies between the series, what lies within one, and how little six series tell."""
    chance = random.Random(7)
    truth = truth_of(metric, spread=1.0, noise=0.5)
    side = 1.0 if metric.direction == "above" else -1.0
    beyond = 0
    for seed in range(400):
        prior = prior_in(known(metric, truth, series=series, hours=400, seed=seed), metric)
        threshold = place(prior, pool(metric, prior, n=0, own=None, coverage=COVERAGE).outlook.threshold)
        for _ in range(20):
            value = chance.gauss(chance.gauss(truth.level, truth.spread), truth.noise)
            beyond += side * (value - threshold) > 0.0
    assert 0.004 <= beyond / 8000 <= 0.02


def test_the_pooled_level_is_nearer_to_the_truth_than_either_alone() -> None:
    """That is what the weight is for: the mean squared error of 400 series with two hours each."""
    metric, truth, chance = AVERAGE_RESPONSE_TIME, Truth(), random.Random(3)
    prior = prior_in(known(metric, truth, series=500), metric)
    pooled = own = cohort = 0.0
    for _ in range(400):
        told, level = published(metric, truth, hours=2, chance=chance)
        outlook = pool(metric, prior, n=2, own=told, coverage=COVERAGE).outlook
        pooled += (place(prior, outlook.estimate) - level) ** 2
        own += (place(prior, told.estimate) - level) ** 2
        cohort += (prior.level - level) ** 2
    assert pooled < 0.8 * min(own, cohort)


def test_the_weight_of_a_series_own_hours_is_n_over_n_plus_kappa() -> None:
    prior = replace(prior_in(known(AVERAGE_RESPONSE_TIME, Truth(), series=50), AVERAGE_RESPONSE_TIME), kappa=6.0)
    own = Outlook(estimate=20.0, lower=10.0, upper=40.0, threshold=50.0)
    pooled = pool(AVERAGE_RESPONSE_TIME, prior, n=2, own=own, coverage=COVERAGE)
    assert pooled.weight == pytest.approx(0.25)
    assert math.log(pooled.outlook.estimate) == pytest.approx(0.25 * math.log(20.0) + 0.75 * prior.level)


def test_one_series_that_went_astray_moves_the_cohort_little() -> None:
    metric = AVERAGE_RESPONSE_TIME
    quiet, astray = census(metric, Truth(), series=30), census(metric, Truth(), series=30)
    astray.add_ready(metric.slug, 50.0, Outlook(1e12, 1e11, 1e13, 1e14), 100)
    before, after = (prior_in(Cohorts(one.cohorts(COVERAGE)), metric) for one in (quiet, astray))
    assert after.level == pytest.approx(before.level, abs=0.15)
    assert after.spread < 1.5 * before.spread


def test_too_few_series_leave_it_to_the_metric_and_too_few_of_that_to_the_catalogue() -> None:
    metric, counted = AVERAGE_RESPONSE_TIME, Census()
    chance = random.Random(5)
    for calls in [5.0] * FEWEST_SERIES + [5000.0] * (FEWEST_SERIES - 1):
        counted.add_ready(metric.slug, calls, published(metric, Truth(), hours=100, chance=chance)[0], 100)
    for _ in range(FEWEST_SERIES - 1):
        counted.add_ready("drift", 5.0, Outlook(1.0, 0.5, 1.5, 2.0), 100)
    cohorts = Cohorts(counted.cohorts(COVERAGE))
    names = [found and found.name for found in (cohorts.find(metric.slug, calls) for calls in (5.0, 5000.0, 50.0, 0.0))]
    assert names == [f"{metric.slug}/<10", *[f"{metric.slug}/any"] * 3]
    assert cohorts.find("drift", 5.0) is None
    assert cohorts.find("unheard-of", 5.0) is None


def test_the_measured_exceedance_of_a_cohort_is_weighted_by_judged_hours() -> None:
    counted = Census()
    counted.add_judged("error-rate", 50.0, 900, 0.01)
    counted.add_judged("error-rate", 60.0, 100, 0.05)
    counted.add_judged("error-rate", 5.0, 1000, 0.03)
    found = Cohorts(counted.cohorts(COVERAGE)).known
    assert found["error-rate", "10-100"].measured_exceedance == pytest.approx(0.014)
    assert found["error-rate", "any"].measured_exceedance == pytest.approx(0.022)
    assert found["error-rate", "any"].judged == 2000
    assert found["error-rate", "any"].prior is None


def test_a_cohort_without_a_single_failure_expects_one_all_the_same() -> None:
    counted = Census()
    for _ in range(40):
        counted.add_ready("error-rate", 50.0, Outlook(0.0, 0.0, 0.0, 0.0), 500)
    prior = prior_in(Cohorts(counted.cohorts(COVERAGE)), ERROR_RATE)
    fresh = pool(ERROR_RATE, prior, n=0, own=None, coverage=COVERAGE).outlook
    young = pool(ERROR_RATE, prior, n=40, own=Outlook(0.0, 0.0, 0.0, 0.0), coverage=COVERAGE).outlook
    assert 0.001 < fresh.estimate < fresh.threshold < 5.0
    assert 0.0 < young.estimate < young.threshold


def test_invented_gauges_do_not_make_more_cohorts_than_are_kept() -> None:
    counted = Census()
    for number in range(MOST_COHORTS):
        counted.add_judged(f"invented-{number}", 5.0, 10_000, 0.01)
    for _ in range(FEWEST_SERIES):
        counted.add_ready("error-rate", 5.0, Outlook(1.0, 0.5, 2.0, 3.0), 100)
    kept = counted.cohorts(COVERAGE)
    assert len(kept) == MOST_COHORTS
    assert [one.name for one in kept[:2]] == ["error-rate/<10", "error-rate/any"]


@pytest.mark.parametrize(
    ("share", "freedom", "quantile"),
    [(0.99, 4, 3.747), (0.99, 10, 2.764), (0.99, 100, 2.364), (0.975, 4, 2.776), (0.999, 10, 4.144)],
)
def test_the_quantiles_of_student_are_those_of_the_tables(share: float, freedom: int, quantile: float) -> None:
    assert student(share, freedom) == pytest.approx(quantile, rel=0.01)
