"""The fold that every model is, with what was said before each value: how training, and trust, are earned."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from detection.catalogue import Metric
from detection.estimate import Forecast, Scored, Verdict
from detection.policy import Policy
from detection.rows import Observation
from detection.series_model import SeriesModel

_DAY_HOURS = 24


@dataclass(frozen=True, slots=True)
class Predicted:
    """One observation, what was expected of its hour before it was learned, and the verdict on it."""

    observation: Observation
    forecast: Forecast
    verdict: Verdict


def backtest(metric: Metric, observations: Sequence[Observation], policy: Policy) -> Iterator[Predicted]:
    """Forecast each hour of a new series, then learn it, exactly as the live path learns; the hours must ascend."""
    model = SeriesModel(metric, policy)
    for one in observations:
        forecast = model.forecast(one.hour, policy)
        yield Predicted(one, forecast, model.learn(one.hour, one.value, one.count, policy))


@dataclass(slots=True)
class Tally:
    """How well the judged hours were forecast: those that a model which had learned enough was asked about.

    `share` is the quantile that the threshold claims to be. Seasonal naive says of an hour what was observed 24 hours
    before; it is compared on the hours for which that is known.
    """

    share: float
    hours: int = 0
    exceeded: int = 0
    pinball_sum: float = 0.0
    paired_hours: int = 0
    error_sum: float = 0.0
    naive_error_sum: float = 0.0
    _recent: dict[int, float] = field(default_factory=dict)

    @classmethod
    def of(cls, metric: Metric, policy: Policy) -> Self:
        """An empty tally; an upper threshold is the quantile `coverage`, a lower one its complement."""
        return cls(policy.coverage if metric.direction == "above" else 1.0 - policy.coverage)

    def add(self, verdict: Verdict) -> None:
        """Take in the verdict on the next hour of one series."""
        before = self._recent.get(verdict.hour - _DAY_HOURS)
        if len(self._recent) > 2 * _DAY_HOURS:
            self._recent = {hour: value for hour, value in self._recent.items() if hour > verdict.hour - _DAY_HOURS}
        self._recent[verdict.hour] = verdict.value
        if not isinstance(verdict, Scored):
            return
        gap = verdict.value - verdict.threshold
        self.hours += 1
        self.exceeded += verdict.is_exceeded
        self.pinball_sum += max(self.share * gap, (self.share - 1.0) * gap)
        if before is not None:
            self.paired_hours += 1
            self.error_sum += abs(verdict.value - verdict.estimate)
            self.naive_error_sum += abs(verdict.value - before)

    def include(self, other: "Tally") -> None:
        """Add the judged hours of another series."""
        self.hours += other.hours
        self.exceeded += other.exceeded
        self.pinball_sum += other.pinball_sum
        self.paired_hours += other.paired_hours
        self.error_sum += other.error_sum
        self.naive_error_sum += other.naive_error_sum

    @property
    def exceedance(self) -> float | None:
        """Share of the judged hours that exceeded their threshold."""
        return self.exceeded / self.hours if self.hours else None

    @property
    def pinball(self) -> float | None:
        """Mean pinball loss of the threshold, in the metric's unit; lower is better."""
        return self.pinball_sum / self.hours if self.hours else None

    @property
    def skill(self) -> float | None:
        """1 - MAE / MAE of seasonal naive: 1 is perfect, 0 as good as naive; None where naive made no error."""
        if self.naive_error_sum == 0.0:
            return None
        return 1.0 - self.error_sum / self.naive_error_sum
