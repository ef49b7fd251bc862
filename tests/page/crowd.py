"""Hundreds of billers with a few dozen calls an hour each, beside the simulator's: enough subjects, few enough events.

The simulator draws every call of a busy platform; half a thousand of its billers are ten million calls a day. These
have days, noise and trouble of their own, and the same seed gives the same calls.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detection.hours import HOUR_MS, MINUTE_MS

TROUBLE_MINUTES: Final = 14
_TRADES: Final = ("energy", "water", "telco", "bank", "insurer", "transit", "city", "tax", "school", "clinic")
_TIMEOUT_MS: Final = 30_000.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many billers from an hour on; every `trouble_every`-th has trouble in the last minutes before `end_ms`."""

    billers: int
    first_hour: int
    end_ms: int
    seed: int = 5
    trouble_every: int = 40

    def of_hour(self, hour: int) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Each biller's calls of this hour, in order."""
        for number in range(self.billers):
            calls = self._calls(number, hour)
            if calls:
                yield self.name(number), calls

    def name(self, number: int) -> str:
        """Such as `energy-017`."""
        return f"{_TRADES[number % len(_TRADES)]}-{number // len(_TRADES) + 1:03d}"

    def is_in_trouble(self, number: int) -> bool:
        """Whether this biller exceeds its thresholds at the end."""
        return number % self.trouble_every == self.trouble_every // 2

    def _calls(self, number: int, hour: int) -> list[dict[str, Any]]:
        kind = np.random.default_rng([self.seed, number])
        typical_ms = float(np.exp(kind.normal(5.4, 0.6)))
        busiest, phase = float(np.exp(kind.normal(3.4, 0.4))), float(kind.uniform(0, 24))
        error_share, begins = float(np.exp(kind.normal(-4.2, 0.5))), int(kind.integers(0, 6))
        # A few came only lately, and a few fell silent.
        if number % 25 == 7 and hour < self.end_ms // HOUR_MS - 4:
            return []
        if number % 50 == 11 and hour > self.end_ms // HOUR_MS - 8:
            return []
        if hour < self.first_hour + begins:
            return []
        chance = np.random.default_rng([self.seed, number, hour])
        day = 0.65 + 0.35 * np.sin(2 * np.pi * (hour + phase) / 24)
        at = self._moments(chance, number, hour, busiest * day * float(np.exp(chance.normal(0, 0.08))))
        is_late = self.is_in_trouble(number) & (at >= self.end_ms - TROUBLE_MINUTES * MINUTE_MS)
        slow = np.where(is_late & (number % 80 < 40), 3.4, 1.0)
        latency = typical_ms * day**0.3 * slow * np.exp(chance.normal(0, 0.35, len(at)))
        share = np.where(is_late & (number % 80 >= 40), 0.45, error_share)
        draw = chance.random(len(at))
        outcome = np.where(draw < share, "error", np.where(draw > 1 - error_share / 5, "timeout", "ok"))
        latency = np.where(outcome == "timeout", _TIMEOUT_MS, latency)
        name = self.name(number)
        return [
            {"biller_id": name, "timestamp": int(moment), "latency_ms": round(float(ms), 1), "outcome": str(what)}
            for moment, ms, what in zip(at, latency, outcome, strict=True)
        ]

    def _moments(self, chance: np.random.Generator, number: int, hour: int, expected: float) -> NDArray[np.int64]:
        """Trouble has people try again: more calls, which make it credible."""
        start, end = hour * HOUR_MS, min((hour + 1) * HOUR_MS, self.end_ms)
        at = chance.integers(start, end, chance.poisson(expected * (end - start) / HOUR_MS))
        if self.is_in_trouble(number) and end == self.end_ms:
            at = np.append(at, chance.integers(max(end - TROUBLE_MINUTES * MINUTE_MS, start), end, 40))
        return np.sort(at)
