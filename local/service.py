"""A process of ours beside the servers, the worker or the API: started again after a crash, within limits."""

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from detection.errors import OperatorError
from local.process import GuardedProcess

_RESTARTS = 5
_FIRST_PAUSE_SECONDS = 0.5
# After running so long, a crash is a new one, not the same again.
_STEADY_SECONDS = 120.0
_GRACE_SECONDS = 30.0
# The exit code of the command line for "a person must look": starting again would only repeat it.
_OPERATOR_EXIT = 4


class Service:
    """One `tidemark` process with its log `NAME.log` in the data folder."""

    def __init__(
        self, name: str, command: str, *, data_dir: Path, environment: Mapping[str, str], is_restarted: bool
    ) -> None:
        self.name = name
        self.restarts = 0
        self._is_restarted = is_restarted
        self._in_a_row = 0
        self._started = 0.0
        self._not_before = 0.0
        self._process = GuardedProcess(
            name=name,
            command=[sys.executable, "-m", "cli.main", command],
            log=data_dir / f"{name}.log",
            owner=data_dir,
            environment={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            grace_seconds=_GRACE_SECONDS,
        )

    @property
    def log(self) -> Path:
        return self._process.log

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.is_running

    def start(self) -> None:
        self._process.start()
        self._started = time.monotonic()

    def stop(self) -> None:
        """Graceful: a worker may write what it has absorbed."""
        self._process.stop()

    def tend(self) -> str | None:
        """Call this again and again: starts it anew when it has crashed, and says so.

        Raises OperatorError, which quotes its log, when that cannot help.
        """
        if self._process.is_running:
            if time.monotonic() - self._started > _STEADY_SECONDS:
                self._in_a_row = 0
            return None
        code = self._process.exit_code
        if not self._is_restarted or code == _OPERATOR_EXIT or self._in_a_row >= _RESTARTS:
            raise OperatorError(
                f"the {self.name} ended unexpectedly ({_described(code)}), after {self.restarts} restarts. "
                f"The end of {self.log}:\n{self._process.last_lines()}"
            )
        now = time.monotonic()
        if not self._not_before:
            self._not_before = now + _FIRST_PAUSE_SECONDS * 2**self._in_a_row
        if now < self._not_before:
            return None
        self._not_before = 0.0
        self._in_a_row += 1
        self.restarts += 1
        self.start()
        return f"the {self.name} ended unexpectedly ({_described(code)}) and was started again"


def _described(code: int | None) -> str:
    if code is None or code <= 128:
        return f"exit code {code}"
    try:
        return signal.Signals(code - 128).name
    except ValueError:
        return f"exit code {code}"
