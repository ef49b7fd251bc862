"""Every model keeps every law, and every law is one that a model could break."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Self

import msgspec
import pytest
from river.base import Estimator

from detection.catalogue import BILLER_METRICS, gauge
from detection.challengers.registry import CHALLENGERS, challenger, restored
from detection.checks import Check, Checked, check_model, yield_checks
from detection.checks.checked import CheckedForecaster, CheckedSeriesModel
from detection.checks.laws import CHECKS
from detection.checks.of_river import river_checks
from detection.forecaster import SeasonalForecaster
from detection.prediction import Prediction

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "forecaster-log": {"lower": 0.0},
    "forecaster-ratio": {"lower": 0.0, "upper": 100.0},
    "forecaster-signed": {},
    "forecaster-signed-below": {"direction": "below"},
    "forecaster-log-below": {"lower": 0.0, "direction": "below", "coverage": 0.95, "interval": 0.9},
}
METRICS = (*BILLER_METRICS, gauge("drift"), gauge("prediction-accuracy"))
# River's forecasters count hours; the default model reads the clock.
AN_HOUR_OFF = "in the days after a change of clocks it expects the hour before, or after, the one that it is asked of"
SKIPS: dict[str, dict[str, str]] = {
    "holt-winters": {"check_the_season_follows_the_local_clock": AN_HOUR_OFF},
    "snarimax": {"check_the_season_follows_the_local_clock": AN_HOUR_OFF},
    "ewa": {
        "check_the_season_follows_the_local_clock": AN_HOUR_OFF,
        "check_a_missing_hour_moves_the_season_on": "after three weeks of silence it expects a night of a day",
    },
}
CHALLENGING = tuple(
    CheckedForecaster(f"challenger-{name}", partial(challenger, name), partial(restored, name), {"lower": 0.0}, skips)
    for name, skips in SKIPS.items()
)
OUR_OWN: tuple[Checked, ...] = (
    *(
        CheckedForecaster(name, SeasonalForecaster, SeasonalForecaster.from_state, params)
        for name, params in CONFIGURATIONS.items()
    ),
    *(CheckedSeriesModel(metric) for metric in METRICS),
)
MODELS = (*OUR_OWN, *CHALLENGING)
EVERY_CHECK = [
    pytest.param(model, check, id=f"{model.name}-{check.__name__}") for model in MODELS for check in yield_checks(model)
]
RIVER_CHECKS = [
    pytest.param(params, check, id=f"{name}-{check.__name__}")
    for name, params in CONFIGURATIONS.items()
    for check in river_checks(SeasonalForecaster(**params))
]


def made(faulty: type[CheckedForecaster], skips: dict[str, str] | None = None) -> CheckedForecaster:
    return faulty("faulty", SeasonalForecaster, SeasonalForecaster.from_state, {"lower": 0.0}, skips or {})


@pytest.mark.parametrize(("model", "check"), EVERY_CHECK)
def test_every_model_keeps_every_law(model: Checked, check: Check) -> None:
    check(model.fresh())


@pytest.mark.parametrize(("params", "check"), RIVER_CHECKS)
def test_river_takes_every_configuration_for_one_of_its_own(
    params: dict[str, Any], check: Callable[[Estimator], None]
) -> None:
    check(SeasonalForecaster(**params).clone())


def test_river_has_more_checks_of_a_forecaster_than_its_name() -> None:
    names = {check.__name__ for check in river_checks(SeasonalForecaster())}
    assert {"check_learn_one", "check_forecast", "check_repr", "check_pickling_supports_roundtrip"} <= names
    assert SeasonalForecaster()._unit_test_skips() == set()


def test_none_of_our_own_models_opts_out() -> None:
    assert all(not model.skips for model in OUR_OWN)


def test_every_challenger_is_checked() -> None:
    assert {model.name for model in CHALLENGING} == {f"challenger-{name}" for name in CHALLENGERS}


@pytest.mark.parametrize(
    ("model", "check"),
    [
        pytest.param(model, check, id=f"{model.name}-{check.__name__}")
        for model in CHALLENGING
        for check in CHECKS
        if check.__name__ in model.skips
    ],
)
def test_what_a_model_opts_out_of_it_really_cannot_keep(model: Checked, check: Check) -> None:
    with pytest.raises(AssertionError):
        check(model.fresh())


def test_a_law_that_does_not_hold_is_left_out_only_by_name_and_with_a_reason() -> None:
    growing = made(GrowsForEver, {"check_the_state_does_not_grow": "it is made to"})
    assert len(list(yield_checks(growing))) == len(CHECKS) - 1
    for skips, reason in (
        ({"check_the_state_does_not_grow": " "}, "without a reason"),
        ({"check_nothing": "it has none"}, "no check"),
    ):
        with pytest.raises(ValueError, match=reason):
            check_model(made(GrowsForEver, skips))


class Counted(CheckedForecaster):
    """Notes each question."""

    def ask(self, hour: int, zone: str) -> Prediction:
        self.asked = getattr(self, "asked", 0) + 1
        return super().ask(hour, zone)


class CountsItsReaders(Counted):
    def encode(self) -> bytes:
        return super().encode() + bytes([getattr(self, "asked", 0) % 251])


class LearnsFromItsReaders(Counted):
    def learn(self, hour: int, zone: str, value: float, count: int) -> None:
        super().learn(hour, zone, value + (0.001 if getattr(self, "asked", 0) else 0.0), count)


@dataclass(frozen=True)
class Softened:
    threshold: float


class LearnsFirst(CheckedForecaster):
    def learn(self, hour: int, zone: str, value: float, count: int) -> Softened:  # type: ignore[override]  # the fault
        super().learn(hour, zone, value, count)
        return Softened(self.ask(hour + 1, zone).threshold)


class Moody(CheckedForecaster):
    moods: ClassVar = itertools.count()

    def learn(self, hour: int, zone: str, value: float, count: int) -> None:
        super().learn(hour, zone, value + next(self.moods) * 1e-3, count)


class LosesItsClock(CheckedForecaster):
    """Stored without the hour it stands at."""

    def encode(self) -> bytes:
        learned: bytes = msgspec.msgpack.encode((None, msgspec.msgpack.decode(super().encode())[1]))
        return learned


class CopiesNothing(CheckedForecaster):
    def copy(self) -> Self:
        return self


class SaysNaN(CheckedForecaster):
    def ask(self, hour: int, zone: str) -> Prediction:
        said = super().ask(hour, zone)
        return said if said.location else Prediction(math.nan, math.nan, math.nan, math.nan)


class SwallowsNaN(CheckedForecaster):
    def learn(self, hour: int, zone: str, value: float, count: int) -> None:
        if math.isfinite(value):
            super().learn(hour, zone, value, count)


class CountsOnlyValues(CheckedForecaster):
    """Takes the next value for the next hour, whenever it came."""

    def ask(self, hour: int, zone: str) -> Prediction:
        return super().ask(hour - getattr(self, "missed", 0), zone)

    def learn(self, hour: int, zone: str, value: float, count: int) -> None:
        known = self._next_hour
        self.missed = getattr(self, "missed", 0)
        if known is not None:
            self.missed += max(hour - self.missed - known, 0)
        super().learn(hour - self.missed, zone, value, count)

    def copy(self) -> Self:
        twin = super().copy()
        twin.missed = getattr(self, "missed", 0)
        return twin


class KnowsOneClock(CheckedForecaster):
    """Takes every zone's clocks for those of winter in Berlin."""

    def ask(self, hour: int, zone: str) -> Prediction:
        return super().ask(hour, "Etc/GMT-1")

    def learn(self, hour: int, zone: str, value: float, count: int) -> None:
        super().learn(hour, "Etc/GMT-1", value, count)


