"""Dead letters on their way back: counted, marked, sent to their topic, marked again.

    claim the mark → send, with a header that names the letter → the broker has it → the mark says so

Sending is at least once where the sender is killed between the broker's answer and the second mark; such a letter is
left with the first mark, and nobody sends it again without being told to. What a letter says was refused as a whole
when it came, so nothing of it was counted, and sending it does not count anything twice.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from api.event_producer import started_producer
from cli.letters import Fate, Selection, fate
from detection.errors import DependencyError
from detection.hours import iso
from state.broker_refusal import reason
from state.brokers import Brokers
from state.dead_letter_log import DeadLetterLog, Span
from state.dead_letters import LATE, REPLAYED_HEADER, Letter
from state.replayed import Replayed

_AT_ONCE: Final = 100
_LINGER_MS: Final = 5
_REPLACED: Final = "\N{REPLACEMENT CHARACTER}".encode()
# A longer key was cut when its letter was written.
_WHOLE_KEY_BYTES: Final = 1024


@dataclass(slots=True)
class Count:
    """How many of the letters that are meant have which fate; those to be sent also by topic."""

    fates: Counter[Fate] = field(default_factory=Counter)
    topics: Counter[str] = field(default_factory=Counter)

    @property
    def ready(self) -> int:
        """Letters that can be sent."""
        return self.fates["ready"]


@dataclass(frozen=True, slots=True)
class Resending:
    """What is to be sent of a log as it was at one moment: what the sending itself adds to it is not read."""

    log: DeadLetterLog
    replayed: Replayed
    spans: Mapping[int, Span]
    selection: Selection
    again: bool = False

    async def count(self) -> Count:
        """Look at every letter that is meant; nothing is sent, and nothing marked."""
        counted = Count()
        async for letters, fates in self._each():
            counted.fates.update(fates)
            counted.topics.update(
                letter.topic or "" for letter, one in zip(letters, fates, strict=True) if one == "ready"
            )
        return counted

    async def send(self, brokers: Brokers, *, rate: float, on_sent: Callable[[int], None] = lambda _: None) -> int:
        """Send those that are ready, at most `rate` a second; how many. DependencyError where a server is away.

        `on_sent` is told of each few of them that the broker has.
        """
        sent = 0
        # Whoever sends again claims nothing, so the marks do not tell twins apart.
        sent_again: set[str] = set()
        started = time.monotonic()
        try:
            producer, _ = await started_producer(brokers, linger_ms=_LINGER_MS)
            try:
                async for letters, fates in self._each():
                    ready = [letter for letter, one in zip(letters, fates, strict=True) if one == "ready"]
                    for start in range(0, len(ready), _AT_ONCE):
                        some = await self._claimed(ready[start : start + _AT_ONCE], sent_again)
                        await _send(producer, some)
                        await self.replayed.set(some, "sent", at=_now())
                        sent += len(some)
                        on_sent(len(some))
                        await asyncio.sleep(max(0.0, started + sent / rate - time.monotonic()))
            finally:
                await producer.stop()
        except KafkaError as error:
            raise DependencyError("kafka", f"{brokers}: {await reason(brokers, error)}") from error
        await self.replayed.forget_gone({partition: begin for partition, (begin, _) in self.spans.items()})
        return sent

    async def _each(self) -> AsyncIterator[tuple[list[Letter], list[Fate]]]:
        with_late = self.selection.reason == LATE
        async for page in self.log.each(self.spans):
            letters = [one for one in page if self.selection.takes(one)]
            marks = await self.replayed.marks(letters)
            yield (
                letters,
                [
                    fate(letter, mark, with_late=with_late, again=self.again)
                    for letter, mark in zip(letters, marks, strict=True)
                ],
            )

    async def _claimed(self, letters: Sequence[Letter], sent_again: set[str]) -> list[Letter]:
        """Those to be sent now, each identity once."""
        if self.again:
            # Of twins the later one: the topic has it for longer, and so the mark.
            some = {one.identity: one for one in letters if one.identity not in sent_again}
            sent_again.update(some)
            await self.replayed.set(some.values(), "sending", at=_now())
            return list(some.values())
        claims = await self.replayed.claim(letters, at=_now())
        return [letter for letter, is_ours in zip(letters, claims, strict=True) if is_ours]


async def _send(producer: AIOKafkaProducer, letters: Sequence[Letter]) -> None:
    """Returns when the broker has each of them."""
    sent = [
        await producer.send(
            letter.topic,
            key=letter.key,
            value=letter.value,
            partition=await _partition(producer, letter),
            headers=[(REPLAYED_HEADER, letter.place.encode())],
        )
        for letter in letters
    ]
    for one in sent:
        await one


async def _partition(producer: AIOKafkaProducer, letter: Letter) -> int | None:
    """None where the key decides, as it did when the record came; where it was not kept whole, where the record lay."""
    key = letter.key
    if key is not None and len(key) < _WHOLE_KEY_BYTES and _REPLACED not in key:
        return None
    return letter.origin_partition if letter.origin_partition in await producer.partitions_for(letter.topic) else None


def _now() -> str:
    return iso(time.time_ns() // 1_000_000)
