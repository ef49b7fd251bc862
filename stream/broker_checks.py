"""What `tidemark doctor` asks Kafka: whether the topics are there, and are such that nothing in them gets lost."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from detection.hours import HOUR_MS, SECOND_MS
from settings import Settings
from state.broker_refusal import refusal
from state.brokers import Brokers
from state.finding import Finding, away, encryption_finding, failed, ok, unknown, warning
from stream.announcing import ALERTS, THRESHOLDS
from stream.buffer import CALLS, OBSERVATIONS
from stream.dead_letters import TOPIC as DEAD_LETTERS

TOPICS: Final = (CALLS, OBSERVATIONS, THRESHOLDS, ALERTS, DEAD_LETTERS)
_READ: Final = (CALLS, OBSERVATIONS)
# A worker, or who mends it, may be away for a night.
_NIGHT_MS: Final = 24 * HOUR_MS
# What the API takes, with what surrounds it in a record; a dead letter of a long event is as long.
_LONGEST_BYTES: Final = 1_000_000

_ENCRYPT: Final = "Set TIDEMARK_KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL, and give the brokers such a listener."

Configs = Mapping[str, Mapping[str, str]]


async def broker_findings(settings: Settings, *, timeout_seconds: float) -> list[Finding]:
    """What was found; never raises for a broker that is away."""
    brokers = settings.brokers()
    admin = AIOKafkaAdminClient(**brokers.options(), request_timeout_ms=round(timeout_seconds * SECOND_MS))
    try:
        async with asyncio.timeout(timeout_seconds):
            await admin.start()
            cluster = await admin.describe_cluster()
            # Of all: to ask for one by its name makes it, on some brokers.
            topics = {one["topic"]: one for one in await admin.describe_topics()}
            configs = await _configs(admin, [name for name in TOPICS if name in topics])
            members = await _members(admin, settings.kafka_group)
    except (KafkaError, TimeoutError, OSError) as error:
        if refused := await refusal(brokers, within_seconds=timeout_seconds):
            return [failed("kafka", refused, "Nothing is read or sent before that; nothing is lost meanwhile.")]
        return [
            away(
                "kafka",
                f"{brokers}: {str(error) or 'no answer in time'}",
                "Start it, or correct TIDEMARK_KAFKA_BROKERS. Nothing new is learned without it, and nothing is lost.",
            )
        ]
    finally:
        await admin.close()
    nodes = len(cluster["brokers"])
    findings = [ok("kafka", f"{brokers}, {nodes} broker{'' if nodes == 1 else 's'}"), _transport(brokers)]
    for name in TOPICS:
        findings += _topic(name, topics.get(name), configs.get(name, {}), nodes=nodes, settings=settings)
    findings.append(_group(settings.kafka_group, members))
    return findings


def _transport(brokers: Brokers) -> Finding:
    """Whether anybody on the way can read along."""
    user = f", as {brokers.username} by {brokers.mechanism}" if brokers.is_asked_for_user else ""
    found = f"{brokers.protocol}{user}"
    return encryption_finding(
        "kafka.encryption", found, brokers.names(), is_encrypted=brokers.is_encrypted, advice=_ENCRYPT
    )


def _topic(
    name: str, topic: Mapping[str, Any] | None, config: Mapping[str, str], *, nodes: int, settings: Settings
) -> list[Finding]:
    where = f"kafka.{name}"
    if topic is None:
        return [warning(where, "no such topic", "It is made when a worker starts, or the API is given an event.")]
    findings = [_copies(where, topic["partitions"], nodes)]
    if not config:
        return [*findings, unknown(f"{where}.settings", "the broker does not say", "Compare with the documentation.")]
    if name == THRESHOLDS:
        findings.append(_compacted(where, config))
    if name in _READ:
        findings.append(_kept(where, config, settings))
    if name in {*_READ, DEAD_LETTERS}:
        findings.append(_longest(where, config))
    return findings


def _copies(name: str, partitions: Sequence[Mapping[str, Any]], nodes: int) -> Finding:
    leaderless = sum(one["leader"] < 0 for one in partitions)
    copies = min((len(one["replicas"]) for one in partitions), default=0)
    behind = sum(len(one["isr"]) < len(one["replicas"]) for one in partitions)
    found = f"{len(partitions)} partitions, {copies} cop{'y' if copies == 1 else 'ies'} of each"
    if leaderless:
        return failed(name, f"{found}; {leaderless} without a leader", "Bring the brokers back that have them.")
    if behind:
        return warning(name, f"{found}; {behind} with a copy that is behind", "Look at the brokers that are behind.")
    if copies < 2 <= nodes:
        return warning(
            name, found, "One broker less loses events: reassign with 3 copies, and set TIDEMARK_KAFKA_REPLICAS."
        )
    return ok(name, found)


def _compacted(name: str, config: Mapping[str, str]) -> Finding:
    policy = config.get("cleanup.policy", "")
    found = f"cleanup.policy={policy}"
    if "compact" in policy.split(","):
        return ok(f"{name}.cleanup", found)
    return failed(
        f"{name}.cleanup",
        found,
        f"kafka-configs --alter --entity-type topics --entity-name {THRESHOLDS} --add-config cleanup.policy=compact: "
        "who starts to read it must find the newest threshold of every series.",
    )


def _kept(name: str, config: Mapping[str, str], settings: Settings) -> Finding:
    where = f"{name}.retention"
    policy = config.get("cleanup.policy", "delete")
    if "compact" in policy.split(","):
        return failed(
            where, f"cleanup.policy={policy}", "Set cleanup.policy=delete: of a biller's events, only the last is kept."
        )
    kept_ms = int(config.get("retention.ms", "-1"))
    limit = int(config.get("retention.bytes", "-1"))
    found = f"retention.ms={kept_ms}" + (f", retention.bytes={limit}" if limit >= 0 else "")
    least_ms = HOUR_MS + (settings.close_after_seconds + settings.grace_seconds) * SECOND_MS
    if 0 <= kept_ms < least_ms:
        return failed(
            where,
            found,
            f"Raise it above {least_ms}: a window is open for so long, and is read again after a loss of Redis.",
        )
    if 0 <= kept_ms < _NIGHT_MS:
        return warning(where, found, "Raise it to days: what a worker has not read by then is lost.")
    return ok(where, found)


def _longest(name: str, config: Mapping[str, str]) -> Finding:
    longest = int(config.get("max.message.bytes", _LONGEST_BYTES))
    found = f"max.message.bytes={longest}"
    if longest < _LONGEST_BYTES:
        return warning(f"{name}.size", found, f"Raise it to {_LONGEST_BYTES}: the API takes events of that length.")
    return ok(f"{name}.size", found)


def _group(group: str, members: int | None) -> Finding:
    if members is None:
        return unknown("kafka.workers", f"the broker does not say who is in the group {group}")
    if not members:
        return warning("kafka.workers", f"nobody is in the group {group}", "Start a worker: `tidemark worker`.")
    return ok("kafka.workers", f"{members} in the group {group}")


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """The settings of these topics by name; a topic of which the broker says nothing, or not to us, is left out."""
    if not names:
        return {}
    try:
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    except KafkaError:
        return {}
    found: dict[str, dict[str, str]] = {}
    for answer in answers:
        for code, _, _, name, entries in answer.resources:
            values = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
            if not code and values:
                found[name] = values
    return found


async def _members(admin: AIOKafkaAdminClient, group: str) -> int | None:
    try:
        answers = await admin.describe_consumer_groups([group])
    except KafkaError:
        return None
    # Of each group: error, name, state, protocol type, protocol, members.
    return sum(len(one[5]) for answer in answers for one in answer.groups)
