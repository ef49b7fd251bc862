"""From batches of records to one atomic write per subject: absorb, flush, tick.

    absorb   decode a batch and keep its columns                       (no waiting, nothing is written)
    flush    load → aggregate → close what is due → compare-and-set    (then, and only then, offsets may be committed)
    tick     close what a flush left, and what the clock alone closes  (`stream.closing`)

The events of a flush stay in memory, with their offsets, until every subject's write has succeeded. A subject whose
write is refused was written by somebody else: it is loaded again, what it already has of these events is left out by
offset, and the rest is applied again. So a repeated record, a second owner and a lost reply all end in the same state.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from detection.errors import ConflictError
from detection.events import NEWEST_MS
from detection.policy import Policy
from detection.rules.watch import WithoutRules
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from state.counted_texts import absorb_counted
from state.sources import source_of
from state.store import StateStore
from stream.aggregation import Calls, aggregate, aggregate_observations
from stream.buffer import Buffer, Flushed, Load, Step
from stream.closing import Closing
from stream.dead_letters import DeadLetter, of_crowded, of_late_calls, of_late_observations, of_rejected
from stream.decoding import ObservedAt, Record, decode_calls, decode_observations
from stream.judging import Judging
from stream.parts import each_part
from stream.silence import Silence
from stream.states import States
from tracing import span

log = structlog.get_logger()

_ATTEMPTS = 50
# What is loaded and counted at a time: it bounds the memory of a flush, however much has come in. A backlog of many
# billers is best written in few flushes, since each of them writes each biller once.
_SLICE_SUBJECTS = 5_000
_SLICE_CALLS = 500_000
_SLICES_AT_ONCE = 2
# Subjects of one write, and writes at a time: while the store works on one, the next is computed.
_PART = 1000
_PARTS_AT_ONCE = 2
# Subjects that one flush closes in passing. More than that are due at the top of an hour: they wait for the ticks.
_CLOSED_IN_PASSING = 2000
# But not for ever: what has so many windows open is closed at once, or a fast replay would pile them up.
_MOST_WINDOWS = 8

SendDeadLetters = Callable[[Sequence[DeadLetter]], Awaitable[None]]
ClockMs = Callable[[], int] | None


@dataclass(frozen=True, slots=True)
class _Counted:
    """What the events of a flush come to, before anything of it is written."""

    arrivals: dict[Subject, Arrivals]
    letters: list[DeadLetter]
    crowded: list[Subject]


@dataclass(slots=True)
class _Passing:
    """What a flush may close in passing, by what the clock shows it."""

    clock_ms: int
    left: int = _CLOSED_IN_PASSING

    def choose(self, due: Sequence[SubjectState]) -> list[SubjectState]:
        """Those of the due that are closed now."""
        chosen = [state for at, state in enumerate(due) if at < self.left or len(state.windows) >= _MOST_WINDOWS]
        self.left -= len(chosen)
        return chosen


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
        judging: Judging | None = None,
        wall_ms: ClockMs = None,
        cached_subjects: int = 5000,
    ) -> None:
        self._store = store
        self._policy = policy
        self._log_id = log_id
        self._future_ms = future_ms
        self._send_dead_letters = send_dead_letters
        self._wall_ms = wall_ms
        self._buffer = Buffer()
        self._absorbed: dict[str, int] = {}
        self._states = States(store, policy, limit=cached_subjects)
        self._judging = Judging(WithoutRules(), policy) if judging is None else judging
        self._closing = Closing(store, self._states, policy, self._judging)
        self._silence = Silence(self._states, self._judging)
        self._newest_of_source: dict[str, int] = {}
        # How often each topic was made anew: the owner of the pipeline says so.
        self.lives: Mapping[str, int] = {}
        self._flushing = asyncio.Lock()
        self._newest_ms = -1

    def verify_with(self, verify: Callable[[], Awaitable[None]]) -> None:
        """Await this after each load; what it raises keeps what was loaded from being written back."""
        self._states.verify = verify

    def source(self, topic: str, partition: int) -> str:
        """How stored offsets name the partition of a topic, in the life of the log that is read now."""
        return source_of(self._log_id, topic, partition, life=self.lives.get(topic, 0))

    @property
    def load(self) -> Load:
        """What was absorbed and is not yet being written."""
        return self._buffer.load

    def absorbed(self, source: str) -> int:
        """The offset after the last record taken from the source since it was assigned, 0 before the first."""
        return max(self._absorbed.get(source, 0), 0)

    def absorb_calls(self, topic: str, partition: int, records: Sequence[Record], handle: Any) -> tuple[int, int]:
        """Take a batch of call records; how many records were taken and how many refused. Nothing is written yet."""
        source = self.source(topic, partition)
        records = self._unseen(source, records)
        with span("decode", records=len(records)):
            columns, rejected = decode_calls(records, future_ms=self._future_ms)
        buffer = self._buffer
        buffer.dead_letters += [of_rejected(topic, partition, one) for one in rejected]
        buffer.flushed.events[topic, "dead"] += len(rejected)
        if len(columns):
            buffer.calls.hold(source, columns)
        buffer.flushed.handles.append(handle)
        return len(records) - len(rejected), len(rejected)

    def absorb_observations(
        self, topic: str, partition: int, records: Sequence[Record], handle: Any
    ) -> tuple[int, int]:
        """As `absorb_calls`, for observation records."""
        source = self.source(topic, partition)
        records = self._unseen(source, records)
        with span("decode", records=len(records)):
            observed, rejected = decode_observations(records, future_ms=self._future_ms)
        buffer = self._buffer
        buffer.dead_letters += [of_rejected(topic, partition, one) for one in rejected]
        buffer.flushed.events[topic, "dead"] += len(rejected)
        buffer.observed += [(source, one) for one in observed]
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
            self._newest_of_source.pop(self.source(topic, partition), None)
        # Their subjects may be written by somebody else from now on; a compare-and-set would find out, but later.
        self._states.clear()
        # What this worker gets instead may have silent subjects that nobody has published for.
        self._closing.forget()

    def forget(self) -> None:
        """Drop what is in memory: its partitions go before it could be written, and their next owner reads it again."""
        self._buffer = Buffer(life=self._buffer.life + 1)

    async def flush(self) -> Flushed:
        """Write what was absorbed; raises DependencyError, with everything still in memory, when the store is away."""
        async with self._flushing:
            buffer, self._buffer = self._buffer, self._buffer.successor()
            before = self._reach(buffer)
            try:
                await self._write(buffer)
            except BaseException:
                # Sources that became somebody else's meanwhile stay so.
                self._newest_of_source = {
                    source: ms for source, ms in before.items() if source in self._newest_of_source
                }
                self._states.clear()
                self._restore(buffer)
                raise
            return buffer.flushed

    def _reach(self, buffer: Buffer) -> dict[str, int]:
        """Move the clocks of the sources on to what is about to be written; returns what they were.

        Not when it is read: by the time of a backlog that is in memory, all of its billers would have been silent.
        """
        before = dict(self._newest_of_source)
        for source, newest in buffer.calls.newest_ms().items():
            self._newest_of_source[source] = max(newest, self._newest_of_source.get(source, -1))
        return before

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
            with span("dead-letters", letters=len(buffer.dead_letters)):
                await self._send_dead_letters(buffer.dead_letters)
            buffer.dead_letters = []
        clock_ms = await self._advance(buffer)
        passing = _Passing(clock_ms)
        # Not in a thread: it would go on when this is given up, in what is then put back.
        calls = buffer.calls.merged()
        found = await asyncio.to_thread(calls.slices, subjects=_SLICE_SUBJECTS, calls=_SLICE_CALLS)

        async def write(some: Sequence[NDArray[np.int32]]) -> None:
            for places in some:
                await self._write_slice(calls.of(places), (), passing, flushed)

        await each_part(found, write, size=1, at_once=_SLICES_AT_ONCE)
        if buffer.observed:
            await self._write_slice(calls.of(np.empty(0, np.int64)), buffer.observed, passing, flushed)
        flushed.count_replayed(len(calls), len(buffer.observed))

    async def _write_slice(
        self, calls: Calls, observed: Sequence[tuple[str, ObservedAt]], passing: _Passing, flushed: Flushed
    ) -> None:
        """Write these, and again what somebody else was ahead of."""
        refused: set[Subject] = set()
        for _ in range(_ATTEMPTS):
            refused = await self._attempt(calls, observed, passing, flushed)
            if not refused:
                return
            flushed.conflicts += len(refused)
            keep = np.array([subject in refused for subject in calls.subjects], np.bool_)
            calls = calls.of(keep[calls.subject]) if len(keep) else calls
            observed = [(source, one) for source, one in observed if one.observed.subject in refused]
        raise ConflictError(f"{len(refused)} subjects were written by others {_ATTEMPTS} times in a row: {refused}")

    async def _advance(self, buffer: Buffer) -> int:
        """What the clock shows, with the events of this flush."""
        for newest_ms in buffer.calls.newest_ms().values():
            self._newest_ms = max(self._newest_ms, newest_ms)
        for _, one in buffer.observed:
            self._newest_ms = max(self._newest_ms, one.observed.timestamp_ms)
        return await self._clock_ms()

    async def _clock_ms(self) -> int:
        reached = await self._store.advance_clock(self._newest_ms)
        return reached if self._wall_ms is None else self._wall_ms()

    async def _attempt(
        self,
        calls: Calls,
        observed: Sequence[tuple[str, ObservedAt]],
        passing: _Passing,
        flushed: Flushed,
    ) -> set[Subject]:
        """One try for all subjects of these events; those that somebody else has written meanwhile."""
        # They are in the order of their subjects.
        codes = calls.subject[np.diff(calls.subject, prepend=-1) != 0]
        subjects = [calls.subjects[code] for code in codes.tolist()]
        subjects += dict.fromkeys(one.observed.subject for _, one in observed)
        if not subjects:
            return set()
        states = await self._states.take(subjects)
        # In a thread, so that heartbeats and batches go on meanwhile.
        with span("aggregate", calls=len(calls.offset), observations=len(observed)):
            counted = await asyncio.to_thread(self._count, calls, observed, states)
        if counted.letters:
            with span("dead-letters", letters=len(counted.letters)):
                await self._send_dead_letters(counted.letters)
        refused = await self._states.confirm([state for one, state in states.items() if one not in counted.arrivals])

        async def write(part: Sequence[tuple[Subject, Arrivals]]) -> None:
            arrived = [(states.get(subject) or SubjectState(subject), arrivals) for subject, arrivals in part]
            steps = [_step(state, arrivals) for state, arrivals in arrived]
            absorb_counted(arrived)
            for state, arrivals in arrived:
                state.absorb(arrivals)
            for step in steps:
                step.state.pass_empty_hours(self._policy)
            due = [step.state for step in steps if step.state.is_due(passing.clock_ms, self._policy)]
            closed = passing.choose(due)
            self._put_off(due, closed)
            refused.update(await self._states.close(closed, passing.clock_ms))
            judged = [(step.state, arrivals) for step, (_, arrivals) in zip(steps, part, strict=True)]
            with span("judge", subjects=len(judged)):
                await asyncio.to_thread(self._judging.judge, judged, latest_ms=self._latest_ms())
            for step in steps:
                step.count_closed()
                flushed.expect(step)
            refused.update(await self._states.save([step.state for step in steps if step.state.subject not in refused]))
            for step, (subject, arrivals) in zip(steps, part, strict=True):
                if subject not in refused:
                    flushed.add(step, arrivals)
            self._silence.note((one.state for one in steps if one.state.subject not in refused), self._clocks())

        await each_part(list(counted.arrivals.items()), write, size=_PART, at_once=_PARTS_AT_ONCE)
        flushed.crowded += sum(subject not in refused for subject in counted.crowded)
        return refused

    def _put_off(self, due: Sequence[SubjectState], closed: Sequence[SubjectState]) -> None:
        """Leave those that are not closed in passing to the ticks: said in the state, in case we do not live to it."""
        done = {state.subject for state in closed}
        put_off = [state for state in due if state.subject not in done]
        for state in put_off:
            state.is_outdated = True
        self._closing.add(state.subject for state in put_off)

    def _count(
        self, calls: Calls, observed: Sequence[tuple[str, ObservedAt]], states: dict[Subject, SubjectState]
    ) -> _Counted:
        counted = aggregate(calls, states, self._policy)
        gauged = aggregate_observations(observed, states, self._policy)
        return _Counted(
            arrivals={**counted.arrivals, **gauged.arrivals},
            letters=of_late_calls(counted.late) + of_late_observations(gauged.late) + of_crowded(gauged.crowded),
            crowded=[one.observed.subject for one in gauged.crowded],
        )

    @property
    def has_more_to_close(self) -> bool:
        """Whether another tick would find something to do at once."""
        return self._closing.has_more

    async def tick(self, places: set[str]) -> Flushed:
        """Close, for a slice of time, what is due of the subjects of these places; what was done.

        A place is a topic's partition, `calls/3`: a subject belongs to the worker that owns one its events came from,
        in whichever life of the log. One that was only trained belongs to whoever owns the first partition of calls.
        """
        async with self._flushing:
            clocks = self._clocks()
            # First, and what it found stays in it until it is taken: whatever fails here, nothing is forgotten.
            await self._silence.work(clocks)
            done = await self._closing.work(places, await self._clock_ms(), show=partial(self._note, clocks=clocks))
            done.news |= self._silence.take().news
            return done

    def _note(self, states: Sequence[SubjectState], *, clocks: Mapping[str, int]) -> None:
        self._silence.note(states, clocks)

    def _clocks(self) -> dict[str, int]:
        """The newest event of each source that is read; no later than it is, where the clock is ours."""
        latest_ms = self._latest_ms()
        return {source: min(newest_ms, latest_ms) for source, newest_ms in self._newest_of_source.items()}

    def _latest_ms(self) -> int:
        """What no event's time is taken to be later than, however far ahead its sender's clock is."""
        return NEWEST_MS if self._wall_ms is None else self._wall_ms()


def _step(state: SubjectState, arrived: Arrivals) -> Step:
    """What is about to be done to the state, in which nothing of it is yet."""
    return Step(state, arrived.corrections(state.published_hour), state.published_hour)
