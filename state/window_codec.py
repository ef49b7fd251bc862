"""Windows as JSON: by the RFC 3339 start of the hour or minute, oldest first; the same window, the same bytes.

A subject's last minutes are read and written with every count, and hardly any of them is looked at: what nobody asks
for goes from one write into the next as the text that it is (`StoredMinutes`).
"""

from collections.abc import Iterator, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final

import msgspec
import orjson

from detection.errors import UnreadableStateError
from detection.hours import HOUR_MS, MINUTE_MS, iso, parse_ms
from detection.judged_hours import JudgedHour
from detection.windows import CallWindow, GaugeSum, GaugeWindow, Window

# Readers of JSON that know only doubles lose digits beyond this.
_EXACT: Final = 2**53

_DAY_MS: Final = 24 * HOUR_MS


class _Calls(msgspec.Struct, gc=False, omit_defaults=True):
    """A biller's window as it is written."""

    calls: int
    errors: int
    timeouts: int
    latency_us: int | str
    latency_us2: int | str
    bins: dict[int, int] = {}


class _Judged(msgspec.Struct, gc=False):
    """What is written of a learned window beside it."""

    judged: dict[str, JudgedHour] = {}


class _Sums(msgspec.Struct, gc=False):
    """What is summed of a biller's window where nobody asks for the distribution of its latencies."""

    calls: int
    errors: int
    timeouts: int
    latency_us: int | str


_encode: Final = msgspec.json.Encoder().encode
_SUMS: Final = msgspec.json.Decoder(dict[str, _Sums])
_JUDGED: Final = msgspec.json.Decoder(_Judged)
_CALLS: Final = msgspec.json.Decoder(dict[str, _Calls])
_TEXTS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class StoredMinutes(MutableMapping[int, Window]):
    """Windows by minutes since the epoch, each read when it is asked for; `key` names what they were read from.

    Raises UnreadableStateError for what `dump_minutes` cannot have written, when it is asked for.
    """

    __slots__ = ("_data", "_found", "_key", "_read")

    def __init__(self, data: bytes, key: str) -> None:
        self._data = data
        self._found: dict[int, bytes] | None = None
        self._read: dict[int, Window] = {}
        self._key = key

    @property
    def is_untouched(self) -> bool:
        """Whether nobody has asked for any of it, so that it is what was read."""
        return self._found is None

    @property
    def _texts(self) -> dict[int, bytes]:
        if self._found is None:
            try:
                self._found = {_minute_of(text): bytes(raw) for text, raw in _TEXTS.decode(self._data).items()}
            except (ValueError, msgspec.DecodeError) as error:
                raise UnreadableStateError(f"{self._key}: damaged minutes: {error!r}") from error
        return self._found

    def dump(self) -> bytes:
        """What `dump_minutes` gives."""
        if self._found is None:
            return self._data
        texts = {**self._texts, **{minute: dump_window(window) for minute, window in self._read.items()}}
        return _joined([(_minute_text(minute), texts[minute]) for minute in sorted(texts)])

    def __getitem__(self, minute: int) -> Window:
        window = self._read.get(minute)
        if window is None:
            text = self._texts[minute]
            try:
                window = self._read[minute] = load_window(text)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise UnreadableStateError(f"{self._key}: damaged minutes: {error!r}") from error
            # Whoever has it may add to it: from now on the window says what is so.
            del self._texts[minute]
        return window

    def __setitem__(self, minute: int, window: Window) -> None:
        self._texts.pop(minute, None)
        self._read[minute] = window

    def __delitem__(self, minute: int) -> None:
        if self._read.pop(minute, None) is None:
            del self._texts[minute]

    def __contains__(self, minute: object) -> bool:
        return minute in self._texts or minute in self._read

    def __iter__(self) -> Iterator[int]:
        yield from [*self._texts, *self._read]

    def __len__(self) -> int:
        return len(self._texts) + len(self._read)

    def __repr__(self) -> str:
        return f"StoredMinutes({dict(self.items())})"


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
    """The inverse of `dump_window`; KeyError, TypeError or ValueError for what it cannot have written."""
    return _window(orjson.loads(data))


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
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from error


def dump_hours(windows: Mapping[int, Window]) -> bytes:
    """Windows by hours since the epoch."""
    return _joined([(hour_text(hour).encode(), dump_window(windows[hour])) for hour in sorted(windows)])


def dump_minutes(windows: Mapping[int, Window]) -> bytes:
    """Windows by minutes since the epoch."""
    if isinstance(windows, StoredMinutes):
        return windows.dump()
    return _joined([(_minute_text(minute), dump_window(windows[minute])) for minute in sorted(windows)])


def load_hours(data: bytes | str) -> dict[int, Window]:
    """The inverse of `dump_hours`; KeyError, TypeError or ValueError for what it cannot have written."""
    return {hour_of(text): window for text, window in _windows(data)}


def load_minutes(data: bytes | str) -> dict[int, Window]:
    """The inverse of `dump_minutes`; KeyError, TypeError or ValueError for what it cannot have written."""
    return {_minute_of(text): window for text, window in _windows(data)}


def load_sums(data: bytes | str, minutes: int) -> tuple[int | None, Window]:
    """The newest minute since the epoch, None where there is none, and the sum of so many minutes up to it.

    Of calls without squares and bins, for a tenth of what `load_minutes` takes. Errors are those of `load_minutes`.
    """
    try:
        found = _SUMS.decode(data)
    except msgspec.DecodeError:
        return _sums_of_gauges(load_minutes(data), minutes)
    total = CallWindow()
    if not found:
        return None, total
    by_minute = {_minute_of(text): one for text, one in found.items()}
    newest = max(by_minute)
    for minute, one in by_minute.items():
        if minute > newest - minutes:
            total.calls += one.calls
            total.errors += one.errors
            total.timeouts += one.timeouts
            total.latency_us += int(one.latency_us)
    return newest, total


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
    """The inverse of `hour_text`; ValueError for any other text."""
    return parse_ms(text) // HOUR_MS


@lru_cache(maxsize=4_096)
def _minute_text(minute: int) -> bytes:
    return iso(minute * MINUTE_MS).encode()


@lru_cache(maxsize=4_096)
def _minute_of(text: str) -> int:
    return parse_ms(text) // MINUTE_MS


def _joined(texts: list[tuple[bytes, bytes]]) -> bytes:
    return b"{%b}" % b",".join([b'"%b":%b' % pair for pair in texts])


def _windows(data: bytes | str) -> Iterator[tuple[str, Window]]:
    try:
        found = _CALLS.decode(data)
    except msgspec.DecodeError:
        # Gauges, or nothing that can be read: the slow way tells them apart.
        for text, plain in orjson.loads(data).items():
            yield text, _window(plain)
        return
    for text, one in found.items():
        sums = int(one.latency_us), int(one.latency_us2)
        yield text, CallWindow(one.calls, one.errors, one.timeouts, *sums, one.bins)


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
