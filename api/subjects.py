"""The subject and metric that a path names, and what a path's parameters look like in the API's description."""

from typing import Annotated, Final

from fastapi import Path
from starlette.convertors import Convertor, register_url_convertor

from detection.catalogue import BILLER_METRICS, Metric, biller_metric, gauge
from detection.subject import Subject


class _Rest(Convertor[str]):
    """All that is left of a path, also nothing, slashes and line ends.

    An id that cannot be one is then refused by its name, instead of finding no route. The framework's own `path` stops
    at a line end, and leaves out the last one: `B1%0A` would be answered as `B1`.
    """

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


# Starlette keeps one table of these for all apps, and looks a name up when a route is made.
register_url_convertor("rest", _Rest())

_BILLER_SLUGS = {text: metric.slug for metric in BILLER_METRICS for text in (str(metric.number), metric.name.lower())}

# PostgreSQL, which looks for these texts, has no character 0.
TEXT_RULE: Final = r"^[^\x00]*$"

MetricTypeId = Annotated[
    str,
    Path(
        alias="metricTypeId",
        description="Number, slug or name of a metric, in any case: `1`, `error-rate`, `TIMEOUT_ERROR_RATE`.",
        examples=["average-response-time"],
    ),
]
BillerId = Annotated[
    str,
    Path(
        alias="billerId",
        description="1 to 128 letters, digits or `. _ @ + = -`, beginning with a letter or digit.",
        examples=["B1"],
    ),
]
GaugeName = Annotated[
    str,
    Path(description="Field of the observation events, hyphens or underscores.", examples=["prediction-accuracy"]),
]
ModelName = Annotated[str, Path(description="Name of the model.", examples=["Mistral"])]
ModelVersion = Annotated[str, Path(description="Version of the model.", examples=["v1"])]


def biller_series(metric_type_id: str, biller_id: str) -> tuple[Subject, Metric]:
    """Raises UnknownMetricError and InvalidSubjectError, in this order."""
    metric = biller_metric(metric_type_id)
    return Subject.biller(biller_id), metric


def gauge_series(metric: str, name: str, version: str) -> tuple[Subject, Metric]:
    """Raises UnknownMetricError and InvalidSubjectError."""
    return Subject.model(name, version), gauge(metric)


def slug_of(metric: str) -> str:
    """The slug of a metric that may be named by its number, slug or name; raises UnknownMetricError."""
    return _BILLER_SLUGS.get(metric.strip().lower()) or gauge(metric).slug


def series_of(subject: str, metric: str) -> tuple[Subject, Metric]:
    """The series of a subject's text, `biller:B1`; raises InvalidSubjectError and UnknownMetricError, in this order."""
    parsed = Subject.parse(subject)
    return parsed, biller_metric(metric) if parsed.kind == "biller" else gauge(metric)
