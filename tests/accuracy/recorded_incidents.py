"""Incidents put into the recorded series, with bounds that need no model to say what should have happened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from detection.catalogue import Metric
from detection.hours import WEEK_HOURS
from detection.policy import Policy
from detection.rows import Observation
from detection.series_model import SeriesModel
from tests.accuracy.traces import CREEP, LEVEL_SHIFT, drift_of

Recorded = Mapping[str, tuple[Metric, Sequence[Observation]]]

ADOPTED_AFTER_HOURS = 6
_DAY_HOURS = 24
_CREEP_WEEKS = 4
# A model judges after two days; the shortest recorded series have eleven days in all, and a week of them comes after.
_LEAST_HOURS_BEFORE = 72


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recorded series in the middle of its scored part, or as late as leaves a week: `model` has learned up to it."""

    name: str
    metric: Metric
    observations: Sequence[Observation]
    start: int
    model: SeriesModel


@dataclass(frozen=True, slots=True)
class Influence:
    """How an outage moved the threshold of the seven days after it, relative to the same hours without the outage.

    `change` is that of the mean threshold, `hourly` the median of the absolute changes hour by hour, `later` the change
    of the mean without the first day, `same_slots` the change of the mean at the very hours of the week that were
    struck, a week later.
    """

    series: str
    change: float
    hourly: float
    later: float
    same_slots: float


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a model made of a level that doubled, over the day that begins `ADOPTED_AFTER_HOURS` after it did.

    `error` is how far the estimates' sum is from that of the new level's own season, relative to it; `exceeded` the
    share of hours above the threshold. `is_evident`: without any model, each of the first six hours lies above all that
    the week before had within an hour of its time of day. `reported_after` counts hours, infinite for never.
    """

    series: str
    error: float
    exceeded: float
    is_evident: bool
    reported_after: float


@dataclass(frozen=True, slots=True)
class CreepReport:
    """When a creep was reported, and whether it is evident: its fourth week's median is above all weeks' before it."""

    series: str
    is_evident: bool
    reported_after: float


def prepared(series: Recorded, *, policy: Policy) -> list[Prepared]:
    """Those with three days before their middle and a week after it; others cannot say what an incident leaves."""
    return [
        Prepared(name, metric, observations, start, _folded(metric, observations[:start], policy))
        for name, (metric, observations) in series.items()
        if (start := _middle(observations)) is not None
    ]


def outage_influence(series: Sequence[Prepared], *, hours: int, factor: float, policy: Policy) -> list[Influence]:
    """These many observed hours from the middle on are so many times as high.

    An hour of 0 becomes so many times the mean of the week before; what the metric cannot be is cut to its bound.
    """
    return [_influence(one, hours, factor, policy) for one in series]


def adoptions(series: Sequence[Prepared], *, factor: float, policy: Policy) -> list[Adoption]:
    """From the middle on everything is so many times as high.

    Series whose new level is 0 are left out: there is nothing to adopt.
    """
    found = (_adoption(one, factor, policy) for one in series)
    return [one for one in found if one is not None]


def creeps(series: Recorded, *, share_per_day: float, policy: Policy) -> list[CreepReport]:
    """For four weeks the level grows by this share a day, after at least four weeks without."""
    span = _CREEP_WEEKS * WEEK_HOURS
    found = []
    for name, (metric, observations) in series.items():
        first, last = observations[0].hour, observations[-1].hour
        if last - first < 2 * span:
            continue
        start = next(at for at, one in enumerate(observations) if one.hour >= first + span)
        crept = [
            one
            if (days := (one.hour - observations[start].hour) / _DAY_HOURS) <= 0.0
            else replace(one, value=metric.clip(one.value * (1.0 + share_per_day) ** days))
            for one in observations
            if one.hour < observations[start].hour + span
        ]
        model = _folded(metric, crept[:start], policy)
        after = _first_report(model, crept[start:], CREEP, policy)
        found.append(CreepReport(name, _is_evident_creep(crept, crept[start].hour), after))
    return found


def _middle(observations: Sequence[Observation]) -> int | None:
    """Where the incident begins, in the scored part where a week after it still fits; None for too short a series."""
    first, last = observations[0].hour, observations[-1].hour
    middle = first + WEEK_HOURS + (last - first - WEEK_HOURS) // 2
    hour = min(middle, last - WEEK_HOURS - ADOPTED_AFTER_HOURS)
    if hour < first + _LEAST_HOURS_BEFORE:
        return None
    return next(at for at, one in enumerate(observations) if one.hour >= hour)


def _folded(metric: Metric, observations: Sequence[Observation], policy: Policy) -> SeriesModel:
    model = SeriesModel(metric, policy)
    for one in observations:
        model.learn(one.hour, one.value, one.count, policy)
    return model


def _influence(series: Prepared, hours: int, factor: float, policy: Policy) -> Influence:
    observations, start, metric = series.observations, series.start, series.metric
    calm, struck = series.model.copy(), series.model.copy()
    before = [one.value for one in observations[:start] if one.hour >= observations[start].hour - WEEK_HOURS]
    usual = sum(before) / len(before) if before else 0.0
    for one in observations[start : start + hours]:
        calm.learn(one.hour, one.value, one.count, policy)
        raised = metric.clip(factor * (usual if one.value == 0.0 else one.value))
        struck.learn(one.hour, raised, one.count, policy)
    end = observations[start + hours - 1].hour + 1
    slots = {one.hour + WEEK_HOURS for one in observations[start : start + hours]}
    pairs: list[tuple[int, float, float]] = []
    for one in observations[start + hours :]:
        if one.hour >= end + WEEK_HOURS:
            break
        without, with_ = (model.forecast(one.hour, policy).threshold.value for model in (calm, struck))
        pairs.append((one.hour, without, with_))
        for model in (calm, struck):
            model.learn(one.hour, one.value, one.count, policy)
    return Influence(
        series.name,
        _change([(without, with_) for _, without, with_ in pairs]),
        median(abs(_change([(without, with_)])) for _, without, with_ in pairs),
        _change([(without, with_) for hour, without, with_ in pairs if hour >= end + _DAY_HOURS]),
        _change([(without, with_) for hour, without, with_ in pairs if hour in slots]),
    )


def _change(pairs: Sequence[tuple[float, float]]) -> float:
    without, with_ = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    if with_ == without:
        return 0.0
    return (with_ - without) / max(abs(without), 1e-12)


def _adoption(series: Prepared, factor: float, policy: Policy) -> Adoption | None:
    observations, start, metric = series.observations, series.start, series.metric
    hour = observations[start].hour
    shifted = [replace(one, value=metric.clip(factor * one.value)) for one in observations[start:]]
    season = {one.hour: metric.clip(factor * one.value) for one in observations}
    adopted = hour + ADOPTED_AFTER_HOURS
    judged = [one for one in shifted if adopted <= one.hour < adopted + _DAY_HOURS]
    expected = sum(_usual(season, one.hour) for one in judged)
    if expected == 0.0:
        return None
    first_week = [one for one in shifted if one.hour < hour + WEEK_HOURS]
    reported_after = _first_report(series.model.copy(), first_week, LEVEL_SHIFT, policy)
    model = series.model.copy()
    estimated, exceeded = 0.0, 0
    for one in shifted:
        if one.hour >= adopted + _DAY_HOURS:
            break
        if one.hour >= adopted:
            forecast = model.forecast(one.hour, policy)
            estimated += forecast.estimate.location
            exceeded += forecast.threshold.is_exceeded_by(one.value)
        model.learn(one.hour, one.value, one.count, policy)
    return Adoption(
        series.name,
        estimated / expected - 1.0,
        exceeded / len(judged),
        _is_evident(observations, shifted[:ADOPTED_AFTER_HOURS]),
        reported_after,
    )


def _usual(season: Mapping[int, float], hour: int) -> float:
    """The median at this time of day over three days before and after."""
    return median(season[day] for days in range(-3, 4) if (day := hour + days * _DAY_HOURS) in season)


def _is_evident(before: Sequence[Observation], shifted: Sequence[Observation]) -> bool:
    first = shifted[0].hour
    week = {one.hour: one.value for one in before if first - WEEK_HOURS <= one.hour < first}
    for one in shifted:
        near = [
            week[at]
            for days in range(-8, 1)
            for nearby in (-1, 0, 1)
            if (at := one.hour + days * _DAY_HOURS + nearby) in week
        ]
        if one.value <= max(near, default=0.0):
            return False
    return True


def _first_report(model: SeriesModel, observations: Sequence[Observation], drift: str, policy: Policy) -> float:
    start = observations[0].hour
    for one in observations:
        model.learn(one.hour, one.value, one.count, policy)
        if drift_of(model.forecast(one.hour + 1, policy)) == drift:
            return float(one.hour + 1 - start)
    return float("inf")


def _is_evident_creep(crept: Sequence[Observation], start: int) -> bool:
    weeks: dict[int, list[float]] = {}
    for one in crept:
        weeks.setdefault((one.hour - start) // WEEK_HOURS, []).append(one.value)
    medians = {week: median(values) for week, values in weeks.items()}
    last = max(medians)
    return medians[last] > 1.1 * max(level for week, level in medians.items() if week < 0)
