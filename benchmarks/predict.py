"""Requests per second of `POST /metrics/predict/1/{biller}`, and its latency at half of them.

Beside it, in turns in the same run, with the same load generator, the same Redis and the same uvicorn settings: an
empty FastAPI route that does one HGET. One server process each; requests are not authenticated.
"""

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import httpx
import orjson

from benchmarks._load import Measured
from benchmarks.context import ROOT, Context
from benchmarks.result import Result, Target
from detection.hours import HOUR_MS, MINUTE_MS
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import KEPT_MINUTES, Arrivals, SubjectState
from detection.windows import CallWindow, Window, latency_bin
from local.ports import free_port
from local.stack import Stack
from settings import Settings
from state.redis_store import RedisStore

BILLERS = 1_000
PREDICT = "/metrics/predict/1/{}"
HGET = "/hget/{}"

_HOURS = 96
_CONNECTIONS = 32
_ROUNDS = 5
_ROUND_SECONDS = 2.0
_LATENCY_ROUNDS = 3
_LATENCY_SECONDS = 3.0
_DEADLINE_SECONDS = 30


def run(context: Context) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as name, ExitStack() as open_servers:
        folder = Path(name)
        stack = open_servers.enter_context(Stack(folder / "stack"))
        with context.part(f"folding {_HOURS} hours of {BILLERS:,} billers into Redis"):
            asyncio.run(_fill(stack.valkey.url))
        port, empty_port = free_port(), free_port()
        environment = {**stack.environment(), "TIDEMARK_HTTP_PORT": str(port)}
        open_servers.enter_context(_process(["-m", "cli.main", "api"], environment, folder / "api.log"))
        empty = ["-m", "benchmarks._hget_route", str(empty_port)]
        open_servers.enter_context(_process(empty, stack.environment(), folder / "hget.log"))
        _check(port, empty_port)
        ours, theirs = _in_turns(context, port, empty_port)
        with context.part("latency at half load"):
            late, late_empty = _at_half_load((port, PREDICT, ours / 2), (empty_port, HGET, theirs / 2))
    return [
        Result(
            name=f"predict, {BILLERS:,} billers, {_CONNECTIONS} connections, unauthenticated",
            value=ours,
            unit="requests/s",
            reference="an empty FastAPI route with one HGET",
            reference_value=theirs,
            target=Target(ratio_at_least=0.8),
        ),
        Result(
            name="predict at half load, 99th percentile",
            value=median(one.p99_ms for one in late),
            unit="ms",
            reference="the empty route at half of its own load",
            reference_value=median(one.p99_ms for one in late_empty),
            target=Target(at_most=5),
        ),
        Result(
            name="predict at half load, median",
            value=median(one.p50_ms for one in late),
            unit="ms",
            reference="the empty route at half of its own load",
            reference_value=median(one.p50_ms for one in late_empty),
        ),
    ]


def _in_turns(context: Context, port: int, empty_port: int) -> tuple[float, float]:
    """The medians of several rounds, so that what else the machine does falls on both alike."""
    for warm_port, path in ((port, PREDICT), (empty_port, HGET)):
        _load(warm_port, path, seconds=1.0)
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(1, _ROUNDS + 1):
        with context.part(f"round {number} of {_ROUNDS}"):
            ours.append(_load(port, PREDICT, seconds=_ROUND_SECONDS).per_second)
            theirs.append(_load(empty_port, HGET, seconds=_ROUND_SECONDS).per_second)
    return median(ours), median(theirs)


def _at_half_load(*servers: tuple[int, str, float]) -> list[list[Measured]]:
    """As above: the latencies of each server, round by round."""
    rounds = [
        [_load(port, path, seconds=_LATENCY_SECONDS, rate=rate) for port, path, rate in servers]
        for _ in range(_LATENCY_ROUNDS)
    ]
    return [list(measured) for measured in zip(*rounds, strict=True)]


async def _fill(url: str) -> None:
    """Billers with a week behind them, less or more, and with calls in each of their last minutes."""
    policy = Settings().policy()
    store = RedisStore.connect(url, policy)
    now_ms = time.time_ns() // 1_000_000
    chance = random.Random(7)
    try:
        for start in range(0, BILLERS, 100):
            states = [_state(f"B{number:06d}", now_ms, chance, policy) for number in range(start, start + 100)]
            if await store.save(states):
                raise RuntimeError("the store was not empty")
    finally:
        await store.aclose()


def _state(biller: str, now_ms: int, chance: random.Random, policy: Policy) -> SubjectState:
    state = SubjectState(Subject.biller(biller))
    hour, minute = now_ms // HOUR_MS, now_ms // MINUTE_MS
    level_us = 1000 * chance.lognormvariate(5, 0.5)
    hours: dict[int, Window] = {hour - ago: _hour(level_us, chance) for ago in range(_HOURS)}
    minutes: dict[int, Window] = {minute - ago: _calls(10, level_us, chance) for ago in range(KEPT_MINUTES)}
    state.absorb(Arrivals(watermark_ms=now_ms, accepted=600 * _HOURS, windows=hours, minutes=minutes))
    state.learn(policy)
    state.publish(now_ms, policy)
    return state


def _hour(level_us: float, chance: random.Random) -> CallWindow:
    window = _calls(600, level_us, chance)
    first = latency_bin(int(level_us))
    window.bins = {first + offset: 100 for offset in range(-2, 4)}
    return window


def _calls(count: int, level_us: float, chance: random.Random) -> CallWindow:
    """Without bins, as minutes are counted."""
    latency_us = int(level_us * chance.lognormvariate(0, 0.2))
    return CallWindow(
        calls=count,
        errors=int(chance.random() < 0.05),
        latency_us=count * latency_us,
        latency_us2=count * latency_us**2,
    )


def _check(port: int, empty_port: int) -> None:
    """Wait for both servers, and see that both answer the same threshold, of a model that is ready."""
    with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as client:
        ours = client.post(f"http://127.0.0.1:{port}{PREDICT.format('B000007')}")
        theirs = client.post(f"http://127.0.0.1:{empty_port}{HGET.format('B000007')}")
    answer = ours.raise_for_status().json()
    if answer["status"] != "ready" or answer["threshold"] != float(theirs.raise_for_status().text):
        raise RuntimeError(f"not what is to be measured: {ours.text} beside {theirs.text}")


def _load(port: int, path: str, *, seconds: float, rate: float = 0.0) -> Measured:
    given = [port, path, BILLERS, seconds, _CONNECTIONS, rate]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._load", *map(str, given)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + _DEADLINE_SECONDS,
    )
    if done.returncode:
        raise RuntimeError(f"the load on {path} ended with {done.returncode}: {done.stderr[-2000:]}")
    return Measured(**orjson.loads(done.stdout))


@contextmanager
def _process(arguments: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], env={**os.environ, **environment}, cwd=ROOT, stdout=output, stderr=output
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)
