"""The log that accepted events go to: written when, and only when, the broker has acknowledged it."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Final, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

import tracing
from api.event_producer import ensure_topics, started_producer
from api.log_extents import Extent, extents
from detection.errors import DependencyError
from settings import Settings
from state.broker_refusal import reason
from state.dead_letter_log import DeadLetterLog
from state.dead_letters import Letter

log = structlog.get_logger()

CALLS: Final = "calls"
OBSERVATIONS: Final = "observations"

# Brokers take records of 1 MiB with all that surrounds them, unless told otherwise; the producer sends no longer ones.
MAX_EVENT_BYTES: Final = 1_000_000

# A caller that waits longer for a broker would rather be told to come back.
_ACKNOWLEDGED_WITHIN_SECONDS: Final = 10.0
_ANSWERS_WITHIN_SECONDS: Final = 2.0
_REFUSED_WITHIN_SECONDS: Final = 0.8
_LINGER_MS: Final = 2


class EventLog(Protocol):
    """Where events go; DependencyError when the broker does not take them."""

    async def append(self, topic: str, events: Sequence[tuple[bytes, bytes]]) -> None:
        """Write (key, event) pairs in order, and return when the broker has acknowledged every one."""
        ...

    async def extents(self, topics: Collection[str]) -> dict[str, dict[int, Extent]]:
        """How far each partition of these topics reaches; those that do not exist are left out."""
        ...

    async def dead_letters(self, limit: int) -> list[Letter]:
        """The newest letters of the topic `dead-letters`, newest first."""
        ...

    async def ping(self) -> None:
        """Raises DependencyError when no broker answers."""
        ...


class KafkaLog:
    """A producer that is started by its first use, so that the API serves what it knows without a broker.

    Idempotent towards a broker that can be, at least once towards the caller: who was told 503 may have been heard, and
    sends the events again.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def append(self, topic: str, events: Sequence[tuple[bytes, bytes]]) -> None:
        """See EventLog."""
        try:
            async with asyncio.timeout(_ACKNOWLEDGED_WITHIN_SECONDS):
                producer = await self._started()
                # The first await only puts an event into the producer's buffer; the second is the broker's answer.
                with tracing.span("produce", kind="producer", topic=topic, events=len(events)):
                    # Whoever reads the events can go on with the trace of this request.
                    sender = tracing.traceparent()
                    headers = None if sender is None else [(tracing.TRACEPARENT, sender.encode())]
                    sent = [await producer.send(topic, value, key=key, headers=headers) for key, value in events]
                    await asyncio.gather(*sent)
        except (KafkaError, TimeoutError, OSError) as error:
            raise DependencyError("kafka", await self._reason(error)) from error

    async def ping(self) -> None:
        """See EventLog."""
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_SECONDS):
                producer = await self._started()
                await producer.client.fetch_all_metadata()
        except (KafkaError, TimeoutError, OSError) as error:
            raise DependencyError("kafka", await self._reason(error)) from error

    async def extents(self, topics: Collection[str]) -> dict[str, dict[int, Extent]]:
        """See EventLog."""
        return await extents(self._settings.brokers(), topics, within_seconds=_ANSWERS_WITHIN_SECONDS)

    async def dead_letters(self, limit: int) -> list[Letter]:
        """See EventLog."""
        async with DeadLetterLog.connect(self._settings.brokers(), timeout_seconds=_ANSWERS_WITHIN_SECONDS) as log:
            return await log.newest(limit)

    async def close(self) -> None:
        """Send what is buffered, and let go of the broker."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                await ensure_topics(self._settings, (CALLS, OBSERVATIONS))
                self._producer, is_idempotent = await started_producer(
                    self._settings.brokers(),
                    linger_ms=_LINGER_MS,
                    request_timeout_ms=int(_ACKNOWLEDGED_WITHIN_SECONDS * 1000),
                )
                if not is_idempotent:
                    log.warning("event_log.not_idempotent", reason="the broker gives no producer ids")
            return self._producer

    async def _reason(self, error: BaseException) -> str:
        # A producer that was let in once is not refused now.
        if self._producer is not None:
            return "no answer in time" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
        return await reason(self._settings.brokers(), error, within_seconds=_REFUSED_WITHIN_SECONDS)
