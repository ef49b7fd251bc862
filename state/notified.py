"""What each target was last told of which alert, and who tells: one hash of the whole stream, readable.

    HGETALL tidemark:1:notified
        biller:B1/error-rate/slow/2026-03-01T10:00:00Z   {"notice":{...},"targets":{"pager":{"event":"opened",...}}}
        platform:error-rate                              the platform alert that stands for the billers' own
        lease                                            {"holder":"...","until":1772359215000}

The holder of the lease is the one worker that notifies. What it keeps is refused when it is the holder no longer, in
the same step, so two of them cannot overwrite each other.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import msgspec

from detection.rules.notice import Notice
from detection.rules.platform import PlatformAlert

LEASE: Final = b"lease"

# Of a claim: another worker has it; it was nobody's and is this one's now; it was this one's already.
Lease = Literal["other", "taken", "kept"]

_PLATFORM: Final = b"platform:"


class Told(msgspec.Struct, frozen=True):
    """What a target knows of an alert: the score it was told, and when, in milliseconds of the notifier's clock.

    `passed` means that it was not told, because somebody had taken the alert on before it was.
    """

    event: Literal["opened", "worse", "passed"]
    score: float
    at_ms: int


class Notified(msgspec.Struct, frozen=True):
    """An alert that some target knows of; `gone_ms` is when it was found to be open no longer."""

    notice: Notice
    targets: dict[str, Told]
    gone_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What is kept from one round of notifying to the next; `damaged` names fields that nobody can have kept."""

    notified: dict[str, Notified] = field(default_factory=dict)
    platforms: dict[str, PlatformAlert] = field(default_factory=dict)
    damaged: tuple[bytes, ...] = ()


class NotifiedStore(Protocol):
    """The notifier's memory, of which one worker at a time has the lease; DependencyError when it does not answer."""

    async def claim(self, holder: str, *, for_ms: int) -> Lease:
        """Take or prolong the lease, from now on by the store's clock."""
        ...

    async def release(self, holder: str) -> None:
        """Give the lease back, if it is this holder's."""
        ...

    async def recall(self) -> Memory:
        """All that was kept."""
        ...

    async def keep(self, holder: str, changes: Mapping[bytes, bytes | None]) -> bool:
        """Set these fields, or remove them where None stands; False, and nothing, without the lease."""
        ...


def notified_field(id: str) -> bytes:  # noqa: A002  # as it is called everywhere else
    return id.encode()


def platform_field(slug: str) -> bytes:
    return _PLATFORM + slug.encode()


def encode(one: Notified | PlatformAlert) -> bytes:
    """One field's value."""
    return msgspec.json.encode(one)


def decode(fields: Mapping[bytes, bytes]) -> Memory:
    """What the fields say. One that is damaged is left out: the alert is then told again, rather than none at all."""
    notified: dict[str, Notified] = {}
    platforms: dict[str, PlatformAlert] = {}
    damaged: list[bytes] = []
    for name, value in fields.items():
        if name == LEASE:
            continue
        try:
            if name.startswith(_PLATFORM):
                platforms[name.removeprefix(_PLATFORM).decode()] = msgspec.json.decode(value, type=PlatformAlert)
            else:
                notified[name.decode()] = msgspec.json.decode(value, type=Notified)
        except (msgspec.DecodeError, UnicodeDecodeError):
            damaged.append(name)
    return Memory(notified, platforms, tuple(damaged))


class MemoryNotified:
    """The twin of `state.redis_notified.RedisNotified`; `clock` is the store's, in milliseconds."""

    def __init__(self, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self.fields: dict[bytes, bytes] = {}
        self._clock = clock
        self._lease: tuple[str, int] = ("", -1)

    async def claim(self, holder: str, *, for_ms: int) -> Lease:
        now_ms = self._clock()
        other, until_ms = self._lease
        if other != holder and now_ms < until_ms <= now_ms + for_ms:
            return "other"
        self._lease = (holder, now_ms + for_ms)
        return "kept" if other == holder else "taken"

    async def release(self, holder: str) -> None:
        if self._lease[0] == holder:
            self._lease = ("", -1)

    async def recall(self) -> Memory:
        return decode(self.fields)

    async def keep(self, holder: str, changes: Mapping[bytes, bytes | None]) -> bool:
        if self._lease[0] != holder:
            return False
        for name, value in changes.items():
            if value is None:
                self.fields.pop(name, None)
            else:
                self.fields[name] = value
        return True
