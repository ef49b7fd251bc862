"""A process that closes what is due, as a worker does between two flushes: `python -m benchmarks._closer SPEC`.

    ticks        `Pipeline.tick`, the way of the product, for the subjects of its partitions
    one by one   each subject of its partitions loaded, learned, published and saved by itself: the reference

It says what it has used, begins when a line comes in, and then says what was done, as JSON. The compiled core is loaded
before: a worker that runs has it.
"""

import asyncio
import resource
import sys
from collections.abc import Sequence

import orjson

from benchmarks._population import Population
from detection.closing import close
from detection.policy import Policy
from settings import Settings
from state.redis_store import RedisStore
from stream.dead_letters import DeadLetter
from stream.pipeline import Pipeline
from stream.progress import Progress
from stream.tuning import spare_the_collector, take_turns

TICKS, ONE_BY_ONE = "ticks", "one by one"

_KIB_PER_MIB = 1024


async def close_by_ticks(store: RedisStore, population: Population, partitions: Sequence[int], policy: Policy) -> int:
    """How many windows were learned."""
    pipeline = Pipeline(store, policy, log_id=population.log_id, future_ms=0, send_dead_letters=_no_letters)
    progress = Progress(store)
    pipeline.verify_with(progress.verify)
    progress.begin({pipeline.source("calls", partition): 0 for partition in partitions})
    places = {f"calls/{partition}" for partition in partitions}
    learned = 0
    while True:
        progress.start_flush()
        learned += (await pipeline.tick(places)).learned_windows
        if not pipeline.has_more_to_close:
            return learned


async def close_one_by_one(store: RedisStore, population: Population, partitions: Sequence[int], policy: Policy) -> int:
    """As above."""
    learned = 0
    for number in range(population.billers):
        if number % population.partitions not in partitions:
            continue
        (state,) = (await store.load([population.subject(number)])).values()
        state.learn(policy)
        learned += len(state.learned)
        state.publish(population.clock_ms, policy)
        if await store.save([state]):
            raise RuntimeError(f"{state.subject} was written by somebody else")
    return learned


async def _no_letters(letters: Sequence[DeadLetter]) -> None:
    raise RuntimeError(f"{len(letters)} dead letters, and no event")


async def work(spec: dict[str, object]) -> None:
    """Be ready, wait, close, and say what was done."""
    policy = Settings().policy()
    population = Population(**spec["population"])  # type: ignore[arg-type]  # made by `asdict`
    partitions: list[int] = spec["partitions"]  # type: ignore[assignment]  # as above
    store = RedisStore.connect(str(spec["url"]), policy, timeout_seconds=60)
    how = close_by_ticks if spec["how"] == TICKS else close_one_by_one
    spare_the_collector()
    take_turns()
    try:
        close([population.state(0, policy)], population.clock_ms, policy)
        await store.ping()
        _say(_used())
        await asyncio.to_thread(sys.stdin.readline)
        learned = await how(store, population, partitions, policy)
    finally:
        await store.aclose()
    _say({"learned": learned, **_used()})


def _used() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"peak_mib": used.ru_maxrss / _KIB_PER_MIB, "cpu_seconds": used.ru_utime + used.ru_stime}


def _say(what: dict[str, float]) -> None:
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(work(orjson.loads(sys.argv[1])))
