"""Explicit state codecs of River's estimators: which attributes of which class are learned, written out by hand.

An estimator's state holds numbers, lists and its class's name, and is read into an estimator that was built anew from
the program's own parameters. No attribute, class or parameter is ever taken from stored text; a class that is not in
`CODECS` has no state, by exact type, so that a subclass with more to remember is refused too.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from river import compose, dummy, ensemble, linear_model, optim, preprocessing, stats, time_series, utils

from detection.challengers.ewa_forecaster import FEATURES, EwaForecaster
from detection.challengers.fields import Fields, State
from detection.challengers.holt_winters import AnchoredHoltWinters
from detection.challengers.terms import Terms
from detection.errors import SettingsError
from detection.hours import WEEK_HOURS

Features = tuple[str, ...]


class Codec(NamedTuple):
    """Writes and reads one class; the features are those that reach the estimator, in one order for good.

    `needs` says of an estimator why it cannot be stored after all, or is empty: River's classes have options that
    bring more state with them.
    """

    write: Callable[[Any, Features], State]
    read: Callable[[Any, Fields, Features], None]
    needs: Callable[[Any], str]


def written(estimator: object, features: Features = ()) -> State:
    """What the estimator learned."""
    return {"estimator": type(estimator).__name__} | _codec(estimator).write(estimator, features)


def read_into(estimator: object, state: object, features: Features = ()) -> None:
    """Gives a new estimator what `written` told of one with the same parameters; from then on they are equal.

    Raises UnreadableStateError that names the estimator and the field.
    """
    name = type(estimator).__name__
    fields = Fields(state, name)
    fields.expect("estimator", name)
    _codec(estimator).read(estimator, fields, features)


def check_storable(estimator: object) -> None:
    """Raises SettingsError that names the first estimator within, itself included, that has no codec."""
    needs = _codec(estimator).needs(estimator)
    if needs:
        raise SettingsError(f"{type(estimator).__name__} cannot be stored: {needs}")


def _codec(estimator: object) -> Codec:
    codec = CODECS.get(type(estimator))
    if codec is None:
        valid = ", ".join(sorted(known.__name__ for known in CODECS))
        raise SettingsError(f"{type(estimator).__name__} has no state codec; these have one: {valid}")
    return codec


def _nothing(_: object) -> str:
    return ""


def _unless(reason: str, condition: Callable[[Any], bool]) -> Callable[[Any], str]:
    return lambda estimator: "" if condition(estimator) else reason


# Holt-Winters -------------------------------------------------------------------------------------------------------


def _write_holt_winters(model: AnchoredHoltWinters, _: Features) -> State:
    if not model._initialized:  # noqa: SLF001 (River keeps its state private)
        return {"first": list(model._first_values), "level": [], "trend": [], "season": []}  # noqa: SLF001
    # The first values are never read again.
    return {"first": [], "level": list(model.level), "trend": list(model.trend), "season": list(model.season)}


def _read_holt_winters(model: AnchoredHoltWinters, fields: Fields, _: Features) -> None:
    first = fields.numbers("first", 0, model.seasonality - 1)
    level = fields.numbers("level", 0, 2)
    trend = fields.numbers("trend", len(level))
    season = fields.numbers("season", model.seasonality if level else 0, model.seasonality + 1 if level else None)
    if first and level:
        raise fields.refuse("first", "is there, but so is a level")
    model.level.extend(level)
    model.trend.extend(trend)
    model.season.extend(season)
    model._first_values = first  # noqa: SLF001
    model._initialized = bool(level)  # noqa: SLF001


# SNARIMAX -----------------------------------------------------------------------------------------------------------


def _snarimax_features(model: time_series.SNARIMAX) -> Features:
    seasons = range(model.m - 1, model.m * model.sp, model.m)
    errors = range(model.m - 1, model.m * model.sq, model.m)
    return (
        *(f"y-{t + 1}" for t in range(model.p)),
        *(f"sy-{t + 1}" for t in seasons),
        *(f"e-{t + 1}" for t in range(model.q)),
        *(f"se-{t + 1}" for t in errors),
    )


def _write_snarimax(model: time_series.SNARIMAX, _: Features) -> State:
    return {
        "values": list(model.y_hist),
        "differences": list(model.y_diff),
        "errors": list(model.errors),
        "regressor": written(model.regressor, _snarimax_features(model)),
    }


def _read_snarimax(model: time_series.SNARIMAX, fields: Fields, _: Features) -> None:
    def fill(history: deque[float], name: str) -> None:
        history.extend(fields.numbers(name, 0, history.maxlen))

    fill(model.y_hist, "values")
    fill(model.y_diff, "differences")
    fill(model.errors, "errors")
    read_into(model.regressor, fields.part("regressor"), _snarimax_features(model))


def _snarimax_needs(model: time_series.SNARIMAX) -> str:
    check_storable(model.regressor)
    return ""


# EWA ----------------------------------------------------------------------------------------------------------------


def _write_ewa_forecaster(model: EwaForecaster, _: Features) -> State:
    return {"recent": model.recent[:], "slot": model.slot, "regressor": written(model.regressor, FEATURES)}


def _read_ewa_forecaster(model: EwaForecaster, fields: Fields, _: Features) -> None:
    model.recent = fields.numbers("recent", 0, WEEK_HOURS)
    model.slot = fields.whole("slot", 0, WEEK_HOURS - 1)
    read_into(model.regressor, fields.part("regressor"), FEATURES)


def _ewa_forecaster_needs(model: EwaForecaster) -> str:
    check_storable(model.regressor)
    return ""


def _write_ewa(ewa: ensemble.EWARegressor, features: Features) -> State:
    return {"weights": list(ewa.weights), "experts": [written(expert, features) for expert in ewa]}


def _read_ewa(ewa: ensemble.EWARegressor, fields: Fields, features: Features) -> None:
    weights = fields.numbers("weights", len(ewa.weights))
    if min(weights) < 0.0 or sum(weights) <= 0.0:
        raise fields.refuse("weights", "are not weights")
    ewa.weights[:] = weights
    for expert, state in zip(ewa, fields.parts("experts", len(weights)), strict=True):
        read_into(expert, state, features)


def _ewa_needs(ewa: ensemble.EWARegressor) -> str:
    for expert in ewa:
        check_storable(expert)
    return ""


# Regressors and what they are piped from ----------------------------------------------------------------------------


def _write_pipeline(pipeline: compose.Pipeline, features: Features) -> State:
    steps = []
    for step in pipeline.steps.values():
        steps.append(written(step, features))
        features = step.of(features) if isinstance(step, Terms) else features
    return {"steps": steps}


def _read_pipeline(pipeline: compose.Pipeline, fields: Fields, features: Features) -> None:
    steps = pipeline.steps.values()
    for step, state in zip(steps, fields.parts("steps", len(steps)), strict=True):
        read_into(step, state, features)
        features = step.of(features) if isinstance(step, Terms) else features


def _pipeline_needs(pipeline: compose.Pipeline) -> str:
    for step in pipeline.steps.values():
        check_storable(step)
    return ""


def _write_nothing(_: object, __: Features) -> State:
    return {}


def _read_nothing(_: object, __: Fields, ___: Features) -> None:
    """There is nothing to read."""


def _write_scaler(scaler: preprocessing.StandardScaler, features: Features) -> State:
    # Reading `transform_one` enters features that were never learned into the scaler's defaultdicts: the counts tell.
    known = [i for i, name in enumerate(features) if scaler.counts.get(name, 0)]
    return {
        "known": known,
        "counts": [scaler.counts[features[i]] for i in known],
        "means": [scaler.means[features[i]] for i in known],
        "variances": [scaler.vars[features[i]] for i in known],
    }


def _read_scaler(scaler: preprocessing.StandardScaler, fields: Fields, features: Features) -> None:
    known = _known(fields, features)
    counts = fields.wholes("counts", len(known))
    means, variances = fields.numbers("means", len(known)), fields.numbers("variances", len(known))
    if min(variances, default=0.0) < 0.0:
        raise fields.refuse("variances", "has a negative one")
    for i, count, mean, variance in zip(known, counts, means, variances, strict=True):
        scaler.counts[features[i]] = count
        scaler.means[features[i]] = mean
        scaler.vars[features[i]] = variance


def _write_linear_regression(model: linear_model.LinearRegression, features: Features) -> State:
    weights = model.weights
    known = [features.index(name) for name in weights]
    return {
        "known": known,
        "weights": [weights[features[i]] for i in known],
        "intercept": model.intercept,
        "n_iterations": model.optimizer.n_iterations,
    }


def _read_linear_regression(model: linear_model.LinearRegression, fields: Fields, features: Features) -> None:
    known = _known(fields, features)
    weights = fields.numbers("weights", len(known))
    model._weights = utils.VectorDict(  # noqa: SLF001
        {features[i]: weight for i, weight in zip(known, weights, strict=True)}
    )
    model.intercept = fields.number("intercept")
    model.optimizer.n_iterations = fields.whole("n_iterations")


def _is_plain_linear_regression(model: linear_model.LinearRegression) -> bool:
    return type(model.optimizer) is optim.SGD and model.l1 == 0.0


def _write_bayesian(model: linear_model.BayesianLinearRegression, features: Features) -> State:
    size = len(model._idx)  # noqa: SLF001
    return {
        "known": [features.index(name) for name in model._idx],  # noqa: SLF001
        "capacity": model._cap,  # noqa: SLF001
        "covariance": model._ss_inv_arr[:size, :size].ravel().tolist(),  # noqa: SLF001
        "natural_mean": model._eta_arr[:size].tolist(),  # noqa: SLF001
    }


def _read_bayesian(model: linear_model.BayesianLinearRegression, fields: Fields, features: Features) -> None:
    known = _known(fields, features)
    size = len(known)
    capacity = fields.whole("capacity", size, 2 * max(8, len(features) + 1))
    covariance = np.array(fields.numbers("covariance", size * size), dtype=np.float64).reshape(size, size)
    if bool((np.diag(covariance) < 0.0).any()):
        raise fields.refuse("covariance", "has a negative variance")
    natural_mean = fields.numbers("natural_mean", size)
    if capacity == 0:
        return
    # Beyond the known features River keeps the prior, untouched: what is 0 in every `x` changes nothing. Its precision
    # matrix is read only when smoothing is set, which `needs` refuses, so it is not stored.
    model._grow(capacity)  # noqa: SLF001
    model._cap = capacity  # noqa: SLF001
    model._idx = {features[i]: at for at, i in enumerate(known)}  # noqa: SLF001
    model._ss_inv_arr[:size, :size] = covariance  # noqa: SLF001
    model._eta_arr[:size] = natural_mean  # noqa: SLF001
    model._m_dirty = True  # noqa: SLF001 (the mean is computed from these two when it is asked for)


def _write_statistic(model: Any, _: Features) -> State:
    return {"n": model.statistic.n, "mean": model.statistic.get()}


def _read_statistic(model: Any, fields: Fields, _: Features) -> None:
    model.statistic.n = fields.number("n")
    model.statistic._mean = fields.number("mean")  # noqa: SLF001


def _known(fields: Fields, features: Features) -> list[int]:
    """Which of the features were seen, in the order in which they first were."""
    known = fields.wholes("known", 0, len(features), highest=len(features) - 1)
    if len(set(known)) != len(known):
        raise fields.refuse("known", "names a feature twice")
    return known


CODECS: dict[type, Codec] = {
    AnchoredHoltWinters: Codec(_write_holt_winters, _read_holt_winters, _nothing),
    time_series.SNARIMAX: Codec(_write_snarimax, _read_snarimax, _snarimax_needs),
    EwaForecaster: Codec(_write_ewa_forecaster, _read_ewa_forecaster, _ewa_forecaster_needs),
    ensemble.EWARegressor: Codec(_write_ewa, _read_ewa, _ewa_needs),
    compose.Pipeline: Codec(_write_pipeline, _read_pipeline, _pipeline_needs),
    Terms: Codec(_write_nothing, _read_nothing, _nothing),
    preprocessing.StandardScaler: Codec(
        _write_scaler,
        _read_scaler,
        _unless("only without a window and with its variance", lambda it: it.window_size is None and it.with_std),
    ),
    linear_model.LinearRegression: Codec(
        _write_linear_regression,
        _read_linear_regression,
        _unless("only with optim.SGD and without an L1 penalty", _is_plain_linear_regression),
    ),
    linear_model.BayesianLinearRegression: Codec(
        _write_bayesian, _read_bayesian, _unless("only without smoothing", lambda it: it.smoothing is None)
    ),
    dummy.StatisticRegressor: Codec(
        _write_statistic, _read_statistic, _unless("only with stats.Mean", lambda it: type(it.statistic) is stats.Mean)
    ),
}
