"""A server that is measured from outside: its own core, what it takes of it, its memory, and the load it is put under.

Where there are two cores or more, the server has the first one to itself and everything else the others, so that what
is measured is the server and not who of them gets the processor. That holds for a server and its reference alike.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import orjson
import psutil
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from benchmarks._load import Load, Measured
from benchmarks.context import ROOT

_SAMPLE_SECONDS = 0.5
_MIB = 1024 * 1024
# None where processes cannot be told where to run.
_SERVERS_CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
# For what is due is still answered, and for a start.
_LATE_SECONDS = 60


@contextmanager
def beside_the_server() -> Iterator[None]:
    """This process, and what it starts, leaves the server's core alone."""
    if _SERVERS_CORE is None:
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores - {_SERVERS_CORE} or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def on_the_servers_core(pid: int) -> None:
    """Give the process what `beside_the_server` has left; before it starts threads, which keep what they began with."""
    if _SERVERS_CORE is not None:
        os.sched_setaffinity(pid, {_SERVERS_CORE})


@dataclass(frozen=True, slots=True)
class Taken:
    """What a server took meanwhile: processor seconds, and its memory in MiB, twice a second."""

    cpu_seconds: float
    memory_mib: Sequence[float]

    @property
    def growth_mib(self) -> float:
        """How much larger the last tenth's mean is than that of the tenth after the first third."""
        some = max(len(self.memory_mib) // 10, 1)
        third = len(self.memory_mib) // 3
        early, late = self.memory_mib[third : third + some], self.memory_mib[-some:]
        return sum(late) / len(late) - sum(early) / len(early)


@dataclass(slots=True)
class Served:
    """`python ARGUMENTS` on a core of its own, while the block lasts; `path` is what is asked of it."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    port: int
    path: str
    _process: subprocess.Popen[bytes] = field(init=False)

    def __enter__(self) -> Self:
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *self.arguments],
                env={**os.environ, **self.environment},
                cwd=ROOT,
                stdout=output,
                stderr=output,
            )
        on_the_servers_core(self._process.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def observed(self, load: Load) -> tuple[Measured, Taken]:
        """What was answered, and what the server took meanwhile; RuntimeError for an answer that must not be."""
        server = self.process
        before = cpu_seconds(server)
        memory: list[float] = []
        # Into a file: every latency is told, and nobody reads a pipe before it has ended.
        with (
            tempfile.TemporaryFile() as said,
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks._load", orjson.dumps(asdict(load)).decode()],
                cwd=ROOT,
                stdout=said,
                stderr=subprocess.PIPE,
            ) as process,
        ):
            deadline = time.monotonic() + load.seconds + _LATE_SECONDS
            while process.poll() is None:
                time.sleep(_SAMPLE_SECONDS)
                memory.append(server.memory_info().rss / _MIB)
                if time.monotonic() > deadline:
                    process.kill()
            _, errors = process.communicate()
            said.seek(0)
            told = said.read()
        if process.returncode:
            raise RuntimeError(f"the load on {load.path} ended with {process.returncode}: {errors.decode()[-2000:]}")
        return Measured(**orjson.loads(told)), Taken(cpu_seconds(server) - before, memory or [0.0])


def until_it_answers(client: httpx.Client, url: str) -> None:
    """Return when it answers anything at all; httpx.TransportError where it does not in time."""
    for attempt in Retrying(
        retry=retry_if_exception_type(httpx.TransportError),
        stop=stop_after_delay(120),
        wait=wait_fixed(0.2),
        reraise=True,
    ):
        with attempt:
            client.get(url)


def cpu_seconds(process: psutil.Process) -> float:
    """Those of the process itself, in user and system mode."""
    times = process.cpu_times()
    return float(times.user + times.system)
