"""One series: judged, then learned; what is said when little or nothing is known."""

import math
import random

import pytest

from detection.catalogue import AVERAGE_RESPONSE_TIME, BILLER_METRICS, ERROR_RATE, TIMEOUT_ERROR_RATE, Metric, gauge
from detection.challengers.selection import Selection
from detection.errors import InvalidObservationError, UnreadableStateError
from detection.estimate import Scored, Verdict, WarmingUp
from detection.kernel.beta_binomial import is_credible, min_calls
from detection.kernel.row import ROW, ROW_VERSION
from detection.kernel.series import READY_AFTER
from detection.policy import Policy
from detection.series_model import SeriesModel

POLICY = Policy()
START = 490_000


def learned(metric: Metric, hours: int, *, value: float = 100.0, count: int = 60, spread: float = 1.0) -> SeriesModel:
    model = SeriesModel(metric, POLICY)
    for at in range(hours):
        model.learn(START + at, value + spread * (at % 5), count, POLICY)
    return model


def noisy(hours: int) -> SeriesModel:
    """A response time of 100 ms with a tenth of noise."""
    model, rng = SeriesModel(AVERAGE_RESPONSE_TIME, POLICY), random.Random(3)
    for at in range(hours):
        model.learn(START + at, 100.0 * math.exp(rng.gauss(0.0, 0.1)), 60, POLICY)
    return model


def alerts(verdict: Verdict) -> bool:
    return isinstance(verdict, Scored) and verdict.is_alert


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
    normal, high = one.learn(START + 200, 100.0, 60, POLICY), other.learn(START + 200, 1e5, 60, POLICY)
    assert isinstance(normal, Scored)
    assert isinstance(high, Scored)
    assert (normal.estimate, normal.threshold) == (high.estimate, high.threshold)
    assert high.is_alert
    assert high.score > 1.0
    assert not normal.is_exceeded


def test_a_value_on_its_threshold_is_still_normal() -> None:
    model = learned(AVERAGE_RESPONSE_TIME, 200)
    threshold = model.forecast(START + 200, POLICY).threshold.value
    on, beyond = (model.score(START + 200, value, 60, POLICY) for value in (threshold, math.nextafter(threshold, 1e9)))
    assert isinstance(on, Scored)
    assert isinstance(beyond, Scored)
    assert (on.is_exceeded, beyond.is_exceeded) == (False, True)


def test_an_alert_is_due_above_a_score_of_one_and_the_score_rises_with_the_value() -> None:
    model = noisy(400)
    verdicts = [model.score(START + 400, value, 60, POLICY) for value in (10.0, 100.0, 130.0, 200.0, 1e3, 1e4, 1e9)]
    scores = [one.score for one in verdicts if isinstance(one, Scored)]
    assert scores == sorted(scores)
    assert scores[0] < 0.0
    assert scores[1] < 1.0 < scores[4]
    assert math.isfinite(scores[-1])
    assert all(one.is_alert == (one.score > 1.0) for one in verdicts if isinstance(one, Scored))
    assert not alerts(model.score(START + 400, 1e4, 1, POLICY)), "one call is no evidence"


def test_an_incident_that_the_threshold_has_followed_still_alerts() -> None:
    before = 400
    model = noisy(before)
    said = [model.learn(START + before + at, 500.0 + at % 3, 60, POLICY) for at in range(20)]
    assert all(map(alerts, said[1:]))
    assert any(isinstance(one, Scored) and not one.is_exceeded for one in said), "the threshold was to follow"
    later = [model.learn(START + before + at, 500.0 + at % 3, 60, POLICY) for at in range(20, 60)]
    assert not any(map(alerts, later[12:])), "a level that stays is normal after a day"


def test_one_failed_call_of_three_is_no_alert() -> None:
    model = learned(ERROR_RATE, 200, value=0.0, count=3, spread=0.0)
    for calls in (2, 3, 4):
        assert not alerts(model.score(START + 200, 100.0 / calls, calls, POLICY))


