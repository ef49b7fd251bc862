"""The roles that we ship for PostgreSQL: the processes do their work as them, and nothing else."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from local.stack import Stack
from state.database import Database
from state.keeping import Keeping
from state.migrate import migrate
from state.postgres_address import with_password
from tests.databases import new_database

SCRIPT = Path(__file__).parents[2] / "state" / "roles.sql"
ROLES = ("tidemark_migrate", "tidemark_worker", "tidemark_api", "tidemark_reader")
PASSWORD = "secret-of-a-role-19f2"


@pytest.fixture
def database(stack: Stack) -> Iterator[str]:
    with new_database(stack, "roles") as url:
        try:
            yield url
        finally:
            with psycopg.connect(url, autocommit=True) as connection:
                for role in ("tidemark_owner", *ROLES):
                    name = sql.Identifier(role)
                    connection.execute(sql.SQL("drop owned by {} cascade").format(name))
                    connection.execute(sql.SQL("drop role {}").format(name))


def make_roles(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCRIPT.read_bytes())
        for role in ROLES:
            connection.execute(sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(PASSWORD)))


def url_of(url: str, role: str) -> str:
    where = url.rpartition("@")[2]
    return with_password(f"postgresql://{role}@{where}", PASSWORD)


@pytest.mark.parametrize("is_migrated", [False, True], ids=["before", "after"])
async def test_each_role_is_allowed_what_it_does(database: str, is_migrated: bool) -> None:
    if is_migrated:
        await asyncio.to_thread(migrate, database)
    make_roles(database)
    # Again, as an operator would who is not sure.
    make_roles(database)
    await asyncio.to_thread(migrate, url_of(database, "tidemark_migrate"))
    now = datetime.now(UTC)
    for role in ("tidemark_worker", "tidemark_api"):
        async with Database(url_of(database, role)) as pool:
            await pool.retain(Keeping(), now + timedelta(days=400 if role == "tidemark_worker" else 800))
            async with pool.transaction() as connection:
                await connection.execute("create temporary table mine (x int) on commit drop")
                await connection.execute("insert into label_sets select * from label_sets where false")
        # The next start finds its schema.
        await asyncio.to_thread(migrate, url_of(database, role))
    with psycopg.connect(url_of(database, "tidemark_reader")) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        assert len(tables) > 10
        for (table,) in tables:
            connection.execute(sql.SQL("select * from {} limit 1").format(sql.Identifier(table)))


@pytest.mark.parametrize("role", ROLES)
def test_no_role_is_allowed_what_it_does_not_do(database: str, role: str) -> None:
    make_roles(database)
    migrate(url_of(database, "tidemark_migrate"))
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("create schema others")
        connection.execute("create table others.secrets (x int)")
    refused = [
        "select * from others.secrets",
        "create database mine",
        "create role mine",
        "create schema mine",
        "create extension dblink",
        "copy (select 1) to program 'true'",
        "select pg_read_file('PG_VERSION')",
        "alter system set log_connections = on",
        "select rolpassword from pg_authid",
    ]
    if role == "tidemark_reader":
        refused += ["insert into label_sets values (7)", "delete from alerts", "create table mine (x int)"]
        refused += ["set role tidemark_owner", "set default_transaction_read_only = off; delete from alerts"]
    with psycopg.connect(url_of(database, role), autocommit=True) as connection:
        for statement in refused:
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
                connection.execute(statement.encode())
