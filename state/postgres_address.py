"""What `TIDEMARK_POSTGRES_URL` names, and how safely it is spoken to: libpq's own words, read by libpq's own parser."""

from pathlib import Path
from typing import Final

import psycopg
from psycopg import conninfo

from detection.errors import SettingsError

_SETTING: Final = "TIDEMARK_POSTGRES"
# Under these, libpq looks whose certificate it is; by the others it believes whoever answers.
VERIFYING: Final = frozenset({"verify-ca", "verify-full"})


def with_password(url: str, password: str) -> str:
    """The URL, or what psycopg takes in its place, with the password; raises SettingsError that shows none of it."""
    try:
        parts = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        # libpq quotes what it could not read.
        raise SettingsError(
            f"{_SETTING}_URL is not postgresql://USER@HOST:PORT/DATABASE, or has an option that libpq does not know; "
            "in a password, @ : / ? # % are written as %40 and so on"
        ) from None
    root = str(parts.get("sslrootcert") or "")
    if parts.get("sslmode") in VERIFYING and root and root != "system" and not Path(root).is_file():
        raise SettingsError(f"{_SETTING}_URL: sslrootcert={root}: no such file")
    if not password:
        return url
    if parts.get("password") or parts.get("passfile"):
        raise SettingsError(f"{_SETTING}_PASSWORD is set, and {_SETTING}_URL has one too: leave one of them out")
    return conninfo.make_conninfo(url, password=password)


def to_do(error: Exception) -> str:
    """What a person can do about it, where it is we who are not let in: such a thing does not mend itself."""
    text = str(error)
    if "certificate verify failed" in text or "does not match host name" in text or "root certificate file" in text:
        return f"; set sslrootcert in {_SETTING}_URL to the CA that signed its certificate, and name it as that does"
    if "password authentication failed" in text or "no password supplied" in text:
        return f"; correct the user in {_SETTING}_URL and {_SETTING}_PASSWORD, or the password in {_SETTING}_URL"
    if "no encryption" in text and "pg_hba.conf" in text:
        return f"; put ?sslmode=verify-full&sslrootcert=FILE behind {_SETTING}_URL"
    return ""
