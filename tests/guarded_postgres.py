"""Debian's PostgreSQL, reached over TLS alone: the embedded one was built without it."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from local.ports import LOOPBACK
from local.postgres import DATABASE, Postgres
from tests.authority import Authority


class GuardedPostgres(Postgres):
    """`hostssl` alone is in its pg_hba.conf, so that who does not encrypt is refused.

    Its certificate is of the authority that it is given.
    """

    def __init__(self, data_dir: Path, authority: Authority) -> None:
        super().__init__(data_dir)
        self._authority = authority

    def programs(self) -> Path:
        found = sorted(path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        on_path = shutil.which("postgres")
        assert found or on_path, "install Debian's postgresql"
        return found[-1] if found else Path(str(on_path)).parent

    def _init_command(self) -> list[str]:
        # The builtin locales came with version 17.
        return [part for part in super()._init_command() if "locale-provider" not in part and "builtin" not in part]

    def command(self) -> Sequence[str]:
        identity = self._authority.server("postgres")
        files = {"server.crt": identity.certificate, "server.key": identity.key}
        account = self.account()
        for name, source in files.items():
            copy = self.cluster / name
            shutil.copy(source, copy)
            copy.chmod(0o600)
            if account is not None:
                os.chown(copy, account.uid, account.gid)
        (self.cluster / "pg_hba.conf").write_text(f"hostssl all all {LOOPBACK}/32 scram-sha-256\n", encoding="ascii")
        return [*super().command(), "-c", "ssl=on"]

    @property
    def password(self) -> str:
        """Of the superuser."""
        return self._password()

    @property
    def bare_url(self) -> str:
        """Without a password, and with nothing said of TLS."""
        return f"postgresql://postgres@localhost:{self.port}/{DATABASE}"

    def verified_url(self, ca: Path, *, host: str = "localhost") -> str:
        """Without a password; only a certificate of this CA and this name is believed."""
        return f"{self.bare_url.replace('localhost', host)}?sslmode=verify-full&sslrootcert={ca}"
