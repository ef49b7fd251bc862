"""Places for snapshots, and a Redis whose content is compared byte for byte."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from cli.exporting import beginning, fits
from cli.importing import Imported, import_state
from cli.progress import Progress
from local.ports import free_port
from state.keys import ALERTING, NOTIFIED
from state.redis_store import RedisStore
from state.snapshots.address import SnapshotAddress, parse
from state.snapshots.creation import Order, create
from state.snapshots.manifest import Manifest
from state.snapshots.reading import lines
from state.snapshots.storage import Storage
from tests.contract.redis_servers import wait_until
from tests.contract.states import POLICY

FOLDER = Path(__file__).parent / "snapshots"
# Those that every Azurite has.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Clock:
    """A wall clock that goes on by a second whenever it is looked at."""

    def __init__(self, ms: int = 1_795_000_000_000) -> None:
        self.ms = ms

    def __call__(self) -> int:
        self.ms += 1000
        return self.ms


@dataclass
class Keeper:
    """Snapshots of one Redis in one place."""

    store: RedisStore
    storage: Storage
    clock: Clock = field(default_factory=Clock)

    async def made(self, *, scope: Sequence[str] = (), is_full: bool = False, log_id: str = "kafka") -> Manifest:
        order = Order(
            log_id=log_id,
            program="0.1.0",
            now_ms=self.clock,
            scope=tuple(scope),
            fits=lambda subject: fits(subject, scope),
            prefix=beginning(scope),
            is_full=is_full,
        )
        return await create(self.store, self.storage, order)

    async def restored(
        self, manifest: Manifest, *, scope: Sequence[str] = (), is_dry: bool = False, is_replacing: bool = False
    ) -> Imported:
        wanted = (lambda subject: fits(subject, scope)) if scope else None
        return await import_state(
            self.store,
            lambda: lines(self.storage, manifest, fits=wanted),
            policy=POLICY,
            log_id="kafka",
            globs=scope,
            is_replacing=is_replacing,
            is_other_log=False,
            is_dry=is_dry,
            wall_ms=0,
            progress=lambda totals: Progress(totals, is_shown=False),
        )

    async def content(self) -> dict[str, Any]:
        """All that Redis holds and a snapshot brings back, by key: bytes of hashes, and members in their order."""
        found: dict[str, Any] = {}
        async for key in self.store.client.scan_iter(count=1000):
            name = key.decode()
            if name in {ALERTING, NOTIFIED}:
                continue
            if await self.store.client.type(key) == b"hash":
                found[name] = await self.store.client.hgetall(key)
            else:
                found[name] = await self.store.client.zrange(key, 0, -1)
        return found


def folder(path: Path) -> Storage:
    return Storage.open(parse(f"file://{path}"))


@contextmanager
def azurite(path: Path) -> Iterator[Callable[[str], SnapshotAddress]]:
    """Azure Blob Storage of this machine; makes the address of a container that is there."""
    port = free_port()
    program = FOLDER / "node_modules" / ".bin" / "azurite-blob"
    command = [str(program), "--blobPort", str(port), "--location", str(path), "--silent", "--disableTelemetry"]
    # Its own log may ask somebody for permission.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AZURE")}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            _await_port(port, process)
            endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
            options = orjson.dumps({"account_name": ACCOUNT, "account_key": KEY, "endpoint": endpoint}).decode()

            def address(container: str) -> SnapshotAddress:
                _make_container(endpoint, container)
                return parse(f"az://{container}/tide/marks", options)

            yield address
        finally:
            process.terminate()


def _await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    def listens() -> bool:
        assert process.poll() is None, "Azurite has ended"
        with socket.socket() as probe:
            return not probe.connect_ex(("127.0.0.1", port))

    wait_until(listens, within_seconds=60)


def _make_container(endpoint: str, container: str) -> None:
    """By a signed request: the library makes no containers."""
    import base64
    import hashlib
    import hmac
    from email.utils import formatdate

    import httpx

    date = formatdate(usegmt=True)
    headers = f"x-ms-date:{date}\nx-ms-version:2021-12-02\n"
    resource = f"/{ACCOUNT}/{ACCOUNT}/{container}\nrestype:container"
    signed = "PUT" + "\n" * 12 + headers + resource
    digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
    answer = httpx.put(
        f"{endpoint}/{container}?restype=container",
        headers={
            "x-ms-date": date,
            "x-ms-version": "2021-12-02",
            "content-length": "0",
            "authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        },
    )
    assert answer.status_code in {201, 409}, answer.text
