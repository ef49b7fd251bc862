"""The rows of a data set: what one row must hold to be the observation of one hour."""

import math
from dataclasses import dataclass

from detection.catalogue import Metric
from detection.errors import InvalidRowError
from detection.events import MAX_GAUGE, MAX_LATENCY_MS, NEWEST_MS, OLDEST_MS
from detection.hours import HOUR_MS, parse_ms

NO_SUCH_TIME = "is not in the years 2000 to 2099; numbers are milliseconds"

_MOST_CALLS = 2**53


@dataclass(frozen=True, slots=True)
class Observation:
    """The value of a series for one closed hour (since the epoch, UTC), with the calls that stand behind it."""

    hour: int
    value: float
    count: int


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a data set, counted from 1; `count` is None where the row does not say."""

    row: int
    hour: int
    value: float
    count: int | None

    def observation(self) -> Observation:
        """As it is learned: a row that does not say how many calls it stands for counts as one."""
        return Observation(self.hour, self.value, 1 if self.count is None else self.count)


def checked_row(row: int, *, timestamp: object, value: object, count: object, metric: Metric) -> Row:
    """Raises InvalidRowError that names row, field and reason; None and "" mean that a field is absent.

    Texts are read as numbers, as CSV has nothing else; `timestamp` is RFC 3339 with an offset or milliseconds since the
    epoch, anywhere inside the hour that the value stands for.
    """
    return Row(
        row=row,
        hour=_checked_ms(row, timestamp) // HOUR_MS,
        value=checked_value(row, value, metric),
        count=_checked_count(row, count),
    )


def checked_value(row: int, value: object, metric: Metric) -> float:
    """A number that a live event could have led to; InvalidRowError for any other."""
    if value is None or value == "":
        raise InvalidRowError(row, "value", "is missing")
    number = _number(value)
    if number is None or not math.isfinite(number):
        raise InvalidRowError(row, "value", f"{shown(value)} is not a finite number")
    lower, upper = _bounds(metric)
    if not lower <= number <= upper:
        bounds = f"at least {lower:.15g} and at most {upper:.15g} {metric.unit}".rstrip()
        raise InvalidRowError(row, "value", f"{number:g} cannot be: {metric} is {bounds}")
    return number


def is_plausible_ms(ms: int) -> bool:
    """Whether an event of this time would be taken."""
    return OLDEST_MS <= ms < NEWEST_MS


def _bounds(metric: Metric) -> tuple[float, float]:
    """What the limits of a single event leave of the values that the metric could have."""
    match metric.kind:
        case "mean":
            return max(metric.lower, 0.0), min(metric.upper, MAX_LATENCY_MS)
        case "gauge":
            return max(metric.lower, -MAX_GAUGE), min(metric.upper, MAX_GAUGE)
        case "ratio":
            return metric.lower, metric.upper


def _checked_ms(row: int, timestamp: object) -> int:
    if timestamp is None or timestamp == "":
        raise InvalidRowError(row, "timestamp", "is missing")
    ms: int
    if isinstance(timestamp, bool):
        raise InvalidRowError(row, "timestamp", "true and false are no time")
    if isinstance(timestamp, int):
        ms = timestamp
    elif isinstance(timestamp, str):
        text = timestamp.strip()
        try:
            ms = int(text) if text.isascii() and text.isdigit() else parse_ms(text)
        except (ValueError, OverflowError):
            raise InvalidRowError(
                row, "timestamp", f"{shown(timestamp)} is neither RFC 3339 with an offset nor milliseconds"
            ) from None
    else:
        raise InvalidRowError(row, "timestamp", f"{shown(timestamp)} is neither RFC 3339 nor whole milliseconds")
    if not is_plausible_ms(ms):
        raise InvalidRowError(row, "timestamp", f"{shown(timestamp)} {NO_SUCH_TIME}")
    return ms


def _checked_count(row: int, count: object) -> int | None:
    if count is None or count == "":
        return None
    number = _number(count)
    if number is None or not number.is_integer() or not 1 <= number <= _MOST_CALLS:
        raise InvalidRowError(row, "count", f"{shown(count)} is not a whole number of calls, 1 or more")
    return int(number)


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except (ValueError, OverflowError):
            return None
    return None


def shown(value: object) -> str:
    """A value of a JSON document as a refusal names it: what holds other values may be too deep to be written out."""
    match value:
        case list():
            return "an array"
        case dict():
            return "an object"
        case _:
            return repr(value)[:80]
