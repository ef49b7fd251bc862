"""River's exponentially weighted average of regressors as a forecaster of the next hour's change."""

import math
from collections.abc import Mapping
from typing import Any

from river import dummy, stats
from river.ensemble import EWARegressor
from river.time_series.base import Forecaster

from detection.hours import WEEK_HOURS

LAGS = (2, 3, 24, 25, WEEK_HOURS)
HARMONICS = (1, 2)
FEATURES = (*(f"y-{lag}" for lag in LAGS), *(f"{wave}{k}" for k in HARMONICS for wave in ("sin", "cos")))

# What every expert gets back of the whole weight each hour: 1 %, however long it was wrong.
_SHARE = 0.01

_WAVES = [
    {
        name: wave(math.tau * k * hour / 24.0)
        for k in HARMONICS
        for name, wave in ((f"sin{k}", math.sin), (f"cos{k}", math.cos))
    }
    for hour in range(24)
]


class EwaForecaster(Forecaster):
    """Experts say how much the next hour differs from the last one; `EWARegressor` weighs them.

    Features: the values 2, 3, 24, 25 and 168 hours before the next one, each less the last value (a lag that is not
    known yet: the one a day before, or 0), and two daily Fourier terms of the hour in `x["slot"]`, hour of the week,
    counted on when absent. An expert that says 0 repeats the last value.

    `EWARegressor` begins with weights of 1 each, so that its first predictions are sums and not means, and an expert
    whose weight fell to nothing never returns. Here predictions are divided by the weights' sum, and after each hour
    every expert shares 1 % of the whole (Herbster and Warmuth 1998, "Tracking the best expert", fixed share).

    Parameters
    ----------
    regressor
        The ensemble; its experts see the features above.

    """

    def __init__(self, regressor: EWARegressor) -> None:
        self.regressor = regressor
        self.recent: list[float] = []  # oldest first
        self.slot = 0  # hour of the week that comes next

    @classmethod
    def _unit_test_params(cls) -> Any:
        yield {"regressor": EWARegressor([dummy.StatisticRegressor(stats.Mean()) for _ in range(2)])}

    def learn_one(self, y: float, x: Mapping[str, Any] | None = None) -> None:
        """Learns the next hour's value."""
        self.slot = _slot(x, self.slot)
        if self.recent:
            features = self._features(self.recent, self.slot)
            self.regressor.learn_one(features, y - self.recent[-1])  # type: ignore[no-untyped-call] # River's
            weights = self.regressor.weights
            weights[:] = [(1.0 - _SHARE) * weight + _SHARE / len(weights) for weight in weights]
        self._move_on(y)

    def skip_one(self, y: float) -> None:
        """Lets an hour pass as if it had been `y`, of which no expert learns anything."""
        self._move_on(y)

    def forecast(self, horizon: int, xs: list[dict[str, Any]] | None = None) -> list[float]:
        """The next hours' values, each as if those before it had come true; `xs` may carry their slots."""
        recent, slot = self.recent[:], self.slot
        values: list[float] = []
        for step in range(horizon):
            slot = _slot(None if xs is None else xs[step], slot)
            value = 0.0
            if recent:
                features = self._features(recent, slot)
                change = self.regressor.predict_one(features)  # type: ignore[no-untyped-call] # River's
                value = recent[-1] + float(change) / sum(self.regressor.weights)
            values.append(value)
            recent.append(value)
            slot = (slot + 1) % WEEK_HOURS
        return values

    def _features(self, recent: list[float], slot: int) -> dict[str, float]:
        last = recent[-1]
        features: dict[str, float] = {}
        for lag in LAGS:
            known = lag if lag <= len(recent) else 24 if min(lag, len(recent)) >= 24 else 1
            features[f"y-{lag}"] = recent[-known] - last
        return features | _WAVES[slot % 24]

    def _move_on(self, y: float) -> None:
        self.recent.append(y)
        del self.recent[:-WEEK_HOURS]
        self.slot = (self.slot + 1) % WEEK_HOURS


def _slot(x: Mapping[str, Any] | None, otherwise: int) -> int:
    found = None if x is None else x.get("slot")
    return otherwise if found is None else int(found) % WEEK_HOURS
