"""Observation events on their way to PostgreSQL: a second reader of their topic, that waits where PostgreSQL is away.

It belongs to a consumer group of its own, `{group}-archive`, so that neither path holds up the other. Where it reads is
PostgreSQL's to say: offsets are stored there, in the transaction of the rows, and what is committed to Kafka is only
for those who look at its lag. So an event is there once, whatever is killed, and whatever is read again.

    getmany → decode, sort, count (in a thread) → one transaction → offsets committed to Kafka

While one batch is written, the next is prepared.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from detection.errors import DependencyError
from detection.hours import HOUR_MS
from metrics import Instruments
from state.archive import Archive, Archived, Arrived, Horizon, Prepared
from state.brokers import Brokers
from state.sources import source_of
from state.store import StateStore
from stream.buffer import OBSERVATIONS
from stream.decoding import Record, decode_observations

log = structlog.get_logger()

# Rows of one transaction, and records of one poll: an event has a row for each of its metrics.
_ROWS = 100_000
_RECORDS = 40_000
_POLL_MS = 250
_STOP_SECONDS = 5.0
_DAY_MS = 24 * HOUR_MS

Answer = TypeVar("Answer")


class ArchiveReader(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka publishes no annotations
    """Reads the topic of observations for the archive; `horizon` says from when on events are kept.

    `connect` makes a consumer that has not started, in a group of its own that commits by hand.
    """

    def __init__(
        self,
        archive: Archive,
        store: StateStore,
        instruments: Instruments,
        *,
        log_id: str,
        connect: Callable[[], AIOKafkaConsumer],
        horizon: Callable[[], Horizon],
        future_ms: int,
        pause_seconds: float,
    ) -> None:
        self._archive = archive
        self._store = store
        self._instruments = instruments
        self._log_id = log_id
        self._connect = connect
        self._horizon = horizon
        self._future_ms = future_ms
        self._pause_seconds = pause_seconds
        self._consumer: AIOKafkaConsumer | None = None
        # What was assigned, and of which it is not known yet where to read.
        self._unplaced: set[TopicPartition] = set()
        self._next: dict[TopicPartition, int] = {}
        self._sources: dict[TopicPartition, str] = {}
        self._rows_of_record = 1.0

    async def run(self, should_stop: Callable[[], bool]) -> None:
        """Until it is cancelled or should stop; what is away is waited for.

        A cancellation alone can be lost on its way: in Python 3.11 by `asyncio.wait_for`, when what it waits for comes
        at the same moment.
        """
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type((KafkaError, DependencyError)),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            before_sleep=self._say("archive.interrupted"),
        ):
            with attempt:
                await self._run(should_stop)

    async def _run(self, should_stop: Callable[[], bool]) -> None:
        self._unplaced, self._next, self._sources = set(), {}, {}
        consumer = self._consumer = self._connect()
        consumer.subscribe((OBSERVATIONS,), listener=self)
        writing: asyncio.Task[None] | None = None
        try:
            await consumer.start()
            while not should_stop():
                if self._unplaced:
                    await _finished(writing)
                    await self._place(consumer)
                batch, records = await self._fetch(consumer)
                prepared = await self._prepared(batch)
                await _finished(writing)
                writing = asyncio.create_task(self._write(consumer, prepared)) if batch else None
                if records < self._most_records / 2:
                    # Little comes: what comes meanwhile is written together.
                    await _finished(writing)
                    await asyncio.sleep(self._pause_seconds)
        finally:
            if writing is not None:
                writing.cancel()
            await _stopped(consumer)

    @property
    def _most_records(self) -> int:
        return min(_RECORDS, max(100, round(_ROWS / self._rows_of_record)))

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Somebody else's now, who begins where PostgreSQL is; what is being written here is written once."""
        self._forget(revoked)
        self._unplaced.difference_update(revoked)
        for tp in revoked:
            self._instruments.archive_lag.remove(str(tp.partition))

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        """Nothing is read of them before PostgreSQL has said where to begin, which may take as long as it is away."""
        self._doubt(assigned)

    def _doubt(self, tps: Sequence[TopicPartition]) -> None:
        self._forget(tps)
        self._unplaced.update(tps)
        if self._consumer is not None:
            self._consumer.pause(*tps)

    def _forget(self, tps: Sequence[TopicPartition]) -> None:
        for tp in tps:
            self._next.pop(tp, None)
            self._sources.pop(tp, None)

    async def _place(self, consumer: AIOKafkaConsumer) -> None:
        tps = sorted(self._unplaced)
        lives = await self._patiently(self._store.log_lives)
        life = lives[OBSERVATIONS].life if OBSERVATIONS in lives else 0
        sources = {tp: source_of(self._log_id, tp.topic, tp.partition, life=life) for tp in tps}
        offsets = await self._patiently(lambda: self._archive.offsets(list(sources.values())))
        # Those that went meanwhile are another's.
        for tp in self._unplaced.intersection(tps):
            self._sources[tp] = sources[tp]
            self._next[tp] = offsets[sources[tp]]
            consumer.seek(tp, self._next[tp])
            consumer.resume(tp)
        self._unplaced.difference_update(tps)
        log.info("archive.placed", partitions=len(self._next))

    async def _fetch(self, consumer: AIOKafkaConsumer) -> tuple[list[Arrived], int]:
        """What one poll brings, decoded, and how many records that were."""
        fetched: Mapping[TopicPartition, Sequence[Record]] = await consumer.getmany(
            timeout_ms=_POLL_MS, max_records=self._most_records
        )
        batch: list[Arrived] = []
        for tp, records in fetched.items():
            if tp not in self._next:
                continue
            end = records[-1].offset + 1
            source, begin = self._sources[tp], self._next[tp]
            self._next[tp] = max(end, begin)
            batch.append(await asyncio.to_thread(self._decode, source, begin, records))
        records_read = sum(map(len, fetched.values()))
        rows = sum(len(event.gauges) for one in batch for event in one.events)
        if records_read:
            self._rows_of_record = max(rows / records_read, 1.0)
        return batch, records_read

    async def _prepared(self, batch: Sequence[Arrived]) -> Prepared:
        return await self._patiently(lambda: self._archive.prepare(batch, self._horizon()))

    def _decode(self, source: str, begin: int, records: Sequence[Record]) -> Arrived:
        # Those that are refused are in the dead letters, or will be: the reader that learns puts them there.
        found, _ = decode_observations(records, future_ms=self._future_ms)
        return Arrived(
            source,
            begin,
            [one.observed for one in found],
            [one.offset for one in found],
            end=max(records[-1].offset + 1, begin),
        )

    async def _write(self, consumer: AIOKafkaConsumer, prepared: Prepared) -> None:
        archived = await self._patiently(lambda: self._archive.write(prepared))
        tps = {self._sources[tp]: tp for tp in self._sources}
        written = [(tps[one.source], one.end) for one in prepared.arrived if one.source in tps]
        if archived.rewound:
            log.error("archive.rewound", sources=dict(archived.rewound))
            self._doubt([tp for tp, _ in written])
            return
        self._count(consumer, archived, written)
        if not written:
            # All of them went to another reader meanwhile.
            return
        try:
            await consumer.commit(dict(written))
        except (KafkaError, IllegalStateError) as error:
            # PostgreSQL knows; the next commit tells Kafka, or the partition is another's.
            log.info("archive.uncommitted", reason=repr(error))

    def _count(self, consumer: AIOKafkaConsumer, archived: Archived, written: Sequence[tuple[Any, int]]) -> None:
        rows = self._instruments.archived_rows
        rows.labels("written").inc(archived.rows)
        rows.labels("expired").inc(archived.expired)
        rows.labels("repeated").inc(archived.repeated)
        for tp, end in written:
            highwater = consumer.highwater(tp) if tp in consumer.assignment() else None
            self._instruments.archive_lag.labels(str(tp.partition)).set(max((highwater or end) - end, 0))

    async def _patiently(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        """Its answer, as soon as what it needs is there: Kafka keeps what is not read meanwhile."""

        # tenacity awaits only what it sees to be a coroutine function, which a lambda is not.
        async def answer() -> Answer:
            return await call()

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(DependencyError),
            wait=wait_random_exponential(multiplier=0.2, max=5),
            before_sleep=self._say("archive.postponed"),
        )
        return await retrying(answer)

    def _say(self, event: str) -> Callable[[RetryCallState], None]:
        def say(attempt: RetryCallState) -> None:
            self._instruments.archive_retries.inc()
            error = attempt.outcome.exception() if attempt.outcome else None
            log.warning(event, attempt=attempt.attempt_number, reason=str(error) or repr(error))

        return say


def connect(brokers: Brokers, group: str, *, session_seconds: float) -> AIOKafkaConsumer:
    """A consumer in the archive's group, not yet started."""
    return AIOKafkaConsumer(
        **brokers.options(),
        group_id=f"{group}-archive",
        enable_auto_commit=False,
        # Where the log begins later than PostgreSQL has it, what is between is gone: the worker counts and says it.
        auto_offset_reset="earliest",
        session_timeout_ms=round(session_seconds * 1000),
        heartbeat_interval_ms=round(session_seconds * 250),
        # A member that waits for PostgreSQL polls nothing, and is alive.
        max_poll_interval_ms=_DAY_MS,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )


async def _finished(writing: "asyncio.Task[None] | None") -> None:
    if writing is not None:
        await writing


async def _stopped(consumer: AIOKafkaConsumer) -> None:
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await consumer.stop()
    except (KafkaError, TimeoutError) as error:
        # The group finds out by itself, a session later.
        log.info("archive.left_without_goodbye", reason=repr(error))
