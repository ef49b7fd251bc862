"""What is simulated is repeatable, counted in whole numbers, and struck where its labels say and nowhere else."""

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import orjson
import pytest

from detection.errors import InputError
from detection.events import OUTCOMES, check_call, decode_call, decode_observation, latency_us
from detection.hours import HOUR_MS, MINUTE_MS
from detection.simulation.billers import biller, expected_calls
from detection.simulation.calls import BillerMinutes, biller_calls, simulate_minutes
from detection.simulation.events import is_call, simulate_events
from detection.simulation.labels import (
    ACCURACY,
    CALLS,
    DRIFT,
    ERRORS,
    INFERENCE_TIME,
    LATENCY,
    PLATFORM_SHARE,
    TIMEOUTS,
    WITNESSES,
    LabelledIncident,
    labels,
    striking,
)
from detection.simulation.observations import model_observations
from detection.simulation.scenario import FIRST_MS, Draw, Scenario
from detection.subject import Subject
from detection.windows import CallWindow

WEEKS = Scenario(seed=3, billers=12, models=5, hours=3 * 168, incidents=24, model_incidents=9, calm_hours=24)
# Begins and ends within a day, so that days are cut.
EVENING = Scenario(seed=5, billers=4, models=3, start_ms=FIRST_MS + 15 * HOUR_MS, hours=12, incidents=3)
DAY_MS = 24 * HOUR_MS
COLUMNS = ("calls", "errors", "timeouts", "latency_us", "latency_us2")


def quiet(scenario: Scenario) -> Scenario:
    return replace(scenario, incidents=0, model_incidents=0)


def written(scenario: Scenario) -> bytes:
    return b"\n".join(orjson.dumps(event) for event in simulate_events(scenario))


def differing(one: BillerMinutes, other: BillerMinutes) -> set[int]:
    """Minutes since the epoch in which any column differs."""
    differs = np.any([getattr(one, name) != getattr(other, name) for name in COLUMNS], axis=0)
    return {one.first_minute + int(at) for at in np.flatnonzero(differs)}


