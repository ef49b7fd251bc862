"""The load generator, a process of its own: `python -m benchmarks._load SPEC`, where SPEC is a `Load` as JSON.

Sends `POST` over keep-alive connections on the loopback, where `{}` in the path is the next of so many billers. With a
rate of 0 every connection sends again as soon as it was answered: what the server can do. With a rate, requests fall
due at random (a Poisson process) whether or not earlier ones were answered, and a latency counts from when its request
was due: a slow answer cannot hide those that waited behind it.

Every status is checked, and every answer is read to its end. Prints one JSON object.

Sockets and nothing around them: the queue of a generator that is busy itself would be counted as the server's latency.
"""

import random
import select
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle

import httptools
import orjson

_OK = 200
_SHED = 503
# What is still unanswered after the end is waited for, so that it counts.
_DRAIN_SECONDS = 10.0
_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent, with which API key; a `rate` of 0 sends as fast as it is answered.

    Where answers `may_shed`, a 503 with Retry-After is counted, and not a failure.
    """

    port: int
    path: str
    billers: int
    seconds: float
    connections: int
    rate: float = 0.0
    key: str = ""
    may_shed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Latencies of what was `answered` with 200, in milliseconds; `body_bytes` is the mean length of such an answer.

    `unsent` were due, and found no connection until the end. With a rate, `latencies_ms` are all of them, in order of
    size.
    """

    answered: int
    shed: int
    unsent: int
    seconds: float
    p50_ms: float
    p99_ms: float
    body_bytes: float
    latencies_ms: Sequence[float] = ()

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds


class _Connection:
    """One keep-alive connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(0.0)
        self._parser = httptools.HttpResponseParser(self)
        self._is_whole = False
        self.due = 0.0
        self.length = 0
        self.is_retried = False

    def send(self, request: bytes, due: float) -> None:
        self.due = due
        self.length = 0
        self.is_retried = self._is_whole = False
        if self.socket.send(request) != len(request):
            raise RuntimeError("a connection did not take a whole request")

    def receive(self) -> bool:
        """Whether that was the end of the answer; RuntimeError where the server has closed the connection."""
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise RuntimeError("the server closed a connection")
        self._parser.feed_data(data)
        return self._is_whole

    @property
    def status(self) -> int:
        status: int = self._parser.get_status_code()
        return status

    def on_header(self, name: bytes, _value: bytes) -> None:
        self.is_retried = self.is_retried or name.lower() == b"retry-after"

    def on_body(self, body: bytes) -> None:
        self.length += len(body)

    def on_message_complete(self) -> None:
        self._is_whole = True


class _Run:
    """One measurement; raises RuntimeError for the first answer that is not as it should be."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._requests = _requests(load)
        self._latencies: list[float] = []
        self._bytes = 0
        self._shed = 0
        self._selector = selectors.DefaultSelector()
        # In turns, so that none of them is idle for so long that the server closes it.
        self._free: deque[_Connection] = deque()
        self._waiting: deque[float] = deque()
        self._ends = 0.0
        self._last = 0.0

    def measure(self) -> Measured:
        connections = [_Connection(self._load.port) for _ in range(self._load.connections)]
        for connection in connections:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._free.extend(connections)
        started = time.perf_counter()
        self._ends = started + self._load.seconds
        self._offer(started)
        self._drain(len(connections))
        ended = max(self._last, self._ends) if self._load.rate else self._last
        for connection in connections:
            connection.socket.close()
        if not self._latencies:
            raise RuntimeError("nothing was answered")
        ordered = sorted(self._latencies)
        return Measured(
            answered=len(ordered),
            shed=self._shed,
            unsent=len(self._waiting),
            seconds=ended - started,
            p50_ms=1000 * ordered[len(ordered) // 2],
            p99_ms=1000 * ordered[len(ordered) * 99 // 100],
            body_bytes=self._bytes / len(ordered),
            latencies_ms=[round(1000 * one, 3) for one in ordered] if self._load.rate else (),
        )

    def _offer(self, started: float) -> None:
        """Send what falls due until the end, and hear the answers meanwhile."""
        chance = random.Random(7)
        # Without a rate everything is due at once, and what follows an answer is due with it.
        due = started + chance.expovariate(self._load.rate) if self._load.rate else self._ends
        if not self._load.rate:
            while self._free:
                self._send(self._free.popleft(), time.perf_counter())
        while (now := time.perf_counter()) < self._ends:
            if due > now:
                self._hear(min(due, self._ends) - now)
                continue
            if self._free:
                self._send(self._free.popleft(), due)
            else:
                self._waiting.append(due)
            due += chance.expovariate(self._load.rate)
            # Where many are due at once, answers are not kept waiting by them.
            self._hear(0.0)

    def _drain(self, connections: int) -> None:
        """Wait for what was sent and, unless that may be too much for anybody, for what was due."""
        end = time.perf_counter() + _DRAIN_SECONDS
        unsent: deque[float] = deque()
        if self._load.may_shed:
            unsent, self._waiting = self._waiting, deque()
        while len(self._free) < connections:
            left = end - time.perf_counter()
            if left <= 0.0:
                raise RuntimeError("an answer did not come")
            self._hear(left)
        self._waiting.extend(unsent)

    def _hear(self, seconds: float) -> None:
        """The answers that come within so many seconds, as soon as there are any."""
        # A selector's own patience is in milliseconds, and would count as latency.
        if select.select([self._selector], (), (), seconds)[0]:
            for key, _ in self._selector.select(0):
                connection: _Connection = key.data
                if connection.receive():
                    self._take(connection)

    def _send(self, connection: _Connection, due: float) -> None:
        connection.send(next(self._requests), due)

    def _take(self, connection: _Connection) -> None:
        """Note the answer, and send what waits for a connection."""
        self._last = time.perf_counter()
        status = connection.status
        if status == _OK:
            self._latencies.append(self._last - connection.due)
            self._bytes += connection.length
        elif self._load.may_shed and status == _SHED and connection.is_retried:
            self._shed += 1
        else:
            raise RuntimeError(f"an answer had status {status}")
        if not connection.length:
            raise RuntimeError("an answer was empty")
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        elif self._load.rate or self._last >= self._ends:
            self._free.append(connection)
        else:
            self._send(connection, self._last)


def _requests(load: Load) -> Iterator[bytes]:
    """The billers in an order of their own, again and again."""
    names = [f"B{number:06d}" for number in range(load.billers)]
    random.Random(7).shuffle(names)
    known = f"Authorization: Bearer {load.key}\r\n" if load.key else ""
    return cycle(
        [
            f"POST {load.path.format(name)} HTTP/1.1\r\nHost: 127.0.0.1:{load.port}\r\nAccept: */*\r\n"
            f"{known}Content-Length: 0\r\n\r\n".encode()
            for name in names
        ]
    )


def main() -> None:
    measured = _Run(Load(**orjson.loads(sys.argv[1]))).measure()
    sys.stdout.write(orjson.dumps(asdict(measured)).decode() + "\n")


if __name__ == "__main__":
    main()
