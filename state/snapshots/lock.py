"""Who writes snapshots or deletes them: one at a time, whatever keeps them.

Locks are numbered, and the one with the highest number holds until the time that it says. Who wants to write makes the
next number, which the storage gives to one of those who try. Somebody who was killed is waited for until then.
"""

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import orjson

from detection.errors import ConflictError, UnreadableStateError
from detection.hours import iso
from state.snapshots.storage import Storage

LOCKS: Final = "locks"
LEASE_MS: Final = 10 * 60 * 1000
_RENEWED_AFTER: Final = 0.25
_SUFFIX: Final = ".json"


class Lock:
    """A lock that is held. `renew` is called now and then by who goes on, `require` before what others rely on."""

    def __init__(self, storage: Storage, number: int, now_ms: Callable[[], int], *, doing: str) -> None:
        self._storage = storage
        self._number = number
        self._now_ms = now_ms
        self._doing = doing
        self._until = 0

    @property
    def _path(self) -> str:
        return f"{LOCKS}/{self._number:010d}{_SUFFIX}"

    def _said(self) -> bytes:
        self._until = self._now_ms() + LEASE_MS
        who = f"{socket.gethostname()}/{os.getpid()}"
        return orjson.dumps({"by": who, "doing": self._doing, "until_ms": self._until, "until": iso(self._until)})

    def take(self) -> bool:
        """Whether it is ours; somebody else was faster where it is not."""
        return self._storage.put_new(self._path, self._said())

    def renew(self) -> None:
        """Hold it for longer, if that is due; ConflictError where it is somebody else's by now."""
        if self._until - self._now_ms() < LEASE_MS * (1 - _RENEWED_AFTER):
            self.require()
            self._storage.put(self._path, self._said())

    def require(self) -> None:
        """ConflictError unless it is ours still."""
        highest = max(_numbers(self._storage), default=0)
        if highest != self._number or self._now_ms() >= self._until:
            raise ConflictError(
                f"{self._storage}: the lock was lost while snapshots were written: this took longer than "
                f"{LEASE_MS // 60_000} minutes without a sign"
            )

    def release(self) -> None:
        """Others can write at once."""
        self._storage.delete([self._path])


@asynccontextmanager
async def held(storage: Storage, now_ms: Callable[[], int], *, doing: str) -> AsyncIterator[Lock]:
    """Nobody else writes while the block runs; ConflictError names who does."""
    numbers = _numbers(storage)
    highest = max(numbers, default=0)
    if highest:
        _refuse_held(storage, numbers[highest], now_ms())
    lock = Lock(storage, highest + 1, now_ms, doing=doing)
    if not lock.take():
        raise ConflictError(f"{storage}: somebody else began to write at the same moment")
    storage.delete([path for number, path in numbers.items() if number <= highest])
    try:
        yield lock
    finally:
        lock.release()


def _refuse_held(storage: Storage, path: str, now_ms: int) -> None:
    try:
        said = orjson.loads(storage.get(path))
        until, by, doing = int(said["until_ms"]), said["by"], said["doing"]
    except (UnreadableStateError, KeyError, TypeError, ValueError):
        # Released at this moment, or nobody's.
        return
    # One that holds for longer than any can was made by a clock that was wrong.
    if now_ms < until <= now_ms + 2 * LEASE_MS:
        raise ConflictError(f"{storage}: {by} is at work ({doing}), until {iso(until)} at most")


def _numbers(storage: Storage) -> dict[int, str]:
    """The paths of the locks that are there, by their number."""
    found = {}
    for one in storage.list(LOCKS):
        text = one.path.removeprefix(f"{LOCKS}/").removesuffix(_SUFFIX)
        if text.isdecimal():
            found[int(text)] = one.path
    return found
