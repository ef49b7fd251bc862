"""The parts of a forecaster at work: what they expect of the next hour together, and how each learns from it."""

import math

from detection.bound_tracker import BoundTracker, Claim
from detection.expert_mixture import ExpertMixture, weighted_median
from detection.experts import EXPERTS, opinions
from detection.least_squares import RecursiveLeastSquares
from detection.level import Level
from detection.outlook import Outlook
from detection.recent_hours import RecentHours
from detection.scale import Scale
from detection.season import HOURS_OF_DAY, HOURS_OF_WEEK, Season
from detection.spread import Spread

_SETTLED_AFTER = 48  # hours learned before an influence is clipped and residuals are counted
_REGRESSION_AFTER = 30
_SEASON_KNOWN_AFTER = 3 * HOURS_OF_WEEK  # until then a surprise may be a season not seen yet
_BLIND_GROWTH = 0.05  # of the spread per silent hour, for a day at most
_TERMS = (0.0, 0.7, 0.0, 0.3, 0.0)  # constant, last, hour of week, hour of day, average: the regression's first weights
_TERM_LARGEST, _TARGET_LARGEST = 8.0, 12.0  # of the regression, in its normalised unit


class SeasonalModel:
    """Everything that is learned of one series; inside, values count from `base`, and nothing knows the upper bound.

    `slot` is that of the next hour. An hour is looked at, then learned with that outlook, or skipped.
    """

    __slots__ = (
        "base",
        "bounds",
        "largest",
        "level",
        "mixture",
        "n_learned",
        "recent",
        "regression",
        "scale",
        "season",
        "slot",
        "spread",
    )

    def __init__(self, claims: tuple[Claim, ...], *, base: float, is_log: bool) -> None:
        self.base = base
        self.slot = 0
        self.n_learned = 0
        self.largest = 0.0
        self.scale = Scale(is_log=is_log)
        self.recent = RecentHours()
        self.level = Level()
        self.season = Season()
        self.spread = Spread()
        self.regression = RecursiveLeastSquares(_TERMS)
        self.mixture = ExpertMixture(len(EXPERTS))
        self.bounds = BoundTracker(claims)

    def look(self, slot: int) -> Outlook:
        """What is expected of the next hour, were it this slot; changes nothing."""
        scale, recent, level = self.scale, self.recent, self.level
        _, otherwise, average = level.averages
        means = week, day = self.season.means(slot, otherwise)
        if recent.silent:
            # A silent hour is taken as its season plus what is left of the last deviation.
            week_before, day_before = self.season.means((slot - 1) % HOURS_OF_WEEK, otherwise)
            last_z = recent.faded(week_before, day_before)
            last = scale.raw(last_z) if self.n_learned else 0.0
        else:
            week_before, day_before = recent.week_before, recent.day_before
            last_z, last = recent.last_z(), recent.last
        yesterday, yesterday_before = recent.yesterday(week, last_z)

        unit = self._unit_of_z()
        mean, per_unit = level.mean, 1.0 / unit
        terms = [
            1.0,
            _cut((last_z - mean) * per_unit, _TERM_LARGEST),
            _cut((week - mean) * per_unit, _TERM_LARGEST),
            _cut((day - mean) * per_unit, _TERM_LARGEST),
            _cut((average - mean) * per_unit, _TERM_LARGEST),
        ]
        regression = self.regression.predict_one(terms)
        regressed = scale.raw(regression * unit + mean)
        top = 10.0 * self.largest
        bottom = 0.0 if scale.is_log else -top
        regressed = top if regressed > top else bottom if regressed < bottom else regressed

        told = opinions(
            scale,
            last,
            regressed,
            expected=(week, day, yesterday, average),
            before=(week_before, day_before, yesterday_before),
        )
        weights, slow_mix, quick_mix = self.mixture.mix(told)
        location = 0.25 * (slow_mix + quick_mix) + 0.5 * weighted_median(told, weights)

        # Two spreads, both > 0 and on the raw scale: how far the experts disagree, and how far off they lately were.
        disagreement = 0.0
        for weight, opinion in zip(weights, told):  # noqa: B905 (hot path)
            disagreement += weight * (opinion - location if opinion > location else location - opinion)
        slow = self.spread.slow
        least = 1e-3 * slow + (1e-9 * self.largest + 1e-12)  # what is told apart from none
        hour = slot % HOURS_OF_DAY
        disagreement = disagreement + 0.3 * slow + least
        spread = self.spread.expected(hour, self.season.day_count[hour], least)
        if recent.silent:
            blind = 1.0 + _BLIND_GROWTH * min(recent.silent, HOURS_OF_DAY)
            disagreement *= blind
            spread *= blind
        return Outlook(
            slot,
            location + self.base,
            told,
            weights,
            slow_mix,
            quick_mix,
            terms,
            regression,
            unit,
            means,
            disagreement,
            spread,
            self.bounds.distances(disagreement, spread),
        )

    def learn_one(self, y: float, outlook: Outlook) -> None:
        """Learns the value of the hour of the outlook, and moves on to the one after it."""
        slot, location, told, _, slow_mix, quick_mix, terms, regression, unit, means, first, second, distances = outlook
        n = self.n_learned = self.n_learned + 1
        y -= self.base
        residual = y + self.base - location
        size, largest = abs(y), self.largest
        self.largest = size if size > largest else largest
        scale, recent, level, season = self.scale, self.recent, self.level, self.season
        is_settled = n > _SETTLED_AFTER
        is_log = scale.is_log
        z = scale.learn_one(y, is_first=n == 1)

        if n > _REGRESSION_AFTER:
            target = _cut((z - level.mean) / unit, _TARGET_LARGEST)
            self.regression.learn_one(terms, target - regression)
        self.mixture.learn_one(y, told, slow_mix, quick_mix)
        self.bounds.learn_one(residual, first, second, distances, is_settled=is_settled)
        recent.learn_one(y, z, means, is_rounded=is_log)
        level.learn_one(z, n, is_settled=is_settled)
        if is_settled:
            z = self._believable(z, outlook)
        season.learn_one(slot, z, means, weeks=recent.passed // HOURS_OF_WEEK, is_rounded=is_log)
        hour = slot % HOURS_OF_DAY
        self.spread.learn_one(residual, n, hour=hour, count=season.day_count[hour], is_clipped=n > 2 * _SETTLED_AFTER)
        self.slot = (slot + 1) % HOURS_OF_WEEK

    def skip(self, hours: int) -> None:
        """Moves on by that many hours without a value."""
        self.recent.skip(hours)
        self.slot = (self.slot + hours) % HOURS_OF_WEEK

    def copy(self) -> "SeasonalModel":
        """An independent twin."""
        twin = SeasonalModel.__new__(SeasonalModel)
        twin.base = self.base
        twin.slot = self.slot
        twin.n_learned = self.n_learned
        twin.largest = self.largest
        twin.scale = self.scale.copy()
        twin.recent = self.recent.copy()
        twin.level = self.level.copy()
        twin.season = self.season.copy()
        twin.spread = self.spread.copy()
        twin.regression = self.regression.copy()
        twin.mixture = self.mixture.copy()
        twin.bounds = self.bounds.copy()
        return twin

    def _unit_of_z(self) -> float:
        """Standard deviation of z, floored so that a constant series can be divided by it."""
        floor = 1e-3 if self.scale.is_log else 1e-6 * self.largest + 1e-9
        deviation = math.sqrt(self.level.variance)
        return floor if deviation < floor else deviation

    def _believable(self, z: float, outlook: Outlook) -> float:
        """The nearest z that the season may learn at once: in a known one an outlier counts as four usual errors."""
        week, day = outlook.means
        limit = 3.0 * outlook.unit
        if self.recent.passed >= _SEASON_KNOWN_AFTER:
            usual = outlook.unit * (4.0 * self.regression.spread)
            limit = usual if usual < limit else limit
        centre = 0.5 * (week + day)
        return centre + limit if z > centre + limit else centre - limit if z < centre - limit else z


def _cut(value: float, largest: float) -> float:
    """The nearest value of at most that size."""
    return largest if value > largest else -largest if value < -largest else value
