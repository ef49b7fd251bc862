"""Series whose truth is known: what is normal in them, and which incident was put into which hours.

Everything is drawn from the generator that is passed in: the same seed gives the same series. A series is made normal
by `normal_series`, then struck by any number of incidents with `inject`, each of which says where it lies:

    during the incident, then over     Outage, Spike, Contamination, Silence, TimeoutStorm
    from its start on, a new normal    LevelShift, Creep, VarianceChange, SeasonalFlip
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, assert_never, get_args

import numpy as np
from numpy.typing import NDArray

from detection.hours import WEEK_HOURS, slot_of
from detection.rows import Observation

Family = Literal["latency", "ratio", "gauge"]
Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

_DAY_HOURS = 24
_WORKING_HOURS = 5 * _DAY_HOURS
_BUSIEST_HOUR = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What is normal in a series.

    `level` is in the metric's unit (per cent for a ratio). For a latency and a ratio `daily`, `weekend`, `noise` and
    `trend_per_day` live on the logarithm of the level, for a gauge they are in its unit: `daily` is half of the way
    from the quietest to the busiest hour, `weekend` what weekends lack, `noise` a standard deviation. `tail` is the
    degrees of freedom of the noise (Student's t scaled to `noise`; above 2), infinite for normal noise. `calls` is the
    mean number of calls an hour, as busy as the season says; `call_spread` is the standard deviation of a single call's
    latency relative to the mean. The noise of a ratio is its over-dispersion: failures are binomial given the hour.
    """

    family: Family = "latency"
    level: float = 200.0
    daily: float = 0.5
    weekend: float = 0.3
    noise: float = 0.1
    tail: float = math.inf
    trend_per_day: float = 0.0
    calls: float = 600.0
    call_spread: float = 0.5
    zone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """For a while everything is `factor` times as high."""

    start: int
    hours: int = 6
    factor: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike:
    """One hour is `factor` times as high."""

    start: int
    factor: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelShift:
    """From now on everything is `factor` times as high."""

    start: int
    factor: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Creep:
    """From now on the level grows by this share of itself a day."""

    start: int
    share_per_day: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Contamination:
    """For a while every hour is struck with this probability, independent of the others."""

    start: int
    hours: int = WEEK_HOURS
    share: float = 0.05
    factor: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """For a while nobody calls."""

    start: int
    hours: int = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class VarianceChange:
    """From now on values lie `factor` times as far from what is normal."""

    start: int
    factor: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SeasonalFlip:
    """From now on what was normal of an hour is normal `hours` later: another time zone, day turned into night."""

    start: int
    hours: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutStorm:
    """For a while this share of the calls times out: a ratio rises by it; latency loses those calls, others queue."""

    start: int
    hours: int = 3
    share: float = 0.3
    queueing: float = 3.0


Passing = Outage | Spike | Contamination | Silence | TimeoutStorm
NewNormal = LevelShift | Creep | VarianceChange | SeasonalFlip
Incident = Passing | NewNormal
KINDS: tuple[type[Incident], ...] = get_args(Incident)


@dataclass(frozen=True, slots=True)
class Label:
    """Where an incident lies: hours [start, end) since the epoch; a new normal lasts to the end of the series."""

    incident: Incident
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Series:
    """Hour by hour from `first_hour` (since the epoch) on: what was observed, and what was normal.

    `normal` is the level of the season without noise, new normals included; `anomalous` marks the hours that are not of
    that normal. An hour without calls has no observation, its value is 0.
    """

    profile: Profile
    first_hour: int
    values: Floats
    counts: Whole
    normal: Floats
    anomalous: NDArray[np.bool_]
    labels: tuple[Label, ...] = ()

    def observations(self) -> Iterator[Observation]:
        """The hours that had calls, oldest first."""
        for at in np.flatnonzero(self.counts).tolist():
            yield Observation(self.first_hour + at, float(self.values[at]), int(self.counts[at]))


def normal_series(profile: Profile, hours: int, rng: np.random.Generator, *, first_hour: int = 489_984) -> Series:
    """A series in which nothing happens; the default first hour is a Monday, 00 h UTC, in November 2025."""
    at = np.arange(hours)
    slots = np.array([slot_of(first_hour + hour, profile.zone) for hour in at.tolist()])
    is_weekend = slots >= _WORKING_HOURS
    wave = np.cos((slots % _DAY_HOURS - _BUSIEST_HOUR) * (math.tau / _DAY_HOURS))
    season = profile.daily * wave - profile.weekend * is_weekend + profile.trend_per_day * at / _DAY_HOURS
    counts = rng.poisson(profile.calls * np.exp(0.5 * wave - 0.3 * is_weekend))
    deviation = _noise(profile, hours, rng)
    if profile.family == "gauge":
        normal = profile.level + season
        values = normal + deviation
    else:
        normal = _within(profile, profile.level * np.exp(season))
        values = normal * np.exp(deviation - 0.5 * profile.noise**2)
        if profile.family == "latency":
            error = profile.call_spread / np.sqrt(np.maximum(counts, 1))
            values *= np.maximum(1.0 + error * rng.standard_normal(hours), 0.05)
        else:
            values = _share_of_calls(counts, values / 100.0, rng)
    return _series(profile, first_hour, values, counts, normal)


