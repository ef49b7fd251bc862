"""`tidemark doctor`: looks at everything that Tidemark depends on, and says what to do about what it finds.

Nothing is changed by it, and of what is away, nothing but that is said.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from state.finding import Finding, failed, ok, unknown, warning

if TYPE_CHECKING:
    from settings import Settings
    from state.store import Reached

_SECONDS: Final = 5.0
_DEPENDENCIES: Final = ("kafka", "redis", "postgres")
_AWAY: Final = 3
_MEND: Final = 4

_SIGNS: Final = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "bold red"), "unknown": ("?", "dim")}


def doctor(
    json: Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0.5, max=60, help="Seconds that each of Kafka, Redis and PostgreSQL has to answer.")
    ] = _SECONDS,
) -> None:
    """Check every dependency, the settings and this machine, and say what to do.

    Ends with 0 when nothing is to be mended, 3 when a dependency is away, 4 when a person must mend something.
    """
    import logging

    import orjson

    # What a client of Kafka says while it cannot connect is said once, by us.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    findings = asyncio.run(examine(timeout_seconds=timeout))
    code = exit_code(findings)
    if json:
        print(orjson.dumps(_document(findings, code), option=orjson.OPT_INDENT_2).decode())
    else:
        show(findings)
    raise typer.Exit(code)


async def examine(*, timeout_seconds: float = _SECONDS) -> list[Finding]:
    """All findings, in the order in which they are shown; takes little longer than the slowest dependency."""
    from cli.machine_checks import disk, machine_findings, settings_findings

    findings = machine_findings()
    try:
        settings, found = settings_findings()
        findings += found
        if settings is None:
            return findings + [unknown(name, "the settings cannot be used") for name in _DEPENDENCIES]
        findings.append(disk(settings.data_dir))
        if settings.snapshot_url:
            from cli.snapshot_checks import snapshot_finding

            findings.append(await asyncio.to_thread(snapshot_finding, settings, now_ms=time.time_ns() // 1_000_000))
        return findings + await dependencies(settings, timeout_seconds=timeout_seconds)
    except ImportError as error:
        # Whoever asks for a doctor may lack just that.
        advice = "Install the locked packages: `make setup`, or requirements/runtime.txt."
        return [*findings, failed("machine.imports", str(error), advice)]


async def dependencies(settings: "Settings", *, timeout_seconds: float) -> list[Finding]:
    """Of Kafka, Redis and PostgreSQL, and of how what they hold fits together."""
    from state.postgres_checks import postgres_findings
    from state.redis_checks import redis_findings
    from stream.broker_checks import broker_findings

    kafka, (redis, progress), postgres = await asyncio.gather(
        broker_findings(settings, timeout_seconds=timeout_seconds),
        redis_findings(settings.redis(), replicas=settings.redis_replicas, timeout_seconds=timeout_seconds),
        postgres_findings(
            settings.postgres(),
            settings.keeping(),
            is_wall_clock=settings.clock == "wall",
            timeout_seconds=timeout_seconds,
        ),
    )
    together: list[Finding] = []
    if not (kafka[0].is_away or redis[0].is_away):
        together = await _together(settings, progress, timeout_seconds=timeout_seconds)
    return [*kafka, *redis, *postgres, *together]


async def _together(settings: "Settings", progress: "dict[str, Reached]", *, timeout_seconds: float) -> list[Finding]:
    """Whether the topics are still those that the state was learned from."""
    from api.log_extents import extents
    from detection.errors import DependencyError, UnreadableStateError
    from state.redis_store import RedisStore

    name = "pipeline.progress"
    store = RedisStore.connect(settings.redis(), settings.policy(), retries=0)
    try:
        ends = await extents(settings.brokers(), ("calls", "observations"), within_seconds=timeout_seconds)
        lives = {topic: one.life for topic, one in (await store.log_lives()).items()}
    except (DependencyError, UnreadableStateError) as error:
        return [unknown(name, str(error))]
    finally:
        await store.aclose()
    return [progress_finding(settings.kafka_log_id, ends, lives, progress)]


def progress_finding(log_id: str, ends: Any, lives: dict[str, int], progress: "dict[str, Reached]") -> Finding:
    """Of how far the state is in topics with these ends; a state that is further is of other topics."""
    from state.sources import source_of

    name, lag, beyond, lost = "pipeline.progress", 0, [], 0
    for topic, partitions in ends.items():
        for partition, extent in partitions.items():
            source = source_of(log_id, topic, partition, life=lives.get(topic, 0))
            reached = progress[source].offset if source in progress else extent.beginning
            if reached > extent.end:
                beyond.append(f"{topic}/{partition} ends at {extent.end}, and {reached} were read")
            lost += max(extent.beginning - reached, 0)
            lag += max(extent.end - max(reached, extent.beginning), 0)
    if beyond:
        return failed(
            name,
            "; ".join(beyond),
            "The topic was made anew: stop the workers, run `tidemark log renew TOPIC`, and start them.",
        )
    if lost:
        return warning(
            name,
            f"{lost} records were dropped by Kafka before they were read; {lag} are to be read",
            "Raise the retention of the topics, or start more workers.",
        )
    return ok(name, f"{lag} records are to be read")


def exit_code(findings: Sequence[Finding]) -> int:
    """What must be mended outweighs what may come back by itself."""
    bad = [one for one in findings if one.level == "failed"]
    if any(not one.is_away for one in bad):
        return _MEND
    return _AWAY if bad else 0


def show(findings: Sequence[Finding]) -> None:
    """Print the findings as a table, as wide as the terminal, and what they come to."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("", "check", "found", "what to do", pad_edge=False)
    for one in findings:
        sign, style = _SIGNS[one.level]
        # Said in words as well: a sign and a colour are not for everybody.
        level = "" if one.level == "ok" else f" {one.level}"
        table.add_row(f"[{style}]{sign}{level}[/]", escape(one.name), escape(one.found), escape(one.advice))
    console.print(table)
    console.print(_sum(findings))


def _sum(findings: Sequence[Finding]) -> str:
    counts = {level: sum(one.level == level for one in findings) for level in _SIGNS}
    return ", ".join(f"{count} {level}" for level, count in counts.items() if count)


def _document(findings: Sequence[Finding], code: int) -> dict[str, Any]:
    return {
        "exit_code": code,
        "checks": [
            {"name": one.name, "status": one.level, "found": one.found, "advice": one.advice or None}
            for one in findings
        ],
    }
