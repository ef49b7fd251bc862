"""A River forecaster made fit for a series: its scale, its gaps, its bounds, and what it may be taught."""

import copy
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from river.time_series.base import Forecaster

from detection.catalogue import Direction
from detection.challengers.bounds import Claim, ConformalBounds
from detection.challengers.codecs import check_storable, read_into, written
from detection.challengers.ewa_forecaster import EwaForecaster
from detection.challengers.fields import Fields, State
from detection.challengers.holt_winters import AnchoredHoltWinters
from detection.challengers.scale import AsinhScale
from detection.errors import InvalidObservationError
from detection.hours import WEEK_HOURS

_LARGEST = 1e30  # values are cut here
_SMALLEST = 1e-30  # and what is nearer to zero than this is zero
_SETTLED_AFTER = 24  # values, before which nothing is called far
_SCALED_AFTER = 48  # values, after which the scale's unit stays
_FAR = 4.0  # usual errors
_LEAST_USUAL = 0.01  # of z: 1 % of the level
_USUAL_RATE = 0.01
_AGREEING = 6  # hours in a row far off on one side that are taken for an outage; the next one is the new level
_SILENCE_LEARNED = 2 * WEEK_HOURS  # hours of silence that a forecaster steps through one by one
_BEYOND_RANGE = 0.5  # of z, that forecasts and bounds may leave the range of what was seen: 1.6 times the largest
_ABSURD = 1e3  # of z; values lie within 142
_CLAIMS = ("threshold", "upper", "lower")


class Expected(NamedTuple):
    """What is expected of one hour, in the unit of the series and inside its bounds; lower <= location <= upper."""

    location: float
    lower: float
    upper: float
    threshold: float


class _Outlook(NamedTuple):
    """Everything on z that a prediction is made of, and that learning the hour's value needs again."""

    slot: int
    location: float
    is_sane: bool
    distances: tuple[float, ...]


