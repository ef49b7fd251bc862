"""The store goes on by itself when a replica takes over and when slots move, and loses nothing that replicas have."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from redis.crc import key_slot

from detection.errors import DependencyError
from detection.subject import Subject
from local.ports import LOOPBACK
from local.valkey import Valkey
from state.keys import SUBJECTS, subject_key
from state.redis_pipeline import Replicas, run_pipeline
from state.redis_store import RedisStore
from tests.contract.redis_servers import Cluster, Member, Watched, clustered, wait_until, watched
from tests.contract.states import POLICY, biller, fields, glanced
from tests.contract.test_redis_store import broken_server

B1 = Subject.biller("B1")
SLUG = "error-rate"
WRITER = "writer/0/0"

Result = TypeVar("Result")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path) as running:
        yield running


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    with clustered(tmp_path) as running:
        yield running


@contextlib.asynccontextmanager
async def connected(
    url: str, *, replicas: int = 0, timeout_seconds: float = 1.0, retries: int = 3
) -> AsyncIterator[RedisStore]:
    store = RedisStore.connect(url, POLICY, replicas=replicas, timeout_seconds=timeout_seconds, retries=retries)
    try:
        yield store
    finally:
        await store.aclose()


async def retried(work: Callable[[], Awaitable[Result]], *, within_seconds: float = 15) -> Result:
    """As a flush does: again and again while the store is away."""
    async with asyncio.timeout(within_seconds):
        while True:
            with contextlib.suppress(DependencyError):
                return await work()
            await asyncio.sleep(0.05)


async def save_new(store: RedisStore, *names: str) -> None:
    """Write these billers, also when the answer to a write that was made was lost."""
    await retried(lambda: store.save([biller(name, hours=2) for name in names]))
    found = await retried(lambda: store.load([Subject.biller(name) for name in names]))
    assert len(found) == len(names)


async def write_on(store: RedisStore, subject: Subject, *, until: asyncio.Event) -> tuple[int, int]:
    """Count on in one subject for as long; what was last acknowledged, and how many writes had to be made again."""
    acknowledged = failed = 0
    while not until.is_set():
        try:
            state = (await store.load([subject]))[subject]
            state.offsets[WRITER] = acknowledged + 1
            if not await store.save([state]):
                acknowledged += 1
        except DependencyError:
            failed += 1
        await asyncio.sleep(0)
    return acknowledged, failed


# Sentinels


@pytest.mark.slow
async def test_what_a_replica_had_is_there_after_the_master_was_killed(servers: Watched) -> None:
    async with connected(servers.url, replicas=1) as durable, connected(servers.url) as store:
        await durable.save([biller("B1")])
        before = await fields(durable)
        servers.master.kill()
        with pytest.raises(DependencyError):
            await durable.save([biller("B2")])
        assert len(await retried(lambda: store.load([B1]))) == 1
        assert await fields(store) == before
        await save_new(store, "B3")
        assert servers.replica.is_master()
        # Alone, the new master has no replica that could have a write. The old one comes back as one.
        with pytest.raises(DependencyError, match="0 of 1 replicas"):
            await durable.save([biller("B4")])
        servers.master.options = ("--replicaof", f"{LOOPBACK} {servers.replica.port}")
        servers.master.start()
        await save_new(durable, "B5")
        wait_until(lambda: servers.master.written() == servers.replica.written())
        assert servers.master.call("EXISTS", subject_key(Subject.biller("B5"))) == 1


@pytest.mark.slow
async def test_no_acknowledged_write_is_lost_while_the_master_is_changed(servers: Watched) -> None:
    async with connected(servers.url, replicas=1) as store:
        await store.save([biller("B1", hours=2)])
        is_over = asyncio.Event()
        writers = asyncio.create_task(write_on(store, B1, until=is_over))
        await asyncio.sleep(0.2)
        servers.sentinel.call("SENTINEL", "FAILOVER", "learned-state")
        await asyncio.to_thread(wait_until, lambda: servers.replica.is_master() and not servers.master.is_master())
        await save_new(store, "B2")
        is_over.set()
        acknowledged, failed = await writers
        assert acknowledged > 20
        assert failed
        assert (await store.load([B1]))[B1].offsets[WRITER] >= acknowledged


async def test_a_write_that_no_replica_has_counts_as_none_and_so_does_finding_it(servers: Watched) -> None:
    alone = "0 of 1 replicas had the write"
    b2 = Subject.biller("B2")
    # The next owner of the partition has connections of its own, on which nothing was written yet.
    async with connected(servers.url, replicas=1) as store, connected(servers.url, replicas=1) as next_owner:
        written = biller("B1", hours=2)
        await store.save([written])
        servers.replica.pause()
        try:
            with pytest.raises(DependencyError, match=alone):
                await store.save([written])
            # What a repeated flush finds: its events are in the state, and nothing is left to write.
            found = (await next_owner.load([B1]))[B1]
            assert found.rev == 2
            with pytest.raises(DependencyError, match=alone):
                await next_owner.confirm([found])
        finally:
            servers.replica.go_on()
        assert await next_owner.confirm([found]) == []
        assert servers.replica.call("HGET", subject_key(B1), "rev") == "2"
        servers.replica.pause()
        try:
            # Listed already or not: none is written whose place in the list may be forgotten again.
            for one in (store, RedisStore.connect(servers.url, POLICY, replicas=1, timeout_seconds=1.0)):
                with pytest.raises(DependencyError, match=alone):
                    await one.save([biller("B2", hours=2)])
                assert servers.master.call("ZSCORE", SUBJECTS, str(b2)) == 0
                assert await one.load([b2]) == {}
            await one.aclose()
        finally:
            servers.replica.go_on()


async def test_a_state_that_the_store_has_not_cannot_be_confirmed(servers: Watched) -> None:
    async with connected(servers.url, replicas=1) as store:
        state = biller("B1", hours=2)
        await store.save([state])
        assert await store.confirm([state]) == []
        await store._client.delete(subject_key(B1))
        assert await store.confirm([state]) == [B1]
        assert subject_key(B1) not in await fields(store)


# One server, by a name that moves on


class Moving:
    """A name that leads to one server, and later to another one; connections that are open stay where they are."""

    def __init__(self, target: Valkey) -> None:
        self.target = target
        self._pipes: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection(LOOPBACK, self.target.port)
        try:
            await asyncio.gather(_pipe(reader, other_writer), _pipe(other_reader, writer))
        finally:
            other_writer.close()
            writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()


async def test_a_master_that_was_demoted_is_left_for_the_new_one(tmp_path: Path) -> None:
    old, new = Member(tmp_path, "old"), Member(tmp_path, "new")
    old.start()
    new.start()
    name = Moving(old)
    proxy = await asyncio.start_server(name.serve, LOOPBACK, 0)
    try:
        async with connected(f"redis://{LOOPBACK}:{proxy.sockets[0].getsockname()[1]}/0") as store:
            await store.save([biller("B1", hours=2)])
            new.call("REPLICAOF", LOOPBACK, old.port)
            wait_until(lambda: not new.is_master() and new.call("ROLE")[3] == "connected")
            wait_until(lambda: new.written() == old.written())
            new.call("REPLICAOF", "NO", "ONE")
            old.call("REPLICAOF", LOOPBACK, new.port)
            name.target = new
            # The connection is open, and the server at its other end only reads.
            assert await store.save([biller("B2", hours=2)]) == []
            assert new.call("EXISTS", subject_key(Subject.biller("B2"))) == 1
            assert len(await store.load([B1])) == 1
    finally:
        proxy.close()
        new.stop()
        old.stop()


@pytest.mark.parametrize(
    "answer",
    [
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "NOREPLICAS Not enough good replicas to write.",
        "LOADING Valkey is loading the dataset in memory",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "MOVED 1 127.0.0.1:1",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "OOM command not allowed when used memory > 'maxmemory'.",
    ],
)
@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
async def test_what_a_server_says_that_cannot_serve_now_is_a_dependency_error(scheme: str, answer: str) -> None:
    async with broken_server(f"-{answer}\r\n".encode()) as url:
        store = RedisStore.connect(url.replace("redis://", f"{scheme}://"), POLICY, timeout_seconds=0.2, retries=1)
        for call in (store.ping, lambda: store.save([biller(hours=2)]), store.cohorts, lambda: store.glance(B1, SLUG)):
            with pytest.raises(DependencyError):
                await call()
        await store.aclose()


@pytest.mark.parametrize(
    "url",
    ["redis+sentinel://127.0.0.1:1,127.0.0.1:2/learned-state", "redis+cluster://127.0.0.1:1,127.0.0.1:2"],
)
async def test_where_nobody_answers_every_call_is_a_dependency_error(url: str) -> None:
    async with connected(url, timeout_seconds=0.2, retries=0) as store:
        for call in (
            store.ping,
            store.subjects,
            store.clock,
            store.cohorts,
            lambda: store.load([B1]),
            lambda: store.save([biller(hours=2)]),
            lambda: store.glance(B1, SLUG),
            lambda: store.advance_clock(1),
            lambda: store.claim_cohorts(now_ms=1, due_ms=2),
        ):
            with pytest.raises(DependencyError):
                await call()


# A cluster


def slot_of(subject: Subject) -> int:
    return key_slot(subject_key(subject).encode())


def billers_of(cluster: Cluster, member: Member, count: int) -> list[str]:
    """Names of billers whose keys are on that node."""
    names = (f"B{number}" for number in range(10_000))
    found = (name for name in names if cluster.owner(slot_of(Subject.biller(name))) is member)
    return [next(found) for _ in range(count)]


async def test_more_subjects_than_fit_into_one_pipeline_are_spread_over_all_nodes(
    cluster_store: RedisStore, cluster: Cluster
) -> None:
    states = [biller(f"B{number}", hours=2) for number in range(300)]
    assert await cluster_store.save(states) == []
    subjects = [state.subject for state in states]
    assert set(await cluster_store.load(subjects)) == set(subjects)
    assert len(await cluster_store.heads(subjects)) == 300
    assert all(member.call("DBSIZE") > 300 for member in cluster.masters)


async def test_a_node_that_forgot_the_scripts_is_given_them_again(cluster_store: RedisStore, cluster: Cluster) -> None:
    await cluster_store.save([biller("B1", hours=2)])
    cluster.owner(slot_of(B1)).call("SCRIPT", "FLUSH")
    state = (await cluster_store.load([B1]))[B1]
    assert await cluster_store.save([state]) == []


async def test_more_pipelines_than_connections_wait_for_each_other(cluster: Cluster) -> None:
    store = RedisStore.connect(cluster.url, POLICY, connections=2)
    found = await asyncio.gather(*(store.heads([B1]) for _ in range(50)))
    nodes = store._client.nodes_manager.nodes_cache.values()  # type: ignore[attr-defined]  # a client of a cluster
    assert len(found) == 50
    assert max(len(node._connections) for node in nodes) <= 2
    await store.aclose()


async def test_replicas_are_waited_for_at_each_node_that_was_written_to(cluster: Cluster) -> None:
    one = Replicas(1, 300)
    store = RedisStore.connect(cluster.url, POLICY)
    keys = [next(f"k{n}" for n in range(1000) if cluster.owner(key_slot(b"k%d" % n)) is one) for one in cluster.masters]
    first, second = (("SET", key, "1") for key in keys[:2])
    assert await run_pipeline(store._client, [first], replicas=one) == [True]
    for commands in ([second], [first, second]):
        with pytest.raises(DependencyError, match="0 of 1 replicas"):
            await run_pipeline(store._client, commands, replicas=one)
    await store._client.flushdb()
    await store.aclose()


@pytest.mark.slow
async def test_a_cluster_serves_what_it_can_while_a_node_is_away_and_all_of_it_afterwards(
    own_cluster: Cluster,
) -> None:
    first = own_cluster.masters[0]
    names = [name for member in own_cluster.masters for name in billers_of(own_cluster, member, 3)]
    async with connected(own_cluster.url) as store:
        await store.save([biller(name, hours=2) for name in names])
        before = await fields(store)
        wait_until(lambda: own_cluster.replica.written() == first.written())
        first.kill()
        with pytest.raises(DependencyError):
            await store.load([Subject.biller(names[0])])
        # Of the others, answers come meanwhile.
        assert (await glanced(store, Subject.biller(names[3]), SLUG))[0] is not None
        loaded = await retried(lambda: store.load([Subject.biller(name) for name in names]))
        assert own_cluster.replica.is_master()
        assert await retried(lambda: fields(store)) == before
        assert await store.save(list(loaded.values())) == []
        await store.ping()
        await store.claim_cohorts(now_ms=1, due_ms=2)


async def test_the_store_follows_a_slot_that_moves_to_another_node(own_cluster: Cluster) -> None:
    source = own_cluster.owner(slot_of(B1))
    target = next(one for one in own_cluster.masters if one is not source)
    slot = slot_of(B1)
    async with connected(own_cluster.url) as store:
        await store.save([biller("B1", hours=2), biller("B2", hours=2)])
        before = await fields(store)
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", source.call("CLUSTER", "MYID"))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", target.call("CLUSTER", "MYID"))
        keys = source.call("CLUSTER", "GETKEYSINSLOT", slot, 100)
        source.call("MIGRATE", LOOPBACK, target.port, "", 0, 5000, "KEYS", *keys[:1])
        # Half of the subject is here, half there: nobody can work on it, and nothing of it is taken for missing.
        with pytest.raises(DependencyError, match=r"TryAgainError"):
            await store.load([B1])
        source.call("MIGRATE", LOOPBACK, target.port, "", 0, 5000, "KEYS", *keys[1:])
        # All of it is there: the source sends each request on, until the slot is said to be there too.
        assert set(target.call("CLUSTER", "GETKEYSINSLOT", slot, 100)) == set(keys)
        assert (await store.load([B1]))[B1].rev == 1
        assert (await glanced(store, B1, SLUG))[0] is not None
        for member in (target, source, *own_cluster.masters):
            member.call("CLUSTER", "SETSLOT", slot, "NODE", target.call("CLUSTER", "MYID"))
        loaded = (await store.load([B1]))[B1]
        assert await store.save([loaded]) == []
        after = await fields(store)
        assert after[subject_key(B1)].pop(b"rev") == b"2"
        assert before[subject_key(B1)].pop(b"rev") == b"1"
        assert after == before
