"""Recorded calls into the broker: in the order of the file, their event time untouched, every delivery awaited."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from api.event_producer import ensure_topics, started_producer
from cli.recordings import Recording
from detection.errors import DependencyError, InvalidRowError
from settings import Settings
from state.broker_refusal import reason

TOPIC = "calls"

# Enough for full batches to each partition, and about 10 MB.
_IN_FLIGHT = 20_000
_LINGER_MS = 20
_PROGRESS_SECONDS = 0.2
# Shorter waits would be spent on waking up.
_SHORTEST_WAIT_SECONDS = 0.005
_KEPT_REFUSALS = 20


@dataclass(frozen=True, slots=True)
class Replay:
    """How far a replay has come; `share` is of the file, 0 to 1; `refusals` are the first of the rejected rows."""

    sent: int = 0
    acknowledged: int = 0
    rejected: int = 0
    first_event_ms: int | None = None
    last_event_ms: int | None = None
    share: float = 0.0
    seconds: float = 0.0
    refusals: tuple[InvalidRowError, ...] = field(default=())

    @property
    def rate(self) -> float:
        """Acknowledged calls per second of wall time."""
        return self.acknowledged / self.seconds if self.seconds > 0 else 0.0


async def replay(
    path: Path,
    settings: Settings,
    *,
    topic: str = TOPIC,
    speed: float | None = None,
    limit: int | None = None,
    on_progress: Callable[[Replay], None] = lambda _: None,
) -> Replay:
    """Send the calls of a file; returns when the broker has acknowledged each of them.

    `speed` is event time per wall time, None as fast as the broker takes them; the topic is created if it is missing.
    Rows that cannot be read are counted and left out. Raises InputError for the file, DependencyError for the broker.
    """
    with Recording(path) as recording:
        try:
            await ensure_topics(settings, [topic])
            producer, _ = await started_producer(settings.brokers(), linger_ms=_LINGER_MS)
            try:
                return await _send(recording, producer, topic, speed=speed, limit=limit, on_progress=on_progress)
            finally:
                await producer.stop()
        except KafkaError as error:
            raise DependencyError(
                "Kafka", f"{settings.kafka_brokers}: {await reason(settings.brokers(), error)}"
            ) from error


async def _send(
    recording: Recording,
    producer: AIOKafkaProducer,
    topic: str,
    *,
    speed: float | None,
    limit: int | None,
    on_progress: Callable[[Replay], None],
) -> Replay:
    started = time.monotonic()
    told = started
    now = Replay()
    sent = acknowledged = 0
    in_flight: deque[asyncio.Future[object]] = deque()
    for item in recording:
        if limit is not None and sent >= limit:
            break
        if isinstance(item, InvalidRowError):
            kept = (*now.refusals, item) if len(now.refusals) < _KEPT_REFUSALS else now.refusals
            now = replace(now, rejected=now.rejected + 1, refusals=kept)
            continue
        if now.first_event_ms is None:
            now = replace(now, first_event_ms=item.event_ms, last_event_ms=item.event_ms)
        if speed is not None and now.first_event_ms is not None:
            due = started + (item.event_ms - now.first_event_ms) / 1000 / speed
            while (wait := due - time.monotonic()) > _SHORTEST_WAIT_SECONDS:
                await asyncio.sleep(min(wait, _PROGRESS_SECONDS))
                acknowledged += await _collect(in_flight, _IN_FLIGHT)
                on_progress(_at(now, sent, acknowledged, recording, started))
        in_flight.append(await producer.send(topic, key=item.key, value=item.message))
        sent += 1
        if now.last_event_ms is None or item.event_ms > now.last_event_ms:
            now = replace(now, last_event_ms=item.event_ms)
        if len(in_flight) >= _IN_FLIGHT:
            acknowledged += await _collect(in_flight, _IN_FLIGHT // 2)
        if time.monotonic() - told > _PROGRESS_SECONDS:
            told = time.monotonic()
            on_progress(_at(now, sent, acknowledged, recording, started))
    acknowledged += await _collect(in_flight, 0)
    done = replace(_at(now, sent, acknowledged, recording, started), share=1.0)
    on_progress(done)
    return done


async def _collect(in_flight: "deque[asyncio.Future[object]]", leave: int) -> int:
    """Await the oldest deliveries until that many are left, and take those that are done; raises what one raised."""
    collected = 0
    while in_flight and (len(in_flight) > leave or in_flight[0].done()):
        await in_flight.popleft()
        collected += 1
    return collected


def _at(now: Replay, sent: int, acknowledged: int, recording: Recording, started: float) -> Replay:
    return replace(now, sent=sent, acknowledged=acknowledged, share=recording.share, seconds=time.monotonic() - started)
