import contextlib
import functools
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pytest
from river import compose, ensemble, linear_model, optim, preprocessing, stats, time_series, tree
from river.checks import time_series as forecaster_checks
from river.checks import yield_checks

from detection.challengers.bounds import Claim, ConformalBounds
from detection.challengers.challenger import Challenger, Expected
from detection.challengers.codecs import CODECS, check_storable, read_into, written
from detection.challengers.contest import READY_AFTER, Contest
from detection.challengers.ewa_forecaster import EwaForecaster
from detection.challengers.holt_winters import AnchoredHoltWinters
from detection.challengers.names import DEFAULT
from detection.challengers.race import BLOCK, EVIDENCE, LEAST_JUDGED, TERM, Decision, Race
from detection.challengers.registry import CHALLENGERS, challenger, restored
from detection.challengers.selection import Selection
from detection.challengers.terms import Terms
from detection.errors import InvalidObservationError, SettingsError, UnreadableStateError

ROOT = Path(__file__).parents[2]
NAMES = sorted(CHALLENGERS)
SERIES: dict[str, Any] = {"lower": 0.0, "upper": math.inf, "direction": "above", "coverage": 0.99}

# Bytes of a state as JSON once everything is filled; docs/decisions/0016 repeats them.
MOST_BYTES = {"ewa": 9000, "holt-winters": 2200, "snarimax": 4600}

# The keys and places that lead to one field of a state, from the outside in.
Way = tuple[str | int, ...]


def daily(hour: int, rng: random.Random, noise: float = 0.1) -> float:
    """A latency of about 200 ms with a daily wave and noise."""
    return 200.0 * math.exp(0.5 * math.sin(hour * math.tau / 24) + rng.gauss(0.0, noise))


def learned(name: str, hours: int, *, noise: float = 0.1, seed: int = 1, **params: Any) -> Challenger:
    model = challenger(name, **({"lower": 0.0} | params))
    rng = random.Random(seed)
    for hour in range(hours):
        model.learn_one(daily(hour, rng, noise))
    return model


def ewa_of(expert: Any) -> EwaForecaster:
    return EwaForecaster(ensemble.EWARegressor([expert, expert.clone()]))


def river_checks(model: Challenger) -> list[Callable[[Challenger], None]]:
    checks: list[Callable[[Challenger], None]] = []
    # River imports scikit-learn's data sets before it notices that a forecaster's checks need none of them.
    with contextlib.suppress(ModuleNotFoundError):
        # Not a comprehension: what came before the missing import must be kept.
        for check in yield_checks(model):
            checks.append(check)  # noqa: PERF402 (as said)
    hours = [({"time": float(hour), "period": float(hour % 4)}, 10.0 + 2.0 * hour) for hour in range(8)]
    of_forecasters = (forecaster_checks.check_learn_one, forecaster_checks.check_forecast)
    checks.extend(functools.update_wrapper(functools.partial(check, dataset=hours), check) for check in of_forecasters)
    return checks


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("check", river_checks(challenger("ewa")), ids=lambda check: str(check.__name__))
def test_river_takes_every_challenger_for_one_of_its_own(check: Callable[[Challenger], None], name: str) -> None:
    model = challenger(name, lower=0.0)
    assert check.__name__ not in model._unit_test_skips(), "none is opted out of"
    check(model.clone())


# Skill and bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_daily_season_is_learned_better_than_by_repeating_yesterday(name: str) -> None:
    model, rng = challenger(name, lower=0.0), random.Random(2)
    values: list[float] = []
    error = naive = 0.0
    for hour in range(24 * 28):
        value = daily(hour, rng)
        if hour >= 24 * 7:
            error += abs(model.predict().location - value)
            naive += abs(values[-24] - value)
        model.learn_one(value)
        values.append(value)
    assert error < 0.9 * naive


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("direction", ["above", "below"])
def test_the_measured_exceedance_comes_near_the_claim(name: str, direction: str) -> None:
    model, rng = challenger(name, lower=0.0, direction=direction), random.Random(3)
    exceeded = covered = 0
    for hour in range(3168):
        value = daily(hour, rng)
        if hour >= 168:
            told = model.predict()
            exceeded += value > told.threshold if direction == "above" else value < told.threshold
            covered += told.lower <= value <= told.upper
        model.learn_one(value)
    assert 0.005 <= exceeded / 3000 <= 0.02
    assert 0.93 <= covered / 3000 <= 0.97


