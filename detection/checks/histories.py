"""Histories that models have broken on: gaps, zeros, constants, extremes, and the weeks in which clocks are changed."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from detection.hours import WEEK_HOURS

Values = list[float | None]

BERLIN = "Europe/Berlin"
# Hours since the epoch, each the Monday before the Sunday on which Berlin's clocks go forward, or back, in 2025.
BEFORE_SPRING = 484_103
BEFORE_AUTUMN = 489_142
_USUAL_FIRST_HOUR = 489_984
_EXTREMES = (0.0, 5e-324, 1e-308, 1e-160, 1e-31, 1e-29, 1e-9, 1e-6, 1.0, 100.0, 1e6, 1e9)


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour (since the epoch) as a zone's clocks show it; None where nothing was observed."""

    at: int
    zone: str
    value: float | None
    count: int


@dataclass(frozen=True, slots=True)
class History:
    """The hours of one series from `first_hour` on."""

    name: str
    values: tuple[float | None, ...]
    zone: str = "UTC"
    first_hour: int = _USUAL_FIRST_HOUR

    def hours(self) -> Iterator[Hour]:
        """Each hour in order; behind the values stand from 1 to 5,000 calls, the same ones each time."""
        for offset, value in enumerate(self.values):
            yield Hour(self.first_hour + offset, self.zone, value, 1 + (offset * offset * 7919) % 5000)


def daily(hour: int, rng: np.random.Generator) -> float:
    """About 50 by day and 15 by night, with a tenth of noise; inside the bounds of every metric."""
    return 30.0 * math.exp(0.6 * math.sin(hour * math.tau / 24) + 0.1 * rng.standard_normal())


def hard_histories() -> list[History]:
    """The named ones; the same each time."""
    rng = np.random.default_rng(17)
    usual = [daily(hour, rng) for hour in range(5 * 24)]
    shifted = [value - 40.0 for value in usual]
    gaps: Values = [None if 10 <= hour % 37 < 30 or hour % 5 == 0 else value for hour, value in enumerate(usual)]
    weeks = [daily(hour, rng) for hour in range(WEEK_HOURS + 30)]
    named: dict[str, Sequence[float | None]] = {
        "one value": [42.0],
        "one value after silence": [None] * 50 + [42.0] + [None] * 50,
        "gaps": gaps,
        "a gap of a week": [*usual, *[None] * WEEK_HOURS, *usual[:30]],
        "a gap of weeks": [*usual, *[None] * 600, *usual[:30]],
        "zeros": [0.0] * 100,
        "zeros and then values": [0.0] * 60 + usual,
        "values and then zeros": usual + [0.0] * 60,
        "mostly zeros": [value if hour % 13 == 5 else 0.0 for hour, value in enumerate(usual)],
        "constant": [25.0] * 120,
        "constant 1e9": [1e9] * 120,
        "constant 1e-9": [1e-9] * 120,
        "subnormal": [5e-324, 0.0] * 60,
        "one 1e9": [*usual, 1e9, *usual],
        "1e9 first": [1e9, *usual],
        "1e-9 first": [1e-9, *usual],
        "both extremes": [1e9, 1e-9] * 60,
        "growth without end": [10.0 ** (2 * hour) for hour in range(150)],
        "largest numbers": [1.7e308, -1.7e308] * 30,
        "negative": shifted,
        "negative 1e9": [-1e9] * 60,
        "first positive, then negative": [*usual, *shifted],
        "around zero": [value - 30.0 for value in usual],
    }
    histories = [History(name, tuple(values)) for name, values in named.items()]
    histories.append(History("clocks go forward", tuple(weeks), BERLIN, BEFORE_SPRING))
    histories.append(History("clocks go back", tuple(weeks), BERLIN, BEFORE_AUTUMN))
    return histories


def random_history(number: int) -> History:
    """The history of this number: pieces of all that is hard, in an order that the number decides."""
    rng = np.random.default_rng(number)
    values: Values = []
    size = int(rng.integers(1, 200))
    level = float(10.0 ** rng.uniform(-9.0, 9.0))
    sign = -1.0 if rng.random() < 0.2 else 1.0
    while len(values) < size:
        values.extend(_piece(int(rng.integers(8)), int(rng.integers(1, 60)), sign * level, rng))
    zone, first_hour = (
        ("UTC", _USUAL_FIRST_HOUR),
        (BERLIN, BEFORE_SPRING),
        (BERLIN, BEFORE_AUTUMN),
    )[int(rng.integers(3))]
    # The change of clocks is in the sixth day of these weeks: let it fall anywhere in the history.
    start = first_hour + int(rng.integers(WEEK_HOURS))
    return History(f"history {number}", tuple(values[:size]), zone, start)


def _piece(kind: int, hours: int, level: float, rng: np.random.Generator) -> Values:
    """Silence, a constant, an extreme again and again, many of them, noise, noise with gaps, anything, around zero."""
    sign = math.copysign(1.0, level)
    match kind:
        case 0:
            return [None] * hours
        case 1:
            return [level] * hours
        case 2:
            return [sign * float(rng.choice(_EXTREMES))] * hours
        case 3:
            return [sign * float(extreme) for extreme in rng.choice(_EXTREMES, hours)]
        case 4:
            return [level * daily(hour, rng) / 30.0 for hour in range(hours)]
        case 5:
            return [level * daily(hour, rng) / 30.0 if rng.random() < 0.4 else None for hour in range(hours)]
        case 6:
            return [sign * float(10.0**exponent) for exponent in rng.uniform(-9.0, 9.0, hours)]
        case _:
            around = level * rng.standard_normal(hours)
            return [float(value) for value in (around if sign < 0.0 else np.maximum(around, 0.0))]
