"""Databases of the embedded PostgreSQL, one for each test that needs its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, LiteralString
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from local.stack import Stack

_NUMBERS = count(1)


@contextmanager
def new_database(stack: Stack, name: str) -> Iterator[str]:
    """The URL of an empty database, which is gone after the block."""
    numbered = sql.Identifier(f"{name}_{next(_NUMBERS)}")
    with psycopg.connect(stack.postgres.url, autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(numbered))
    try:
        yield urlsplit(stack.postgres.url)._replace(path=f"/{numbered.as_string().strip(chr(34))}").geturl()
    finally:
        with psycopg.connect(stack.postgres.url, autocommit=True) as connection:
            connection.execute(sql.SQL("drop database {} with (force)").format(numbered))


def ask(url: str, statement: LiteralString, *values: object) -> list[tuple[Any, ...]]:
    """All rows of one statement, in a transaction that is committed."""
    with psycopg.connect(url) as connection:
        return connection.execute(statement, values).fetchall()
