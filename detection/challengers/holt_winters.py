"""River's Holt-Winters with a first season that means what the later ones do."""

import statistics
from typing import Any

from river import time_series


class AnchoredHoltWinters(time_series.HoltWinters):
    """River's additive Holt-Winters, begun so that it can be trusted from its second season on.

    River 0.26.1 begins an additive season with value / level, which has the wrong unit and divides by zero on a scale
    that is centred on it; begins the trend with (last - first) / n, the noise of two values; and raises IndexError when
    it is asked before its first season is over. Here the season begins with value - level, the trend with 0, and the
    last value is the forecast until then. Every later step is River's own.

    Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", section 8.3, additive method.

    Parameters
    ----------
    alpha
        Smoothing of the level, 0 to 1.
    beta
        Smoothing of the trend, above 0.
    gamma
        Smoothing of the season, 0 to 1.
    seasonality
        Hours in a season, 2 or more.

    """

    # River leaves these open: a model without a season has no such parts.
    level: Any
    trend: Any
    season: Any

    def __init__(self, alpha: float = 0.5, beta: float = 0.001, gamma: float = 0.1, seasonality: int = 24) -> None:
        super().__init__(alpha, beta, gamma, seasonality)  # type: ignore[no-untyped-call] # River's

    @classmethod
    def _unit_test_params(cls) -> Any:
        yield {"alpha": 0.5, "seasonality": 4}

    def learn_one(self, y: float, x: dict[str, Any] | None = None) -> None:
        """Learns the next hour's value."""
        first = [*self._first_values, y]
        if self._initialized or len(first) < self.seasonality:
            super().learn_one(y, x)  # type: ignore[no-untyped-call] # River's
            return
        level = statistics.fmean(first)
        self._first_values = first
        self.level.append(level)
        self.trend.append(0.0)
        self.season.extend(value - level for value in first)
        self._initialized = True

    def forecast(self, horizon: int, xs: list[dict[str, Any]] | None = None) -> list[float]:
        """The next hours' values."""
        if self._initialized:
            return list(super().forecast(horizon, xs))  # type: ignore[no-untyped-call] # River's
        return [self._first_values[-1] if self._first_values else 0.0] * horizon
