"""Billers with four days behind them, and with calls in each of their last minutes, up to now."""

import random
import time

from detection.hours import HOUR_MS, MINUTE_MS
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import KEPT_MINUTES, Arrivals, SubjectState
from detection.windows import CallWindow, Window, latency_bin
from settings import Settings
from state.redis_store import RedisStore

_HOURS = 96


async def fill(url: str, billers: int) -> None:
    """So many of them, up to the wall clock's present; RuntimeError where Redis was not empty."""
    policy = Settings().policy()
    store = RedisStore.connect(url, policy)
    now_ms = time.time_ns() // 1_000_000
    chance = random.Random(7)
    try:
        for start in range(0, billers, 100):
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
