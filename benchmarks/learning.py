"""What it takes to learn one hour of one series: microseconds, and bytes to keep, beside River's own forecasters.

An hour is one answer for it and then learning its value, of all models in turns on the same recorded hours. The bytes
of our models are those of their stored state; River's have no form to be stored in, so theirs are eight bytes for each
number that they hold, which flatters them.
"""

import csv
import gzip
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from river import time_series
from river.time_series.base import Forecaster

from benchmarks.context import Context
from benchmarks.result import Result, Target
from detection.bank import Bank, Numbers
from detection.catalogue import AVERAGE_RESPONSE_TIME, BILLER_METRICS
from detection.forecaster import SeasonalForecaster
from detection.policy import Policy
from detection.rows import Observation
from detection.series_model import SeriesModel
from detection.training import fold

_REFERENCES = ("river HoltWinters(168)", "river SNARIMAX")
_SERIES = "nab-nyc_taxi"
_WARM_HOURS = 400
_HOURS = 1_000
_ROUNDS = 5
_MANY_SERIES = 300
_MANY_HOURS = 24
_BANKS = (10_000, 100_000)
_BANK_TYPES = 300  # different series in a bank, a third of each biller metric; the others are their likes
_BANK_WARM_HOURS = 336
_YEAR = 8_760
_FIRST_HOUR = 489_984
_NUMBER_BYTES = 8

# Answers for the hour and then learns its value.
Step = Callable[[int, float], None]


def run(context: Context) -> list[Result]:
    values = _values(context)
    steps = {
        "SeriesModel": _series_step(SeriesModel(AVERAGE_RESPONSE_TIME, Policy())),
        "SeriesModel, loaded and stored": _stored_step(SeriesModel(AVERAGE_RESPONSE_TIME, Policy())),
        "SeasonalForecaster": _forecaster_step(SeasonalForecaster(lower=0.0)),
        **dict(zip(_REFERENCES, (_river_step(_holt_winters()), _river_step(_snarimax())), strict=True)),
    }
    for step in steps.values():
        _learn(step, values[:_WARM_HOURS], 0)
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(_ROUNDS):
        start = _WARM_HOURS + number * _HOURS
        with context.part(f"{_HOURS:,} hours in turns, round {number + 1} of {_ROUNDS}"):
            for name, step in steps.items():
                rounds[name].append(_learn(step, values[start : start + _HOURS], start))
    with context.part(f"{_MANY_HOURS} hours of {_MANY_SERIES:,} series, one after the other"):
        many = _many(values)
    microseconds = {name: median(each) for name, each in rounds.items()}
    banks = {}
    for size in _BANKS:
        with context.part(f"an hour of a bank of {size:,} series, {_ROUNDS} times"):
            banks[size] = _bank(size)
    with context.part("a year of one series"):
        year = Result(name="fold of a year of hours", value=_year(values), unit="s", target=Target(at_most=0.3))
    return _times(microseconds, many) + _bank_times(banks, microseconds) + [year] + _sizes(values)


def _times(microseconds: Mapping[str, float], many: float) -> list[Result]:
    results = []
    for reference in _REFERENCES:
        results += [
            Result(
                name=f"{name}, an hour of one series, beside {reference}",
                value=microseconds[name],
                unit="µs",
                reference=reference,
                reference_value=microseconds[reference],
                target=Target(at_most=40),
            )
            for name in microseconds
            if name not in _REFERENCES
        ]
    results.append(
        Result(
            name=f"SeriesModel, an hour of each of {_MANY_SERIES:,} series in turns",
            value=many,
            unit="µs",
            reference=_REFERENCES[-1],
            reference_value=microseconds[_REFERENCES[-1]],
            target=Target(at_most=40),
        )
    )
    return results


def _bank_times(banks: Mapping[int, float], microseconds: Mapping[str, float]) -> list[Result]:
    return [
        Result(
            name=f"Bank of {size:,}, an hour of a series, loaded and stored, beside {reference}",
            value=banks[size],
            unit="µs",
            reference=reference,
            reference_value=microseconds[reference],
            target=Target(at_most=12),
        )
        for reference in _REFERENCES
        for size in banks
    ]


def _sizes(values: list[float]) -> list[Result]:
    ours = SeriesModel(AVERAGE_RESPONSE_TIME, Policy())
    _learn(_series_step(ours), values[:_HOURS], 0)
    stored = float(len(ours.to_bytes()))
    results = []
    for reference, model in zip(_REFERENCES, (_holt_winters(), _snarimax()), strict=True):
        _learn(_river_step(model), values[:_HOURS], 0)
        results.append(
            Result(
                name=f"SeriesModel, bytes stored, beside {reference}",
                value=stored,
                unit="bytes",
                reference=f"{reference}, 8 bytes a number",
                reference_value=float(_NUMBER_BYTES * _numbers(model, set())),
                target=Target(at_most=5_000),
            )
        )
    return results


def _many(values: list[float]) -> float:
    """Microseconds an hour when each model's memory has left the caches before its next hour comes."""
    policy = Policy()
    models = [SeriesModel(AVERAGE_RESPONSE_TIME, policy) for _ in range(_MANY_SERIES)]
    for model in models:
        _learn(_series_step(model), values[:_MANY_HOURS], 0)
    steps = [_series_step(model) for model in models]
    started = time.perf_counter()
    for at in range(_MANY_HOURS, 2 * _MANY_HOURS):
        for step in steps:
            step(at, values[at])
    return 1e6 * (time.perf_counter() - started) / (_MANY_HOURS * _MANY_SERIES)


