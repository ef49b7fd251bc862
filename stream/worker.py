"""What a worker does around the pipeline: how it flushes, what it owns, and when it must stop.

The order that keeps every event exactly once:

    absorb → dead letters acknowledged by the broker → states written, each with its offsets → progress written
    → events acknowledged → offsets committed to Kafka (by Faust, some time later)

A crash between any two of these repeats work whose effect is already there, and loses nothing. A store that loses what
it had acknowledged takes the progress back with it: then what is in memory is dropped, and reading begins again there.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from detection.errors import DependencyError, RejectingEverythingError
from detection.subject import Subject
from metrics import Instruments
from state.store import Reached, StateStore, is_owned
from stream.announcing import Announcer
from stream.buffer import CALLS, OBSERVATIONS, Flushed, Load
from stream.peek import Place
from stream.pipeline import Pipeline
from stream.placement import Placement
from stream.progress import GivenUpError, LostWritesError, Progress, reached_after
from stream.relay import HistoryRelay
from stream.trails import Trails
from tracing import span

log = structlog.get_logger()

_PAGE = 1000
# The share of refused records is judged over at least this many.
_JUDGED_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one partition as one poll fetched them, at `read_ns`; `end` is the partition's end offset then."""

    topic: str
    partition: int
    records: Sequence[Any]
    handle: Any
    end: int
    read_ns: int = 0


@dataclass(frozen=True, slots=True)
class _Taken:
    """A batch on its way to the store: what to acknowledge when it is there, and how far its source then is."""

    handle: Any
    place: Place
    reached: Reached


