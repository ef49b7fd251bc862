"""The topic `dead-letters`, read by a consumer that belongs to no group and commits nothing.

Where the log ends is the high watermark of a fetch, because the embedded broker answers the question for it with less:
with the first offset of the last batch.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from detection.errors import DependencyError
from state.broker_refusal import refusal
from state.brokers import Brokers
from state.dead_letters import TOPIC, Letter, decode_letter

_POLL_MS: Final = 200
# Read at a time, going backwards: a letter is up to a megabyte, and most lists are of a few dozen.
_BLOCK: Final = 100

Span = tuple[int, int]


def _all(_: Letter) -> bool:
    return True


class DeadLetterLog:
    """The letters that the topic still has; a topic that is not there yet has none.

    DependencyError where the broker does not answer in time.
    """

    def __init__(self, consumer: AIOKafkaConsumer, *, timeout_seconds: float) -> None:
        self._consumer = consumer
        self._timeout_seconds = timeout_seconds

    @classmethod
    @asynccontextmanager
    async def connect(cls, brokers: Brokers, *, timeout_seconds: float = 10.0) -> AsyncIterator[Self]:
        """A log that is read inside the block."""
        consumer = AIOKafkaConsumer(
            **brokers.options(),
            enable_auto_commit=False,
            # A place that retention has taken away meanwhile: the letters behind it are read.
            auto_offset_reset="earliest",
            fetch_max_wait_ms=_POLL_MS,
        )
        try:
            try:
                async with _answering(str(brokers), timeout_seconds):
                    await consumer.start()
            except DependencyError as error:
                if refused := await refusal(brokers, within_seconds=timeout_seconds):
                    raise DependencyError("kafka", refused) from error
                raise
            yield cls(consumer, timeout_seconds=timeout_seconds)
        except KafkaError as error:
            raise DependencyError("kafka", f"{brokers}: {error!r}") from error
        finally:
            await consumer.stop()

    async def spans(self) -> dict[int, Span]:
        """By partition: the offset of the first letter, and the offset after the last one."""
        async with _answering(TOPIC, self._timeout_seconds):
            # Asked for all topics: asking for this one would create it on some brokers.
            if TOPIC not in await self._consumer.topics():
                return {}
            places = [TopicPartition(TOPIC, one) for one in self._consumer.partitions_for_topic(TOPIC) or ()]
            beginnings = await self._consumer.beginning_offsets(places)
            ends = await self._ends(places)
        return {place.partition: (min(beginnings[place], ends[place]), ends[place]) for place in sorted(places)}

    async def newest(self, limit: int, wanted: Callable[[Letter], bool] = _all) -> list[Letter]:
        """Up to `limit` of the wanted letters, newest first over all partitions; reads no more than it must."""
        # Where all are wanted, no partition has to give more of them than there are to be.
        block = min(limit, _BLOCK) if wanted is _all else _BLOCK
        readers = [
            _Backwards(self, partition, *span, wanted, block) for partition, span in (await self.spans()).items()
        ]
        found: list[Letter] = []
        while len(found) < limit:
            for one in readers:
                await one.fill()
            filled = [one for one in readers if one.letters]
            if not filled:
                break
            newest = max(filled, key=lambda one: (one.letters[-1].time_ms, one.letters[-1].place))
            found.append(newest.letters.pop())
        return found

    async def each(self, spans: Mapping[int, Span]) -> AsyncIterator[list[Letter]]:
        """All letters of these spans, some at a time, partition by partition, oldest first."""
        for partition, (begin, end) in sorted(spans.items()):
            for start in range(begin, end, _BLOCK):
                yield await self.read(partition, start, min(start + _BLOCK, end))

    async def read(self, partition: int, start: int, end: int) -> list[Letter]:
        """The letters at `start <= offset < end` of a partition."""
        place = TopicPartition(TOPIC, partition)
        letters: list[Letter] = []
        async with _answering(f"{TOPIC}/{partition}", self._timeout_seconds):
            self._consumer.assign([place])
            self._consumer.seek(place, start)
            while await self._consumer.position(place) < end:
                fetched = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_BLOCK)
                letters += [
                    decode_letter(partition, record.offset, record.timestamp, record.value)
                    for record in fetched.get(place, ())
                    if start <= record.offset < end
                ]
        return letters

    async def _ends(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        """The high watermark of each, told by a fetch at what the broker takes for the end."""
        self._consumer.assign(places)
        for place, offset in (await self._consumer.end_offsets(places)).items():
            self._consumer.seek(place, offset)
        found: dict[TopicPartition, int] = {}
        while len(found) < len(places):
            await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=1)
            for place in places:
                end = self._consumer.highwater(place)
                if end is not None and place not in found:
                    found[place] = end
                    self._consumer.pause(place)
        return found


@dataclass(slots=True)
class _Backwards:
    """The wanted letters of one partition, read from its end; the newest that is not yet taken is the last."""

    log: DeadLetterLog
    partition: int
    begin: int
    end: int
    wanted: Callable[[Letter], bool]
    block: int
    letters: list[Letter] = field(default_factory=list)

    async def fill(self) -> None:
        """Read back until there is a letter, or none is left."""
        while not self.letters and self.end > self.begin:
            start = max(self.begin, self.end - self.block)
            self.letters = [one for one in await self.log.read(self.partition, start, self.end) if self.wanted(one)]
            self.end = start


@asynccontextmanager
async def _answering(what: str, within_seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(within_seconds):
            yield
    except TimeoutError as error:
        raise DependencyError("kafka", f"{what}: no answer within {within_seconds:g} s") from error
    except (KafkaError, OSError) as error:
        raise DependencyError("kafka", f"{what}: {error!r}") from error
