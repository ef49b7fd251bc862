"""AutoARIMA of statsforecast, refitted every day on 28 days, raw and on the log scale.

Each fit is used twice: for the next 24 hours at once, which is what a nightly job publishes, and hour by hour, where
the fitted orders and coefficients are run over what has come since (`forward`): the fair comparison for a next hour.
The search of orders is approximate (conditional sums of squares), as R does by default for series of this length: the
exact one took 47 seconds a fit here, the approximate one 2.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.references.method import DAY_HOURS, LogScale, Past, prediction
from detection.evaluation import Prediction

DAILY = "AutoARIMA daily, 24 steps"
HOURLY = "AutoARIMA daily, 1 step"
LOG_DAILY = "AutoARIMA log daily, 24 steps"
LOG_HOURLY = "AutoARIMA log daily, 1 step"

# Two-sided levels: 98 % ends at the 0.99 quantile.
_LEVELS = (95, 98)


class AutoArima:
    """One series; it refits when it is asked for an hour 24 hours or more after its last fit."""

    def __init__(self, *, is_log: bool = False) -> None:
        self._past = Past()
        self._is_log = is_log
        self._names = (LOG_DAILY, LOG_HOURLY) if is_log else (DAILY, HOURLY)
        self._scale: LogScale | None = None
        self._fitted_at: int | None = None
        self._model: Any = None
        self._day: Mapping[str, Any] = {}

    def predict_one(self, hour: int) -> Mapping[str, Prediction]:
        history = self._past.filled(hour)
        if self._fitted_at is None or hour - self._fitted_at >= DAY_HOURS:
            self._fitted_at = hour
            self._refit(history)
        next_hour = self._model.forward(self._scaled(history), 1, level=list(_LEVELS))
        daily, hourly = self._names
        return {daily: self._said(self._day, hour - self._fitted_at), hourly: self._said(next_hour, 0)}

    def learn_one(self, hour: int, value: float) -> None:
        self._past.learn_one(hour, value)

    def _refit(self, history: npt.NDArray[np.float64]) -> None:
        # Not a dependency of the project: only this measurement needs it.
        models = importlib.import_module("statsforecast.models")
        self._scale = LogScale(history.tolist()) if self._is_log else None
        self._model = models.AutoARIMA(season_length=DAY_HOURS, approximation=True)
        self._model.fit(self._scaled(history))
        self._day = self._model.predict(DAY_HOURS, level=list(_LEVELS))

    def _scaled(self, history: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return history if self._scale is None else np.array([self._scale.of(one) for one in history.tolist()])

    def _said(self, forecast: Mapping[str, Any], step: int) -> Prediction:
        numbers = [float(forecast[name][step]) for name in ("mean", "lo-95", "hi-95", "hi-98")]
        if self._scale is not None:
            numbers = [self._scale.back(number) for number in numbers]
        mean, lower, upper, threshold = numbers
        return prediction(estimate=mean, lower=lower, upper=upper, threshold=threshold)
