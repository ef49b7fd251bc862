"""The calls of simulated billers, each drawn by itself, and what the minutes count of them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.events import ERROR, TIMEOUT
from detection.hours import MINUTE_MS
from detection.simulation.billers import biller, levels
from detection.simulation.labels import CALLS, ERRORS, LATENCY, TIMEOUTS, LabelledIncident, labels, striking
from detection.simulation.scenario import DAY_MINUTES, Draw, Floats, Scenario, Whole
from detection.subject import Subject
from detection.windows import CallWindow

# Callers wait no longer: a slower call is a timeout of this latency.
PATIENCE_US = 30_000_000


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of one biller in order of their minutes, not within them: time in ms, latency in µs, outcome as a code."""

    time_ms: Whole
    latency_us: Whole
    outcome: NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class BillerMinutes:
    """What a biller's calls add up to, for each minute from `first_minute` (since the epoch) on.

    Exactly the sums over the calls of `biller_calls`, in the terms of CallWindow: latencies are of answered calls only.
    """

    subject: Subject
    first_minute: int
    calls: Whole
    errors: Whole
    timeouts: Whole
    latency_us: Whole
    latency_us2: Whole

    def window(self, at: int) -> CallWindow:
        """The minute `first_minute + at`; its bins, which no rate and no mean needs, stay empty."""
        return CallWindow(
            calls=int(self.calls[at]),
            errors=int(self.errors[at]),
            timeouts=int(self.timeouts[at]),
            latency_us=int(self.latency_us[at]),
            latency_us2=int(self.latency_us2[at]),
        )


def simulate_minutes(scenario: Scenario) -> Iterator[BillerMinutes]:
    """Every biller's minutes over the whole scenario, biller after biller."""
    for index in range(scenario.billers):
        yield biller_minutes(scenario, index)


def biller_minutes(scenario: Scenario, index: int) -> BillerMinutes:
    """The minutes of the biller of this number, from 0."""
    first = scenario.first_minute
    columns = np.zeros((5, scenario.minutes), dtype=np.int64)
    for day in scenario.days:
        summed = _summed(biller_calls(scenario, index, day), day * DAY_MINUTES)
        begin, end = max(day * DAY_MINUTES, first), min((day + 1) * DAY_MINUTES, first + scenario.minutes)
        columns[:, begin - first : end - first] = summed[:, begin - day * DAY_MINUTES : end - day * DAY_MINUTES]
    return BillerMinutes(scenario.biller_subjects[index], first, *columns)


def biller_calls(scenario: Scenario, index: int, day: int) -> Calls:
    """The calls of a biller on one day since the epoch (UTC), with the scenario's incidents in them.

    The whole day, even where the scenario begins or ends within it.
    """
    normal = levels(scenario, index, day)
    rng = scenario.generator(Draw.CALLS, index, day)
    counts = rng.poisson(normal.calls)
    total = int(counts.sum())
    time_ms = np.repeat((day * DAY_MINUTES + np.arange(DAY_MINUTES)) * MINUTE_MS, counts)
    time_ms += rng.integers(0, MINUTE_MS, total, dtype=np.uint16)
    chance = rng.random(total)
    log_latency = rng.standard_normal(total)
    of = biller(scenario.seed, index)
    log_latency *= of.spread
    log_latency += np.repeat(normal.log_latency, counts)
    chances = _Chances(
        log_latency=log_latency,
        errors=np.repeat(normal.errors, counts),
        timeouts=np.repeat(normal.timeouts, counts),
        kept=np.ones(total, dtype=np.bool_),
    )
    for one in striking(labels(scenario), scenario.biller_subjects[index]):
        _strike(chances, one, time_ms)
    outcome = np.zeros(total, dtype=np.int8)
    # A timeout is drawn first: what is left can fail.
    outcome[chance < chances.timeouts + (1.0 - chances.timeouts) * chances.errors] = ERROR
    log_latency[outcome == ERROR] += math.log(of.error_speed)
    latency_us = np.rint(np.exp(log_latency))
    outcome[(chance < chances.timeouts) | (latency_us >= PATIENCE_US)] = TIMEOUT
    latency_us[outcome == TIMEOUT] = PATIENCE_US
    kept = slice(None) if chances.kept.all() else chances.kept
    return Calls(time_ms[kept], latency_us.astype(np.int64)[kept], outcome[kept])


@dataclass(frozen=True, slots=True)
class _Chances:
    """What awaits each call: arrays that an incident changes in place."""

    log_latency: Floats
    errors: Floats
    timeouts: Floats
    kept: NDArray[np.bool_]


def _strike(chances: _Chances, incident: LabelledIncident, time_ms: Whole) -> None:
    """Change what awaits the calls in [start, end), to the millisecond."""
    if not len(time_ms) or incident.end_ms <= time_ms[0] - MINUTE_MS or incident.start_ms > time_ms[-1] + MINUTE_MS:
        return
    where = np.flatnonzero((time_ms >= incident.start_ms) & (time_ms < incident.end_ms))
    strength = incident.strength
    grown: Floats | float = 1.0
    if incident.kind == "slow-drift":
        grown = (time_ms[where] - incident.start_ms) / (incident.end_ms - incident.start_ms)
    match incident.metrics[0]:
        case metric if metric == LATENCY:
            chances.log_latency[where] += np.log1p((strength - 1.0) * grown)
        case metric if metric == ERRORS:
            chances.errors[where] += (1.0 - chances.errors[where]) * strength / 100.0 * grown
        case metric if metric == TIMEOUTS:
            chances.timeouts[where] += (1.0 - chances.timeouts[where]) * strength / 100.0 * grown
            # Those that are answered had to wait in the same queue.
            chances.log_latency[where] += math.log1p(strength / 30.0)
        case metric if metric == CALLS:
            chances.kept[where] = False
        case metric:
            raise ValueError(f"{incident.subjects[0]}: a biller has no {metric}")


def _summed(calls: Calls, first_minute: int) -> Whole:
    """Calls, errors, timeouts, Σ latency and Σ latency² of the answered, of each minute of the day."""
    minute = calls.time_ms // MINUTE_MS - first_minute
    counts = np.bincount(minute, minlength=DAY_MINUTES)
    timed_out = calls.outcome == TIMEOUT
    latency_us = np.where(timed_out, 0, calls.latency_us)
    summed = np.zeros((5, DAY_MINUTES), dtype=np.int64)
    summed[0] = counts
    summed[1] = np.bincount(minute[calls.outcome == ERROR], minlength=DAY_MINUTES)
    summed[2] = np.bincount(minute[timed_out], minlength=DAY_MINUTES)
    # reduceat takes the element itself for an empty range, so the empty minutes are left out.
    seen = np.flatnonzero(counts)
    if len(seen):
        begins = (np.cumsum(counts) - counts)[seen]
        summed[3, seen] = np.add.reduceat(latency_us, begins)
        summed[4, seen] = np.add.reduceat(latency_us * latency_us, begins)
    return summed
