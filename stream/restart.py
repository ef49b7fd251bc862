"""A worker that starts itself again: the same program in the same process, for what no part of it can mend.

A consumer that stands still may hold threads and sockets that nothing ends: only a new program is sure to have none of
them. Waiting for an orchestrator to do it would leave those without one, such as `tidemark up`, standing. It is safe at
any moment, because a kill is.
"""

import os
import sys
import threading
from typing import Final, NoReturn

# No setting: the process speaks to its own next life. Its name does not begin as the settings' do, which refuse it.
_RESTARTS: Final = "_TIDEMARK_RESTARTS"


def restarts() -> int:
    """How often this process has started itself again."""
    return int(os.environ.get(_RESTARTS, "0"))


def start_again() -> NoReturn:
    """Replace the program of this process by a new one, with the same arguments and environment; from any thread."""
    os.environ[_RESTARTS] = str(restarts() + 1)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Sockets and files are closed by it: Python opens all of them that way.
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # what it starts is what runs


def start_again_within(seconds: float) -> None:
    """The same at the latest then, whatever the event loop does: what stands still may also refuse to stop."""
    timer = threading.Timer(seconds, start_again)
    timer.daemon = True
    timer.start()
