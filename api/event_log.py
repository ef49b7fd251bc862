"""The log that accepted events go to: written when, and only when, the broker has acknowledged it."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from detection.errors import DependencyError
from settings import Settings

CALLS: Final = "calls"
OBSERVATIONS: Final = "observations"

# A caller that waits longer for a broker would rather be told to come back.
_ACKNOWLEDGED_WITHIN_SECONDS: Final = 10.0
_ANSWERS_WITHIN_SECONDS: Final = 2.0


class EventLog(Protocol):
    """Where events go; DependencyError when the broker does not take them."""

    async def append(self, topic: str, events: Sequence[tuple[bytes, bytes]]) -> None:
        """Write (key, event) pairs in order, and return when the broker has acknowledged every one."""
        ...

    async def ping(self) -> None:
        """Raises DependencyError when no broker answers."""
        ...


class KafkaLog:
    """An idempotent producer that is started by its first use: the API serves what it knows without a broker.

    Idempotent towards the broker, at least once towards the caller: who was told 503 may have been heard, and sends the
    events again.
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
                sent = [await producer.send(topic, value, key=key) for key, value in events]
                await asyncio.gather(*sent)
        except (KafkaError, TimeoutError, OSError) as error:
            raise DependencyError("kafka", _reason(error)) from error

    async def ping(self) -> None:
        """See EventLog."""
        try:
            async with asyncio.timeout(_ANSWERS_WITHIN_SECONDS):
                producer = await self._started()
                await producer.client.fetch_all_metadata()
        except (KafkaError, TimeoutError, OSError) as error:
            raise DependencyError("kafka", _reason(error)) from error

    async def close(self) -> None:
        """Send what is buffered, and let go of the broker."""
        if self._producer is not None:
            await self._producer.stop()
            self._producer = None

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                await self._create_topics()
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._settings.kafka_brokers,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=2,
                    max_batch_size=256 * 1024,
                    request_timeout_ms=int(_ACKNOWLEDGED_WITHIN_SECONDS * 1000),
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _create_topics(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.kafka_brokers)
        try:
            await admin.start()
            missing = {CALLS, OBSERVATIONS} - set(await admin.list_topics())
            if missing:
                answer = await admin.create_topics(
                    [
                        NewTopic(
                            name=name,
                            num_partitions=self._settings.kafka_partitions,
                            replication_factor=self._settings.kafka_replicas,
                        )
                        for name in sorted(missing)
                    ]
                )
                for _, code, *_ in answer.topic_errors:
                    error = for_code(code)
                    # A worker may have created it in between.
                    if code and error is not TopicAlreadyExistsError:
                        raise error
        finally:
            await admin.close()


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return f"{type(error).__name__}: {error}"