class Worker:
    """One consumer's share of the stream; `acknowledge` is called with each event whose write is done.

    `misplace` makes the consumer ask `place` where to read, before it fetches anything more. `prepare` is awaited
    before it is decided, and postpones it by a DependencyError.
    """

    def __init__(  # noqa: PLR0913  # the one place where all of a worker's parts meet
        self,
        pipeline: Pipeline,
        store: StateStore,
        relay: HistoryRelay,
        announcer: Announcer,
        instruments: Instruments,
        *,
        placement: Placement,
        acknowledge: Callable[[Any], None],
        misplace: Callable[[], None],
        prepare: Callable[[], Awaitable[None]] | None = None,
        trails: Trails | None = None,
        flush_events: int,
        dead_letter_share: float,
    ) -> None:
        self._pipeline = pipeline
        self._store = store
        self._relay = relay
        self._announcer = announcer
        self._instruments = instruments
        self._placement = placement
        self._acknowledge = acknowledge
        self._misplace = misplace
        self._prepare = prepare
        self._trails = Trails() if trails is None else trails
        self._flush_events = flush_events
        self._dead_letter_share = dead_letter_share
        self._progress = Progress(store)
        pipeline.verify_with(self._progress.verify)
        self._partitions: set[Place] = set()
        self._next: dict[Place, int] = {}
        self._waiting: dict[Place, int] = {}
        self._is_placed = False
        # Counts how often partitions went: a decision about them that took longer is void.
        self._assignment = 0
        self._is_abandoned = False
        self._written = Load()
        # One flush, tick or placement at a time: a position is never decided under a write that follows on another one.
        self._writing = asyncio.Lock()
        self._judged: deque[tuple[int, int]] = deque()
        self._beside: asyncio.Task[None] | None = None
        self.absorbed_batches = 0
        self.written_batches = 0
        # Since when, by the monotonic clock, something is in memory that is not being written.
        self.held_since = 0.0
        instruments.buffered_events.set_function(lambda: self.in_memory)

    @property
    def in_memory(self) -> int:
        """Events absorbed whose write is not done, those being written among them."""
        return self._pipeline.load.events + self._written.events

    @property
    def waiting(self) -> int:
        """Records that waited in the broker when their partitions were last read; those not yet read are not known."""
        return sum(self._waiting.values())

    @property
    def is_writing(self) -> bool:
        """Whether a write, or the decision where to read, is under way: slow perhaps, but no standstill."""
        return self._writing.locked()

    @property
    def is_busy(self) -> bool:
        """Whether there is anything in memory or being written."""
        return bool(self.in_memory) or self.is_writing

    @property
    def is_placed(self) -> bool:
        """Whether it is decided where to read, and so reading."""
        return self._is_placed

    @property
    def has_more_to_close(self) -> bool:
        """Whether another tick would find something to do at once."""
        return self._is_placed and not self._is_abandoned and self._pipeline.has_more_to_close

    @property
    def partitions(self) -> frozenset[Place]:
        """What this worker reads."""
        return frozenset(self._partitions)

    async def place(self, committed: Mapping[Place, int | None]) -> dict[Place, int]:
        """These partitions are this worker's now: where to read each, once the store answers.

        Raises LogRecreatedError. What was absorbed and not written before is read again.
        """
        positions: dict[Place, int] = {}
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(DependencyError),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            before_sleep=_say_what_is_away("placement.postponed"),
        ):
            with attempt:
                async with self._writing:
                    positions = await self._place(committed)
        return positions

    async def _place(self, committed: Mapping[Place, int | None]) -> dict[Place, int]:
        self._doubt()
        if self._prepare is not None:
            await self._prepare()
        self._pipeline.lives = {topic: one.life for topic, one in (await self._store.log_lives()).items()}
        assignment = self._assignment
        placed = await self._placement.place(committed)
        if assignment != self._assignment:
            raise GivenUpError("the partitions went while it was decided where to read them")
        self._progress.begin(placed.known)
        self._partitions = set(committed)
        self._next = dict(placed.positions)
        self._is_placed = True
        log.info("placed", partitions=len(self._partitions))
        return placed.positions

    def _doubt(self) -> None:
        """Drop what is in memory, and know nothing of where it lies."""
        self._is_placed = False
        self._progress.doubt()
        self._progress.begin({})
        self._next, self._waiting = {}, {}
        self._pipeline.forget()
        self._trails.forget()
        self._pipeline.release(sorted(self._partitions))

    async def absorb(self, batch: Batch, *, is_current: Callable[[], bool]) -> None:
        """Take one batch; returns late while a full buffer is being written, which is what holds the consumer back."""
        if not is_current():
            return
        topic, partition, records = batch.topic, batch.partition, batch.records
        place = (topic, partition)
        if records[0].offset < self._next.get(place, 0):
            # Nobody asked for that: the consumer was set back by the broker, for which a topic made anew is one reason.
            log.warning("consumer.went_back", topic=topic, partition=partition, offset=records[0].offset)
            self._begin_again()
            return
        if batch.end < self._next.get(place, 0):
            raise await self._placement.recreated(
                place, f"ends at offset {batch.end}, but was already read up to {self._next[place]}"
            )
        self._next[place] = records[-1].offset + 1
        waiting = self._waiting[place] = max(batch.end - self._next[place], 0)
        self.absorbed_batches += 1
        if not self._pipeline.load.events:
            self.held_since = time.monotonic()
        take = self._pipeline.absorb_observations if topic == OBSERVATIONS else self._pipeline.absorb_calls
        with self._trails.batch(batch) as trail:
            taken, refused = take(topic, partition, records, _Taken(batch.handle, place, reached_after(records[-1])))
            if trail is not None:
                trail.set({"tidemark.taken": taken, "tidemark.dead": refused})
        self._instruments.consumer_lag.labels(topic, partition).set(waiting)
        self._judge(taken, refused)
        weight = self._pipeline.load.weight
        if weight + self._written.weight >= self._flush_events:
            await self.flush()
        elif 2 * weight >= self._flush_events and not self._writing.locked():
            self._flush_beside()

    def _flush_beside(self) -> None:
        """Begin to write while the next batches are decoded."""
        task = asyncio.create_task(self.flush())
        # What fails is still in memory: the next flush, which somebody waits for, fails for the same reason.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._beside = task

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
        async with self._writing:
            started = time.perf_counter()
            try:
                with self._trails.write():
                    flushed = await self._write()
                    await self._advance(flushed)
                    for taken in flushed.handles:
                        self._acknowledge(taken.handle)
                    self._trails.written(flushed, {taken.place: taken.reached.offset for taken in flushed.handles})
            except LostWritesError as error:
                self._lose(error)
                return
            except GivenUpError as error:
                log.warning("flush.given_up", reason=str(error))
                return
        self._relay.add(flushed.learned)
        self._announcer.add(flushed.news)
        self.written_batches += len(flushed.handles)
        if flushed.handles:
            self._count(flushed, time.perf_counter() - started)

    async def _write(self) -> Flushed:
        flushed = Flushed()
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(DependencyError),
                wait=wait_random_exponential(multiplier=0.1, max=5),
                before_sleep=_say_what_is_away("flush.postponed"),
            ):
                with attempt:
                    if attempt.retry_state.attempt_number > 1:
                        self._trails.try_again()
                    self._progress.start_flush()
                    # The pipeline takes them out of its buffer, and puts them back when it could not write.
                    self._written = self._pipeline.load
                    try:
                        flushed = await self._pipeline.flush()
                    finally:
                        self._written = Load()
        finally:
            self._written = Load()
        return flushed

    async def _advance(self, flushed: Flushed) -> None:
        """Say in the store what is written, and hear from it whether all that was written before still is."""
        reached: dict[str, Reached] = {}
        for taken in flushed.handles:
            reached[self._pipeline.source(*taken.place)] = taken.reached
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(DependencyError),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            before_sleep=_say_what_is_away("progress.postponed"),
        ):
            with attempt, span("progress", sources=len(reached)):
                await self._progress.advance(reached)

    def _lose(self, error: LostWritesError) -> None:
        log.error("store.lost_writes", reason=str(error))
        self._instruments.store_losses.inc()
        self._begin_again()

    def _begin_again(self) -> None:
        """Drop what is in memory, and read again from where the store is."""
        self._doubt()
        self._misplace()

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
        if not self._is_placed or self._is_abandoned:
            return
        async with self._writing:
            started_ns = time.time_ns()
            self._progress.start_flush()
            try:
                closed = await self._pipeline.tick(self._places())
                self._relay.add(closed.learned)
                self._announcer.add(closed.news)
                self._instruments.windows_learned.inc(closed.learned_windows)
                self._instruments.windows_closed.inc(closed.closed_windows)
                self._trails.ticked(started_ns, closed)
            except DependencyError as error:
                log.warning("tick.postponed", dependency=error.dependency, reason=error.reason)
            except LostWritesError as error:
                self._lose(error)
            except GivenUpError as error:
                log.warning("tick.given_up", reason=str(error))

    async def carry_history(self) -> None:
        """Carry learned windows to the history; what is away is waited for by the next call."""
        try:
            await self._relay.drain()
        except DependencyError as error:
            log.warning("history.postponed", dependency=error.dependency, reason=error.reason)
        self._instruments.history_pending.set(self._relay.pending)

    async def announce(self) -> None:
        """Tell what was published, and which alerts went up or down; what is away is waited for by the next call."""
        try:
            await self._announcer.drain()
        except DependencyError as error:
            log.warning("announcing.postponed", dependency=error.dependency, reason=error.reason)
        self._instruments.announcements_pending.set(self._announcer.pending)

    async def release(self, partitions: Sequence[Place], *, within_seconds: float) -> None:
        """Write what is still in memory before the partitions go; what cannot be written in time is read again."""
        try:
            async with asyncio.timeout(within_seconds):
                await self.flush()
        except TimeoutError:
            log.warning("release.unwritten", events=self.in_memory)
            self._doubt()
        if partitions:
            self._assignment += 1
            self._doubt()
            self._partitions.difference_update(partitions)
            for topic, partition in partitions:
                # Whoever reads it now says how far behind it is.
                self._instruments.consumer_lag.remove(topic, str(partition))

    def rest(self) -> None:
        """Nothing is assigned to this worker, so nothing has to be decided."""
        self._assignment += 1
        self._partitions.clear()
        self._is_placed = True

    def abandon(self) -> None:
        """Write and acknowledge nothing more: what is in memory may be what the worker stops for."""
        self._pipeline.forget()
        self._is_abandoned = True

    async def find_unrelayed(self, among: Sequence[Subject] | None = None) -> None:
        """Find, among these or all subjects, those of this worker's partitions with something in their outbox."""
        if among is not None:
            for start in range(0, len(among), _PAGE):
                await self._find_unrelayed(among[start : start + _PAGE])
            return
        after = ""
        while page := await self._store.subjects(after=after, limit=_PAGE):
            after = str(page[-1])
            await self._find_unrelayed(page)
        log.info("recovered", partitions=len(self._partitions), unrelayed_subjects=self._relay.pending)

    async def _find_unrelayed(self, subjects: Sequence[Subject]) -> None:
        places = self._places()
        # Few of them have anything to tell, and a worker that starts asks about all there are.
        heads = await self._store.heads(await self._store.unrelayed(subjects))
        waiting = [head.subject for head in heads if head.unrelayed and is_owned(head, places)]
        self._relay.add(waiting)
        self._announcer.add(waiting)


def _say_what_is_away(event: str) -> Callable[[RetryCallState], None]:
    def say(attempt: RetryCallState) -> None:
        error = attempt.outcome.exception() if attempt.outcome else None
        log.warning(event, attempt=attempt.attempt_number, reason=str(error))

    return say
