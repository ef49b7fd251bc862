"""Calls in a topic, one JSON object a message, made and sent in whole batches: `python -m benchmarks._calls SPEC`.

A send for each call would take longer than all that is measured. What differs from call to call is drawn once, some
thousands of them, and used by turns: no reader can tell.
"""

import asyncio
import random
import subprocess
import sys
from dataclasses import asdict, dataclass

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks._population import biller_id
from benchmarks.context import ROOT

TOPIC = "calls"

_DRAWN = 4096
_BATCH_BYTES = 512 * 1024
_SECONDS = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """`calls` calls of `billers` billers, with event times from `start_ms` on, evenly over `minutes`.

    Biller n is read from partition n modulo `partitions`, and the billers of a partition call in a shuffled order, in
    which each of them calls once before any calls again.
    """

    calls: int
    billers: int
    partitions: int
    start_ms: int
    minutes: float


def produce(brokers: str, traffic: Traffic) -> None:
    """Create the topic where there is none, and fill it; returns when the broker has acknowledged every call."""
    subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks._calls"),
            orjson.dumps({"brokers": brokers, "traffic": asdict(traffic)}).decode(),
        ],
        cwd=ROOT,
        check=True,
        timeout=_SECONDS,
    )


async def send(brokers: str, traffic: Traffic) -> None:
    """As `produce`, in this process."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    if TOPIC not in await admin.list_topics():
        await admin.create_topics([NewTopic(TOPIC, traffic.partitions, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=brokers, max_batch_size=_BATCH_BYTES) as producer:
        for partition in range(traffic.partitions):
            await _send_partition(producer, traffic, partition)


async def _send_partition(producer: AIOKafkaProducer, traffic: Traffic, partition: int) -> None:
    chance = random.Random(partition)
    billers = [biller_id(number).encode() for number in range(partition, traffic.billers, traffic.partitions)]
    chance.shuffle(billers)
    tails = [
        b',"latency_ms":%.1f,"outcome":"%s"}' % (chance.lognormvariate(5, 0.4), chance.choice(_OUTCOMES))
        for _ in range(_DRAWN)
    ]
    calls = traffic.calls // traffic.partitions
    span_ms = traffic.minutes * 60_000
    batch = producer.create_batch()
    for at in range(calls):
        key = billers[at % len(billers)]
        ms = traffic.start_ms + int(at * span_ms / calls)
        value = b'{"biller_id":"%b","timestamp":%d%b' % (key, ms, tails[at % _DRAWN])
        if batch.append(key=key, value=value, timestamp=None) is None:
            await (await producer.send_batch(batch, TOPIC, partition=partition))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=None)
    await (await producer.send_batch(batch, TOPIC, partition=partition))


_OUTCOMES = (b"ok",) * 97 + (b"error",) * 2 + (b"timeout",)


def main() -> None:
    spec = orjson.loads(sys.argv[1])
    asyncio.run(send(spec["brokers"], Traffic(**spec["traffic"])))


if __name__ == "__main__":
    main()
