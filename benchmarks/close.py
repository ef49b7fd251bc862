"""The top of an hour for 1,000,000 series: closed, scored, learned, forecast and stored, all of them due at once.

Each biller, with four weeks behind it (`benchmarks._population`), has one settled hour to learn and one closed hour to
judge and publish. Worker processes as many as there are cores, each with its share of the partitions, work that off by
`Pipeline.tick`, as a worker does: against the embedded Valkey, append-only file on, once that has rewritten what the
filling had appended. Afterwards a sample is held against what the single model answers for the same hours, to the last
bit. Also with 10,000 and 100,000 series: the growth.

Beside it, in the same run: the same closings one by one.
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
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import orjson
import redis

from benchmarks._closer import ONE_BY_ONE, TICKS
from benchmarks._population import HOUR, SERIES_OF_BILLER, Population, fill, used_bytes
from benchmarks.context import ROOT, Context
from benchmarks.result import Result, Target
from local.valkey import Valkey
from settings import Settings
from state.redis_store import RedisStore

SERIES = (10_000, 100_000, 1_000_000)
REFERENCE_SERIES = 3_000
WORKERS = 2
PARTITIONS = 4
TARGET_SECONDS = 45

_SAMPLE = 100
_LOG_ID = "bench"
_CLOSE_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Closed:
    """What the closing of so many series has taken; the bytes are Redis's own, a series, before and after."""

    series: int
    seconds: float
    bytes_before: float
    bytes_after: float
    peak_mib: float
    worker_cpu: float
    redis_cpu: float

    @property
    def microseconds(self) -> float:
        """Of one series."""
        return 1e6 * self.seconds / self.series


def run(context: Context) -> list[Result]:
    closed = [_measure(context, series, TICKS) for series in SERIES]
    single = _measure(context, REFERENCE_SERIES, ONE_BY_ONE)
    largest = closed[-1]
    results = [
        Result(
            name=f"{one.series:,} series closed, {WORKERS} worker processes",
            value=one.seconds,
            unit="s",
            reference=f"one by one, {REFERENCE_SERIES:,} series, extrapolated",
            reference_value=single.seconds * one.series / single.series,
            target=Target(at_most=TARGET_SECONDS) if one is largest else Target(),
        )
        for one in closed
    ]
    results += [
        Result(
            name=f"time of one series of {one.series:,}",
            value=one.microseconds,
            unit="µs",
            reference=f"of {closed[0].series:,}",
            reference_value=closed[0].microseconds,
            target=Target(ratio_at_most=1.5),
        )
        for one in closed[1:]
    ]
    results += [
        Result(
            name=f"Redis bytes of one series of {largest.series:,}, all of its subject included",
            value=largest.bytes_before,
            unit="bytes",
            target=Target(at_most=5000),
        ),
        Result(
            name="the same, while every learned window still waits for the history",
            value=largest.bytes_after,
            unit="bytes",
        ),
        Result(
            name=f"peak memory of a worker that closes {largest.series:,} series", value=largest.peak_mib, unit="MiB"
        ),
    ]
    return results