@pytest.mark.parametrize("metric", [ERROR_RATE, TIMEOUT_ERROR_RATE, AVERAGE_RESPONSE_TIME, gauge("drift")])
@pytest.mark.parametrize("count", [1, 7, 10**15])
@pytest.mark.parametrize("value", [1e9, 1e30, 1.7e308])
def test_the_largest_numbers_overflow_nothing(metric: Metric, count: int, value: float) -> None:
    model = SeriesModel(metric, POLICY)
    for at in range(READY_AFTER + 30):
        verdict = model.learn(START + at, value if at % 4 else 1.0, count, POLICY)
        asked = model.score(START + at + 1, value, count, POLICY)
        forecast = model.forecast(START + at + 1, POLICY)
        numbers = [forecast.threshold.value, forecast.estimate.lower, forecast.estimate.upper]
        numbers += [one.score for one in (verdict, asked) if isinstance(one, Scored)]
        assert all(map(math.isfinite, numbers))
        assert metric.lower <= forecast.estimate.lower <= forecast.estimate.location <= forecast.estimate.upper
        assert forecast.estimate.location <= forecast.threshold.value <= metric.upper


def test_a_rate_outside_of_what_rates_can_be_is_learned_as_its_bound() -> None:
    beyond, bound = SeriesModel(ERROR_RATE, POLICY), SeriesModel(ERROR_RATE, POLICY)
    for at in range(100):
        beyond.learn(START + at, 250.0 if at % 2 else -3.0, 10, POLICY)
        bound.learn(START + at, 100.0 if at % 2 else 0.0, 10, POLICY)
    assert beyond.forecast(START + 100, POLICY).threshold == bound.forecast(START + 100, POLICY).threshold


@pytest.mark.parametrize("metric", [*BILLER_METRICS, gauge("depth")])
@pytest.mark.parametrize("constant", [0.0, 100.0])
def test_what_was_constant_and_then_varies_is_judged_well_within_hours(metric: Metric, constant: float) -> None:
    model = SeriesModel(metric, POLICY)
    for at in range(200):
        model.learn(START + at, constant, 600, POLICY)
    rng = random.Random(8)
    exceeded = []
    for at in range(200, 368):
        value = min(50.0 * math.exp(rng.gauss(0.0, 0.2)), 100.0)
        verdict = model.learn(START + at, value, 600, POLICY)
        exceeded.append(isinstance(verdict, Scored) and verdict.is_exceeded)
    assert sum(exceeded[8:32]) <= 6
    assert sum(exceeded[32:]) <= 6
    forecast = model.forecast(START + 368, POLICY)
    assert forecast.estimate.location == pytest.approx(50.0, rel=0.25)
    assert 55.0 <= forecast.threshold.value <= min(130.0, metric.upper)


def test_the_unit_of_a_value_makes_no_difference_once_the_prior_is_forgotten() -> None:
    seconds, milliseconds = SeriesModel(gauge("lag"), POLICY), SeriesModel(gauge("lag"), POLICY)
    rng = random.Random(9)
    for at in range(600):
        value = 2.0 * math.exp(rng.gauss(0.0, 0.2)) * (20.0 if 400 <= at < 405 else 1.0)
        pair = [model.learn(START + at, k * value, 60, POLICY) for model, k in ((seconds, 1.0), (milliseconds, 1e3))]
        short, long = pair
        if isinstance(short, Scored) and isinstance(long, Scored):
            assert long.threshold == pytest.approx(1e3 * short.threshold, rel=2e-3)
            assert long.score == pytest.approx(short.score, rel=2e-2, abs=1e-3)


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
    assert forecast.estimate.location == pytest.approx(-2.0, rel=0.05)
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


def test_the_record_is_the_state_and_is_small() -> None:
    model = learned(ERROR_RATE, 60)
    assert len(model.to_bytes()) == ROW.itemsize <= 5000
    again = SeriesModel.from_bytes(ERROR_RATE, model.to_bytes(), POLICY)
    assert again.learn(START + 70, 9.0, 30, POLICY) == model.learn(START + 70, 9.0, 30, POLICY)
    assert again.to_bytes() == model.to_bytes()


@pytest.mark.parametrize(
    "damaged", [b"", bytes(ROW.itemsize), bytes([ROW_VERSION]), bytes([ROW_VERSION]) * (ROW.itemsize - 1)]
)
def test_bytes_that_are_no_record_are_refused_by_name(damaged: bytes) -> None:
    with pytest.raises(UnreadableStateError, match="error-rate: model state of"):
        SeriesModel.from_bytes(ERROR_RATE, damaged, POLICY)


