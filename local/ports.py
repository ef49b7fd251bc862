"""Free TCP ports on the loopback."""

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 15_000


def free_port(preferred: int | None = None) -> int:
    """The preferred port if nobody listens there, else another one.

    Not from the ephemeral range: while a server there is restarted, a client that tries to reconnect can be given that
    very port as its own, connects to itself, and the server finds its port taken.
    """
    if preferred is not None and is_free(preferred):
        return preferred
    highest = _below_ephemeral()
    # Which port it is carries no meaning: no seed is wanted, two stacks at once should try different ones.
    for port in random.sample(range(_LOWEST, highest), 200):
        if is_free(port):
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As servers do: connections of the former server that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
        return True


def _below_ephemeral() -> int:
    try:
        lowest_ephemeral = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        lowest_ephemeral = 32_768
    return lowest_ephemeral if lowest_ephemeral > _LOWEST + 1000 else 65_536