def touched(incident: LabelledIncident) -> set[int]:
    return set(range(incident.start_ms // MINUTE_MS, -(-incident.end_ms // MINUTE_MS)))


def inner(incident: LabelledIncident, minutes: BillerMinutes) -> slice:
    """The rows of the minutes that lie in the incident from end to end; of a slow drift, its last third."""
    start_ms = incident.start_ms
    if incident.kind == "slow-drift":
        start_ms += (incident.end_ms - incident.start_ms) * 2 // 3
    return slice(-(-start_ms // MINUTE_MS) - minutes.first_minute, incident.end_ms // MINUTE_MS - minutes.first_minute)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    assert written(EVENING) == written(replace(EVENING))
    assert labels(WEEKS) == labels.__wrapped__(replace(WEEKS))
    assert written(EVENING) != written(replace(EVENING, seed=6))


def test_one_more_biller_changes_none_of_the_others() -> None:
    few, more = quiet(EVENING), replace(quiet(EVENING), billers=EVENING.billers + 1)
    for one, other in zip(simulate_minutes(few), simulate_minutes(more), strict=False):
        assert not differing(one, other)


def test_every_event_is_one_that_the_stream_takes_and_they_are_in_the_order_of_time() -> None:
    last_ms = EVENING.start_ms
    seen: Counter[str] = Counter()
    for event in simulate_events(replace(EVENING, model_incidents=2)):
        payload = orjson.dumps(event)
        if is_call(event):
            subject, ms, _, _ = check_call(decode_call(payload))
        else:
            observed = decode_observation(payload)
            subject, ms = observed.subject, observed.timestamp_ms
            assert observed.gauges.keys() == {ACCURACY, DRIFT, INFERENCE_TIME}
            assert set(observed.labels) == {"region", "env"}
        assert last_ms <= ms < EVENING.end_ms
        last_ms = ms
        seen[str(subject)] += 1
    assert len(seen) == EVENING.billers + EVENING.models
    assert seen["model:Llama/v1"] == EVENING.minutes


def test_the_minutes_are_exactly_what_the_events_add_up_to() -> None:
    windows: defaultdict[tuple[str, int], CallWindow] = defaultdict(CallWindow)
    for event in filter(is_call, simulate_events(EVENING)):
        outcome, us = OUTCOMES[event["outcome"]], latency_us(event["latency_ms"])
        is_timeout = outcome == OUTCOMES["timeout"]
        windows[event["biller_id"], event["timestamp"] // MINUTE_MS].add(
            CallWindow(
                calls=1,
                errors=int(outcome == OUTCOMES["error"]),
                timeouts=int(is_timeout),
                latency_us=0 if is_timeout else us,
                latency_us2=0 if is_timeout else us * us,
            )
        )
    assert len(windows) > EVENING.minutes
    assert any(window.timeouts for window in windows.values())
    for minutes in simulate_minutes(EVENING):
        assert len(minutes.calls) == EVENING.minutes
        for at in range(EVENING.minutes):
            expected = windows.pop((minutes.subject.id, minutes.first_minute + at), CallWindow())
            assert minutes.window(at) == expected
    assert not windows


def test_minutes_are_whole_numbers_that_fit_each_other() -> None:
    for minutes in simulate_minutes(EVENING):
        for name in COLUMNS:
            column = getattr(minutes, name)
            assert column.dtype == np.int64
            assert (column >= 0).all()
        answered = minutes.calls - minutes.timeouts
        assert (minutes.errors <= answered).all()
        assert ((minutes.latency_us > 0) == (answered > 0)).all()
        # The sum of squares is least when all are the same, most when one is all.
        squared = minutes.latency_us.astype(float) ** 2
        assert (minutes.latency_us2 >= squared / np.maximum(answered, 1) * (1 - 1e-12)).all()
        assert (minutes.latency_us2 <= squared * (1 + 1e-12)).all()


def test_scenarios_that_follow_each_other_join_without_a_seam() -> None:
    whole = quiet(replace(EVENING, hours=24))
    first = replace(whole, hours=12)
    assert written(first) + b"\n" + written(first.following()) == written(whole)


def test_an_incident_changes_no_minute_outside_its_label_and_strikes_within_it() -> None:
    struck, calm = list(simulate_minutes(WEEKS)), list(simulate_minutes(quiet(WEEKS)))
    for one, other in zip(struck, calm, strict=True):
        of_subject = striking(labels(WEEKS), one.subject)
        changed = differing(one, other)
        assert changed <= set().union(*map(touched, of_subject))
        for incident in of_subject:
            rows = inner(incident, one)
            calls, errors, timeouts = one.calls[rows].sum(), one.errors[rows].sum(), one.timeouts[rows].sum()
            normal = other.calls[rows].sum()
            if normal < WITNESSES:
                # Only what strikes the whole platform strikes those whom few call.
                assert incident.kind in {"platform-wide", "slow-drift"}
                continue
            metric = incident.metrics[0]
            if metric == CALLS:
                assert calls == 0
            elif metric == LATENCY:
                before = other.latency_us[rows].sum() / (normal - other.timeouts[rows].sum())
                assert one.latency_us[rows].sum() / (calls - timeouts) > 1.4 * before
            elif metric == ERRORS:
                assert 100 * errors / calls > 0.4 * incident.strength
            else:
                assert metric == TIMEOUTS
                assert 100 * timeouts / calls > 0.5 * incident.strength


def test_a_silent_biller_does_not_call_from_its_first_to_its_last_millisecond() -> None:
    silences = [one for one in labels(WEEKS) if one.kind == "silent-biller"]
    assert silences
    for one in silences:
        index = WEEKS.biller_subjects.index(one.subjects[0])
        day = one.start_ms // DAY_MS
        struck, calm = (biller_calls(scenario, index, day).time_ms for scenario in (WEEKS, quiet(WEEKS)))
        assert struck.tolist() == calm[(calm < one.start_ms) | (calm >= one.end_ms)].tolist()
        assert len(struck) < len(calm)


def test_incidents_lie_after_the_calm_hours_and_before_the_end_and_apart_from_each_other() -> None:
    crowded = [replace(WEEKS, seed=seed, billers=4, hours=168, incidents=12) for seed in range(20)]
    for scenario in (WEEKS, *crowded):
        by_subject: defaultdict[Subject, list[LabelledIncident]] = defaultdict(list)
        found = labels(scenario)
        assert [one.start_ms for one in found] == sorted(one.start_ms for one in found)
        for one in found:
            assert scenario.start_ms + scenario.calm_hours * HOUR_MS <= one.start_ms < one.end_ms <= scenario.end_ms
            for subject in one.subjects:
                by_subject[subject].append(one)
        for several in by_subject.values():
            for earlier, later in pairwise(several):
                assert later.start_ms - earlier.end_ms >= 2 * HOUR_MS


def test_every_kind_has_its_share_and_a_platform_wide_incident_strikes_most_billers() -> None:
    found = labels(WEEKS)
    of_billers = Counter(one.kind for one in found if one.subjects[0].kind == "biller")
    assert of_billers == {
        "spike": 6,
        "timeout-storm": 4,
        "silent-biller": 4,
        "level-shift": 4,
        "slow-drift": 4,
        "platform-wide": 2,
    }
    of_models = Counter(one.metrics for one in found if one.subjects[0].kind == "model")
    assert of_models == {(ACCURACY,): 3, (INFERENCE_TIME,): 3, (DRIFT,): 3}
    for one in found:
        if one.kind == "platform-wide":
            assert len(one.subjects) == -(-WEEKS.billers * PLATFORM_SHARE // 1)
        else:
            assert len(one.subjects) == 1


def test_somebody_meets_every_incident_of_a_single_biller() -> None:
    for seed in range(20):
        scenario = replace(WEEKS, seed=seed)
        for one in labels(scenario):
            if one.subjects[0].kind == "biller" and one.kind != "platform-wide":
                of = biller(seed, scenario.biller_subjects.index(one.subjects[0]))
                minutes = np.arange(one.start_ms // MINUTE_MS, one.end_ms // MINUTE_MS)
                assert expected_calls(of, minutes).sum() >= WITNESSES


def test_accuracy_is_below_a_third_exactly_while_an_incident_says_so() -> None:
    only_models = replace(WEEKS, billers=0, incidents=0, hours=168)
    falls = {one.subjects[0]: one for one in labels(only_models) if one.metrics == (ACCURACY,)}
    assert len(falls) > 1
    seen = 0
    for event in simulate_events(only_models):
        fall = falls.get(Subject.model(event["name"], event["version"]))
        is_fallen = fall is not None and fall.start_ms <= event["timestamp"] < fall.end_ms
        assert event["prediction_accuracy"] < 0.3 if is_fallen else event["prediction_accuracy"] > 0.6
        seen += is_fallen
    assert seen > 100


@pytest.mark.parametrize("metric", [DRIFT, INFERENCE_TIME])
def test_drift_grows_and_inference_slows_down_within_their_labels(metric: str) -> None:
    only_models = replace(WEEKS, billers=0, incidents=0)
    incident = next(one for one in labels(only_models) if one.metrics == (metric,))
    index = WEEKS.model_subjects.index(incident.subjects[0])
    late_ms = incident.end_ms - (incident.end_ms - incident.start_ms) // 4

    def late_values(scenario: Scenario) -> list[float]:
        values: list[float] = []
        for day in range(late_ms // DAY_MS, incident.end_ms // DAY_MS + 1):
            found = model_observations(scenario, index, day)
            is_late = (found.time_ms >= late_ms) & (found.time_ms < incident.end_ms)
            values += (found.drift if metric == DRIFT else found.inference_time)[is_late].tolist()
        return values

    struck, calm = np.mean(late_values(only_models)), np.mean(late_values(quiet(only_models)))
    if metric == DRIFT:
        assert struck - calm == pytest.approx(incident.strength * 0.875, rel=0.05)
    else:
        assert struck / calm == pytest.approx(incident.strength, rel=0.01)


def test_days_and_weeks_have_their_seasons_and_billers_their_sizes() -> None:
    calm = replace(quiet(WEEKS), hours=2 * 168, billers=20)
    hour = np.arange(calm.minutes) // 60 % 24
    weekend = np.arange(calm.minutes) // 1440 % 7 >= 5
    volumes, error_shares, latencies, swings, weekends = [], [], [], [], []
    for index, minutes in enumerate(simulate_minutes(calm)):
        per_hour = np.array([minutes.calls[hour == at].mean() for at in range(24)])
        swings.append(per_hour.max() / per_hour.min())
        weekends.append(minutes.calls[weekend].mean() / minutes.calls[~weekend].mean())
        volumes.append(minutes.calls.mean())
        error_shares.append(minutes.errors.sum() / minutes.calls.sum())
        latencies.append(minutes.latency_us.sum() / (minutes.calls - minutes.timeouts).sum() / 1000)
        assert biller(calm.seed, index).busiest <= 200
    assert min(swings) > 1.8
    assert all(share < 1.05 for share in weekends)
    assert min(weekends) < 0.6
    assert max(volumes) > 10 * min(volumes)
    assert max(latencies) > 3 * min(latencies)
    assert min(error_shares) < 0.004
    assert 0.01 < max(error_shares) < 0.05


def test_errors_vary_more_from_hour_to_hour_than_chance_alone() -> None:
    calm = replace(quiet(WEEKS), hours=4 * 168)
    dispersion = []
    for minutes in simulate_minutes(calm):
        calls, errors = (column.reshape(-1, 60).sum(axis=1) for column in (minutes.calls, minutes.errors))
        share = errors.sum() / calls.sum()
        expected = calls * share * (1 - share)
        dispersion.append(((errors - calls * share) ** 2).sum() / expected.sum())
    assert np.median(dispersion) > 1.5


def test_names_go_on_with_the_next_version() -> None:
    subjects = Scenario(models=12).model_subjects
    assert [str(subjects[at]) for at in (0, 1, 10, 11)] == [
        "model:Llama/v1",
        "model:Mistral/v1",
        "model:Llama/v2",
        "model:Mistral/v2",
    ]


@pytest.mark.parametrize(
    "numbers",
    [
        {"seed": -1},
        {"billers": -1},
        {"hours": 0},
        {"hours": 5, "calm_hours": 6},
        {"start_ms": FIRST_MS + 1},
        {"start_ms": 0},
        {"hours": 10_000_000},
    ],
)
def test_numbers_that_contradict_each_other_are_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(InputError):
        Scenario(**numbers)


def test_more_incidents_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(InputError, match="room for"):
        labels(Scenario(billers=2, hours=24, incidents=200))
    with pytest.raises(InputError, match="nobody"):
        labels(Scenario(billers=0, incidents=1))


def test_nothing_at_all_can_be_simulated_too() -> None:
    assert not list(simulate_events(Scenario(billers=0, models=0)))
    assert not list(simulate_minutes(Scenario(billers=0)))


def test_two_purposes_never_share_a_generator() -> None:
    scenario = Scenario()
    first = {scenario.generator(draw, 1).integers(2**62) for draw in Draw}
    assert len(first) == len(Draw)
