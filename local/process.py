"""A child process that cannot outlive us, with its output in a log file that errors can quote."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from detection.errors import OperatorError
from local import guard

_LOG_BYTES = 10 * 1024 * 1024
_QUOTED_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Account:
    """Who a server runs as when we are root; `search_anywhere` lets it pass through folders that only root may."""

    uid: int
    gid: int
    search_anywhere: bool


@dataclass(slots=True)
class GuardedProcess:
    """One command under a guard (see `local.guard`): it ends with us, whatever ends us.

    Started again by a second `start`; the log is continued, and moved to `.1` when it has grown beyond 10 MB.
    `owner` is the data folder it works for, by which `orphans` finds it after a crash.
    """

    name: str
    command: Sequence[str]
    log: Path
    owner: Path
    environment: Mapping[str, str] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    grace_seconds: float = 10.0
    account: Account | None = None
    _guard: "subprocess.Popen[bytes] | None" = field(default=None, init=False, repr=False)

    def start(self) -> None:
        """Returns as soon as the guard runs; whether the command does shows in `exit_code` and the log."""
        if self.is_running:
            raise OperatorError(f"{self.name} already runs as process {self.pid}: stop it before it is started again")
        # What is left of one that ended by itself: its pipe, and children it did not wait for.
        self.stop()
        with _opened(self.log) as log:
            self._guard = subprocess.Popen(
                self._guarded(),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if self.environment is None else dict(self.environment),
                # A Ctrl-C in the terminal goes to the whole foreground group: the order of stopping is ours.
                start_new_session=True,
            )

    def _guarded(self) -> list[str]:
        options = ["--owner", str(self.owner), "--stop-signal", str(int(self.stop_signal))]
        options += ["--grace", str(self.grace_seconds)]
        if self.account is not None:
            options += ["--account", f"{self.account.uid}:{self.account.gid}"]
            if self.account.search_anywhere:
                options.append("--search-anywhere")
        return [sys.executable, "-I", "-S", str(guard.__file__), *options, "--", *self.command]

    @property
    def is_running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs or before it was started; `128 + N` when signal N ended it."""
        return None if self._guard is None else self._guard.poll()

    @property
    def pid(self) -> int | None:
        """The command's own process, not its guard; None when there is none (yet)."""
        if self._guard is None:
            return None
        try:
            children = psutil.Process(self._guard.pid).children()
        except psutil.NoSuchProcess:
            return None
        return children[0].pid if children else None

    def processes(self) -> list[psutil.Process]:
        """The guard, the command and everything below it, as it is now."""
        if self._guard is None:
            return []
        try:
            top = psutil.Process(self._guard.pid)
            return [top, *top.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def wait(self, seconds: float) -> int:
        """The exit code; raises subprocess.TimeoutExpired."""
        if self._guard is None:
            raise OperatorError(f"{self.name} was never started")
        return self._guard.wait(seconds)

    def stop(self) -> None:
        """Ask, wait for the grace period, then kill; afterwards nothing of it is left. A second stop does nothing."""
        if self._guard is None:
            return
        family = self.processes()
        self._guard.terminate()
        _finish(self._guard, family, self.grace_seconds + 5)

    def kill(self) -> None:
        """SIGKILL to the command and all below it, as a crash would end it."""
        if self._guard is None:
            return
        family = self.processes()
        for process in family[1:]:
            _kill(process)
        _finish(self._guard, family, 5)

    def last_lines(self, count: int = 12) -> str:
        """The end of the log, for an error message."""
        return last_lines(self.log, count)


def orphans(owner: Path) -> list[psutil.Process]:
    """The guards that work for a data folder, whoever started them."""
    label = ["--owner", str(owner)]
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        # python -I -S guard.py --owner FOLDER ...
        if words[4:6] == label and words[3].endswith("guard.py"):
            found.append(process)
    return found


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log file, at most 8 kB of it; empty when there is no such file."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _QUOTED_BYTES))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])
    except FileNotFoundError:
        return ""


def _finish(top: "subprocess.Popen[bytes]", family: list[psutil.Process], seconds: float) -> None:
    try:
        top.wait(seconds)
    except subprocess.TimeoutExpired:
        top.kill()
        top.wait()
    # PostgreSQL puts each backend into a session of its own: the guard's killpg cannot reach those.
    _, alive = psutil.wait_procs(family, timeout=5)
    for process in alive:
        _kill(process)
    psutil.wait_procs(alive, timeout=5)
    if top.stdin is not None:
        top.stdin.close()


def _opened(log: Path) -> IO[Any]:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    return log.open("ab")


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return
