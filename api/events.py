"""`POST /events/...`: events into the stream, answered when the broker has them, all of a body or none of it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Annotated

import msgspec
import orjson
from fastapi import APIRouter, Depends, Request, Response

from api import openapi
from api.access import GuardedRoute, caller
from api.bodies import Format, format_of, read_body
from api.connections import Connections, connections
from api.datasets import fault_of_event
from api.event_log import CALLS, MAX_EVENT_BYTES, OBSERVATIONS
from api.problems import INVALID_REQUEST, Fault, RefusedError, kind_of
from api.schemas import Accepted, CallGiven, CallsGiven, ObservationGiven
from detection.errors import InputError, InvalidEventError, TooLargeError
from detection.events import check_call, decode_call, decode_observation
from detection.hours import SECOND_MS, iso
from detection.subject import Subject

router = APIRouter(tags=["events"], route_class=GuardedRoute)

Parts = Annotated[Connections, Depends(connections)]

# The key and the time, in milliseconds, of one event; InvalidEventError for what is none.
_Reader = Callable[[bytes], tuple[bytes, int]]

_RAW_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_RAW_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_RESPONSES = openapi.responses(
    Accepted,
    {"accepted": 2},
    413,
    415,
    422,
    503,
    status=202,
    description="The broker has acknowledged every event.",
)
_NDJSON_CALLS = {
    "application/x-ndjson": {
        "schema": {"type": "string"},
        "example": '{"biller_id":"B1","timestamp":1763755200000,"latency_ms":184.2,"outcome":"ok"}\n',
    }
}
_NDJSON_OBSERVATIONS = {
    "application/x-ndjson": {
        "schema": {"type": "string"},
        "example": '{"name":"Mistral","version":"v1","timestamp":1763755200000,"prediction_accuracy":0.19}\n',
    }
}


@router.post(
    "/events/calls",
    status_code=202,
    summary="Calls of billers",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=openapi.body(CallGiven, CallsGiven, examples=openapi.CALLS, more=_NDJSON_CALLS),
)
async def take_calls(request: Request, parts: Parts) -> Response:
    """One call, an array, `{"calls": [...]}` or NDJSON; one that is no call, or over 1 MB, refuses the whole body.

    Answered with 202 only after the broker has acknowledged every call. After a 503 some may have been taken: what
    sends them again is counted again.
    """
    return await _take(request, parts, CALLS, _read_call)


@router.post(
    "/events/observations",
    status_code=202,
    summary="Observations of models",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=openapi.body(ObservationGiven, examples=openapi.OBSERVATIONS, more=_NDJSON_OBSERVATIONS),
)
async def take_observations(request: Request, parts: Parts) -> Response:
    """One observation, an array, `{"observations": [...]}` or NDJSON; as for calls."""
    return await _take(request, parts, OBSERVATIONS, _read_observation)


async def _take(request: Request, parts: Connections, topic: str, read: _Reader) -> Response:
    settings = parts.settings
    form = format_of(request, taken=("json", "ndjson"))
    body = await read_body(request, limit=settings.max_body_bytes)
    newest_ms = time.time_ns() // 1_000_000 + settings.future_seconds * SECOND_MS
    events = await asyncio.to_thread(_checked, body, form, topic, read, settings.max_rows, newest_ms)
    asking = caller()
    if not asking.reaches_all:
        for key in {key for key, _ in events}:
            asking.must_reach(Subject.parse(key.decode()))
    await parts.log.append(topic, events)
    return Response(orjson.dumps({"accepted": len(events)}), status_code=202, media_type="application/json")


def _checked(
    body: bytes, form: Format, topic: str, read: _Reader, max_events: int, newest_ms: int
) -> list[tuple[bytes, bytes]]:
    """The events with their keys; RefusedError that names the index of each that is too long, or none, and its field.

    Whatever can be refused is refused here, before the first event is sent.
    """
    events: list[tuple[bytes, bytes]] = []
    faults: list[Fault] = []
    too_long: list[Fault] = []
    for index, raw in enumerate(_split(body, form, topic)):
        if index >= max_events:
            raise TooLargeError(f"more than {max_events} events")
        if len(raw) > MAX_EVENT_BYTES:
            too_long.append(Fault("event", f"has {len(raw)} bytes, {MAX_EVENT_BYTES} are the most", index=index))
            continue
        try:
            key, ms = read(raw)
        except InvalidEventError as error:
            faults.append(fault_of_event(error, index=index))
            continue
        if ms > newest_ms:
            faults.append(Fault("timestamp", f"{iso(ms)} is in the future", index=index))
        events.append((key, raw))
    if too_long:
        raise _refused(TooLargeError(), too_long)
    if faults:
        raise _refused(InvalidEventError(), faults)
    if not events:
        raise RefusedError(INVALID_REQUEST, "the body has no event", [Fault("body", "has no event")])
    return events


def _refused(why: InputError, faults: list[Fault]) -> RefusedError:
    first = faults[0]
    detail = (
        f"{len(faults)} of the events are refused, so none was taken; "
        f"the first at index {first.index}, {first.field}: {first.reason}"
    )
    return RefusedError(kind_of(why), detail, faults)


def _split(body: bytes, form: Format, topic: str) -> Iterator[bytes]:
    """Each event's own bytes, exactly as they were sent."""
    if form == "ndjson":
        yield from (line for line in body.splitlines() if line.strip())
        return
    text = body.strip()
    try:
        if text.startswith(b"["):
            yield from map(bytes, _RAW_LIST.decode(text))
            return
        fields = _RAW_OBJECT.decode(text)
        if fields.keys() == {topic}:
            yield from map(bytes, _RAW_LIST.decode(fields[topic]))
            return
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = f"is neither an event nor an array of events: {error}"
        raise RefusedError(INVALID_REQUEST, f"the body {reason}", [Fault("body", reason)]) from None
    yield text


def _read_call(raw: bytes) -> tuple[bytes, int]:
    try:
        subject, ms, _, _ = check_call(decode_call(raw))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidEventError(str(error)) from error
    return subject.id.encode(), ms


def _read_observation(raw: bytes) -> tuple[bytes, int]:
    try:
        found = decode_observation(raw)
    # A value that is just not too deep to be decoded is too deep to be shown.
    except RecursionError as error:
        raise InvalidEventError(str(error)) from error
    return found.subject.id.encode(), found.timestamp_ms
