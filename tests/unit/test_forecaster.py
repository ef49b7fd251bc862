import contextlib
import csv
import functools
import gzip
import math
import random
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from river.checks import time_series, yield_checks

from detection.catalogue import Direction
from detection.errors import InvalidObservationError, UnreadableStateError
from detection.forecaster import SeasonalForecaster
from detection.kernel.row import FORECASTER_FIELDS, HOURS_OF_WEEK
from detection.kernel.step import ADOPTED_AFTER

ROW = np.dtype(FORECASTER_FIELDS)
HOURLY = Path(__file__).parents[2] / "examples" / "hourly.csv.gz"


def river_checks() -> list[Callable[[SeasonalForecaster], None]]:
    checks: list[Callable[[SeasonalForecaster], None]] = []
    # River imports scikit-learn's data sets before it notices that a forecaster's checks need none of them.
    with contextlib.suppress(ModuleNotFoundError):
        # Not a comprehension: what came before the missing import must be kept.
        for check in yield_checks(SeasonalForecaster(lower=0.0)):
            checks.append(check)  # noqa: PERF402 (as said)
    hours = [({"time": float(hour), "period": float(hour % 4)}, 10.0 + 2.0 * hour) for hour in range(8)]
    of_forecasters = (time_series.check_learn_one, time_series.check_forecast)
    checks.extend(functools.update_wrapper(functools.partial(check, dataset=hours), check) for check in of_forecasters)
    return checks


def daily(hour: int, rng: random.Random) -> float:
    """A latency of about 200 ms with a daily wave and 10 % noise."""
    return 200.0 * math.exp(0.5 * math.sin(hour * math.tau / 24) + rng.gauss(0.0, 0.1))


def learned(hours: int, value: Callable[[int, random.Random], float] = daily, **params: Any) -> SeasonalForecaster:
    model = SeasonalForecaster(**({"lower": 0.0} | params))
    rng = random.Random(1)
    for hour in range(hours):
        model.learn_one(value(hour, rng))
    return model


def fields(model: SeasonalForecaster) -> dict[str, bytes]:
    """Every field of what was learned, by name."""
    row = np.frombuffer(model.to_state()["row"], ROW)
    return {name: row[name].tobytes() for name in ROW.names or ()}


def differing(one: SeasonalForecaster, other: SeasonalForecaster) -> set[str]:
    theirs = fields(other)
    return {name for name, value in fields(one).items() if value != theirs[name]}


@pytest.mark.parametrize("check", river_checks(), ids=lambda check: str(check.__name__))
def test_river_takes_it_for_one_of_its_own(check: Callable[[SeasonalForecaster], None]) -> None:
    model = SeasonalForecaster(lower=0.0)
    assert check.__name__ not in model._unit_test_skips(), "none is opted out of"
    check(model.clone())


@pytest.mark.parametrize("direction", ["above", "below"])
@pytest.mark.parametrize("lower", [0.0, -math.inf])
def test_measured_exceedance_comes_near_its_claim_on_stationary_noise(direction: Direction, lower: float) -> None:
    model = SeasonalForecaster(lower=lower, direction=direction)
    rng = random.Random(1)
    exceeded = []
    for hour in range(4000):
        value = daily(hour, rng)
        threshold = model.predict().threshold
        exceeded.append(value > threshold if direction == "above" else value < threshold)
        model.learn_one(value)
    assert 0.006 <= sum(exceeded[1:]) / 3999 <= 0.014
    assert 0.004 <= sum(exceeded[-1000:]) / 1000 <= 0.016


def test_the_interval_covers_what_it_claims_on_stationary_noise() -> None:
    model = SeasonalForecaster(lower=0.0)
    rng = random.Random(3)
    inside = 0
    for hour in range(3000):
        prediction = model.predict()
        value = daily(hour, rng)
        inside += prediction.lower <= value <= prediction.upper
        model.learn_one(value)
    assert 0.93 <= inside / 3000 <= 0.97


def test_the_hours_of_the_day_are_known_after_three_days() -> None:
    model = SeasonalForecaster(lower=0.0)
    for hour in range(72):
        model.learn_one(400.0 if 8 <= hour % 24 < 18 else 100.0)
    locations = model.forecast(horizon=24)
    assert all(300.0 <= location <= 420.0 for location in locations[9:18])
    assert all(95.0 <= location <= 160.0 for location in [*locations[:8], *locations[19:]])


