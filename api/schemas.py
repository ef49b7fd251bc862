"""The shapes of requests and answers as OpenAPI describes them; data sets are checked row by row in `api.datasets`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.moments import Moment

Status = Literal["prior", "learning", "ready", "stale"]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Sample(_Given):
    """A value that the model is asked to think of as seen."""

    timestamp: Moment | Annotated[int, Field(ge=0, strict=True)] | None = Field(
        default=None,
        description="Any moment of the hour that the value stands for, RFC 3339 or milliseconds since the epoch; the "
        "hour that is predicted next when absent.",
    )
    value: float = Field(allow_inf_nan=False, strict=True)
    count: int = Field(default=1, ge=1, le=2**53, strict=True, description="Calls that stand behind the value.")


class PredictRequest(_Given):
    """The optional body of predict."""

    sample: Sample | None = None


class BulkItem(_Given):
    """One series of a bulk prediction."""

    metricTypeId: str | int  # noqa: N815 (the name is the contract's)
    billerId: str  # noqa: N815 (as above)


class BulkRequest(_Given):
    """The body of a bulk prediction."""

    items: list[BulkItem] = Field(min_length=1, max_length=1000)


class Evidence(BaseModel):
    """What an alert flag rests on: the hour that has just closed, or the last minutes."""

    source: Literal["hour", "minutes"]
    window_start: str
    window_end: str
    value: float
    calls: int
    min_calls: int
    threshold: float
    score: float = Field(
        description=(
            "Above 1.0 an alert is due, if enough calls stand behind the value. Of an hour, the verdict's score, which "
            "a slow reference keeps up while an incident lasts; of minutes, the distance from the estimate, where the "
            "threshold is 1.0."
        )
    )


class Alert(BaseModel):
    """Whether someone should look at the series now."""

    is_alert: bool
    evidence: Evidence | None


class Explanation(BaseModel):
    """How the answer came about."""

    sentence: str
    parts: dict[str, Any]


class Prediction(BaseModel):
    """The next hour of one series."""

    subject: str = Field(examples=["biller:B1"])
    metric: str = Field(examples=["average-response-time"])
    estimate: float | None
    lower: float | None = Field(description="With `upper`, the band that claims 95 % of normal hours.")
    upper: float | None
    threshold: float | None = Field(description="The value beyond which an hour is no longer normal.")
    operator: Literal[">", "<"] = Field(description="How a value beyond the threshold compares with it.")
    unit: str = Field(examples=["ms"])
    window_start: str = Field(examples=["2026-11-21T20:00:00Z"])
    window_end: str
    valid_until: str
    version: str = Field(description="Changes whenever anything published of the series does; also sent as ETag.")
    status: Status
    n_learned: int
    cohort: str | None = Field(
        examples=["average-response-time/10-100"],
        description="Metric and calls expected in an hour, by powers of ten or `any`: series whose level and spread "
        "speak for this one while its `status` is `prior` or `learning`. Null while too few of them are ready.",
    )
    cohort_measured_exceedance: float | None = Field(
        description="Share of closed hours that exceeded the threshold published for them, over the cohort's series."
    )
    expected_calls: float | None
    min_calls: int
    claimed_exceedance: float | None
    measured_exceedance: float | None
    judged: int
    alert: Alert
    explanation: Explanation


class JudgedSample(BaseModel):
    """What the model says of the sample, before it thinks of it as seen."""

    window_start: str
    value: float
    count: int
    verdict: Literal["warming-up", "normal", "exceeded"]
    estimate: float | None
    threshold: float | None
    score: float | None
    is_credible: bool | None
    is_alert: bool


class SamplePrediction(Prediction):
    """The hour after the sample, were the sample seen; `sample` is the verdict on it."""

    sample: JudgedSample | None = None


class BulkPrediction(BaseModel):
    """The predictions in the order of the items."""

    predictions: list[Prediction]


class ThresholdItem(BaseModel):
    """One series of the list."""

    subject: str
    metric: str
    estimate: float | None
    lower: float | None
    upper: float | None
    threshold: float | None
    operator: Literal[">", "<"]
    unit: str
    status: Status
    window_start: str
    window_end: str
    valid_until: str
    version: str
    n_learned: int
    cohort: str | None = Field(
        examples=["average-response-time/10-100"],
        description="Metric and calls expected in an hour, by powers of ten or `any`: series whose level and spread "
        "speak for this one while its `status` is `prior` or `learning`. Null while too few of them are ready.",
    )
    cohort_measured_exceedance: float | None = Field(
        description="Share of closed hours that exceeded the threshold published for them, over the cohort's series."
    )
    last_window: str | None
    last_value: float | None
    alert: Alert


class ThresholdPage(BaseModel):
    """One page; a page may be short, even empty, while `next_cursor` is given."""

    thresholds: list[ThresholdItem]
    next_cursor: str | None


class TrainRow(_Given):
    """The value of one past hour."""

    timestamp: Moment | int = Field(examples=["2026-11-21T20:00:00Z"])
    value: float = Field(examples=[184.2])
    count: int | None = Field(default=None, ge=1, examples=[60])


class TrainCall(BaseModel):
    """One past call."""

    timestamp: Moment | int = Field(examples=["2026-11-21T20:00:00Z"])
    latency_ms: float = Field(ge=0, examples=[184.2])
    outcome: Literal["ok", "error", "timeout"] | None = None
    status: int | None = Field(default=None, ge=100, le=599)


class TrainRows(_Given):
    """A data set of hours."""

    rows: list[TrainRow]


class TrainCalls(_Given):
    """A data set of calls, which are counted to hours as live ones are."""

    calls: list[TrainCall]


class TrainFromHistory(_Given):
    """Fold what the history knows already."""

    source: Literal["history"]
    from_: Moment | None = Field(default=None, alias="from")
    to: Moment | None = None


class Rejection(BaseModel):
    """Why a row was not taken; rows are counted from 1."""

    row: int
    field: str
    reason: str


class Backtest(BaseModel):
    """How well the hours that this request folded were forecast, those of a warm model only."""

    n: int
    exceedance: float | None
    pinball: float | None = Field(description="Mean pinball loss of the threshold, in the metric's unit.")
    skill: float | None = Field(description="1 - MAE / MAE of what was observed 24 hours before.")


class Trained(BaseModel):
    """What became of a data set."""

    mode: Literal["merge", "replace"]
    accepted: int
    duplicate: int
    rejected: list[Rejection]
    rejected_total: int
    is_changed: bool = Field(description="Whether anything was stored.")
    backtest: Backtest
    prediction: Prediction


class Fault(BaseModel):
    """What is wrong with one field."""

    field: str
    reason: str
    row: int | None = None
    index: int | None = None


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["urn:tidemark:problem:unknown-metric"])
    title: str
    status: int
    detail: str
    instance: str
    errors: list[Fault] | None = None


class Accepted(BaseModel):
    """The broker has acknowledged so many events."""

    accepted: int


class CallGiven(BaseModel):
    """One call."""

    biller_id: str = Field(examples=["B1"])
    timestamp: Moment | int = Field(examples=["2026-11-21T20:00:00Z"])
    latency_ms: float = Field(ge=0, examples=[184.2])
    outcome: Literal["ok", "error", "timeout"] | None = Field(default=None, examples=["ok"])
    status: int | None = Field(
        default=None, ge=100, le=599, description="HTTP status instead of `outcome`; from 500 on an error."
    )


class CallsGiven(BaseModel):
    """Several calls."""

    calls: list[CallGiven]


class ObservationGiven(BaseModel):
    """One observation of a model; every other field is a metric."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(examples=["Mistral"])
    version: str = Field(examples=["v1"])
    timestamp: Moment | int = Field(examples=["2026-11-21T20:00:00Z"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Dependency(BaseModel):
    """Whether one dependency answers."""

    status: Literal["ok", "error"]
    reason: str | None = None


class Readiness(BaseModel):
    """Whether requests can be answered, and what is away."""

    status: Literal["ok", "error"]
    dependencies: dict[str, Dependency]


class OpenAlert(BaseModel):
    """One alert: what is beyond which boundary, since when, and what people have said of it."""

    id: str = Field(examples=["model:Mistral/v1/prediction-accuracy/low-accuracy/2026-11-21T20:00:00Z"])
    state: Literal["open", "resolved"]
    subject: str = Field(examples=["model:Mistral/v1"])
    metric: str = Field(examples=["prediction-accuracy"])
    rule: str = Field(examples=["low-accuracy"])
    line: str = Field(description="The line that operators see.")
    since: str = Field(description="When its first point was beyond, in the time of the events.")
    last: str = Field(description="When anything was last heard of the series.")
    opened: str
    value: float
    boundary: float
    count: int = Field(description="Calls or events behind the value.")
    score: float = Field(description="1.0 at the boundary; grows beyond it.")
    worst: float = Field(description="The highest score so far.")
    condition: str = Field(examples=["lower than"])
    severity: Literal["info", "warning", "critical"]
    owner: str = ""
    acknowledged_by: str = ""
    acknowledged: str | None = None
    opinion: Literal["true", "false"] | None = None
    detail: dict[str, float | str] = {}
    false_alerts: int | None = Field(
        default=None, description="By how many more alerts of the series people have called false than true."
    )
    bar: float | None = Field(default=None, description="The score beyond which a learned boundary therefore counts.")


class AlertList(BaseModel):
    """Open alerts."""

    alerts: list[OpenAlert]
    total: int


class PastAlert(BaseModel):
    """One alert as it was last."""

    id: str
    opened: str
    subject: str
    metric: str
    rule: str
    severity: str
    owner: str
    state: Literal["open", "resolved"]
    value: float | None
    boundary: float | None
    worst: float | None
    count: int
    line: str
    rev: int
    resolved: str | None
    reason: str | None
    acknowledged_by: str | None
    acknowledged: str | None
    feedback: str | None
    detail: dict[str, float | str]


class AlertHistoryPage(BaseModel):
    """A page of alerts, the newest first."""

    alerts: list[PastAlert]
    next_cursor: str | None


class Acknowledgement(_Given):
    """Who takes which alert on."""

    id: str = Field(max_length=600, examples=["model:Mistral/v1/prediction-accuracy/low-accuracy/2026-11-21T20:00:00Z"])
    by: str = Field(min_length=1, max_length=128, examples=["kim"])


class Feedback(_Given):
    """Whether an alert was worth telling."""

    id: str = Field(max_length=600, examples=["biller:B1/error-rate/biller-failures/2026-11-21T20:00:00Z"])
    opinion: Literal["true", "false"]
