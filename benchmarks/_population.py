"""Billers with four weeks behind them, as many as are asked for, in Redis.

What they have learned is real: the recorded series of `examples/`, brought to the levels of 200 billers, were folded
hour by hour by the model itself. Biller n is a copy of the n-th of these kinds, under an id of its own, and is written
by the store itself. `fill` does it in several processes, each of which is `python -m benchmarks._population SPEC`.
"""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from statistics import median

import orjson
import redis

from benchmarks._recorded import HOURLY, read_recordings
from benchmarks.context import ROOT
from detection.catalogue import BILLER_METRICS
from detection.evaluation import Recording
from detection.hours import HOUR_MS, MINUTE_MS, SECOND_MS
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import KEPT_MINUTES, Arrivals, SubjectState
from detection.windows import CallWindow, Window, latency_bin
from settings import Settings
from state.redis_store import RedisStore

KINDS = 200
# Hours that each kind has learned: four weeks.
LEARNED_HOURS = 28 * 24
# 2026-01-05, a Monday, 09:00 UTC: the hour that is open, or that has just ended.
HOUR = 1_767_603_600_000 // HOUR_MS
SERIES_OF_BILLER = len(BILLER_METRICS)

_SAVED_AT_ONCE = 1000
_FILL_SECONDS = 1800
# A little of the next hour has come in: the hour before the last is settled, the last one closed.
_INTO_NEXT_HOUR_MS = 90 * SECOND_MS
# So long after the top of the hour that the hour before it is closed.
INTO_HOUR_MS = 5 * MINUTE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """So many billers, read from so many partitions of the topic in that log.

    They are steady, five minutes into the hour and with nothing to do, nor to tell; or `is_due`: just over the top of
    the next hour, with one settled hour to learn and one closed hour to judge and publish, all at once.
    """

    billers: int
    partitions: int
    log_id: str
    is_due: bool = False
    has_offsets: bool = True

    def subject(self, number: int) -> Subject:
        return Subject.biller(biller_id(number))

    def offsets(self, number: int) -> dict[str, int]:
        """By what the biller's calls are read from, that none of them was read yet."""
        return {f"{self.log_id}/calls/{number % self.partitions}": 0} if self.has_offsets else {}

    @property
    def clock_ms(self) -> int:
        """The newest event's time."""
        return (HOUR + 1) * HOUR_MS + _INTO_NEXT_HOUR_MS if self.is_due else HOUR * HOUR_MS + INTO_HOUR_MS

    def state(self, number: int, policy: Policy) -> SubjectState:
        """The biller's state, made from its own hours: shared with nobody."""
        return replace(
            _state_of(number % KINDS, policy, is_due=self.is_due),
            subject=self.subject(number),
            offsets=self.offsets(number),
        )


def biller_id(number: int) -> str:
    return f"B{number:07d}"


def fill(url: str, population: Population, *, processes: int = 2) -> int:
    """Put the population and the stream's clock in the place of all that Redis holds; the bytes that it then takes.

    Returns when Redis has come to rest. RuntimeError where a process fails.
    """
    client = redis.Redis.from_url(url, socket_timeout=_FILL_SECONDS)
    client.flushall()
    empty = used_bytes(client)
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks._population"),
                orjson.dumps({"url": url, "part": part, "parts": processes, "of": asdict(population)}).decode(),
            ],
            cwd=ROOT,
            stderr=subprocess.PIPE,
        )
        for part in range(processes)
    ]
    for process in running:
        _, errors = process.communicate(timeout=_FILL_SECONDS)
        if process.returncode:
            raise RuntimeError(f"filling Redis ended with {process.returncode}: {errors.decode()[-2000:]}")
    asyncio.run(_set_clock(url, population.clock_ms))
    while client.info("persistence")["aof_rewrite_in_progress"]:
        time.sleep(0.1)
    filled = used_bytes(client)
    client.close()
    return filled - empty


def used_bytes(client: redis.Redis) -> int:
    """The memory of all keys and values, without what clients and the append-only file buffer."""
    memory = client.info("memory")
    return int(memory["used_memory"] - memory["mem_clients_normal"] - memory["mem_aof_buffer"])


async def _set_clock(url: str, ms: int) -> None:
    store = RedisStore.connect(url, Settings().policy())
    await store.advance_clock(ms)
    await store.aclose()


async def write(url: str, population: Population, *, part: int, parts: int) -> None:
    """Write every biller whose kind is this part's."""
    policy = Settings().policy()
    store = RedisStore.connect(url, policy, timeout_seconds=60)
    kinds = {
        kind: _state_of(kind, policy, is_due=population.is_due)
        for kind in range(part, min(KINDS, population.billers), parts)
    }
    try:
        states = _copies(population, kinds)
        while some := list(islice(states, _SAVED_AT_ONCE)):
            if await store.save(some):
                raise RuntimeError("the store was not empty")
            # What was published of them was told long ago.
            await store.announced(await store.announcements([state.subject for state in some]))
    finally:
        await store.aclose()


def _copies(population: Population, kinds: Mapping[int, SubjectState]) -> Iterator[SubjectState]:
    slugs = [metric.slug for metric in BILLER_METRICS]
    for number in range(population.billers):
        kind = kinds.get(number % KINDS)
        if kind is not None:
            yield replace(
                kind,
                subject=population.subject(number),
                offsets=population.offsets(number),
                changed=set(slugs),
                learned={},
            )


