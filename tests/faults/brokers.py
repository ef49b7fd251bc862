"""The servers of a run with the embedded broker, and with Apache Kafka."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from local.broker import Broker
from local.ports import LOOPBACK
from tests.faults.proxy import Proxy
from tests.faults.schedule import Kind
from tests.faults.servers import Servers
from tests.faults.stream import PARTITIONS
from tests.faults.topics import CLIENT_ID, READ, delete_topics, make_topics
from tests.kafka.apache import ApacheKafka


class Embedded(Servers):
    """With the embedded broker, a new one for each run: it is there in a second.

    It keeps its log in memory, so it can be frozen and cut off, but not restarted.
    """

    def __init__(self, folder: Path, postgres_url: str) -> None:
        super().__init__(folder, postgres_url)
        self._broker: _ProxiedBroker | None = None

    @property
    def broker(self) -> Broker | None:
        return self._broker

    async def fresh_log(self) -> str:
        await asyncio.to_thread(self._fresh_broker)
        await make_topics(self.bootstrap)
        return self._running.log_id

    def _fresh_broker(self) -> None:
        if self._broker is not None:
            self._broker.kill()
        self._broker = _ProxiedBroker(self._folder, self._broker_proxy)
        self._broker.start()

    async def rewound(self, group: str) -> str:
        # Setting the offsets of a group by hand leaves this broker with a group that nobody can join any more. One that
        # it never heard of begins at the beginning as well.
        return f"{group}-again"


class Apache(Servers):
    """With Apache Kafka, one for all runs, with new topics for each: its log outlives it."""

    kinds = Servers.kinds | {Kind.RESTART_BROKER}
    is_idempotent = True
    option = "--apache "

    def __init__(self, folder: Path, postgres_url: str) -> None:
        super().__init__(folder, postgres_url)
        self._broker = _ProxiedApache(folder, self._broker_proxy)
        self._logs = 0

    @property
    def broker(self) -> Broker | None:
        return self._broker

    async def fresh_log(self) -> str:
        self._logs += 1
        if self._logs == 1:
            await asyncio.to_thread(self._broker.start)
        else:
            await delete_topics(self.bootstrap)
        await make_topics(self.bootstrap)
        return f"apache-{self._logs}"

    async def rewound(self, group: str) -> str:
        """Refused by the broker as long as it takes a member for alive, one that was killed say."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, client_id=CLIENT_ID, group_id=group, enable_auto_commit=False
        )
        places = [TopicPartition(name, one) for name in READ for one in range(PARTITIONS)]
        async with consumer:
            consumer.assign(places)
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(KafkaError), stop=stop_after_delay(40), wait=wait_fixed(0.2)
            ):
                with attempt:
                    await consumer.commit(dict.fromkeys(places, 0))
        return group


class _ProxiedBroker(Broker):
    """The embedded broker, which sends its clients to a proxy."""

    def __init__(self, data_dir: Path, proxy: Proxy) -> None:
        super().__init__(data_dir)
        self._proxy = proxy

    def command(self) -> Sequence[str]:
        self._proxy.target = self.port
        *command, _ = super().command()
        return [*command, f"tcp://{LOOPBACK}:{self._proxy.port}"]


class _ProxiedApache(ApacheKafka):
    """As `_ProxiedBroker`."""

    def __init__(self, data_dir: Path, proxy: Proxy) -> None:
        super().__init__(data_dir)
        self._proxy = proxy

    def _properties(self) -> dict[str, object]:
        self._proxy.target = self.port
        return {**super()._properties(), "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{self._proxy.port}"}
