"""What `tidemark doctor` asks Redis: whether it keeps what it is told, and whether it will go on doing so."""

import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from detection.errors import DependencyError
from state.finding import (
    Finding,
    away,
    clock_finding,
    encryption_finding,
    failed,
    is_loopback,
    ok,
    percent_finding,
    warning,
)
from state.keys import SUBJECTS
from state.redis_address import Address, parse
from state.redis_cluster import ClusterClient
from state.redis_pipeline import client_of, redis_errors, to_do
from state.redis_progress import read as read_progress
from state.store import Reached

# ZRANGE with BYLEX came with it.
_OLDEST: Final = (6, 2)
_MIB: Final = 1024 * 1024

Info = Mapping[str, Any]


async def redis_findings(
    url: str, *, replicas: int, timeout_seconds: float
) -> tuple[list[Finding], dict[str, Reached]]:
    """What was found, and how far each source is in the state; never raises for a server that is away."""
    address = parse(url)
    hosts = ", ".join(f"{host}:{port}" for host, port in address.hosts) or _host(url)
    # A cluster's client has no class in common with that of one server.
    client: Any = client_of(url, connections=2, timeout_seconds=timeout_seconds, retries=0)
    try:
        with redis_errors():
            infos = await _infos(client)
            before = time.time()
            seconds, micros = await _time(client)
            skew = seconds + micros / 1e6 - (before + time.time()) / 2
            save = await _save(client)
            subjects = await client.zcard(SUBJECTS) if not isinstance(client, ClusterClient) else None
        progress = await read_progress(client)
    except DependencyError as error:
        if to_do(error.__cause__):
            return [failed("redis", f"{hosts}: {error.reason}", "Nothing is learned or answered before that.")], {}
        return [
            away(
                "redis",
                f"{hosts}: {error.reason}",
                "Start it, or correct TIDEMARK_REDIS_URL. Nothing is learned, and nothing is answered, without it.",
            )
        ], {}
    finally:
        await client.aclose()
    findings = [ok("redis", _said(hosts, infos, subjects, progress)), _encryption(address), _user(address)]
    for node, info in infos.items():
        findings += _of_node(node if len(infos) > 1 else "", info, save=save, replicas=replicas)
    findings.append(clock_finding("redis.clock", skew))
    return findings, progress


def _encryption(address: Address) -> Finding:
    """Whether anybody on the way can read along, or answer in its name."""
    name = "redis.encryption"
    if address.is_encrypted and not address.is_verified:
        return warning(
            name,
            "encrypted, for whoever answers: its certificate is not looked at",
            "Take ssl_cert_reqs and ssl_check_hostname out of TIDEMARK_REDIS_URL, and set TIDEMARK_REDIS_CA_FILE.",
        )
    return encryption_finding(
        name,
        "TLS" if address.is_encrypted else "no TLS",
        address.names,
        is_encrypted=address.is_encrypted,
        advice="Write rediss:// in TIDEMARK_REDIS_URL, and set TIDEMARK_REDIS_CA_FILE, for a server with a tls-port.",
    )


def _user(address: Address) -> Finding:
    """Whether the server can tell us from everybody else."""
    if address.username or all(is_loopback(host) for host in address.names):
        return ok("redis.user", address.username or "default")
    return warning(
        "redis.user",
        "default, who may do everything",
        "Give each role a user of its own: `tidemark acl` prints them, docs/connections.md says where they go.",
    )


def _of_node(node: str, info: Info, *, save: str | None, replicas: int) -> list[Finding]:
    where = f"{node}: " if node else ""
    return [
        Finding(one.name, one.level, where + one.found, one.advice)
        for one in (
            _version(info),
            _role(info),
            _eviction(info),
            _memory(info),
            _persistence(info, save),
            _replicas(info, replicas),
        )
    ]


def _version(info: Info) -> Finding:
    product, text = ("Valkey", info["valkey_version"]) if "valkey_version" in info else ("Redis", info["redis_version"])
    compatible = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if compatible < _OLDEST:
        return failed("redis.version", f"{product} {text}", "Take Redis 6.2 or newer, or any Valkey.")
    return ok("redis.version", f"{product} {text}")