def test_the_days_of_the_week_are_known_after_three_weeks() -> None:
    def office(hour: int, rng: random.Random) -> float:
        return (400.0 if hour % 168 < 120 and 8 <= hour % 24 < 18 else 100.0) * math.exp(rng.gauss(0.0, 0.02))

    model = learned(HOURS_OF_WEEK * 3, office)
    locations = model.forecast(horizon=HOURS_OF_WEEK)
    assert locations[12] > 300.0
    assert locations[5 * 24 + 12] < 150.0


def test_silent_hours_move_the_season_on_without_teaching() -> None:
    model = learned(HOURS_OF_WEEK * 2)
    before = model.copy()
    expected = model.forecast(horizon=6)[5]
    model.skip(5)
    assert model.slot == 5
    assert model.n_learned == HOURS_OF_WEEK * 2
    assert model.predict().location == expected
    moved = {"hours", "slot", "silent", "recent", "last", "before_last", "week_before", "day_before"}
    assert differing(model, before) == moved


def test_long_silence_falls_back_on_the_season() -> None:
    model = learned(HOURS_OF_WEEK * 4)
    usual = [model.predict(ahead=ahead).location for ahead in range(168, 192)]
    model.learn_one(2000.0)
    model.skip(167)
    after = [model.predict(ahead=ahead).location for ahead in range(1, 24)]
    assert after == pytest.approx(usual[1:], rel=0.25)


def test_a_slot_that_jumps_or_repeats_is_followed() -> None:
    model = learned(HOURS_OF_WEEK * 2)
    model.learn_one(150.0, {"slot": 1, "count": 12})
    assert model.slot == 2
    model.learn_one(150.0, {"slot": 1})
    assert model.slot == 2
    # Spring forward: the hour that does not exist is neither learned nor skipped.
    model.learn_one(150.0, {"slot": 3})
    assert model.slot == 4


def test_the_prediction_of_a_slot_is_the_one_that_learning_judges_by() -> None:
    model = learned(HOURS_OF_WEEK * 2)
    threshold = model.predict(slot=40).threshold
    model.predict(slot=90)
    before = model.explain()["correction"]
    twin = model.copy()
    model.learn_one(threshold * 1.0001, {"slot": 40})
    twin.learn_one(threshold * 0.9999, {"slot": 40})
    # What lies beyond its own threshold pushes it out, what stays inside draws it in.
    pushed, drawn = (one.explain()["correction"] for one in (model, twin))
    assert float(drawn) < float(before) < float(pushed)


