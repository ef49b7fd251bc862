"""The slow side of a series: what alarms, what is adopted and taken back, what creeps, and what stays finite."""

import math
from typing import Any

import numpy as np
import pytest

from detection.kernel import alert_reference
from detection.kernel.alert_reference import (
    FIELDS,
    is_adopted,
    is_creep,
    is_shift,
    reference_learn,
    reference_score,
    reference_skip,
)

ROW = np.dtype(FIELDS)
WEEK = 168
BEYOND = 20.0  # what the forecaster says of an hour far above its threshold


def fresh() -> Any:
    return np.zeros(1, ROW)[0]


def noisy(hours: int, *, seed: int = 1, noise: float = 0.1) -> Any:
    """A level of 100 with a day, a week and noise, all as shares of it."""
    random = np.random.default_rng(seed)
    hour = np.arange(hours)
    weekend = np.where(hour // 24 % 7 >= 5, 0.7, 1.0)
    return 100.0 * weekend * (1.0 + 0.3 * np.sin(2 * np.pi * hour / 24)) * np.exp(noise * random.normal(size=hours))


def fold(row: Any, values: Any, *, fast: float = 0.5) -> list[float]:
    scores = []
    for value in values:
        scores.append(reference_score(row, value, fast, 0.0, 0.0)[0])
        reference_learn(row, value, fast, 0.0, 0.0)
    return scores


def learned(weeks: int = 4) -> Any:
    row = fresh()
    fold(row, noisy(weeks * WEEK))
    return row


def hours_until(claim: Any, row: Any, values: Any, *, fast: float = 0.5) -> int | None:
    for hour, value in enumerate(values, start=1):
        reference_learn(row, value, fast, 0.0, 0.0)
        if claim(row):
            return hour
    return None


def test_the_state_is_small() -> None:
    assert ROW.itemsize <= 120


def test_scoring_changes_nothing() -> None:
    row = learned()
    before = row.tobytes()
    reference_score(row, 1e9, 3.0, 4.0, 0.0)
    assert row.tobytes() == before


def test_a_quiet_series_does_not_alarm() -> None:
    assert max(fold(fresh(), noisy(8 * WEEK))) < 1.0


def test_an_incident_alarms_within_two_hours_and_as_long_as_it_lasts() -> None:
    scores = fold(learned(), [500.0] * 20, fast=BEYOND)
    assert all(score > 1.0 for score in scores[1:])


def test_an_incident_that_the_forecaster_has_learned_still_alarms() -> None:
    row = learned()
    fold(row, [500.0] * 6, fast=BEYOND)
    assert min(fold(row, [500.0] * 12, fast=0.5)[4:]) > 1.0


def test_the_forecasters_view_moves_the_score() -> None:
    row = learned()
    certain, doubtful = (reference_score(row, 250.0, fast, 0.0, 0.0)[0] for fast in (5.0, 0.5))
    assert certain > 1.2 * doubtful


def test_a_value_below_the_level_scores_below_zero() -> None:
    assert reference_score(learned(), 10.0, 0.0, 0.0, 0.0)[0] < 0.0


def test_few_calls_are_weaker_evidence() -> None:
    row = learned()
    few, many = (reference_score(row, 400.0, BEYOND, count, 0.0)[0] for count in (2.0, 2000.0))
    assert few < 0.7 * many


def test_one_failed_call_of_four_is_no_alarm_when_its_standard_error_is_told() -> None:
    row = fresh()
    fold(row, [0.0] * WEEK)
    assert reference_score(row, 25.0, 1.0, 4.0, 15.0)[0] < 1.0
    assert reference_score(row, 25.0, BEYOND, 40_000.0, 0.15)[0] > 1.0


def test_a_series_that_alarms_every_day_gets_a_higher_boundary() -> None:
    values = noisy(6 * WEEK)
    values[30::24] *= 20.0
    row = fresh()
    fold(row, values, fast=BEYOND)
    assert reference_score(row, 100.0, 1.0, 0.0, 0.0)[3] > 1.3


def test_one_long_alarm_counts_as_one_run() -> None:
    row = learned()
    fold(row, [500.0] * 20, fast=BEYOND)
    assert row["reference_alarms"] == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("factor", [2.0, 5.0, 50.0])
def test_six_hours_of_outage_teach_nothing(factor: float) -> None:
    row, untouched = learned(), learned()
    after = noisy(WEEK, seed=2)
    assert hours_until(is_shift, row, [100.0 * factor] * 6, fast=BEYOND) is None
    assert hours_until(is_shift, row, after) is None
    fold(untouched, noisy(6, seed=3))
    fold(untouched, after)
    assert row["reference_level"] == pytest.approx(untouched["reference_level"], rel=0.05)


def test_a_level_that_stays_is_reported_after_twelve_hours_and_adopted_after_twenty_four() -> None:
    row, again = learned(), learned()
    values = 500.0 * np.exp(0.05 * np.random.default_rng(3).normal(size=100))
    assert hours_until(is_shift, row, values) == 12
    assert row["shift_from"] == pytest.approx(92.0, rel=0.1)
    assert row["shift_to"] == pytest.approx(500.0, rel=0.1)
    assert hours_until(is_adopted, again, values) == 24
    assert again["reference_level"] == pytest.approx(500.0, rel=0.1)


def test_a_doubled_level_with_its_day_and_week_is_reported_and_adopted_within_two_days() -> None:
    doubled = 2.0 * noisy(WEEK, seed=4)
    reported = hours_until(is_shift, learned(), doubled)
    adopted = hours_until(is_adopted, learned(), doubled)
    assert reported is not None
    assert adopted is not None
    assert reported < adopted <= 48


def test_alarms_end_when_the_level_is_adopted() -> None:
    row = learned()
    scores = fold(row, [1000.0] * 60, fast=BEYOND)
    assert max(scores[24:]) < 1.0
    assert min(scores[1:23]) > 1.0


def test_a_level_that_returns_before_the_adoption_is_taken_back() -> None:
    row = learned()
    fold(row, [500.0] * 15)
    withdrawn = hours_until(is_shift, row, noisy(48, seed=6))
    assert withdrawn is not None
    assert withdrawn <= 24
    assert row["shift_to"] == pytest.approx(92.0, rel=0.1)
    assert row["reference_level"] < 140.0


def test_a_level_that_returns_after_the_adoption_is_restored_in_six_hours_with_its_spread() -> None:
    row = learned()
    spread = float(row["reference_deviation"])
    fold(row, [500.0] * 40)
    assert row["reference_level"] > 400.0
    assert hours_until(is_shift, row, [95.0] * 48) == 6
    assert row["reference_level"] == pytest.approx(92.0, rel=0.15)
    assert row["reference_deviation"] == pytest.approx(spread, rel=0.3)


def test_a_better_level_is_adopted_too() -> None:
    row = learned()
    assert hours_until(is_adopted, row, noisy(WEEK, seed=7) * 0.1) is not None
    assert row["reference_level"] < 20.0


def test_the_report_of_a_shift_remains_and_ages() -> None:
    row = learned()
    fold(row, [500.0] * 24)
    fold(row, [500.0] * 100)
    assert row["shift_kind"] == alert_reference.ADOPTED_SHIFT
    assert row["shift_hours"] == 100


def test_one_percent_a_day_is_reported_within_four_weeks() -> None:
    for seed in range(5):
        row = fresh()
        fold(row, noisy(8 * WEEK, seed=seed, noise=0.25))
        assert not row["creep_hours"]
        rising = noisy(4 * WEEK, seed=100 + seed, noise=0.25) * 1.01 ** (np.arange(4 * WEEK) / 24)
        assert hours_until(is_creep, row, rising) is not None
        assert row["creep_rise"] == pytest.approx(0.15, abs=0.12)


def test_a_steady_series_reports_a_creep_less_than_once_a_year_and_no_shift() -> None:
    reports = 0
    for seed in range(5):
        row = fresh()
        for value in noisy(52 * WEEK, seed=seed, noise=0.25):
            reference_learn(row, value, 0.5, 0.0, 0.0)
            reports += is_creep(row)
        assert row["shift_kind"] == alert_reference.NONE
    assert reports <= 3


def test_one_bad_day_is_no_creep() -> None:
    row = learned(8)
    assert hours_until(is_creep, row, [1000.0] * 8) is None
    assert hours_until(is_creep, row, noisy(2 * WEEK, seed=9)) is None


def test_silence_ages_the_row_and_forgets_the_last_hours() -> None:
    row = learned()
    fold(row, [500.0] * 3, fast=BEYOND)
    level, excess = float(row["reference_level"]), float(row["reference_excess"])
    for _ in range(5):
        reference_skip(row)
    assert row["reference_level"] == level
    assert row["reference_excess"] < 0.1 * excess
    assert reference_score(row, 100.0, 0.1, 0.0, 0.0)[0] < 1.0


def test_a_year_of_silence_leaves_the_state_as_it_was() -> None:
    row = learned()
    for _ in range(9000):
        reference_skip(row)
    assert math.isfinite(reference_score(row, 100.0, 1.0, 0.0, 0.0)[0])
    assert row["reference_hours"] == 4 * WEEK


@pytest.mark.parametrize(
    "values",
    [
        [0.0],
        [1e9],
        [0.0] * 500,
        [1e-9] * 500,
        [1e9] * 500,
        [7.0] * 400 + [1e9] + [7.0] * 400,
        [0.0] * 400 + [1e9] * 60 + [0.0] * 400,
        [-5.0, -7.0, -4.0] * 300,
        [1e300, -1e300] * 300,
        [1e-9, 1e9] * 300,
        [math.inf, 3.0, math.nan] * 200,
        [10.0 ** (hour // 40) for hour in range(1200)],
        [-(10.0 ** (hour // 40)) for hour in range(1200)],
    ],
)
@pytest.mark.parametrize("fast", [0.5, math.inf, math.nan, -1e300])
def test_every_number_stays_finite(values: list[float], fast: float) -> None:
    row = fresh()
    for value in values:
        assert all(math.isfinite(part) for part in reference_score(row, value, fast, 1.0, 0.0))
        reference_learn(row, value, fast, 1.0, math.nan)
    for name in ROW.names or ():
        assert np.isfinite(row[name]).all(), name


def test_the_score_is_bounded() -> None:
    row = learned()
    fold(row, [1e9] * 5, fast=math.inf)
    assert 1.0 < reference_score(row, 1e9, math.inf, 1e9, 0.0)[0] <= 5.5


def test_bytes_and_back_gives_the_same_verdicts() -> None:
    row = learned()
    copy = np.frombuffer(bytearray(row.tobytes()), ROW)[0]
    values = noisy(3 * WEEK, seed=10) * np.where(np.arange(3 * WEEK) > 100, 4.0, 1.0)
    assert fold(row, values) == fold(copy, values)
    assert row.tobytes() == copy.tobytes()
