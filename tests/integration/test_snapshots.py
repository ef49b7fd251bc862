"""Snapshots by the command, of a stack whose worker goes on meanwhile; and what a Redis that was lost becomes."""

import asyncio
import gzip
import json
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from cli.main import app
from cli.replaying import replay
from cli.snapshot_checks import snapshot_finding
from detection.hours import HOUR_MS
from local.stack import Stack
from settings import Settings, load
from tests.worker import (
    BOOKKEEPING,
    CALLS,
    RECORDED_CALLS,
    Hashes,
    WorkerProcess,
    eventually,
    hashes,
    unsettled,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

RECORDED = 3_000
SENT_AT_ONCE = 500
BILLER = "probe-01"


@dataclass
class Running:
    """A stack whose worker has taken the recorded calls while snapshots were taken; `taken` is one in the middle."""

    settings: Settings
    worker: WorkerProcess
    environment: dict[str, str]
    taken: str
    quiet: Hashes

    def run(self, *arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, ["snapshots", *arguments])
        assert done.exit_code == code, (arguments, done.output, done.exception)
        return done.stdout if code == 0 else done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


def asking(settings: Settings, work: Callable[[Redis], Awaitable[Any]]) -> Any:
    async def asked() -> Any:
        async with Redis.from_url(settings.redis()) as client:
            return await work(client)

    return asyncio.run(asked())


def settled(settings: Settings, worker: WorkerProcess, events: int) -> None:
    async def missing(redis: Redis) -> None:
        async def what() -> str:
            assert worker.status is None, worker.log()
            return await unsettled(redis, events, settings.policy())

        await eventually(what, within_seconds=200)

    asking(settings, missing)


def state(settings: Settings) -> Hashes:
    found: Hashes = asking(settings, lambda redis: hashes(redis, without=BOOKKEEPING))
    return found


def events_in(stored: Hashes) -> int:
    return sum(int(one["accepted"]) + int(one["late"]) for name, one in stored.items() if name.endswith("}"))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("snapshots")
    recording = folder / "calls.ndjson"
    with gzip.open(CALLS) as lines:
        recording.write_bytes(b"".join(islice(lines, RECORDED_CALLS - RECORDED, None)))
    with Stack(folder / "stack") as stack, pytest.MonkeyPatch.context() as patch:
        environment = {
            **stack.environment(),
            "TIDEMARK_CLOCK": "events",
            "TIDEMARK_FLUSH_SECONDS": "0.2",
            "TIDEMARK_SNAPSHOT_URL": f"file://{folder}/kept",
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        settings = load()
        with WorkerProcess(environment, folder / "worker.log") as worker:
            one = Running(settings, worker, environment, "", {})
            one.taken = _taken_meanwhile(one, recording)
            settled(settings, worker, RECORDED)
            assert worker.stop() == 0
            one.quiet = state(settings)
            assert events_in(one.quiet) == RECORDED
            yield one


def _taken_meanwhile(running: Running, recording: Path) -> str:
    """Of the snapshots that were each taken while the worker was sent some more calls, one in the middle."""
    taken = []
    sent = 0

    async def missing() -> str:
        read = events_in(await asyncio.to_thread(state, running.settings))
        return "" if read >= sent else f"{read} of {sent} calls are read"

    with recording.open("rb") as lines:
        while some := list(islice(lines, SENT_AT_ONCE)):
            part = recording.with_name("part.ndjson")
            part.write_bytes(b"".join(some))
            sending = threading.Thread(target=lambda: asyncio.run(replay(part, running.settings)), daemon=True)  # noqa: B023
            sending.start()
            taken.append(running.json("create")["id"])
            sending.join()
            sent += len(some)
            asyncio.run(eventually(missing, within_seconds=90))
    return str(taken[len(taken) // 2])


@pytest.fixture
def running(started: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    return started


@pytest.mark.faults
def test_a_worker_reads_on_from_a_snapshot_that_was_taken_while_it_worked(running: Running) -> None:
    assert running.json("verify", running.taken)["snapshots"][0]["faults"] == []
    asking(running.settings, lambda redis: redis.flushdb())
    done = running.json("restore", running.taken, "--force")
    assert done["new"]
    restored = state(running.settings)
    assert 0 < events_in(restored) < RECORDED
    assert restored != running.quiet
    running.worker.start()
    settled(running.settings, running.worker, RECORDED)

    async def missing() -> str:
        found = await asyncio.to_thread(state, running.settings)
        return ", ".join(sorted(key for key in {*found, *running.quiet} if found.get(key) != running.quiet.get(key)))

    # The last windows may be on their way to the history still.
    asyncio.run(eventually(missing, within_seconds=90))


@pytest.mark.faults
def test_a_worker_that_is_alive_and_a_redis_that_is_not_empty_are_left_alone(running: Running) -> None:
    if running.worker.status is not None:
        running.worker.start()

    async def joined() -> str:
        return "" if "alive" in await asyncio.to_thread(_refusal, running) else "the worker is not in its group"

    asyncio.run(eventually(joined, within_seconds=60))
    running.worker.stop()
    before = state(running.settings)
    refused = running.run("restore", "latest", "--force", code=2)
    assert "a snapshot is restored into an empty one" in refused
    assert "--replace makes the" in refused
    assert state(running.settings) == before
    assert running.json("restore", "latest", "--force", "--dry-run", "--replace")["is_dry_run"]
    assert state(running.settings) == before


def _refusal(running: Running) -> str:
    done = CliRunner().invoke(app, ["snapshots", "restore", "--replace"])
    return done.stderr if done.exit_code == 4 else ""


def test_one_biller_comes_back_and_nobody_else_is_touched(running: Running) -> None:
    running.run("create")
    before = state(running.settings)
    key = f"tidemark:1:{{biller:{BILLER}}}"

    async def lose(redis: Redis) -> None:
        await redis.delete(*[one async for one in redis.scan_iter(f"{key}*")])

    asking(running.settings, lose)
    assert state(running.settings) != before
    done = running.json("restore", "--force", "--subject", BILLER)
    assert (done["new"], done["replaced"]) == (1, 0)
    assert state(running.settings) == before
    assert "has no subject that fits nobody" in running.run("restore", "--force", "--subject", "nobody", code=2)


def test_what_there_is_is_listed_shown_checked_and_pruned(running: Running) -> None:
    listed = running.json("list")
    made = [one["id"] for one in listed["snapshots"]]
    assert made == sorted(made, reverse=True)
    assert running.taken in made
    assert made[0] in running.run("list")
    shown = running.json("show", made[0])
    assert shown["progress"]
    assert made[0] in running.run("show")
    assert "there is no snapshot '2020'" in running.run("show", "2020", code=4)
    assert {one["id"] for one in running.json("verify", "--all")["snapshots"]} == set(made)
    assert "whole" in running.run("verify")
    assert "say what stays" in running.run("prune", code=2)
    assert "say --prune too" in running.run("create", "--keep", "3", code=2)
    would = running.json("prune", "--keep", "1", "--dry-run")
    assert would["snapshots"] == made[:0:-1]
    done = running.json("create", "--prune", "--keep", "1")
    assert set(done["pruned"]["snapshots"]) == set(made)
    assert [one["id"] for one in running.json("list")["snapshots"]] == [done["id"]]
    assert re.search(r"1 snapshots stay", running.run("prune", "--keep", "1"))


def test_a_damaged_snapshot_is_named_with_the_object_and_exit_code_4(running: Running, tmp_path: Path) -> None:
    made = running.json("create", "--full")
    segment = next(one for one in running.json("show", made["id"])["objects"] if "used" in one)
    path = Path(running.environment["TIDEMARK_SNAPSHOT_URL"].removeprefix("file://")) / segment["path"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    try:
        assert segment["path"] in running.run("verify", code=4)
        assert segment["path"] in running.run("restore", "--force", "--replace", code=4)
    finally:
        path.write_bytes(whole)
    running.run("verify")


def test_a_doctor_says_how_old_the_newest_is(running: Running) -> None:
    running.run("create")
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    assert snapshot_finding(running.settings, now_ms=now_ms).level == "ok"
    late = snapshot_finding(running.settings, now_ms=now_ms + 27 * HOUR_MS)
    assert (late.level, "27.0 hours old" in late.found) == ("warning", True)


def test_a_doctor_warns_where_there_is_none(running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIDEMARK_SNAPSHOT_URL", f"file://{tmp_path}/none")
    assert snapshot_finding(load(), now_ms=0).level == "warning"


def test_a_snapshot_never_holds_what_opens_the_api(running: Running) -> None:
    asking(running.settings, lambda redis: redis.hset("tidemark:1:api-keys", "key", "digest"))
    running.run("create", "--full")
    folder = Path(running.environment["TIDEMARK_SNAPSHOT_URL"].removeprefix("file://"))
    assert not [one for one in folder.rglob("*") if one.is_file() and b"api-keys" in one.read_bytes()]
