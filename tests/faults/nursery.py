"""Workers and APIs forked from a process that has their imports behind it: a start costs milliseconds, not seconds.

Each is a process of its own that runs the command of the command line, meets real signals, and dies with whoever
started it.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path

from settings import PREFIX

Mutation = Callable[[], None]

_PRELOADED = ("api.app", "cli.main", "cli.serve", "stream.app", "tests.faults.nursery", "tests.faults.warm")
_PR_SET_PDEATHSIG = 1


class Forked:
    """One process; `command` is `worker` or `api`. A mutation is called in it before anything else."""

    def __init__(
        self, command: str, environment: Mapping[str, str], log: Path, *, mutation: Mutation | None = None
    ) -> None:
        self.log = log
        self.is_frozen = False
        with _quiet_libraries():
            self._process = _context().Process(
                target=_work, args=(command, dict(environment), str(log), mutation), daemon=False
            )
            self._process.start()

    @property
    def status(self) -> int | None:
        """The exit status, None while it runs; -9 after kill -9."""
        return self._process.exitcode

    def signal(self, number: signal.Signals) -> None:
        """Nothing happens to one that has ended."""
        if self.status is None and self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
                self.is_frozen = (self.is_frozen or number == signal.SIGSTOP) and number != signal.SIGCONT

    def end(self) -> None:
        """By kill -9; returns when it is gone."""
        self.signal(signal.SIGKILL)
        self._process.join()
        self._process.close()

    def last_lines(self, count: int = 8) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    return context


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Threads that numerical libraries start when they are imported would not be there after the fork."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(command: str, environment: dict[str, str], log: str, mutation: Mutation | None) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        del os.environ[name]
    os.environ.update(environment)
    if mutation is not None:
        mutation()
    from cli.main import app

    app([command])
