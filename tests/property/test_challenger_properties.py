"""What holds for a challenger and a race whatever their history was."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.challengers.challenger import Challenger, Expected
from detection.challengers.names import DEFAULT
from detection.challengers.race import Race
from detection.challengers.registry import CHALLENGERS, challenger, restored
from tests.strategies import History, histories

NAMES = sorted(CHALLENGERS)
POSITIVE: dict[str, Any] = {"lower": 0.0}
RATIO: dict[str, Any] = {"lower": 0.0, "upper": 100.0}
FREE: dict[str, Any] = {"direction": "below"}


def fold(model: Challenger, history: History) -> Challenger:
    for value in history:
        step(model, value)
    return model


def step(model: Challenger, value: float | None) -> None:
    if value is None:
        model.skip()
    else:
        model.learn_one(value)


def assert_sane(model: Challenger, told: Expected) -> None:
    assert all(map(math.isfinite, told))
    assert model.lower <= told.lower <= told.location <= told.upper <= model.upper
    if model.direction == "above":
        assert told.upper <= told.threshold <= model.upper
    else:
        assert model.lower <= told.threshold <= told.lower


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("params", [POSITIVE, RATIO, FREE], ids=["positive", "ratio", "signed"])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_every_answer_is_finite_ordered_and_inside_the_bounds(
    name: str, params: dict[str, Any], data: st.DataObject
) -> None:
    model = challenger(name, **params)
    lowest, highest = max(model.lower, -1e9), min(model.upper, 1e9)
    for value in data.draw(histories(lowest=lowest, highest=highest)):
        assert_sane(model, model.predict())
        step(model, value)
    assert_sane(model, model.predict())
    assert_sane(model, model.predict(ahead=30))
    assert all(math.isfinite(value) for value in model.explain().values() if not isinstance(value, str))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(past=histories(), future=histories(longest=80))
def test_a_stored_challenger_goes_on_to_the_bit_at_every_later_step(name: str, past: History, future: History) -> None:
    model = fold(challenger(name, **POSITIVE), past)
    text = json.dumps(model.to_state(), allow_nan=False)
    twin = restored(name, json.loads(text), **POSITIVE)
    assert json.dumps(twin.to_state()) == text
    for value in future:
        assert twin.predict() == model.predict()
        step(model, value)
        step(twin, value)
        assert json.dumps(twin.to_state()) == json.dumps(model.to_state())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(history=histories())
def test_a_challenger_that_is_stored_after_every_hour_is_the_one_that_never_was(name: str, history: History) -> None:
    model, stored = challenger(name, **POSITIVE), challenger(name, **POSITIVE)
    for value in history:
        step(model, value)
        stored = restored(name, json.loads(json.dumps(stored.to_state())), **POSITIVE)
        step(stored, value)
    assert json.dumps(stored.to_state()) == json.dumps(model.to_state())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20, deadline=None)
@given(history=histories(), slot=st.integers(0, 167), ahead=st.integers(0, 200))
def test_asking_a_challenger_changes_nothing(name: str, history: History, slot: int, ahead: int) -> None:
    quiet = fold(challenger(name, **POSITIVE), history)
    model = challenger(name, **POSITIVE)
    for value in history:
        model.predict(slot)
        step(model, value)
    first = model.predict(slot)
    model.predict(ahead=ahead)
    model.forecast(horizon=3)
    model.explain()
    model.copy().learn_one(1e6)
    assert model.predict(slot) == first
    assert json.dumps(model.to_state()) == json.dumps(quiet.to_state())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(past=histories(), hours=st.integers(1, 900), future=histories(longest=20))
def test_hours_skipped_together_are_hours_skipped_one_by_one(
    name: str, past: History, hours: int, future: History
) -> None:
    together = fold(challenger(name, **POSITIVE), past)
    singly = together.copy()
    together.skip(hours)
    for _ in range(hours):
        singly.skip()
    assert together.to_state() == singly.to_state()
    assert together.predict() == singly.predict()
    assert fold(together, future).to_state() == fold(singly, future).to_state()


FIGURES = st.one_of(st.sampled_from([0.0, 1.0, 1e-300, 1e30, -1e30]), st.floats(-1e9, 1e9))
HOURS = st.lists(st.tuples(FIGURES, *[FIGURES] * 4), min_size=1, max_size=600)


def told_of(hour: tuple[float, ...]) -> dict[str, Expected]:
    return {
        DEFAULT: Expected(hour[1], 0.0, 0.0, hour[2]),
        "ewa": Expected(hour[3], 0.0, 0.0, hour[4]),
    }


@settings(max_examples=60, deadline=None)
@given(HOURS, st.integers(0, 600))
def test_a_race_is_finite_repeatable_and_the_same_after_being_stored(
    hours: list[tuple[float, ...]], stored_after: int
) -> None:
    race, twin = (Race((DEFAULT, "ewa"), speaker=DEFAULT) for _ in range(2))
    for at, hour in enumerate(hours):
        if at == stored_after:
            text = json.dumps(twin.to_state(), allow_nan=False)
            twin = Race((DEFAULT, "ewa"), speaker=DEFAULT)
            twin.restore(json.loads(text))
        assert race.learn_one(hour[0], told_of(hour)) == twin.learn_one(hour[0], told_of(hour))
    assert twin.to_state() == race.to_state()
    for standing in race.standings():
        figures = (standing.mae_ratio, standing.pinball, standing.pinball_ratio, standing.evidence)
        assert all(math.isfinite(figure) and figure >= 0.0 for figure in figures)
        assert 0.0 <= standing.exceedance <= 1.0 + 1e-9