def _state_of(kind: int, policy: Policy, *, is_due: bool) -> SubjectState:
    state = SubjectState(Subject.biller(f"kind-{kind}"))
    history = _History(kind)
    hours: dict[int, Window] = {HOUR - 1 - ago: history.window(ago) for ago in range(LEARNED_HOURS, -1, -1)}
    hours[HOUR] = history.calls(0, share=1.0 if is_due else INTO_HOUR_MS / HOUR_MS)
    end_ms = (HOUR + 1) * HOUR_MS - 1 if is_due else HOUR * HOUR_MS + INTO_HOUR_MS
    minute = end_ms // MINUTE_MS
    minutes: dict[int, Window] = {
        minute - ago: replace(history.calls(0, share=1 / 60), bins={}) for ago in range(KEPT_MINUTES)
    }
    calls = sum(window.calls for window in hours.values() if isinstance(window, CallWindow))
    state.absorb(Arrivals(watermark_ms=end_ms, accepted=calls, windows=hours, minutes=minutes))
    state.learn(policy)
    state.publish(end_ms, policy)
    if is_due:
        ms = (HOUR + 1) * HOUR_MS + _INTO_NEXT_HOUR_MS
        first = history.calls(0, share=_INTO_NEXT_HOUR_MS / HOUR_MS)
        begun: dict[int, Window] = {ms // MINUTE_MS: replace(first, bins={})}
        state.absorb(Arrivals(watermark_ms=ms, accepted=first.calls, windows={HOUR + 1: first}, minutes=begun))
    state.settled()
    return state


class _History:
    """The hours of one kind of biller: a recorded latency, volume and error series, each brought to its own level."""

    def __init__(self, kind: int) -> None:
        chance = random.Random(kind)
        latencies, volumes, errors = _recordings()
        self._chance = chance
        self._latency = _stretch(latencies[kind % len(latencies)], chance)
        self._volume = _stretch(chance.choice(volumes), chance)
        self._errors = _stretch(chance.choice(errors), chance)
        self._level_ms = chance.lognormvariate(5, 0.7)
        self._calls = 10 ** chance.uniform(1, 4)
        self._error_share = 10 ** chance.uniform(-4, -1.5)
        self._timeout_share = 10 ** chance.uniform(-4, -2)

    def window(self, ago: int) -> CallWindow:
        return self.calls(ago)

    def calls(self, ago: int, *, share: float = 1.0) -> CallWindow:
        """That much of the hour which was so many hours ago."""
        chance, at = self._chance, LEARNED_HOURS - ago
        count = 1 + int(share * self._calls * min(self._volume[at], 20.0))
        errors = sum_of_chance(count, min(self._error_share * self._errors[at], 0.9), chance)
        timeouts = sum_of_chance(count - errors, self._timeout_share, chance)
        answered = count - timeouts
        latency_us = 1 + int(1000 * min(self._level_ms * self._latency[at], 30_000.0))
        first = latency_bin(latency_us)
        spread = {max(first + offset, 0): answered * weight // 10 for offset, weight in _SPREAD}
        spread[max(first, 0)] += answered - sum(spread.values())
        return CallWindow(
            calls=count,
            errors=errors,
            timeouts=timeouts,
            latency_us=answered * latency_us,
            latency_us2=answered * latency_us**2 * 11 // 10,
            bins={one: calls for one, calls in spread.items() if calls},
        )


# How calls lie around the mean, in tenths, by bins.
_SPREAD = ((-2, 1), (-1, 2), (0, 4), (1, 2), (2, 1))


def sum_of_chance(count: int, share: float, chance: random.Random) -> int:
    """About a binomial number: normal where it is large, drawn one by one where it is small."""
    mean = count * share
    if mean > 10 or count > 200:
        return min(max(round(chance.gauss(mean, (mean * (1 - share)) ** 0.5)), 0), count)
    return sum(chance.random() < share for _ in range(count))


def _stretch(values: Sequence[float], chance: random.Random) -> list[float]:
    """As many hours in a row as are needed, from some place on, around 1."""
    start = chance.randrange(len(values) - LEARNED_HOURS)
    found = values[start : start + LEARNED_HOURS + 1]
    middle = median(found) or 1.0
    return [value / middle for value in found]


@lru_cache(maxsize=1)
def _recordings() -> tuple[list[list[float]], list[list[float]], list[list[float]]]:
    """The values of the recordings that are long enough, of latencies, of volumes and of errors; gaps are closed."""
    found = read_recordings(Path(ROOT) / "examples" / HOURLY).values()

    def values(recording: Recording) -> list[float]:
        return [recording.values[hour] for hour in sorted(recording.values)]

    long = [one for one in found if len(one.values) > LEARNED_HOURS + 1 and median(one.values.values()) > 0]
    of_families = [("latency",), ("volume", "other"), ("error",)]
    latencies, volumes, errors = ([values(one) for one in long if one.family in names] for names in of_families)
    return latencies, volumes, errors


def main() -> None:
    spec = orjson.loads(sys.argv[1])
    asyncio.run(write(spec["url"], Population(**spec["of"]), part=spec["part"], parts=spec["parts"]))


if __name__ == "__main__":
    main()
