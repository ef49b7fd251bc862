"""What a worker does around the pipeline: when it flushes, what it owns, and when it must stop.

The order that keeps every event exactly once:

    absorb → dead letters acknowledged by the broker → states written, each with its offsets → events acknowledged
    → offsets committed to Kafka (by Faust, some time later)

A crash between any two of these repeats work whose effect is already there, and loses nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from detection.errors import DependencyError, LogRecreatedError, RejectingEverythingError
from metrics import Instruments
from state.store import StateStore
from stream.buffer import CALLS, OBSERVATIONS, Flushed
from stream.pipeline import Pipeline, is_owned
from stream.relay import HistoryRelay

log = structlog.get_logger()

_PAGE = 1000
# The share of refused records is judged over at least this many.
_JUDGED_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition as one poll fetched them; `end` is the partition's end offset at that time."""

    topic: str
    partition: int
    records: Sequence[Any]
    handle: Any
    end: int


class Worker:
    """One consumer's share of the stream; `acknowledge` is called with each event whose write is done."""

    def __init__(
        self,
        pipeline: Pipeline,
        store: StateStore,
        relay: HistoryRelay,
        instruments: Instruments,
        *,
        acknowledge: Callable[[Any], None],
        flush_events: int,
        dead_letter_share: float,
    ) -> None:
        self._pipeline = pipeline
        self._store = store
        self._relay = relay
        self._instruments = instruments
        self._acknowledge = acknowledge
        self._flush_events = flush_events
        self._dead_letter_share = dead_letter_share
        self._partitions: set[tuple[str, int]] = set()
        self._is_abandoned = False
        self._reached: dict[str, int] = {}
        self._recovered = asyncio.Event()
        self._judged: deque[tuple[int, int]] = deque()

    async def absorb(self, batch: Batch, *, is_current: Callable[[], bool]) -> None:
        """Take one batch; returns late while a full buffer is being written, which is what holds the consumer back."""
        await self._recovered.wait()
        # Waiting may have outlived a rebalance, after which the consumer begins again at what is committed. Taking the
        # old batch now would make the offsets before it look as if they had been seen.
        if not is_current():
            return
        topic, partition, records = batch.topic, batch.partition, batch.records
        self._check_log(topic, partition, batch.end)
        take = self._pipeline.absorb_observations if topic == OBSERVATIONS else self._pipeline.absorb_calls
        taken, refused = take(topic, partition, records, batch.handle)
        self._instruments.consumer_lag.labels(topic, partition).set(max(batch.end - records[-1].offset - 1, 0))
        self._judge(taken, refused)
        if self._pipeline.buffered >= self._flush_events:
            await self.flush()

    def _check_log(self, topic: str, partition: int, end: int) -> None:
        """A topic that was deleted and made anew begins at 0 again: its events would all pass for replayed ones."""
        source = self._pipeline.source(topic, partition)
        reached = max(self._reached.get(source, 0), self._pipeline.absorbed(source))
        if end < reached:
            raise LogRecreatedError(
                f"{topic}/{partition} ends at offset {end}, but was already read up to {reached}: the topic was made "
                "anew. Stop the workers, set TIDEMARK_KAFKA_LOG_ID to a new name, and start them"
            )

    def _judge(self, taken: int, refused: int) -> None:
        self._judged.append((taken + refused, refused))
        total = sum(count for count, _ in self._judged)
        while len(self._judged) > 1 and total - self._judged[0][0] >= _JUDGED_RECORDS:
            total -= self._judged.popleft()[0]
        dead = sum(bad for _, bad in self._judged)
        if total >= _JUDGED_RECORDS and dead > self._dead_letter_share * total:
            raise RejectingEverythingError(
                f"{dead} of the last {total} records were refused, more than {self._dead_letter_share:.0%}: a bad "
                "deploy upstream or here. The topic `dead-letters` has the first of them, each with its reason"
            )

    def _places(self) -> set[str]:
        return {f"{topic}/{partition}" for topic, partition in self._partitions}

    async def flush(self) -> None:
        """Write what was absorbed, waiting for a store that is away, then acknowledge it."""
        if self._is_abandoned:
            return
        started = time.perf_counter()
        flushed = Flushed()
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(DependencyError),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            before_sleep=_say_what_is_away,
        ):
            with attempt:
                flushed = await self._pipeline.flush()
        for handle in flushed.handles:
            self._acknowledge(handle)
        self._relay.add(flushed.learned)
        if flushed.handles:
            self._count(flushed, time.perf_counter() - started)

    def _count(self, flushed: Flushed, seconds: float) -> None:
        instruments = self._instruments
        for (topic, result), count in flushed.events.items():
            instruments.events.labels(topic, result).inc(count)
        for topic, count in flushed.corrections.items():
            instruments.corrections.labels(topic).inc(count)
        instruments.windows_learned.inc(flushed.learned_windows)
        instruments.windows_closed.inc(flushed.closed_windows)
        instruments.write_conflicts.inc(flushed.conflicts)
        instruments.flush_seconds.observe(seconds)
        instruments.flush_subjects.observe(flushed.subjects)
        for topic in (CALLS, OBSERVATIONS):
            instruments.dead_letters.labels("invalid").inc(flushed.events[topic, "dead"])
            instruments.dead_letters.labels("late").inc(flushed.events[topic, "late"])

    async def tick(self) -> None:
        """Publish what the clock has closed for silent subjects; what is away is waited for by the next tick."""
        if not self._recovered.is_set():
            return
        try:
            await self._pipeline.tick(self._places())
        except DependencyError as error:
            log.warning("tick.postponed", dependency=error.dependency, reason=error.reason)

    async def carry_history(self) -> None:
        """Carry learned windows to the history; what is away is waited for by the next call."""
        try:
            await self._relay.drain()
        except DependencyError as error:
            log.warning("history.postponed", dependency=error.dependency, reason=error.reason)
        self._instruments.history_pending.set(self._relay.pending)

    async def release(self, partitions: Sequence[tuple[str, int]], *, within_seconds: float) -> None:
        """Write what is still in memory before the partitions go; what cannot be written in time is read again."""
        try:
            async with asyncio.timeout(within_seconds):
                await self.flush()
        except TimeoutError:
            log.warning("release.unwritten", events=self._pipeline.buffered)
            self._pipeline.forget()
        self._pipeline.release(partitions)
        self._partitions.difference_update(partitions)

    def abandon(self) -> None:
        """Write and acknowledge nothing more: what is in memory may be what the worker stops for."""
        self._pipeline.forget()
        self._is_abandoned = True

    def assign(self, partitions: Sequence[tuple[str, int]]) -> None:
        """These partitions are this worker's now; nothing is absorbed before `recover` has looked at their subjects."""
        self._recovered.clear()
        self._pipeline.release(partitions)
        self._partitions = set(partitions)

    async def recover(self) -> None:
        """Find, among all subjects, those of the assigned partitions that have windows the history lacks."""
        reached: dict[str, int] = {}
        places = self._places()
        after = ""
        while page := await self._store.subjects(after=after, limit=_PAGE):
            after = str(page[-1])
            for head in await self._store.heads(page):
                for source, offset in head.offsets.items():
                    reached[source] = max(reached.get(source, 0), offset)
                if head.unrelayed and is_owned(head, places):
                    self._relay.add([head.subject])
        self._reached = reached
        self._recovered.set()
        log.info("recovered", partitions=len(self._partitions), unrelayed_subjects=self._relay.pending)


def _say_what_is_away(attempt: RetryCallState) -> None:
    error = attempt.outcome.exception() if attempt.outcome else None
    log.warning("flush.postponed", attempt=attempt.attempt_number, reason=str(error))
