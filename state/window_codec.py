"""Windows as JSON: by the RFC 3339 start of the hour or minute, oldest first; the same window, the same bytes."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Annotated, Final

import msgspec
import orjson
from msgspec import Meta

from detection.catalogue import metric_of
from detection.errors import UnknownMetricError
from detection.events import NEWEST_MS
from detection.hours import HOUR_MS, MINUTE_MS, iso, parse_ms
from detection.judged_hours import JudgedHour
from detection.windows import CallWindow, GaugeSum, GaugeWindow, Window

# Readers of JSON that know only doubles lose digits beyond this.
_EXACT: Final = 2**53

_DAY_MS: Final = 24 * HOUR_MS


# What can have been counted and summed: far more than there ever was, and nothing that a double could not hold.
_Count = Annotated[int, Meta(ge=0, le=_EXACT)]
_LARGEST_SUM: Final = 2**256
_LAST_HOUR: Final = NEWEST_MS // HOUR_MS
_LAST_MINUTE: Final = NEWEST_MS // MINUTE_MS


class _Calls(msgspec.Struct, gc=False, omit_defaults=True):
    """A biller's window as it is written."""

    calls: _Count
    errors: _Count
    timeouts: _Count
    latency_us: int | str
    latency_us2: int | str
    bins: dict[Annotated[int, Meta(ge=0, le=255)], _Count] = {}


class _Gauge(msgspec.Struct, gc=False):
    """What is summed of one gauge."""

    count: Annotated[int, Meta(ge=1, le=_EXACT)]
    sum_nano: int | str
    minimum: float
    maximum: float


class _Gauges(msgspec.Struct, gc=False):
    """A model version's window as it is written."""

    events: _Count
    gauges: dict[str, _Gauge]


class _Judged(msgspec.Struct, gc=False):
    """What is written of a learned window beside it."""

    judged: dict[str, JudgedHour] = {}


class _Sums(msgspec.Struct, gc=False):
    """What is summed of a biller's window where nobody asks for the distribution of its latencies."""

    calls: _Count
    errors: _Count
    timeouts: _Count
    latency_us: int | str


_encode: Final = msgspec.json.Encoder().encode
_SUMS: Final = msgspec.json.Decoder(dict[str, _Sums])
_JUDGED: Final = msgspec.json.Decoder(_Judged)
_CALLS: Final = msgspec.json.Decoder(dict[str, _Calls])
_GAUGES: Final = msgspec.json.Decoder(dict[str, _Gauges])
_ONE_OF_CALLS: Final = msgspec.json.Decoder(_Calls)
_ONE_OF_GAUGES: Final = msgspec.json.Decoder(_Gauges)