def test_hours_of_an_incident_correct_the_bounds_and_teach_them_no_size() -> None:
    bounds, rng = ConformalBounds((Claim(1, 0.99), Claim(-1, 0.99))), random.Random(4)
    for _ in range(200):
        bounds.learn_one(rng.gauss(0.0, 0.1), bounds.distances(), is_usual=True)
    before, (above, below) = bounds.to_state(), bounds.distances()
    for _ in range(4):
        bounds.learn_one(1e3, bounds.distances(), is_usual=False)
    assert bounds.to_state() | {"corrections": before["corrections"]} == before
    assert bounds.distances() == pytest.approx((above * math.exp(4 * 0.05 * 0.99), below * math.exp(-4 * 0.05 * 0.01)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hours", [1, 7, 35, 100, 2000])
def test_a_silence_does_not_shift_the_season(name: str, hours: int) -> None:
    model = learned(name, 24 * 21, noise=0.02)
    model.skip(hours)
    rng = random.Random(5)
    errors = []
    for hour in range(24 * 21 + hours, 24 * 23 + hours):
        value = daily(hour, rng, 0.02)
        errors.append(abs(math.log(model.predict().location / value)))
        model.learn_one(value)
    # The wave is between 0.6 and 1.6 times its mean: a forecast that is half a day off misses it by up to 1.
    assert sum(errors) / len(errors) < 0.12


@pytest.mark.parametrize("name", NAMES)
def test_six_hours_of_outage_move_the_next_week_little(name: str) -> None:
    model = learned(name, 24 * 28)
    twin, rng = model.copy(), random.Random(7)
    moved = []
    for hour in range(24 * 28, 24 * 36):
        value = daily(hour, rng)
        model.learn_one(20.0 * value if hour < 24 * 28 + 6 else value)
        twin.learn_one(value)
        if hour >= 24 * 29:
            moved.append(model.predict().threshold / twin.predict().threshold)
    assert 0.85 < sum(moved) / len(moved) < 1.25


@pytest.mark.parametrize("name", NAMES)
def test_a_doubled_level_is_adopted_when_it_stays(name: str) -> None:
    model, rng = learned(name, 24 * 28, noise=0.05), random.Random(8)
    for hour in range(24 * 28, 24 * 28 + 12):
        model.learn_one(4.0 * daily(hour, rng, 0.05))
    assert model.predict().location == pytest.approx(4.0 * daily(24 * 28 + 12, rng, 0.0), rel=0.25)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 1e-9, 7.0, 1e9])
def test_a_constant_is_expected_with_next_to_no_width(name: str, value: float) -> None:
    model = challenger(name, lower=0.0)
    for _ in range(500):
        model.learn_one(value)
    told = model.predict()
    assert told.location == pytest.approx(value, rel=1e-3)
    assert told.threshold == pytest.approx(value, rel=0.05)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at", [0, 1, 30, 400])
def test_one_absurd_value_is_survived(name: str, at: int) -> None:
    model, rng = challenger(name, lower=0.0), random.Random(9)
    for hour in range(700):
        model.learn_one(1e30 if hour == at else daily(hour, rng))
        assert all(map(math.isfinite, model.predict()))
    assert 50.0 < model.predict().location < 800.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_and_changes_nothing(name: str, value: float) -> None:
    model = learned(name, 60)
    before = model.to_state()
    with pytest.raises(InvalidObservationError, match="not finite"):
        model.learn_one(value)
    assert model.to_state() == before


def test_a_forecaster_that_has_lost_its_numbers_begins_anew() -> None:
    model = learned("holt-winters", 200)
    assert isinstance(model.forecaster, AnchoredHoltWinters)
    model.forecaster.level.append(math.nan)
    model._memo = None
    assert all(map(math.isfinite, model.predict()))
    rng = random.Random(1)
    for hour in range(200, 300):
        model.learn_one(daily(hour, rng))
        assert all(map(math.isfinite, model.predict()))
    assert model.n_restarts == 1
    assert model.predict().location == pytest.approx(daily(300, rng, 0.0), rel=0.3)


