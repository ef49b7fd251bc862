"""The observation events of simulated models: one a minute, with accuracy, drift, inference time, and labels."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from detection.hours import MINUTE_MS
from detection.simulation.labels import ACCURACY, DRIFT, INFERENCE_TIME, LabelledIncident, labels, striking
from detection.simulation.scenario import DAY_MINUTES, Draw, Floats, Scenario, Whole, autocorrelated, hourly

REGIONS = ("eu-west", "us-east")
ENVIRONMENTS = ("production", "staging")

_PERSISTENCE = 0.8
_STAGING_SHARE = 0.1
# Farther out is an incident, and those are labelled.
_FARTHEST = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The constants of one model: what is normal of its metrics, and how much slower its second region answers."""

    accuracy: float
    drift: float
    inference_time: float
    busy_hour: float
    distance: float


@dataclass(frozen=True, slots=True)
class Observations:
    """Observation events of one model in the order of time; `region` and `environment` count from 0."""

    time_ms: Whole
    accuracy: Floats
    drift: Floats
    inference_time: Floats
    region: Whole
    environment: Whole


@lru_cache(maxsize=4096)
def model(seed: int, index: int) -> Model:
    """The model of this number."""
    rng = Scenario(seed=seed).generator(Draw.MODEL, index)
    return Model(
        accuracy=rng.uniform(0.75, 0.95),
        drift=rng.uniform(0.05, 0.15),
        inference_time=rng.lognormal(math.log(15.0), 0.5),
        busy_hour=rng.uniform(10.0, 18.0),
        distance=rng.uniform(1.0, 1.4),
    )


def model_observations(scenario: Scenario, index: int, day: int) -> Observations:
    """What a model observes on one day since the epoch (UTC), with the scenario's incidents in it; the whole day.

    In normal times accuracy stays above 0.6, and while an incident strikes it, below 0.3.
    """
    of = model(scenario.seed, index)
    days = [scenario.generator(Draw.MODEL_NOISE, index, at) for at in (day - 1, day)]
    by_hour = np.concatenate([rng.standard_normal((3, 24)) for rng in days], axis=1)
    by_minute = np.concatenate([rng.standard_normal((3, DAY_MINUTES)) for rng in days], axis=1)
    accuracy, drift, slowness = (
        np.clip(hourly(by_hour[at], _PERSISTENCE), -_FARTHEST, _FARTHEST)
        + np.clip(autocorrelated(by_minute[at], _PERSISTENCE), -_FARTHEST, _FARTHEST)
        for at in range(3)
    )
    rng = scenario.generator(Draw.OBSERVATIONS, index, day)
    minutes = np.arange(DAY_MINUTES)
    region = rng.integers(len(REGIONS), size=DAY_MINUTES)
    busy = np.cos((minutes / 60.0 - of.busy_hour) * (math.tau / 24.0))
    log_inference_time = math.log(of.inference_time) + 0.2 * busy + 0.06 * slowness
    log_inference_time += math.log(of.distance) * region + 0.1 * rng.standard_normal(DAY_MINUTES)
    found = Observations(
        time_ms=(day * DAY_MINUTES + minutes) * MINUTE_MS + rng.integers(MINUTE_MS, size=DAY_MINUTES),
        accuracy=of.accuracy + 0.015 * accuracy,
        drift=of.drift * np.exp(0.1 * drift),
        inference_time=np.exp(log_inference_time),
        region=region,
        environment=(rng.random(DAY_MINUTES) < _STAGING_SHARE).astype(np.int64),
    )
    for one in striking(labels(scenario), scenario.model_subjects[index]):
        _strike(found, one, normal_accuracy=of.accuracy)
    np.clip(found.accuracy, 0.0, 1.0, out=found.accuracy)
    return found


def _strike(found: Observations, incident: LabelledIncident, *, normal_accuracy: float) -> None:
    """Change what is observed in [start, end)."""
    where = np.flatnonzero((found.time_ms >= incident.start_ms) & (found.time_ms < incident.end_ms))
    grown = (found.time_ms[where] - incident.start_ms) / (incident.end_ms - incident.start_ms)
    metric = incident.metrics[0]
    if metric == ACCURACY:
        found.accuracy[where] += incident.strength - normal_accuracy
    elif metric == DRIFT:
        found.drift[where] += incident.strength * grown
    elif metric == INFERENCE_TIME:
        found.inference_time[where] *= incident.strength
    else:
        raise ValueError(f"{incident.subjects[0]}: a model has no {metric}")
