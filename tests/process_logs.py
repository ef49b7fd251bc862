"""What `logs.configure` does to a process, for the time of a block."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

import logs
from settings import Settings


@contextmanager
def configured_logs(settings: Settings) -> Iterator[None]:
    """Afterwards logs go where they went before: the tests that follow read them there."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure(settings)
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
