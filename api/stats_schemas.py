"""The shapes of what `GET /stats/...` answers, with an example of each."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field


class MetricStats(BaseModel):
    """One metric in one window; the percentiles that were asked for follow: `p50`, `p90`, `p95`, `p99`."""

    model_config = ConfigDict(extra="allow")

    count: int | None = Field(
        default=None, description="Observations, or calls; absent where only the newest is asked for."
    )
    mean: float | None = None
    min: float | None = None
    max: float | None = None
    last: float = Field(description="The newest value.")
    last_at: str = Field(description="When it was observed; of a biller, the start of its hour.")
    labels: dict[str, str] | None = Field(
        default=None, description="Of the newest observation, where only it is asked for."
    )


class StatsWindow(BaseModel):
    """The metrics that were observed in one window."""

    start: str
    end: str
    metrics: dict[str, MetricStats]


class _Stats(BaseModel):
    from_: str | None = Field(alias="from", description="The beginning of what was counted; null where nothing was.")
    to: str | None
    step: str | None = Field(default=None, description="As it was asked for; absent without.")
    metrics: dict[str, MetricStats] | None = Field(default=None, description="By metric; absent with a `step`.")
    windows: list[StatsWindow] | None = Field(
        default=None,
        description="Oldest first, only those with observations; with a `step` alone. A window that does not fit on a "
        "page goes on on the next one.",
    )
    next_cursor: str | None


class ModelStats(_Stats):
    """Statistics of one version of a model."""

    name: str
    version: str


class BillerStats(_Stats):
    """Statistics of one biller."""

    biller_id: str


MODEL_STATS: Final[dict[str, Any]] = {
    "name": "Llama",
    "version": "v1",
    "from": "2026-11-20T00:00:00Z",
    "to": "2026-11-21T21:00:00Z",
    "metrics": {
        "inference_time": {
            "count": 2700,
            "mean": 12.4107,
            "min": 4.31,
            "max": 61.9,
            "last": 12.76,
            "last_at": "2026-11-21T20:00:00Z",
            "p50": 11.81,
            "p90": 18.12,
            "p95": 21.25,
            "p99": 29.5,
        },
        "prediction_accuracy": {
            "count": 2700,
            "mean": 0.8123,
            "min": 0.19,
            "max": 0.93,
            "last": 0.81,
            "last_at": "2026-11-21T20:00:00Z",
            "p50": 0.8203,
            "p90": 0.8672,
            "p95": 0.8828,
            "p99": 0.8984,
        },
    },
    "next_cursor": None,
}
BILLER_STATS: Final[dict[str, Any]] = {
    "biller_id": "B1",
    "from": "2026-11-21T19:00:00Z",
    "to": "2026-11-21T21:00:00Z",
    "step": "1h",
    "windows": [
        {
            "start": "2026-11-21T20:00:00Z",
            "end": "2026-11-21T21:00:00Z",
            "metrics": {
                "average-response-time": {
                    "count": 61,
                    "mean": 184.2,
                    "min": 98.304,
                    "max": 393.215,
                    "last": 184.2,
                    "last_at": "2026-11-21T20:00:00Z",
                    "p50": 178.7,
                    "p90": 248.2,
                    "p95": 290.6,
                    "p99": 357.5,
                }
            },
        }
    ],
    "next_cursor": None,
}
_CSV: Final = (
    "metric,start,end,count,mean,min,max,last,last_at,p50,p90,p95,p99\r\n"
    "drift,2026-11-21T20:00:00Z,2026-11-21T21:00:00Z,60,0.11,0.02,0.31,0.12,2026-11-21T20:59:07Z,0.1094,0.18,0.21,0.3\r\n"
)
_NDJSON: Final = (
    '{"metric":"drift","start":"2026-11-21T20:00:00Z","end":"2026-11-21T21:00:00Z","count":60,"mean":0.11,"min":0.02,'
    '"max":0.31,"last":0.12,"last_at":"2026-11-21T20:59:07Z","p50":0.1094,"p90":0.18,"p95":0.21,"p99":0.3}\n'
)
TABLES: Final[dict[str, Any]] = {
    "application/x-ndjson": {"schema": {"type": "string"}, "example": _NDJSON},
    "text/csv": {"schema": {"type": "string"}, "example": _CSV},
}
