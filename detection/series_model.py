"""One series' learned state: a fold over its closed windows, one observation or one missing hour at a time."""

import math
from typing import Any, Self

from detection.catalogue import Metric
from detection.errors import InvalidObservationError, UnreadableStateError
from detection.estimate import Estimate, Forecast, Scored, Status, Threshold, Verdict, WarmingUp, distance
from detection.forecaster import SeasonalForecaster
from detection.hours import slot_of
from detection.policy import Policy

# Two days: every hour of the day was seen twice.
READY_AFTER = 48

# How fast the expected number of calls follows: about the last day.
_COUNT_RATE = 0.05

# Half-life of 500 judged hours.
_EXCEEDANCE_RATE = 1.0 - 0.5 ** (1 / 500)

# A failure rate above its threshold needs more than one failed call behind it, however few the calls.
_MIN_FAILED_CALLS = 2

# The young series' threshold is no closer to its estimate than the prior's, by this many observations' weight.
_PRIOR_WEIGHT = 4.0


class SeriesModel:
    """Score, then learn; between two observations every missing hour moves the season on without being learned.

    `next_hour` is the hour (since the epoch, UTC) after the last one learned; None before the first.

    A gauge of unknown bounds is taken as 0 or more, which lets it be learned on the logarithmic scale. Its first
    negative value says otherwise (`is_signed`): what was learned on that scale means nothing on the other one, so a new
    forecaster begins with that value, and `n_before` keeps the number of observations learned before.

    `judged` counts the hours that were scored, `exceedance_rate` is the share of them that exceeded the threshold
    published for them: over all of them at first, then with a half-life of 500 hours.
    """

    __slots__ = (
        "exceedance_rate",
        "expected_count",
        "forecaster",
        "is_signed",
        "judged",
        "metric",
        "n_before",
        "next_hour",
    )

    def __init__(self, metric: Metric, policy: Policy) -> None:
        self.metric = metric
        self.is_signed = False
        self.n_before = 0
        self.forecaster = _forecaster(metric, policy, is_signed=False)
        self.next_hour: int | None = None
        self.expected_count = 0.0
        self.judged = 0
        self.exceedance_rate = 0.0

    @property
    def n_learned(self) -> int:
        """Observations learned so far."""
        return self.n_before + int(self.forecaster.n_learned)

    @property
    def is_warm(self) -> bool:
        """Whether enough was learned to judge."""
        return bool(self.forecaster.n_learned >= READY_AFTER)

    def copy(self) -> Self:
        """An independent twin: what it learns, this one does not."""
        twin = object.__new__(type(self))
        twin.metric = self.metric
        twin.is_signed = self.is_signed
        twin.n_before = self.n_before
        twin.forecaster = self.forecaster.copy()
        twin.next_hour = self.next_hour
        twin.expected_count = self.expected_count
        twin.judged = self.judged
        twin.exceedance_rate = self.exceedance_rate
        return twin

    def learn(self, hour: int, value: float, count: int, policy: Policy) -> Verdict:
        """Judge the value of a closed hour by what was expected of it, then learn it; returns the verdict.

        Raises InvalidObservationError for a value that is not finite and for an hour at or before the last one learned.
        """
        if not math.isfinite(value):
            raise InvalidObservationError(f"{self.metric} of hour {hour}: {value} is not finite")
        if self.next_hour is not None and hour < self.next_hour:
            raise InvalidObservationError(
                f"{self.metric}: hour {hour} is not after the last one learned, {self.next_hour - 1}"
            )
        # The missing hours first: the forecaster then looks at this hour once, for the verdict and for learning.
        if self.next_hour is not None and hour > self.next_hour:
            self.forecaster.skip(hour - self.next_hour)
        self.next_hour = hour
        verdict = self.score(hour, value, count, policy)
        if isinstance(verdict, Scored):
            self.judged += 1
            self.exceedance_rate += max(_EXCEEDANCE_RATE, 1.0 / self.judged) * (
                verdict.is_exceeded - self.exceedance_rate
            )
        if value < 0.0 and not self.is_signed and _is_unbounded(self.metric):
            self.is_signed = True
            self.n_before = self.n_learned
            self.forecaster = _forecaster(self.metric, policy, is_signed=True)
        self.forecaster.learn_one(self.metric.clip(value), {"slot": slot_of(hour, policy.zone), "count": count})
        self.next_hour = hour + 1
        rate = max(_COUNT_RATE, 1.0 / self.n_learned)
        self.expected_count += rate * (count - self.expected_count)
        return verdict

    def score(self, hour: int, value: float, count: int, policy: Policy) -> Verdict:
        """The verdict on a value, were it this hour's; changes nothing."""
        if not self.is_warm:
            return WarmingUp(hour, value, count)
        estimate_of_hour, threshold = self._expected(hour, self._ahead(hour), policy)
        estimate = estimate_of_hour.location
        return Scored(
            hour=hour,
            value=value,
            count=count,
            estimate=estimate,
            threshold=threshold.value,
            score=distance(value, estimate=estimate, threshold=threshold.value),
            is_exceeded=threshold.is_exceeded_by(value),
            is_credible=self._is_credible(value, count, threshold),
        )

    def forecast(self, hour: int, policy: Policy) -> Forecast:
        """What is expected of an hour that is not yet learned; changes nothing, never refuses, never says NaN."""
        ahead = self._ahead(hour)
        estimate, threshold = self._expected(hour, ahead, policy)
        return Forecast(
            hour=hour,
            estimate=estimate,
            threshold=threshold,
            status=self._status(ahead, policy),
            measured_exceedance=self.exceedance_rate if self.judged else None,
            judged=self.judged,
            explanation=self.forecaster.explain() if self.n_learned else {"basis": "prior"},
        )

    def _ahead(self, hour: int) -> int:
        """Hours between the next one to learn and this one."""
        ahead = 0 if self.next_hour is None else hour - self.next_hour
        if ahead < 0:
            raise InvalidObservationError(f"{self.metric}: hour {hour} is already learned")
        return ahead

    def _expected(self, hour: int, ahead: int, policy: Policy) -> tuple[Estimate, Threshold]:
        metric = self.metric
        min_count = 1 if metric.kind == "gauge" else min(policy.min_calls, max(2, math.ceil(self.expected_count)))
        if self.n_learned == 0:
            upper = min(metric.prior_threshold, metric.upper)
            finite_upper = upper if math.isfinite(upper) else metric.prior
            low = metric.lower if math.isfinite(metric.lower) else min(metric.prior_threshold, metric.prior)
            bound = finite_upper if metric.direction == "above" else low
            return (
                Estimate(metric.prior, low, max(finite_upper, metric.prior), 0.0, 0),
                Threshold(bound, metric.direction, policy.coverage, min_count),
            )
        predicted = self.forecaster.predict(slot_of(hour, policy.zone), ahead)
        return (
            Estimate(predicted.location, predicted.lower, predicted.upper, self.expected_count, self.n_learned),
            Threshold(
                self._widened(predicted.location, predicted.threshold), metric.direction, policy.coverage, min_count
            ),
        )

    def _widened(self, location: float, threshold: float) -> float:
        """The forecaster's threshold, no closer than what too few hours, or too few calls, could tell from normal."""
        metric = self.metric
        if metric.kind == "ratio" and self.expected_count > 1.0:
            # The rate of one failed call among as many as are expected: less than that cannot be observed.
            threshold = max(threshold, 100.0 / self.expected_count)
        if not self.is_warm and metric.direction == "above" and math.isfinite(metric.prior_threshold):
            # A young series keeps the prior's distance until its own spread is known.
            share = _PRIOR_WEIGHT / (self.n_learned + _PRIOR_WEIGHT)
            if metric.kind == "mean":
                least = location * (metric.prior_threshold / metric.prior) ** share
            else:
                least = location + (metric.prior_threshold - metric.prior) * share
            threshold = max(threshold, least)
        return metric.clip(threshold)

    def _status(self, ahead: int, policy: Policy) -> Status:
        if self.n_learned == 0:
            return "prior"
        if ahead > policy.stale_after_hours:
            return "stale"
        return "ready" if self.is_warm else "learning"

    def _is_credible(self, value: float, count: int, threshold: Threshold) -> bool:
        if count < threshold.min_count:
            return False
        return self.metric.kind != "ratio" or round(value * count / 100.0) >= _MIN_FAILED_CALLS

    def to_state(self) -> dict[str, Any]:
        """Plain numbers and lists of them; `from_state` goes on bit for bit."""
        return {
            "version": SeasonalForecaster.STATE_VERSION,
            "next_hour": self.next_hour,
            "expected_count": self.expected_count,
            "judged": self.judged,
            "exceedance_rate": self.exceedance_rate,
            "n_before": self.n_before,
            "is_signed": self.is_signed,
            "forecaster": self.forecaster.to_state(),
        }

    @classmethod
    def from_state(cls, metric: Metric, state: dict[str, Any], policy: Policy) -> Self:
        """Raises UnreadableStateError for another schema version and for what is no such state."""
        try:
            if state["version"] != SeasonalForecaster.STATE_VERSION:
                raise UnreadableStateError(
                    f"{metric}: model state of version {state['version']}, "
                    f"this program reads {SeasonalForecaster.STATE_VERSION}"
                )
            model = object.__new__(cls)
            model.metric = metric
            model.judged = int(state["judged"])
            model.exceedance_rate = float(state["exceedance_rate"])
            model.n_before = int(state["n_before"])
            model.is_signed = bool(state["is_signed"])
            model.forecaster = SeasonalForecaster.from_state(
                state["forecaster"], **_parameters(metric, policy, is_signed=model.is_signed)
            )
            model.next_hour = None if state["next_hour"] is None else int(state["next_hour"])
            model.expected_count = float(state["expected_count"])
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableStateError(f"{metric}: damaged model state: {error!r}") from error
        return model


def _forecaster(metric: Metric, policy: Policy, *, is_signed: bool) -> SeasonalForecaster:
    return SeasonalForecaster(**_parameters(metric, policy, is_signed=is_signed))


def _parameters(metric: Metric, policy: Policy, *, is_signed: bool) -> dict[str, Any]:
    return {
        "lower": 0.0 if _is_unbounded(metric) and not is_signed else metric.lower,
        "upper": metric.upper,
        "direction": metric.direction,
        "coverage": policy.coverage,
    }


def _is_unbounded(metric: Metric) -> bool:
    return metric.kind == "gauge" and metric.lower == -math.inf
