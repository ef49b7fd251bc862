"""Incidents, false alarms and cuts, each against a case that can be counted on fingers."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.alert_evaluation import CUTS, AtCut, ScoredSeries, at_cut, judge, runs
from detection.errors import InputError
from detection.evaluation import Prediction, Recording

WEEKS = 2
START = 168
END = START + WEEKS * 168


def series(*, labelled: set[int], scores: dict[int, float]) -> ScoredSeries:
    """Two scored weeks from hour 168 on, whose scores are 0 where none is given."""
    recording = Recording(
        "one",
        "latency",
        dict.fromkeys(range(END), 1.0),
        {hour: hour in labelled for hour in range(END)} if labelled else {},
    )
    said = {hour: Prediction(0.0, 0.0, 0.0, 1.0, scores.get(hour, 0.0)) for hour in range(START, END)}
    return ScoredSeries.of(recording, said)


def loud(*hours: int) -> dict[int, float]:
    return dict.fromkeys(hours, 2.0)


def test_hours_at_most_four_apart_are_one_run() -> None:
    assert runs([1, 5, 6, 11, 15]) == [(1, 6), (11, 15)]
    assert runs([]) == []


def test_labelled_hours_close_together_are_one_incident() -> None:
    assert series(labelled={200, 203, 207, 212}, scores={}).incidents == ((200, 207), (212, 212))


def test_an_incident_that_was_over_before_the_first_scored_hour_does_not_count() -> None:
    assert series(labelled={100, 165, START, 300}, scores={}).incidents == ((165, START), (300, 300))


@pytest.mark.parametrize(
    ("hour", "recall", "false_alarms"),
    [(197, 0.0, 1), (198, 1.0, 0), (200, 1.0, 0), (209, 1.0, 0), (210, 0.0, 1)],
)
def test_a_flag_up_to_two_hours_away_finds_the_incident_and_any_other_is_false(
    hour: int, recall: float, false_alarms: int
) -> None:
    found = at_cut([series(labelled=set(range(200, 208)), scores=loud(hour))], 1.0)
    assert found.recall == recall
    assert found.precision == recall
    assert found.false_alarms_per_week == false_alarms / WEEKS


def test_a_run_that_reaches_an_incident_is_no_false_alarm_however_early_it_began() -> None:
    found = at_cut([series(labelled={210}, scores=loud(196, 200, 204, 208))], 1.0)
    assert (found.recall, found.precision, found.false_alarms_per_week) == (1.0, 1.0, 0.0)
    # Three of its four hours are away from the incident all the same: of 336 hours five are near it.
    assert found.flagged_away == pytest.approx(3 / 331)


def test_figures_of_a_group_are_of_all_its_series_together() -> None:
    found = at_cut(
        [
            series(labelled={200, 300}, scores=loud(200, 250, 260)),
            series(labelled={400}, scores=loud(400)),
        ],
        1.0,
    )
    assert found.recall == pytest.approx(2 / 3)
    assert found.precision == pytest.approx(2 / 4)
    assert found.false_alarms_per_week == 2 / (2 * WEEKS)
    assert found.f1 == pytest.approx(2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    assert found.flagged_away == pytest.approx(2 / (326 + 331))
    assert found.flagged_away_worst == pytest.approx(2 / 326)


def test_a_score_of_exactly_one_is_not_beyond_the_boundary() -> None:
    found = judge([series(labelled={200, 300}, scores={200: 1.0, 300: 1.0001})])
    assert found.at_boundary.cut == 1.0
    assert found.at_boundary.recall == 0.5


def test_an_alert_that_is_always_on_finds_everything_and_does_not_count() -> None:
    always = series(labelled={200}, scores=loud(*range(START, END)))
    found = judge([always])
    assert found.at_boundary.recall == 1.0
    assert found.at_boundary.false_alarms_per_week == 0.0
    assert not found.at_boundary.counts
    assert found.recall(false_alarms_per_week=1000.0) == 0.0
    assert found.best_f1 == 0.0


def test_one_series_that_is_on_for_long_disqualifies_a_cut_that_the_group_would_allow() -> None:
    quiet = [series(labelled={200}, scores={}) for _ in range(20)]
    noisy = series(labelled={200}, scores=loud(*range(300, 334)))
    found = at_cut([*quiet, noisy], 1.0)
    assert found.flagged_away < 0.02
    assert found.flagged_away_worst == pytest.approx(34 / 331)
    assert not found.counts


def test_the_sweep_reads_recall_at_the_best_cut_that_keeps_the_limit() -> None:
    # Above 3 only the first incident is flagged; above 1.5 both, and three false alarms in two weeks.
    scores = {200: 4.0, 300: 2.0, 350: 2.0, 400: 2.0, 450: 2.0}
    found = judge([series(labelled={200, 300}, scores=scores)])
    assert (found.series, found.incidents) == (1, 2)
    assert found.recall(false_alarms_per_week=1.0) == 0.5
    assert found.recall(false_alarms_per_week=1.5) == 1.0
    # One found of two with no false alarm: 2 * 0.5 * 1 / 1.5; both at a precision of 2/5: 0.57.
    assert found.best_f1 == pytest.approx(2 / 3)


def test_without_labels_every_run_is_a_false_alarm() -> None:
    found = at_cut([series(labelled=set(), scores=loud(200, 202, 300))], 1.0)
    assert (found.recall, found.precision, found.false_alarms_per_week) == (0.0, 0.0, 1.0)


def test_the_cuts_are_tried_from_a_twentieth_to_twenty() -> None:
    assert len(CUTS) == 120
    assert (CUTS[0], CUTS[-1]) == pytest.approx((0.05, 20.0))
    assert np.ptp(np.diff(np.log(CUTS))) == pytest.approx(0.0, abs=1e-12)


def test_no_series_is_an_error_and_so_is_one_without_a_scored_hour() -> None:
    with pytest.raises(InputError, match="no series"):
        judge([])
    with pytest.raises(InputError, match="short: no hour to score"):
        ScoredSeries.of(Recording("short", "error", {0: 1.0}), {})


@given(
    st.dictionaries(st.integers(START, END - 1), st.floats(min_value=0.0, max_value=25.0), max_size=60),
    st.sets(st.integers(0, END - 1), max_size=30),
)
def test_a_higher_cut_never_finds_or_flags_more(scores: dict[int, float], labelled: set[int]) -> None:
    sweep = judge([series(labelled=labelled, scores=scores)]).sweep
    for lower, higher in itertools.pairwise(sweep):
        assert _flags_no_more(higher, lower)


def _flags_no_more(higher: AtCut, lower: AtCut) -> bool:
    return higher.recall <= lower.recall and higher.flagged_away <= lower.flagged_away