def dump_window(window: Window) -> bytes:
    """One window."""
    match window:
        case CallWindow():
            return _encode(
                _Calls(
                    window.calls,
                    window.errors,
                    window.timeouts,
                    _whole(window.latency_us),
                    _whole(window.latency_us2),
                    dict(sorted(window.bins.items())),
                )
            )
        case GaugeWindow():
            return orjson.dumps(
                {
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
            )


def load_window(data: bytes | str) -> Window:
    """The inverse of `dump_window`; ValueError for what it cannot have written."""
    try:
        return _call_window(_ONE_OF_CALLS.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        try:
            return _gauge_window(_ONE_OF_GAUGES.decode(data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as other:
            raise ValueError(f"neither calls ({error}) nor gauges ({other})") from error


def dump_learned(window: Window, judged: Mapping[str, JudgedHour]) -> bytes:
    """A learned window, and in its part `judged`, by slug, how it compared; without that part where nothing did."""
    text = dump_window(window)
    if not judged:
        return text
    return b'%b,"judged":%b}' % (text[:-1], _encode({slug: judged[slug] for slug in sorted(judged)}))


def load_judged(data: bytes) -> Mapping[str, JudgedHour]:
    """What `dump_learned` wrote beside the window, by slug; empty where there is nothing, as in what is older.

    Raises ValueError for what it cannot have written.
    """
    try:
        return _JUDGED.decode(data).judged
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def load_hours(data: bytes | str) -> dict[int, Window]:
    """The inverse of `dump_hours`; KeyError, TypeError or ValueError for what it cannot have written."""
    return {hour_of(text): window for text, window in _windows(data)}


def load_minutes(data: bytes | str) -> dict[int, Window]:
    """The inverse of `dump_minutes`; KeyError, TypeError or ValueError for what it cannot have written."""
    return {minute_of(text): window for text, window in _windows(data)}


def load_sums(data: bytes | str, minutes: int) -> tuple[int | None, Window]:
    """The newest minute since the epoch, None where there is none, and the sum of so many minutes up to it.

    Of calls without squares and bins, for a tenth of what `load_minutes` takes. Errors are those of `load_minutes`.
    """
    try:
        found = _SUMS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _sums_of_gauges(load_minutes(data), minutes)
    if not found:
        return None, CallWindow()
    moments = [minute_of(text) for text in found]
    newest = max(moments)
    calls = errors = timeouts = latency_us = 0
    for minute, one in zip(moments, found.values(), strict=True):
        if minute > newest - minutes:
            calls += one.calls
            errors += one.errors
            timeouts += one.timeouts
            summed = one.latency_us
            latency_us += summed if isinstance(summed, int) and 0 <= summed <= _LARGEST_SUM else _checked_sum(summed)
    return newest, CallWindow(calls, errors, timeouts, latency_us)


def _sums_of_gauges(windows: Mapping[int, Window], minutes: int) -> tuple[int | None, Window]:
    total = GaugeWindow()
    newest = max(windows, default=None)
    for minute, window in windows.items():
        if newest is not None and minute > newest - minutes and isinstance(window, GaugeWindow):
            total.add(window)
    return newest, total


@lru_cache(maxsize=4_096)
def _day_text(day: int) -> bytes:
    return iso(day * _DAY_MS)[:10].encode()


def moment_text(ms: int) -> bytes:
    """Milliseconds since the epoch as `detection.hours.iso` writes them, in a fifth of the time."""
    day, rest = divmod(ms, _DAY_MS)
    seconds, fraction = divmod(rest, 1000)
    text = b"%bT%02d:%02d:%02d" % (_day_text(day), seconds // 3600, seconds // 60 % 60, seconds % 60)
    return b"%b.%03dZ" % (text, fraction) if fraction else text + b"Z"


@lru_cache(maxsize=16_384)
def hour_text(hour: int) -> str:
    """The start of an hour since the epoch, RFC 3339 in UTC."""
    return iso(hour * HOUR_MS)


@lru_cache(maxsize=16_384)
def hour_of(text: str) -> int:
    """The inverse of `hour_text`; ValueError for any other text, and for an hour that no event can be of."""
    hour = parse_ms(text) // HOUR_MS
    if not 0 <= hour <= _LAST_HOUR:
        raise ValueError(f"{text!r} is not in the years 1970 to 2099")
    return hour


@lru_cache(maxsize=4_096)
def minute_text(minute: int) -> bytes:
    return iso(minute * MINUTE_MS).encode()


@lru_cache(maxsize=4_096)
def minute_of(text: str) -> int:
    """Minutes since the epoch; ValueError for any other text, and for a minute that no event can be of."""
    minute = parse_ms(text) // MINUTE_MS
    if not 0 <= minute <= _LAST_MINUTE:
        raise ValueError(f"{text!r} is not in the years 1970 to 2099")
    return minute


def _windows(data: bytes | str) -> Iterator[tuple[str, Window]]:
    try:
        found = _CALLS.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # Gauges, or nothing that can be read.
        try:
            gauged = _GAUGES.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as other:
            raise ValueError(f"neither calls ({error}) nor gauges ({other})") from error
        for text, one in gauged.items():
            yield text, _gauge_window(one)
        return
    for text, each in found.items():
        yield text, _call_window(each)


def _call_window(one: _Calls) -> CallWindow:
    latency_us, latency_us2 = _checked_sum(one.latency_us), _checked_sum(one.latency_us2)
    if one.errors + one.timeouts > one.calls:
        raise ValueError(f"{one} cannot have been counted")
    return CallWindow(one.calls, one.errors, one.timeouts, latency_us, latency_us2, one.bins)


def _checked_sum(number: int | str) -> int:
    found = int(number)
    if not 0 <= found <= _LARGEST_SUM:
        raise ValueError(f"{number} cannot have been summed")
    return found


def _gauge_window(one: _Gauges) -> GaugeWindow:
    return GaugeWindow(one.events, {_known_slug(slug): _gauge_sum(each) for slug, each in one.gauges.items()})


def _gauge_sum(one: _Gauge) -> GaugeSum:
    sum_nano = int(one.sum_nano)
    if abs(sum_nano) > _LARGEST_SUM:
        raise ValueError(f"{one} cannot have been observed")
    return GaugeSum(one.count, sum_nano, one.minimum, one.maximum)


@lru_cache(maxsize=4_096)
def _known_slug(slug: str) -> str:
    try:
        if metric_of(slug).slug == slug:
            return slug
    except UnknownMetricError as error:
        raise ValueError(str(error)) from error
    raise ValueError(f"{slug!r} is no slug")


def _whole(number: int) -> int | str:
    return number if -_EXACT <= number <= _EXACT else str(number)