def _role(info: Info) -> Finding:
    if info.get("role") == "master":
        return ok("redis.role", "master")
    return failed(
        "redis.role",
        f"{info.get('role')}: it takes no writes",
        "Name the master in TIDEMARK_REDIS_URL, or the Sentinels: redis+sentinel://HOST:PORT/SERVICE.",
    )


def _eviction(info: Info) -> Finding:
    policy, limit = str(info.get("maxmemory_policy", "")), int(info.get("maxmemory", 0))
    found = f"maxmemory-policy {policy}, maxmemory {_mib(limit) if limit else 'unlimited'}"
    advice = "CONFIG SET maxmemory-policy noeviction: what is evicted is what was learned."
    if policy == "noeviction":
        return ok("redis.eviction", found)
    return failed("redis.eviction", found, advice) if limit else warning("redis.eviction", found, advice)


def _memory(info: Info) -> Finding:
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    total = int(info.get("total_system_memory", 0))
    most = limit or total
    if not most:
        return ok("redis.memory", f"{_mib(used)} used")
    of = "maxmemory" if limit else "the machine's memory"
    return percent_finding(
        "redis.memory",
        f"{_mib(used)} used, {100 * used / most:.1f} % of {of}",
        used / most,
        "Give it more memory: writes are refused when it is full. A series takes about 5 kB.",
    )


def _persistence(info: Info, save: str | None) -> Finding:
    name = "redis.persistence"
    if int(info.get("loading", 0)):
        return warning(name, "it is still reading its data from disk", "Wait until it has.")
    if int(info.get("aof_enabled", 0)):
        if info.get("aof_last_write_status") != "ok":
            return failed(name, "the append-only file cannot be written", "Look at its log, and at its disk.")
        return ok(name, "append-only file")
    if info.get("rdb_last_bgsave_status") != "ok":
        return failed(name, "no append-only file, and the last snapshot failed", "Look at its log, and at its disk.")
    advice = "Set appendonly yes: what a restart loses is learned again only as far back as Kafka still has the calls."
    if save == "":
        return warning(name, "nothing is kept on disk: a restart forgets everything", advice)
    return warning(name, f"snapshots only (save {save or 'unknown'})", advice)


def _replicas(info: Info, wanted: int) -> Finding:
    connected = int(info.get("connected_slaves", 0))
    found = f"{connected} connected, {wanted} waited for"
    if connected < wanted:
        return failed(
            "redis.replicas", found, "Connect the replicas, or lower TIDEMARK_REDIS_REPLICAS: no write counts as done."
        )
    return ok("redis.replicas", found)


async def _infos(client: Any) -> dict[str, Info]:
    """By node; of a cluster, of each master."""
    if not isinstance(client, ClusterClient):
        return {"": await client.info()}
    found: Any = await client.info(target_nodes=ClusterClient.PRIMARIES)
    # Of one node alone, the library leaves the name out.
    return {"": found} if "redis_version" in found else {str(node): info for node, info in found.items()}


async def _time(client: Any) -> tuple[int, int]:
    if isinstance(client, ClusterClient):
        found: Any = await client.time(target_nodes=ClusterClient.RANDOM)
        if isinstance(found, dict):
            found = next(iter(found.values()))
    else:
        found = await client.time()
    return int(found[0]), int(found[1])


async def _save(client: Any) -> str | None:
    """The snapshots it is told to make; None where that may not be asked."""
    if isinstance(client, ClusterClient):
        return None
    try:
        with redis_errors():
            found: Any = await client.config_get("save")
    except DependencyError:
        return None
    return next((_text(value) for value in found.values()), None)


def _said(hosts: str, infos: Mapping[str, Info], subjects: int | None, progress: Mapping[str, Reached]) -> str:
    nodes = f", {len(infos)} masters" if len(infos) > 1 else ""
    known = "" if subjects is None else f", {subjects} subjects"
    return f"{hosts}{nodes}{known}, {len(progress)} partitions were read"


def _host(url: str) -> str:
    """Without what may be a password: the user before it, and the options behind."""
    split = urlsplit(url)
    host = split.hostname or ""
    return f"{host}:{split.port}{split.path}" if split.port else f"{host}{split.path}"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _mib(count: int) -> str:
    return f"{count / _MIB:.0f} MiB"