class GrowsForEver(CheckedForecaster):
    def learn(self, hour: int, zone: str, value: float, count: int) -> None:
        super().learn(hour, zone, value, count)
        self.learned = getattr(self, "learned", 0) + 1

    def encode(self) -> bytes:
        return super().encode() + bytes(getattr(self, "learned", 0))


class SharesItsLevel(CheckedForecaster):
    """The level of all its kind is one."""

    level: ClassVar = [0.0]

    def learn(self, hour: int, zone: str, value: float, count: int) -> None:
        self.level[0] += 0.1 * (value - self.level[0])
        super().learn(hour, zone, self.level[0], count)


FAULTY: dict[str, type[CheckedForecaster]] = {
    "check_reading_changes_nothing": CountsItsReaders,
    "check_having_been_asked_makes_no_difference": LearnsFromItsReaders,
    "check_a_value_never_softens_its_own_verdict": LearnsFirst,
    "check_same_input_gives_the_same_state": Moody,
    "check_what_is_stored_goes_on_to_the_bit": LosesItsClock,
    "check_copies_live_on_their_own": CopiesNothing,
    "check_answers_are_finite_ordered_and_inside_the_bounds": SaysNaN,
    "check_what_is_not_finite_is_refused_and_changes_nothing": SwallowsNaN,
    "check_a_missing_hour_moves_the_season_on": CountsOnlyValues,
    "check_the_season_follows_the_local_clock": KnowsOneClock,
    "check_the_state_does_not_grow": GrowsForEver,
    "check_the_order_of_two_series_never_matters": SharesItsLevel,
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: str(check.__name__))
def test_a_model_that_breaks_a_law_is_caught(check: Check) -> None:
    faulty = made(FAULTY[check.__name__])
    with pytest.raises(AssertionError):
        check(faulty)
