"""Open hours and last minutes between two writes: as the text that is stored, as far as nobody asks for a window.

They are read and written with every count, and hardly any of them is looked at: what nobody asks for goes from one
write into the next as the text that it is.
"""

from abc import ABC, abstractmethod
from collections.abc import ItemsView, Iterator, Mapping, MutableMapping
from functools import lru_cache
from typing import ClassVar, Final, Self

import msgspec

from detection.errors import UnreadableStateError
from detection.windows import Window
from state.window_codec import (
    dump_window,
    hour_of,
    hour_text,
    load_hours,
    load_minutes,
    load_window,
    minute_of,
    minute_text,
)

# Behind the name of a window in quotes, and its colon, the value begins.
_ENTRY_HEAD: Final = len('"2026-01-05T09:00:00Z":')

_TEXTS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class StoredWindows(MutableMapping[int, Window], ABC):
    """Windows by hours or minutes since the epoch, each read when it is asked for; `key` names where they are stored.

    A window that is taken by its hour or minute may be added to. Those of `items` are for reading alone.
    Raises UnreadableStateError for what cannot have been written, when it is asked for.
    """

    __slots__ = ("_data", "_found", "_is_untouched", "_key", "_read")
    # The field that they are stored in.
    field: ClassVar[str]

    def __init__(self, data: bytes, key: str) -> None:
        # All of it as text, until there is a change to one of them.
        self._data: bytes | None = data
        self._is_untouched = True
        self._found: dict[int, bytes] | None = None
        self._read: dict[int, Window] = {}
        self._key = key

    @classmethod
    def changed(cls, data: bytes, key: str) -> Self:
        """Such as are not what was read."""
        windows = cls(data, key)
        windows._is_untouched = False
        return windows

    @staticmethod
    @abstractmethod
    def name(moment: int) -> bytes:
        """What a window is called in the text."""

    @staticmethod
    @abstractmethod
    def moment(name: bytes) -> int:
        """The inverse of `name`; ValueError for any other text."""

    @staticmethod
    @abstractmethod
    def load(data: bytes) -> dict[int, Window]:
        """All windows of a text; AttributeError, KeyError, TypeError or ValueError for what is none."""

    @property
    def is_untouched(self) -> bool:
        """Whether nobody can have changed any of it, so that it is what was read."""
        return self._is_untouched

    @property
    def _texts(self) -> dict[int, bytes]:
        """What nobody has asked for, as `_entries` gives it."""
        if self._found is None:
            try:
                self._found = self._entries(self._data or b"{}")
            except (ValueError, msgspec.DecodeError, RecursionError) as error:
                raise self._damaged(error) from error
        return self._found

    def _damaged(self, error: Exception) -> UnreadableStateError:
        return UnreadableStateError(f"{self._key}: damaged {self.field}: {error!r}")

    def dump(self) -> bytes:
        """The text of all of them."""
        if self._data is not None:
            return self._data
        return _of_entries({**self._texts, **{moment: self._entry(moment, one) for moment, one in self._read.items()}})

    def items(self) -> ItemsView[int, Window]:
        """All of them at once, in a fraction of the time; what is added to one of these is lost."""
        try:
            found = self.load(_of_entries(self._texts) if self._data is None else self._data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error
        return {**found, **self._read}.items()

    def __getitem__(self, moment: int) -> Window:
        window = self._read.get(moment)
        if window is None:
            text = self._texts[moment]
            try:
                window = self._read[moment] = load_window(text[_ENTRY_HEAD:] + b"}")
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise self._damaged(error) from error
            # Whoever has it may add to it: from now on the window says what is so.
            del self._texts[moment]
            self._touch()
        return window

    def __setitem__(self, moment: int, window: Window) -> None:
        self._texts.pop(moment, None)
        self._read[moment] = window
        self._touch()

    def __delitem__(self, moment: int) -> None:
        if self._read.pop(moment, None) is None:
            del self._texts[moment]
        self._touch()

    def _touch(self) -> None:
        self._is_untouched = False
        self._data = None

    def __contains__(self, moment: object) -> bool:
        return moment in self._texts or moment in self._read

    def __iter__(self) -> Iterator[int]:
        return iter([*self._texts, *self._read])

    def __len__(self) -> int:
        return len(self._texts) + len(self._read)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self.items())})"

    def _entries(self, data: bytes) -> dict[int, bytes]:
        """Each window's name and value without its last brace, unread; ValueError for what is no object of objects."""
        if data[:2] == b'{"' and data[-2:] == b"}}" and b'"gauges"' not in data:
            # Of calls, as they are written: between two windows, and nowhere else, a comma and a name follow a brace.
            texts = data[1:-2].split(b"},")
            if all([text[_ENTRY_HEAD - 3 : _ENTRY_HEAD + 1] == b'Z":{' for text in texts]):  # noqa: C419  # half the time
                moment = self.moment
                return {moment(text[1 : _ENTRY_HEAD - 2]): text for text in texts}
        found = {}
        for name, raw in _TEXTS.decode(data).items():
            one = self.moment(name.encode())
            text = bytes(raw)
            if not (text.startswith(b"{") and text.endswith(b"}")):
                raise ValueError(f"{name} is no object")
            found[one] = b'"%b":%b' % (self.name(one), text[:-1])
        return found

    def _entry(self, moment: int, window: Window) -> bytes:
        return b'"%b":%b' % (self.name(moment), dump_window(window)[:-1])


class StoredHours(StoredWindows):
    """Windows by hours since the epoch."""

    __slots__ = ()
    field = "windows"

    @staticmethod
    def name(moment: int) -> bytes:
        return hour_text(moment).encode()

    @staticmethod
    @lru_cache(maxsize=4_096)
    def moment(name: bytes) -> int:
        return hour_of(name.decode())

    load = staticmethod(load_hours)


class StoredMinutes(StoredWindows):
    """Windows by minutes since the epoch."""

    __slots__ = ()
    field = "minutes"

    name = staticmethod(minute_text)

    @staticmethod
    @lru_cache(maxsize=4_096)
    def moment(name: bytes) -> int:
        return minute_of(name.decode())

    load = staticmethod(load_minutes)


def dump_hours(windows: Mapping[int, Window]) -> bytes:
    """Windows by hours since the epoch."""
    if isinstance(windows, StoredHours):
        return windows.dump()
    return _joined([(hour_text(hour).encode(), dump_window(windows[hour])) for hour in sorted(windows)])


def dump_minutes(windows: Mapping[int, Window]) -> bytes:
    """Windows by minutes since the epoch."""
    if isinstance(windows, StoredMinutes):
        return windows.dump()
    return _joined([(minute_text(minute), dump_window(windows[minute])) for minute in sorted(windows)])


def _joined(texts: list[tuple[bytes, bytes]]) -> bytes:
    return b"{%b}" % b",".join([b'"%b":%b' % pair for pair in texts])


def _of_entries(texts: Mapping[int, bytes]) -> bytes:
    return b"{%b}}" % b"},".join([texts[moment] for moment in sorted(texts)]) if texts else b"{}"
