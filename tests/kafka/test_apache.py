"""Apache Kafka as the tests start it: it is itself again after a kill, and only with the jars that are listed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from api.event_producer import started_producer
from local.stack import PARTITIONS
from state.brokers import Brokers
from tests.kafka import jars
from tests.kafka.apache import ApacheKafka

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ApacheKafka]:
    broker = ApacheKafka(tmp_path)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


async def test_our_producer_is_idempotent_and_a_killed_broker_keeps_its_name_and_records(broker: ApacheKafka) -> None:
    before = broker.bootstrap, broker.log_id
    producer, is_idempotent = await started_producer(Brokers(broker.bootstrap), linger_ms=0)
    try:
        await producer.send_and_wait("calls", b"one")
        assert await producer.partitions_for("calls") == set(range(PARTITIONS))
    finally:
        await producer.stop()
    assert is_idempotent
    broker.kill()
    assert not broker.is_running
    broker.start()
    assert (broker.bootstrap, broker.log_id) == before
    async with AIOKafkaConsumer("calls", bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest") as consumer:
        assert (await consumer.getone()).value == b"one"


def test_a_jar_with_other_contents_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (name, *_) = sorted(jars.verified().iterdir())
    for jar in jars.verified().iterdir():
        (tmp_path / jar.name).symlink_to(jar)
    monkeypatch.setattr(jars, "FOLDER", tmp_path)
    assert jars.verified.__wrapped__() == tmp_path
    (tmp_path / name.name).unlink()
    (tmp_path / name.name).write_bytes(name.read_bytes() + b"\0")
    with pytest.raises(jars.JarsError, match=name.name):
        jars.verified.__wrapped__()
