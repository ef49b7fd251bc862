"""When a worker writes what it has absorbed: soon after the first events, and in even steps from then on.

Whoever starts, or had nothing to do, writes what comes first as soon as no more comes with it: after a placement a
fetch brings one partition after the other, and none says what waits in those that were not yet read. A write that wrote
something is followed by a whole pause, so a steady flow costs no more writes than there are pauses.
"""

import time
from collections.abc import Awaitable, Callable

from stream.worker import Worker

# Whoever is behind writes seldom: each write costs as much for every biller, however few calls it has of it.
_BEHIND_SECONDS = 10.0
# Nobody is behind by so few. What a transaction ends with is a record that no consumer is given, and seems to wait for
# as long as nothing follows it.
_FEW_RECORDS = 1000
# How often it is looked whether something came, and after how many looks without anything new no more comes with it:
# longer than the broker keeps a fetch that finds nothing, in which what it has of other partitions waits.
_LOOK_SECONDS = 0.04
_QUIET_LOOKS = 2
# What comes without a gap is not waited out, once all that waited in the broker is read.
_LINGER_SECONDS = 0.3


class Rhythm:
    """The writes and ticks of one worker; `sleep` ends early when the worker stops, which `should_stop` then says."""

    def __init__(
        self,
        worker: Worker,
        *,
        sleep: Callable[[float], Awaitable[None]],
        should_stop: Callable[[], bool],
        flush_seconds: float,
    ) -> None:
        self._worker = worker
        self._sleep = sleep
        self._should_stop = should_stop
        self._flush_seconds = flush_seconds
        self._has_written = False

    async def run(self) -> None:
        """Write what was absorbed and close what is due, until the worker stops."""
        worker = self._worker
        while not self._should_stop():
            await self._pause()
            await self.flush_in_time()
            await worker.tick()
            # At the top of an hour there is more to close than one slice of time: in between, events are written.
            end = time.monotonic() + self._flush_seconds
            while worker.has_more_to_close and time.monotonic() < end and not self._should_stop():
                await worker.tick()

    async def flush_in_time(self) -> None:
        """Write; but while more waits in the broker than is in memory, it may wait for some seconds."""
        worker = self._worker
        if self._is_behind and time.monotonic() - worker.held_since < _BEHIND_SECONDS:
            self._has_written = False
            return
        held, written = worker.in_memory, worker.written_batches
        await worker.flush()
        # A write that began with nothing may have waited for the store, and taken along what came meanwhile.
        self._has_written = held > 0 or worker.written_batches > written

    async def _pause(self) -> None:
        """Wait for `flush_seconds`; after a write that had nothing to write, no longer than until something came."""
        if self._has_written:
            await self._sleep(self._flush_seconds)
            return
        end = time.monotonic() + self._flush_seconds
        seen, quiet_looks = self._worker.absorbed_batches, 0
        while (left := self._left(end)) > 0 and not self._should_stop():
            await self._sleep(min(_LOOK_SECONDS, left))
            quiet_looks = quiet_looks + 1 if self._worker.absorbed_batches == seen else 0
            seen = self._worker.absorbed_batches
            if self._worker.in_memory and not self._is_behind and self._is_complete(quiet_looks):
                return

    def _left(self, end: float) -> float:
        """Seconds to `end`, which what came just before it moves: it would be written without what comes with it."""
        if self._worker.in_memory:
            end = max(end, self._worker.held_since + min(_LINGER_SECONDS, self._flush_seconds))
        return end - time.monotonic()

    @property
    def _is_behind(self) -> bool:
        return self._worker.waiting > max(self._worker.in_memory, _FEW_RECORDS)

    def _is_complete(self, quiet_looks: int) -> bool:
        """Whether what is in memory need not wait for what comes in the same moment.

        In the midst of a backlog it does: to write half of it costs nearly as much as to write all.
        """
        held_seconds = time.monotonic() - self._worker.held_since
        return quiet_looks >= _QUIET_LOOKS or (held_seconds >= _LINGER_SECONDS and not self._worker.waiting)
