"""Seconds from the start of a worker process until it has caught up, with 100,000 subjects in Redis.

All of them have learned for four weeks, and a worker has read of all of them before: offsets are committed, progress is
kept. Then calls pile up while no worker runs. Measured from the start of the process, imports included, until all of
these calls are written. On the embedded broker, and on Apache Kafka where there is Java and Maven.
"""

from pathlib import Path
from statistics import median

from benchmarks._brokers import brokers, stack_with
from benchmarks._calls import Traffic, produce
from benchmarks._population import HOUR, INTO_HOUR_MS, SERIES_OF_BILLER, Population, fill
from benchmarks._workers import Run, Workers, accepted
from benchmarks.context import Context
from benchmarks.result import Result, Target
from detection.hours import HOUR_MS, MINUTE_MS
from local.stack import PARTITIONS, Stack

BILLERS = 100_000
# What has piled up while no worker ran.
LAG = 50_000
ROUNDS = 3

_DEADLINE_SECONDS = 300


def run(context: Context) -> list[Result]:
    results: list[Result] = []
    for broker, make in brokers(context).items():
        with stack_with(make) as (stack, folder):
            results += _results(broker, _measured(stack, folder, broker, context))
    return results


def _measured(stack: Stack, folder: Path, broker: str, context: Context) -> list[Run]:
    environment = {**stack.environment(), "TIDEMARK_CLOCK": "events"}
    url = environment["TIDEMARK_REDIS_URL"]
    population = Population(billers=BILLERS, partitions=PARTITIONS, log_id=environment["TIDEMARK_KAFKA_LOG_ID"])
    with context.part(f"{BILLERS:,} subjects with four weeks behind them, into Redis"):
        fill(url, population)
    before = accepted(url)
    with context.part("one call of each of them, through a worker that then stops"):
        _send(stack, BILLERS, minute=0)
        with Workers(environment, folder) as workers:
            workers.until(BILLERS, within_seconds=_DEADLINE_SECONDS)
    runs: list[Run] = []
    for number in range(ROUNDS):
        with context.part(f"restart {number + 1} of {ROUNDS}, {broker}"):
            _send(stack, LAG, minute=number + 1)
            with Workers(environment, folder) as workers:
                servers = {"Redis": stack.valkey.processes(), "broker": stack.broker.processes()}
                runs.append(workers.until(LAG, within_seconds=_DEADLINE_SECONDS, beside=servers))
        one = runs[-1]
        context.say(
            f"answering after {one.answering - one.started:.1f} s, first batch after "
            f"{one.first_batch - one.started:.1f} s, caught up after {one.done - one.started:.1f} s"
        )
    if accepted(url) - before != BILLERS + ROUNDS * LAG:
        raise RuntimeError("not every call was accepted once")
    return runs


def _results(broker: str, runs: list[Run]) -> list[Result]:
    return [
        Result(
            name=f"restart of a worker with {BILLERS:,} subjects ({SERIES_OF_BILLER * BILLERS:,} series) and {LAG:,} "
            f"calls behind, until caught up, {broker}",
            value=median(one.done - one.started for one in runs),
            unit="s",
            target=Target(at_most=10),
        ),
        Result(
            name=f"of which until the process has started and answers, {broker}",
            value=median(one.answering - one.started for one in runs),
            unit="s",
        ),
        Result(
            name=f"of which until its first batch: joining the group and finding where to read, {broker}",
            value=median(one.first_batch - one.answering for one in runs),
            unit="s",
        ),
        Result(
            name=f"of which reading and writing what was behind, {broker}",
            value=median(one.seconds for one in runs),
            unit="s",
        ),
    ]


def _send(stack: Stack, calls: int, *, minute: int) -> None:
    traffic = Traffic(
        calls=calls,
        billers=BILLERS,
        partitions=PARTITIONS,
        start_ms=HOUR * HOUR_MS + INTO_HOUR_MS + minute * MINUTE_MS,
        minutes=1,
    )
    produce(stack.broker.bootstrap, traffic)
