"""Brings the history's tables to the newest schema: at every start, by whoever starts first."""

from pathlib import Path
from typing import Final

import psycopg

from detection.errors import DependencyError
from state.postgres_address import to_do

_CONNECT_SECONDS: Final = 5
_WAIT_SECONDS: Final = 60

# Any number that no other program on the same database takes: "tidemark" in ASCII, as a signed 64-bit integer.
_LOCK: Final = int.from_bytes(b"tidemark", "big")

_MIGRATIONS: Final = Path(__file__).with_name("migrations")


def migrate(url: str) -> None:
    """Apply what is missing, all of it or nothing; others that start meanwhile wait. Blocks: not for an event loop.

    Raises DependencyError when PostgreSQL does not answer, or another migration takes longer than a minute.
    """
    # Nearly every start finds the newest schema: told by two questions, not by a second of loading alembic.
    try:
        with psycopg.connect(url, connect_timeout=_CONNECT_SECONDS, autocommit=True) as connection:
            row = connection.execute("select to_regclass('alembic_version') is not null").fetchone()
            if row is not None and row[0]:
                known = connection.execute("select version_num from alembic_version").fetchall()
                if known == [(newest_revision(),)]:
                    return
    except psycopg.Error as error:
        raise _away(error) from error
    _upgrade(url)


def newest_revision() -> str:
    """The schema that this program works with: the number of its last migration."""
    return max(path.stem[1:5] for path in _MIGRATIONS.glob("versions/m*.py"))


def _upgrade(url: str) -> None:
    from alembic import command  # noqa: PLC0415  # a second to load, for what happens once a release
    from alembic.config import Config  # noqa: PLC0415  # as above
    from sqlalchemy import create_engine, text  # noqa: PLC0415  # as above
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415  # as above
    from sqlalchemy.pool import NullPool  # noqa: PLC0415  # as above

    # psycopg reads the URL itself: libpq knows forms of it that SQLAlchemy does not.
    engine = create_engine(
        "postgresql+psycopg://",
        poolclass=NullPool,
        creator=lambda: psycopg.connect(url, connect_timeout=_CONNECT_SECONDS),
    )
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    try:
        with engine.begin() as connection:
            connection.execute(text(f"set local lock_timeout = '{_WAIT_SECONDS}s'"))
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except (SQLAlchemyError, psycopg.Error) as error:
        raise _away(error) from error
    finally:
        engine.dispose()


def _away(error: Exception) -> DependencyError:
    return DependencyError("postgres", f"{type(error).__name__}: {str(error).strip()}{to_do(error)}")
