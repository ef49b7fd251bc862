"""The benchmark of incidents, small: the real core finds what is labelled, and what is counted is counted rightly."""

import math
from functools import partial

import numpy as np
import pytest

from benchmarks._incident_matching import REFERENCES, Prepared, best_setting, persistent
from benchmarks._incident_outcome import Opened, judge, together
from benchmarks._incident_references import fixed, hour_of_week, trailing_day, windows, worth_it
from benchmarks._incident_stream import Stream, judged_by_core
from benchmarks.incidents import CORE, DAY_SIGMA, FIXED, MARGIN, WEEK_SIGMA, matched_results, outcome, results
from detection.hours import HOUR_MS, MINUTE_MS
from detection.live import LivePolicy
from detection.policy import Policy
from detection.simulation.labels import LabelledIncident
from detection.simulation.scenario import Scenario
from detection.subject import Subject

A, B = Subject.biller("A"), Subject.biller("B")


def incident(start_minute: int, end_minute: int, *subjects: Subject) -> LabelledIncident:
    return LabelledIncident(
        kind="spike" if len(subjects) == 1 else "platform-wide",
        subjects=subjects,
        metrics=("error-rate",),
        start_ms=start_minute * MINUTE_MS,
        end_ms=end_minute * MINUTE_MS,
        strength=20.0,
    )


def opened(subject: Subject, minute: int) -> Opened:
    return Opened(subject, "error-rate", minute * MINUTE_MS)


def test_an_alert_in_an_incident_finds_it_and_others_are_false() -> None:
    incidents = [incident(100, 120, A), incident(1000, 1020, A)]
    alerts = [opened(A, 103), opened(A, 110), opened(B, 105), opened(A, 900)]
    found = judge(alerts, incidents, billers=2, from_ms=0, to_ms=168 * HOUR_MS)
    assert found.recall == 0.5
    assert found.median_delay == 3.0
    assert found.false == {"error-rate": 2}
    assert found.false_alerts == 1.0


def test_what_was_open_before_the_incident_does_not_find_it() -> None:
    found = judge([opened(A, 99)], [incident(100, 120, A)], billers=1, from_ms=0, to_ms=168 * HOUR_MS)
    assert found.recall == 0.0
    assert found.median_delay == math.inf


def test_a_platform_wide_incident_is_found_when_enough_members_are() -> None:
    members = tuple(Subject.biller(f"B{number}") for number in range(8))
    alerts = [opened(subject, 101 + number) for number, subject in enumerate(members[:4])]
    found = judge(alerts, [incident(100, 130, *members)], billers=10, from_ms=0, to_ms=168 * HOUR_MS)
    assert found.delays == {"platform-wide": [3.0]}
    assert not found.false


def test_several_streams_count_as_one() -> None:
    one = judge([opened(A, 103)], [incident(100, 120, A)], billers=1, from_ms=0, to_ms=168 * HOUR_MS)
    other = judge([opened(B, 7)], [incident(100, 120, A)], billers=1, from_ms=0, to_ms=168 * HOUR_MS)
    both = together([one, other])
    assert both.recall == 0.5
    assert both.false_alerts == 0.5


def test_so_many_of_the_last_minutes_are_beyond_and_the_newest_too() -> None:
    minutes = np.array([[1, 1, 0, 1, 0, 0, 1, 1, 1]], bool)[:, :, np.newaxis]
    assert persistent(minutes, 1, 1).tolist() == minutes.tolist()
    assert np.flatnonzero(persistent(minutes, 2, 3)).tolist() == [1, 3, 7, 8]
    assert np.flatnonzero(persistent(minutes, 3, 3)).tolist() == [8]


def test_what_is_not_worth_it_or_has_too_little_behind_it_is_told_apart() -> None:
    usual = np.array([[[100.0, 2.0, 1.0, 50.0]]])
    loud = [150.0, 12.0, 11.0, 50.0]
    windows_of_minutes = [loud, [130.0, 3.9, 2.9, 6.0], [150.0, 12.0, 11.0, 4.0], [np.nan, 2.0, 1.0, 0.0]]
    found = worth_it(np.array([windows_of_minutes]), usual, LivePolicy())
    assert found.tolist() == [
        [[True, True, True, False], [False] * 4, [False, False, False, True], [False, False, False, True]]
    ]


@pytest.mark.timeout(300)
def test_the_core_finds_the_incidents_of_two_weeks_and_calls_nobody_for_nothing() -> None:
    scenario = Scenario(seed=5, billers=6, models=0, hours=336, incidents=6, calm_hours=168)
    stream = Stream.of(scenario)
    values = windows(stream)
    outcomes = {
        CORE: outcome(stream, judged_by_core(stream, LivePolicy(), Policy())),
        FIXED: outcome(stream, fixed(values, MARGIN)),
        DAY_SIGMA: outcome(stream, trailing_day(values)),
        WEEK_SIGMA: outcome(stream, hour_of_week(values)),
    }
    assert outcomes[CORE].recall == 1.0
    assert outcomes[CORE].median_delay <= 5.0
    assert not outcomes[CORE].false
    assert outcomes[DAY_SIGMA].false_alerts > 1.0
    budget = 0.5
    for reference in REFERENCES[:2]:
        best = best_setting(reference, [(values, partial(outcome, stream))], budget=budget)
        assert best is not None
        setting, at_best = best
        assert at_best.false_alerts <= budget
        again = outcome(stream, Prepared.of(reference, values).points(setting))
        assert again == at_best
        assert {one.name for one in matched_results(outcomes[CORE], {reference.name: at_best})} > {
            f"{reference.name}: incidents found"
        }
    assert {one.name for one in results(outcomes)} >= {
        "incidents found, seeds held out, beside the reference that finds most at any number of false alerts",
        "false alerts per biller-week",
    }
