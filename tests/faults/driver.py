"""One run: a stream through real workers, what its schedule does to them, and what the end differs in from a quiet one.

start servers anew → train what the schedule will not → start workers
for each fault: send the next part of the stream → wait until work is under way → strike
mend everything → wait until the content is that of the quiet run, or nothing moves any more
stop the workers → compare Redis field by field, the history row by row, and the dead letters
"""

import asyncio
import time
from pathlib import Path
from typing import Any, Final

from settings import PREFIX, Settings
from tests.faults import content
from tests.faults.content import Content, differences
from tests.faults.nursery import Mutation
from tests.faults.outcome import Outcome
from tests.faults.processes import Processes
from tests.faults.schedule import Schedule
from tests.faults.servers import Servers
from tests.faults.stream import Stream
from tests.faults.striking import Striking

# Nothing in the state has changed for so long, with all servers up and workers running: it will not change any more.
# A worker that others have to be told to be dead takes 6 s, a rebalance about as long.
STALL_SECONDS: Final = 25.0
# How often workers that do not move any more are killed and started again, as an orchestrator would.
_KICKS: Final = 2
_QUIET_SECONDS: Final = 120.0


async def quiet(servers: Servers, stream: Stream, folder: Path) -> Content:
    """What the stream comes to with one worker and nothing in its way; checked against what plain Python counts."""
    environment = _environment(await servers.fresh(), flush_events=200_000, flush_seconds=0.1)
    run = Processes(servers, stream, environment, folder, None)
    async with run:
        for training in stream.trainings:
            await run.train(training, (0, 1))
        run.start_worker()
        await run.send(stream.sorted_records)
        deadline = time.monotonic() + _QUIET_SECONDS
        policy = Settings(**_keywords(environment)).policy()
        while missing := await content.unfinished(servers.redis, stream, policy):
            assert time.monotonic() < deadline, f"the quiet run does not end: {missing}"
            run.tend()
            await asyncio.sleep(0.1)
        await run.stop_workers()
        assert not run.ended_by_themselves, run.ended_by_themselves
        found = await run.content()
    counted = {
        subject: (int(fields["accepted"]), int(fields["late"]))
        for subject in stream.subjects
        for fields in [found.fields[f"tidemark:1:{{{subject}}}"]]
    }
    assert counted == stream.counts(), "the quiet run has counted other events than were sent"
    assert found.letters == stream.letters(), found.letters ^ stream.letters()
    return found


async def faulted(
    servers: Servers,
    stream: Stream,
    schedule: Schedule,
    expected: Content,
    folder: Path,
    *,
    mutation: Mutation | None = None,
    stall_seconds: float = STALL_SECONDS,
) -> Outcome:
    """One run of the schedule; its end is compared with what is expected."""
    started = time.monotonic()
    command = f"python -m tests.faults {servers.option}--seed {schedule.seed} --runs 1"
    outcome = Outcome(schedule.seed, schedule, folder=folder, command=command)
    environment = _environment(
        await servers.fresh(), flush_events=schedule.flush_events, flush_seconds=schedule.flush_seconds
    )
    async with Processes(servers, stream, environment, folder, mutation) as run:
        await Striking(run, schedule, outcome, started).strike_all()
        outcome.faults_seconds = time.monotonic() - started
        outcome.kicks = await run.settle(expected, stall_seconds, kicks=_KICKS if mutation is None else 0)
        await run.stop_workers()
        outcome.ended_by_themselves = run.ended_by_themselves
        found = await run.content()
        outcome.differences = run.failures + differences(expected.fields, found.fields)
        outcome.differences += [f"dead letter missing: {one}" for one in sorted(expected.letters - found.letters)]
        outcome.differences += [f"dead letter too many: {one}" for one in sorted(found.letters - expected.letters)]
    outcome.seconds = time.monotonic() - started
    return outcome


def _environment(servers: dict[str, str], *, flush_events: int, flush_seconds: float) -> dict[str, str]:
    return {
        **servers,
        "TIDEMARK_CLOCK": "events",
        "TIDEMARK_FLUSH_EVENTS": str(flush_events),
        "TIDEMARK_FLUSH_SECONDS": str(flush_seconds),
    }


def _keywords(environment: dict[str, str]) -> dict[str, Any]:
    return {name.removeprefix(PREFIX).lower(): value for name, value in environment.items()}
