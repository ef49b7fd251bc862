"""Many seeds over a few lanes of servers, with a line for each and a summary at the end."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from state.migrate import migrate
from tests.faults import driver
from tests.faults.brokers import Embedded
from tests.faults.content import Content
from tests.faults.nursery import Mutation
from tests.faults.outcome import Outcome
from tests.faults.schedule import Kind, schedule_of, table
from tests.faults.servers import TEMPLATE, Servers
from tests.faults.stream import stream_of

# So many schedules in a row meet the same stream, and are compared with the same quiet run.
RUNS_OF_A_STREAM: Final = 8

Say = Callable[[str], None]


@dataclass(slots=True)
class Summary:
    """What all runs have come to."""

    outcomes: list[Outcome] = field(default_factory=list)
    quiet_runs: int = 0
    seconds: float = 0.0

    @property
    def failed(self) -> list[Outcome]:
        return [one for one in self.outcomes if one.differences]

    def struck(self) -> Counter[Kind]:
        """Faults that happened, by kind."""
        return Counter(one.fault.kind for outcome in self.outcomes for one in outcome.struck)

    def __str__(self) -> str:
        hits = Counter(one.fault.kind for outcome in self.outcomes for one in outcome.struck if one.is_hit)
        struck = self.struck()
        rows = [
            ("faults", "hit", "kind"),
            *((str(struck[kind]), str(hits[kind]), kind) for kind in Kind if struck[kind]),
        ]
        runs = len(self.outcomes)
        each = sum(one.seconds for one in self.outcomes) / max(runs, 1)
        ended = sum(len(one.ended_by_themselves) for one in self.outcomes)
        stalls = sum(one.kicks for one in self.outcomes)
        lines = [
            table(rows),
            f"{runs} runs beside {self.quiet_runs} quiet ones in {self.seconds:.0f} s, {each:.1f} s each",
            f"{struck.total()} faults, {hits.total()} of them with events in the state and others on their way",
            f"{ended} workers ended by themselves and were started again, {stalls} stalls were ended by kill -9",
            f"{len(self.failed)} runs with differences",
        ]
        return "\n".join([*lines, *(f"  {one.command}" for one in self.failed)])


async def soak(
    seeds: Iterable[int],
    *,
    folder: Path,
    postgres_url: str,
    lanes: int,
    with_servers: Callable[[Path, str], Servers] = Embedded,
    say: Say = lambda _: None,
    mutation: Mutation | None = None,
    stall_seconds: float = driver.STALL_SECONDS,
    is_enough: Callable[[Outcome], bool] = lambda _: False,
    is_verbose: bool = False,
) -> Summary:
    """A run of each seed; `is_enough` ends it early."""
    started = time.monotonic()
    summary = Summary()
    waiting = iter(list(seeds))
    references = _References(summary)
    await asyncio.to_thread(_make_template, postgres_url)

    async def work(lane: int) -> None:
        async with with_servers(folder / f"lane-{lane}", postgres_url) as servers:
            for seed in waiting:
                outcome = await _one(seed, servers, references, folder, mutation, stall_seconds)
                summary.outcomes.append(outcome)
                say(line(outcome))
                if is_verbose or (outcome.differences and mutation is None):
                    say(outcome.report())
                if not (is_verbose or outcome.differences):
                    _remove_logs(folder / f"seed-{seed}")
                if is_enough(outcome):
                    raise _EnoughError

    try:
        async with asyncio.TaskGroup() as group:
            for lane in range(lanes):
                group.create_task(work(lane))
    except* _EnoughError:
        pass
    summary.seconds = time.monotonic() - started
    return summary


class _EnoughError(Exception):
    """Ends the other lanes as well."""


async def _one(
    seed: int,
    servers: Servers,
    references: "_References",
    folder: Path,
    mutation: Mutation | None,
    stall_seconds: float,
) -> Outcome:
    stream = stream_of(seed // RUNS_OF_A_STREAM)
    expected = await references.of(stream.seed, servers, folder)
    return await driver.faulted(
        servers,
        stream,
        schedule_of(seed, servers.kinds),
        expected,
        folder / f"seed-{seed}",
        mutation=mutation,
        stall_seconds=stall_seconds,
    )


class _References:
    """The quiet run of each stream, made by the lane that needs it first."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._locks: dict[int, asyncio.Lock] = {}
        self._known: dict[int, Content] = {}

    async def of(self, seed: int, servers: Servers, folder: Path) -> Content:
        async with self._locks.setdefault(seed, asyncio.Lock()):
            if seed not in self._known:
                self._known[seed] = await driver.quiet(servers, stream_of(seed), folder / f"quiet-{seed}")
                self._summary.quiet_runs += 1
        return self._known[seed]


def line(outcome: Outcome) -> str:
    """A run in a line."""
    kinds = ", ".join(one.fault.kind for one in outcome.struck)
    verdict = f"{len(outcome.differences)} DIFFERENCES" if outcome.differences else "same"
    return (
        f"seed {outcome.seed}: {verdict}, {outcome.seconds:.1f} s, {outcome.hits} of {len(outcome.struck)} hit: {kinds}"
    )


def _make_template(postgres_url: str) -> None:
    """A database with the tables of the history; one that is there was made by an earlier call."""
    name = sql.Identifier(TEMPLATE)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(name))
        connection.execute(sql.SQL("create database {}").format(name))
    migrate(postgres_url.rsplit("/", 1)[0] + f"/{TEMPLATE}")


def _remove_logs(folder: Path) -> None:
    for path in folder.glob("*.log"):
        path.unlink()
    folder.rmdir()
