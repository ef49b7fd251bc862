"""What holds of pooling whatever the cohort and the series are."""

import math
from dataclasses import astuple
from itertools import pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from detection.catalogue import AVERAGE_RESPONSE_TIME, ERROR_RATE, Metric, gauge, metric_of
from detection.cohort_learning import Census
from detection.cohorts import Cohort, Cohorts, Outlook, pool

COVERAGE = 0.99
METRICS = (AVERAGE_RESPONSE_TIME, ERROR_RATE, gauge("load"), metric_of("prediction-accuracy"))

metrics = st.sampled_from(METRICS)
numbers = st.one_of(
    st.sampled_from([0.0, 5e-324, 1e-300, 1e-9, 1.0, 100.0, 1e15]), st.floats(min_value=0.0, max_value=1e15)
)


@st.composite
def outlooks(draw: st.DrawFn, metric: Metric) -> Outlook:
    """What a series can have published: a band around the estimate, a threshold on its side, all within bounds."""
    sign = draw(st.sampled_from([1.0, -1.0])) if metric.slug == "load" else 1.0
    lower, middle, upper, far = sorted(metric.clip(sign * draw(numbers)) for _ in range(4))
    if metric.direction == "above":
        return Outlook(middle, lower, upper, far)
    return Outlook(upper, middle, far, lower)


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[Metric, list[tuple[Outlook, int]], Outlook]:
    metric = draw(metrics)
    member = st.tuples(outlooks(metric), st.integers(48, 100_000))
    return metric, draw(st.lists(member, min_size=5, max_size=12)), draw(outlooks(metric))


def learned(metric: Metric, members: list[tuple[Outlook, int]]) -> Cohort | None:
    census = Census()
    for outlook, n_learned in members:
        census.add_ready(metric.slug, 50.0, outlook, n_learned)
        census.add_judged(metric.slug, 50.0, n_learned, 1.0 / n_learned)
    return Cohorts(census.cohorts(COVERAGE)).find(metric.slug, 50.0)


@given(cohorts(), st.integers(1, 47))
def test_a_pooled_answer_is_finite_within_bounds_and_in_order(
    drawn: tuple[Metric, list[tuple[Outlook, int]], Outlook], n: int
) -> None:
    metric, members, own = drawn
    found = learned(metric, members)
    if found is None or found.prior is None:
        return
    assert all(math.isfinite(one) for one in astuple(found.prior)[2:])
    for hours, told in ((0, None), (n, own)):
        outlook = pool(metric, found.prior, n=hours, own=told, coverage=COVERAGE).outlook
        assert all(math.isfinite(one) and metric.clip(one) == one for one in astuple(outlook))
        assert outlook.lower <= outlook.estimate <= outlook.upper
        if metric.direction == "above":
            assert outlook.estimate <= outlook.threshold
        else:
            assert outlook.threshold <= outlook.estimate
    if metric.kind != "gauge":
        fresh = pool(metric, found.prior, n=0, own=None, coverage=COVERAGE).outlook
        assert fresh.estimate > 0.0
        assert fresh.threshold > 0.0


@given(cohorts())
def test_the_estimate_goes_from_the_cohorts_to_the_series_own_with_every_hour(
    drawn: tuple[Metric, list[tuple[Outlook, int]], Outlook],
) -> None:
    metric, members, own = drawn
    found = learned(metric, members)
    if found is None or found.prior is None:
        return
    prior = found.prior
    fresh = pool(metric, prior, n=0, own=None, coverage=COVERAGE)
    path = [fresh, *(pool(metric, prior, n=n, own=own, coverage=COVERAGE) for n in (1, 2, 5, 12, 47, 10**12))]
    weights = [one.weight for one in path]
    assert weights == sorted(weights)
    assert weights[0] == 0.0
    estimates = [one.outlook.estimate for one in path]
    rises = estimates[-1] >= estimates[0]
    slack = 1e-9 * max(map(abs, estimates))
    for before, after in pairwise(estimates):
        assert after >= before - slack if rises else after <= before + slack
    assert min(fresh.outlook.estimate, own.estimate) - slack <= estimates[3]
    assert estimates[3] <= max(fresh.outlook.estimate, own.estimate) + slack


@given(cohorts(), st.randoms(use_true_random=False))
def test_a_cohort_does_not_depend_on_the_order_of_its_series(
    drawn: tuple[Metric, list[tuple[Outlook, int]], Outlook], chance: Random
) -> None:
    metric, members, _ = drawn
    shuffled = list(members)
    chance.shuffle(shuffled)
    assert learned(metric, members) == learned(metric, shuffled)
