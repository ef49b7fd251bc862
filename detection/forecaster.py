"""What one series will be in the next hour, and how far from it is still normal."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from river.time_series.base import Forecaster

from detection.bound_tracker import BoundTracker, Claim
from detection.catalogue import Direction
from detection.errors import InvalidObservationError, UnreadableStateError
from detection.expert_mixture import ExpertMixture
from detection.least_squares import RecursiveLeastSquares

HOURS_OF_DAY = 24
HOURS_OF_WEEK = 168

_RECENT = 25  # hours kept one by one: yesterday's hour and the one before it
_LARGEST = 1e30  # values are cut here, so that their squares stay finite
_OFFSET_SHARE = 0.05  # of the first value above zero
_ZERO_OFFSET = 1e-12  # while only zeros were seen
_AVERAGE_RATES = (0.05, 0.2, 0.5)
_DAY_RATE = 0.15
_WEEK_RATE = 0.25
_SETTLED_AFTER = 48  # hours learned before an influence is clipped and residuals are counted
_REGRESSION_AFTER = 30
_SEASON_KNOWN_AFTER = 3 * HOURS_OF_WEEK  # until then a surprise may be a season not seen yet
_BLIND_GROWTH = 0.05  # of the spread per silent hour, for a day at most
_EXPERTS = ("last", "day", "week", "week_half", "yesterday", "average", "regression")
_TERMS = (0.0, 0.7, 0.0, 0.3, 0.0)  # constant, last, hour of week, hour of day, average: the regression's first weights
_CLAIM_NAMES = ("threshold", "upper", "lower")
_EXCEEDANCE_DECAY = 0.5 ** (1 / 500)  # half-life of 500 judged hours

State = dict[str, float | int | list[float]]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What is expected of one hour, in the unit of the series and inside its bounds.

    `lower <= location <= upper`; [lower, upper] claims the forecaster's `interval`. `threshold` claims its `coverage`
    on the side of its `direction`: at or above the location for "above", at or below it for "below".
    """

    location: float
    lower: float
    upper: float
    threshold: float


