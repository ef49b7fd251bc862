"""Faust's Kafka driver, delivering what one poll fetched of a partition as one event.

Faust keeps groups, rebalancing, flow control and agents; its cost per event, some 80 µs, is paid once per batch.

Traps of faust-streaming 0.15 that this module works around:

- Faust commits the end of the first run of *consecutive* acknowledged offsets, and keeps every offset between two
  messages in an interval tree. With one message for many records that is work per record again, and a first batch of
  exactly one record (offset 0) leaves a gap that is never closed: commits then stop for good. Batches are flushed and
  acknowledged in order here, so the newest acknowledged offset is the one to commit.
- Two records at the same offset are one event, a batch's message therefore has the offset of its *last* record.
- After a rebalance Faust seeks to what is committed. Where reading really begins is asked of `placing`, before the next
  fetch and by the only coroutine that fetches: no record can come from a position that was not decided.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiokafka
import faust
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message

from stream import fetching

fetching.install()

Offsets = Mapping[tuple[str, int], int]
Committed = Mapping[tuple[str, int], int | None]


@dataclass(slots=True)
class Fetched:
    """Records of one partition, oldest first; `placing` counts the decisions about positions up to their fetch.

    Whoever has taken them leaves none behind: the message itself stays until it is acknowledged, and the bytes with it.
    """

    records: Sequence[Any]
    placing: int
    # When the poll brought them, by the wall clock.
    read_ns: int = 0


# How long a consumer that does not know where to read waits before it asks again.
_MISPLACED_SECONDS = 0.05
# How long a fetch waits for other partitions while the records of some wait for the agent.
_HELD_BACK_SECONDS = 0.02
# How long the broker keeps a fetch that finds nothing: until it answers, aiokafka asks that broker for nothing else.
_EMPTY_FETCH_MS = 50


class BatchConsumer(driver.Consumer):
    """A consumer whose messages hold a list of records of one partition."""

    # Where to read, given what is committed of the assigned partitions; None when that will never be known.
    place: Callable[[Committed], Awaitable[Offsets | None]] | None = None
    # Told of offsets that Kafka has taken, and when it was given them, in ns since the epoch.
    committed: Callable[[Offsets, int], None] | None = None
    placing = 0
    _is_placed = False
    _seeks = 0

    def misplace(self) -> None:
        """Ask again where to read, before the next fetch; what was fetched before is not current any more."""
        self._is_placed = False
        self.placing += 1

    async def perform_seek(self) -> None:
        """As in Faust, to what is committed; then `place` is asked, before anything is fetched from there."""
        self.misplace()
        self._seeks += 1
        try:
            await super().perform_seek()
        finally:
            self._seeks -= 1
            self.misplace()

    async def _find_place(self) -> None:
        """Seek to where `place` says; still misplaced afterwards where it cannot say, or a rebalance was faster."""
        placing = self.placing
        assigned = {(tp.topic, tp.partition): tp for tp in self.assignment()}
        if self._seeks or not assigned or self.place is None:
            await self.sleep(_MISPLACED_SECONDS)
            return
        offsets = await self.place({place: self._committed_offset[tp] for place, tp in assigned.items()})
        if offsets is None:
            await self.sleep(_MISPLACED_SECONDS)
            return
        if placing != self.placing or not self.flow_active:
            return
        try:
            await self.seek_wait({tp: offsets[place] for place, tp in assigned.items() if place in offsets})
        except IllegalStateError:
            # The partition went while its position was found: the rebalance has all of them placed anew.
            return
        self._is_placed = placing == self.placing

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109  # Faust's signature
        """One message for each partition of a poll; its value is the records, oldest first."""
        if self.flow_active and not self._is_placed:
            await self._find_place()
            if not self._is_placed:
                return
        if self._buffered_partitions:
            # Nothing wakes a fetch when the agent has taken what waited for it: Faust would wait a second, with work
            # in reach, for partitions that may well be empty.
            if not self._get_active_partitions():
                await self.sleep(_HELD_BACK_SECONDS)
                return
            timeout = _HELD_BACK_SECONDS
        records, active_or_none = await self._wait_next_records(timeout)
        read_ns = time.time_ns()
        active = active_or_none or ()
        generation = self.app.consumer_generation_id
        if not records or self.should_stop:
            return
        if not self._is_placed:
            # These come from before the seek that is now due, and are fetched again after it.
            return
        if not self.flow_active:
            # As in Faust: what was fetched while the flow was suspended is fetched again from what is committed.
            await self.perform_seek()
            return
        for tp, fetched in records.items():
            if not (self._is_flowing(generation) and self._is_placed):
                return
            if fetched and (tp in active or tp in self._buffered_partitions):
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                yield tp, self._batch(tp, fetched, read_ns)

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _PromptThread(self, loop=self.loop, beacon=self.beacon)

    def _is_flowing(self, generation: int) -> bool:
        """Whether, since the fetch, no rebalance has begun or ended."""
        return bool(self.flow_active and self.app.consumer_generation_id == generation)

    def _batch(self, tp: TP, fetched: Sequence[Any], read_ns: int) -> Message:
        last = fetched[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            0,
            None,
            None,
            Fetched(fetched, self.placing, read_ns),  # type: ignore[arg-type]  # many records are the point
            None,
            None,
            None,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        started_ns = time.time_ns()
        is_done = await super()._commit(offsets)
        if is_done and self.committed is not None:
            self.committed({(tp.topic, tp.partition): offset for tp, offset in offsets.items()}, started_ns)
        return is_done

    def _new_offset(self, tp: TP) -> int | None:
        acknowledged = self._acked[tp]
        if not acknowledged:
            return None
        newest = max(acknowledged)
        acknowledged.clear()
        self._acked_index[tp].clear()
        return int(newest) + 1

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets inside a batch are no gaps."""


class _PromptThread(driver.AIOKafkaConsumerThread):
    """Fetches that find nothing come back soon.

    While the records of busy partitions are worked on, aiokafka asks for the others alone, and before that fetch has
    come back it asks for none. Where the others are empty, which the observations of a platform without models always
    are, the consumer stood still for the 1.5 s that Faust lets a broker wait.
    """

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _EMPTY_FETCH_MS  # noqa: SLF001  # Faust has no setting for it
        return consumer


class BatchTransport(driver.Transport):
    """Makes consumers of batches."""

    Consumer = BatchConsumer


class PassThrough(faust.Schema[Any, Any]):
    """Hands the list of records to the agent as it is: decoding is the pipeline's, in one pass."""

    def loads_key(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:  # noqa: ARG002  # Faust's signature
        """A batch has no key: its records have."""
        return None

    def loads_value(self, app: Any, message: Any, *, loads: Any = None, serializer: Any = None) -> Any:  # noqa: ARG002  # Faust's signature
        """The records, untouched."""
        return message.value
