"""The brokers that a benchmark is measured on: the embedded one, and Apache Kafka where there is Java and Maven."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.context import Context
from local.broker import Broker
from local.stack import Stack

EMBEDDED = "the embedded broker"
APACHE = "Apache Kafka"

Make = Callable[[Path], Broker]


def brokers(context: Context) -> dict[str, Make]:
    """What can be measured here, by name: what is missing for Apache Kafka is said."""
    missing = [name for name in ("java", "mvn") if shutil.which(name) is None]
    if missing:
        context.say(f"not measured on Apache Kafka: this machine has no {' and no '.join(missing)}")
        return {EMBEDDED: Broker}
    return {EMBEDDED: Broker, APACHE: _apache}


@contextmanager
def stack_with(make: Make) -> Iterator[tuple[Stack, Path]]:
    """A stack with such a broker, and a folder beside its own."""
    with TemporaryDirectory(prefix="tidemark-bench-") as name:
        folder = Path(name) / "stack"
        with Stack(folder, broker=make(folder)) as stack:
            yield stack, Path(name)


def _apache(folder: Path) -> Broker:
    from tests.kafka.apache import ApacheKafka

    # As it is delivered: it waits for others before the first group of its life begins to read.
    return ApacheKafka(folder, properties={"group.initial.rebalance.delay.ms": 3000})
