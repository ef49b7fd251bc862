"""Calls per second from Kafka through to Redis, one JSON call to the message, in one worker process.

Beside it, on the same topic in the same run: a stock Faust agent that only decodes, and aiokafka's bare loop, which
decodes nothing. On the embedded broker, and on Apache Kafka where there is Java and Maven. The billers are known
before, with four weeks behind them; the producer has ended before anything is read. Then what the fence costs: the same
worker, with all that makes a call count exactly once taken out of it (`benchmarks._unfenced`). Then two workers, beside
one that has the same machine, and beside one that has a single core of it with broker and Redis.

The hour of the 1,000 billers closes on the way. That of the 100,000 does not: at this rate they would need hours of
calls for each closing, and `close` measures it.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil

from benchmarks._brokers import EMBEDDED, Make, brokers, stack_with
from benchmarks._calls import TOPIC, Traffic, produce
from benchmarks._population import HOUR, INTO_HOUR_MS, Population, fill
from benchmarks._workers import PRODUCT, Run, Workers, accepted, on_one_core
from benchmarks.context import ROOT, Context
from benchmarks.result import Result, Target
from detection.hours import HOUR_MS
from local.stack import PARTITIONS

# By the number of billers: enough for several writes.
CALLS = {1_000: 12_000_000, 100_000: 24_000_000}
# What a stock agent reads of them.
STOCK_CALLS = 80_000
# By the number of billers, the minutes of event time that the calls are spread over.
MINUTES = {1_000: 90.0, 100_000: 30.0}
ROUNDS = {1_000: 3, 100_000: 2}

_DEADLINE_SECONDS = 1200
_UNFENCED = ("-m", "benchmarks._unfenced")


@dataclass(frozen=True, slots=True)
class _Place:
    """A broker with a filled topic, and a stack whose Redis has a database for each run."""

    broker: str
    brokers: str
    billers: int
    environment: Mapping[str, str]
    servers: Mapping[str, Sequence[psutil.Process]]
    folder: Path

    @property
    def calls(self) -> int:
        return CALLS[self.billers]

    @property
    def rounds(self) -> int:
        return ROUNDS[self.billers] if self.broker == EMBEDDED else 1

    def population(self, *, has_offsets: bool) -> Population:
        log_id = self.environment["TIDEMARK_KAFKA_LOG_ID"]
        return Population(billers=self.billers, partitions=PARTITIONS, log_id=log_id, has_offsets=has_offsets)

    def title(self, what: str) -> str:
        return f"{what}, {self.billers:,} billers, {self.broker}"


def run(context: Context) -> list[Result]:
    results: list[Result] = []
    for broker, make in brokers(context).items():
        for billers in MINUTES:
            with _place(make, broker, billers, context) as place:
                results += _measure(place, context)
    return results


def _measure(place: _Place, context: Context) -> list[Result]:
    with context.part(place.title("bare aiokafka loop")):
        bare = place.calls / _read("bare", place.brokers, place.calls)
    with context.part(place.title("stock Faust agent")):
        stock = STOCK_CALLS / _read("stock", place.brokers, STOCK_CALLS)
    fenced: list[Run] = []
    unfenced: list[Run] = []
    for number in range(place.rounds):
        with context.part(place.title(f"worker, round {number + 1} of {place.rounds}")):
            fenced.append(_run(place, context))
            if place.broker == EMBEDDED:
                unfenced.append(_run(place, context, command=_UNFENCED, is_fenced=False))
    ours = median(one.per_second for one in fenced)
    results = [
        Result(
            name=place.title("calls through to Redis"),
            value=ours,
            unit="calls/s",
            reference="a stock Faust agent that only decodes",
            reference_value=stock,
            target=Target(ratio_at_least=15),
        ),
        Result(
            name=place.title("the same, of what the client can carry"),
            value=ours,
            unit="calls/s",
            reference="aiokafka's bare getmany loop, nothing decoded",
            reference_value=bare,
            target=Target(ratio_at_least=0.5),
        ),
        Result(
            name=place.title("largest memory of the worker"),
            value=max(one.peak_mib for one in fenced),
            unit="MiB",
            # What it is allowed in k8s/base.
            target=Target(at_most=2048),
        ),
    ]
    if unfenced:
        results.append(
            Result(
                name=place.title("with the fence"),
                value=ours,
                unit="calls/s",
                reference="the same worker without offsets in the state and without comparing and setting",
                reference_value=median(one.per_second for one in unfenced),
                target=Target(ratio_at_least=0.9),
            )
        )
    if place.billers == min(MINUTES):
        results += _two(place, context, ours)
    return results


def _two(place: _Place, context: Context, one: float) -> list[Result]:
    pair: list[Run] = []
    confined: list[Run] = []
    with context.part(place.title("two workers, and one on a single core")):
        for _ in range(place.rounds):
            pair.append(_run(place, context, count=2))
            with on_one_core(process for processes in place.servers.values() for process in processes):
                confined.append(_run(place, context, what="one core for 1"))
    references = {
        "one worker, with as many cores": one,
        "one worker, with broker and Redis on a single core": median(run.per_second for run in confined),
    }
    return [
        Result(
            name=place.title("two workers on the machine's cores, broker and Redis among them"),
            value=median(run.per_second for run in pair),
            unit="calls/s",
            reference=reference,
            reference_value=value,
            target=Target(ratio_at_least=1.7),
        )
        for reference, value in references.items()
    ]


_runs = iter(range(1, 1_000_000))


def _run(
    place: _Place,
    context: Context,
    *,
    count: int = 1,
    command: Sequence[str] = PRODUCT,
    is_fenced: bool = True,
    what: str = "",
) -> Run:
    """One run from the beginning of the topic, by a group of its own, into a Redis of its own."""
    number = next(_runs)
    environment = {**place.environment, "TIDEMARK_CLOCK": "events", "TIDEMARK_KAFKA_GROUP": f"bench-{number}"}
    url = environment["TIDEMARK_REDIS_URL"]
    fill(url, place.population(has_offsets=is_fenced))
    before = accepted(url)
    with Workers(environment, place.folder, count=count, command=command) as workers:
        run = workers.until(place.calls, within_seconds=_DEADLINE_SECONDS, beside=place.servers)
    if is_fenced and accepted(url) - before != place.calls:
        raise RuntimeError(f"Redis has accepted {accepted(url) - before:,} of {place.calls:,} calls")
    shares = " and ".join(f"{calls:,}" for calls in run.of_each)
    per_call = 1e6 * sum(share for name, share in run.cpu.items() if name.startswith("worker")) / run.per_second
    context.say(
        f"{place.title(f'{what or count} x {command[-1]}')}: {run.per_second:,.0f} calls/s in {run.seconds:.1f} s "
        f"({shares}); "
        f"of a core: {run.cpu_text()}; {per_call:.2f} µs of processor time a call; peak {run.peak_mib:,.0f} MiB; "
        f"{run.counted.get('tidemark_windows_closed_total', 0):,.0f} windows closed"
    )
    return run


@contextmanager
def _place(make: Make, broker: str, billers: int, context: Context) -> Iterator[_Place]:
    with stack_with(make) as (stack, folder):
        _fill_topic(stack.broker.bootstrap, billers, broker, context)
        yield _Place(
            broker=broker,
            brokers=stack.broker.bootstrap,
            billers=billers,
            environment=stack.environment(),
            servers={
                "broker": stack.broker.processes(),
                "Redis": stack.valkey.processes(),
                "PostgreSQL": stack.postgres.processes(),
            },
            folder=folder,
        )


def _fill_topic(brokers: str, billers: int, broker: str, context: Context) -> None:
    start_ms = HOUR * HOUR_MS + INTO_HOUR_MS
    calls = CALLS[billers]
    traffic = Traffic(calls=calls, billers=billers, partitions=PARTITIONS, start_ms=start_ms, minutes=MINUTES[billers])
    with context.part(f"sending {calls:,} calls of {billers:,} billers to {broker}"):
        produce(brokers, traffic)


def _read(kind: str, brokers: str, count: int) -> float:
    """Seconds that the reader took from its first record to its last."""
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as folder:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks._readers", kind, brokers, TOPIC, str(count)],
            cwd=ROOT,
            # The stock agent leaves a folder of Faust's behind.
            env={**os.environ, "TMPDIR": folder},
            capture_output=True,
            text=True,
            check=False,
            timeout=_DEADLINE_SECONDS,
        )
    if done.returncode or not done.stdout.strip():
        raise RuntimeError(f"the {kind} reader ended with {done.returncode}: {done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])
