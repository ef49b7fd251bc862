"""What `tidemark doctor` asks PostgreSQL: whether the tables are those of this program, and whether rows will fit."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg
from psycopg import AsyncConnection, conninfo

from state.finding import (
    Finding,
    away,
    clock_finding,
    encryption_finding,
    failed,
    ok,
    percent_finding,
    unknown,
    warning,
)
from state.keeping import Keeping
from state.migrate import newest_revision
from state.partitions import days_kept, names
from state.postgres_address import VERIFYING, to_do

# `alter table … detach partition concurrently` came with it.
_OLDEST: Final = 14


async def postgres_findings(
    url: str, keeping: Keeping, *, is_wall_clock: bool, timeout_seconds: float
) -> list[Finding]:
    """What was found; never raises for a server that is away."""
    where = _where(url)
    try:
        async with await AsyncConnection.connect(
            url, connect_timeout=max(1, round(timeout_seconds)), autocommit=True
        ) as connection:
            await connection.execute(f"set statement_timeout = '{round(timeout_seconds * 1000)}ms'")
            return [
                ok("postgres", where),
                _encryption(connection),
                await _version(connection),
                await _writable(connection),
                migrated := await _migrations(connection),
                await _partitions(connection, keeping, is_wall_clock=is_wall_clock, is_migrated=migrated.level == "ok"),
                await _connections(connection),
                await _clock(connection),
            ]
    except (psycopg.Error, OSError) as error:
        first, *_ = str(error).strip().splitlines() or [type(error).__name__]
        if mend := to_do(error):
            return [
                failed("postgres", f"{where}: {first}{mend}", "Training and the history wait for it; Redis keeps them.")
            ]
        return [
            away(
                "postgres",
                f"{where}: {first}",
                "Start it, or correct TIDEMARK_POSTGRES_URL. Learning goes on without it; training and the history do "
                "not, and what they miss waits in Redis.",
            )
        ]


def _encryption(connection: AsyncConnection) -> Finding:
    """Whether anybody on the way can read along, or answer in its name; by the connection that there is."""
    name = "postgres.encryption"
    is_encrypted = bool(connection.pgconn.ssl_in_use)
    mode = connection.info.get_parameters().get("sslmode", "prefer")
    if is_encrypted and mode not in VERIFYING:
        return warning(
            name,
            f"TLS, for whoever answers: sslmode is {mode}",
            "Put ?sslmode=verify-full&sslrootcert=FILE behind TIDEMARK_POSTGRES_URL, with the CA of its certificate.",
        )
    return encryption_finding(
        name,
        f"TLS, sslmode {mode}" if is_encrypted else "no TLS",
        [connection.info.host],
        is_encrypted=is_encrypted,
        advice="Put ?sslmode=verify-full&sslrootcert=FILE behind TIDEMARK_POSTGRES_URL, and set ssl=on in the server.",
    )


async def _version(connection: AsyncConnection) -> Finding:
    number = connection.info.server_version
    found = f"PostgreSQL {number // 10_000}.{number % 10_000}"
    if number < _OLDEST * 10_000:
        return failed("postgres.version", found, f"Take PostgreSQL {_OLDEST} or newer.")
    return ok("postgres.version", found)


async def _writable(connection: AsyncConnection) -> Finding:
    cursor = await connection.execute(
        "select pg_is_in_recovery(), coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), current_user"
    )
    row = await cursor.fetchone()
    is_standby, may_create, user = row if row is not None else (False, False, "?")
    if is_standby:
        return failed(
            "postgres.writable", "a standby: it takes no writes", "Name the primary in TIDEMARK_POSTGRES_URL."
        )
    if not may_create:
        return failed(
            "postgres.writable",
            f"{user} may not create tables",
            f"grant create on schema public to {user}: partitions are made as time goes on.",
        )
    return ok("postgres.writable", f"{user} may create tables")


async def _migrations(connection: AsyncConnection) -> Finding:
    name, head = "postgres.migrations", newest_revision()
    cursor = await connection.execute("select to_regclass('alembic_version') is not null")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        return warning(name, "no tables yet", "They are made by `tidemark migrate`, a worker or the API at its start.")
    cursor = await connection.execute("select version_num from alembic_version")
    known = sorted(str(one[0]) for one in await cursor.fetchall())
    if known == [head]:
        return ok(name, f"{head}, the newest")
    found = f"{', '.join(known) or 'none'}, this program has {head}"
    if known and known[-1] > head:
        return failed(name, found, "This program is older than its tables: install the version that made them.")
    return warning(name, found, "Run `tidemark migrate`; a worker or the API does the same at its start.")


async def _partitions(
    connection: AsyncConnection, keeping: Keeping, *, is_wall_clock: bool, is_migrated: bool
) -> Finding:
    name = "postgres.partitions"
    if not is_migrated:
        return unknown(name, "the tables are not those of this program")
    now = datetime.now(UTC)
    missing: list[str] = []
    count = 0
    for table in days_kept(keeping):
        known = await names(connection, table)
        count += len(known)
        wanted = {table.name_of(table.start_of(moment)) for moment in (now, now + timedelta(days=1))}
        missing += sorted(wanted - set(known))
    if is_wall_clock and missing:
        return warning(
            name,
            f"{count}; of now and tomorrow, {', '.join(missing)} are missing",
            "A worker makes them within a minute: is one running? Who writes rows first makes them as well.",
        )
    return ok(name, f"{count}" + ("; those of now and tomorrow are there" if is_wall_clock else ""))


async def _connections(connection: AsyncConnection) -> Finding:
    cursor = await connection.execute(
        "select (select count(*) from pg_stat_activity where backend_type = 'client backend'),"
        " current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
    )
    row = await cursor.fetchone()
    used, most = row if row is not None else (0, 1)
    return percent_finding(
        "postgres.connections",
        f"{used} of {most} in use",
        used / most,
        "Raise max_connections, or put a pooler in front: each worker and each API process takes up to four.",
    )


async def _clock(connection: AsyncConnection) -> Finding:
    before = time.time()
    cursor = await connection.execute("select extract(epoch from clock_timestamp())::float8")
    row = await cursor.fetchone()
    if row is None:
        return unknown("postgres.clock", "it does not say")
    return clock_finding("postgres.clock", row[0] - (before + time.time()) / 2)


def _where(url: str) -> str:
    """Host, port and database, without what may be a password."""
    try:
        parts = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        return "TIDEMARK_POSTGRES_URL"
    return f"{parts.get('host') or 'the local socket'}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"