def test_six_hours_of_outage_hardly_move_the_threshold_of_next_week() -> None:
    changes = []
    for seed in range(4):
        calm, struck = SeasonalForecaster(lower=0.0), SeasonalForecaster(lower=0.0)
        rng = random.Random(seed)
        for hour in range(HOURS_OF_WEEK * 7 + 48):
            value = daily(hour, rng)
            is_outage = 0 <= hour - HOURS_OF_WEEK * 6 < 6
            calm.learn_one(value)
            struck.learn_one(value * 20.0 if is_outage else value)
            if hour >= HOURS_OF_WEEK * 7:
                changes.append(struck.predict().threshold / calm.predict().threshold)
    changes.sort()
    # Half of the hours a week later; the very slots that were struck are wider still.
    assert 0.85 <= changes[len(changes) // 2] <= 1.15


def test_a_level_shift_is_adopted() -> None:
    model = learned(HOURS_OF_WEEK * 4)
    rng = random.Random(9)
    exceeded = []
    for hour in range(HOURS_OF_WEEK * 2):
        value = 3.0 * daily(hour, rng)
        exceeded.append(value > model.predict().threshold)
        model.learn_one(value)
    assert exceeded[0]
    assert sum(exceeded[6:48]) <= 4
    assert sum(exceeded[HOURS_OF_WEEK:]) <= 6
    assert model.predict().location == pytest.approx(600.0, rel=0.5)


@pytest.mark.parametrize("lower", [0.0, -math.inf])
@pytest.mark.parametrize("level", [0.0, 1e-9, 1.0, 250.0, 1e9])
def test_a_constant_is_predicted_as_itself(level: float, lower: float) -> None:
    model = SeasonalForecaster(lower=lower)
    for hour in range(300):
        assert hour == 0 or model.predict().threshold >= level
        model.learn_one(level)
    prediction = model.predict()
    assert prediction.location == pytest.approx(level, rel=1e-6, abs=1e-12)
    assert prediction.upper <= level * 1.01 + 1e-6


def test_one_absurd_value_is_forgotten() -> None:
    model = learned(HOURS_OF_WEEK * 3)
    before = model.predict(ahead=HOURS_OF_WEEK).threshold
    model.learn_one(1e9)
    rng = random.Random(4)
    for hour in range(1, HOURS_OF_WEEK):
        model.learn_one(daily(hour, rng))
    assert model.predict().threshold <= 1.5 * before
    assert model.predict().location == pytest.approx(200.0, rel=0.5)


def test_zeros_before_the_first_value_do_not_set_the_scale() -> None:
    model = SeasonalForecaster(lower=0.0, upper=100.0)
    for _ in range(60):
        model.learn_one(0.0)
    rng = random.Random(5)
    for hour in range(HOURS_OF_WEEK * 2):
        model.learn_one(min(daily(hour, rng) / 10.0, 100.0))
    assert 8.0 <= model.predict().location <= 40.0


def test_before_the_first_value_there_is_no_width() -> None:
    model = SeasonalForecaster(lower=0.0)
    assert model.n_learned == 0
    prediction = model.predict()
    assert prediction.location == pytest.approx(0.0, abs=1e-9)
    assert prediction.threshold == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_and_changes_nothing(value: float) -> None:
    model = learned(50)
    before = model.to_state()
    with pytest.raises(InvalidObservationError):
        model.learn_one(value)
    assert model.to_state() == before


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"version": 1}, "version 1"),
        ({"version": 99}, "version 99"),
        ({"version": None}, "version None"),
        ({"row": b""}, "no record"),
        ({"row": bytes(ROW.itemsize + 1)}, "no record"),
        ({"row": "a" * ROW.itemsize}, "no record"),
        ({"row": None}, "no record"),
    ],
)
def test_a_state_of_another_version_or_shape_is_refused(damage: dict[str, object], reason: str) -> None:
    with pytest.raises(UnreadableStateError, match=reason):
        SeasonalForecaster.from_state(learned(50).to_state() | damage, lower=0.0)


def test_the_state_is_small_and_of_one_size() -> None:
    sizes = {len(learned(hours).to_state()["row"]) for hours in (0, 1, 50, HOURS_OF_WEEK * 8)}
    assert sizes == {ROW.itemsize}
    assert ROW.itemsize <= 4000


def test_the_explanation_names_the_experts_that_weigh_and_the_spreads() -> None:
    model = learned(HOURS_OF_WEEK * 2)
    explanation = model.explain()
    weights = [float(value) for name, value in explanation.items() if name.startswith("weight_")]
    assert all(0.05 <= weight <= 1.0 for weight in weights)
    assert 0.6 <= sum(weights) <= 1.0 + 1e-9
    # The noise is a tenth of the level.
    assert 5.0 <= float(explanation["spread"]) <= 40.0
    for _ in range(100):
        model.learn_one(model.predict().threshold * 1.01)
    assert float(model.explain()["correction"]) > float(explanation["correction"]), "what exceeds pushes it out"


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 1e3, 1e9])
@pytest.mark.parametrize("params", [{"lower": 0.0}, {"lower": 0.0, "direction": "below"}, {}, {"direction": "below"}])
def test_the_unit_of_a_value_makes_no_difference(params: dict[str, Any], factor: float) -> None:
    one, other = SeasonalForecaster(**params), SeasonalForecaster(**params)
    rng = random.Random(2)
    for hour in range(HOURS_OF_WEEK * 3):
        value = 0.0 if hour < 30 or hour % 97 == 50 else daily(hour, rng) * (30.0 if 400 <= hour < 404 else 1.0)
        ours, theirs = one.predict(), other.predict()
        for name in ("location", "lower", "upper", "threshold"):
            assert getattr(theirs, name) / factor == pytest.approx(getattr(ours, name), rel=1e-3, abs=0.2), (hour, name)
        if hour % 53 == 7:
            one.skip()
            other.skip()
        else:
            one.learn_one(value)
            other.learn_one(factor * value)