# River's traps that are worked around -------------------------------------------------------------------------------


def test_holt_winters_begins_on_a_scale_that_is_centred_on_its_level() -> None:
    rivers: Any = time_series.HoltWinters(0.5, 0.001, 0.1, 24)  # type: ignore[no-untyped-call] # River's
    ours = AnchoredHoltWinters(0.5, 0.001, 0.1, 24)
    assert ours.forecast(2) == [0.0, 0.0], "River raises IndexError"
    for _ in range(23):
        rivers.learn_one(0.0)
    with pytest.raises(ZeroDivisionError):
        rivers.learn_one(0.0)
    for hour in range(24):
        ours.learn_one(math.sin(hour * math.tau / 24))
    assert ours.forecast(24) == pytest.approx([math.sin(hour * math.tau / 24) for hour in range(24)], abs=1e-9)


def test_asking_a_scaler_enters_features_that_it_never_learned_and_they_are_not_stored() -> None:
    scaler: Any = preprocessing.StandardScaler()
    scaler.learn_one({"a": 1.0})
    scaler.transform_one({"a": 1.0, "b": 2.0})
    assert "b" in scaler.vars, "River's trap is gone; so may be its work-around"
    assert written(scaler, ("a", "b"))["known"] == [0]


def test_the_first_forecast_of_the_ensemble_is_a_mean_and_not_a_sum() -> None:
    model = ewa_of(linear_model.LinearRegression(intercept_init=1.0))
    model.learn_one(1.0)
    assert model.forecast(1) == [2.0]


def test_an_expert_that_was_wrong_for_months_comes_back() -> None:
    model = challenger("ewa", lower=0.0)
    assert isinstance(model.forecaster, EwaForecaster)
    model.learn_one(10.0)
    weights = model.forecaster.regressor.weights
    weights[:] = [1.0, 0.0, 0.0, 0.0]
    for _ in range(3):
        model.learn_one(10.0)
    assert min(weights) > 0.002


def test_the_order_of_the_terms_is_the_order_of_their_names() -> None:
    names = [f"f{i}" for i in range(50)]
    features: dict[Hashable, Any] = dict.fromkeys(reversed(names), 1.0)
    assert list(Terms(*names).transform_one(features)) == ["one", *names]