class _Outlook(NamedTuple):
    """Everything that a prediction was made of, which learning the hour's value needs again."""

    slot: int
    location: float
    opinions: list[float]
    weights: list[float]
    slow_mix: float
    quick_mix: float
    terms: list[float]
    regression: float
    scale: float
    week: float
    day: float
    disagreement: float
    spread: float
    distances: list[float]


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

    `exceedances` of `judged` hours were beyond the threshold as it stood before each of them.
    Same inputs give the same state, bit for bit. `learn_one` costs one prediction more if none was asked for.

    Examples
    --------
    >>> model = SeasonalForecaster(lower=0.0)
    >>> for hour in range(24 * 14):
    ...     model.learn_one(100.0 if hour % 24 < 12 else 200.0)
    >>> [round(location, -1) for location in model.forecast(horizon=24)][10:14]
    [100.0, 100.0, 200.0, 200.0]
    """

    STATE_VERSION = 1

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

        self.n_learned = 0
        self.exceedances = 0
        self.judged = 0
        self._exceedance_sum = 0.0
        self._judged_weight = 0.0

        self._is_log = lower > -math.inf
        self._base = lower if self._is_log else 0.0
        self._offset = _ZERO_OFFSET
        # The first z; every z below is relative to it.
        self._anchor = math.log(_ZERO_OFFSET) if self._is_log else 0.0
        self._hours = 0  # learned and skipped
        self._slot = 0
        self._silent = 0  # hours since the last value
        self._last = 0.0
        self._largest = 0.0
        self._level = 0.0
        self._variance = 0.0
        self._averages = [0.0] * len(_AVERAGE_RATES)
        self._day = [0.0] * HOURS_OF_DAY
        self._day_count = [0] * HOURS_OF_DAY
        self._week = [0.0] * HOURS_OF_WEEK
        self._week_seen = [0] * 7  # per weekday the hours seen, as bits
        self._recent = [0.0] * _RECENT
        self._recent_seen = 0  # as bits
        self._week_before = 0.0  # both means, and z's deviation from them, at the last value
        self._day_before = 0.0
        self._week_deviation = 0.0
        self._day_deviation = 0.0
        self._slow_spread = 0.0  # mean |residual|, raw scale: over 50 hours, over 10, and by hour of day
        self._quick_spread = 0.0
        self._day_spread = [0.0] * HOURS_OF_DAY
        self._regression = RecursiveLeastSquares(_TERMS)
        self._mixture = ExpertMixture(len(_EXPERTS))
        side = 1 if direction == "above" else -1
        half = (1.0 + interval) / 2.0
        self._bounds = BoundTracker((Claim(side, coverage), Claim(1, half), Claim(-1, half)))
        self._memo: _Outlook | None = None  # of the hour at the cursor; never part of the state

    @property
    def slot(self) -> int:
        """Hour of the week that comes next, 0..167."""
        return self._slot

    @property
    def exceedance_rate(self) -> float:
        """Share of the judged hours beyond their threshold, 0..1, with a half-life of 500 hours; 0 before any."""
        return self._exceedance_sum / self._judged_weight if self._judged_weight > 0.0 else 0.0

    def predict(self, slot: int | None = None, ahead: int = 0) -> Prediction:
        """The hour `ahead` hours after the next one, pure; `slot` is that hour's own, by default counted on.

        Before the first value it is the lower bound, or 0 without one, with no width: the caller's prior speaks then.
        """
        if ahead > 0:
            later = self.copy()
            later.skip(ahead)
            return later.predict(slot)
        slot = self._slot if slot is None else slot % HOURS_OF_WEEK
        outlook = self._memo
        if outlook is None or outlook.slot != slot:
            outlook = self._memo = self._look(slot)
        beyond, above, below = outlook.distances
        location = outlook.location
        return Prediction(
            self._bounded(location),
            self._bounded(location - below),
            self._bounded(location + above),
            self._bounded(location + beyond if self.direction == "above" else location - beyond),
        )

    def forecast(self, horizon: int, xs: list[dict[str, Any]] | None = None) -> list[float]:
        """Locations of the next `horizon` hours, each as if the hours before it were silent; `xs` may carry slots."""
        later = self.copy()
        locations = []
        for step in range(horizon):
            slot = None if xs is None else xs[step].get("slot")
            if slot is not None:
                later._slot = int(slot) % HOURS_OF_WEEK  # noqa: SLF001 (our own twin)
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
        slot = self._slot if given is None else int(given) % HOURS_OF_WEEK
        outlook = self._memo
        if outlook is None or outlook.slot != slot:
            outlook = self._look(slot)
        self._memo = None
        y = min(max(self._bounded(float(y)), -_LARGEST), _LARGEST)
        self._judge(y, outlook)
        self._learn(y - self._base, outlook)
        self._slot = (slot + 1) % HOURS_OF_WEEK

    def skip(self, hours: int = 1) -> None:
        """Lets hours without a value pass: the season moves on, nothing is learned."""
        if hours <= 0:
            return
        self._memo = None
        for position in range(self._hours, self._hours + min(hours, _RECENT)):
            self._recent[position % _RECENT] = 0.0
            self._recent_seen &= ~(1 << position % _RECENT)
        self._hours += hours
        self._silent += hours
        self._slot = (self._slot + hours) % HOURS_OF_WEEK

    def explain(self) -> dict[str, float | str]:
        """The next hour's prediction in its parts: level and season in the series' unit, weights and factors plain."""
        outlook = self._look(self._slot)
        level = self._raw(self._averages[1]) + self._base
        explanation: dict[str, float | str] = {
            "scale": "log" if self._is_log else "raw",
            "slot": float(self._slot),
            "silent_hours": float(self._silent),
            "level": level,
            "hour_of_day_mean": self._raw(outlook.day) + self._base,
            "hour_of_week_mean": self._raw(outlook.week) + self._base,
            "slot_effect": self._raw(outlook.week) + self._base - level,
            "location": self._bounded(outlook.location),
            "spread": outlook.spread,
            "disagreement": outlook.disagreement,
        }
        for name, weight in zip(_EXPERTS, outlook.weights, strict=True):
            explanation[f"weight_{name}"] = weight
        for name, correction in zip(_CLAIM_NAMES, self._bounds.corrections, strict=True):
            explanation[f"calibration_{name}"] = math.exp(correction)
        return explanation

    def copy(self) -> Self:
        """An independent twin, quicker than a deep copy."""
        twin = self.__class__.__new__(self.__class__)
        twin.__dict__.update(self.__dict__)
        for name in ("_averages", "_day", "_day_count", "_week", "_week_seen", "_recent", "_day_spread"):
            setattr(twin, name, list(getattr(self, name)))
        twin._regression = self._regression.copy()  # noqa: SLF001 (our own twin)
        twin._mixture = self._mixture.copy()  # noqa: SLF001 (our own twin)
        twin._bounds = self._bounds.copy()  # noqa: SLF001 (our own twin)
        return twin

    def to_state(self) -> State:
        """Everything learned as plain finite numbers and flat lists of them; the parameters are not part of it."""
        state: State = {"version": self.STATE_VERSION}
        for name, part, attribute in _FIELDS:
            value = getattr(getattr(self, part) if part else self, attribute)
            state[name] = list(value) if isinstance(value, list) else value
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any], **params: Any) -> Self:
        """The forecaster that `to_state` described, to the bit; `params` are the constructor's, as they were then.

        Raises UnreadableStateError for another schema version, a missing field or a list of another length.
        """
        if state.get("version") != cls.STATE_VERSION:
            raise UnreadableStateError(f"forecaster state of version {state.get('version')!r}, not {cls.STATE_VERSION}")
        model = cls(**params)
        blank = model.to_state()
        for name, part, attribute in _FIELDS:
            found, value = state.get(name), blank[name]
            if isinstance(value, list):
                if not isinstance(found, list) or len(found) != len(value):
                    raise UnreadableStateError(f"forecaster state: {name} is not a list of {len(value)} numbers")
                found = list(found)
            elif not isinstance(found, int | float):
                raise UnreadableStateError(f"forecaster state: {name} is {found!r:.60}, not a number")
            setattr(getattr(model, part) if part else model, attribute, found)
        return model

    def _bounded(self, value: float) -> float:
        """The nearest value that the series can have."""
        return self.lower if value < self.lower else self.upper if value > self.upper else value

    def _raw(self, z: float) -> float:
        """The value above the base that stands behind a relative z."""
        if self._is_log:
            z += self._anchor
            return math.exp(z if z < 70.0 else 70.0) - self._offset
        return z + self._anchor

    def _season(self, slot: int) -> tuple[float, float]:
        """Means of the hour of week and of the hour of day; each falls back on the next coarser one."""
        weekday, hour = divmod(slot, HOURS_OF_DAY)
        day = self._day[hour] if self._day_count[hour] else self._averages[1]
        return (self._week[slot] if self._week_seen[weekday] >> hour & 1 else day), day

    def _look(self, slot: int) -> _Outlook:
        """Predicts the next hour as the given slot, changing nothing."""
        week, day = self._season(slot)
        last_z, last, week_before, day_before = self._before(slot)
        hours, seen, recent = self._hours, self._recent_seen, self._recent
        at = (hours - 24) % _RECENT
        before = hours % _RECENT
        yesterday_z = recent[at] if seen >> at & 1 else week
        yesterday_before_z = recent[before] if seen >> before & 1 else last_z

        level = self._level
        scale = self._unit_of_z()
        per_scale = 1.0 / scale
        average = self._averages[2]
        terms = [1.0]
        for z in (last_z, week, day, average):
            term = (z - level) * per_scale
            terms.append(8.0 if term > 8.0 else -8.0 if term < -8.0 else term)
        regression = self._regression.predict_one(terms)
        top = 10.0 * self._largest
        regressed = self._raw(regression * scale + level)
        bottom = 0.0 if self._is_log else -top
        regressed = top if regressed > top else bottom if regressed < bottom else regressed

        if self._is_log:  # as `_raw`, six calls fewer; these z lie between values that were learned
            exp, anchor, offset = math.exp, self._anchor, self._offset
            week_raw, day_raw = exp(week + anchor) - offset, exp(day + anchor) - offset
            week_gap = last - exp(week_before + anchor) + offset
            day_gap = last - exp(day_before + anchor) + offset
            change = last - exp(yesterday_before_z + anchor) + offset
            yesterday, average_raw = exp(yesterday_z + anchor) - offset, exp(average + anchor) - offset
        else:
            anchor = self._anchor
            week_raw, day_raw, yesterday, average_raw = (
                week + anchor,
                day + anchor,
                yesterday_z + anchor,
                average + anchor,
            )
            week_gap, day_gap = last - week_before - anchor, last - day_before - anchor
            change = last - yesterday_before_z - anchor
        opinions = [
            last,
            day_raw + 0.8 * day_gap,
            week_raw + 0.9 * week_gap,
            week_raw + 0.5 * week_gap,
            yesterday + 0.5 * change,
            average_raw,
            regressed,
        ]
        weights, slow_mix, quick_mix = self._mixture.mix(opinions)
        location = 0.25 * (slow_mix + quick_mix) + 0.5 * _weighted_median(opinions, weights)

        disagreement, spread = self._spreads(slot, location, opinions, weights)
        return _Outlook(
            slot,
            location + self._base,
            opinions,
            weights,
            slow_mix,
            quick_mix,
            terms,
            regression,
            scale,
            week,
            day,
            disagreement,
            spread,
            self._bounds.distances(disagreement, spread),
        )

    def _before(self, slot: int) -> tuple[float, float, float, float]:
        """Of the hour before the slot: z, the value, and the two means that z deviated from."""
        if self._silent == 0:
            return self._recent[(self._hours - 1) % _RECENT], self._last, self._week_before, self._day_before
        # A silent hour is taken as its season plus what is left of the last deviation.
        week, day = self._season((slot - 1) % HOURS_OF_WEEK)
        fading = min(self._silent, 1000)
        z = 0.5 * (week + self._week_deviation * 0.9**fading) + 0.5 * (day + self._day_deviation * 0.8**fading)
        return z, self._raw(z) if self.n_learned else 0.0, week, day

    def _spreads(self, slot: int, location: float, opinions: list[float], weights: list[float]) -> tuple[float, float]:
        """How far the experts disagree, and the recent |residual| of this hour of day; both > 0, raw scale."""
        disagreement = 0.0
        for weight, opinion in zip(weights, opinions):  # noqa: B905 (hot path)
            disagreement += weight * (opinion - location if opinion > location else location - opinion)
        slow = self._slow_spread
        least = 1e-3 * slow + self._least()
        hour = slot % HOURS_OF_DAY
        count = self._day_count[hour]
        by_hour = (self._day_spread[hour] * count + 4.0 * slow) / (count + 4)
        recent = 0.5 * (slow + self._quick_spread) + least
        blind = 1.0 + _BLIND_GROWTH * min(self._silent, HOURS_OF_DAY)
        return (disagreement + 0.3 * slow + least) * blind, math.sqrt(recent * (by_hour + least)) * blind

    def _least(self) -> float:
        """The smallest spread that is told apart from none, in the unit of the series."""
        return 1e-9 * self._largest + 1e-12

    def _unit_of_z(self) -> float:
        """Standard deviation of z, floored so that a constant series can be divided by it."""
        if self._is_log:
            return max(math.sqrt(self._variance), 1e-3)
        return max(math.sqrt(self._variance), 1e-6 * self._largest + 1e-9)

    def _judge(self, y: float, outlook: _Outlook) -> None:
        """Counts the value against the threshold as it stood before."""
        if self.n_learned == 0:
            return
        distance = outlook.distances[0]
        if self.direction == "above":
            exceeds = y > self._bounded(outlook.location + distance)
        else:
            exceeds = y < self._bounded(outlook.location - distance)
        self.judged += 1
        self._judged_weight = _EXCEEDANCE_DECAY * self._judged_weight + 1.0
        self._exceedance_sum *= _EXCEEDANCE_DECAY
        if exceeds:
            self.exceedances += 1
            self._exceedance_sum += 1.0

    def _learn(self, y: float, outlook: _Outlook) -> None:
        """Learns y, counted from the base, for the hour of the outlook."""
        self.n_learned += 1
        n = self.n_learned
        per_n = 1.0 / n
        size = abs(y)
        self._largest = max(self._largest, size)
        z = self._z(y)
        week, day = outlook.week, outlook.day
        scale, level = outlook.scale, self._level
        residual = y + self._base - outlook.location

        if n > _REGRESSION_AFTER:
            target = (z - level) / scale
            target = 12.0 if target > 12.0 else -12.0 if target < -12.0 else target
            self._regression.learn_one(outlook.terms, target - outlook.regression)
        self._mixture.learn_one(y, outlook.opinions, outlook.slow_mix, outlook.quick_mix)
        self._bounds.learn_one(
            residual, outlook.disagreement, outlook.spread, outlook.distances, is_settled=n > _SETTLED_AFTER
        )
        spread = self._slow_spread

        position = self._hours % _RECENT
        self._recent[position] = round(z, 5) if self._is_log else z
        self._recent_seen |= 1 << position
        self._hours += 1
        self._silent = 0
        self._last = y
        self._learn_season(z, outlook)
        self._week_before, self._day_before = week, day
        self._week_deviation, self._day_deviation = z - week, z - day

        averages = self._averages
        for i, rate in enumerate(_AVERAGE_RATES):
            averages[i] += (rate if rate > per_n else per_n) * (z - averages[i])
        rate = per_n if per_n > 0.01 else 0.01
        deviation = z - level
        if n > _SETTLED_AFTER:
            limit = 6.0 * math.sqrt(self._variance) + 1e-12
            deviation = limit if deviation > limit else -limit if deviation < -limit else deviation
        self._level += rate * deviation
        self._variance += rate * ((1.0 - rate) * deviation * deviation - self._variance)

        size = abs(residual)
        if n > 2 * _SETTLED_AFTER and size > 8.0 * spread:
            size = 8.0 * spread
        hour = outlook.slot % HOURS_OF_DAY
        rate = max(0.08, 1.0 / self._day_count[hour])
        before = self._day_spread[hour]
        self._day_spread[hour] = float(f"{before + rate * (size - before):.5g}")  # short in the stored state
        self._slow_spread += (per_n if per_n > 0.02 else 0.02) * (size - spread)
        self._quick_spread += (per_n if per_n > 0.1 else 0.1) * (size - self._quick_spread)

    def _z(self, y: float) -> float:
        """The learned scale's z of y, relative to the first; sets the anchor, and the offset once it can be known."""
        if not self._is_log:
            if self.n_learned == 1:
                self._anchor = y
            return y - self._anchor
        if self._offset == _ZERO_OFFSET and (y > 0.0 or self.n_learned == 1):
            # Every value so far was a zero, and stays at z = 0: only where that zero lies on the log scale changes.
            self._offset = max(_OFFSET_SHARE * y, _ZERO_OFFSET)
            self._anchor = math.log(self._offset if self.n_learned > 1 else y + self._offset)
        return math.log(y + self._offset) - self._anchor

    def _learn_season(self, z: float, outlook: _Outlook) -> None:
        """Moves the means of the slot; in a known season an outlier counts as four usual errors."""
        if self.n_learned > _SETTLED_AFTER:
            usual = outlook.scale * (4.0 * self._regression.spread if self._hours >= _SEASON_KNOWN_AFTER else 3.0)
            limit = min(3.0 * outlook.scale, usual)
            centre = 0.5 * (outlook.week + outlook.day)
            z = centre + limit if z > centre + limit else centre - limit if z < centre - limit else z
        weekday, hour = divmod(outlook.slot, HOURS_OF_DAY)
        if self._week_seen[weekday] >> hour & 1:
            age = self._hours // HOURS_OF_WEEK
            week = outlook.week + max(_WEEK_RATE, 1.0 / (1 + age)) * (z - outlook.week)
        else:
            week = z
            self._week_seen[weekday] |= 1 << hour
        count = self._day_count[hour] = min(self._day_count[hour] + 1, 255)
        day = outlook.day + max(_DAY_RATE, 1.0 / count) * (z - outlook.day) if count > 1 else z
        if self._is_log:  # a thousandth of a percent; keeps 192 numbers short in the stored state
            week, day = round(week, 5), round(day, 5)
        self._week[outlook.slot] = week
        self._day[hour] = day


