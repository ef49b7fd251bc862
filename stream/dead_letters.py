"""What could not be used, kept with its reason and origin: one JSON object per record of the topic `dead-letters`."""

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson

from detection.events import OUTCOME_NAMES
from stream.aggregation import Calls
from stream.decoding import ObservedAt, Rejected

TOPIC = "dead-letters"
# Calls of one late letter; a backfill of years is then many letters of a bearable size.
_CALLS_IN_LETTER = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`reason` is `invalid` (with the sentence in `detail`) or `late` (its window was learned before it came).

    `origin` is topic, partition and offset where one record is meant. `value` is the record's text; what is not UTF-8
    is in `value_base64`. Late calls come as a batch that the topic `calls` would take.
    """

    reason: str
    detail: str
    origin: dict[str, int | str]
    key: str | None = None
    value: Any = None
    value_base64: str | None = None

    def as_json(self) -> bytes:
        """The letter, without the fields that it does not need."""
        return orjson.dumps({name: value for name, value in asdict(self).items() if value is not None})


def of_rejected(topic: str, partition: int, rejected: Rejected) -> DeadLetter:
    """The letter of a record that is no event."""
    record = rejected.record
    text, encoded = _text(record.value)
    return DeadLetter(
        reason="invalid",
        detail=rejected.reason,
        origin={"topic": topic, "partition": partition, "offset": record.offset},
        key=_text(record.key)[0],
        value=text,
        value_base64=encoded,
    )


def of_late_calls(late: Calls) -> list[DeadLetter]:
    """Letters of the calls whose windows were learned before they came, some hundred calls of one source to the letter.

    Each call names its offset: after a crash they may be sent again, in other company.
    """
    letters = []
    for code in np.unique(late.source).tolist():
        some = late.of(late.source == code)
        calls = [
            {
                "biller_id": late.subjects[subject].id,
                "timestamp": timestamp,
                "latency_ms": latency / 1000,
                "outcome": OUTCOME_NAMES[outcome],
                "offset": offset,
            }
            for subject, timestamp, latency, outcome, offset in zip(
                some.subject.tolist(),
                some.timestamp_ms.tolist(),
                some.latency_us.tolist(),
                some.outcome.tolist(),
                some.offset.tolist(),
                strict=True,
            )
        ]
        letters += [
            DeadLetter(
                reason="late",
                detail="the calls' windows were learned before they came",
                origin={"source": late.sources[code]},
                value={"calls": calls[at : at + _CALLS_IN_LETTER]},
            )
            for at in range(0, len(calls), _CALLS_IN_LETTER)
        ]
    return letters


def of_late_observations(late: Sequence[ObservedAt]) -> list[DeadLetter]:
    """A letter for each observation whose window was learned before it came."""
    return [
        DeadLetter(
            reason="late",
            detail="the observation's window was learned before it came",
            origin={"topic": "observations", "offset": one.offset},
            value={
                "subject": str(one.observed.subject),
                "timestamp": one.observed.timestamp_ms,
                **one.observed.gauges,
            },
        )
        for one in late
    ]


def _text(value: bytes | None) -> tuple[str | None, str | None]:
    if value is None:
        return None, None
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(value).decode()
