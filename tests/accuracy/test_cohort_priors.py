"""The first two days of real series, each answered with what the others of its kind have in common.

One subject is left out at a time: its cohort is made of the others' published answers alone. What it is then answered
with is compared, hour by hour, with the catalogue's prior and with what the series publishes by itself.
"""

import csv
import gzip
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from detection.catalogue import AVERAGE_RESPONSE_TIME, Metric
from detection.cohort_learning import Census
from detection.cohorts import Cohorts, Outlook, pool
from detection.estimate import Forecast
from detection.hours import HOUR_MS, parse_ms
from detection.kernel.series import READY_AFTER
from detection.policy import Policy
from detection.rows import Observation
from detection.series_model import SeriesModel
from detection.windows import CallWindow

EXAMPLES = Path(__file__).parents[2] / "examples"
POLICY = Policy()
# Two weeks and a half of each: what its series publishes after them is what another one begins with.
HOURS = 400

Recorded = Mapping[tuple[str, str], tuple[Metric, list[Observation]]]


@dataclass(frozen=True, slots=True)
class Loss:
    """Of one series' first two days: pinball loss of the thresholds, absolute error of the estimates, both summed."""

    pinball: float
    error: float


@dataclass(frozen=True, slots=True)
class Compared:
    """The same hours, answered in three ways."""

    pooled: Loss
    own: Loss
    catalogue: Loss


def recorded_calls() -> Recorded:
    """Hourly values of the recorded calls, as the live path counts them."""
    windows: dict[str, dict[int, CallWindow]] = defaultdict(dict)
    with gzip.open(EXAMPLES / "calls.ndjson.gz", "rb") as lines:
        for line in lines:
            call = orjson.loads(line)
            hours = windows[call["biller_id"]]
            hour = parse_ms(call["timestamp"]) // HOUR_MS
            if len(hours) > HOURS and hour not in hours:
                continue
            window = hours.setdefault(hour, CallWindow())
            us = round(call["latency_ms"] * 1000)
            is_timeout = call["outcome"] == "timeout"
            window.calls += 1
            window.errors += call["outcome"] == "error"
            window.timeouts += is_timeout
            if not is_timeout:
                window.latency_us += us
                window.latency_us2 += us * us
    found: dict[tuple[str, str], tuple[Metric, list[Observation]]] = {}
    for biller, hours in sorted(windows.items()):
        for hour, window in sorted(hours.items()):
            for value in window.values():
                _, observations = found.setdefault((biller, value.metric.slug), (value.metric, []))
                observations.append(Observation(hour, value.value, value.count))
    return found