def test_the_same_history_gives_the_same_bits_in_every_process() -> None:
    program = (
        "import json, math\n"
        "from detection.challengers.registry import challenger\n"
        "for name in ('ewa', 'snarimax'):\n"
        "    model = challenger(name, lower=0.0)\n"
        "    for hour in range(250): model.learn_one(200 + 90 * math.sin(hour * 0.26) + hour * hour % 17)\n"
        "    print(json.dumps(model.to_state()))\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


# The allow-list and the codecs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prophet", "", "Holt-Winters", "__class__"])
def test_a_name_that_is_not_on_the_list_is_refused_by_name(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name!r} is no forecaster.*holt-winters, snarimax, ewa"):
        challenger(name)
    with pytest.raises(SettingsError, match="is no forecaster"):
        restored(name, {})


class _Subclass(AnchoredHoltWinters):
    """Has a codec by inheritance, if inheritance counted."""


@pytest.mark.parametrize(
    ("estimator", "named"),
    [
        (time_series.HoltWinters(0.3), "HoltWinters"),  # type: ignore[no-untyped-call] # River's
        (_Subclass(), "_Subclass"),
        (time_series.SNARIMAX(1, 0, 0, regressor=tree.HoeffdingTreeRegressor()), "HoeffdingTreeRegressor"),
        (time_series.SNARIMAX(1, 0, 0, regressor=linear_model.BayesianLinearRegression(smoothing=0.9)), "smoothing"),
        (ewa_of(preprocessing.MinMaxScaler() | linear_model.LinearRegression()), "MinMaxScaler"),
        (linear_model.LinearRegression(optimizer=optim.Adam()), "SGD"),
        (preprocessing.StandardScaler(window_size=5), "window"),
    ],
    ids=str,
)
def test_what_has_no_codec_cannot_become_a_challenger(estimator: Any, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        Challenger(estimator)


def test_every_estimator_of_every_challenger_has_a_codec() -> None:
    for factory in CHALLENGERS.values():
        check_storable(factory())
    assert all(kind.__module__.startswith(("river.", "detection.challengers.")) for kind in CODECS)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_is_nothing_but_names_numbers_and_lists(name: str) -> None:
    def walk(part: Any) -> None:
        match part:
            case dict():
                for key, value in part.items():
                    if key == "estimator":
                        assert value in {kind.__name__ for kind in CODECS}
                    else:
                        walk(value)
            case list():
                for item in part:
                    walk(item)
            case _:
                assert type(part) in {int, float}
                assert math.isfinite(part)

    walk(learned(name, 300).to_state())


@pytest.mark.parametrize("name", NAMES)
def test_a_state_stays_as_small_as_documented(name: str) -> None:
    model = learned(name, 400)
    after_weeks = len(json.dumps(model.to_state()))
    for hour in range(400, 1400):
        model.learn_one(daily(hour, random.Random(hour)))
    assert len(json.dumps(model.to_state())) == pytest.approx(after_weeks, rel=0.03)
    assert MOST_BYTES[name] / 2 < after_weeks < MOST_BYTES[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("hours", [0, 1, 5, 23, 24, 25, 49, 300])
def test_a_stored_challenger_goes_on_to_the_bit(name: str, hours: int) -> None:
    model = learned(name, hours)
    twin = restored(name, json.loads(json.dumps(model.to_state())), lower=0.0)
    rng = random.Random(4)
    for hour in range(hours, hours + 60):
        assert twin.predict() == model.predict()
        if hour % 11 == 0:
            model.skip(3)
            twin.skip(3)
        value = daily(hour, rng)
        model.learn_one(value)
        twin.learn_one(value)
        assert twin.to_state() == model.to_state()


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_another_version_is_refused(name: str) -> None:
    state = learned(name, 30).to_state()
    for version in (0, 2, "1", True, None):
        with pytest.raises(UnreadableStateError, match="version"):
            restored(name, state | {"version": version}, lower=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_a_state_of_another_estimator_is_refused_by_name(name: str) -> None:
    state = learned(name, 30).to_state()
    for other in NAMES:
        if other != name:
            with pytest.raises(UnreadableStateError, match="estimator is"):
                restored(other, state, lower=0.0)
    state["forecaster"]["estimator"] = "os.system"
    with pytest.raises(UnreadableStateError, match=r"estimator is 'os\.system'"):
        restored(name, state, lower=0.0)


def _fields(part: Any, path: Way = ()) -> list[Way]:
    """The way to each field, estimators' names included."""
    match part:
        case dict():
            return [way for key, value in part.items() for way in [(*path, key), *_fields(value, (*path, key))]]
        case [dict(), *_]:
            return [way for i, item in enumerate(part) for way in _fields(item, (*path, i))]
        case _:
            return []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "junk", [None, "1", True, ["1.0"], [math.nan] * 500, {}, 10**400], ids=lambda junk: str(junk)[:9]
)
def test_a_damaged_state_is_refused_whatever_is_damaged(name: str, junk: Any) -> None:
    state = learned(name, 200).to_state()
    text = json.dumps(state)
    for path in _fields(state):
        damaged = json.loads(text)
        holder = damaged
        for key in path[:-1]:
            holder = holder[key]
        if holder[path[-1]] == junk:
            continue
        holder[path[-1]] = junk
        with pytest.raises(UnreadableStateError):
            restored(name, damaged, lower=0.0)
        del holder[path[-1]]
        with pytest.raises(UnreadableStateError):
            restored(name, damaged, lower=0.0)
    with pytest.raises(UnreadableStateError):
        restored(name, junk, lower=0.0)


def test_a_codec_asks_for_the_order_in_which_features_were_first_seen() -> None:
    features = ("a", "b", "c")
    model: Any = linear_model.BayesianLinearRegression()
    model.learn_one({"c": 1.0}, 2.0)
    model.learn_one({"c": 1.5, "a": 0.5}, 1.0)
    twin: Any = linear_model.BayesianLinearRegression()
    read_into(twin, json.loads(json.dumps(written(model, features))), features)
    assert twin._idx == {"c": 0, "a": 1}
    for i in range(20):
        x = {"a": math.sin(i), "b": math.cos(i), "c": 0.1 * i}
        assert twin.predict_one(x) == model.predict_one(x)
        model.learn_one(x, math.sin(2 * i))
        twin.learn_one(x, math.sin(2 * i))


def test_a_pipeline_that_was_never_asked_has_a_state_too() -> None:
    pipeline: Any = compose.Pipeline(Terms(), preprocessing.StandardScaler(), linear_model.LinearRegression())
    twin = pipeline.clone()
    read_into(twin, written(pipeline, ("a",)), ("a",))
    assert written(twin, ("a",)) == written(pipeline, ("a",))
    assert stats.Mean().get() == 0.0


# The race -----------------------------------------------------------------------------------------------------------


class Said(Expected):
    """An opinion of which only location and threshold matter."""


def said(location: float, threshold: float) -> Said:
    return Said(location, 0.0, threshold, threshold)


def run(
    race: Race, hours: int, thresholds: dict[str, Callable[[int], float]], *, seed: int = 1, start: int = 0
) -> list[tuple[int, Decision]]:
    """Races over standard exponential noise, whose 99 % quantile is 4.605; returns the changes and their hours."""
    rng = random.Random(seed)
    changes = []
    for hour in range(start, start + hours):
        value = rng.expovariate(1.0)
        decision = race.learn_one(value, {name: said(1.0, of(hour)) for name, of in thresholds.items()})
        if decision is not None:
            changes.append((hour - start + 1, decision))
    return changes


def right(_: int) -> float:
    return 4.605


def wide(_: int) -> float:
    return 9.0


def race_of(*names: str, speaker: str = DEFAULT) -> Race:
    return Race((DEFAULT, *names), speaker=speaker)


def test_a_clearly_better_challenger_takes_over_and_not_before_two_weeks_were_judged() -> None:
    race = race_of("ewa")
    changes = run(race, 1500, {DEFAULT: wide, "ewa": right})
    assert len(changes) == 1
    hour, decision = changes[0]
    assert LEAST_JUDGED <= hour <= 1000
    assert (decision.taker, decision.former, decision.reason) == ("ewa", DEFAULT, "better")
    assert decision.pinball_ratio < 0.95
    assert decision.evidence >= EVIDENCE
    assert 0.005 <= decision.exceedance <= 0.02
    assert race.speaker == "ewa"
    assert [standing.is_speaking for standing in race.standings()] == [False, True]


def test_without_two_weeks_judged_nobody_takes_over_whatever_the_evidence() -> None:
    thresholds: dict[str, Callable[[int], float]] = {DEFAULT: lambda _: 40.0, "ewa": right}
    first = [hour for seed in range(20) for hour, _ in run(race_of("ewa"), 600, thresholds, seed=seed)[:1]]
    assert min(first) == LEAST_JUDGED


def test_who_wins_most_blocks_and_loses_more_in_the_mean_does_not_take_over() -> None:
    race = race_of("ewa")
    for hour in range(TERM - 24):
        is_peak = hour % 100 == 50
        told = {DEFAULT: said(1.0, 10.0 if is_peak else 5.0), "ewa": said(1.0, 0.5)}
        assert race.learn_one(10.0 if is_peak else 0.0, told) is None
    ewa = race.standings()[1]
    assert ewa.evidence > EVIDENCE
    assert ewa.exceedance == pytest.approx(0.01, abs=0.002)
    assert ewa.pinball_ratio > 1.0


def test_two_that_are_as_good_do_not_take_turns() -> None:
    def late(hour: int) -> float:
        return right(hour) * (1.05 if hour % 2 else 0.95)

    def early(hour: int) -> float:
        return right(hour) * (0.95 if hour % 2 else 1.05)

    changed = sum(bool(run(race_of("ewa"), 4 * TERM, {DEFAULT: late, "ewa": early}, seed=seed)) for seed in range(40))
    assert changed <= 2, "at most 1 in 20"


def test_a_threshold_that_is_exceeded_too_often_is_not_promoted_however_small_its_loss() -> None:
    # Far too wide a default: a 4 % threshold costs less than that, and still is not what was claimed.
    assert run(race_of("ewa"), 2000, {DEFAULT: lambda _: 40.0, "ewa": lambda _: 3.2}) == []


def test_a_threshold_that_is_never_exceeded_is_not_promoted_either() -> None:
    assert run(race_of("ewa"), 2000, {DEFAULT: lambda _: 90.0, "ewa": lambda _: 30.0}) == []


def test_a_speaker_that_gets_worse_hands_back_by_the_same_rule() -> None:
    race = race_of("ewa")
    run(race, 1500, {DEFAULT: wide, "ewa": right})
    assert race.speaker == "ewa"
    changes = run(race, 2500, {DEFAULT: right, "ewa": wide}, seed=2)
    assert [decision.taker for _, decision in changes] == [DEFAULT]
    assert changes[0][1].reason == "better"
    assert race.changes == 2


def test_a_speaker_that_lost_its_coverage_hands_back_at_once() -> None:
    race = race_of("ewa")
    run(race, 1500, {DEFAULT: wide, "ewa": right})
    changes = run(race, 200, {DEFAULT: wide, "ewa": lambda _: 1.0}, seed=3)
    hour, decision = changes[0]
    assert hour <= 80
    assert (decision.taker, decision.reason) == (DEFAULT, "lost coverage")
    assert decision.former_exceedance > 0.04


def test_after_a_change_nobody_takes_over_for_another_two_weeks() -> None:
    race = race_of("ewa", "snarimax")
    changes = run(race, 3000, {DEFAULT: lambda _: 20.0, "ewa": lambda _: 8.0, "snarimax": right})
    assert changes[0][1].taker == "snarimax", "the best of those that may"
    race = race_of("ewa")
    first = run(race, 1500, {DEFAULT: wide, "ewa": right})[-1][0]
    again = run(race, 3000, {DEFAULT: right, "ewa": lambda _: 30.0}, seed=2)[0][0]
    assert 1500 - first + again >= LEAST_JUDGED


def test_one_absurd_value_does_not_decide_a_race() -> None:
    def of(seed: int) -> Race:
        race = race_of("ewa")
        run(race, 200, {DEFAULT: wide, "ewa": right}, seed=seed)
        return race

    race, twin = of(4), of(4)
    race.learn_one(1e9, {DEFAULT: said(1.0, 9.0), "ewa": said(1.0, 4.605)})
    twin.learn_one(9.0, {DEFAULT: said(1.0, 9.0), "ewa": said(1.0, 4.605)})
    assert run(race, 1300, {DEFAULT: wide, "ewa": right}, seed=5) != []
    assert run(twin, 1300, {DEFAULT: wide, "ewa": right}, seed=5) != []


def test_a_lower_threshold_is_judged_from_below() -> None:
    race = Race((DEFAULT, "ewa"), speaker=DEFAULT, direction="below")
    rng = random.Random(6)
    for _ in range(1500):
        race.learn_one(-rng.expovariate(1.0), {DEFAULT: said(-1.0, -9.0), "ewa": said(-1.0, -4.605)})
    assert race.speaker == "ewa"
    assert race.standings()[1].exceedance == pytest.approx(0.01, abs=0.008)


def test_skill_is_told_as_a_ratio_to_the_first() -> None:
    race = race_of("ewa")
    for value in (1.0, 2.0, 3.0, 4.0):
        race.learn_one(value, {DEFAULT: said(value - 2.0, 9.0), "ewa": said(value + 1.0, 9.0)})
    default, ewa = race.standings()
    assert default.mae_ratio == 1.0
    assert ewa.mae_ratio == pytest.approx(0.5)
    assert ewa.pinball == pytest.approx(0.01 * (8 + 7 + 6 + 5) / 4, rel=0.02)


def test_hours_without_any_loss_are_a_draw() -> None:
    race = race_of("ewa")
    for _ in range(1000):
        assert race.learn_one(0.0, {DEFAULT: said(0.0, 0.0), "ewa": said(0.0, 0.0)}) is None
    assert {(it.mae_ratio, it.pinball_ratio, it.evidence) for it in race.standings()} == {(1.0, 1.0, 1.0)}


def test_the_evidence_begins_anew_with_each_term() -> None:
    race = race_of("ewa")
    run(race, TERM - BLOCK, {DEFAULT: lambda _: 4.9, "ewa": right})
    assert race.standings()[1].evidence != 1.0
    run(race, BLOCK, {DEFAULT: lambda _: 4.9, "ewa": right})
    assert race.standings()[1].evidence == 1.0


@pytest.mark.parametrize("hours", [0, 3, 341, 1400])
def test_a_stored_race_goes_on_to_the_bit(hours: int) -> None:
    thresholds: dict[str, Callable[[int], float]] = {DEFAULT: wide, "ewa": right, "snarimax": lambda _: 6.0}
    race = race_of("ewa", "snarimax")
    run(race, hours, thresholds)
    twin = race_of("ewa", "snarimax")
    twin.restore(json.loads(json.dumps(race.to_state(), allow_nan=False)))
    assert run(twin, 700, thresholds, seed=9) == run(race, 700, thresholds, seed=9)
    assert twin.to_state() == race.to_state()


def test_a_damaged_race_is_refused() -> None:
    race = race_of("ewa")
    run(race, 50, {DEFAULT: wide, "ewa": right})
    state = race.to_state()
    for key in state:
        junks: tuple[Any, ...] = (None, -1, "x", 1.5, {})
        for junk in junks:
            with pytest.raises(UnreadableStateError):
                race_of("ewa").restore(state | {key: junk})
    with pytest.raises(UnreadableStateError, match="snarimax"):
        race_of("snarimax").restore(state)


def test_a_race_cannot_begin_with_a_stranger() -> None:
    with pytest.raises(SettingsError, match="prophet"):
        race_of("ewa", speaker="prophet")


# The contest --------------------------------------------------------------------------------------------------------


def contest_of(*names: str, forecaster: str = DEFAULT) -> Contest:
    return Contest(names, forecaster=forecaster, **SERIES)


def follow(contest: Contest, hours: int, *, start: int = 0, threshold: float = 1000.0) -> list[Decision]:
    """Hours of a wave, beside a default model that always says the same."""
    rng = random.Random(start)
    decisions = []
    for hour in range(start, start + hours):
        default = said(200.0, threshold)
        decision = contest.learn_one(daily(hour, rng), hour % 168, default if hour >= READY_AFTER else None)
        if decision is not None:
            decisions.append(decision)
    return decisions


def test_a_default_that_ignores_the_season_loses_its_place() -> None:
    contest = contest_of("holt-winters", "ewa")
    default = said(200.0, 1000.0)
    assert follow(contest, 300) == []
    assert contest.speaker == DEFAULT
    assert contest.expected(default, 300 % 168) is default
    (decision,) = follow(contest, 600, start=300)
    assert decision.mae_ratio < 0.5
    assert contest.speaker == decision.taker != DEFAULT
    assert contest.expected(default, 900 % 168).threshold < 700.0
    assert contest.explain()["speaker"] == decision.taker
    assert float(contest.explain()[f"{decision.taker}_mae_ratio"]) < 0.6


def test_a_selected_forecaster_speaks_once_it_has_learned_two_days_and_without_challengers_for_good() -> None:
    contest = contest_of(forecaster="holt-winters")
    follow(contest, READY_AFTER - 1)
    assert contest.speaker == DEFAULT
    # The default is right and the forecaster is asked for all the same.
    assert follow(contest, 1200, start=READY_AFTER - 1, threshold=410.0) == []
    assert contest.speaker == "holt-winters"
    assert len(contest.standings()) == 2, "it is measured beside the default even so"


def test_the_default_model_alone_has_nothing_to_step_or_store() -> None:
    contest = contest_of()
    assert follow(contest, 60) == []
    contest.skip(5)
    assert contest.speaker == DEFAULT
    assert contest.to_state()["challengers"] == {}


def test_a_stored_contest_goes_on_to_the_bit() -> None:
    contest = contest_of("holt-winters", "snarimax")
    follow(contest, 100)
    contest.skip(5)
    state = json.loads(json.dumps(contest.to_state(), allow_nan=False))
    twin = Contest.resumed(state, ("holt-winters", "snarimax"), **SERIES)
    copy = contest.copy()
    follow(contest, 400, start=105)
    follow(twin, 400, start=105)
    assert copy.to_state() == state, "a copy lives on its own"
    follow(copy, 400, start=105)
    assert twin.to_state() == contest.to_state() == copy.to_state()


def test_another_selection_begins_another_contest() -> None:
    contest = contest_of("holt-winters")
    follow(contest, 100)
    other = Contest.resumed(contest.to_state(), ("snarimax",), **SERIES)
    assert other.to_state() == contest_of("snarimax").to_state()
    with pytest.raises(UnreadableStateError, match="snarimax"):
        contest_of("snarimax").restore(contest.to_state())
    with pytest.raises(UnreadableStateError):
        Contest.resumed("junk", ("snarimax",), **SERIES)
    with pytest.raises(UnreadableStateError, match="version"):
        Contest.resumed(contest.to_state() | {"version": 9}, ("holt-winters",), **SERIES)


# The selection ------------------------------------------------------------------------------------------------------


def test_the_narrowest_scope_that_was_written_decides() -> None:
    chosen = Selection.parse(
        "*=ewa; error-rate=holt-winters,snarimax; biller:B1/*=snarimax; biller:B1/1=holt-winters",
        forecasters="*=default; model:M/v=2/inference_time=ewa",
    )
    assert chosen.challengers_of("biller:B2", "timeout-error-rate") == ("ewa",)
    assert chosen.challengers_of("biller:B2", "error-rate") == ("holt-winters", "snarimax")
    assert chosen.challengers_of("biller:B1", "error-rate") == ("snarimax",)
    assert chosen.forecaster_of("biller:B1", "error-rate") == DEFAULT
    assert chosen.forecaster_of("model:M/v=2", "inference-time") == "ewa"


def test_a_bare_subject_is_what_it_is_elsewhere() -> None:
    chosen = Selection.parse("B1/error-rate=ewa; M/v1/drift=snarimax")
    assert chosen.challengers_of("biller:B1", "error-rate") == ("ewa",)
    assert chosen.challengers_of("model:M/v1", "drift") == ("snarimax",)


@pytest.mark.parametrize("text", ["", " ", ";;", " ; "])
def test_nothing_written_selects_nothing(text: str) -> None:
    chosen = Selection.parse(text, forecasters=text)
    assert chosen == Selection()
    assert chosen.challengers_of("biller:B1", "error-rate") == ()
    assert chosen.forecaster_of("biller:B1", "error-rate") == DEFAULT


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("error-rate", "has no '='"),
        ("error-rate=prophet", "'prophet' is no forecaster.*holt-winters, snarimax, ewa"),
        ("error-rate=default", "'default' is no forecaster"),
        ("error-rate=", "'' is no forecaster"),
        ("error-rate=ewa,", "'' is no forecaster"),
        ("=ewa", "cannot name a metric"),
        ("error rate=ewa", "cannot name a metric"),
        ("error-rate=ewa,ewa", "twice"),
        ("error-rate=ewa;error-rate=snarimax", "already given"),
        ("error-rate=ewa;error_rate=snarimax", "already given"),
        ("job:B1/error-rate=ewa", "neither biller:ID nor model:NAME/VERSION"),
        ("biller:B{1}/error-rate=ewa", "biller_id"),
    ],
)
def test_a_selection_that_cannot_be_meant_says_why(text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        Selection.parse(text)


def test_one_forecaster_speaks_at_a_time() -> None:
    with pytest.raises(SettingsError, match="one forecaster speaks at a time"):
        Selection.parse(forecasters="error-rate=ewa,snarimax")
