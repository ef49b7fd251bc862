"""The metrics that Tidemark knows: what a value means, which way it is bad, and what it can never be."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from detection.errors import UnknownMetricError

MetricKind = Literal["mean", "ratio", "gauge"]
Direction = Literal["above", "below"]

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Metric:
    """One entry of the catalogue.

    `direction` is the side on which a value is bad; `lower` and `upper` bound what a value, an estimate and a threshold
    can be; `prior` is the level that is assumed before the first observation, `prior_threshold` its threshold.
    """

    slug: str
    name: str
    kind: MetricKind
    unit: str
    direction: Direction
    lower: float
    upper: float
    prior: float
    prior_threshold: float
    number: int | None = None

    def __str__(self) -> str:
        return self.slug

    def clip(self, value: float) -> float:
        """The nearest value that this metric can have."""
        return min(max(value, self.lower), self.upper)


AVERAGE_RESPONSE_TIME = Metric(
    slug="average-response-time",
    name="AVERAGE_RESPONSE_TIME",
    kind="mean",
    unit="ms",
    direction="above",
    lower=0.0,
    upper=math.inf,
    prior=500.0,
    prior_threshold=10_000.0,
    number=1,
)
ERROR_RATE = Metric(
    slug="error-rate",
    name="ERROR_RATE_PERCENTAGE",
    kind="ratio",
    unit="%",
    direction="above",
    lower=0.0,
    upper=100.0,
    prior=1.0,
    prior_threshold=20.0,
    number=2,
)
TIMEOUT_ERROR_RATE = Metric(
    slug="timeout-error-rate",
    name="TIMEOUT_ERROR_RATE",
    kind="ratio",
    unit="%",
    direction="above",
    lower=0.0,
    upper=100.0,
    prior=0.5,
    prior_threshold=10.0,
    number=3,
)

BILLER_METRICS = (AVERAGE_RESPONSE_TIME, ERROR_RATE, TIMEOUT_ERROR_RATE)

# Gauges with a meaning of their own; every other numeric field of an observation event becomes `gauge(slug)`.
_KNOWN_GAUGES = (
    Metric(
        slug="prediction-accuracy",
        name="PREDICTION_ACCURACY",
        kind="gauge",
        unit="",
        direction="below",
        lower=-math.inf,
        upper=math.inf,
        prior=0.8,
        prior_threshold=0.0,
    ),
)
_BY_SLUG = {metric.slug: metric for metric in (*BILLER_METRICS, *_KNOWN_GAUGES)}
_BY_TEXT = {key: metric for metric in BILLER_METRICS for key in (str(metric.number), metric.slug, metric.name.lower())}


def biller_metric(text: str) -> Metric:
    """The metric that a `metricTypeId` means: its number, slug or name, in any case; raises UnknownMetricError."""
    metric = _BY_TEXT.get(text.strip().lower())
    if metric is None:
        valid = ", ".join(f"{item.number} | {item.slug} | {item.name}" for item in BILLER_METRICS)
        raise UnknownMetricError(f"{text[:80]!r} is no metric type; valid are {valid}")
    return metric


def gauge(name: str) -> Metric:
    """The gauge of an observation's field, registered by being seen; raises UnknownMetricError for an unusable name.

    An underscore and a hyphen are the same: `prediction_accuracy` is `prediction-accuracy`.
    """
    slug = name.strip().lower().replace("_", "-")
    if not _SLUG.fullmatch(slug):
        raise UnknownMetricError(f"{name[:80]!r} cannot name a metric: 1 to 63 letters, digits, hyphens or underscores")
    known = _BY_SLUG.get(slug)
    if known is not None:
        return known
    return Metric(
        slug=slug,
        name=slug.upper().replace("-", "_"),
        kind="gauge",
        unit="",
        direction="above",
        lower=-math.inf,
        upper=math.inf,
        prior=0.0,
        prior_threshold=math.inf,
    )


def metric_of(slug: str) -> Metric:
    """The metric of a stored series; raises UnknownMetricError for a slug that no event can have made."""
    return _BY_SLUG.get(slug) or gauge(slug)


def slugs_below() -> list[str]:
    """The metrics whose low values are bad; of all others, also of those nobody has seen yet, it is the high ones."""
    return [slug for slug, metric in _BY_SLUG.items() if metric.direction == "below"]
