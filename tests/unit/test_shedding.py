"""What does not fit in is refused at once, kind by kind, and let in again when there is room."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import orjson
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from api.shedding import LEAST, Room, Shedding, Turns, share_of
from metrics import instruments
from tests.memory_api import memory_api

PREDICT, EVENTS, OTHER = "/metrics/predict/1/B1", "/events/calls", "/thresholds"


class _Slow:
    """An app that begins an answer, and ends it when it is told to."""

    def __init__(self) -> None:
        self.begun = asyncio.Semaphore(0)
        self.end = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["path"].encode(), "more_body": True})
        self.begun.release()
        await self.end.wait()
        await send({"type": "http.response.body", "body": b""})


class _Doors:
    """Shedding in front of a slow app, asked as a server would ask it."""

    def __init__(self, *, most: int) -> None:
        self.app = _Slow()
        self.most = most
        self._refused = instruments(CollectorRegistry()).shed_requests
        self._shedding = Shedding(self.app, refused=self._refused, most=most, longest_turn_ms=10_000)

    async def ask(self, path: str) -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        headers = [(b"host", b"tidemark")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
        await self._shedding(scope, receive, send)
        return sent

    @asynccontextmanager
    async def full_of(self, path: str) -> AsyncIterator[list["asyncio.Task[list[Message]]"]]:
        """As many as fit in of one kind are inside, and have begun to be answered."""
        inside = [asyncio.create_task(self.ask(path)) for _ in range(self.most)]
        try:
            for _ in inside:
                await asyncio.wait_for(self.app.begun.acquire(), 5)
            yield inside
        finally:
            for task in inside:
                task.cancel()
            await asyncio.gather(*inside, return_exceptions=True)

    async def is_let_in(self, path: str) -> bool:
        """Whether one more begins to be answered by the app; it is then left again."""
        task = asyncio.create_task(self.ask(path))
        begun = asyncio.create_task(self.app.begun.acquire())
        done, _ = await asyncio.wait({task, begun}, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        for one in (task, begun):
            one.cancel()
        await asyncio.gather(task, begun, return_exceptions=True)
        return begun in done

    def refused(self, share: str) -> float:
        return float(self._refused.labels(share)._value.get())


async def test_one_too_many_is_refused_with_a_problem_that_says_when_to_come_again() -> None:
    doors = _Doors(most=20)
    async with doors.full_of(PREDICT):
        start, body = await doors.ask(PREDICT)
        headers = dict(start["headers"])
        problem = orjson.loads(body["body"])
    assert start["status"] == 503
    assert headers[b"retry-after"] == b"1"
    assert headers[b"content-type"] == b"application/problem+json"
    assert problem["type"] == "urn:tidemark:problem:overloaded"
    assert problem["instance"] == PREDICT
    assert doors.refused("predict") == 1


async def test_an_answer_takes_room_until_its_last_byte() -> None:
    doors = _Doors(most=20)
    async with doors.full_of(OTHER) as inside:
        assert not await doors.is_let_in(OTHER)
        doors.app.end.set()
        await asyncio.gather(*inside)
        assert await doors.is_let_in(OTHER)


async def test_who_goes_away_leaves_room() -> None:
    doors = _Doors(most=20)
    async with doors.full_of(PREDICT) as inside:
        inside[0].cancel()
        await asyncio.gather(inside[0], return_exceptions=True)
        assert await doors.is_let_in(PREDICT)


@pytest.mark.parametrize("path", [EVENTS, OTHER, "/healthz", "/readyz", "/metrics"])
async def test_a_flood_of_predictions_refuses_nothing_else(path: str) -> None:
    doors = _Doors(most=20)
    async with doors.full_of(PREDICT):
        assert not await doors.is_let_in(PREDICT)
        assert await doors.is_let_in(path)


def test_every_address_has_its_share() -> None:
    shares = [
        share_of(path) for path in (PREDICT, "/metrics/predict", EVENTS, OTHER, "/metrics", "/metrics/train/1/B1")
    ]
    assert shares == ["predict", "predict", "events", "other", None, "other"]


def test_fewer_are_let_in_while_turns_are_long_and_all_again_when_they_are_short() -> None:
    room = Room(most=512, limit=512)
    limits = []
    for _ in range(20):
        while not room.is_full:
            room.enter()
        while room.inside:
            room.leave()
        room.peak = min(room.limit, 200)
        room.judge(is_late=True)
        limits.append(room.limit)
    assert limits[0] == 140, "less than there were, however many there may be"
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == LEAST
    for _ in range(50):
        room.judge(is_late=False)
    assert room.limit == 512


def _block(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


async def _judged(turn_seconds: list[float], *, longest_seconds: float) -> list[bool]:
    told: list[bool] = []
    turns = Turns(longest_seconds, told.append)
    for seconds in turn_seconds:
        turns.keep_going()
        _block(seconds)
        await asyncio.sleep(0)
    return told


async def test_turns_that_stay_long_are_a_line() -> None:
    told = await _judged([0.06] * 20, longest_seconds=0.02)
    assert True in told
    assert told[0] is False, "it has to last"


async def test_one_long_pause_is_no_line() -> None:
    told = await _judged([0.4, 0.1, 0.05, 0.02] + [0.001] * 1000, longest_seconds=0.1)
    assert True not in told


async def test_nothing_ticks_while_nobody_asks() -> None:
    turns = Turns(10.0, lambda _: None)
    turns.keep_going()
    assert turns.is_going
    async with asyncio.timeout(10):
        while turns.is_going:  # noqa: ASYNC110 (nobody is told of it)
            await asyncio.sleep(0.01)


async def test_the_api_refuses_what_does_not_fit_in_and_is_ready_all_the_while() -> None:
    async with AsyncExitStack() as open_apis:
        api = await open_apis.enter_async_context(memory_api(requests_at_once=16))
        waiting = asyncio.Event()
        read = api.store.glance

        async def slow(*given: object) -> object:
            await waiting.wait()
            return await read(*given)  # type: ignore[arg-type]  # handed on as they came

        api.store.glance = slow  # type: ignore[method-assign, assignment]  # a Redis that takes its time
        inside = [asyncio.create_task(api.client.post(PREDICT)) for _ in range(16)]
        statuses: list[int] = []
        async with asyncio.timeout(10):
            while 503 not in statuses:
                task = asyncio.create_task(api.client.post(PREDICT))
                await asyncio.wait({task}, timeout=0.2)
                if task.done():
                    statuses.append(task.result().status_code)
                else:
                    inside.append(task)
        ready = await api.client.get("/readyz")
        event = {"biller_id": "B1", "timestamp": api.now_ms, "latency_ms": 1.0, "outcome": "ok"}
        taken = await api.client.post("/events/calls", json=event)
        waiting.set()
        answered = [response.status_code for response in await asyncio.gather(*inside)]
        scraped = (await api.client.get("/metrics")).text
    assert ready.status_code == 200 or "kafka" in ready.text
    assert taken.status_code == 202
    assert answered.count(200) == 16
    assert 'tidemark_shed_requests_total{share="predict"}' in scraped
    assert 'status="503"' not in scraped
