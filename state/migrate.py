"""Brings the history's tables to the newest schema: at every start, by whoever starts first."""

from pathlib import Path
from typing import Final

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from detection.errors import DependencyError

_CONNECT_SECONDS: Final = 5
_WAIT_SECONDS: Final = 60

# Any number that no other program on the same database takes: "tidemark" in ASCII, as a signed 64-bit integer.
_LOCK: Final = int.from_bytes(b"tidemark", "big")


def migrate(url: str) -> None:
    """Apply what is missing, all of it or nothing; others that start meanwhile wait. Blocks: not for an event loop.

    Raises DependencyError when PostgreSQL does not answer, or another migration takes longer than a minute.
    """
    # psycopg reads the URL itself: libpq knows forms of it that SQLAlchemy does not.
    engine = create_engine(
        "postgresql+psycopg://",
        poolclass=NullPool,
        creator=lambda: psycopg.connect(url, connect_timeout=_CONNECT_SECONDS),
    )
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    try:
        with engine.begin() as connection:
            connection.execute(text(f"set local lock_timeout = '{_WAIT_SECONDS}s'"))
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (SQLAlchemyError, psycopg.Error) as error:
        raise DependencyError("postgres", f"{type(error).__name__}: {str(error).strip()}") from error
    finally:
        engine.dispose()
