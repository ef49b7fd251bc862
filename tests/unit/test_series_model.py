"""One series: judged, then learned; what is said when little or nothing is known."""

import math

import pytest

from detection.catalogue import AVERAGE_RESPONSE_TIME, BILLER_METRICS, ERROR_RATE, TIMEOUT_ERROR_RATE, Metric, gauge
from detection.errors import InvalidObservationError, UnreadableStateError
from detection.estimate import Scored, WarmingUp
from detection.policy import Policy
from detection.series_model import READY_AFTER, SeriesModel

POLICY = Policy()
START = 490_000


def learned(metric: Metric, hours: int, *, value: float = 100.0, count: int = 60, spread: float = 1.0) -> SeriesModel:
    model = SeriesModel(metric, POLICY)
    for at in range(hours):
        model.learn(START + at, value + spread * (at % 5), count, POLICY)
    return model


@pytest.mark.parametrize("metric", BILLER_METRICS)
def test_a_series_that_was_never_seen_answers_from_the_prior_and_never_zero(metric: Metric) -> None:
    forecast = SeriesModel(metric, POLICY).forecast(START, POLICY)
    assert forecast.status == "prior"
    assert forecast.threshold.value == metric.prior_threshold > forecast.estimate.location > 0.0
    assert forecast.measured_exceedance is None


def test_warm_up_is_a_state_and_then_ends() -> None:
    model = learned(AVERAGE_RESPONSE_TIME, READY_AFTER - 1)
    assert model.forecast(START + READY_AFTER, POLICY).status == "learning"
    verdict = model.learn(START + READY_AFTER, 1e6, 60, POLICY)
    assert isinstance(verdict, WarmingUp)
    assert model.forecast(START + READY_AFTER + 1, POLICY).status == "ready"


def test_a_young_threshold_keeps_the_distance_of_the_prior() -> None:
    model = learned(AVERAGE_RESPONSE_TIME, 3)
    forecast = model.forecast(START + 3, POLICY)
    assert forecast.threshold.value > 3 * forecast.estimate.location
    assert forecast.threshold.value < AVERAGE_RESPONSE_TIME.prior_threshold


def test_a_verdict_does_not_depend_on_the_value_it_judges() -> None:
    one, other = learned(AVERAGE_RESPONSE_TIME, 200), learned(AVERAGE_RESPONSE_TIME, 200)
    normal, high = one.learn(START + 200, 101.0, 60, POLICY), other.learn(START + 200, 1e5, 60, POLICY)
    assert isinstance(normal, Scored)
    assert isinstance(high, Scored)
    assert (normal.estimate, normal.threshold) == (high.estimate, high.threshold)
    assert high.is_alert
    assert high.score > 1.0
    assert not normal.is_exceeded


def test_the_score_is_one_exactly_at_the_threshold() -> None:
    model = learned(AVERAGE_RESPONSE_TIME, 200)
    threshold = model.forecast(START + 200, POLICY).threshold.value
    verdict = model.score(START + 200, threshold, 60, POLICY)
    assert isinstance(verdict, Scored)
    assert verdict.score == pytest.approx(1.0)
    assert not verdict.is_exceeded


def test_one_failed_call_of_three_is_no_alert() -> None:
    model = learned(ERROR_RATE, 200, value=0.0, count=3, spread=0.0)
    threshold = model.forecast(START + 200, POLICY).threshold.value
    assert threshold == pytest.approx(100.0 / 3.0)
    for calls in (2, 3, 4):
        verdict = model.score(START + 200, 100.0 / calls, calls, POLICY)
        assert isinstance(verdict, Scored)
        assert not verdict.is_alert


def test_the_published_threshold_is_what_the_measured_exceedance_is_measured_against() -> None:
    model = learned(AVERAGE_RESPONSE_TIME, 100)
    judged, rate = model.judged, model.exceedance_rate
    assert judged == 100 - READY_AFTER
    model.learn(START + 100, 1e5, 60, POLICY)
    assert model.judged == judged + 1
    assert model.exceedance_rate == pytest.approx(rate + (1.0 - rate) / (judged + 1))


def test_the_measured_exceedance_outlives_a_restart() -> None:
    model = learned(AVERAGE_RESPONSE_TIME, 100)
    again = SeriesModel.from_state(AVERAGE_RESPONSE_TIME, model.to_state(), POLICY)
    assert (again.judged, again.exceedance_rate) == (model.judged, model.exceedance_rate)


def test_ten_failed_calls_of_thirty_are_an_alert() -> None:
    model = learned(TIMEOUT_ERROR_RATE, 200, value=0.0, count=30)
    verdict = model.score(START + 200, 100.0 / 3.0, 30, POLICY)
    assert isinstance(verdict, Scored)
    assert verdict.is_alert


def test_forecasting_changes_nothing() -> None:
    model = learned(AVERAGE_RESPONSE_TIME, 300)
    before = model.to_state()
    for ahead in (0, 1, 30, 400):
        model.forecast(START + 300 + ahead, POLICY)
        model.score(START + 300 + ahead, 5.0, 1, POLICY)
    assert model.to_state() == before


def test_a_silent_series_becomes_stale_and_still_answers() -> None:
    forecast = learned(AVERAGE_RESPONSE_TIME, 100).forecast(START + 100 + 25, POLICY)
    assert forecast.status == "stale"
    assert math.isfinite(forecast.threshold.value)


def test_hours_are_learned_once_and_in_order() -> None:
    model = learned(AVERAGE_RESPONSE_TIME, 5)
    with pytest.raises(InvalidObservationError, match="not after the last one learned"):
        model.learn(START + 4, 1.0, 1, POLICY)
    with pytest.raises(InvalidObservationError, match="not finite"):
        model.learn(START + 9, math.nan, 1, POLICY)


def test_missing_hours_before_an_observation_equal_skipping_them_one_by_one() -> None:
    once, often = learned(AVERAGE_RESPONSE_TIME, 60), learned(AVERAGE_RESPONSE_TIME, 60)
    for ahead in range(30):
        often.forecast(START + 60 + ahead, POLICY)
    verdicts = [model.learn(START + 90, 130.0, 60, POLICY) for model in (once, often)]
    assert verdicts[0] == verdicts[1]
    assert once.to_state() == often.to_state()


def test_a_gauge_is_taken_as_positive_until_a_negative_value_begins_it_anew() -> None:
    drift = gauge("drift")
    model = learned(drift, 100, value=1.0)
    assert model.forecast(START + 100, POLICY).estimate.lower >= 0.0
    verdict = model.learn(START + 100, -2.0, 5, POLICY)
    assert isinstance(verdict, Scored)
    assert model.is_signed
    assert model.n_learned == 101
    forecast = model.forecast(START + 101, POLICY)
    assert forecast.status == "learning"
    assert forecast.estimate.location == pytest.approx(-2.0)
    again = SeriesModel.from_state(drift, model.to_state(), POLICY)
    assert again.forecast(START + 101, POLICY) == forecast


def test_an_accuracy_alerts_below_its_threshold() -> None:
    model = learned(gauge("prediction_accuracy"), 200, value=0.85, count=20, spread=0.01)
    verdict = model.score(START + 200, 0.1, 20, POLICY)
    assert isinstance(verdict, Scored)
    assert verdict.threshold < verdict.estimate
    assert verdict.is_alert


def test_state_of_another_version_is_refused_by_name() -> None:
    state = learned(ERROR_RATE, 3).to_state() | {"version": 99}
    with pytest.raises(UnreadableStateError, match=r"error-rate: .* version 99"):
        SeriesModel.from_state(ERROR_RATE, state, POLICY)
