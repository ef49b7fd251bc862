"""Windows as JSON: by the RFC 3339 start of the hour or minute, oldest first; the same window, the same bytes."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import orjson

from detection.hours import HOUR_MS, MINUTE_MS, iso, parse_ms
from detection.windows import CallWindow, GaugeSum, GaugeWindow, Window

# Readers of JSON that know only doubles lose digits beyond this.
_EXACT: Final = 2**53


def dump_window(window: Window) -> bytes:
    """One window."""
    return orjson.dumps(_plain(window))


def load_window(data: bytes | str) -> Window:
    """The inverse of `dump_window`; KeyError, TypeError or ValueError for what it cannot have written."""
    return _window(orjson.loads(data))


def dump_hours(windows: Mapping[int, Window]) -> bytes:
    """Windows by hours since the epoch."""
    return orjson.dumps({hour_text(hour): _plain(windows[hour]) for hour in sorted(windows)})


def dump_minutes(windows: Mapping[int, Window]) -> bytes:
    """Windows by minutes since the epoch."""
    return orjson.dumps({_minute_text(minute): _plain(windows[minute]) for minute in sorted(windows)})


def load_hours(data: bytes | str) -> dict[int, Window]:
    """The inverse of `dump_hours`; KeyError, TypeError or ValueError for what it cannot have written."""
    return {hour_of(text): _window(plain) for text, plain in orjson.loads(data).items()}


def load_minutes(data: bytes | str) -> dict[int, Window]:
    """The inverse of `dump_minutes`; KeyError, TypeError or ValueError for what it cannot have written."""
    return {_minute_of(text): _window(plain) for text, plain in orjson.loads(data).items()}


@lru_cache(maxsize=16_384)
def hour_text(hour: int) -> str:
    """The start of an hour since the epoch, RFC 3339 in UTC."""
    return iso(hour * HOUR_MS)


@lru_cache(maxsize=16_384)
def hour_of(text: str) -> int:
    """The inverse of `hour_text`; ValueError for any other text."""
    return parse_ms(text) // HOUR_MS


@lru_cache(maxsize=4_096)
def _minute_text(minute: int) -> str:
    return iso(minute * MINUTE_MS)


@lru_cache(maxsize=4_096)
def _minute_of(text: str) -> int:
    return parse_ms(text) // MINUTE_MS


def _plain(window: Window) -> dict[str, Any]:
    match window:
        case CallWindow():
            plain: dict[str, Any] = {
                "calls": window.calls,
                "errors": window.errors,
                "timeouts": window.timeouts,
                "latency_us": _whole(window.latency_us),
                "latency_us2": _whole(window.latency_us2),
            }
            if window.bins:
                plain["bins"] = {str(key): window.bins[key] for key in sorted(window.bins)}
            return plain
        case GaugeWindow():
            return {
                "events": window.events,
                "gauges": {
                    slug: {
                        "count": one.count,
                        "sum_nano": _whole(one.sum_nano),
                        "minimum": float(one.minimum),
                        "maximum": float(one.maximum),
                    }
                    for slug, one in sorted(window.gauges.items())
                },
            }


def _window(plain: dict[str, Any]) -> Window:
    if "events" in plain:
        return GaugeWindow(
            events=plain["events"],
            gauges={
                slug: GaugeSum(one["count"], int(one["sum_nano"]), float(one["minimum"]), float(one["maximum"]))
                for slug, one in plain["gauges"].items()
            },
        )
    return CallWindow(
        calls=plain["calls"],
        errors=plain["errors"],
        timeouts=plain["timeouts"],
        latency_us=int(plain["latency_us"]),
        latency_us2=int(plain["latency_us2"]),
        bins={int(key): count for key, count in plain.get("bins", {}).items()},
    )


def _whole(number: int) -> int | str:
    return number if -_EXACT <= number <= _EXACT else str(number)
