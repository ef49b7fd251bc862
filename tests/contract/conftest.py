"""The stores under contract: the same tests run over each."""

from collections.abc import AsyncIterator, Iterator

import pytest

from state.memory_store import MemoryStore
from state.redis_store import RedisStore
from tests.contract.redis_servers import Cluster, clustered
from tests.contract.states import POLICY, Store

# A database of our own on the shared server, emptied before each test.
DATABASE = 11


@pytest.fixture
def redis_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("stack").valkey.url
    return url.rsplit("/", 1)[0] + f"/{DATABASE}"


@pytest.fixture
async def redis_store(redis_url: str) -> AsyncIterator[RedisStore]:
    store = RedisStore.connect(redis_url, POLICY)
    await store._client.flushdb()
    yield store
    await store.aclose()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Shared: a test that lets a node fail starts its own."""
    with clustered(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
async def cluster_store(cluster: Cluster) -> AsyncIterator[RedisStore]:
    store = RedisStore.connect(cluster.url, POLICY)
    await store._client.flushdb()
    yield store
    await store.aclose()


@pytest.fixture(params=["memory", "redis", "cluster"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore(POLICY)
    store: RedisStore = request.getfixturevalue(f"{request.param}_store")
    return store
