"""Prophet, refitted every day on 28 days with its defaults, for the next 24 hours; it has no use for newer values."""

import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.references.method import DAY_HOURS, Past, prediction
from detection.evaluation import Prediction

NAME = "Prophet daily, 24 steps"

_SECONDS_PER_HOUR = 3600


class ProphetDaily:
    """One series; the bounds are quantiles of 1,000 sampled futures, drawn from a fixed seed."""

    def __init__(self) -> None:
        self._past = Past()
        self._fitted_at: int | None = None
        self._futures: Any = None

    def predict_one(self, hour: int) -> Mapping[str, Prediction]:
        if self._fitted_at is None or hour - self._fitted_at >= DAY_HOURS:
            self._fitted_at = hour
            self._futures = _futures(*self._past.before(hour), hour)
        futures = self._futures[hour - self._fitted_at]
        lower, estimate, upper, threshold = np.quantile(futures, (0.025, 0.5, 0.975, 0.99)).tolist()
        return {NAME: prediction(estimate=estimate, lower=lower, upper=upper, threshold=threshold)}

    def learn_one(self, hour: int, value: float) -> None:
        self._past.learn_one(hour, value)


def _futures(hours: Sequence[int], values: Sequence[float], start: int) -> Any:
    """One row of samples an hour, for a day from the start on."""
    # Not dependencies of the project: only this measurement needs them.
    pandas, prophet = importlib.import_module("pandas"), importlib.import_module("prophet")
    logging.getLogger("cmdstanpy").setLevel(logging.ERROR)
    seconds = [hour * _SECONDS_PER_HOUR for hour in hours]
    past = pandas.DataFrame({"ds": pandas.to_datetime(seconds, unit="s"), "y": values})
    model = prophet.Prophet(uncertainty_samples=1000)
    model.fit(past, seed=7)
    # Prophet draws its futures from numpy's global generator.
    np.random.seed(7)  # noqa: NPY002  # as above
    coming = [(start + ahead) * _SECONDS_PER_HOUR for ahead in range(DAY_HOURS)]
    return model.predictive_samples(pandas.DataFrame({"ds": pandas.to_datetime(coming, unit="s")}))["yhat"]
