"""Clients for one server, for a master that Sentinels watch, and for a cluster: all are used as a client of one server.

What a server says when it is not, or no longer, the one to write to (READONLY, MASTERDOWN, LOADING; MOVED, ASK,
TRYAGAIN and CLUSTERDOWN in a cluster) makes the client look again who is, and try a few times. What does not succeed
then is raised, and waited for by whoever can wait.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

from hiredis import pack_command
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.backoff import ExponentialBackoff, NoBackoff

from detection.errors import SettingsError
from state.redis_address import Address
from state.redis_cluster import ClusterClient

# A Sentinel that does not answer is passed over: there are others.
_SENTINEL_SECONDS: Final = 1.0


def client_at(address: Address, *, connections: int, timeout_seconds: float, retries: int) -> Redis:
    """A client with its own bounded pool, which answers bytes; nothing is connected before it is used.

    `connections` are to each node where there are several. Raises SettingsError for options that no client has.
    """
    shared: dict[str, Any] = {
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "health_check_interval": 30,
        "decode_responses": False,
    }
    try:
        options: dict[str, Any] = shared | dict(parse_url(address.url))
        if address.kind == "cluster":
            is_tls = options.pop("connection_class", Connection) is SSLConnection
            for name in ("host", "port", "db"):
                options.pop(name, None)
            # A connection takes it, and the library's client of a cluster does not.
            key_password = options.pop("ssl_password", None)
            cluster = ClusterClient(
                address.hosts,
                connection_class=_QuickClusterSSLConnection if is_tls else _QuickClusterConnection,
                connections=connections,
                wait_seconds=timeout_seconds,
                retries=retries,
                options=options | ({"ssl": True} if is_tls else {}),
                of_connections={} if key_password is None else {"ssl_password": key_password},
            )
            # It has the commands of a client of one server, but no class in common with it.
            return cast(Redis, cluster)
        options |= {
            "max_connections": connections,
            "timeout": timeout_seconds,
            "retry": Retry(ExponentialBackoff(cap=1.0, base=0.05), retries=retries),
            "retry_on_error": [exceptions.BusyLoadingError],
        }
        plain = options.pop("connection_class", Connection)
        pool: BlockingConnectionPool
        if address.kind == "sentinel":
            pool = _sentinel_pool(address, options, is_tls=plain is SSLConnection)
        else:
            pool = BlockingConnectionPool(connection_class=_QUICK[plain], **options)
        # The pool takes any option; a connection, which is thrown away before it connects, does not.
        pool.make_connection()  # type: ignore[no-untyped-call]
        return Redis.from_pool(pool)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"an option of the Redis URL cannot be used: {_without_values(error)}") from None


def _sentinel_pool(address: Address, options: dict[str, Any], *, is_tls: bool) -> "_SentinelPool":
    for name in ("host", "port"):
        options.pop(name, None)
    seconds = min(options["socket_timeout"], _SENTINEL_SECONDS)
    of_sentinels: dict[str, Any] = {
        **{name: value for name, value in options.items() if name.startswith("ssl_")},
        **address.sentinel_options,
        "socket_timeout": seconds,
        "socket_connect_timeout": seconds,
        "retry": Retry(NoBackoff(), 0),
        "ssl": is_tls,
    }
    sentinels = Sentinel(address.hosts, sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]
    options["connection_class"] = _QuickSentinelSSLConnection if is_tls else _QuickSentinelConnection
    return _SentinelPool(address.service, sentinels, **options)  # type: ignore[no-untyped-call]


def _without_values(error: Exception) -> str:
    """What the library says, up to where it might go on with a value."""
    return str(error).partition(":")[0]


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Who finds all connections in use waits for one, and closing it closes what it asks the Sentinels by."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


class _QuickPacking(Connection):
    """Packs commands with hiredis: redis-py's own loop takes longer than the server does for the whole write."""

    def pack_command(self, *args: Any) -> list[bytes]:
        name, *rest = args
        words = name.split() if isinstance(name, str) else [name]
        return [pack_command((*words, *rest))]


class _QuickConnection(_QuickPacking):
    """Goes to whoever is the master now when the server says that it is not.

    redis-py does so for Sentinels and READONLY alone, but the master's name in DNS or a proxy moves on as well.
    """

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)
        except (exceptions.ReadOnlyError, exceptions.MasterDownError) as error:
            await self.disconnect(nowait=True)
            raise exceptions.ConnectionError(f"the server is not the master any more: {error}") from error


class _QuickSSLConnection(_QuickConnection, SSLConnection):
    pass


class _QuickUnixConnection(UnixDomainSocketConnection):
    pack_command = _QuickPacking.pack_command


class _QuickSentinelConnection(_QuickConnection, SentinelManagedConnection):
    pass


class _QuickSentinelSSLConnection(_QuickConnection, SentinelManagedSSLConnection):
    pass


class _QuickClusterConnection(_QuickPacking):
    pass


class _QuickClusterSSLConnection(_QuickPacking, SSLConnection):
    pass


_QUICK: Final[Mapping[Any, Any]] = {
    Connection: _QuickConnection,
    SSLConnection: _QuickSSLConnection,
    UnixDomainSocketConnection: _QuickUnixConnection,
}
