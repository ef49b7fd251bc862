"""What the outside world sends: calls and observations, decoded strictly, and every refusal in a sentence.

JSON has no NaN, and a number beyond a double is refused by the decoder, so every number here is finite.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from detection.catalogue import gauge
from detection.errors import InvalidEventError, InvalidSubjectError, UnknownMetricError
from detection.subject import Subject

# 2000-01-01: whatever is older was sent in seconds, or by a clock that was never set.
OLDEST_MS = 946_684_800_000
# 2100-01-01: whatever is younger was sent in microseconds.
NEWEST_MS = 4_102_444_800_000

OK, ERROR, TIMEOUT = 0, 1, 2
OUTCOMES = {"ok": OK, "error": ERROR, "timeout": TIMEOUT}
OUTCOME_NAMES = ("ok", "error", "timeout")

_FIRST_SERVER_ERROR = 500
MAX_LATENCY_MS = 3_600_000.0
MAX_GAUGE = 1e15
MAX_GAUGES = 64
MAX_LABELS = 16
MAX_CALLS_IN_BATCH = 100_000

_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)

LabelName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
LabelValue = Annotated[str, Meta(max_length=128)]
_Labels = Annotated[dict[LabelName, LabelValue], Meta(max_length=MAX_LABELS)]

Moment = int | Annotated[datetime, Meta(tz=True)]


class CallEvent(msgspec.Struct, gc=False):
    """One call of a biller's API, as it is sent; `status` may stand instead of `outcome`."""

    biller_id: str
    timestamp: Moment
    latency_ms: Annotated[float, Meta(ge=0, le=MAX_LATENCY_MS)]
    outcome: Literal["ok", "error", "timeout"] | None = None
    status: Annotated[int, Meta(ge=100, le=599)] | None = None


class CallBatch(msgspec.Struct, gc=False):
    """Several calls in one message."""

    calls: Annotated[list[CallEvent], Meta(max_length=MAX_CALLS_IN_BATCH)]


@dataclass(frozen=True, slots=True)
class Observed:
    """One observation event: the gauges of a model version at one moment, by metric slug in the order of the event."""

    subject: Subject
    timestamp_ms: int
    gauges: dict[str, float]
    labels: dict[str, str] = field(default_factory=dict)


_BEGINS_BATCH = re.compile(rb'\s*\{\s*"calls"\s*:')

_CALL = msgspec.json.Decoder(CallEvent)
_BATCH = msgspec.json.Decoder(CallBatch)
_OBJECT = msgspec.json.Decoder(dict[str, Any])

decode_call = _CALL.decode


def decode_calls(payload: bytes) -> list[CallEvent]:
    """The calls of one message, a single one or `{"calls": [...]}`; InvalidEventError names what is wrong.

    What can be read as a single call is one, whatever else it has: a poll of nothing but single calls is read as such,
    and one message must mean the same in every company.
    """
    try:
        return [_CALL.decode(payload)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not _BEGINS_BATCH.match(payload):
            raise InvalidEventError(str(error)) from error
    try:
        return _BATCH.decode(payload).calls
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEventError(str(error)) from error


def outcome_code(event: CallEvent) -> int:
    """OK, ERROR or TIMEOUT; an HTTP status from 500 on is an error; raises InvalidEventError when neither is given."""
    if event.outcome is not None:
        return OUTCOMES[event.outcome]
    if event.status is None:
        raise InvalidEventError("outcome: missing, and no status instead of it")
    return ERROR if event.status >= _FIRST_SERVER_ERROR else OK


def timestamp_ms(moment: int | datetime) -> int:
    """Milliseconds since the epoch; raises InvalidEventError for a time that no running clock shows."""
    ms = moment if isinstance(moment, int) else (moment - _EPOCH) // _MILLISECOND
    if not OLDEST_MS <= ms < NEWEST_MS:
        raise InvalidEventError(f"timestamp: {ms} is not in milliseconds since 1970, or before 2000, or after 2099")
    return ms


def latency_us(latency_ms: float) -> int:
    """Whole microseconds, so that sums do not depend on the order of their terms."""
    return round(latency_ms * 1000.0)


def check_call(event: CallEvent) -> tuple[Subject, int, int, int]:
    """Subject, time in ms, latency in µs and outcome of a decoded call; raises InvalidEventError."""
    try:
        subject = Subject.biller(event.biller_id)
    except InvalidSubjectError as error:
        raise InvalidEventError(str(error)) from error
    return subject, timestamp_ms(event.timestamp), latency_us(event.latency_ms), outcome_code(event)


def decode_observation(payload: bytes) -> Observed:
    """One observation event; raises InvalidEventError that names the field.

    `name`, `version` and `timestamp` are its identity, `labels` (an object of up to 16 texts) is no metric, and
    every other field must be a finite number: a text among the metrics is a producer's mistake, not a label.
    """
    try:
        fields = _OBJECT.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEventError(str(error)) from error
    return observed(fields)


def observed(fields: dict[str, Any]) -> Observed:
    """The observation that these JSON fields are; raises InvalidEventError that names the field."""
    fields = dict(fields)
    name, version = fields.pop("name", None), fields.pop("version", None)
    if not isinstance(name, str) or not isinstance(version, str):
        raise InvalidEventError("name, version: both must be texts")
    moment = fields.pop("timestamp", None)
    labels = _labels(fields.pop("labels", None))
    try:
        subject = Subject.model(name, version)
        ms = timestamp_ms(msgspec.convert(moment, Moment))
    except InvalidSubjectError as error:
        raise InvalidEventError(str(error)) from error
    except msgspec.ValidationError as error:
        raise InvalidEventError(f"timestamp: {error}") from error
    if not fields:
        raise InvalidEventError("no metric: every field but name, version, timestamp and labels is one")
    if len(fields) > MAX_GAUGES:
        raise InvalidEventError(f"{len(fields)} metrics in one event, {MAX_GAUGES} are the most")
    gauges: dict[str, float] = {}
    for key, value in fields.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidEventError(f"{key[:80]}: a {type(value).__name__} is not a number")
        # JSON has no NaN; a whole number of a thousand digits has no float, so it is compared as it is.
        if abs(value) > MAX_GAUGE:
            raise InvalidEventError(f"{key[:80]}: the value is beyond ±{MAX_GAUGE:g}")
        try:
            slug = gauge(key).slug
        except UnknownMetricError as error:
            raise InvalidEventError(str(error)) from error
        if slug in gauges:
            raise InvalidEventError(f"{key[:80]}: the metric {slug} is given twice")
        gauges[slug] = float(value)
    return Observed(subject, ms, gauges, labels)


def _labels(given: Any) -> dict[str, str]:
    try:
        return dict(sorted(msgspec.convert({} if given is None else given, _Labels).items()))
    except msgspec.ValidationError as error:
        raise InvalidEventError(f"labels: {error}") from error
