"""A real worker process for tests, and what Redis and PostgreSQL hold after it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
from redis.asyncio import Redis

from detection.hours import HOUR_MS, parse_ms
from detection.policy import PUBLISHED_SILENCE_HOURS, Policy
from state import keys

ROOT = Path(__file__).parents[1]
CALLS = ROOT / "examples" / "calls.ndjson.gz"
RECORDED_CALLS = 119_446

# What counts writes, names where events came from or says what was known at a moment, and so depends on how the stream
# was cut into flushes: minutes are judged when they are read, by what was published then.
BOOKKEEPING = frozenset({"rev", "offsets", "alerts", "live", "judged_before"})

Hashes = dict[str, dict[str, str]]


class WorkerProcess:
    """`tidemark worker` with the given environment; stopped, or killed, at the end of the block.

    `command` is what Python is told to run instead.
    """

    def __init__(
        self, environment: Mapping[str, str], log: Path, command: Sequence[str] = ("-m", "cli.main", "worker")
    ) -> None:
        self._command = command
        self._environment = {**os.environ, **environment}
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._command], env=self._environment, cwd=ROOT, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """As the machine would: no signal handler runs."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As an orchestrator would; the exit status."""
        return self._end(signal.SIGTERM)

    def wait(self, within_seconds: float) -> int:
        """The exit status of a process that ends by itself."""
        assert self._process is not None
        return self._process.wait(within_seconds)

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(60)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def log(self) -> str:
        return self._log.read_text()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.status is None:
            self.kill()


async def eventually(missing: Callable[[], Awaitable[str]], *, within_seconds: float) -> None:
    """Wait until nothing is missing; fails with what still is."""
    deadline = time.monotonic() + within_seconds
    while what := await missing():
        assert time.monotonic() < deadline, f"after {within_seconds} s: {what}"
        await asyncio.sleep(0.2)


async def hashes(redis: "Redis", *, without: frozenset[str] = frozenset()) -> Hashes:
    """Every hash of the schema, without the fields that are named.

    The cohorts are left out: they are what was published of all series at some moment, not what events have come to.
    So are the progress and the lives of the log, which say where events came from, and what people were told.
    """
    found: Hashes = {}
    async for key in redis.scan_iter(match=keys.PATTERN, count=1000):
        if text(key) not in (keys.COHORTS, keys.PROGRESS, keys.LOG, keys.NOTIFIED) and await redis.type(key) == b"hash":
            fields = {text(name): text(value) for name, value in (await redis.hgetall(key)).items()}
            found[text(key)] = {name: value for name, value in fields.items() if name not in without}
    return found


def text(value: bytes | str) -> str:
    """Records of models are no text: equal bytes then become equal texts."""
    return value if isinstance(value, str) else value.decode(errors="backslashreplace")


async def unsettled(redis: "Redis", events: int, policy: Policy) -> str:
    """What is still missing: events in the state, silent subjects to publish for, windows to carry to the history."""
    stored = await hashes(redis)
    subjects = {name: fields for name, fields in stored.items() if name.endswith("}")}
    total = sum(int(fields["accepted"]) + int(fields["late"]) for fields in subjects.values())
    if total != events:
        return f"{total} of {events} events are in the state"
    hour = policy.closed_before(int(stored[keys.CLOCK]["ms"]))
    for name, fields in subjects.items():
        last = int(fields["watermark_ms"]) // HOUR_MS + PUBLISHED_SILENCE_HOURS
        published = parse_ms(fields["published_hour"]) // HOUR_MS
        if published < min(hour, last):
            return f"{name} is published for hour {published}, not yet for {min(hour, last)}"
        settled = policy.learned_before(int(fields["watermark_ms"]))
        waiting = [start for start in orjson.loads(fields["windows"]) if parse_ms(start) // HOUR_MS < settled]
        if waiting or fields["is_outdated"] == "true":
            return f"{name} has windows to learn, {waiting}, or was corrected"
    # Looked for once more: a subject may have been written after its outbox was looked for, and before itself was.
    outboxes = [text(key) async for key in redis.scan_iter(match=f"{keys.PATTERN}_outbox", count=1000)]
    return f"windows wait in {outboxes}" if outboxes else ""