@pytest.mark.parametrize("lower", [0.0, -math.inf])
@pytest.mark.parametrize("constant", [0.0, 100.0, 1e-9, 1e9])
def test_what_was_constant_and_then_varies_has_a_working_threshold_within_hours(constant: float, lower: float) -> None:
    level = constant if constant >= 1.0 else 50.0
    model = SeasonalForecaster(lower=lower)
    for _ in range(200):
        model.learn_one(constant)
    rng = random.Random(6)
    exceeded = []
    for _ in range(HOURS_OF_WEEK):
        value = level * math.exp(rng.gauss(0.0, 0.2))
        exceeded.append(value > model.predict().threshold)
        model.learn_one(value)
    # A change of a thousand million times is an outage first: it is adopted after six hours.
    assert sum(exceeded[ADOPTED_AFTER + 1 : 31]) <= 8
    assert sum(exceeded[31:]) <= 6
    prediction = model.predict()
    assert prediction.location == pytest.approx(level, rel=0.25)
    assert 1.2 * level <= prediction.threshold <= 3.0 * level
    assert prediction.lower <= 0.85 * level


@pytest.mark.parametrize("hours", range(1, ADOPTED_AFTER + 1))
@pytest.mark.parametrize("factor", [30.0, 1e6])
def test_hours_of_gross_outage_are_judged_and_learned_no_more_than_silent_ones(hours: int, factor: float) -> None:
    struck = learned(HOURS_OF_WEEK * 3)
    silent = struck.copy()
    for _ in range(hours):
        assert 200.0 * factor > struck.predict().threshold
        struck.learn_one(200.0 * factor)
        silent.skip()
    assert struck.predict() == silent.predict()
    assert differing(struck, silent) == {"n_observed", "gross_run", "gross_last"}


def test_what_is_gross_for_longer_than_six_hours_is_the_new_level() -> None:
    model = learned(HOURS_OF_WEEK * 3)
    before = model.predict().location
    for _ in range(ADOPTED_AFTER):
        model.learn_one(50.0 * daily(0, random.Random(1)))
    assert model.predict().location < 3.0 * before, "an outage may last so long"
    rng = random.Random(7)
    for hour in range(ADOPTED_AFTER, ADOPTED_AFTER + 4):
        model.learn_one(50.0 * daily(hour, rng))
    assert model.predict().location == pytest.approx(50.0 * daily(10, rng), rel=0.5)


@pytest.mark.parametrize("value", [1e30, 1.7e308, -1.7e308, 5e-324])
@pytest.mark.parametrize("params", [{"lower": 0.0}, {"lower": 0.0, "upper": 100.0}, {}, {"direction": "below"}])
def test_the_largest_and_the_least_numbers_overflow_nothing(params: dict[str, Any], value: float) -> None:
    model = learned(100, lambda hour, rng: daily(hour, rng) / 10.0, **params)
    for hour in range(60):
        model.learn_one(value if hour % 3 else 20.0)
        prediction = model.predict()
        assert all(
            math.isfinite(one)
            for one in (prediction.location, prediction.lower, prediction.upper, prediction.threshold)
        )


def recorded() -> dict[str, list[tuple[int, float]]]:
    """Series of recorded hours: name, then (hour since the epoch, value)."""
    series: dict[str, list[tuple[int, float]]] = {}
    with gzip.open(HOURLY, "rt", newline="") as file:
        for row in csv.DictReader(file):
            at = int(datetime.fromisoformat(row["timestamp"]).timestamp()) // 3600
            series.setdefault(row["series"], []).append((at, float(row["value"])))
    return series


@pytest.mark.parametrize("name", ["cloud-purchase-02", "nab-nyc_taxi", "probe-01-latency"])
def test_real_hours_are_forecast_far_better_than_yesterday(name: str) -> None:
    rows = recorded()[name]
    values = dict(rows)
    model = SeasonalForecaster(lower=0.0)
    ours = naive = scored = exceeded = 0.0
    last = rows[0][0] - 1
    for at, value in rows:
        model.skip(at - last - 1)
        last = at
        slot = (at + 72) % HOURS_OF_WEEK
        prediction = model.predict(slot)
        if at >= rows[0][0] + HOURS_OF_WEEK and at - 24 in values:
            ours += abs(value - prediction.location)
            naive += abs(value - values[at - 24])
            exceeded += value > prediction.threshold
            scored += 1
        model.learn_one(value, {"slot": slot})
    assert ours <= 0.8 * naive
    assert 0.002 <= exceeded / scored <= 0.025
