"""How anything of ours that sends events meets the broker: the topics, and a producer that all senders agree with."""

import logging
from collections.abc import Iterable
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, UnknownError, for_code

from settings import Settings
from state.brokers import Brokers

_BATCH_BYTES: Final = 256 * 1024
_SENDER_LOG: Final = logging.getLogger("aiokafka.producer.sender")


async def ensure_topics(settings: Settings, names: Iterable[str]) -> None:
    """Create the topics that are missing, with the partitions and replicas that the settings name."""
    admin = AIOKafkaAdminClient(**settings.brokers().options())
    try:
        await admin.start()
        missing = set(names) - set(await admin.list_topics())
        if not missing:
            return
        answer = await admin.create_topics(
            [
                NewTopic(name, num_partitions=settings.kafka_partitions, replication_factor=settings.kafka_replicas)
                for name in sorted(missing)
            ]
        )
        for name, code, *_ in answer.topic_errors:
            error = for_code(code)
            # A worker may have created it in between.
            if code and error is not TopicAlreadyExistsError:
                raise error(f"topic {name}")
    finally:
        await admin.close()


async def started_producer(brokers: Brokers, *, linger_ms: int, **options: Any) -> tuple[AIOKafkaProducer, bool]:
    """A started producer, and whether it is idempotent: where the broker gives producer ids it is.

    Its partitioner is Kafka's own (murmur2, aiokafka's default), so that every sender puts a biller into one partition.
    """
    try:
        # aiokafka logs the refusal as an error of its own, which nobody needs to see.
        _SENDER_LOG.disabled = True
        return await _start(brokers, linger_ms=linger_ms, enable_idempotence=True, **options), True
    except UnknownError:
        # What a broker that keeps its log in memory answers to the request for a producer id.
        _SENDER_LOG.disabled = False
        return await _start(brokers, linger_ms=linger_ms, enable_idempotence=False, **options), False
    finally:
        _SENDER_LOG.disabled = False


async def _start(brokers: Brokers, **options: Any) -> AIOKafkaProducer:
    producer = AIOKafkaProducer(**brokers.options(), acks="all", max_batch_size=_BATCH_BYTES, **options)
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer
