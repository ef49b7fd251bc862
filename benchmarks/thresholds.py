"""Seconds until `GET /thresholds` has streamed 300,000 series as NDJSON, and what memory it takes.

Three series of each of 100,000 billers, that have learned for four weeks. Beside it, in turns in the same run: the same
fields of the same series, read from the same Redis with redis-py's own pipeline of HMGETs, a thousand series at a time,
by a process of its own that does nothing with them. Server and reference have a core to themselves.
"""

import asyncio
import http.client
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import httpx
import orjson
import psutil

from benchmarks._population import SERIES_OF_BILLER, Population, fill
from benchmarks._served import Served, beside_the_server, cpu_seconds, on_the_servers_core, until_it_answers
from benchmarks.context import ROOT, Context
from benchmarks.result import Result, Target
from local.ports import free_port
from local.stack import PARTITIONS, Stack
from state.series_fields import STORED_FIELDS

BILLERS = 100_000
SERIES = BILLERS * SERIES_OF_BILLER

_ROUNDS = 3
_READ_BYTES = 1024 * 1024
_MIB = 1024 * 1024
# What a process may grow by and still be called flat, of 250 MB that are streamed.
_FLAT_MIB = 10
_DEADLINE_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Streamed:
    """One stream: until its first byte and its last, its length, and what the server took for it."""

    first_seconds: float
    seconds: float
    lines: int
    size: int
    cpu_seconds: float
    before_mib: float
    peak_mib: float


def run(context: Context) -> list[Result]:
    return measured(context, billers=BILLERS)


def measured(context: Context, *, billers: int) -> list[Result]:
    """Of so many billers."""
    with (
        tempfile.TemporaryDirectory(prefix="tidemark-bench-") as name,
        beside_the_server(),
        Stack(Path(name) / "stack") as stack,
    ):
        environment = {**stack.environment(), "TIDEMARK_CLOCK": "events"}
        population = Population(billers=billers, partitions=PARTITIONS, log_id=environment["TIDEMARK_KAFKA_LOG_ID"])
        with context.part(f"{billers:,} billers with four weeks behind them, into Redis"):
            fill(stack.valkey.url, population)
        port = free_port()
        served = Served(
            ["-m", "cli.main", "api"],
            {**environment, "TIDEMARK_HTTP_PORT": str(port)},
            Path(name) / "api.log",
            port,
            "/thresholds",
        )
        streams: list[Streamed] = []
        references: list[tuple[float, float]] = []
        with served as server, httpx.Client() as client:
            until_it_answers(client, f"http://127.0.0.1:{port}/healthz")
            # The first one brings in what is imported late, and what the allocator then keeps.
            with context.part("a first stream"):
                _stream(server, billers)
            for number in range(1, _ROUNDS + 1):
                with context.part(f"round {number} of {_ROUNDS}"):
                    streams.append(_stream(server, billers))
                    references.append(_reference(stack.valkey.url, billers))
    return _results(streams, references, billers)


def _stream(server: Served, billers: int) -> Streamed:
    """Every line is counted, and the last one read; RuntimeError where one is missing."""
    process = server.process
    before_cpu, before, peak = cpu_seconds(process), process.memory_info().rss, 0
    lines = size = 0
    tail = b""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=_DEADLINE_SECONDS)
    started = time.perf_counter()
    connection.request("GET", server.path, headers={"Accept": "application/x-ndjson"})
    response = connection.getresponse()
    first = time.perf_counter() - started
    while data := response.read(_READ_BYTES):
        size += len(data)
        lines += data.count(b"\n")
        tail = (tail + data)[-4096:]
        peak = max(peak, process.memory_info().rss)
    seconds = time.perf_counter() - started
    connection.close()
    if lines != billers * SERIES_OF_BILLER:
        raise RuntimeError(f"{lines:,} of {billers * SERIES_OF_BILLER:,} series were streamed: {tail[-500:]!r}")
    orjson.loads(tail.splitlines()[-1])
    cpu = cpu_seconds(process) - before_cpu
    return Streamed(first, seconds, lines, size, cpu, before / _MIB, peak / _MIB)


def _reference(url: str, billers: int) -> tuple[float, float]:
    """Seconds, and processor seconds."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.thresholds", url, str(billers)], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        on_the_servers_core(process.pid)
        said, _ = process.communicate(timeout=_DEADLINE_SECONDS)
    if process.returncode:
        raise RuntimeError(f"the reference ended with {process.returncode}")
    seconds, cpu = orjson.loads(said)
    return seconds, cpu


async def _read_all(url: str, billers: int) -> tuple[float, float]:
    from redis.asyncio import Redis

    from benchmarks._population import biller_id
    from detection.catalogue import BILLER_METRICS
    from detection.subject import Subject
    from state.keys import series_key

    client = Redis.from_url(url)
    await client.ping()
    process = psutil.Process()
    before, started = cpu_seconds(process), time.perf_counter()
    found = 0
    for first in range(0, billers, 1000):
        pipeline = client.pipeline(transaction=False)
        for number in range(first, min(first + 1000, billers)):
            subject = Subject.biller(biller_id(number))
            for metric in BILLER_METRICS:
                pipeline.execute_command("HMGET", series_key(subject, metric.slug), *STORED_FIELDS)
        found += sum(values[0] is not None for values in await pipeline.execute())
    seconds, cpu = time.perf_counter() - started, cpu_seconds(process) - before
    await client.aclose()
    if found != billers * SERIES_OF_BILLER:
        raise RuntimeError(f"{found:,} series were read")
    return seconds, cpu


def _results(streams: Sequence[Streamed], references: Sequence[tuple[float, float]], billers: int) -> list[Result]:
    size = streams[0].size / _MIB
    reference = "the same HMGETs in redis-py's pipelines"
    return [
        Result(
            name=f"GET /thresholds, {billers * SERIES_OF_BILLER:,} series as NDJSON ({size:,.0f} MiB), whole",
            value=median(one.seconds for one in streams),
            unit="s",
            reference=reference,
            reference_value=median(seconds for seconds, _ in references),
            target=Target(at_most=5),
        ),
        Result(
            name="of which processor time of the API",
            value=median(one.cpu_seconds for one in streams),
            unit="s",
            reference=reference,
            reference_value=median(cpu for _, cpu in references),
        ),
        Result(name="until its first byte", value=1000 * median(one.first_seconds for one in streams), unit="ms"),
        Result(
            name="growth of the API's memory while it streams",
            value=max(one.peak_mib - one.before_mib for one in streams),
            unit="MiB",
            target=Target(at_most=_FLAT_MIB),
        ),
        Result(name="largest memory of the API", value=max(one.peak_mib for one in streams), unit="MiB"),
    ]


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(asyncio.run(_read_all(sys.argv[1], int(sys.argv[2])))))