def inject(series: Series, incident: Incident, rng: np.random.Generator) -> Series:
    """The series with this incident in it; what starts beyond its end changes nothing.

    Incidents of one series are injected in the order in which they happen.
    """
    return _renewed(series, incident) if isinstance(incident, NewNormal) else _passed(series, incident, rng)


def _passed(series: Series, incident: Passing, rng: np.random.Generator) -> Series:
    """Hours that are not normal, and afterwards all is as it was."""
    size = len(series.values)
    since = series.first_hour + np.arange(size) - incident.start
    hours = 1 if isinstance(incident, Spike) else incident.hours
    where = (since >= 0) & (since < hours)
    values, counts = series.values, series.counts
    match incident:
        case Outage(factor=factor) | Spike(factor=factor):
            values = _raised(series, factor)
        case Contamination(share=share, factor=factor):
            where &= rng.random(size) < share
            values = _raised(series, factor)
        case Silence():
            values, counts = np.zeros(size), np.zeros_like(series.counts)
        case TimeoutStorm(share=share) if series.profile.family == "ratio":
            values = values + (1.0 - values / 100.0) * _share_of_calls(counts, np.full(size, share), rng)
        case TimeoutStorm(share=share, queueing=queueing):
            # A storm thins the calls that were answered; it does not silence them.
            counts = np.where(counts > 0, np.maximum(counts - rng.binomial(counts, share), 1), 0)
            values = values * queueing
        case _:
            assert_never(incident)
    end = series.first_hour + size
    return replace(
        series,
        values=np.where(where, values, series.values),
        counts=np.where(where, counts, series.counts),
        anomalous=series.anomalous | where,
        labels=(*series.labels, Label(incident, min(incident.start, end), min(incident.start + hours, end))),
    )


def _renewed(series: Series, incident: NewNormal) -> Series:
    """From the start on another normal, around which values lie as they did; or the same one, farther from it."""
    size = len(series.values)
    profile, values, normal = series.profile, series.values, series.normal
    since = series.first_hour + np.arange(size) - incident.start
    match incident:
        case LevelShift(factor=factor):
            values, normal = values * factor, normal * factor
        case Creep(share_per_day=share):
            factors = (1.0 + share) ** (np.maximum(since, 0) / _DAY_HOURS)
            values, normal = values * factors, normal * factors
        case SeasonalFlip(hours=hours):
            before = np.arange(size) - hours
            flipped = normal[np.where(before < 0, before + WEEK_HOURS, before) % max(size, 1)]
            if profile.family == "gauge":
                values, normal = values + flipped - normal, flipped
            else:
                values, normal = flipped * _ratio(values, normal), flipped
        case VarianceChange(factor=factor):
            if profile.family == "latency":
                values = normal * _ratio(values, normal) ** factor
            else:
                values = normal + factor * (values - normal)
        case _:
            assert_never(incident)
    end = series.first_hour + size
    return replace(
        series,
        values=np.where((since >= 0) & (series.counts > 0), _within(profile, values), series.values),
        normal=np.where(since >= 0, _within(profile, normal), series.normal),
        labels=(*series.labels, Label(incident, min(incident.start, end), end)),
    )


def _noise(profile: Profile, hours: int, rng: np.random.Generator) -> Floats:
    if math.isinf(profile.tail):
        return profile.noise * rng.standard_normal(hours)
    return profile.noise * math.sqrt((profile.tail - 2.0) / profile.tail) * rng.standard_t(profile.tail, hours)


def _share_of_calls(counts: Whole, probability: Floats, rng: np.random.Generator) -> Floats:
    """Per cent of the calls that fail when each does with its hour's probability."""
    failures = rng.binomial(counts, np.clip(probability, 0.0, 1.0))
    return 100.0 * failures / np.maximum(counts, 1)


def _series(profile: Profile, first_hour: int, values: Floats, counts: Whole, normal: Floats) -> Series:
    observed = np.where(counts > 0, _within(profile, values), 0.0)
    return Series(profile, first_hour, observed, counts, normal, np.zeros(len(values), dtype=np.bool_))


def _within(profile: Profile, values: Floats) -> Floats:
    match profile.family:
        case "latency":
            return np.maximum(values, 0.0)
        case "ratio":
            return np.clip(values, 0.0, 100.0)
        case "gauge":
            return values


def _raised(series: Series, factor: float) -> Floats:
    """Every hour so many times as high; where there was nothing at all, so many times the normal."""
    raised = _within(series.profile, np.where(series.values == 0.0, series.normal, series.values) * factor)
    return np.where(series.counts > 0, raised, 0.0)


def _ratio(values: Floats, normal: Floats) -> Floats:
    return np.divide(values, normal, out=np.ones(len(values)), where=normal > 0.0)
