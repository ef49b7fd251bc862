"""The shapes of what `GET /pipeline` answers, with an example of each."""

from typing import Any, Final

from pydantic import BaseModel, Field


class PartitionLag(BaseModel):
    """One partition: null is what Kafka or Redis does not say now."""

    partition: int
    end: int | None = Field(description="The offset that the next record will get.")
    reached: int | None = Field(description="How far it is in the state: the offset after the last record.")
    lag: int | None = Field(description="Records in between.")


class TopicLag(BaseModel):
    """A topic that workers learn from."""

    topic: str
    partitions: list[PartitionLag]
    lag: int | None
    records_per_second: float | None = Field(
        description="Records that went into the state since the look before, by the second; null without one."
    )


class DeadLetterCount(BaseModel):
    """The topic `dead-letters`."""

    records: int = Field(description="Letters that the topic still has.")
    ever: int = Field(description="Letters that were ever written to it.")


class Pipeline(BaseModel):
    """Each part is null where what it takes is away; `reasons` says why, by part."""

    clock: str | None = Field(description="The newest event of the stream; null also before the first one.")
    topics: list[TopicLag] | None
    dead_letters: DeadLetterCount | None
    subjects: int | None
    accepted: int | None = Field(description="Events that are in the state of the subjects.")
    late: int | None = Field(description="Events whose window was learned before they came.")
    series: dict[str, int] | None = Field(description="Series by status.")
    history_pending: int | None = Field(description="Subjects that have something for PostgreSQL to take.")
    counted_at: str | None = Field(description="When `subjects` to `history_pending` were counted.")
    dependencies: dict[str, str] = Field(description="`up`, or why not.")
    reasons: dict[str, str]


class Origin(BaseModel):
    """The record that a letter is about; a batch of late calls has no offset of its own."""

    topic: str | None
    partition: int | None
    offset: int | None


class DeadLetter(BaseModel):
    """One letter, with the beginning of what could not be used."""

    partition: int
    offset: int
    time: str | None
    reason: str
    detail: str
    origin: Origin
    key: str | None
    excerpt: str
    bytes: int | None = Field(description="Length of what is kept of the value.")
    is_whole: bool = Field(description="Whether the topic has all of the value, as it came.")


class DeadLetters(BaseModel):
    """The newest letters, newest first."""

    dead_letters: list[DeadLetter]


PIPELINE: Final[dict[str, Any]] = {
    "clock": "2026-11-21T20:00:07.120Z",
    "topics": [
        {
            "topic": "calls",
            "partitions": [{"partition": 0, "end": 5120, "reached": 5100, "lag": 20}],
            "lag": 20,
            "records_per_second": 412.5,
        }
    ],
    "dead_letters": {"records": 3, "ever": 3},
    "subjects": 512,
    "accepted": 5096,
    "late": 1,
    "series": {"prior": 0, "learning": 12, "ready": 1524, "stale": 0},
    "history_pending": None,
    "counted_at": None,
    "dependencies": {"kafka": "up", "redis": "up", "postgres": "no answer in time"},
    "reasons": {"history_pending": "not counted yet"},
}
DEAD_LETTERS: Final[dict[str, Any]] = {
    "dead_letters": [
        {
            "partition": 2,
            "offset": 0,
            "time": "2026-11-21T20:00:07.120Z",
            "reason": "invalid",
            "detail": "latency_ms: is below 0",
            "origin": {"topic": "calls", "partition": 1, "offset": 418},
            "key": "B1",
            "excerpt": '{"biller_id":"B1","latency_ms":-3}',
            "bytes": 34,
            "is_whole": True,
        }
    ]
}
