"""The alert rule that most people write first: the mean of the last hours plus three standard deviations."""

from collections.abc import Mapping

import numpy as np

from benchmarks.references.method import Past, prediction
from detection.evaluation import Prediction


class SigmaRule:
    """Mean and standard deviation over the observed ones of the last `hours` hours; the band is two of them wide."""

    def __init__(self, hours: int) -> None:
        self.name = f"mean {hours} h + 3 sigma"
        self._past = Past(hours)

    def predict_one(self, hour: int) -> Mapping[str, Prediction]:
        _, values = self._past.before(hour)
        if not values:
            return {self.name: prediction(estimate=0.0, lower=0.0, upper=0.0, threshold=0.0)}
        mean, sigma = float(np.mean(values)), float(np.std(values))
        return {
            self.name: prediction(
                estimate=mean, lower=mean - 2.0 * sigma, upper=mean + 2.0 * sigma, threshold=mean + 3.0 * sigma
            )
        }

    def learn_one(self, hour: int, value: float) -> None:
        self._past.learn_one(hour, value)
