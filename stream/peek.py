"""What the broker has at single places of its logs, asked by a consumer of its own that belongs to no group.

The worker's consumer could not be asked: its positions are what is to be decided, or what is in doubt. The end of a
log is the high watermark of a fetch, because the embedded broker answers the question for it with less.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from state.brokers import Brokers
from stream.decoding import Record

log = structlog.get_logger()

Place = tuple[str, int]

_POLL_MS = 200
# One record is wanted; a broker sends the whole batch it lies in, however large, and nothing after it.
_FETCH_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Peeked:
    """The record at an offset, if it is still there; where the log begins, and where it ends."""

    record: Record | None
    beginning: int
    end: int


# Answers for the places that the broker answered for in time.
Peek = Callable[[Mapping[Place, int]], Awaitable[dict[Place, Peeked]]]


async def peek(brokers: Brokers, offsets: Mapping[Place, int], *, within_seconds: float) -> dict[Place, Peeked]:
    """Look at one offset of each of these partitions; those that do not answer in time are left out."""
    found: dict[Place, Peeked] = {}
    if not offsets:
        return found
    consumer = AIOKafkaConsumer(
        **brokers.options(),
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=_POLL_MS,
        max_partition_fetch_bytes=_FETCH_BYTES,
    )
    try:
        async with asyncio.timeout(within_seconds):
            await consumer.start()
            await _look(consumer, offsets, found)
    except (TimeoutError, KafkaError) as error:
        log.warning("peek.incomplete", answered=len(found), asked=len(offsets), reason=repr(error))
    finally:
        await consumer.stop()
    return found


async def _look(consumer: AIOKafkaConsumer, offsets: Mapping[Place, int], found: dict[Place, Peeked]) -> None:
    waiting = {TopicPartition(*place): offset for place, offset in offsets.items()}
    beginnings = await consumer.beginning_offsets(list(waiting))
    consumer.assign(list(waiting))
    for tp, offset in waiting.items():
        consumer.seek(tp, offset)
    while waiting:
        records: dict[TopicPartition, Record] = {}
        outside: set[TopicPartition] = set()
        try:
            fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=1)
            records = {tp: some[0] for tp, some in fetched.items() if some}
        except OffsetOutOfRangeError as error:
            # Its argument says for which; with a high watermark that may be of an earlier answer.
            outside = set(error.args[0])
        for tp, offset in list(waiting.items()):
            end = consumer.highwater(tp)
            record = records.get(tp)
            if tp in outside:
                end = beginnings[tp] if offset < beginnings[tp] else (await consumer.end_offsets([tp]))[tp]
            elif record is None and (end is None or end > offset):
                continue
            del waiting[tp]
            consumer.pause(tp)
            end = end if end is not None else offset
            at_offset = record if record is not None and record.offset == offset else None
            found[tp.topic, tp.partition] = Peeked(at_offset, beginnings[tp], end)
