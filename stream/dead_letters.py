"""What could not be used, kept with its reason and origin: one JSON object per record of the topic `dead-letters`."""

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import orjson

from detection.events import MAX_GAUGES, OUTCOME_NAMES
from stream.aggregation import Calls
from stream.decoding import ObservedAt, Rejected

TOPIC = "dead-letters"
# What is kept of a record's value: six times as many bytes, should each have to be escaped, still fit into a message.
_KEPT_BYTES = 128 * 1024
_KEPT_KEY_BYTES = 1024
# Calls of one late letter; a backfill of years is then many letters of a bearable size.
_CALLS_IN_LETTER = 500


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """`reason` is `invalid` (with the sentence in `detail`) or `late` (its window was learned before it came).

    `origin` is topic, partition and offset where one record is meant. `value` is the record's text; what is not UTF-8
    is in `value_base64`; of a long one only the beginning is kept, and `value_bytes` says how long it was. Late calls
    come as a batch that the topic `calls` would take.
    """

    reason: str
    detail: str
    origin: dict[str, int | str]
    key: str | None = None
    value: Any = None
    value_base64: str | None = None
    value_bytes: int | None = None

    def as_json(self) -> bytes:
        """The letter, without the fields that it does not need."""
        return orjson.dumps({name: value for name, value in asdict(self).items() if value is not None})


def of_rejected(topic: str, partition: int, rejected: Rejected) -> DeadLetter:
    """The letter of a record that is no event."""
    record = rejected.record
    value = record.value
    is_long = value is not None and len(value) > _KEPT_BYTES
    text, encoded = _text(value[:_KEPT_BYTES] if is_long else value)
    return DeadLetter(
        reason="invalid",
        detail=rejected.reason,
        origin={"topic": topic, "partition": partition, "offset": record.offset},
        key=None if record.key is None else record.key[:_KEPT_KEY_BYTES].decode(errors="replace"),
        value=text,
        value_base64=encoded,
        value_bytes=len(value) if is_long else None,
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
    return [_of_observation(one, "late", "the observation's window was learned before it came") for one in late]


def of_crowded(crowded: Sequence[ObservedAt]) -> list[DeadLetter]:
    """A letter for each observation that would give its subject too many metrics."""
    detail = f"the subject would have more than {MAX_GAUGES} metrics"
    return [_of_observation(one, "invalid", detail) for one in crowded]


def _of_observation(one: ObservedAt, reason: str, detail: str) -> DeadLetter:
    event = one.observed
    return DeadLetter(
        reason=reason,
        detail=detail,
        origin={"topic": "observations", "offset": one.offset},
        value={"subject": str(event.subject), "timestamp": event.timestamp_ms, **event.gauges},
    )


def _text(value: bytes | None) -> tuple[str | None, str | None]:
    if value is None:
        return None, None
    try:
        return value.decode(), None
    except UnicodeDecodeError:
        return None, base64.b64encode(value).decode()
