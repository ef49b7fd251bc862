"""How good a back-test was, by a protocol that is the same for Tidemark and for whatever is measured beside it.

A series is judged from its 169th hour on, on the hours that have a value, each predicted before its value was learned.
Errors are divided by those of seasonal naive on the same hours, so that series of any unit can be put together; over
series, ratios are averaged geometrically (Fleming & Wallace 1986: the only mean that does not depend on the yardstick).
What becomes of alerts is judged in `detection.alert_evaluation`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from detection.errors import InputError
from detection.hours import WEEK_HOURS

WARM_UP_HOURS = WEEK_HOURS
QUANTILE = 0.99
"""What share of the hours the threshold claims to stay above."""
INTERVAL = 0.95
"""What share of the hours the band from lower to upper claims to hold."""
HONEST_EXCEEDANCE = (0.004, 0.02)
"""Shares of exceeded hours between which the claimed 0.01 counts as kept."""

_DAY_HOURS = 24
# A perfect series would make nought of the mean over all of them.
_LEAST_RATIO = 1e-9


@dataclass(frozen=True, slots=True)
class Prediction:
    """What was said about one hour before its value was known; InputError for what is not finite.

    `score` is 1.0 at the alert boundary; None where the method knows no alerts of its own.
    """

    estimate: float
    lower: float
    upper: float
    threshold: float
    score: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.estimate, self.lower, self.upper, self.threshold, 0.0 if self.score is None else self.score)
        if not np.isfinite(numbers).all():
            raise InputError(f"{self} is not finite")

    def score_of(self, value: float) -> float:
        """The method's own score, else how far the value is on the way from the estimate to the threshold."""
        if self.score is not None:
            return self.score
        return (value - self.estimate) / max(self.threshold - self.estimate, 1e-12)


@dataclass(frozen=True, slots=True)
class Recording:
    """The observed values of one series by hour since the epoch; `labels` say which hours experts marked."""

    name: str
    family: str
    values: Mapping[int, float]
    labels: Mapping[int, bool] = field(default_factory=dict)

    def scored_hours(self) -> tuple[int, ...]:
        """The observed hours behind the warm-up, in order of time; none in a series that is too short."""
        if not self.values:
            return ()
        start = min(self.values) + WARM_UP_HOURS
        return tuple(sorted(hour for hour in self.values if hour >= start))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesAccuracy:
    """How good the predictions of one series were.

    `scale` is the mean absolute error of seasonal naive, in the unit of the series. `relmae`, `pinball99` (of the
    threshold) and `interval95` (of the band) are means over the hours divided by it, lower is better; `exceedance99` is
    the share of hours above the threshold, `coverage95` the share inside the band.
    """

    hours: int
    scale: float
    relmae: float
    pinball99: float
    interval95: float
    exceedance99: float
    coverage95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAccuracy:
    """A group of series: geometric means of the ratios, quantiles of the shares."""

    series: int
    relmae: float
    pinball99: float
    interval95: float
    exceedance_median: float
    exceedance_p90: float
    honest_share: float
    coverage_median: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """One method against another on the same series: the geometric mean of the ratios, below 1 where it is better."""

    series: int
    relmae: float
    pinball99: float
    interval95: float


def measure(
    recording: Recording, predictions: Mapping[int, Prediction], hours: Collection[int] | None = None
) -> SeriesAccuracy:
    """Judge the scored hours, or those of them that are in `hours`.

    InputError for a scored hour without a prediction, for no hour at all, and where seasonal naive makes no error.
    """
    judged = [hour for hour in recording.scored_hours() if hours is None or hour in hours]
    if not judged:
        raise InputError(f"{recording.name}: no hour to score")
    missing = [hour for hour in judged if hour not in predictions]
    if missing:
        raise InputError(f"{recording.name}: no prediction for {len(missing)} scored hours, the first is {missing[0]}")
    naive = seasonal_naive(recording.values)
    value = np.array([recording.values[hour] for hour in judged])
    scale = float(np.abs(value - [naive[hour] for hour in judged]).mean())
    if scale == 0.0:
        raise InputError(f"{recording.name}: seasonal naive makes no error to divide by")
    said = [predictions[hour] for hour in judged]
    estimate, lower, upper, threshold = (
        np.array([getattr(one, name) for one in said]) for name in ("estimate", "lower", "upper", "threshold")
    )
    gap = value - threshold
    pinball = np.maximum(QUANTILE * gap, (QUANTILE - 1.0) * gap)
    # Gneiting & Raftery (2007), equation 43.
    missed = np.maximum(lower - value, 0.0) + np.maximum(value - upper, 0.0)
    interval = upper - lower + 2.0 / (1.0 - INTERVAL) * missed
    return SeriesAccuracy(
        hours=len(judged),
        scale=scale,
        relmae=float(np.abs(value - estimate).mean()) / scale,
        pinball99=float(pinball.mean()) / scale,
        interval95=float(interval.mean()) / scale,
        exceedance99=float((gap > 0.0).mean()),
        coverage95=float(((lower <= value) & (value <= upper)).mean()),
    )