class Challenger(Forecaster):
    """Any forecaster that has a state codec, learning one series beside its default model.

    Scale: the forecaster sees z = asinh((y - base) / unit) (`AsinhScale`), base the finite `lower` bound or 0.
    Gaps: `skip` steps the forecaster with its own forecast, so that its season keeps its phase; after two silent weeks
    only the phase goes on, which `EwaForecaster` does from the first hour on without learning.
    Outages: a value more than 4 usual errors off teaches as if it were 4 off; when more than 6 in a row are, on one
    side, it is the level that has moved and they teach as they are.
    Bounds: `ConformalBounds` on z; a quantile of z is the quantile of y.

    Never NaN or infinite: values are cut at ±1e30, forecasts stay near the range of what was seen, and a forecaster
    whose own forecast is absurd is put back to its beginning (`n_restarts`). So is all that was learned when one of the
    first 48 values shows that the first one, which set the scale's unit, was absurd.

    Parameters
    ----------
    forecaster
        What is wrapped, new. SettingsError when it, or anything inside of it, has no state codec.
    lower, upper
        What the series can be.
    direction
        The side of the threshold.
    coverage
        Share of values that the threshold claims to hold.
    interval
        Share that lower and upper claim to hold between them.

    Examples
    --------
    >>> from detection.challengers.registry import challenger
    >>> model = challenger("holt-winters", lower=0.0)
    >>> for hour in range(24 * 14):
    ...     model.learn_one(100.0 if hour % 24 < 12 else 200.0)
    >>> [round(value) for value in model.forecast(horizon=24)][10:14]
    [100, 100, 200, 200]

    """

    STATE_VERSION = 1

    def __init__(
        self,
        forecaster: Forecaster,
        lower: float = -math.inf,
        upper: float = math.inf,
        direction: Direction = "above",
        coverage: float = 0.99,
        interval: float = 0.95,
    ) -> None:
        check_storable(forecaster)
        self.forecaster = forecaster
        self.lower = lower
        self.upper = upper
        self.direction: Direction = direction
        self.coverage = coverage
        self.interval = interval

        self._is_threshold_outside = coverage > 0.5 + 0.5 * interval
        self._n_restarts = 0
        self._slot = 0  # hour of the week that comes next
        self._begin()

    def _begin(self) -> None:
        """Nothing is learned yet, but which hour it is."""
        half = 0.5 + 0.5 * self.interval
        side = 1 if self.direction == "above" else -1
        self._bounds = ConformalBounds((Claim(side, self.coverage), Claim(1, half), Claim(-1, half)))
        self._scale = AsinhScale(self.lower if math.isfinite(self.lower) else 0.0)
        self._n_learned = 0
        self._silent = 0  # hours since the last value
        self._owed = 0  # hours of the season that the forecaster was not stepped through yet
        self._last = 0.0
        self._lowest = 0.0
        self._highest = 0.0
        self._usual = 0.0
        self._far = 0  # hours in a row that were far off, negative when below
        self._memo: _Outlook | None = None  # of the next hour; never part of the state

    @classmethod
    def _unit_test_params(cls) -> Any:
        yield {"forecaster": AnchoredHoltWinters()}

    @property
    def n_learned(self) -> int:
        """Values learned so far, since the scale's unit was set anew if it was."""
        return self._n_learned

    @property
    def n_restarts(self) -> int:
        """How often the forecaster within had to begin anew."""
        return self._n_restarts

    def predict(self, slot: int | None = None, ahead: int = 0) -> Expected:
        """The hour `ahead` hours after the next one, pure; `slot` is that hour's hour of the week, else counted on."""
        if ahead > 0 or self._owed > 0:
            later = self.copy()
            later.skip(ahead)
            later._settle()  # noqa: SLF001 (our own twin)
            return later.predict(slot)
        outlook = self._outlook(self._slot if slot is None else slot % WEEK_HOURS)
        location = outlook.location
        beyond, above, below = outlook.distances
        # Bounds that are tracked apart can cross; put in order they are never worse (Chernozhukov, Fernandez-Val and
        # Galichon 2010, "Quantile and probability curves without crossing").
        is_above = self.direction == "above"
        side = above if is_above else below
        if (beyond < side) == self._is_threshold_outside:
            beyond, side = side, beyond
        above, below = (side, below) if is_above else (above, side)
        return Expected(
            self._raw(location),
            self._raw(self._near(location - below)),
            self._raw(self._near(location + above)),
            self._raw(self._near(location + beyond if is_above else location - beyond)),
        )

    def forecast(self, horizon: int, xs: list[dict[str, Any]] | None = None) -> list[float]:
        """Locations of the next hours, each as if those before it were silent; `xs` may carry slots."""
        later = self.copy()
        later._settle()  # noqa: SLF001 (our own twin)
        locations = []
        for step in range(horizon):
            locations.append(later.predict(None if xs is None else xs[step].get("slot")).location)
            later.skip()
        return locations

    def learn_one(self, y: float, x: Mapping[str, Any] | None = None) -> None:
        """Learns the value of the next hour and moves on; `x` may carry its slot.

        Raises InvalidObservationError for a value that is not finite; one outside the bounds is learned as the bound.
        """
        if not math.isfinite(y):
            raise InvalidObservationError(f"{y} is not finite")
        self._settle()
        given = None if x is None else x.get("slot")
        slot = self._slot if given is None else int(given) % WEEK_HOURS
        y = self._cut(float(y))
        if self._scale.is_misled_by_first(y) and self._n_learned < _SCALED_AFTER:
            self._begin()
            self._renew()
        z = self._scale.learn_one(y)
        outlook = self._outlook(slot)
        self._memo = None
        if not outlook.is_sane:
            self._renew()
        location = outlook.location
        if self._n_learned == 0:
            self._lowest = self._highest = location = z
        self._n_learned += 1
        taught = self._taught(z, location)
        if self._n_learned > 1:
            # An incident shows its size once: its further hours are not how far values usually lie, until they are.
            is_usual = not 1 < abs(self._far) <= _AGREEING
            self._bounds.learn_one(z - location, outlook.distances, is_usual=is_usual)
        self._last = z
        self._lowest, self._highest = min(self._lowest, z), max(self._highest, z)
        if isinstance(self.forecaster, EwaForecaster):
            self.forecaster.learn_one(taught, {"slot": slot})
        else:
            self.forecaster.learn_one(taught)
        self._slot = (slot + 1) % WEEK_HOURS
        self._silent = 0

    def skip(self, hours: int = 1) -> None:
        """Lets hours without a value pass; many at once are the same as one by one."""
        if hours <= 0:
            return
        if self._n_learned:
            stepped = min(hours, max(0, _SILENCE_LEARNED - self._silent))
            self._step_over(stepped)
            self._owed = (self._owed + hours - stepped) % WEEK_HOURS
            self._silent += hours
        self._slot = (self._slot + hours) % WEEK_HOURS
        self._memo = None

    def explain(self) -> dict[str, float | str]:
        """The next hour's prediction in its parts; the spread is that of z, about a share of the level."""
        explanation: dict[str, float | str] = {
            "forecaster": type(self.forecaster).__name__,
            "location": self.predict().location,
            "spread": self._bounds.spread,
            "usual_error": self._usual,
            "silent_hours": float(self._silent),
            "restarts": float(self._n_restarts),
        }
        for name, correction in zip(_CLAIMS, self._bounds.corrections, strict=True):
            explanation[f"calibration_{name}"] = correction
        return explanation

    def copy(self) -> Self:
        """An independent twin; a quarter of the time of River's `clone` and a restored state."""
        twin = self.__class__.__new__(self.__class__)
        twin.__dict__.update(self.__dict__)
        twin.forecaster = copy.deepcopy(self.forecaster)
        twin._bounds = self._bounds.copy()  # noqa: SLF001 (our own twin)
        twin._scale = self._scale.copy()  # noqa: SLF001
        return twin

    def to_state(self) -> State:
        """Everything learned, as plain finite numbers and lists; the parameters are not part of it."""
        return {
            "version": self.STATE_VERSION,
            "n_learned": self._n_learned,
            "n_restarts": self._n_restarts,
            "slot": self._slot,
            "silent": self._silent,
            "owed": self._owed,
            "unit": self._scale.unit,
            "last": self._last,
            "lowest": self._lowest,
            "highest": self._highest,
            "usual": self._usual,
            "far": self._far,
            "bounds": self._bounds.to_state(),
            "forecaster": written(self.forecaster),
        }

    def restore(self, state: object) -> None:
        """Gives a new challenger with the same parameters what `to_state` told; equal to the bit from then on.

        Raises UnreadableStateError for another version or estimator and for what is no such state; this challenger is
        then of no more use.
        """
        fields = Fields(state, "challenger")
        fields.expect("version", self.STATE_VERSION)
        self._n_learned = fields.whole("n_learned")
        self._n_restarts = fields.whole("n_restarts")
        self._slot = fields.whole("slot", 0, WEEK_HOURS - 1)
        self._silent = fields.whole("silent")
        self._owed = fields.whole("owed", 0, WEEK_HOURS - 1)
        self._scale.unit = fields.number("unit")
        self._last = fields.number("last")
        self._lowest = fields.number("lowest")
        self._highest = fields.number("highest")
        self._usual = fields.number("usual")
        self._far = fields.whole("far", -(2**53))
        self._bounds.restore(fields.part("bounds"))
        read_into(self.forecaster, fields.part("forecaster"))
        self._memo = None

    def _renew(self) -> None:
        """Puts the forecaster back to its beginning."""
        self.forecaster = self.forecaster.clone()
        self._n_restarts += 1

    def _outlook(self, slot: int) -> _Outlook:
        """The next hour as this slot; kept until the hour has passed."""
        if self._memo is None or self._memo.slot != slot:
            forecast = self._forecast(slot) if self._n_learned else 0.0
            is_sane = _is_sane(forecast)
            location = forecast if is_sane else self._last
            self._memo = _Outlook(slot, self._near(location), is_sane, self._bounds.distances())
        return self._memo

    def _forecast(self, slot: int) -> float:
        # SNARIMAX takes whatever is in `xs` for a feature, so only the one that knows slots is told of them.
        xs = [{"slot": slot}] if isinstance(self.forecaster, EwaForecaster) else None
        return float(self.forecaster.forecast(1, xs)[0])

    def _taught(self, z: float, location: float) -> float:
        """What the forecaster may learn of z: as much as an outage is allowed to teach."""
        residual = z - location
        limit = _FAR * max(self._usual, _LEAST_USUAL)
        is_far = self._n_learned > _SETTLED_AFTER and abs(residual) > limit
        if not is_far:
            self._far = 0
        elif residual > 0.0:
            self._far = max(self._far, 0) + 1
        else:
            self._far = min(self._far, 0) - 1
        size = min(abs(residual), limit) if is_far else abs(residual)
        self._usual += max(_USUAL_RATE, 1.0 / self._n_learned) * (size - self._usual)
        if is_far and abs(self._far) <= _AGREEING:
            return location + math.copysign(limit, residual)
        return z

    def _settle(self) -> None:
        """Steps the forecaster through what is left of a long silence: the phase of its season."""
        if self._owed:
            self._step_over(self._owed)
            self._owed = 0
            self._memo = None

    def _step_over(self, hours: int) -> None:
        forecaster = self.forecaster
        for _ in range(hours):
            z = float(forecaster.forecast(1)[0])
            z = min(max(z, self._lowest), self._highest) if _is_sane(z) else self._last
            if isinstance(forecaster, EwaForecaster):
                forecaster.skip_one(z)
            else:
                forecaster.learn_one(z)

    def _cut(self, y: float) -> float:
        y = min(max(y, self.lower, -_LARGEST), self.upper, _LARGEST)
        return y if abs(y - self._scale.base) >= _SMALLEST else self._scale.base

    def _near(self, z: float) -> float:
        """The nearest z that is not far out of what was seen: what is wide on this scale is exponentially so in y."""
        return min(max(z, self._lowest - _BEYOND_RANGE), self._highest + _BEYOND_RANGE)

    def _raw(self, z: float) -> float:
        return min(max(self._scale.y(z), self.lower), self.upper)


def _is_sane(z: float) -> bool:
    """Whether a forecaster can have meant this; NaN is not."""
    return -_ABSURD <= z <= _ABSURD
