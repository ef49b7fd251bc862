"""River's own parts, put together as its user would: `EWARegressor` hedges pipelines over lags and the calendar."""

import math
from collections.abc import Mapping
from typing import Any

from river import compose, ensemble, feature_extraction, linear_model, optim, preprocessing, stats, tree

from benchmarks.references.method import DAY_HOURS, Z95, Z99, LogScale, prediction
from detection.evaluation import Prediction
from detection.hours import WEEK_HOURS

GAUSSIAN = "river EWARegressor log+2.33s"
CONFORMAL = "river EWARegressor log+conformal"

_RESIDUALS = 336
_LAGS = (1, 2, 3, 24, 25, 48, 168, 169)
_LAG_NAMES = tuple(f"lag_{lag}" for lag in _LAGS)
_WAVES = tuple(f"{wave}_{cycle}_{order}" for wave in ("sin", "cos") for cycle in (24, 168) for order in (1, 2))


class RiverEwa:
    """One River model on the log scale, with two kinds of bounds from its own residuals.

    Gaussian: standard deviations of an exponentially weighted variance. Conformal: River's rolling quantiles of the
    last 336 residuals.
    """

    def __init__(self) -> None:
        self._scale: LogScale | None = None
        self._known: dict[int, float] = {}
        self._last = 0.0
        # River annotates some of its methods, and not these.
        self._model: Any = preprocessing.TargetStandardScaler(_hedged())
        # Said of the hour that is learned next, so that it is not asked for twice.
        self._said: tuple[int, float] | None = None
        self._residuals = {q: stats.RollingQuantile(q, _RESIDUALS) for q in (0.025, 0.975, 0.99)}
        self._variance = stats.EWVar(0.02)

    def predict_one(self, hour: int) -> Mapping[str, Prediction]:
        if self._scale is None:
            raise ValueError("nothing was learned yet")
        said = self._predicted(hour)
        spread = math.sqrt(max(self._variance.get(), 0.0))
        low, high, beyond = (quantile.get() or 0.0 for quantile in self._residuals.values())
        back = self._scale.back
        return {
            GAUSSIAN: prediction(
                estimate=back(said),
                lower=back(said - Z95 * spread),
                upper=back(said + Z95 * spread),
                threshold=back(said + Z99 * spread),
            ),
            CONFORMAL: prediction(
                estimate=back(said),
                lower=back(said + low),
                upper=back(said + high),
                threshold=back(said + beyond),
            ),
        }

    def learn_one(self, hour: int, value: float) -> None:
        # The offset is a share of the first positive value; what comes before is all zeros.
        if self._scale is None:
            if value <= 0.0:
                return
            self._scale = LogScale([value])
        number = self._scale.of(value)
        if self._known:
            residual = number - self._predicted(hour)
            self._model.learn_one(self._features(hour), number)
            self._variance.update(residual)
            for quantile in self._residuals.values():
                quantile.update(residual)
        self._said = None
        self._last = number
        self._known[hour] = number
        self._known.pop(hour - 2 * WEEK_HOURS, None)

    def _predicted(self, hour: int) -> float:
        if self._said is None or self._said[0] != hour:
            self._said = (hour, float(self._model.predict_one(self._features(hour))))
        return self._said[1]

    def _features(self, hour: int) -> dict[str, float | str]:
        """Lags, where a missing one is the last value that is known, waves of the day and the week, and the slots."""
        features: dict[str, float | str] = {
            name: self._known.get(hour - lag, self._last) for lag, name in zip(_LAGS, _LAG_NAMES, strict=True)
        }
        for name in _WAVES:
            wave, cycle, order = name.split("_")
            angle = 2.0 * math.pi * hour * int(order) / int(cycle)
            features[name] = math.sin(angle) if wave == "sin" else math.cos(angle)
        features["of_day"] = str(hour % DAY_HOURS)
        features["of_week"] = str(hour % WEEK_HOURS)
        return features


def _hedged() -> ensemble.EWARegressor:
    # A pipeline that ends in a regressor is one, which its type does not say.
    models: list[Any] = [
        _lags() | linear_model.LinearRegression(optim.SGD(0.01), intercept_lr=0.01),
        _lags() | linear_model.BayesianLinearRegression(smoothing=0.995),
        _lags_and_calendar() | linear_model.LinearRegression(optim.SGD(0.01), intercept_lr=0.01),
        _lags_and_calendar() | linear_model.BayesianLinearRegression(smoothing=0.998),
        _lags_and_calendar() | linear_model.PARegressor(C=0.01, mode=2),  # type: ignore[no-untyped-call]  # River's
        _lags_and_calendar() | tree.HoeffdingAdaptiveTreeRegressor(grace_period=48, seed=7),
    ]
    hedge = ensemble.EWARegressor(models, learning_rate=0.5)
    # River starts with weights of 1 each, so that the first forecast is their sum and not their mean.
    hedge.weights = [1.0 / len(hedge.weights)] * len(hedge.weights)
    return hedge


def _lags() -> compose.Pipeline:
    return compose.Select(*_LAG_NAMES) | preprocessing.StandardScaler()


def _lags_and_calendar() -> compose.Pipeline:
    union = compose.TransformerUnion(
        compose.Select(*_LAG_NAMES, *_WAVES),
        feature_extraction.TargetAgg(by="of_day", how=stats.EWMean(0.15)),
        feature_extraction.TargetAgg(by="of_week", how=stats.EWMean(0.25)),
    )
    return union | preprocessing.StandardScaler()
