"""Notices a consumer that has stopped reading although there is something to read, and starts the process again.

A consumer can stand still with all its connections up: after a broker's reset, with a fetch that is never answered, in
a rebalance that never ends. What the consumer itself says of its lag is then as old as its last answer, so the broker
is asked apart. The store's progress says where reading should be going on: it moves while anybody reads a partition.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from detection.errors import DependencyError
from state.store import Reached, StateStore
from stream.peek import Peek, Place

log = structlog.get_logger()


class StalledError(Exception):
    """Records wait in the broker, nothing holds the worker back, and it reads none."""


# Joining a group may take others' time as well: it is waited for this many times as long.
_JOINS = 5


@dataclass(slots=True)
class Liveness:
    """Looked at now and then; `absorbed` counts what was read, `is_held_back` says whether a write is under way."""

    store: StateStore
    peek: Peek
    source: Callable[[str, int], str]
    partitions: Callable[[], frozenset[Place]]
    is_placed: Callable[[], bool]
    absorbed: Callable[[], int]
    is_held_back: Callable[[], bool]
    stall_seconds: float
    _absorbed: int = -1
    _moved: float = field(default_factory=time.monotonic)
    _progress: Mapping[str, Reached] = field(default_factory=dict)

    async def look(self) -> None:
        """Raises StalledError when nothing was read for `stall_seconds` though there was something to read."""
        now = time.monotonic()
        absorbed = self.absorbed()
        has_nothing_to_read = self.is_placed() and not self.partitions()
        if absorbed != self._absorbed or self.is_held_back() or has_nothing_to_read:
            self._absorbed, self._moved, self._progress = absorbed, now, {}
            return
        if now - self._moved < self.stall_seconds:
            return
        if not self.partitions():
            if now - self._moved > _JOINS * self.stall_seconds:
                raise StalledError(f"no partitions were assigned for {now - self._moved:.0f} s")
            return
        try:
            progress = await self.store.progress()
        except DependencyError:
            # Without its store a worker must not read.
            self._moved = now
            return
        sources = {place: self.source(*place) for place in self.partitions()}
        before, self._progress = self._progress, progress
        waiting = {place: progress.get(source, Reached(0)).offset for place, source in sources.items()}
        if not before:
            # A second look, one interval later, at what has not moved since.
            return
        waiting = {
            place: offset
            for place, offset in waiting.items()
            if before.get(sources[place]) == progress.get(sources[place])
        }
        unread = [place for place, seen in (await self.peek(waiting)).items() if seen.record is not None]
        if unread and absorbed == self.absorbed() and not self.is_held_back():
            topic, partition = unread[0]
            raise StalledError(
                f"nothing was read for {time.monotonic() - self._moved:.0f} s, though {topic}/{partition} has records "
                f"from offset {waiting[topic, partition]} on"
            )
        self._moved, self._progress = now, {}
