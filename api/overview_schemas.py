"""The shapes of what `GET /overview` answers, with an example."""

from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from api.schemas import Status


class OverviewSeries(BaseModel):
    """One metric of the subject: what is normal of it, and how it was last."""

    metric: str
    unit: str
    operator: Literal[">", "<"] = Field(description="On which side of its threshold a value is an exceedance.")
    status: Status
    estimate: float | None
    lower: float | None
    upper: float | None
    threshold: float | None
    value: float | None = Field(
        description="Of the last closed hour that was judged, or of the last minutes where these are beyond the "
        "threshold."
    )
    calls: int | None = Field(description="Calls, or observations, behind the value.")
    score: float | None = Field(description="Signed distance of the value from the estimate; 1.0 is the threshold.")
    is_alert: bool


class OverviewAlert(BaseModel):
    """The most severe of the subject's open alerts, of these the newest."""

    id: str
    state: Literal["open"]
    severity: str
    metric: str
    rule: str
    since: str
    acknowledged_by: str | None


class Nearest(BaseModel):
    """The series that is nearest to its threshold, or furthest beyond it: of those that are ready, where any is."""

    metric: str
    score: float


class OverviewSubject(BaseModel):
    """One subject, with all its series."""

    subject: str
    status: Status = Field(description="The worst of its series: `stale`, `prior`, `learning`, `ready`.")
    alert: OverviewAlert | None
    alerts: int = Field(description="How many alerts of it are open.")
    nearest: Nearest | None
    series: list[OverviewSeries]


class Overview(BaseModel):
    """A page of subjects, in the order of their text."""

    subjects: list[OverviewSubject]
    total_known: int = Field(description="Subjects that are meant, on all pages.")
    next_cursor: str | None


OVERVIEW: Final[dict[str, Any]] = {
    "subjects": [
        {
            "subject": "biller:B1",
            "status": "ready",
            "alert": {
                "id": "biller:B1/average-response-time/biller-latency/2026-11-21T19:46:00Z",
                "state": "open",
                "severity": "warning",
                "metric": "average-response-time",
                "rule": "biller-latency",
                "since": "2026-11-21T19:46:00Z",
                "acknowledged_by": None,
            },
            "alerts": 1,
            "nearest": {"metric": "average-response-time", "score": 2.47},
            "series": [
                {
                    "metric": "average-response-time",
                    "unit": "ms",
                    "operator": ">",
                    "status": "ready",
                    "estimate": 212.4,
                    "lower": 168.9,
                    "upper": 281.7,
                    "threshold": 334.1,
                    "value": 512.8,
                    "calls": 17,
                    "score": 2.47,
                    "is_alert": True,
                }
            ],
        }
    ],
    "total_known": 1,
    "next_cursor": None,
}
