"""What holds for a forecaster whatever its history was."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.forecaster import SeasonalForecaster
from detection.kernel.row import HOURS_OF_WEEK
from detection.prediction import Prediction
from tests.strategies import History, histories

POSITIVE: dict[str, Any] = {"lower": 0.0}
RATIO: dict[str, Any] = {"lower": 0.0, "upper": 100.0}
FREE: dict[str, Any] = {"direction": "below"}


def fold(model: SeasonalForecaster, history: History) -> SeasonalForecaster:
    for value in history:
        step(model, value)
    return model


def step(model: SeasonalForecaster, value: float | None) -> None:
    if value is None:
        model.skip()
    else:
        model.learn_one(value)


def assert_sane(model: SeasonalForecaster, prediction: Prediction) -> None:
    location, lower, upper, threshold = (
        prediction.location,
        prediction.lower,
        prediction.upper,
        prediction.threshold,
    )
    assert all(map(math.isfinite, (location, lower, upper, threshold)))
    assert model.lower <= lower <= location <= upper <= model.upper
    assert model.lower <= threshold <= model.upper
    assert threshold >= location if model.direction == "above" else threshold <= location


@settings(max_examples=60, deadline=None)
@given(histories())
def test_every_answer_of_a_positive_series_is_finite_and_inside_its_bounds(history: History) -> None:
    model = SeasonalForecaster(**POSITIVE)
    for value in history:
        assert_sane(model, model.predict())
        step(model, value)
    assert_sane(model, model.predict())
    assert_sane(model, model.predict(ahead=30))
    assert all(math.isfinite(value) for value in model.explain().values() if not isinstance(value, str))


@settings(max_examples=40, deadline=None)
@given(histories(highest=100.0))
def test_every_answer_of_a_ratio_stays_between_0_and_100(history: History) -> None:
    model = SeasonalForecaster(**RATIO)
    for value in history:
        assert_sane(model, model.predict())
        step(model, value)
    assert all(0.0 <= location <= 100.0 for location in model.forecast(horizon=30))


@settings(max_examples=60, deadline=None)
@given(histories(lowest=-1e9))
def test_every_answer_of_a_series_that_may_be_negative_is_finite(history: History) -> None:
    model = SeasonalForecaster(**FREE)
    for value in history:
        assert_sane(model, model.predict())
        step(model, value)
    assert_sane(model, model.predict())


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(0, HOURS_OF_WEEK - 1), st.integers(0, 200))
def test_asking_changes_nothing(history: History, slot: int, ahead: int) -> None:
    model = fold(SeasonalForecaster(**POSITIVE), history)
    before = model.to_state()
    first = model.predict(slot)
    model.predict(ahead=ahead)
    model.forecast(horizon=5)
    model.explain()
    model.copy().learn_one(1e6)
    assert model.predict(slot) == first
    assert model.to_state() == before


@settings(max_examples=40, deadline=None)
@given(histories(), st.booleans())
def test_having_been_asked_makes_no_difference_to_what_is_learned(history: History, other_slot: bool) -> None:
    quiet = fold(SeasonalForecaster(**POSITIVE), history)
    asked = SeasonalForecaster(**POSITIVE)
    for value in history:
        asked.predict((asked.slot + 5) % HOURS_OF_WEEK if other_slot else None)
        step(asked, value)
    assert asked.to_state() == quiet.to_state()


@pytest.mark.parametrize("params", [POSITIVE, RATIO, FREE])
@settings(max_examples=30, deadline=None)
@given(past=histories(highest=100.0), future=histories(highest=100.0, longest=80))
def test_a_stored_forecaster_goes_on_to_the_bit(params: dict[str, Any], past: History, future: History) -> None:
    model = fold(SeasonalForecaster(**params), past)
    stored = msgspec.msgpack.encode(model.to_state())
    restored = SeasonalForecaster.from_state(msgspec.msgpack.decode(stored), **params)
    for value in future:
        assert restored.predict() == model.predict()
        step(model, value)
        step(restored, value)
        assert restored.to_state() == model.to_state()


@settings(max_examples=60, deadline=None)
@given(histories(), st.integers(1, 400), histories(longest=40))
def test_skipping_hours_together_is_skipping_them_one_by_one(past: History, hours: int, future: History) -> None:
    together = fold(SeasonalForecaster(**POSITIVE), past)
    singly = together.copy()
    together.skip(hours)
    for _ in range(hours):
        singly.skip()
    assert together.to_state() == singly.to_state()
    assert fold(together, future).to_state() == fold(singly, future).to_state()


@settings(max_examples=40, deadline=None)
@given(histories(), histories(longest=40))
def test_a_copy_lives_on_its_own(past: History, future: History) -> None:
    model = fold(SeasonalForecaster(**POSITIVE), past)
    before = model.to_state()
    twin = fold(model.copy(), future)
    assert model.to_state() == before
    assert fold(model, future).to_state() == twin.to_state()


@settings(max_examples=60, deadline=None)
@given(histories())
def test_the_threshold_and_the_band_never_cross(past: History) -> None:
    above = fold(SeasonalForecaster(**POSITIVE), past).predict()
    assert above.threshold >= above.upper
    below = fold(SeasonalForecaster(**(POSITIVE | {"direction": "below"})), past).predict()
    assert below.threshold <= below.lower
