"""The load generator, a process of its own: `python -m benchmarks._load SPEC`, where SPEC is a `Load` as JSON.

Sends `POST` over keep-alive connections on the loopback, where `{}` in the path is the next of so many billers. With a
rate of 0 every connection sends again as soon as it was answered: what the server can do. With a rate, requests fall
due at random (a Poisson process) whether or not earlier ones were answered, and a latency counts from when its request
was due: a slow answer cannot hide those that waited behind it.

Every status is checked, and every answer is read to its end. Prints one JSON object.
"""

import asyncio
import random
import selectors
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import cast

import httptools
import orjson
import uvloop

_OK = 200
_SHED = 503
# What is still unanswered after the end is waited for, so that it counts.
_DRAIN_SECONDS = 10.0


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


class _Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, answered: Callable[["_Connection", float, int], None], *, may_shed: bool) -> None:
        self._answered = answered
        self._may_shed = may_shed
        self._is_retried = False
        self.is_shed = False
        self._parser = httptools.HttpResponseParser(self)
        self._due = 0.0
        self._bytes = 0
        self.failure = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self._bytes = 0
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, _value: bytes) -> None:
        self._is_retried = self._is_retried or name.lower() == b"retry-after"

    def on_body(self, body: bytes) -> None:
        self._bytes += len(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        self.is_shed = self._may_shed and status == _SHED and self._is_retried
        self._is_retried = False
        if status != _OK and not self.is_shed:
            self.failure = f"an answer had status {status}"
        elif not self._bytes:
            self.failure = "an answer was empty"
        self._answered(self, time.perf_counter() - self._due, self._bytes)

    def connection_lost(self, exc: Exception | None) -> None:
        self.failure = self.failure or f"the server closed a connection: {exc}"

    def close(self) -> None:
        self._transport.close()


class _Run:
    """One measurement; raises RuntimeError for the first answer that is not as it should be."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._requests = _requests(load)
        self._latencies: list[float] = []
        self._bytes = 0
        self._shed = 0
        # In turns, so that none of them is idle for so long that the server closes it.
        self._free: deque[_Connection] = deque()
        self._waiting: deque[float] = deque()
        self._ends = float("inf")
        self._last = 0.0

    async def measure(self) -> Measured:
        loop = asyncio.get_running_loop()
        every: list[_Connection] = []
        for _ in range(self._load.connections):
            _, connection = await loop.create_connection(
                lambda: _Connection(self._on_answer, may_shed=self._load.may_shed), "127.0.0.1", self._load.port
            )
            every.append(connection)
        self._free = deque(every)
        started = time.perf_counter()
        self._ends = started + self._load.seconds
        if self._load.rate:
            await self._keep_rate(started)
        else:
            while self._free:
                self._send(self._free.popleft(), time.perf_counter())
            await asyncio.sleep(self._load.seconds)
        await self._drain(len(every))
        ended = max(self._last, self._ends) if self._load.rate else self._last
        failures = [connection.failure for connection in every if connection.failure]
        if len(self._free) < len(every):
            failures.append("an answer did not come")
        for connection in every:
            connection.close()
        if failures:
            raise RuntimeError(failures[0])
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

    async def _keep_rate(self, started: float) -> None:
        chance = random.Random(7)
        due = started
        while due < self._ends:
            due += chance.expovariate(self._load.rate)
            # Several may be due already; the loop still has to hear the answers.
            await asyncio.sleep(max(due - time.perf_counter(), 0.0))
            if self._free:
                self._send(self._free.popleft(), due)
            else:
                self._waiting.append(due)

    async def _drain(self, connections: int) -> None:
        end = time.perf_counter() + _DRAIN_SECONDS
        if self._load.may_shed:
            # More was due than anybody could send: what is left says so, and need not be sent.
            unsent, self._waiting = self._waiting, deque()
            await self._drained(connections, end)
            self._waiting = unsent
            return
        await self._drained(connections, end)

    async def _drained(self, connections: int, end: float) -> None:
        while len(self._free) < connections and time.perf_counter() < end:  # noqa: ASYNC110 (twice a run)
            await asyncio.sleep(0.005)

    def _send(self, connection: _Connection, due: float) -> None:
        connection.send(next(self._requests), due)

    def _on_answer(self, connection: _Connection, seconds: float, length: int) -> None:
        self._last = time.perf_counter()
        if connection.is_shed:
            self._shed += 1
        else:
            self._latencies.append(seconds)
            self._bytes += length
        if connection.failure:
            self._free.append(connection)
        elif self._load.rate:
            if self._waiting:
                self._send(connection, self._waiting.popleft())
            else:
                self._free.append(connection)
        elif self._last < self._ends:
            self._send(connection, self._last)
        else:
            self._free.append(connection)


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


def _precise() -> asyncio.AbstractEventLoop:
    """A loop whose timers know microseconds; others wake up to a millisecond late, which would count as latency."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def main() -> None:
    load = Load(**orjson.loads(sys.argv[1]))
    with asyncio.Runner(loop_factory=_precise if load.rate else uvloop.new_event_loop) as runner:
        measured = runner.run(_Run(load).measure())
    sys.stdout.write(orjson.dumps(asdict(measured)).decode() + "\n")


if __name__ == "__main__":
    main()