def test_reading_changes_no_byte_of_the_record() -> None:
    model = noisy(300)
    before = model.to_bytes()
    for ahead in (0, 1, 30, 400):
        model.forecast(START + 300 + ahead, POLICY)
        model.score(START + 300 + ahead, 1e9, 1, POLICY)
    model.copy().learn(START + 300, 1e9, 1, POLICY)
    assert model.to_bytes() == before


def test_a_series_that_fails_in_more_hours_than_claimed_keeps_its_claim() -> None:
    model, rng = SeriesModel(ERROR_RATE, POLICY), random.Random(8)
    for at in range(6_000):
        failed = sum(rng.random() < 0.01 for _ in range(5))
        model.learn(START + at, 100.0 * failed / 5, 5, POLICY)
    assert 0.006 < model.exceedance_rate < 0.015


def test_the_largest_counts_of_calls_that_all_fail_leave_a_series_that_heals() -> None:
    model = SeriesModel(ERROR_RATE, POLICY)
    for at in range(100):
        model.learn(START + at, 100.0, 2**53, POLICY)
    assert all(map(math.isfinite, model.readable()["rate_losses"]))
    assert float(model.forecast(START + 100, POLICY).explanation["expected_rate"]) > 50.0


def test_a_response_time_of_nothing_is_silence_to_the_alert_whatever_the_fewest_calls_are() -> None:
    policy = Policy(min_calls=1)
    model = SeriesModel(AVERAGE_RESPONSE_TIME, policy)
    for at in range(READY_AFTER):
        model.learn(START + at, 100.0 + at % 5, 60, policy)
    before = model.readable()["reference_level"]
    for at in range(READY_AFTER, READY_AFTER + 48):
        model.learn(START + at, 0.0, 60, policy)
    assert model.readable()["reference_level"] == before


def test_a_value_is_judged_after_silent_hours_as_it_is_when_learned() -> None:
    model = noisy(200)
    model.learn(START + 200, 400.0, 60, POLICY)
    hour = START + 204
    assert model.score(hour, 180.0, 60, POLICY) == model.learn(hour, 180.0, 60, POLICY)


def test_a_value_is_judged_by_what_the_challenger_that_speaks_expects() -> None:
    policy = Policy(selection=Selection.parse(forecasters="*=holt-winters"))
    model, rng = SeriesModel(AVERAGE_RESPONSE_TIME, policy, "biller:B1"), random.Random(3)
    for at in range(READY_AFTER + 72):
        value = 100.0 * math.exp(rng.gauss(0.0, 0.1))
        assert model.score(START + at, value, 60, policy) == model.learn(START + at, value, 60, policy)


@pytest.mark.parametrize("rate", [0.3, 0.7, 0.86, 0.95])
def test_calls_are_credible_only_from_the_published_fewest_on(rate: float) -> None:
    """Rates that pile up at 0 and at 100 %: that all of a thousand calls fail is then no evidence."""
    assert min_calls(rate, 0.5, 1e-3) > 1000.0
    assert not is_credible(1000.0, 1000.0, rate, 0.5, 1e-3)


@pytest.mark.parametrize(("field", "damage"), [("slot", 168), ("slot", -1), ("creep_weekday", 7), ("is_signed", 2)])
def test_a_record_whose_indexes_lead_outside_of_it_is_refused(field: str, damage: int) -> None:
    model = learned(AVERAGE_RESPONSE_TIME, 3)
    model.rows[field] = damage
    with pytest.raises(UnreadableStateError, match="damaged"):
        SeriesModel.from_bytes(AVERAGE_RESPONSE_TIME, model.to_bytes(), POLICY)


def test_a_single_failed_call_of_five_is_no_alert_even_where_calls_hardly_ever_fail() -> None:
    model = SeriesModel(ERROR_RATE, POLICY)
    for at in range(600):
        model.learn(START + at, 20.0 if at == 300 else 0.0, 5, POLICY)
    assert not alerts(model.score(START + 600, 20.0, 5, POLICY))
    assert model.forecast(START + 600, POLICY).explanation["limits"].startswith("5:20 ")  # type: ignore[union-attr]
