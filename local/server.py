"""A server of the embedded stack: prepared, started, healthy by its own protocol, stopped."""

import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from detection.errors import OperatorError
from local.ports import free_port, is_free
from local.process import Account, GuardedProcess

_PORT_ATTEMPTS = 3


class NotHealthyError(Exception):
    """The server does not answer yet; never leaves this package."""


class Server(ABC):
    """One server on a loopback port, with its log in the data folder and its data in a folder of its own below.

    The port is chosen at the first start and kept for every later one, so that clients reconnect.
    """

    name: str
    stop_signal = signal.SIGTERM
    grace_seconds = 10.0
    start_seconds = 40.0

    def __init__(self, data_dir: Path, port: int | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self.folder = self.data_dir / self.name
        self.log = self.data_dir / f"{self.name}.log"
        self.port = port if port is not None else 0
        self._process: GuardedProcess | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.is_running

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def processes(self) -> list[psutil.Process]:
        return [] if self._process is None else self._process.processes()

    def start(self) -> None:
        """Returns when the server is healthy; raises OperatorError that quotes its log."""
        if self.is_running:
            raise OperatorError(f"{self.name} already runs on port {self.port}")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        if self.port:
            self._start_once()
            return
        for attempt in range(_PORT_ATTEMPTS):
            self.port = free_port()
            try:
                self._start_once()
                return
            except OperatorError:
                # Another process can take the port between our look and the server's own bind.
                if is_free(self.port) or attempt == _PORT_ATTEMPTS - 1:
                    raise

    def stop(self) -> None:
        """Graceful, then by force; nothing is left of it. Does nothing when it does not run."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """As a crash: SIGKILL, no goodbye."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Stop if needed, then start on the same port with the same data."""
        self.stop()
        self.start()

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What to run, for the current port."""

    @abstractmethod
    def probe(self) -> None:
        """One round trip in the server's own protocol, that shows it is this very process who answers.

        Raises NotHealthyError.
        """

    def prepare(self) -> None:
        """What must be there before the first start."""
        return

    def environment(self) -> Mapping[str, str] | None:
        """The process environment; None is ours."""
        return None

    def account(self) -> Account | None:
        """Who it runs as; None is ourselves."""
        return None

    def _start_once(self) -> None:
        process = GuardedProcess(
            name=self.name,
            command=self.command(),
            log=self.log,
            owner=self.data_dir,
            environment=self.environment(),
            stop_signal=self.stop_signal,
            grace_seconds=self.grace_seconds,
            account=self.account(),
        )
        process.start()
        self._process = process
        retrying = Retrying(
            retry=retry_if_exception_type(NotHealthyError),
            stop=stop_after_delay(self.start_seconds),
            wait=wait_fixed(0.05),
        )
        try:
            retrying(self._probe_running)
        except RetryError as error:
            process.stop()
            reason = error.last_attempt.exception()
            raise OperatorError(self._failure(f"did not answer within {self.start_seconds:g} s: {reason}")) from None
        except BaseException:
            process.stop()
            raise

    def _probe_running(self) -> None:
        if not self.is_running:
            code = None if self._process is None else self._process.exit_code
            raise OperatorError(self._failure(f"ended with exit code {code} instead of starting"))
        self.probe()

    def _failure(self, what: str) -> str:
        lines = "" if self._process is None else self._process.last_lines()
        return f"{self.name} on port {self.port} {what}. The end of {self.log}:\n{lines}"
