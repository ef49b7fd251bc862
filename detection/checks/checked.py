"""A model as the checks see it, and the two faces that Tidemark's models have, brought to it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import msgspec

from detection.catalogue import Direction, Metric
from detection.estimate import Verdict
from detection.hours import slot_of
from detection.policy import Policy
from detection.prediction import Prediction
from detection.series_model import SeriesModel


class Checked(Protocol):
    """One series' model, told of hours since the epoch as a zone's clocks show them; hours not told were silent."""

    @property
    def name(self) -> str: ...

    @property
    def skips(self) -> Mapping[str, str]:
        """The checks that do not hold, by name, each with the reason."""

    @property
    def lower(self) -> float:
        """The least value that an answer can have, or -infinity."""

    @property
    def upper(self) -> float: ...

    @property
    def direction(self) -> Direction: ...

    def fresh(self) -> Self:
        """A model of the same kind that has learned nothing."""

    def copy(self) -> Self:
        """A model that has learned the same, and goes on alone."""

    def ask(self, hour: int, zone: str) -> Prediction:
        """What is expected of an hour that is not yet learned."""

    def learn(self, hour: int, zone: str, value: float, count: int) -> object:
        """Learns the next hour that has a value; what the model says of it, to be compared."""

    def explain(self) -> Mapping[str, float | str]:
        """The parts of the answer for the next hour."""

    def encode(self) -> bytes:
        """Everything learned."""

    def decode(self, state: bytes) -> Self:
        """A model of the same kind that has learned what these bytes say."""


class Said(Protocol):
    """What a forecaster answers of one hour, as `Prediction` names it."""

    @property
    def location(self) -> float: ...

    @property
    def lower(self) -> float: ...

    @property
    def upper(self) -> float: ...

    @property
    def threshold(self) -> float: ...


class ForecasterFace(Protocol):
    """What `CheckedForecaster` needs of a forecaster: one of River's that is asked for bounds and stored."""

    def learn_one(self, y: float, x: Mapping[str, Any] | None = None) -> None: ...

    def skip(self, hours: int = 1) -> None: ...

    def predict(self, slot: int | None = None, ahead: int = 0) -> Said: ...

    def forecast(self, horizon: int) -> list[float]: ...

    def explain(self) -> Mapping[str, float | str]: ...

    def copy(self) -> Self: ...

    def to_state(self) -> Any: ...


@dataclass(slots=True)
class CheckedForecaster:
    """A forecaster that `make(**params)` makes, and `read(state, **params)` from what its `to_state` wrote."""

    name: str
    make: Callable[..., ForecasterFace]
    read: Callable[..., ForecasterFace]
    params: Mapping[str, Any] = field(default_factory=dict)
    skips: Mapping[str, str] = field(default_factory=dict)
    _model: ForecasterFace = field(init=False)
    _next_hour: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._model = self.make(**self.params)

    @property
    def lower(self) -> float:
        return float(self.params.get("lower", -math.inf))

    @property
    def upper(self) -> float:
        return float(self.params.get("upper", math.inf))

    @property
    def direction(self) -> Direction:
        direction: Direction = self.params.get("direction", "above")
        return direction

    def fresh(self) -> Self:
        return replace(self)

    def copy(self) -> Self:
        return self._with(self._model.copy())

    def ask(self, hour: int, zone: str) -> Prediction:
        said = self._model.predict(slot_of(hour, zone), self._ahead(hour))
        return Prediction(said.location, said.lower, said.upper, said.threshold)

    def learn(self, hour: int, zone: str, value: float, count: int) -> None:
        if ahead := self._ahead(hour):
            self._model.skip(ahead)
            self._next_hour = hour
        self._model.learn_one(value, {"slot": slot_of(hour, zone), "count": count})
        self._next_hour = hour + 1

    def explain(self) -> Mapping[str, float | str]:
        self._model.forecast(horizon=5)
        return self._model.explain()

    def encode(self) -> bytes:
        return msgspec.msgpack.encode((self._next_hour, self._model.to_state()))

    def decode(self, state: bytes) -> Self:
        next_hour, learned = msgspec.msgpack.decode(state)
        model = self._with(self.read(learned, **self.params))
        model._next_hour = next_hour  # noqa: SLF001 (our own twin)
        return model

    def _ahead(self, hour: int) -> int:
        return 0 if self._next_hour is None else hour - self._next_hour

    def _with(self, model: ForecasterFace) -> Self:
        twin = self.fresh()
        twin._model = model  # noqa: SLF001 (our own twin)
        twin._next_hour = self._next_hour  # noqa: SLF001 (our own twin)
        return twin


@dataclass(slots=True)
class CheckedSeriesModel:
    """The model of a metric's series under a policy; the zone is each hour's own."""

    metric: Metric
    policy: Policy = field(default_factory=Policy)
    skips: Mapping[str, str] = field(default_factory=dict)
    _model: SeriesModel = field(init=False)

    def __post_init__(self) -> None:
        self._model = SeriesModel(self.metric, self.policy)

    @property
    def name(self) -> str:
        return f"series-model-{self.metric}"

    @property
    def lower(self) -> float:
        return self.metric.lower

    @property
    def upper(self) -> float:
        return self.metric.upper

    @property
    def direction(self) -> Direction:
        return self.metric.direction

    def fresh(self) -> Self:
        return replace(self)

    def copy(self) -> Self:
        return self._with(self._model.copy())

    def ask(self, hour: int, zone: str) -> Prediction:
        forecast = self._model.forecast(hour, self._in(zone))
        estimate = forecast.estimate
        return Prediction(estimate.location, estimate.lower, estimate.upper, forecast.threshold.value)

    def learn(self, hour: int, zone: str, value: float, count: int) -> Verdict:
        return self._model.learn(hour, value, count, self._in(zone))

    def explain(self) -> Mapping[str, float | str]:
        hour = 0 if self._model.next_hour is None else self._model.next_hour
        self._model.score(hour, 1.0, 1, self.policy)
        return self._model.forecast(hour, self.policy).explanation

    def encode(self) -> bytes:
        return msgspec.msgpack.encode(self._model.to_state())

    def decode(self, state: bytes) -> Self:
        return self._with(SeriesModel.from_state(self.metric, msgspec.msgpack.decode(state), self.policy))

    def _in(self, zone: str) -> Policy:
        return replace(self.policy, zone=zone)

    def _with(self, model: SeriesModel) -> Self:
        twin = self.fresh()
        twin._model = model  # noqa: SLF001 (our own twin)
        return twin
