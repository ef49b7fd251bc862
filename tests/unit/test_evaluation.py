"""Every figure of the evaluation, against one worked out by hand, and what must hold for any series."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.errors import InputError
from detection.evaluation import (
    Prediction,
    Recording,
    SeriesAccuracy,
    geometric_mean,
    measure,
    paired,
    seasonal_naive,
    summarise,
)

FIRST = 400_000
WEEK = {FIRST + hour: 10.0 for hour in range(168)}
# Seasonal naive says 10 of each: errors 2, 2, 0 and 4, so the scale is 2.
SCORED = {FIRST + 168: 12.0, FIRST + 169: 8.0, FIRST + 170: 10.0, FIRST + 171: 14.0}
RECORDING = Recording("one", "latency", WEEK | SCORED)
SAID = Prediction(estimate=11.0, lower=9.0, upper=13.0, threshold=13.0)

numbers = st.floats(min_value=0.1, max_value=1e4)
quadruples = st.lists(numbers, min_size=4, max_size=4)


def accuracy(**changed: float) -> SeriesAccuracy:
    figures = {
        "scale": 1.0,
        "relmae": 1.0,
        "pinball99": 1.0,
        "interval95": 1.0,
        "exceedance99": 0.01,
        "coverage95": 0.95,
    }
    return SeriesAccuracy(hours=10, **(figures | changed))


def test_the_figures_of_four_hours_are_those_worked_out_by_hand() -> None:
    found = measure(RECORDING, dict.fromkeys(SCORED, SAID))
    assert found.hours == 4
    assert found.scale == 2.0
    # |12-11| + |8-11| + |10-11| + |14-11| = 8, over 4 hours and the scale of 2.
    assert found.relmae == pytest.approx(1.0)
    # Below the threshold by 1, 5 and 3, which costs a hundredth each, and above it by 1, which costs 0.99.
    assert found.pinball99 == pytest.approx((0.01 * 9 + 0.99) / 4 / 2)
    # Four wide, and missed by 1 below and by 1 above, which costs 40 each.
    assert found.interval95 == pytest.approx((4 + 80 / 4) / 2)
    assert found.exceedance99 == 0.25
    assert found.coverage95 == 0.5


def test_the_first_week_is_not_judged() -> None:
    assert RECORDING.scored_hours() == tuple(SCORED)
    far_off = dict.fromkeys(WEEK, Prediction(1e9, 1e9, 1e9, 1e9))
    assert measure(RECORDING, far_off | dict.fromkeys(SCORED, SAID)) == measure(RECORDING, dict.fromkeys(SCORED, SAID))


def test_a_value_on_the_threshold_or_on_the_edge_of_the_band_is_inside() -> None:
    said = {hour: Prediction(value, value, value, value) for hour, value in SCORED.items()}
    found = measure(RECORDING, said)
    assert (found.exceedance99, found.coverage95) == (0.0, 1.0)
    assert (found.relmae, found.pinball99, found.interval95) == (0.0, 0.0, 0.0)


def test_only_the_hours_that_are_asked_for_are_judged_and_the_scale_is_of_the_same_hours() -> None:
    last = FIRST + 171
    found = measure(RECORDING, {last: SAID}, hours={last})
    assert (found.hours, found.scale) == (1, 4.0)
    assert found.relmae == pytest.approx(3.0 / 4.0)


def test_an_hour_without_a_value_is_guessed_from_what_was_known_when_it_passed() -> None:
    # Of hour 1 no hour of the day or week is known, so both means are the recent one, 4, and the deviation of the hour
    # before is from nothing known, 4: half of 4 + 0.5 * 4, and half of 4 + 0.8 * 4.
    naive = seasonal_naive({0: 4.0, 24: 5.0, 25: 9.0})
    assert naive == {24: 4.0, 25: pytest.approx(6.6)}


def test_no_hours_before_the_second_day_have_a_yesterday() -> None:
    assert seasonal_naive(dict.fromkeys(range(24), 1.0)) == {}
    assert seasonal_naive({}) == {}


def test_a_missing_prediction_is_an_error_that_names_series_and_hour() -> None:
    said = dict.fromkeys(SCORED, SAID)
    del said[FIRST + 170]
    with pytest.raises(InputError, match=f"one: no prediction for 1 scored hours, the first is {FIRST + 170}"):
        measure(RECORDING, said)


@pytest.mark.parametrize("values", [{}, WEEK], ids=["empty", "one week"])
def test_a_series_too_short_to_be_judged_is_an_error(values: dict[int, float]) -> None:
    with pytest.raises(InputError, match="no hour to score"):
        measure(Recording("short", "other", values), {})


def test_a_series_on_which_seasonal_naive_is_perfect_is_an_error() -> None:
    constant = Recording("flat", "other", WEEK | {FIRST + 168: 10.0})
    with pytest.raises(InputError, match="flat: seasonal naive makes no error"):
        measure(constant, {FIRST + 168: SAID})


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["estimate", "lower", "upper", "threshold", "score"])
def test_a_prediction_that_is_not_finite_is_an_error(field: str, number: float) -> None:
    figures = {"estimate": 1.0, "lower": 1.0, "upper": 1.0, "threshold": 1.0, "score": 1.0}
    with pytest.raises(InputError, match="is not finite"):
        Prediction(**(figures | {field: number}))


def test_a_score_that_is_given_stands_and_else_the_threshold_is_at_one() -> None:
    assert Prediction(10.0, 0.0, 0.0, 20.0, score=0.3).score_of(1e9) == 0.3
    without = Prediction(10.0, 0.0, 0.0, 20.0)
    assert [without.score_of(value) for value in (0.0, 10.0, 15.0, 20.0, 30.0)] == [-1.0, 0.0, 0.5, 1.0, 2.0]
    assert math.isfinite(Prediction(10.0, 0.0, 0.0, 10.0).score_of(11.0))


def test_a_group_is_geometric_means_of_ratios_and_quantiles_of_shares() -> None:
    group = summarise(
        [
            accuracy(relmae=0.5, pinball99=0.1, interval95=4.0, exceedance99=0.0, coverage95=0.90),
            accuracy(relmae=2.0, pinball99=0.4, interval95=9.0, exceedance99=0.01, coverage95=0.94),
            accuracy(relmae=1.0, pinball99=0.2, interval95=6.0, exceedance99=0.03, coverage95=0.99),
        ]
    )
    assert group.series == 3
    assert group.relmae == pytest.approx(1.0)
    assert group.pinball99 == pytest.approx(0.2)
    assert group.interval95 == pytest.approx(6.0)
    assert group.exceedance_median == 0.01
    # The 0.9 quantile of three is 0.8 of the way from the second to the third.
    assert group.exceedance_p90 == pytest.approx(0.026)
    assert group.honest_share == pytest.approx(1 / 3)
    assert group.coverage_median == 0.94


@pytest.mark.parametrize(("exceedance", "is_honest"), [(0.0039, 0), (0.004, 1), (0.02, 1), (0.0201, 0)])
def test_the_ends_of_the_honest_range_are_inside_it(exceedance: float, is_honest: int) -> None:
    assert summarise([accuracy(exceedance99=exceedance)]).honest_share == is_honest


def test_pairs_are_ratios_series_by_series_and_a_perfect_other_has_none() -> None:
    ours = [accuracy(relmae=1.0, pinball99=0.2), accuracy(relmae=8.0), accuracy(relmae=5.0)]
    theirs = [accuracy(relmae=2.0, pinball99=0.1), accuracy(relmae=2.0), accuracy(relmae=0.0)]
    found = paired(ours, theirs)
    assert found.series == 3
    # 1/2 and 4; the third has no ratio.
    assert found.relmae == pytest.approx(math.sqrt(2.0))
    assert found.pinball99 == pytest.approx(2.0 ** (1 / 3))
    assert found.interval95 == 1.0


def test_a_perfect_series_counts_as_a_very_small_ratio_and_none_as_an_error() -> None:
    assert geometric_mean([0.0, 1e-9]) == pytest.approx(1e-9)
    with pytest.raises(InputError):
        geometric_mean([])


@given(quadruples, quadruples, st.sampled_from([1e-3, 0.25, 8.0, 1e4]))
def test_the_unit_of_a_series_changes_its_scale_and_nothing_else(
    values: list[float], estimates: list[float], unit: float
) -> None:
    recording, said = _case(values, estimates, 1.0)
    converted, said_converted = _case(values, estimates, unit)
    one, other = measure(recording, said), measure(converted, said_converted)
    assert other.scale == pytest.approx(one.scale * unit)
    assert astuple(other)[2:] == pytest.approx(astuple(one)[2:])


@given(quadruples, quadruples)
def test_the_order_in_which_hours_are_given_does_not_matter(values: list[float], estimates: list[float]) -> None:
    recording, said = _case(values, estimates, 1.0)
    backwards = Recording("one", "latency", {hour: recording.values[hour] for hour in reversed(list(recording.values))})
    assert measure(backwards, dict(reversed(said.items()))) == measure(recording, said)


@given(st.lists(numbers, min_size=4, max_size=60), numbers)
def test_no_constant_threshold_costs_less_than_the_quantile_that_it_should_be(
    values: list[float], other: float
) -> None:
    recording = _recording([*values, 20_000.0], 1.0)
    best = float(np.quantile([recording.values[hour] for hour in recording.scored_hours()], 0.99, method="higher"))

    def pinball(threshold: float) -> float:
        said = Prediction(0.0, 0.0, 0.0, threshold)
        return measure(recording, dict.fromkeys(recording.scored_hours(), said)).pinball99

    assert pinball(best) <= pinball(other) * (1.0 + 1e-9)


def _case(values: list[float], estimates: list[float], unit: float) -> tuple[Recording, dict[int, Prediction]]:
    recording = _recording([*values, 20_000.0], unit)
    said = {
        hour: Prediction(estimate * unit, 0.5 * estimate * unit, 2.0 * estimate * unit, 3.0 * estimate * unit)
        for hour, estimate in zip(recording.scored_hours(), [*estimates, 1.0], strict=True)
    }
    return recording, said


def _recording(values: list[float], unit: float) -> Recording:
    scored = {FIRST + 168 + hour: value * unit for hour, value in enumerate(values)}
    return Recording("one", "latency", {hour: value * unit for hour, value in WEEK.items()} | scored)
