"""The shapes of `/billers/.../exclusions` and `/models/.../exclusions`, with an example of each."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from api.moments import Moment


class ExclusionGiven(BaseModel):
    """Hours that are not to be learned, or not to have been."""

    model_config = ConfigDict(extra="forbid")

    from_: Moment = Field(alias="from", description="With `to` a span of event time: every hour that it touches.")
    to: Moment = Field(description="Where it ends, at most 366 days after its beginning; it may lie ahead.")
    metric: str | int | None = Field(
        default=None, description="One metric only, by its number, slug or name; all of them when absent or `all`."
    )
    reason: str = Field(min_length=1, max_length=500, examples=["provider outage"])
    by: str = Field(min_length=1, max_length=128, examples=["kim"])


class Exclusion(BaseModel):
    """Hours that are not learned."""

    id: str = Field(description="Made of what is excluded: the same said again is the same exclusion.")
    subject: str
    from_: str = Field(alias="from", description="The first hour, by its start.")
    to: str = Field(description="The end of the last hour.")
    hours: int
    metric: str | None = Field(description="Null where it is all of them.")
    reason: str
    by: str
    at: str = Field(description="When it was said.")
    calendar: str | None = Field(default=None, description="The calendar that it came from; absent without one.")
    uid: str | None = Field(default=None, description="The event of that calendar.")


class RelearnedModel(BaseModel):
    """A model that was learned again from the history."""

    n_learned: int = Field(description="Hours that it has learned now.")
    n_excluded: int = Field(description="Hours of the history that it has not, for they are excluded.")


class ChangedExclusion(Exclusion):
    """An exclusion that was made or taken back, and what came of it."""

    relearned: dict[str, RelearnedModel] = Field(
        description="By metric, the models that are others now; empty where none had learned any of these hours."
    )


class ExclusionList(BaseModel):
    """All exclusions of a subject."""

    exclusions: list[Exclusion] = Field(description="The earliest first.")
    total: int


GIVEN: Final[dict[str, Any]] = {
    "outage": {
        "summary": "An incident that is over",
        "value": {
            "from": "2026-11-20T10:12:00Z",
            "to": "2026-11-20T13:40:00Z",
            "reason": "provider outage",
            "by": "kim",
        },
    },
    "maintenance": {
        "summary": "One metric, ahead of time",
        "value": {
            "from": "2026-11-29T01:00:00+01:00",
            "to": "2026-11-29T05:00:00+01:00",
            "metric": "error-rate",
            "reason": "announced maintenance",
            "by": "kim",
        },
    },
}
EXCLUSION: Final[dict[str, Any]] = {
    "id": "20261120T10Z-20261120T14Z",
    "subject": "biller:B1",
    "from": "2026-11-20T10:00:00Z",
    "to": "2026-11-20T14:00:00Z",
    "hours": 4,
    "metric": None,
    "reason": "provider outage",
    "by": "kim",
    "at": "2026-11-21T20:00:00Z",
}
CHANGED: Final[dict[str, Any]] = EXCLUSION | {
    "relearned": {
        "average-response-time": {"n_learned": 2156, "n_excluded": 4},
        "error-rate": {"n_learned": 2156, "n_excluded": 4},
        "timeout-error-rate": {"n_learned": 2156, "n_excluded": 4},
    }
}


class FailedSubject(BaseModel):
    """A subject that could not be changed, and why."""

    subject: str
    type: str
    detail: str


class CalendarScheduled(BaseModel):
    """What became of the subjects that a calendar was sent for."""

    calendar: str
    from_: str | None = Field(alias="from", description="What ended before was left alone; null where nothing was.")
    to: str | None
    events: int = Field(description="Times that its events take place between.")
    subjects: int = Field(description="Subjects that were chosen.")
    changed: int = Field(description="Subjects whose exclusions are others now.")
    added: int = Field(description="Exclusions that were made, of all subjects.")
    taken_back: int
    failed: list[FailedSubject] = Field(description="At most 50 of them.")
    failed_total: int


SCHEDULED: Final[dict[str, Any]] = {
    "calendar": "bank-holidays",
    "from": "2026-11-21T20:00:00Z",
    "to": "2027-12-26T20:00:00Z",
    "events": 11,
    "subjects": 250,
    "changed": 250,
    "added": 2750,
    "taken_back": 0,
    "failed": [],
    "failed_total": 0,
}
