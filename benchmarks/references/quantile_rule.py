"""The recording rule that needs no model: quantiles of the last four weeks, as `quantile_over_time` takes them."""

from collections.abc import Mapping

import numpy as np

from benchmarks.references.method import Past, prediction
from detection.evaluation import Prediction

NAME = "quantile_over_time 4w"


class QuantileRule:
    """Threshold: the 0.99 quantile; estimate: the median; band: 0.025 to 0.975; interpolated linearly."""

    def __init__(self) -> None:
        self._past = Past()

    def predict_one(self, hour: int) -> Mapping[str, Prediction]:
        _, values = self._past.before(hour)
        lower, estimate, upper, threshold = np.quantile(values, (0.025, 0.5, 0.975, 0.99)).tolist()
        return {NAME: prediction(estimate=estimate, lower=lower, upper=upper, threshold=threshold)}

    def learn_one(self, hour: int, value: float) -> None:
        self._past.learn_one(hour, value)
