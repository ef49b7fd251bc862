"""Worker processes that are measured from outside: when they began, when all was in Redis, and what they cost."""

import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil
import redis

from benchmarks.context import ROOT
from local.ports import free_port
from state.keys import PATTERN

PRODUCT = ("-m", "cli.main", "worker")

_LAG = "tidemark_consumer_lag_records{"
_ACCEPTED = re.compile(r'^tidemark_events_total\{[^}]*result="accepted"[^}]*\} (\S+)', re.MULTILINE)
_COUNTED = re.compile(r"^(tidemark_[a-z_]+)(?:\{[^}]*\})? (\S+)", re.MULTILINE)
_MIB = 1024 * 1024


@dataclass(slots=True)
class Run:
    """What one run of one worker or more has shown; moments are seconds of `time.perf_counter`.

    `cpu` is what each of the processes took of one core, from the first batch to the last.
    """

    started: float
    answering: float = 0.0
    first_batch: float = 0.0
    done: float = 0.0
    calls: int = 0
    of_each: list[int] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)
    peak_mib: float = 0.0
    counted: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the first batch until everything was written."""
        return self.done - self.first_batch

    @property
    def per_second(self) -> float:
        return self.calls / self.seconds

    def cpu_text(self) -> str:
        """What each part took of one core."""
        return ", ".join(f"{name} {share:.0%}" for name, share in self.cpu.items())


class Workers:
    """`count` processes that run `command` in the environment; ended with the block."""

    def __init__(
        self, environment: Mapping[str, str], folder: Path, *, count: int = 1, command: Sequence[str] = PRODUCT
    ) -> None:
        self._environment = {**os.environ, **environment, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        # As in an image: what Python has compiled once is there at the next start.
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._folder = folder
        self._count = count
        self._command = command
        self._processes: list[subprocess.Popen[bytes]] = []
        self._clients: list[httpx.Client] = []

    def __enter__(self) -> Self:
        self.run = Run(started=time.perf_counter())
        for number in range(self._count):
            port = free_port()
            with (self._folder / f"worker-{number}.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, *self._command],
                        env={**self._environment, "TIDEMARK_WORKER_HTTP_PORT": str(port)},
                        cwd=ROOT,
                        stdout=log,
                        stderr=log,
                    )
                )
            self._clients.append(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for client in self._clients:
            client.close()
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def until(
        self,
        calls: int,
        *,
        within_seconds: float,
        beside: Mapping[str, Sequence[psutil.Process]] | None = None,
        every_seconds: float = 0.1,
    ) -> Run:
        """Wait until the workers together have written so many calls; RuntimeError with the logs where they do not.

        `beside` are the servers whose share of the processor is to be told.
        """
        run = self.run
        run.calls = calls
        own = {f"worker {number}": [psutil.Process(one.pid)] for number, one in enumerate(self._processes)}
        watched = {**own, **(beside or {})}
        before: dict[str, float] = {}
        deadline = time.monotonic() + within_seconds
        while time.monotonic() < deadline:
            time.sleep(every_seconds)
            texts = [self._metrics(client) for client in self._clients]
            now = time.perf_counter()
            if not run.answering and all(texts):
                run.answering = now
            if not run.first_batch and any(_LAG in text for text in texts):
                run.first_batch = now
                before = _cpu_seconds(watched)
            run.of_each = [sum(map(int, map(float, _ACCEPTED.findall(text)))) for text in texts]
            if sum(run.of_each) >= calls:
                run.done = now
                # No time has passed where all of it was there at the first look.
                passed = run.seconds or math.inf
                run.cpu = {
                    name: (seconds - before.get(name, 0.0)) / passed for name, seconds in _cpu_seconds(watched).items()
                }
                run.peak_mib = max(_peak_bytes(one.pid) for one in self._processes) / _MIB
                run.counted = {}
                for text in texts:
                    for name, value in _COUNTED.findall(text):
                        run.counted[name] = run.counted.get(name, 0.0) + float(value)
                return run
            if any(one.poll() is not None for one in self._processes):
                break
        raise RuntimeError(f"{sum(run.of_each):,} of {calls:,} calls were written: {self._logs()}")

    def _metrics(self, client: httpx.Client) -> str:
        try:
            return client.get("/metrics").text
        except httpx.TransportError:
            return ""

    def _logs(self) -> str:
        logs = (self._folder / f"worker-{number}.log" for number in range(self._count))
        return "\n".join(log.read_text(errors="replace")[-2000:] for log in logs)


@contextmanager
def on_one_core(servers: Iterable[psutil.Process]) -> Iterator[None]:
    """These processes, and those that are started meanwhile, share one core."""
    allowed = os.sched_getaffinity(0)
    threads = [thread.id for server in servers for thread in server.threads()]

    def move(cores: AbstractSet[int]) -> None:
        for thread in (0, *threads):
            # One may have ended by now.
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread, cores)

    move({min(allowed)})
    try:
        yield
    finally:
        move(allowed)


def accepted(url: str) -> int:
    """The calls that all subjects in Redis have accepted."""
    client = redis.Redis.from_url(url)
    found = 0
    try:
        keys = [key for key in client.scan_iter(match=PATTERN, count=10_000) if key.endswith(b"}")]
        for start in range(0, len(keys), 10_000):
            pipeline = client.pipeline(transaction=False)
            for key in keys[start : start + 10_000]:
                pipeline.hget(key, "accepted")
            found += sum(int(value) for value in pipeline.execute() if value is not None)
    finally:
        client.close()
    return found


def _cpu_seconds(watched: Mapping[str, Sequence[psutil.Process]]) -> dict[str, float]:
    return {name: sum(map(_cpu_of, processes)) for name, processes in watched.items()}


def _cpu_of(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _peak_bytes(pid: int) -> int:
    """The most memory that the process ever had in the machine."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return int(psutil.Process(pid).memory_info().rss)
