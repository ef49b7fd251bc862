"""What is put into a synthetic series is there, where its label says, and nowhere else."""

import math
from typing import get_args

import numpy as np
import pytest

from detection.hours import WEEK_HOURS, slot_of
from detection.incidents import (
    KINDS,
    Creep,
    Family,
    Incident,
    LevelShift,
    NewNormal,
    Outage,
    Profile,
    SeasonalFlip,
    Series,
    Silence,
    TimeoutStorm,
    VarianceChange,
    inject,
    normal_series,
)

FAMILIES: tuple[Family, ...] = get_args(Family)
HOURS = 4 * WEEK_HOURS


def calm(family: Family = "latency", seed: int = 1, **profile: float) -> Series:
    level = {"latency": 200.0, "ratio": 2.0, "gauge": 10.0}[family]
    return normal_series(Profile(family=family, level=level, **profile), HOURS, np.random.default_rng(seed))  # type: ignore[arg-type]  # numbers only


def struck(series: Series, kind: type[Incident], at: int = 2 * WEEK_HOURS) -> Series:
    return inject(series, kind(start=series.first_hour + at), np.random.default_rng(2))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_incident_changes_no_hour_before_its_label_and_none_after(family: Family, kind: type[Incident]) -> None:
    before = calm(family)
    after = struck(before, kind)
    (label,) = after.labels
    inside = slice(label.start - before.first_hour, label.end - before.first_hour)
    changed = (before.values != after.values) | (before.counts != after.counts)
    assert changed[inside].any()
    changed[inside] = False
    assert not changed.any()
    assert not before.labels
    assert label.start == before.first_hour + 2 * WEEK_HOURS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_gives_the_same_finite_series_inside_its_bounds(family: Family, kind: type[Incident]) -> None:
    one, other = (struck(calm(family, tail=3.0), kind) for _ in range(2))
    assert np.array_equal(one.values, other.values)
    assert np.array_equal(one.counts, other.counts)
    assert np.isfinite(one.values).all()
    assert family == "gauge" or (one.values >= 0.0).all()
    assert family != "ratio" or (one.values <= 100.0).all()
    assert not np.array_equal(calm(family, seed=3).values, calm(family, seed=4).values)


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_is_not_a_new_normal_is_anomalous(kind: type[Incident]) -> None:
    after = struck(calm(), kind)
    assert bool(after.anomalous.any()) != issubclass(kind, NewNormal)
    assert issubclass(kind, NewNormal) == (after.labels[0].end == after.first_hour + HOURS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_starts_beyond_the_end_changes_nothing(kind: type[Incident]) -> None:
    before = calm()
    after = struck(before, kind, at=HOURS + 5)
    assert np.array_equal(before.values, after.values)
    assert not after.anomalous.any()


def test_days_nights_and_weekends_differ_by_the_local_clock() -> None:
    series = normal_series(Profile(noise=0.0, call_spread=0.0, zone="Asia/Tokyo"), HOURS, np.random.default_rng(1))
    by_slot = {slot_of(series.first_hour + at, "Asia/Tokyo"): series.normal[at] for at in range(HOURS)}
    assert by_slot[14] / by_slot[2] == pytest.approx(math.exp(1.0))
    assert by_slot[5 * 24 + 14] / by_slot[14] == pytest.approx(math.exp(-0.3))
    assert series.values == pytest.approx(series.normal)


def test_the_noise_is_as_wide_as_it_says_and_its_tail_as_heavy() -> None:
    normal, heavy = (calm("gauge", noise=0.5, tail=tail) for tail in (math.inf, 3.0))
    deviations = [one.values - one.normal for one in (normal, heavy)]
    assert deviations[0].std() == pytest.approx(0.5, rel=0.1)
    assert abs(deviations[1]).max() > 1.5 * abs(deviations[0]).max()
    assert np.median(abs(deviations[1])) < np.median(abs(deviations[0]))


def test_a_rate_from_few_calls_is_spread_as_few_calls_are() -> None:
    few, many = (calm("ratio", calls=calls, noise=0.0, daily=0.0, weekend=0.0) for calls in (20.0, 20_000.0))
    assert few.values.std() == pytest.approx(100.0 * math.sqrt(0.02 * 0.98 / 20.0), rel=0.25)
    assert many.values.std() < 0.1 * few.values.std()
    assert few.values.mean() == pytest.approx(2.0, abs=0.3)


def test_silence_leaves_no_observation() -> None:
    after = struck(calm(), Silence)
    hours = [one.hour for one in after.observations()]
    start = after.first_hour + 2 * WEEK_HOURS
    assert len(hours) == HOURS - 48
    assert not set(hours) & set(range(start, start + 48))


def test_each_new_normal_is_what_its_name_says() -> None:
    before, at = calm(), 2 * WEEK_HOURS
    assert struck(before, LevelShift).values[at:] == pytest.approx(2.0 * before.values[at:])
    assert struck(before, Creep).values[at + 240] == pytest.approx(before.values[at + 240] * 1.01**10)
    assert struck(before, SeasonalFlip).normal[at:] == pytest.approx(before.normal[at - 12 : -12])
    calmer, wilder = (
        np.log(one.values[at:] / before.normal[at:]).std() for one in (before, struck(before, VarianceChange))
    )
    assert wilder == pytest.approx(3.0 * calmer)


def test_a_storm_raises_the_rate_by_its_share_and_thins_the_answered_calls() -> None:
    at = slice(2 * WEEK_HOURS, 2 * WEEK_HOURS + 3)
    rates = struck(calm("ratio"), TimeoutStorm)
    assert rates.values[at].mean() == pytest.approx(31.4, abs=4.0)
    before = calm()
    latency = struck(before, TimeoutStorm)
    assert latency.counts[at].sum() == pytest.approx(0.7 * before.counts[at].sum(), rel=0.1)


def test_two_incidents_are_both_there_and_a_new_normal_carries_later_ones() -> None:
    before = calm()
    shifted = struck(before, LevelShift, at=WEEK_HOURS)
    both = struck(shifted, Outage)
    assert [type(label.incident) for label in both.labels] == [LevelShift, Outage]
    at = 2 * WEEK_HOURS
    assert both.values[at] == pytest.approx(40.0 * before.values[at])
    assert np.array_equal(both.normal, shifted.normal)