def _measure(context: Context, series: int, how: str) -> Closed:
    # Whole billers: one or two series more than were asked for.
    billers = -(-series // SERIES_OF_BILLER)
    population = Population(billers=billers, partitions=PARTITIONS, log_id=_LOG_ID, is_due=True)
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as name, _valkey(Path(name)) as valkey:
        with context.part(f"{billers:,} billers with four weeks behind them, into Redis"):
            filled = fill(valkey.url, population)
        with context.part("until Redis has rewritten its append-only file"):
            _wait_for_rewriting(valkey.url)
        with context.part(f"closing {SERIES_OF_BILLER * billers:,} series by {how}"):
            closed = _close(valkey, population, how, filled)
        asyncio.run(_check(valkey.url, population))
    context.say(
        f"{closed.series:,} series by {how}: {closed.seconds:.2f} s, {closed.microseconds:.0f} µs each; "
        f"of a core: workers {closed.worker_cpu:.0%}, Redis {closed.redis_cpu:.0%}; "
        f"{closed.bytes_before:,.0f} bytes a series, peak {closed.peak_mib:,.0f} MiB"
    )
    return closed


def _wait_for_rewriting(url: str) -> None:
    """Until no process of Redis works off what was written before."""
    client = redis.Redis.from_url(url)
    while any(client.info("persistence")[name] for name in ("aof_rewrite_in_progress", "aof_rewrite_scheduled")):
        time.sleep(0.2)
    client.close()


def _close(valkey: Valkey, population: Population, how: str, filled: int) -> Closed:
    series = SERIES_OF_BILLER * population.billers
    client = redis.Redis.from_url(valkey.url)
    empty = used_bytes(client) - filled
    with ExitStack() as ended:
        processes = [ended.enter_context(_closer(valkey.url, population, how, part)) for part in range(WORKERS)]
        ready = [_answer(process) for process in processes]
        redis_cpu = _cpu_seconds(client)
        started = time.perf_counter()
        for process in processes:
            _begin(process)
        done = [_answer(process) for process in processes]
        seconds = time.perf_counter() - started
        redis_cpu = _cpu_seconds(client) - redis_cpu
    learned = sum(int(one["learned"]) for one in done)
    if learned != population.billers:
        raise RuntimeError(f"{learned:,} windows were learned, not one of each of {population.billers:,} billers")
    cpu = sum(one["cpu_seconds"] for one in done) - sum(one["cpu_seconds"] for one in ready)
    result = Closed(
        series=series,
        seconds=seconds,
        bytes_before=filled / series,
        bytes_after=(used_bytes(client) - empty) / series,
        peak_mib=max(one["peak_mib"] for one in done),
        worker_cpu=cpu / seconds,
        redis_cpu=redis_cpu / seconds,
    )
    client.close()
    return result


async def _check(url: str, population: Population) -> None:
    """RuntimeError unless what is stored of a sample is what one model after the other comes to, to the last bit."""
    policy = Settings().policy()
    store = RedisStore.connect(url, policy)
    numbers = random.Random(7).sample(range(population.billers), min(_SAMPLE, population.billers))
    try:
        stored = await store.load([population.subject(number) for number in numbers])
        outbox = await store.outbox([population.subject(number) for number in numbers])
    finally:
        await store.aclose()
    for number in numbers:
        expected = population.state(number, policy)
        known = {slug: model.n_learned for slug, model in expected.models.items()}
        expected.learn(policy)
        expected.publish(population.clock_ms, policy)
        found = stored[population.subject(number)]
        is_moved = found.published_hour == expected.published_hour == HOUR + 1
        if not is_moved or list(outbox[found.subject]) != [HOUR - 1] or found.windows != expected.windows:
            raise RuntimeError(f"{found.subject}: the hours are not where they should be")
        for slug, model in expected.models.items():
            forecast, other = found.forecasts[slug], expected.forecasts[slug]
            if (
                found.models[slug].to_bytes() != model.to_bytes()
                or model.n_learned != known[slug] + 1
                or forecast.threshold != other.threshold
                or replace(forecast, explanation={}) != replace(other, explanation={})
                or found.verdicts[slug] != expected.verdicts[slug]
            ):
                raise RuntimeError(f"{found.subject} {slug}: {found} is not what one model comes to: {expected}")


@contextmanager
def _valkey(folder: Path) -> Iterator[Valkey]:
    valkey = Valkey(folder)
    valkey.start()
    try:
        yield valkey
    finally:
        valkey.stop()


@contextmanager
def _closer(url: str, population: Population, how: str, part: int) -> Iterator["subprocess.Popen[bytes]"]:
    spec = {
        "url": url,
        "how": how,
        "population": asdict(population),
        "partitions": list(range(part, PARTITIONS, WORKERS)),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks._closer", orjson.dumps(spec).decode()],
        cwd=ROOT,
        env=os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _begin(process: "subprocess.Popen[bytes]") -> None:
    """Tell it to begin."""
    if process.stdin is None:
        raise RuntimeError("the process was started without a pipe")
    process.stdin.write(b"\n")
    process.stdin.flush()


def _answer(process: "subprocess.Popen[bytes]") -> dict[str, float]:
    """The next line that it says; RuntimeError when it has ended."""
    line = process.stdout.readline() if process.stdout else b""
    if not line:
        raise RuntimeError(f"a closing process ended with {process.wait(_CLOSE_SECONDS)}")
    answer: dict[str, float] = orjson.loads(line)
    return answer


def _cpu_seconds(client: redis.Redis) -> float:
    used = client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])