def recorded_latencies(prefix: str) -> Recorded:
    """The latency series of the hourly examples whose names begin so."""
    found: dict[tuple[str, str], tuple[Metric, list[Observation]]] = {}
    with gzip.open(EXAMPLES / "hourly.csv.gz", "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["series"].startswith(prefix) and row["metric"] == AVERAGE_RESPONSE_TIME.slug:
                _, observations = found.setdefault((row["series"], row["metric"]), (AVERAGE_RESPONSE_TIME, []))
                hour = parse_ms(row["timestamp"]) // HOUR_MS
                observations.append(Observation(hour, float(row["value"]), int(row["count"] or 1)))
    return found


def outlook_of(forecast: Forecast) -> Outlook:
    one = forecast.estimate
    return Outlook(one.location, one.lower, one.upper, forecast.threshold.value)


def forecasts(metric: Metric, observations: Sequence[Observation]) -> Iterator[Forecast]:
    """What was published before each hour of the first two days, and after the last hour."""
    model = SeriesModel(metric, POLICY)
    for at, one in enumerate(observations):
        if at < READY_AFTER:
            yield model.forecast(one.hour, POLICY)
        model.learn(one.hour, one.value, one.count, POLICY)
    yield model.forecast(observations[-1].hour + 1, POLICY)


def leave_one_out(recorded: Recorded) -> dict[tuple[str, str], Compared]:
    """How each series of the recording would have begun, had all the others been there before."""
    told = {key: list(forecasts(metric, rows[:HOURS])) for key, (metric, rows) in recorded.items()}
    found = {}
    for key, (metric, rows) in recorded.items():
        census = Census()
        for other, said in told.items():
            if other[0] != key[0]:
                last = said[-1]
                census.add_ready(other[1], last.estimate.expected_count, outlook_of(last), last.estimate.n_learned)
        cohorts = Cohorts(census.cohorts(POLICY.coverage))
        found[key] = compared(metric, rows[:READY_AFTER], told[key], cohorts)
    return found


def compared(metric: Metric, rows: Sequence[Observation], told: Sequence[Forecast], cohorts: Cohorts) -> Compared:
    pooled, own, catalogue = [], [], []
    for one, forecast in zip(rows, told, strict=False):
        n = forecast.estimate.n_learned
        cohort = cohorts.find(metric.slug, forecast.estimate.expected_count)
        assert cohort is not None
        assert cohort.prior is not None
        said = outlook_of(forecast)
        borrowed = pool(metric, cohort.prior, n=n, own=said if n else None, coverage=POLICY.coverage).outlook
        pooled.append(loss(one.value, borrowed.threshold, borrowed.estimate))
        own.append(loss(one.value, said.threshold, said.estimate))
        catalogue.append(loss(one.value, metric.prior_threshold, metric.prior))
    return Compared(total(pooled), total(own), total(catalogue))


def loss(value: float, threshold: float, estimate: float) -> Loss:
    gap = value - threshold
    return Loss(max(POLICY.coverage * gap, (POLICY.coverage - 1.0) * gap), abs(value - estimate))


def total(losses: Sequence[Loss]) -> Loss:
    return Loss(math.fsum(one.pinball for one in losses), math.fsum(one.error for one in losses))


def ratio(pairs: Sequence[tuple[float, float]]) -> float:
    """Geometric mean of the quotients."""
    return math.exp(math.fsum(math.log(one / other) for one, other in pairs) / len(pairs))


@pytest.fixture(scope="module")
def begun() -> dict[str, dict[tuple[str, str], Compared]]:
    return {
        "calls": leave_one_out(recorded_calls()),
        "probe": leave_one_out(recorded_latencies("probe-")),
        "cloud": leave_one_out(recorded_latencies("cloud-outbound-")),
    }


@pytest.mark.parametrize("source", ["calls", "probe", "cloud"])
def test_the_first_two_days_of_every_series_are_better_than_the_catalogue_has_them(
    begun: dict[str, dict[tuple[str, str], Compared]], source: str
) -> None:
    """One of the thirty varies around the very latency that the catalogue assumes: its estimate cannot be better."""
    for key, one in begun[source].items():
        assert one.pooled.pinball < 0.6 * one.catalogue.pinball, key
        assert one.pooled.error < 1.2 * one.catalogue.error, key


@pytest.mark.parametrize(("source", "most"), [("calls", 0.25), ("probe", 0.05), ("cloud", 0.06)])
def test_on_average_they_are_several_times_better(
    begun: dict[str, dict[tuple[str, str], Compared]], source: str, most: float
) -> None:
    latencies = [one for (_, slug), one in begun[source].items() if slug == AVERAGE_RESPONSE_TIME.slug]
    assert ratio([(one.pooled.pinball, one.catalogue.pinball) for one in latencies]) < most
    assert ratio([(one.pooled.error, one.catalogue.error) for one in latencies]) < most


@pytest.mark.parametrize("source", ["calls", "probe", "cloud"])
def test_the_thresholds_are_better_than_the_series_alone_has_them(
    begun: dict[str, dict[tuple[str, str], Compared]], source: str
) -> None:
    """Of the estimate no more is asked than that the cohort does no harm: after one hour the series knows its level."""
    latencies = [one for (_, slug), one in begun[source].items() if slug == AVERAGE_RESPONSE_TIME.slug]
    assert ratio([(one.pooled.pinball, one.own.pinball) for one in latencies]) < 0.9
    assert ratio([(one.pooled.error, one.own.error) for one in latencies]) < 1.0
