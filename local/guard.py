r"""Runs one command, and ends it when whoever asked for it is gone: even by `kill -9`.

    python -I -S guard.py [--stop-signal N] [--grace SECONDS] [--account UID:GID [--search-anywhere]] [--owner LABEL] \
        -- COMMAND...

A program of its own, standard library only, started by its path. The asker holds the other end of standard input:
when that closes, or on SIGTERM, the command is asked to stop, and killed after the grace period. The guard answers
with the command's exit code, `128 + N` for one that signal N ended. The label only serves to be found in the list of
processes.

Why not PR_SET_PDEATHSIG alone: it fires when the *thread* that started the child ends, it cannot choose SIGINT first
and SIGKILL later, and only Linux has it. Here it only covers the guard's own death.
"""

import argparse
import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_READ = 23
_PR_SET_SECUREBITS = 28
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1

# SIGCHLD wakes the loop at once; this bounds how long a lost parent is missed where its pipe was inherited by others.
_LOOK_SECONDS = 1.0


def main(arguments: Sequence[str]) -> int:
    options = _options(arguments)
    parent = os.getppid()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_read, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    asked_to_stop = False

    def ask_to_stop(_signal: int, _frame: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)

    prepare = _in_child(options)
    child = subprocess.Popen(options.command, stdin=subprocess.DEVNULL, preexec_fn=prepare)  # noqa: PLW1509 - no threads
    while child.poll() is None and not asked_to_stop and os.getppid() == parent:
        readable, _, _ = select.select([sys.stdin.fileno(), wake_read], [], [], _LOOK_SECONDS)
        if wake_read in readable:
            _drain(wake_read)
        if sys.stdin.fileno() in readable and not os.read(sys.stdin.fileno(), 1):
            break
    _stop(child, options.stop_signal, options.grace, wake_read)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stop-signal", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--grace", type=float, default=10.0)
    parser.add_argument("--account")
    parser.add_argument("--search-anywhere", action="store_true")
    parser.add_argument("--owner")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def _in_child(options: argparse.Namespace) -> Callable[[], None]:
    """What the child does between fork and exec; the library is loaded before, where failing is harmless."""
    libc = ctypes.CDLL(None, use_errno=True)
    is_linux = sys.platform.startswith("linux")

    def prepare() -> None:
        os.setsid()
        for restored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(restored, signal.SIG_DFL)
        if options.account is not None:
            uid, gid = map(int, options.account.split(":"))
            _become(uid, gid, libc if is_linux and options.search_anywhere else None)
        if is_linux:
            # After the change of account, which clears it.
            libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)

    return prepare


def _become(uid: int, gid: int, libc: ctypes.CDLL | None) -> None:
    """Drop to the account; with `libc`, keep the right to pass through folders that only root may search.

    A server that refuses root can then run from a clone below `/root` or another private folder without anybody's
    permissions being loosened: the alternative is `chmod o+rx` on every folder above it. The lesser right
    CAP_DAC_READ_SEARCH is missing in most containers, and cannot execute what was installed under umask 077.
    """
    if libc is not None and libc.prctl(_PR_CAPBSET_READ, _CAP_DAC_OVERRIDE, 0, 0, 0) != 1:
        libc = None
    if libc is not None:
        # Otherwise access(2), with which PostgreSQL looks for its own programs, answers as if the right were not there.
        libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    if libc is not None:
        header = (ctypes.c_uint32 * 2)(_LINUX_CAPABILITY_VERSION_3, 0)
        bits = 1 << _CAP_DAC_OVERRIDE
        libc.capset(header, (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0))
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def _stop(child: "subprocess.Popen[bytes]", stop_signal: int, grace_seconds: float, wake_read: int) -> None:
    if child.poll() is None:
        child.send_signal(stop_signal)
    deadline = time.monotonic() + grace_seconds
    while child.poll() is None and (left := deadline - time.monotonic()) > 0:
        select.select([wake_read], [], [], min(left, _LOOK_SECONDS))
        _drain(wake_read)
    # What the command itself left behind in its session goes with it.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
