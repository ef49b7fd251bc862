"""From batches of records to one atomic write per subject: absorb, flush, tick.

    absorb   decode a batch and keep its columns                       (no waiting, nothing is written)
    flush    load → aggregate → learn → publish → compare-and-set      (then, and only then, offsets may be committed)
    tick     publish for silent subjects what the clock has closed

The events of a flush stay in memory, with their offsets, until every subject's write has succeeded. A subject whose
write is refused was written by somebody else: it is loaded again, what it already has of these events is left out by
offset, and the rest is applied again. So a repeated record, a second owner and a lost reply all end in the same state.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import structlog

from detection.errors import ConflictError
from detection.hours import HOUR_MS
from detection.policy import PUBLISHED_SILENCE_HOURS, Policy
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import size
from state.store import Head, StateStore
from stream.aggregation import Calls, aggregate, aggregate_observations
from stream.buffer import CALLS, Buffer, Flushed, Step
from stream.dead_letters import DeadLetter, of_crowded, of_late_calls, of_late_observations, of_rejected
from stream.decoding import ObservedAt, Record, decode_calls, decode_observations

log = structlog.get_logger()

# Identities kept by number; all are forgotten, between two flushes, before a flood of invented ids fills the memory.
_KNOWN_SUBJECTS = 1_000_000
_ATTEMPTS = 50
_FIRST_PLACE = f"{CALLS}/0"
_PAGE = 1000

SendDeadLetters = Callable[[Sequence[DeadLetter]], Awaitable[None]]
ClockMs = Callable[[], int] | None


@dataclass(frozen=True, slots=True)
class _Fold:
    """What the events of a flush come to, before anything of it is written."""

    arrivals: dict[Subject, Arrivals]
    steps: dict[Subject, Step]
    letters: list[DeadLetter]
    crowded: list[Subject]


class Pipeline:
    """Owns the events between Kafka and the store; knows neither Faust nor Redis.

    `wall_ms` is the clock that closes silent subjects' windows; None lets the newest event of the stream close them.
    """

    def __init__(
        self,
        store: StateStore,
        policy: Policy,
        *,
        log_id: str,
        future_ms: int,
        send_dead_letters: SendDeadLetters,
        wall_ms: ClockMs = None,
        cached_subjects: int = 5000,
    ) -> None:
        self._store = store
        self._policy = policy
        self._log_id = log_id
        self._future_ms = future_ms
        self._send_dead_letters = send_dead_letters
        self._wall_ms = wall_ms
        self._cached_subjects = cached_subjects
        self._buffer = Buffer()
        self._absorbed: dict[str, int] = {}
        self._sources: list[str] = []
        self._subjects: list[Subject] = []
        self._codes: dict[str, int] = {}
        self._cache: OrderedDict[Subject, SubjectState] = OrderedDict()
        self._flushing = asyncio.Lock()
        self._newest_ms = -1
        self._ticked_hour = -1

    def source(self, topic: str, partition: int) -> str:
        """How stored offsets name the partition of a topic of this log."""
        return f"{self._log_id}/{topic}/{partition}"

    @property
    def buffered(self) -> int:
        """Events absorbed and not yet written."""
        return self._buffer.events

    def absorbed(self, source: str) -> int:
        """The offset after the last record taken from the source since it was assigned, 0 before the first."""
        return max(self._absorbed.get(source, 0), 0)

    def absorb_calls(self, topic: str, partition: int, records: Sequence[Record], handle: Any) -> tuple[int, int]:
        """Take a batch of call records; how many records were taken and how many refused. Nothing is written yet."""
        source = self.source(topic, partition)
        records = self._unseen(source, records)
        columns, rejected = decode_calls(records, future_ms=self._future_ms)
        buffer = self._buffer
        buffer.dead_letters += [of_rejected(topic, partition, one) for one in rejected]
        buffer.flushed.events[topic, "dead"] += len(rejected)
        if columns.biller_ids:
            buffer.parts.append((self._source_code(source), columns))
            buffer.events += len(columns.biller_ids)
        buffer.flushed.handles.append(handle)
        return len(records) - len(rejected), len(rejected)

    def absorb_observations(
        self, topic: str, partition: int, records: Sequence[Record], handle: Any
    ) -> tuple[int, int]:
        """As `absorb_calls`, for observation records."""
        source = self.source(topic, partition)
        records = self._unseen(source, records)
        observed, rejected = decode_observations(records, future_ms=self._future_ms)
        buffer = self._buffer
        buffer.dead_letters += [of_rejected(topic, partition, one) for one in rejected]
        buffer.flushed.events[topic, "dead"] += len(rejected)
        buffer.observed += [(source, one) for one in observed]
        buffer.events += len(observed)
        buffer.flushed.handles.append(handle)
        return len(observed), len(rejected)

    def _unseen(self, source: str, records: Sequence[Record]) -> Sequence[Record]:
        """Without what a rebalance made the consumer fetch a second time while the first is still in memory."""
        reached = self._absorbed.get(source, -1)
        if records and records[0].offset < reached:
            fetched = len(records)
            records = [record for record in records if record.offset >= reached]
            self._buffer.flushed.refetched[source.split("/")[1]] += fetched - len(records)
        if records:
            self._absorbed[source] = records[-1].offset + 1
        return records

    def release(self, partitions: Sequence[tuple[str, int]]) -> None:
        """These partitions are another worker's now: what was fetched of them says nothing of what comes next."""
        for topic, partition in partitions:
            self._absorbed.pop(self.source(topic, partition), None)
        # Their subjects may be written by somebody else from now on; a compare-and-set would find out, but later.
        self._cache.clear()
        # What this worker gets instead may have silent subjects that nobody has published for.
        self._ticked_hour = -1

    def forget(self) -> None:
        """Drop what is in memory: its partitions go before it could be written, and their next owner reads it again."""
        self._buffer = Buffer(life=self._buffer.life + 1)

    async def flush(self) -> Flushed:
        """Write what was absorbed; raises DependencyError, with everything still in memory, when the store is away."""
        async with self._flushing:
            buffer, self._buffer = self._buffer, Buffer(life=self._buffer.life)
            try:
                await self._write(buffer)
            except BaseException:
                self._cache.clear()
                self._restore(buffer)
                raise
            if len(self._subjects) > _KNOWN_SUBJECTS and not self._buffer.parts:
                self._subjects, self._codes = [], {}
            return buffer.flushed

    def _restore(self, buffer: Buffer) -> None:
        newer = self._buffer
        if buffer.life != newer.life:
            # Forgotten while it was being written: the partitions' next owner reads it again, and it may be us.
            return
        buffer.add(newer)
        self._buffer = buffer

    async def _write(self, buffer: Buffer) -> None:
        flushed = buffer.flushed
        flushed.crowded = 0
        if buffer.dead_letters:
            await self._send_dead_letters(buffer.dead_letters)
            buffer.dead_letters = []
        calls = self._calls(buffer)
        observed = buffer.observed
        clock_ms = await self._advance(calls, observed)
        refused: set[Subject] = set()
        n_calls = len(calls.offset)
        for _ in range(_ATTEMPTS):
            refused = await self._attempt(calls, observed, clock_ms, flushed)
            if not refused:
                flushed.count_replayed(n_calls, len(buffer.observed))
                return
            flushed.conflicts += len(refused)
            keep = np.array([subject in refused for subject in calls.subjects], np.bool_)
            calls = calls.of(keep[calls.subject]) if len(keep) else calls
            observed = [(source, one) for source, one in observed if one.observed.subject in refused]
        raise ConflictError(f"{len(refused)} subjects were written by others {_ATTEMPTS} times in a row: {refused}")

    async def _advance(self, calls: Calls, observed: Sequence[tuple[str, ObservedAt]]) -> int:
        """What the clock shows, with the events of this flush."""
        if len(calls.timestamp_ms):
            self._newest_ms = max(self._newest_ms, int(calls.timestamp_ms.max()))
        for _, one in observed:
            self._newest_ms = max(self._newest_ms, one.observed.timestamp_ms)
        return await self._clock_ms()

    async def _clock_ms(self) -> int:
        reached = await self._store.advance_clock(self._newest_ms)
        return reached if self._wall_ms is None else self._wall_ms()

    async def _attempt(
        self,
        calls: Calls,
        observed: Sequence[tuple[str, ObservedAt]],
        clock_ms: int,
        flushed: Flushed,
    ) -> set[Subject]:
        """One try for all subjects of these events; those that somebody else has written meanwhile."""
        subjects = [calls.subjects[code] for code in np.unique(calls.subject).tolist()]
        subjects += dict.fromkeys(one.observed.subject for _, one in observed)
        if not subjects:
            return set()
        states = await self._take(subjects)
        # In a thread, so that heartbeats and batches go on while a long replay is folded.
        fold = await asyncio.to_thread(self._fold, calls, observed, states, clock_ms)
        if fold.letters:
            await self._send_dead_letters(fold.letters)
        steps, arrivals = fold.steps, fold.arrivals
        refused = set(await self._store.save([step.state for step in steps.values()]))
        for subject, step in steps.items():
            if subject not in refused:
                self._keep(step.state)
                flushed.add(step, arrivals[subject])
        flushed.crowded += sum(subject not in refused for subject in fold.crowded)
        return refused

    def _fold(
        self,
        calls: Calls,
        observed: Sequence[tuple[str, ObservedAt]],
        states: dict[Subject, SubjectState],
        clock_ms: int,
    ) -> _Fold:
        """Everything of a flush that is computed and not waited for."""
        counted = aggregate(calls, states, self._policy)
        gauged = aggregate_observations(observed, states, self._policy)
        arrivals = {**counted.arrivals, **gauged.arrivals}
        return _Fold(
            arrivals=arrivals,
            steps={subject: self._step(subject, states, one, clock_ms) for subject, one in arrivals.items()},
            letters=of_late_calls(counted.late) + of_late_observations(gauged.late) + of_crowded(gauged.crowded),
            crowded=[one.observed.subject for one in gauged.crowded],
        )

    def _step(self, subject: Subject, states: dict[Subject, SubjectState], arrived: Arrivals, clock_ms: int) -> Step:
        state = states.get(subject) or SubjectState(subject)
        published_before = state.published_hour
        corrections = sum(size(one) for hour, one in arrived.windows.items() if hour < published_before)
        state.absorb(arrived)
        state.learn(self._policy)
        state.publish(clock_ms, self._policy)
        closed = sum(published_before <= hour < state.published_hour for hour in (*state.learned, *state.windows))
        return Step(state, corrections, closed, len(state.learned))

    async def _take(self, subjects: Sequence[Subject]) -> dict[Subject, SubjectState]:
        """The subjects' states, out of the cache: they go back when they are written."""
        states = {}
        missing = []
        for subject in subjects:
            state = self._cache.pop(subject, None)
            if state is None:
                missing.append(subject)
            else:
                states[subject] = state
        for at in range(0, len(missing), _PAGE):
            states.update(await self._store.load(missing[at : at + _PAGE]))
        return states

    def _keep(self, state: SubjectState) -> None:
        self._cache[state.subject] = state
        if len(self._cache) > self._cached_subjects:
            self._cache.popitem(last=False)

    def _calls(self, buffer: Buffer) -> Calls:
        codes = self._codes
        parts = buffer.parts
        subject: list[int] = []
        for _, columns in parts:
            try:
                subject += [codes[one] for one in columns.biller_ids]
            except KeyError:
                subject += [self._code(one) for one in columns.biller_ids]
        empty = np.empty(0, np.int64)
        return Calls(
            subjects=self._subjects,
            sources=self._sources,
            subject=np.array(subject, np.int64),
            source=np.concatenate(
                [empty, *(np.full(len(columns.biller_ids), code, np.int64) for code, columns in parts)]
            ),
            timestamp_ms=np.concatenate([empty, *(columns.timestamp_ms for _, columns in parts)]),
            latency_us=np.concatenate([empty, *(columns.latency_us for _, columns in parts)]),
            outcome=np.concatenate([empty, *(columns.outcome for _, columns in parts)]),
            offset=np.concatenate([empty, *(columns.offset for _, columns in parts)]),
        )

    def _code(self, biller_id: str) -> int:
        code = self._codes.get(biller_id)
        if code is None:
            code = self._codes[biller_id] = len(self._subjects)
            self._subjects.append(Subject.biller(biller_id))
        return code

    def _source_code(self, source: str) -> int:
        if source not in self._sources:
            self._sources.append(source)
        return self._sources.index(source)

    async def tick(self, places: set[str]) -> int:
        """Publish what the clock has closed for the silent subjects of these places; how many.

        A place is a topic's partition, `calls/3`: a subject belongs to the worker that owns one its events came from,
        in whichever life of the log. One that was only trained belongs to whoever owns the first partition of calls.
        """
        async with self._flushing:
            clock_ms = await self._clock_ms()
            hour = self._policy.closed_before(clock_ms)
            if hour <= self._ticked_hour:
                return 0
            published = 0
            after = ""
            while page := await self._store.subjects(after=after, limit=_PAGE):
                after = str(page[-1])
                behind = [
                    head.subject
                    for head in await self._store.heads(page)
                    if is_owned(head, places) and _is_behind(head, hour)
                ]
                published += await self._publish(behind, clock_ms)
            self._ticked_hour = hour
            return published

    async def _publish(self, subjects: Sequence[Subject], clock_ms: int) -> int:
        published = 0
        for _ in range(_ATTEMPTS):
            if not subjects:
                break
            try:
                states = list((await self._take(subjects)).values())
                changed = [state for state in states if state.publish(clock_ms, self._policy)]
                refused = set(await self._store.save(changed))
            except BaseException:
                self._cache.clear()
                raise
            for state in states:
                if state.subject not in refused:
                    self._keep(state)
            published += len(changed) - len(refused)
            # Trained meanwhile, or written by the owner of another of its partitions: once more on top of that.
            subjects = sorted(refused)
        return published


def is_owned(head: Head, places: set[str]) -> bool:
    """Whether the subject's events come from one of these places."""
    if not head.offsets:
        return _FIRST_PLACE in places
    return any(place_of(source) in places for source in head.offsets)


def place_of(source: str) -> str:
    """Topic and partition of a source, whatever its log was called: `calls/3` of `kafka/calls/3`."""
    return source.partition("/")[2]


def _is_behind(head: Head, hour: int) -> bool:
    if head.watermark_ms < 0:
        # Only trained: its model knows until when it is published, and it is not read for that.
        return head.published_hour < hour
    return head.published_hour < min(hour, head.watermark_ms // HOUR_MS + PUBLISHED_SILENCE_HOURS)
