"""What a Redis URL names; a wrong one says what is wrong with it, and nothing that may be a password."""

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection

import settings
from detection.errors import SettingsError
from state.redis_address import parse
from state.redis_cluster import ClusterClient
from state.redis_pipeline import client_of

PASSWORD = "correct-horse-battery"


def test_one_server_is_what_it_always_was() -> None:
    url = "redis://user:secret@host:6380/3?health_check_interval=5"
    address = parse(url)
    assert (address.kind, address.url) == ("server", url)


def test_sentinels_are_named_with_the_service_they_watch() -> None:
    address = parse(
        "rediss+sentinel://user:p%40ss@a:1,b,[::1]:3/learned-state/2?ssl_ca_certs=/ca&sentinel_password=x%26y"
    )
    assert address.kind == "sentinel"
    assert address.hosts == (("a", 1), ("b", 26379), ("::1", 3))
    assert address.service == "learned-state"
    assert address.url == "rediss://user:p%40ss@a:1/2?ssl_ca_certs=%2Fca"
    assert address.sentinel_options == {"password": "x&y"}


def test_nodes_of_a_cluster_are_named_without_a_database() -> None:
    address = parse("redis+cluster://:secret@a:7000,b/")
    assert (address.kind, address.hosts) == ("cluster", (("a", 7000), ("b", 6379)))
    assert address.url == "redis://:secret@a:7000/0"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("localhost:6379", "begins with one of"),
        (f"http://:{PASSWORD}@a", "begins with one of"),
        (f"redis://:{PASSWORD}@a:x/0", "host or port"),
        (f"redis://:{PASSWORD}@a:65536/0", "host or port"),
        (f"redis://:{PASSWORD}@a:1,b:2/0", "several hosts"),
        (f"redis+sentinel://:{PASSWORD}@a:1", "name of the service"),
        (f"redis+sentinel://:{PASSWORD}@a:1//0", "name of the service"),
        (f"redis+sentinel://:{PASSWORD}@a:1/name/one", "one number"),
        (f"redis+sentinel://:{PASSWORD}@a:1/name/1/2", "one number"),
        (f"redis+sentinel://:{PASSWORD}@a:0/name", "HOST:PORT"),
        (f"redis+sentinel://:{PASSWORD}@a:1,/name", "HOST:PORT"),
        (f"redis+sentinel://:{PASSWORD}/more@a:1/name", "HOST:PORT"),
        (f"redis+cluster://:{PASSWORD}@a:1/1", "database 0"),
        (f"redis+cluster://:{PASSWORD}@", "HOST:PORT"),
    ],
)
def test_a_url_that_names_nothing_stops_the_start(monkeypatch: pytest.MonkeyPatch, url: str, reason: str) -> None:
    monkeypatch.setenv("TIDEMARK_REDIS_URL", url)
    with pytest.raises(SettingsError, match="TIDEMARK_REDIS_URL") as raised:
        settings.load()
    assert reason in str(raised.value)
    assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_an_option_that_no_client_has_stops_the_start(scheme: str) -> None:
    for option in (f"socket_timeout={PASSWORD}", f"passwort={PASSWORD}"):
        with pytest.raises(SettingsError, match="an option of the Redis URL") as raised:
            _ = client_of(f"{scheme}://a:1?{option}", connections=1, timeout_seconds=1, retries=0)
        assert PASSWORD not in str(raised.value)


def test_a_client_shows_no_password() -> None:
    for url in (f"redis+sentinel://:{PASSWORD}@a/name?sentinel_password={PASSWORD}", f"redis+cluster://:{PASSWORD}@a"):
        assert PASSWORD not in repr(parse(url))


def test_sentinels_and_servers_are_asked_over_tls_where_the_url_says_so() -> None:
    client = client_of(
        "rediss+sentinel://u:p@a/name?ssl_cert_reqs=none&sentinel_password=s",
        connections=1, timeout_seconds=1, retries=0,
    )  # fmt: skip
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert issubclass(pool.connection_class, SSLConnection)
    assert pool.connection_kwargs["username"] == "u"
    (sentinel,) = pool.sentinel_manager.sentinels  # type: ignore[attr-defined]  # a pool of Sentinels
    assert issubclass(sentinel.connection_pool.connection_class, SSLConnection)
    assert sentinel.connection_pool.connection_kwargs["password"] == "s"
    assert sentinel.connection_pool.connection_kwargs.get("username") is None


async def test_nodes_are_asked_over_tls_where_the_url_says_so() -> None:
    client = client_of("rediss+cluster://u:p@a,b?ssl_cert_reqs=none", connections=1, timeout_seconds=1, retries=0)
    assert isinstance(client, ClusterClient)
    nodes = client.nodes_manager.startup_nodes.values()
    assert all(issubclass(node.connection_class, SSLConnection) for node in nodes)
    assert [node.connection_kwargs["ssl_cert_reqs"] for node in nodes] == ["none", "none"]
