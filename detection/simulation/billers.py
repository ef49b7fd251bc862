"""What is normal of a simulated biller, minute by minute of a day: how many calls, how slow, how many of them fail."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from detection.simulation.scenario import DAY_MINUTES, Draw, Floats, Scenario, Whole, autocorrelated, hourly

_SATURDAY = 5
# The day since the epoch 0 was a Thursday.
_EPOCH_WEEKDAY = 3
_BUSIEST_HOUR = 14.0

_HOUR_PERSISTENCE = 0.8
_MINUTE_PERSISTENCE = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Biller:
    """The constants of one biller.

    `busiest` is calls a minute in the busy hour; `weekend`, and twice `depth` for the night, are what lacks of it on
    the logarithm; `phase_hours` is how much later its day is. Latency is log-normal: `latency_ms` the median of a call,
    `spread` the standard deviation of its logarithm, `latency_season` what the busy hour adds to the logarithm; a
    failed call takes `error_speed` of the time. `error_share` and `timeout_share` are of all calls. `noise` are
    standard deviations on the logarithm, of the hour and of the minute, for calls, latency and errors.
    """

    busiest: float
    depth: float
    weekend: float
    phase_hours: float
    latency_ms: float
    spread: float
    latency_season: float
    error_speed: float
    error_share: float
    timeout_share: float
    noise: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Levels:
    """Expected in each minute: calls, the logarithm of the median latency in µs, the shares of errors and timeouts."""

    calls: Floats
    log_latency: Floats
    errors: Floats
    timeouts: Floats


@lru_cache(maxsize=4096)
def biller(seed: int, index: int) -> Biller:
    """The biller of this number: volumes, latencies and error shares differ by powers of ten between billers."""
    rng = Scenario(seed=seed).generator(Draw.BILLER, index)
    return Biller(
        busiest=float(np.clip(rng.lognormal(math.log(30.0), 1.2), 1.0, 200.0)),
        depth=rng.uniform(0.4, 1.4),
        weekend=rng.uniform(0.0, 1.0),
        phase_hours=rng.uniform(-4.0, 4.0),
        latency_ms=float(np.clip(rng.lognormal(math.log(250.0), 0.7), 30.0, 2000.0)),
        spread=rng.uniform(0.3, 0.8),
        latency_season=rng.uniform(0.0, 0.3),
        error_speed=rng.uniform(0.3, 1.0),
        error_share=float(np.exp(rng.uniform(math.log(0.001), math.log(0.03)))),
        timeout_share=float(np.exp(rng.uniform(math.log(0.0001), math.log(0.003)))),
        noise=(
            (rng.uniform(0.05, 0.15), rng.uniform(0.03, 0.10)),
            (rng.uniform(0.03, 0.10), rng.uniform(0.02, 0.08)),
            (rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.4)),
        ),
    )


def expected_calls(of: Biller, minutes: Whole) -> Floats:
    """Calls in each of these minutes since the epoch, by the season alone."""
    is_weekend = (minutes // DAY_MINUTES + _EPOCH_WEEKDAY) % 7 >= _SATURDAY
    return of.busiest * np.exp(of.depth * (_wave(of, minutes) - 1.0) - of.weekend * is_weekend)


def levels(scenario: Scenario, index: int, day: int) -> Levels:
    """What is normal of the biller on this day since the epoch (UTC): the season, and the noise of the level."""
    of = biller(scenario.seed, index)
    minutes = day * DAY_MINUTES + np.arange(DAY_MINUTES)
    days = [scenario.generator(Draw.BILLER_NOISE, index, at) for at in (day - 1, day)]
    by_hour = np.concatenate([rng.standard_normal((3, 24)) for rng in days], axis=1)
    by_minute = np.concatenate([rng.standard_normal((3, DAY_MINUTES)) for rng in days], axis=1)
    calls, latency, errors = (
        of_hour * hourly(by_hour[at], _HOUR_PERSISTENCE)
        + of_minute * autocorrelated(by_minute[at], _MINUTE_PERSISTENCE)
        for at, (of_hour, of_minute) in enumerate(of.noise)
    )
    return Levels(
        calls=expected_calls(of, minutes) * np.exp(calls),
        log_latency=math.log(1000.0 * of.latency_ms) + of.latency_season * _wave(of, minutes) + latency,
        errors=np.minimum(of.error_share * np.exp(errors), 0.2),
        timeouts=np.full(DAY_MINUTES, of.timeout_share),
    )


def _wave(of: Biller, minutes: Whole) -> Floats:
    """1 in the busiest minute of the day, -1 in the quietest."""
    return np.cos((minutes % DAY_MINUTES / 60.0 - of.phase_hours - _BUSIEST_HOUR) * (math.tau / 24.0))
