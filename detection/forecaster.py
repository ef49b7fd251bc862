"""What one series will be in the next hour, and how far from it is still normal."""

import math
from collections.abc import Mapping
from typing import Any, Self

from river.time_series.base import Forecaster

from detection.bound_tracker import Claim
from detection.catalogue import Direction
from detection.errors import InvalidObservationError
from detection.experts import EXPERTS
from detection.forecaster_state import STATE_VERSION, State, restore, state_of
from detection.outlook import Outlook, Prediction
from detection.season import HOURS_OF_WEEK
from detection.seasonal_model import SeasonalModel

_LARGEST = 1e30  # values are cut here, so that their squares stay finite
_SMALLEST = 1e-30  # and what is nearer to zero than this is zero, so that their squares do not vanish
_CLAIM_NAMES = ("threshold", "upper", "lower")


class SeasonalForecaster(Forecaster):
    """Experts over a daily and a weekly season on the log scale, mixed online, with bounds that measure themselves.

    An hour is learned in order: `predict` (pure), then `learn_one` for its value or `skip` when there is none. The slot
    is the hour of the week in the subject's own time zone, 0..167, Monday 00h = 0; it may jump or repeat (daylight
    saving), the order of hours itself never does.

    Scale: with a finite `lower` bound the season, the averages and the regression live on z = log(y - lower + c), c a
    twentieth of the first value above the bound; without one they live on z = y. Both relative to the first value.
    Experts, combined on the raw scale by `ExpertMixture`, half its mean and half its weighted median:

    - last value; EWMA of z with rate 0.5; yesterday's hour + half of the change since then
    - hour-of-day mean + 0.8 of the last deviation from it; hour-of-week mean + 0.9 and + 0.5 of that deviation
    - least squares of z on the last z, both means and the average (`RecursiveLeastSquares`)

    The means learn z clipped at four usual errors, the spreads clipped residuals: an outage is not normal.
    Bounds come from `BoundTracker` on two spreads: disagreement of the experts, and recent |residual| by hour of day.

    Same inputs give the same state, bit for bit. `learn_one` costs one prediction more if none was asked for.

    Examples
    --------
    >>> model = SeasonalForecaster(lower=0.0)
    >>> for hour in range(24 * 14):
    ...     model.learn_one(100.0 if hour % 24 < 12 else 200.0)
    >>> [round(location, -1) for location in model.forecast(horizon=24)][10:14]
    [100.0, 100.0, 200.0, 200.0]
    """

    STATE_VERSION = STATE_VERSION

    def __init__(
        self,
        lower: float = -math.inf,
        upper: float = math.inf,
        direction: Direction = "above",
        coverage: float = 0.99,
        interval: float = 0.95,
    ) -> None:
        self.lower = lower
        self.upper = upper
        self.direction = direction
        self.coverage = coverage
        self.interval = interval

        side = 1 if direction == "above" else -1
        half = (1.0 + interval) / 2.0
        claims = (Claim(side, coverage), Claim(1, half), Claim(-1, half))
        is_log = lower > -math.inf
        self._model = SeasonalModel(claims, base=lower if is_log else 0.0, is_log=is_log)
        self._is_threshold_outside = coverage > 0.5 + 0.5 * interval
        self._memo: Outlook | None = None  # of the hour at the cursor; never part of the state

    @property
    def n_learned(self) -> int:
        """Values learned so far."""
        return self._model.n_learned

    @property
    def slot(self) -> int:
        """Hour of the week that comes next, 0..167."""
        return self._model.slot

    def predict(self, slot: int | None = None, ahead: int = 0) -> Prediction:
        """The hour `ahead` hours after the next one, pure; `slot` is that hour's own, by default counted on.

        Before the first value it is the lower bound, or 0 without one, with no width: the caller's prior speaks then.
        """
        if ahead > 0:
            later = self.copy()
            later.skip(ahead)
            return later.predict(slot)
        outlook = self._outlook(slot)
        beyond, above, below = outlook.distances
        location = outlook.location
        # Two quantiles of one distribution do not cross; where those that are tracked apart do, in order they are
        # never worse (Chernozhukov, Fernandez-Val, Galichon 2010, "Quantile and probability curves without crossing").
        is_above = self.direction == "above"
        side = above if is_above else below
        if (beyond < side) == self._is_threshold_outside:
            beyond, side = side, beyond
        above, below = (side, below) if is_above else (above, side)
        return Prediction(
            self._bounded(location),
            self._bounded(location - below),
            self._bounded(location + above),
            self._bounded(location + beyond if is_above else location - beyond),
        )

    def forecast(self, horizon: int, xs: list[dict[str, Any]] | None = None) -> list[float]:
        """Locations of the next `horizon` hours, each as if the hours before it were silent; `xs` may carry slots."""
        later = self.copy()
        locations = []
        for step in range(horizon):
            slot = None if xs is None else xs[step].get("slot")
            if slot is not None:
                later._model.slot = int(slot) % HOURS_OF_WEEK  # noqa: SLF001 (our own twin)
            locations.append(later.predict().location)
            later.skip()
        return locations

    def learn_one(self, y: float, x: Mapping[str, Any] | None = None) -> None:
        """Learns the value of the next hour and moves on; `x` may carry its slot.

        Raises InvalidObservationError for a value that is not finite; one outside the bounds is learned as the bound.
        """
        if not math.isfinite(y):
            raise InvalidObservationError(f"{y} is not finite")
        given = None if x is None else x.get("slot")
        outlook = self._outlook(None if given is None else int(given))
        self._memo = None
        y = self._bounded(float(y))
        y = -_LARGEST if y < -_LARGEST else _LARGEST if y > _LARGEST else y
        y = y if y <= -_SMALLEST or y >= _SMALLEST else 0.0
        self._model.learn_one(y, outlook)

    def skip(self, hours: int = 1) -> None:
        """Lets hours without a value pass: the season moves on, nothing is learned."""
        if hours <= 0:
            return
        self._memo = None
        self._model.skip(hours)

    def explain(self) -> dict[str, float | str]:
        """The next hour's prediction in its parts: level and season in the series' unit, weights and factors plain."""
        outlook = self._outlook(None)
        model = self._model
        scale, base = model.scale, model.base
        week, day = outlook.means
        level = scale.raw(model.level.averages[1]) + base
        explanation: dict[str, float | str] = {
            "scale": "log" if scale.is_log else "raw",
            "slot": float(model.slot),
            "silent_hours": float(model.recent.silent),
            "level": level,
            "hour_of_day_mean": scale.raw(day) + base,
            "hour_of_week_mean": scale.raw(week) + base,
            "slot_effect": scale.raw(week) + base - level,
            "location": self._bounded(outlook.location),
            "spread": outlook.spread,
            "disagreement": outlook.disagreement,
        }
        for name, weight in zip(EXPERTS, outlook.weights, strict=True):
            explanation[f"weight_{name}"] = weight
        for name, correction in zip(_CLAIM_NAMES, model.bounds.corrections, strict=True):
            explanation[f"calibration_{name}"] = math.exp(correction)
        return explanation

    def copy(self) -> Self:
        """An independent twin, quicker than a deep copy."""
        twin = self.__class__.__new__(self.__class__)
        twin.__dict__.update(self.__dict__)
        twin._model = self._model.copy()  # noqa: SLF001 (our own twin)
        return twin

    def to_state(self) -> State:
        """Everything learned as plain finite numbers and flat lists of them; the parameters are not part of it."""
        return state_of(self._model)

    @classmethod
    def from_state(cls, state: Mapping[str, Any], **params: Any) -> Self:
        """The forecaster that `to_state` described, to the bit; `params` are the constructor's, as they were then.

        Raises UnreadableStateError for another schema version, a missing field or a list of another length.
        """
        forecaster = cls(**params)
        restore(forecaster._model, state)
        return forecaster

    def _bounded(self, value: float) -> float:
        """The nearest value that the series can have."""
        return self.lower if value < self.lower else self.upper if value > self.upper else value

    def _outlook(self, slot: int | None) -> Outlook:
        """The next hour as this slot, by default counted on; kept until the hour has passed."""
        slot = self._model.slot if slot is None else slot % HOURS_OF_WEEK
        outlook = self._memo
        if outlook is None or outlook.slot != slot:
            outlook = self._memo = self._model.look(slot)
        return outlook
