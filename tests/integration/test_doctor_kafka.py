"""`tidemark doctor` and the ends of logs over Apache Kafka itself, which tells the settings of its topics."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from api.event_producer import ensure_topics, started_producer
from api.log_extents import Extent, extents
from settings import Settings
from state.brokers import Brokers
from stream.broker_checks import broker_findings
from tests.kafka.apache import ApacheKafka
from tests.worker import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ApacheKafka]:
    broker = ApacheKafka(tmp_path)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


async def test_topics_that_lose_what_is_in_them_are_said(broker: ApacheKafka) -> None:
    settings = Settings(kafka_brokers=broker.bootstrap, kafka_partitions=2)
    await ensure_topics(settings, ["observations", "dead-letters"])
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        odd = {"cleanup.policy": "compact", "max.message.bytes": "1000"}
        await admin.create_topics(
            [
                NewTopic("calls", num_partitions=2, replication_factor=1, topic_configs=odd),
                NewTopic("thresholds", num_partitions=2, replication_factor=1),
            ]
        )

        async def unknown() -> str:
            missing = {"calls", "thresholds"} - set(await admin.list_topics())
            return f"the broker does not yet know {missing}" if missing else ""

        await eventually(unknown, within_seconds=30)
    finally:
        await admin.close()
    # Who is in a group, a broker that has just begun may not know.
    told = await broker_findings(settings, timeout_seconds=20)
    found = {one.name: one for one in told if one.name != "kafka.workers"}
    said = {name: one.level for name, one in found.items() if one.level != "ok"}
    assert said == {
        "kafka.calls.retention": "failed",
        "kafka.calls.size": "warning",
        "kafka.thresholds.cleanup": "failed",
        "kafka.alerts": "warning",
    }
    assert found["kafka.observations"].found == "2 partitions, 1 copy of each"
    assert found["kafka.observations.retention"].found == "retention.ms=604800000"


async def test_the_end_of_a_log_is_behind_its_last_record(broker: ApacheKafka) -> None:
    settings = Settings(kafka_brokers=broker.bootstrap, kafka_partitions=2)
    assert await extents(Brokers(broker.bootstrap), ["calls"], within_seconds=20) == {}
    await ensure_topics(settings, ["calls"])
    empty = await extents(Brokers(broker.bootstrap), ["calls", "never-made"], within_seconds=20)
    assert empty == {"calls": {0: Extent(0, 0), 1: Extent(0, 0)}}
    producer, _ = await started_producer(Brokers(broker.bootstrap), linger_ms=20)
    try:
        for sent in [await producer.send("calls", b"{}", partition=1) for _ in range(50)]:
            await sent
    finally:
        await producer.stop()
    found = await extents(Brokers(broker.bootstrap), ["calls"], within_seconds=20)
    assert found == {"calls": {0: Extent(0, 0), 1: Extent(0, 50)}}
    assert found["calls"][1].records == 50
