"""Apache Kafka itself, in KRaft mode: one broker, or a cluster of three of which one can be killed."""

import base64
import itertools
import os
import subprocess
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from detection.errors import OperatorError
from local.broker import Broker
from local.ports import LOOPBACK, free_port, is_free
from local.stack import PARTITIONS
from tests.kafka import jars

# A broker of few topics needs no more, and one core of the two is the worker's.
_JVM = ("-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class ApacheKafka(Broker):
    """One node that is broker and controller at once.

    Unlike the embedded broker it keeps topics, offsets and `log_id` over restarts and kills. `quorum` names the
    controllers of all nodes of its cluster by their node ids, and is this node alone when it is empty. `properties` are
    settings of the server that differ from those of tests.
    """

    start_seconds = 60.0
    # What is said when its storage is made, beside what every node is told.
    format_options: Sequence[str] = ()

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        node: int = 1,
        quorum: Mapping[int, int] | None = None,
        cluster_id: str | None = None,
        properties: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(data_dir, port)
        self.log_id = cluster_id or _new_cluster_id()
        self._node = node
        self._quorum = dict(quorum or {})
        self._others = dict(properties or {})

    @property
    def node(self) -> int:
        """Its id in the cluster, as clients see it."""
        return self._node

    def command(self) -> Sequence[str]:
        if not self._quorum:
            self._quorum = {self._node: free_port()}
        properties = self.folder / "server.properties"
        written = "".join(f"{name}={value}\n" for name, value in self._properties().items())
        properties.write_text(written, encoding="utf-8")
        if not (self._log_folder / "meta.properties").exists():
            self._format(properties)
        return [*self._java(), "kafka.Kafka", str(properties)]

    def environment(self) -> Mapping[str, str]:
        # Only what finds java: the JVM reads options from the environment, and none of them is meant for it.
        return {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}

    @property
    def _log_folder(self) -> Path:
        return self.folder / "log"

    def _format(self, properties: Path) -> None:
        command = [*self._java(), "kafka.tools.StorageTool", "format"]
        command += ["--cluster-id", self.log_id, "--config", str(properties), *self.format_options]
        formatted = subprocess.run(command, check=False, capture_output=True, text=True)
        if formatted.returncode:
            raise OperatorError(f"the storage of {self.name} was not formatted: {formatted.stdout}{formatted.stderr}")

    def _java(self) -> list[str]:
        log = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")
        return ["java", *_JVM, *log, "-cp", f"{jars.verified()}/*"]

    def _properties(self) -> dict[str, object]:
        replicas = len(self._quorum)
        in_sync = min(replicas, 2)
        return {
            "process.roles": "broker,controller",
            "node.id": self._node,
            "controller.quorum.voters": ",".join(f"{node}@{LOOPBACK}:{port}" for node, port in self._quorum.items()),
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{LOOPBACK}:{self._quorum[self._node]}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "log.dirs": self._log_folder,
            # As the embedded broker, which tests of the stack rely on.
            "auto.create.topics.enable": "true",
            "num.partitions": PARTITIONS,
            "default.replication.factor": replicas,
            "min.insync.replicas": in_sync,
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.num.partitions": 1,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            # Tests wait for a group to form, and for a dead broker to be noticed.
            "group.initial.rebalance.delay.ms": 0,
            "broker.heartbeat.interval.ms": 500,
            "broker.session.timeout.ms": 3000,
            # Files of a topic are deleted at once, and sized for tests.
            "log.segment.delete.delay.ms": 0,
            "log.index.size.max.bytes": 1024 * 1024,
            **self._others,
        }


class Cluster:
    """Three nodes, as a context manager: every topic on all of them, a write is one on two of them.

    Nodes are killed and started one by one through `nodes`; while two run, nothing stops.
    """

    def __init__(self, data_dir: Path) -> None:
        cluster_id = _new_cluster_id()
        # All at once: each node is told the controllers of all.
        ports = _free_ports(6)
        quorum = dict(enumerate(ports[3:], start=1))
        self.nodes = tuple(
            ApacheKafka(data_dir / f"node-{node}", port, node=node, quorum=quorum, cluster_id=cluster_id)
            for node, port in enumerate(ports[:3], start=1)
        )
        self.log_id = cluster_id

    @property
    def bootstrap(self) -> str:
        return ",".join(node.bootstrap for node in self.nodes)

    def __enter__(self) -> Self:
        try:
            self._all_at_once(ApacheKafka.start)
        except BaseException:
            self._all_at_once(ApacheKafka.stop)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._all_at_once(ApacheKafka.kill)

    def environment(self) -> dict[str, str]:
        """What a worker or an API must be told in place of what the embedded stack says."""
        return {
            "TIDEMARK_KAFKA_BROKERS": self.bootstrap,
            "TIDEMARK_KAFKA_LOG_ID": self.log_id,
            "TIDEMARK_KAFKA_REPLICAS": str(len(self.nodes)),
        }

    def _all_at_once(self, do: Callable[[ApacheKafka], None]) -> None:
        # One after the other would wait for ever: a node alone has no quorum.
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            for done in [pool.submit(do, node) for node in self.nodes]:
                done.result()


def _new_cluster_id() -> str:
    """In the form that Kafka wants: 16 bytes in URL-safe base64, without padding, not beginning with a dash."""
    while (name := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return name


def _free_ports(count: int) -> list[int]:
    """Different ones, which one look after the other does not promise."""
    ports = itertools.count(free_port())
    return list(itertools.islice(filter(is_free, ports), count))
