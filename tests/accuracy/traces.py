"""What was said of each hour of a series before it was learned, beside what came."""

import csv
import gzip
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detection.backtest import Predicted, backtest
from detection.catalogue import AVERAGE_RESPONSE_TIME, ERROR_RATE, Metric, gauge, metric_of
from detection.checks.checked import Checked
from detection.estimate import Forecast, Scored
from detection.hours import HOUR_MS, parse_ms
from detection.incidents import Floats, Series, Whole
from detection.policy import Policy
from detection.rows import Observation

EXAMPLES = Path(__file__).parents[2] / "examples" / "hourly.csv.gz"
METRIC_OF_FAMILY: dict[str, Metric] = {
    "latency": AVERAGE_RESPONSE_TIME,
    "ratio": ERROR_RATE,
    "gauge": gauge("synthetic"),
}

LEVEL_SHIFT = "level shift"
CREEP = "creep"


@dataclass(frozen=True, slots=True)
class Trace:
    """Hour by observed hour; `drift` is what was reported after the hour was learned, with the next hour's forecast."""

    hours: Whole
    values: Floats
    estimates: Floats
    lower: Floats
    upper: Floats
    thresholds: Floats
    is_alert: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    drift: tuple[str, ...]

    def since(self, hour: int, until: int | None = None) -> slice:
        """Where the hours [hour, until) stand."""
        first, last = np.searchsorted(self.hours, [hour, self.hours[-1] + 1 if until is None else until])
        return slice(int(first), int(last))

    def exceedance(self, where: slice) -> float:
        """Share of these hours above their threshold."""
        return float(np.mean(self.values[where] > self.thresholds[where]))

    def coverage(self, where: slice) -> float:
        """Share of these hours inside their interval."""
        inside = (self.lower[where] <= self.values[where]) & (self.values[where] <= self.upper[where])
        return float(np.mean(inside))

    def first_report(self, drift: str, since: int) -> float:
        """Hours from `since` on until this drift is reported; infinite when it never is."""
        for hour, reported in zip(self.hours.tolist(), self.drift, strict=True):
            if hour >= since and reported == drift:
                return float(hour + 1 - since)
        return float("inf")


def trace(metric: Metric, observations: Sequence[Observation], policy: Policy | None = None) -> Trace:
    """What a new series model said of each hour, before it learned it."""
    return _trace(list(backtest(metric, observations, Policy() if policy is None else policy)))


def trace_of(series: Series) -> Trace:
    """As above, of a synthetic series, in its own zone."""
    policy = Policy(zone=series.profile.zone)
    return trace(METRIC_OF_FAMILY[series.profile.family], list(series.observations()), policy)


def trace_of_checked(model: Checked, series: Series) -> Trace:
    """What a forecaster that is no series model said; it neither alerts nor reports."""
    rows: list[tuple[float, ...]] = []
    zone = series.profile.zone
    for one in series.observations():
        said = model.ask(one.hour, zone)
        rows.append((one.hour, one.value, said.location, said.lower, said.upper, said.threshold))
        model.learn(one.hour, zone, one.value, one.count)
    return _from_rows(rows, [False] * len(rows), ["none"] * len(rows))


def drift_of(forecast: Forecast) -> str:
    """What a forecast reports of its series: none, level shift or creep."""
    return str(forecast.explanation.get("drift", "none"))


def recorded() -> dict[str, tuple[Metric, list[Observation]]]:
    """The recorded hourly series, oldest hour first."""
    found: dict[str, tuple[Metric, list[Observation]]] = {}
    with gzip.open(EXAMPLES, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            _, observations = found.setdefault(row["series"], (metric_of(row["metric"]), []))
            hour = parse_ms(row["timestamp"]) // HOUR_MS
            observations.append(Observation(hour, float(row["value"]), int(float(row["count"] or 1))))
    for _, observations in found.values():
        observations.sort(key=lambda one: one.hour)
    return found


def _trace(predicted: list[Predicted]) -> Trace:
    rows = [
        (
            one.observation.hour,
            one.observation.value,
            one.forecast.estimate.location,
            one.forecast.estimate.lower,
            one.forecast.estimate.upper,
            one.forecast.threshold.value,
        )
        for one in predicted
    ]
    drift = [drift_of(one.forecast) for one in predicted[1:]] + ["none"]
    return _from_rows(rows, (isinstance(one.verdict, Scored) and one.verdict.is_alert for one in predicted), drift)


def _from_rows(rows: Sequence[tuple[float, ...]], is_alert: Iterable[bool], drift: list[str]) -> Trace:
    hours, values, estimates, lower, upper, thresholds = np.array(rows).T
    return Trace(
        hours.astype(np.int64),
        values,
        estimates,
        lower,
        upper,
        thresholds,
        np.array(list(is_alert)),
        tuple(drift),
    )
