"""The embedded stack as one thing: three servers on free ports, their data below one folder, one owner at a time."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from filelock import FileLock, Timeout

from detection.errors import OperatorError
from local.broker import Broker
from local.postgres import Postgres
from local.process import orphans
from local.server import Server
from local.valkey import Valkey

MARKER = "tidemark-stack.json"
LOCK = "tidemark-stack.lock"

_ORPHAN_SECONDS = 30
PARTITIONS = 4
# The shortest that workers take: a join waits half of it.
SESSION_SECONDS = 6


class Stack:
    """Broker, Valkey and PostgreSQL of one data folder, as a context manager.

    Nobody else can start on the same folder meanwhile, and no process is left afterwards: not on an exception, not
    when this process is killed. Valkey and PostgreSQL keep their data for the next start; the broker forgets its log,
    so `environment()` names each life of it. `is_fresh` empties the folder first. `broker` takes the place of the
    embedded one, with its data in the same folder.
    """

    def __init__(self, data_dir: Path, *, is_fresh: bool = False, broker: Broker | None = None) -> None:
        self.data_dir = data_dir.expanduser().resolve()
        self.broker = broker if broker is not None else Broker(self.data_dir)
        self.valkey = Valkey(self.data_dir)
        self.postgres = Postgres(self.data_dir)
        self._is_fresh = is_fresh
        self._lock = FileLock(self.data_dir / LOCK)

    @property
    def servers(self) -> tuple[Server, ...]:
        return (self.broker, self.valkey, self.postgres)

    def __enter__(self) -> Self:
        self._take_folder()
        try:
            _end_orphans(self.data_dir)
            if self._is_fresh:
                _empty(self.data_dir)
            self._mark()
            _all_at_once(self.servers)
            self._mark()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    def environment(self) -> dict[str, str]:
        """What a worker or an API of this stack must be told; after a broker restart, ask again."""
        return {
            "TIDEMARK_KAFKA_BROKERS": self.broker.bootstrap,
            "TIDEMARK_KAFKA_LOG_ID": self.broker.log_id,
            "TIDEMARK_KAFKA_PARTITIONS": str(PARTITIONS),
            "TIDEMARK_KAFKA_REPLICAS": "1",
            "TIDEMARK_KAFKA_SESSION_SECONDS": str(SESSION_SECONDS),
            "TIDEMARK_REDIS_URL": self.valkey.url,
            "TIDEMARK_POSTGRES_URL": self.postgres.url,
            "TIDEMARK_DATA_DIR": str(self.data_dir),
        }

    def processes(self) -> list[psutil.Process]:
        """Every process of the servers, guards included."""
        return [process for server in self.servers for process in server.processes()]

    def _take_folder(self) -> None:
        _refuse_foreign(self.data_dir)
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise OperatorError(_occupied(self.data_dir)) from None
        except OSError as error:
            raise OperatorError(
                f"the data folder {self.data_dir} cannot be used: {error.strerror}; name another one with --data, "
                "or give this one to the account that starts Tidemark"
            ) from None

    def _mark(self) -> None:
        """Say who runs here: for people, and for a second start."""
        marker = {
            "what": "Data of Tidemark's embedded stack. `tidemark up --fresh` deletes everything in this folder.",
            "pid": os.getpid(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "ports": {server.name: server.port for server in self.servers},
        }
        path = self.data_dir / MARKER
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
        draft.replace(path)

    def _leave(self) -> None:
        try:
            with ThreadPoolExecutor(len(self.servers)) as pool:
                for done in [pool.submit(server.stop) for server in self.servers]:
                    done.result()
        finally:
            self._lock.release()


def _all_at_once(servers: tuple[Server, ...]) -> None:
    with ThreadPoolExecutor(len(servers)) as pool:
        for started in [pool.submit(server.start) for server in servers]:
            started.result()


def _refuse_foreign(data_dir: Path) -> None:
    """A folder with somebody's files and without our marker is never written to, let alone emptied."""
    if not data_dir.exists():
        return
    if not data_dir.is_dir():
        raise OperatorError(f"{data_dir} is a file: name a folder for the data with --data")
    names = {entry.name for entry in data_dir.iterdir()} - {LOCK}
    if names and MARKER not in names:
        raise OperatorError(
            f"{data_dir} holds files that are not Tidemark's ({', '.join(sorted(names)[:3])}, ...): "
            "name an empty or a new folder with --data"
        )


def _empty(data_dir: Path) -> None:
    for entry in data_dir.iterdir():
        if entry.name in (LOCK, MARKER):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _occupied(data_dir: Path) -> str:
    marker = _marker(data_dir)
    ports = ", ".join(f"{name} on port {port}" for name, port in marker.get("ports", {}).items() if port)
    return (
        f"another Tidemark already runs in {data_dir}: process {marker.get('pid', 'unknown')}, "
        f"since {marker.get('started', 'just now')}" + (f" ({ports})" if ports else "") + ". "
        "Stop it first, or name another folder with --data"
    )


def _end_orphans(data_dir: Path) -> None:
    """After a crash of the owner its guards are still stopping the servers: wait for them, then make sure."""
    _, alive = psutil.wait_procs(orphans(data_dir), timeout=_ORPHAN_SECONDS)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=5)


def _marker(data_dir: Path) -> dict[str, Any]:
    try:
        marker = json.loads((data_dir / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}