def seasonal_naive(values: Mapping[int, float]) -> dict[int, float]:
    """What seasonal naive says of each observed hour from the second day on: the value of 24 hours before.

    Where that hour has none, a guess stands in that was made of it when it passed: half from the mean of its hour of
    the week, half from that of its hour of the day, each with a share of how far the hour before was from its own.
    """
    if not values:
        return {}
    by_week: dict[int, _RecentMean] = {}
    by_day: dict[int, _RecentMean] = {}
    recent = _RecentMean(0.2)
    known: dict[int, float] = {}
    said: dict[int, float] = {}
    before = week_before = day_before = 0.0
    for hour in range(min(values), max(values) + 1):
        of_day = by_day.setdefault(hour % _DAY_HOURS, _RecentMean(0.15))
        of_week = by_week.setdefault(hour % WEEK_HOURS, _RecentMean(0.25))
        day = of_day.mean if of_day.count else recent.mean
        week = of_week.mean if of_week.count else day
        value = values.get(hour)
        if value is None:
            known[hour] = 0.5 * (week + 0.5 * (before - week_before)) + 0.5 * (day + 0.8 * (before - day_before))
        else:
            known[hour] = value
            for mean in (recent, of_day, of_week):
                mean.learn(value)
            if hour - _DAY_HOURS in known:
                said[hour] = known[hour - _DAY_HOURS]
        before, week_before, day_before = known[hour], week, day
    return said


def summarise(accuracies: Collection[SeriesAccuracy]) -> GroupAccuracy:
    """InputError for an empty group."""
    exceedances = np.array([one.exceedance99 for one in accuracies])
    lowest, highest = HONEST_EXCEEDANCE
    return GroupAccuracy(
        series=len(accuracies),
        relmae=geometric_mean(one.relmae for one in accuracies),
        pinball99=geometric_mean(one.pinball99 for one in accuracies),
        interval95=geometric_mean(one.interval95 for one in accuracies),
        exceedance_median=float(np.quantile(exceedances, 0.5)),
        exceedance_p90=float(np.quantile(exceedances, 0.9)),
        honest_share=float(((exceedances >= lowest) & (exceedances <= highest)).mean()),
        coverage_median=float(np.quantile([one.coverage95 for one in accuracies], 0.5)),
    )


def paired(ours: Sequence[SeriesAccuracy], theirs: Sequence[SeriesAccuracy]) -> Paired:
    """Series by series, both in the same order; where the other is perfect there is no ratio, and none is counted."""

    def ratio(name: str) -> float:
        both = [(getattr(one, name), getattr(other, name)) for one, other in zip(ours, theirs, strict=True)]
        return geometric_mean(mine / other for mine, other in both if other > 0.0)

    return Paired(
        series=len(ours), relmae=ratio("relmae"), pinball99=ratio("pinball99"), interval95=ratio("interval95")
    )


def geometric_mean(ratios: Iterable[float]) -> float:
    """InputError for none; what is smaller than 1e-9 counts as that."""
    numbers = np.maximum(np.fromiter(ratios, dtype=float), _LEAST_RATIO)
    if not numbers.size:
        raise InputError("the mean of no series")
    return float(np.exp(np.log(numbers).mean()))


@dataclass(slots=True)
class _RecentMean:
    """A mean that becomes an exponentially forgetting one once 1/n is below the rate."""

    rate: float
    count: int = 0
    mean: float = 0.0

    def learn(self, value: float) -> None:
        self.count += 1
        self.mean += max(self.rate, 1.0 / self.count) * (value - self.mean)
