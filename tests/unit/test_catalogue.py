"""A metric has one meaning, however it is named."""

import math

import pytest

from detection.catalogue import BILLER_METRICS, Metric, biller_metric, gauge, metric_of
from detection.errors import UnknownMetricError


@pytest.mark.parametrize("metric", BILLER_METRICS, ids=str)
def test_number_slug_and_name_in_any_case_mean_the_same_metric(metric: Metric) -> None:
    spellings = (str(metric.number), metric.slug, metric.slug.upper(), metric.name, metric.name.lower(), f" {metric} ")
    assert {biller_metric(text) for text in spellings} == {metric}


def test_the_numbers_are_those_that_callers_rely_on() -> None:
    assert {metric.number: metric.name for metric in BILLER_METRICS} == {
        1: "AVERAGE_RESPONSE_TIME",
        2: "ERROR_RATE_PERCENTAGE",
        3: "TIMEOUT_ERROR_RATE",
    }


@pytest.mark.parametrize("text", ["", "0", "4", "01", "latency", "average_response-time", "1;DROP", "x" * 10_000])
def test_an_unknown_metric_type_is_refused_with_the_valid_ones(text: str) -> None:
    with pytest.raises(UnknownMetricError, match=r"1 \| average-response-time \| AVERAGE_RESPONSE_TIME") as caught:
        biller_metric(text)
    assert len(str(caught.value)) < 500


def test_an_underscore_and_a_hyphen_name_the_same_gauge() -> None:
    assert gauge("inference_time") == gauge("Inference-Time") == metric_of("inference-time")


def test_a_gauge_registers_itself_without_bounds_and_is_bad_above() -> None:
    metric = gauge("drift")
    assert (metric.kind, metric.direction, metric.lower, metric.upper) == ("gauge", "above", -math.inf, math.inf)


def test_prediction_accuracy_is_bad_below() -> None:
    assert gauge("prediction_accuracy").direction == "below"


def test_a_gauge_cannot_take_the_meaning_of_a_biller_metric() -> None:
    assert gauge("error_rate") is metric_of("error-rate")


@pytest.mark.parametrize("name", ["", "-drift", "a b", "a:b", "a{b}", "ü", "x" * 64, "a\nb"])
def test_a_field_that_could_damage_a_key_is_no_metric(name: str) -> None:
    with pytest.raises(UnknownMetricError, match="cannot name a metric"):
        gauge(name)


@pytest.mark.parametrize("metric", BILLER_METRICS, ids=str)
def test_a_value_is_clipped_to_what_the_metric_can_be(metric: Metric) -> None:
    assert metric.clip(-1.0) == 0.0
    assert metric.clip(50.0) == 50.0
    assert metric.clip(1e9) == min(1e9, metric.upper)


@pytest.mark.parametrize("metric", BILLER_METRICS, ids=str)
def test_the_priors_are_values_that_the_metric_can_have(metric: Metric) -> None:
    assert metric.lower <= metric.prior < metric.prior_threshold <= metric.upper
