"""How far the topics reach on the broker, asked by a consumer of its own that belongs to no group and commits nothing.

The end of a log is the high watermark of a fetch: the embedded broker answers the question for it with the offset of
its last batch, which may hold many records.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaClient, AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from detection.errors import DependencyError
from state.broker_refusal import reason
from state.brokers import Brokers

_POLL_MS: Final = 50
# Nothing of what comes is looked at; a broker sends one whole batch all the same.
_FETCH_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Extent:
    """The first offset that a partition still has, and the one that its next record will get."""

    beginning: int
    end: int

    @property
    def records(self) -> int:
        """How many there are at most: compaction and transactions leave gaps."""
        return self.end - self.beginning


async def extents(brokers: Brokers, topics: Collection[str], *, within_seconds: float) -> dict[str, dict[int, Extent]]:
    """Of those of the topics that exist, the extent of each partition; DependencyError without an answer in time."""
    async with _consumer(brokers, within_seconds) as consumer:
        found: dict[str, dict[int, Extent]] = {}
        for tp, extent in (await _extents(brokers, consumer, topics)).items():
            found.setdefault(tp.topic, {})[tp.partition] = extent
    return found


@asynccontextmanager
async def _consumer(brokers: Brokers, within_seconds: float) -> AsyncIterator[AIOKafkaConsumer]:
    """Started, for so long; what fails inside is a DependencyError."""
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
            yield consumer
    except TimeoutError as error:
        raise DependencyError("kafka", "no answer in time") from error
    except (KafkaError, OSError) as error:
        raise DependencyError("kafka", await reason(brokers, error)) from error
    finally:
        await consumer.stop()


async def _extents(
    brokers: Brokers, consumer: AIOKafkaConsumer, topics: Collection[str]
) -> Mapping[TopicPartition, Extent]:
    partitions = await _partitions(brokers, topics)
    if not partitions:
        return {}
    beginnings = await consumer.beginning_offsets(partitions)
    latest = await consumer.end_offsets(partitions)
    consumer.assign(partitions)
    for tp in partitions:
        consumer.seek(tp, latest[tp])
    ends: dict[TopicPartition, int] = {}
    while len(ends) < len(partitions):
        outside: set[TopicPartition] = set()
        try:
            await consumer.getmany(timeout_ms=_POLL_MS, max_records=1)
        except OffsetOutOfRangeError as error:
            # Retention, or somebody who made the topic anew, was faster.
            outside = set(error.args[0])
        for tp in partitions:
            end = latest[tp] if tp in outside else consumer.highwater(tp)
            if tp not in ends and end is not None:
                ends[tp] = end
                consumer.pause(tp)
    return {tp: Extent(min(beginnings[tp], end), end) for tp, end in ends.items()}


async def _partitions(brokers: Brokers, topics: Iterable[str]) -> list[TopicPartition]:
    """Those of the topics that exist; to ask for a topic by its name would make it, on most brokers."""
    client = AIOKafkaClient(**brokers.options())
    try:
        await client.bootstrap()
        cluster = await client.fetch_all_metadata()
    finally:
        await client.close()
    return [
        TopicPartition(topic, partition)
        for topic in topics
        for partition in sorted(cluster.partitions_for_topic(topic) or ())
    ]