def _bank(size: int) -> float:
    """Microseconds per series: its record is read, its hour learned, the next one forecast, the record written."""
    policy = Policy()
    chance = np.random.default_rng(1)
    types = [BILLER_METRICS[at % len(BILLER_METRICS)] for at in range(_BANK_TYPES)]
    bank = Bank(types, policy)
    for at in range(_BANK_WARM_HOURS):
        bank.learn_many(_FIRST_HOUR + at, *_hour(at, _BANK_TYPES, chance))
    copies = size // _BANK_TYPES + 1
    metrics = (types * copies)[:size]
    # Each series' bytes lie in a place of their own, as they do when a store has answered.
    stored = [bytes(bytearray(record)) for record in (bank.to_bytes() * copies)[:size]]
    rounds = []
    for _ in range(_ROUNDS):
        values, counts = _hour(_BANK_WARM_HOURS, size, chance)
        started = time.perf_counter()
        loaded = Bank.from_bytes(metrics, stored, policy)
        loaded.learn_many(_FIRST_HOUR + _BANK_WARM_HOURS, values, counts)
        loaded.forecast_many(_FIRST_HOUR + _BANK_WARM_HOURS + 1)
        loaded.to_bytes()
        rounds.append(1e6 * (time.perf_counter() - started) / size)
    return median(rounds)


def _hour(at: int, size: int, chance: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Values and counts of one hour: latencies with a daily season, and rates of between three and 3,000 calls."""
    level = np.exp(0.5 * np.sin(2.0 * np.pi * at / 24.0) + chance.normal(0.0, 0.2, size))
    counts = np.maximum(1.0, chance.poisson(level * 10.0 ** chance.uniform(0.5, 3.5, size)))
    failed = chance.binomial(counts.astype(np.int64), np.clip(0.02 * level, 0.0, 1.0))
    is_latency = np.arange(size) % len(BILLER_METRICS) == 0
    return np.where(is_latency, 200.0 * level, 100.0 * failed / counts), counts


def _year(values: list[float]) -> float:
    """Seconds that training takes to fold a year of hours of one series, tally included."""
    policy = Policy()
    year = [Observation(_FIRST_HOUR + at, values[at % len(values)], 600) for at in range(_YEAR)]
    rounds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        fold(SeriesModel(AVERAGE_RESPONSE_TIME, policy), year, policy)
        rounds.append(time.perf_counter() - started)
    return median(rounds)


def _learn(step: Step, values: Sequence[float], start: int) -> float:
    """Microseconds an hour."""
    started = time.perf_counter()
    for at, value in enumerate(values, start):
        step(at, value)
    return 1e6 * (time.perf_counter() - started) / len(values)


def _series_step(model: SeriesModel) -> Step:
    policy = Policy()

    def step(at: int, value: float) -> None:
        model.forecast(_FIRST_HOUR + at, policy)
        model.learn(_FIRST_HOUR + at, value, 600, policy)

    return step


def _stored_step(model: SeriesModel) -> Step:
    """As a process does that keeps nothing: the state is read before each hour and written after it."""
    policy = Policy()
    stored = model.to_bytes()

    def step(at: int, value: float) -> None:
        nonlocal stored
        loaded = SeriesModel.from_bytes(AVERAGE_RESPONSE_TIME, stored, policy)
        loaded.forecast(_FIRST_HOUR + at, policy)
        loaded.learn(_FIRST_HOUR + at, value, 600, policy)
        stored = loaded.to_bytes()

    return step


def _forecaster_step(model: SeasonalForecaster) -> Step:
    def step(at: int, value: float) -> None:
        slot = at % 168
        model.predict(slot)
        model.learn_one(value, {"slot": slot})

    return step


def _river_step(model: Forecaster) -> Step:
    """On the log scale, as it was measured best; River's HoltWinters cannot answer before its first season is over."""
    learned = 0

    def step(_: int, value: float) -> None:
        nonlocal learned
        if learned >= 168:
            model.forecast(horizon=1)
        model.learn_one(math.log(value + 1.0))
        learned += 1

    return step


def _holt_winters() -> Forecaster:
    return time_series.HoltWinters(alpha=0.3, beta=0.01, gamma=0.3, seasonality=168)  # type: ignore[no-untyped-call]  # River's


def _snarimax() -> Forecaster:
    return time_series.SNARIMAX(p=3, d=0, q=1, m=24, sp=2, sq=1)


def _numbers(part: Any, seen: set[int]) -> int:
    """Numbers in an object and in all that it is made of."""
    if isinstance(part, bool | str) or part is None or id(part) in seen:
        return 0
    if isinstance(part, int | float):
        return 1
    seen.add(id(part))
    if isinstance(part, Mapping):
        return sum(_numbers(item, seen) for item in part.values())
    found = sum(_numbers(item, seen) for item in part) if isinstance(part, Iterable) else 0
    return found + sum(_numbers(item, seen) for item in getattr(part, "__dict__", {}).values())


def _values(context: Context) -> list[float]:
    """The recorded values of one long series, often enough over."""
    needed = _WARM_HOURS + _ROUNDS * _HOURS
    with gzip.open(context.examples / "hourly.csv.gz", "rt", encoding="utf-8", newline="") as file:
        found = [float(row["value"]) for row in csv.DictReader(file) if row["series"] == _SERIES]
    return (found * (needed // len(found) + 1))[:needed]
