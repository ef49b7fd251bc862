"""Subjects with a past, made as the pipeline makes them: absorb, learn, publish."""

import random
from collections.abc import Sequence
from typing import cast

from redis.asyncio import Redis

from detection.hours import HOUR_MS
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import NANO, CallWindow, GaugeSum, GaugeWindow, Window, latency_bin
from state.as_stored import Held
from state.memory_store import MemoryStore
from state.readable_series import answer_fields
from state.redis_store import RedisStore
from state.survey import Lately
from state.survey_codec import read_lately

POLICY = Policy()
FIRST_HOUR = 490_000
SOURCE = "kafka/calls/3"

Store = MemoryStore | RedisStore
Fields = dict[str, dict[bytes, bytes]]


def call_window(*latencies_us: int, errors: int = 0, timeouts: int = 0) -> CallWindow:
    """Answered calls of these latencies, some of them errors, and calls that timed out."""
    window = CallWindow(
        calls=len(latencies_us) + timeouts,
        errors=errors,
        timeouts=timeouts,
        latency_us=sum(latencies_us),
        latency_us2=sum(one * one for one in latencies_us),
    )
    for one in latencies_us:
        window.bins[latency_bin(one)] = window.bins.get(latency_bin(one), 0) + 1
    return window


def gauge_window(**values: float) -> GaugeWindow:
    """One observation event."""
    return GaugeWindow(
        events=1,
        gauges={slug.replace("_", "-"): GaugeSum(1, round(one * NANO), one, one) for slug, one in values.items()},
    )


def arrivals(windows: dict[int, Window], *, offset: int = 1) -> Arrivals:
    """Events of the middle of each of these hours."""
    newest = max(windows) * HOUR_MS + HOUR_MS // 2
    minute = newest // 60_000
    return Arrivals(
        watermark_ms=newest,
        accepted=len(windows),
        windows=windows,
        minutes={minute: type(windows[max(windows)])()},
        offsets={SOURCE: offset},
    )


def advance(state: SubjectState, windows: dict[int, Window], *, offset: int = 1) -> SubjectState:
    """The state after these windows, learned and published as far as they allow."""
    state.absorb(arrivals(windows, offset=offset))
    state.learn(POLICY)
    state.publish(state.watermark_ms, POLICY)
    return state


def biller(biller_id: str = "B1", *, hours: int = 60, seed: int = 1) -> SubjectState:
    """A biller with that many hours of calls behind it."""
    chance = random.Random(seed)
    windows: dict[int, Window] = {
        FIRST_HOUR + hour: call_window(
            *(int(chance.lognormvariate(12.0, 0.5)) for _ in range(8)),
            errors=chance.randrange(3),
            timeouts=chance.randrange(2),
        )
        for hour in range(hours)
    }
    return advance(SubjectState(Subject.biller(biller_id)), windows)


def model(*, hours: int = 60, seed: int = 1, **gauges: float) -> SubjectState:
    """A model version that was observed every hour."""
    chance = random.Random(seed)
    levels = gauges or {"prediction_accuracy": 0.8, "drift": 0.1}
    windows: dict[int, Window] = {
        FIRST_HOUR + hour: gauge_window(**{slug: level + chance.gauss(0.0, 0.05) for slug, level in levels.items()})
        for hour in range(hours)
    }
    return advance(SubjectState(Subject.model("Mistral", "v1")), windows)


async def fields(store: Store) -> Fields:
    """Everything that the store holds, by key."""
    if isinstance(store, MemoryStore):
        return {key: dict(found) for key, found in store.hashes.items()}
    found: Fields = {}
    client: Redis = store._client
    async for key in client.scan_iter(count=1000):
        if await client.type(key) == b"hash":
            found[key.decode()] = cast(dict[bytes, bytes], await client.hgetall(key))
    return found


async def glanced(store: Store, subject: Subject, slug: str) -> tuple[dict[str, str] | None, Lately | None]:
    """What a glance comes to: the readable fields, and the last minutes in sum."""
    stored = await store.glance(subject, slug)
    found = [answer_fields(values_of(held)) for _, held in stored.series]
    return found[0] if found else None, read_lately(subject, stored.minutes)


def values_of(held: Held) -> Sequence[bytes | None]:
    """Value by value, in whichever form it is held."""
    return held.split(b"\n") if isinstance(held, bytes) else held
