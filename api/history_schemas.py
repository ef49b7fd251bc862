"""The shapes of what `GET /history...` and `GET /coverage...` answer, with an example of each."""

from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from detection.coverage import Span


class HistoryPoint(BaseModel):
    """One closed hour; the parts from `estimate` to `credible` are null where nothing had been published of it."""

    window_start: str
    value: float
    count: int = Field(description="Calls, or observations, behind the value.")
    estimate: float | None
    lower: float | None = Field(description="The band from `lower` to `upper` claimed to hold 95 % of normal hours.")
    upper: float | None
    threshold: float | None = Field(description="As it stood before the hour was learned.")
    score: float | None = Field(description="1.0 is where an alert is due.")
    exceeded: bool | None
    credible: bool | None = Field(description="Whether enough calls stand behind the value to mean something.")
    origin: Literal["live", "train"] = Field(description="Whether it came from the stream or from a data set.")
    excluded: bool = Field(description="Whether somebody said that the hour is not to be learned.")


class HistoryPage(BaseModel):
    """The hours of one series, the oldest first."""

    subject: str
    metric: str
    unit: str
    operator: Literal[">", "<"]
    points: list[HistoryPoint]
    next_cursor: str | None = Field(description="Of the next page: newer hours with a `from`, older ones without.")


class SparklinesAnswer(BaseModel):
    """The newest hours of some series side by side."""

    from_: str | None = Field(alias="from", description="The first hour; null where none of the series has any.")
    hours: int
    series: dict[str, list[float | None]] = Field(description="By subject; null where an hour has no value.")


class _Claim(BaseModel):
    span: Span
    judged: int = Field(description="Hours that had a threshold before they came.")
    exceeded: int = Field(description="Those of them that were beyond it.")
    claimed_exceedance: float | None = Field(description="The share that was to be expected beyond; null of nothing.")
    observed_exceedance: float | None
    interval: tuple[float, float] | None = Field(description="Of the true share, with a confidence of 95 %.")
    compared: int = Field(description="Judged hours with a value a week before, which both losses are over.")
    pinball_loss: float | None = Field(description="Mean pinball loss of the threshold, in the metric's unit.")
    naive_pinball_loss: float | None = Field(description="The same of the value of the same hour a week before.")
    skill: float | None = Field(description="1 minus the ratio of the two losses: 1 is perfect, 0 no better.")


class SeriesCoverage(_Claim):
    """How often the thresholds of one series held."""

    subject: str
    metric: str
    cohort: str = Field(description="The one that it is in now.")


class CoveragePage(BaseModel):
    """Series in the order of their subjects."""

    from_: str | None = Field(alias="from", description="The span's first hour; null before the first event.")
    to: str | None
    series: list[SeriesCoverage]
    next_cursor: str | None


class CohortCoverageRow(_Claim):
    """How often the thresholds of the series of one cohort held."""

    cohort: str
    metric: str
    size: str = Field(description="Calls that were expected of the hour, or `any`.")
    series: int
    every_nth: int = Field(description="1 where all subjects were looked at, n where it was every n-th of them.")


class CohortCoverageList(BaseModel):
    """Cohorts in the order of their names, as they were summed up last."""

    to: str | None = Field(description="The end of the span; null where nothing was summed up yet.")
    cohorts: list[CohortCoverageRow]


POINT: Final[dict[str, Any]] = {
    "window_start": "2026-11-21T19:00:00Z",
    "value": 241.2,
    "count": 58,
    "estimate": 212.4,
    "lower": 168.9,
    "upper": 281.7,
    "threshold": 334.1,
    "score": 0.24,
    "exceeded": False,
    "credible": True,
    "origin": "live",
    "excluded": False,
}
HISTORY: Final[dict[str, Any]] = {
    "subject": "biller:B1",
    "metric": "average-response-time",
    "unit": "ms",
    "operator": ">",
    "points": [POINT],
    "next_cursor": None,
}
SPARKLINES: Final[dict[str, Any]] = {
    "from": "2026-11-21T17:00:00Z",
    "hours": 3,
    "series": {"biller:B1": [228.1, None, 241.2], "biller:B2": [51.3, 50.9, 55.0]},
}
_CLAIM: Final[dict[str, Any]] = {
    "span": "month",
    "judged": 720,
    "exceeded": 9,
    "claimed_exceedance": 0.01,
    "observed_exceedance": 0.0125,
    "interval": [0.0066, 0.0236],
    "compared": 720,
    "pinball_loss": 1.86,
    "naive_pinball_loss": 17.2,
    "skill": 0.892,
}
SERIES_COVERAGE: Final[dict[str, Any]] = {
    "subject": "biller:B1",
    "metric": "average-response-time",
    "cohort": "average-response-time/10-100",
} | _CLAIM
COVERAGE: Final[dict[str, Any]] = {
    "from": "2026-10-22T20:00:00Z",
    "to": "2026-11-21T20:00:00Z",
    "series": [SERIES_COVERAGE],
    "next_cursor": None,
}
COHORT_COVERAGE: Final[dict[str, Any]] = {
    "to": "2026-11-21T20:00:00Z",
    "cohorts": [
        {
            "cohort": "average-response-time/10-100",
            "metric": "average-response-time",
            "size": "10-100",
            "series": 412,
            "every_nth": 1,
        }
        | _CLAIM
        | {"judged": 290_140, "exceeded": 2_990, "observed_exceedance": 0.0103, "interval": [0.0098, 0.0108]}
    ],
}
