"""One bounded pool of connections to PostgreSQL, and its failures as ours: what all parts of the history share."""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.errors import CheckViolation
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool

from detection.errors import DependencyError
from state.keeping import Keeping
from state.partitions import Partitioned, Partitions, days_kept, drop_older
from state.postgres_address import to_do

_CONNECT_SECONDS: Final = 5
_STATEMENT_SECONDS: Final = 60
# The pool waits twice as long after each attempt that failed, up to minutes, until it has tried for this long. Then it
# begins anew: whoever asks after PostgreSQL came back waits for some seconds, however long it was away.
_RECONNECT_SECONDS: Final = 4.0


class Database:
    """The tables of `state.migrate.migrate`; DependencyError while PostgreSQL does not answer."""

    def __init__(self, url: str, *, connections: int = 4, timeout_seconds: float = 10.0) -> None:
        self._pool = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=connections,
            max_waiting=64,
            timeout=timeout_seconds,
            reconnect_timeout=_RECONNECT_SECONDS,
            reconnect_failed=AsyncConnectionPool.check,
            kwargs={"autocommit": True, "connect_timeout": _CONNECT_SECONDS, "application_name": "tidemark"},
            configure=_configure,
            # A connection that broke while nobody used it is replaced before it is handed out.
            check=AsyncConnectionPool.check_connection,
            open=False,
        )
        self._partitions = Partitions()

    async def open(self) -> None:
        """Start to connect; does not wait for it, and does not fail where PostgreSQL is away."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Give the connections back."""
        await self._pool.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which each statement is a transaction of its own."""
        try:
            async with self._pool.connection() as connection:
                yield connection
        except psycopg.Error as error:
            if isinstance(error, CheckViolation):
                # No partition for a row: one that was known is gone. Whoever tries again finds out what is there.
                self._partitions.forget()
            raise DependencyError("postgres", f"{type(error).__name__}: {str(error).strip()}{to_do(error)}") from error

    @asynccontextmanager
    async def transaction(
        self, needed: Mapping[Partitioned, Iterable[datetime]] | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """One transaction, before which the partitions for rows of these moments are made."""
        async with self.connection() as connection:
            await self._partitions.ensure(connection, needed or {})
            async with connection.transaction():
                yield connection

    async def ping(self) -> None:
        """Raises DependencyError when PostgreSQL does not answer."""
        async with self.connection() as connection:
            await connection.execute("select 1")

    async def retain(self, keeping: Keeping, now: datetime) -> list[str]:
        """Make the partitions of now and of tomorrow, drop those that are older than is kept; their names."""
        dropped: list[str] = []
        tables = days_kept(keeping)
        async with self.connection() as connection:
            for table, days in tables.items():
                dropped += await drop_older(connection, table, now - timedelta(days=days))
            if dropped:
                self._partitions.forget()
            await self._partitions.ensure(connection, dict.fromkeys(tables, (now, now + timedelta(days=1))))
        return dropped


async def _configure(connection: AsyncConnection) -> None:
    # PostgreSQL writes 1e300 as a number of 301 digits, which the standard library reads as an integer that no JSON of
    # ours can hold; this reads it as the float that it was.
    set_json_loads(orjson.loads, connection)
    await connection.execute(f"set statement_timeout = '{_STATEMENT_SECONDS}s'")