# Name in the state, part that holds it (empty: the forecaster itself), attribute.
_FIELDS = (
    ("n_learned", "", "n_learned"),
    ("exceedances", "", "exceedances"),
    ("judged", "", "judged"),
    ("exceedance_sum", "", "_exceedance_sum"),
    ("judged_weight", "", "_judged_weight"),
    ("offset", "", "_offset"),
    ("anchor", "", "_anchor"),
    ("hours", "", "_hours"),
    ("slot", "", "_slot"),
    ("silent", "", "_silent"),
    ("last", "", "_last"),
    ("largest", "", "_largest"),
    ("level", "", "_level"),
    ("variance", "", "_variance"),
    ("week_before", "", "_week_before"),
    ("day_before", "", "_day_before"),
    ("week_deviation", "", "_week_deviation"),
    ("day_deviation", "", "_day_deviation"),
    ("slow_spread", "", "_slow_spread"),
    ("quick_spread", "", "_quick_spread"),
    ("recent_seen", "", "_recent_seen"),
    ("averages", "", "_averages"),
    ("day", "", "_day"),
    ("day_count", "", "_day_count"),
    ("week", "", "_week"),
    ("week_seen", "", "_week_seen"),
    ("recent", "", "_recent"),
    ("day_spread", "", "_day_spread"),
    ("regression_weights", "_regression", "weights"),
    ("regression_covariance", "_regression", "covariance"),
    ("regression_spread", "_regression", "spread"),
    ("regression_n_learned", "_regression", "n_learned"),
    ("mixture_slow_regrets", "_mixture", "slow_regrets"),
    ("mixture_slow_squares", "_mixture", "slow_squares"),
    ("mixture_quick_regrets", "_mixture", "quick_regrets"),
    ("mixture_quick_squares", "_mixture", "quick_squares"),
    ("mixture_loss", "_mixture", "loss"),
    ("mixture_n_learned", "_mixture", "n_learned"),
    ("bounds_bins", "_bounds", "bins"),
    ("bounds_increment", "_bounds", "increment"),
    ("bounds_n_learned", "_bounds", "n_learned"),
    ("bounds_units", "_bounds", "units"),
    ("bounds_tracked_first", "_bounds", "tracked_first"),
    ("bounds_tracked_second", "_bounds", "tracked_second"),
    ("bounds_corrections", "_bounds", "corrections"),
)


def _weighted_median(values: list[float], weights: list[float]) -> float:
    """The smallest value at which half of the weight is reached; the weights sum to 1."""
    passed = 0.0
    for value, weight in sorted(zip(values, weights)):  # noqa: B905 (hot path)
        passed += weight
        if passed >= 0.4999:
            return value
    return value
