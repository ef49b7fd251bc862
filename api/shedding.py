"""When more is asked than can be answered: the surplus is told so at once, instead of everybody waiting ever longer.

The event loop works its way round all requests that are under way, and each of them waits for some of its turns. As
long as turns are short, nothing is refused but what would not fit into memory. Once they are longer than they may be
for half a second, requests stand in line. Fewer are then let in at a time, fewer still while that goes on, and more
again as soon as turns are short (additive increase, multiplicative decrease). That it has to last is the idea of CoDel
(RFC 8289): a burst, or a pause of the machine, passes by itself.

Events have a share of their own and so have predictions: who asks for a million of these keeps nobody from sending
events. Probes and scrapes are never refused.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from fastapi import Request
from prometheus_client import Counter
from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import OVERLOADED, problem

Share = Literal["predict", "events", "other"]

# Every share has room for so many at a time, however late everything is.
LEAST: Final = 16

_NEVER: Final = frozenset({"/healthz", "/readyz", "/metrics"})

_BEAT_SECONDS: Final = 0.01
_SPAN_SECONDS: Final = 0.25
# A span has so many turns at least, and two in a row must be late: one long pause, with the turns behind it that work
# off what has come meanwhile, is no line.
_SPAN_BEATS: Final = 4

_FEWER: Final = 0.7
_MORE: Final = 1.1


def share_of(path: str) -> Share | None:
    """The share that a request is counted in, by its path; None for what is never refused."""
    if path.startswith("/metrics/predict"):
        return "predict"
    if path.startswith("/events/"):
        return "events"
    return None if path in _NEVER else "other"


@dataclass(slots=True)
class Room:
    """How many requests of one share are under way, the most since turns were last judged, and how many there may be.

    A request is under way until the last byte of its answer was handed over, so a stream takes room for as long as it
    is read.
    """

    most: int
    limit: int
    inside: int = 0
    peak: int = 0

    @property
    def is_full(self) -> bool:
        return self.inside >= self.limit

    def enter(self) -> None:
        """Count one more."""
        self.inside += 1
        self.peak = max(self.peak, self.inside)

    def leave(self) -> None:
        """Count one less."""
        self.inside -= 1

    def judge(self, *, is_late: bool) -> None:
        """Let fewer in than there were at most, or more again; never fewer than LEAST."""
        if is_late:
            self.limit = max(min(self.limit, int(_FEWER * self.peak)), min(LEAST, self.most))
        else:
            self.limit = min(int(_MORE * self.limit) + 1, self.most)
        self.peak = self.inside


class Turns:
    """Judges the turns of the running event loop, span by span, for as long as somebody keeps it going.

    `told` is called at the end of each span with whether the turns of this one and of the one before were, on average,
    longer than `longest_seconds`.
    """

    def __init__(self, longest_seconds: float, told: Callable[[bool], None]) -> None:
        self._longest = longest_seconds
        self._told = told
        self.is_going = False
        self._is_wanted = False
        self._was_late = False
        self._began_at = 0.0
        self._beats = 0

    def keep_going(self) -> None:
        """Until nobody has called this for one span."""
        self._is_wanted = True
        if not self.is_going:
            self.is_going, self._was_late = True, False
            self._began_at, self._beats = time.perf_counter(), 0
            self._schedule()

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_later(_BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        now = time.perf_counter()
        self._beats += 1
        if now - self._began_at >= _SPAN_SECONDS and self._beats >= _SPAN_BEATS:
            # What is longer than the timer's own time was spent on others.
            is_late = (now - self._began_at) / self._beats - _BEAT_SECONDS > self._longest
            self._told(is_late and self._was_late)
            self._began_at, self._beats, self._was_late = now, 0, is_late
            if not self._is_wanted:
                self.is_going = False
                return
            self._is_wanted = False
        self._schedule()


class Shedding:
    """Answers what does not fit in with 503 `overloaded` and Retry-After, before anything else is done for it."""

    def __init__(self, app: ASGIApp, *, refused: Counter, most: int, longest_turn_ms: float) -> None:
        self._app = app
        self._rooms = {share: Room(most, most) for share in get_args(Share)}
        self._refused = {share: refused.labels(share) for share in self._rooms}
        self._turns = Turns(longest_turn_ms / 1000, self._judge)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        share = share_of(scope["path"]) if scope["type"] == "http" else None
        if share is None:
            await self._app(scope, receive, send)
            return
        self._turns.keep_going()
        room = self._rooms[share]
        if room.is_full:
            self._refused[share].inc()
            detail = f"more is asked than can be answered: {room.inside} requests are under way. Nothing was done."
            await problem(Request(scope), OVERLOADED, detail)(scope, receive, send)
            return
        room.enter()
        try:
            await self._app(scope, receive, send)
        finally:
            room.leave()

    def _judge(self, is_late: bool) -> None:  # noqa: FBT001 (called by Turns alone)
        for room in self._rooms.values():
            room.judge(is_late=is_late)
