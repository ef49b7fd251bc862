"""The allow-list: which forecasters of River can be selected, and how each is put together."""

from collections.abc import Callable
from typing import Any

from river import dummy, ensemble, linear_model, optim, preprocessing, stats, time_series
from river.time_series.base import Forecaster

from detection.challengers.challenger import Challenger
from detection.challengers.ewa_forecaster import FEATURES, LAGS, EwaForecaster
from detection.challengers.holt_winters import AnchoredHoltWinters
from detection.challengers.names import checked_name
from detection.challengers.terms import Terms


def _holt_winters() -> Forecaster:
    return AnchoredHoltWinters(alpha=0.5, beta=0.001, gamma=0.1, seasonality=24)


def _snarimax() -> Forecaster:
    """The change since yesterday's hour, by the last three of them, that of a day before, and the errors of both.

    River's default regressor, scaled stochastic gradient descent, is many times as far off on some series.
    """
    regressor = Terms() | linear_model.BayesianLinearRegression(alpha=1.0, beta=1.0)
    return time_series.SNARIMAX(p=3, d=0, q=1, m=24, sp=1, sd=1, sq=1, regressor=regressor)


def _ewa() -> Forecaster:
    """Four opinions on the change: the mean one, the last day, the shape of day and week, and descent on all of it."""
    experts: list[Any] = [
        dummy.StatisticRegressor(stats.Mean()),
        Terms("y-2", "y-3", "y-24", "y-25") | linear_model.BayesianLinearRegression(alpha=1.0, beta=1.0),
        Terms("y-2", "y-24", "y-168", *FEATURES[len(LAGS) :])
        | linear_model.BayesianLinearRegression(alpha=1.0, beta=1.0),
        # Without the clipping its weights can double every hour until they are infinite.
        Terms()
        | preprocessing.StandardScaler()
        | linear_model.LinearRegression(optimizer=optim.SGD(0.003), clip_gradient=1.0),
    ]
    return EwaForecaster(ensemble.EWARegressor(experts, loss=optim.losses.Absolute(), learning_rate=2.0))


# By their names in `names.NAMES`. Each factory makes one new forecaster, whose class has a codec in `codecs.CODECS`.
CHALLENGERS: dict[str, Callable[[], Forecaster]] = {
    "holt-winters": _holt_winters,
    "snarimax": _snarimax,
    "ewa": _ewa,
}


def challenger(name: str, **params: Any) -> Challenger:
    """A new challenger of this name; `params` are those of `Challenger` other than the forecaster.

    Raises SettingsError that names what is not on the list.
    """
    return Challenger(CHALLENGERS[checked_name(name, CHALLENGERS)](), **params)


def restored(name: str, state: object, **params: Any) -> Challenger:
    """The challenger that `to_state` described.

    Raises SettingsError for a name that is not on the list, UnreadableStateError for a state that is not its own.
    """
    model = challenger(name, **params)
    model.restore(state)
    return model
