"""Apache Kafka under a worker: a node dies or the broker restarts in the middle, and no call is lost or doubled."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError, KafkaError
from redis.asyncio import Redis

from api.event_producer import ensure_topics
from cli.replaying import Replay, replay
from local.stack import Stack
from settings import Settings, load
from tests.integration.test_worker import as_stored, folded
from tests.kafka.apache import ApacheKafka, Cluster
from tests.worker import BOOKKEEPING, CALLS, WorkerProcess, eventually, hashes, unsettled

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(400)]

LIMIT = 12_000
# These calls were recorded over 66 million seconds: they are sent in twenty.
SPEED = 3.3e6
KILL_AFTER = LIMIT // 4


@dataclass(frozen=True, slots=True)
class Scene:
    """A worker that waits for calls, and who says what it has done with them."""

    worker: WorkerProcess
    redis: Redis
    settings: Settings

    async def calls_in_state(self) -> int:
        stored = await hashes(self.redis)
        return sum(int(fields["accepted"]) for key, fields in stored.items() if key.endswith("}"))

    async def until_in_state(self, calls: int) -> None:
        async def missing() -> str:
            assert self.worker.status is None, self.worker.log()
            reached = await self.calls_in_state()
            return "" if reached >= calls else f"{reached} of {calls} calls are in the state"

        await eventually(missing, within_seconds=60)

    async def must_end_as_the_offline_fold(self) -> None:
        """Waits for it, and stops the worker: what is stored, and what is in the topic, is every call once."""

        async def missing() -> str:
            assert self.worker.status is None, self.worker.log()
            return await unsettled(self.redis, LIMIT, self.settings.policy())

        await eventually(missing, within_seconds=120)
        assert self.worker.stop() == 0, self.worker.log()
        states, newest_ms = folded(self.settings, limit=LIMIT)
        expected = await as_stored(states, newest_ms, self.settings)
        stored = await hashes(self.redis, without=BOOKKEEPING)
        assert stored.keys() == expected.keys()
        for key, fields in expected.items():
            assert stored[key] == fields, key
        assert await records_in_topic(self.settings) == LIMIT


@asynccontextmanager
async def scene(environment: Mapping[str, str], log: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    environment = {
        **environment,
        "TIDEMARK_CLOCK": "events",
        "TIDEMARK_FLUSH_SECONDS": "0.2",
        "TIDEMARK_FLUSH_EVENTS": "500",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = load()
    await ensure_topics(settings, ["calls", "observations"])
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        with WorkerProcess(environment, log) as worker:

            async def unassigned() -> str:
                assert worker.status is None, worker.log()
                return "" if await group_state(settings) == "Stable" else "the worker has no partitions"

            await eventually(unassigned, within_seconds=60)
            yield Scene(worker, redis, settings)


@asynccontextmanager
async def replaying(settings: Settings) -> AsyncIterator["asyncio.Task[Replay]"]:
    """A replay that runs meanwhile, and by the end has had every call acknowledged."""
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(replay(CALLS, settings, speed=SPEED, limit=LIMIT))
        yield sending
    assert sending.result().acknowledged == LIMIT


async def test_a_node_killed_in_the_middle_of_a_replay_loses_and_doubles_no_call(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The embedded broker of this stack has nothing to do.
    with Stack(tmp_path / "stack") as stack:
        environment = stack.environment() | cluster.environment()
        async with scene(environment, tmp_path / "worker.log", monkeypatch) as running:
            async with replaying(running.settings) as sending:
                await running.until_in_state(KILL_AFTER)
                victim = await coordinator(cluster, running.settings)
                led = await partitions(running.settings, led_by=victim)
                assert led, "nobody but the group would notice"
                await asyncio.to_thread(victim.kill)
                assert not sending.done(), "the replay was over before the node was killed"
                reached = await running.calls_in_state()
                assert KILL_AFTER <= reached < LIMIT

                async def still_leading() -> str:
                    try:
                        left = await partitions(settings, led_by=victim)
                    except KafkaError as error:
                        # The admin client asks any node that it was told of, the dead one too.
                        return repr(error)
                    return f"the dead node leads {left}" if left else ""

                settings = running.settings.model_copy(update={"kafka_brokers": others(cluster, victim)})
                await eventually(still_leading, within_seconds=60)
            await running.must_end_as_the_offline_fold()

            await asyncio.to_thread(victim.start)

            async def behind() -> str:
                try:
                    missing = await partitions(running.settings, without=victim)
                except KafkaError as error:
                    return repr(error)
                return f"{missing} are not in sync on the node that came back" if missing else ""

            await eventually(behind, within_seconds=60)
            assert await records_in_topic(running.settings) == LIMIT


@pytest.mark.parametrize("end", [ApacheKafka.kill, ApacheKafka.stop], ids=["killed", "stopped"])
async def test_a_broker_restarted_in_the_middle_of_a_replay_loses_and_doubles_no_call(
    end: Callable[[ApacheKafka], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "stack"
    broker = ApacheKafka(folder)
    with Stack(folder, broker=broker) as stack:
        port, log_id = broker.port, broker.log_id
        async with scene(stack.environment(), tmp_path / "worker.log", monkeypatch) as running:
            async with replaying(running.settings) as sending:
                await running.until_in_state(KILL_AFTER)
                await asyncio.to_thread(end, broker)
                assert not sending.done(), "the replay was over before the broker was ended"
                assert await running.calls_in_state() < LIMIT
                await asyncio.to_thread(broker.start)
            assert (broker.port, broker.log_id) == (port, log_id)
            await running.must_end_as_the_offline_fold()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as running:
        yield running


@asynccontextmanager
async def admin_of(settings: Settings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_brokers)
    try:
        await admin.start()
        yield admin
    finally:
        await admin.close()


async def group_state(settings: Settings) -> str:
    async with admin_of(settings) as admin:
        try:
            (answer,) = await admin.describe_consumer_groups([settings.kafka_group])
        except GroupCoordinatorNotAvailableError:
            # The first one to ask has the topic of offsets made.
            return "none"
        ((_, _, state, *_),) = answer.groups
        return str(state)


async def coordinator(cluster: Cluster, settings: Settings) -> ApacheKafka:
    async with admin_of(settings) as admin:
        number = int(await admin.find_coordinator(settings.kafka_group))
    (found,) = (node for node in cluster.nodes if node.node == number)
    return found


def others(cluster: Cluster, victim: ApacheKafka) -> str:
    return ",".join(node.bootstrap for node in cluster.nodes if node is not victim)


async def partitions(
    settings: Settings, *, led_by: ApacheKafka | None = None, without: ApacheKafka | None = None
) -> list[int]:
    """Those of the calls that a node leads, or for which it is not in sync."""
    async with admin_of(settings) as admin:
        (topic,) = await admin.describe_topics(["calls"])
    found: list[dict[str, Any]] = topic["partitions"]
    return sorted(
        one["partition"]
        for one in found
        if (led_by is not None and one["leader"] == led_by.node)
        or (without is not None and without.node not in one["isr"])
    )


async def records_in_topic(settings: Settings) -> int:
    """How many records can be read, which is more than were sent when one was written twice."""
    places = [TopicPartition("calls", number) for number in range(settings.kafka_partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka_brokers) as consumer:
        ends = await consumer.end_offsets(places)
        starts = await consumer.beginning_offsets(places)
    return int(sum(ends.values()) - sum(starts.values()))
