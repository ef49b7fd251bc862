"""Every error as RFC 9457 `application/problem+json`, with a `type` that never changes its meaning."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from detection.errors import (
    ConflictError,
    DependencyError,
    InvalidCalendarError,
    InvalidEventError,
    InvalidObservationError,
    InvalidRowError,
    InvalidRuleError,
    InvalidSubjectError,
    LogRecreatedError,
    RejectingEverythingError,
    SettingsError,
    TidemarkError,
    TooLargeError,
    UnknownMetricError,
    UnreadableStateError,
)
from detection.rules.draft import place_of

MEDIA_TYPE: Final = "application/problem+json"

# More would hide what is wrong rather than show it; `rejected_total` and `detail` say how many there are.
SHOWN_ERRORS: Final = 50


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem: its status, the last part of its `type`, and its title."""

    status: int
    name: str
    title: str
    retry_after: int | None = None


UNAUTHENTICATED: Final = Kind(401, "unauthenticated", "Who asks is not known")
FORBIDDEN: Final = Kind(403, "forbidden", "Who asks may not do this")
TOO_MANY_REQUESTS: Final = Kind(429, "too-many-requests", "The key is used more often than it may be", retry_after=1)
OVERLOADED: Final = Kind(503, "overloaded", "More is asked than can be answered", retry_after=1)
INVALID_REQUEST: Final = Kind(422, "invalid-request", "The request cannot be read")
UNKNOWN_SUBJECT: Final = Kind(404, "unknown-subject", "Nothing is known of this biller or model")
UNKNOWN_EXCLUSION: Final = Kind(404, "unknown-exclusion", "There is no such exclusion")
HISTORY_INCOMPLETE: Final = Kind(409, "history-incomplete", "The history does not hold all that was learned")
TOO_MANY_EXCLUSIONS: Final = Kind(409, "too-many-exclusions", "The subject has as many exclusions as it can")
UNKNOWN_RULE: Final = Kind(404, "unknown-rule", "There is no such rule")
DEFAULT_RULE: Final = Kind(409, "default-rule", "A default rule cannot be deleted")
PRECONDITION_FAILED: Final = Kind(412, "precondition-failed", "What is stored is not what the request expects")
UNKNOWN_ALERT: Final = Kind(404, "unknown-alert", "There is no such alert")
INVALID_ROWS: Final = Kind(422, "invalid-row", "No row of the data set can be learned")
MEDIA_REFUSED: Final = Kind(415, "unsupported-media-type", "The body's media type or encoding is not taken")

# Every leaf of the error tree; a test holds this table against the tree.
KINDS: Final[Mapping[type[TidemarkError], Kind]] = {
    InvalidEventError: Kind(422, "invalid-event", "An event cannot be taken"),
    InvalidObservationError: Kind(422, "invalid-observation", "A value cannot be learned"),
    InvalidSubjectError: Kind(422, "invalid-subject", "The biller id, name or version cannot be one"),
    UnknownMetricError: Kind(404, "unknown-metric", "There is no such metric type"),
    InvalidRowError: INVALID_ROWS,
    InvalidRuleError: Kind(422, "invalid-rule", "A rule cannot be one"),
    InvalidCalendarError: Kind(422, "invalid-calendar", "The calendar cannot be taken"),
    TooLargeError: Kind(413, "too-large", "The request is larger than is taken"),
    ConflictError: Kind(409, "conflict", "Another writer was faster", retry_after=1),
    DependencyError: Kind(503, "dependency-unavailable", "Something that the answer needs is away", retry_after=5),
    SettingsError: Kind(500, "settings", "The service is not set up for this"),
    UnreadableStateError: Kind(500, "unreadable-state", "What is stored cannot be read by this version"),
    LogRecreatedError: Kind(500, "log-recreated", "A topic was created anew"),
    RejectingEverythingError: Kind(500, "rejecting-everything", "Nearly all events are refused"),
}

INTERNAL: Final = Kind(500, "internal", "Something went wrong here")
_BY_STATUS: Final = {
    # What the framework cannot parse at all: bytes that are no text, numbers of thousands of digits, deep nesting.
    400: INVALID_REQUEST,
    404: Kind(404, "not-found", "There is nothing at this address"),
    405: Kind(405, "method-not-allowed", "The address does not take this method"),
    413: KINDS[TooLargeError],
    415: MEDIA_REFUSED,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one field, and in which row (from 1) or at which index (from 0), where there are several."""

    field: str
    reason: str
    row: int | None = None
    index: int | None = None

    def fields(self) -> dict[str, object]:
        """As it is answered: absent places are left out."""
        place = {"row": self.row, "index": self.index}
        return {
            **{key: value for key, value in place.items() if value is not None},
            "field": self.field,
            "reason": self.reason,
        }


class RefusedError(Exception):
    """A request that the edge itself refuses, field by field."""

    def __init__(self, kind: Kind, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.faults = faults


def problem(
    request: Request,
    kind: Kind,
    detail: str,
    *,
    faults: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The problem document of one request."""
    document: dict[str, object] = {
        "type": f"urn:tidemark:problem:{kind.name}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": request.url.path,
    }
    if faults:
        document["errors"] = [fault.fields() for fault in faults[:SHOWN_ERRORS]]
    sent = dict(headers or {})
    if kind.status == HTTPStatus.UNAUTHORIZED:
        # RFC 9110, section 11.6.1: a 401 says how to do better.
        sent["WWW-Authenticate"] = 'Bearer realm="tidemark"'
    if kind.retry_after is not None:
        sent["Retry-After"] = str(kind.retry_after)
    return Response(orjson.dumps(document), status_code=kind.status, media_type=MEDIA_TYPE, headers=sent)


def install(app: FastAPI) -> None:
    """Answer every error of this app as a problem, those of the framework included."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)  # noqa: S101 (the registration below says so; this tells the type checker)
        return problem(request, error.kind, error.detail, faults=error.faults)

    async def raised(request: Request, error: Exception) -> Response:
        assert isinstance(error, TidemarkError)  # noqa: S101 (as above)
        faults: list[Fault] = []
        match error:
            case InvalidRowError():
                faults = [Fault(error.field, error.reason, row=error.row)]
            case InvalidRuleError():
                faults = [Fault(place_of(path) or "rule", reason) for path, reason in error.faults]
            case InvalidSubjectError():
                field, _, reason = str(error).partition(" ")
                faults = [Fault(_PATH_FIELDS.get(field, field), reason)]
            case _:
                pass
        return problem(request, kind_of(error), str(error), faults=faults)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 (as above)
        faults = [Fault(".".join(str(part) for part in one["loc"][1:]) or "body", one["msg"]) for one in error.errors()]
        detail = "; ".join(f"{fault.field}: {fault.reason}" for fault in faults[:SHOWN_ERRORS])
        return problem(request, INVALID_REQUEST, detail, faults=faults)

    async def refused_by_framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 (as above)
        kind = _BY_STATUS.get(error.status_code) or Kind(
            error.status_code, f"http-{error.status_code}", HTTPStatus(error.status_code).phrase
        )
        detail = f"{request.method} {request.url.path}: {error.detail}"
        headers = error.headers
        if kind.status == HTTPStatus.METHOD_NOT_ALLOWED:
            # The framework names the methods of the first route with this address, and others may have it too.
            headers = {"Allow": ", ".join(_methods_of(request)) or (headers or {}).get("Allow", "")}
        return problem(request, kind, detail, headers=headers)

    async def unexpected(request: Request, _error: Exception) -> Response:
        stored = next((text for path, text in _STORED.items() if request.url.path.startswith(path)), _NOTHING_STORED)
        return problem(request, INTERNAL, f"The error is in the service's log. {stored}")

    app.add_exception_handler(RefusedError, refused)
    app.add_exception_handler(TidemarkError, raised)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused_by_framework)
    app.add_exception_handler(Exception, unexpected)


def _methods_of(request: Request) -> list[str]:
    """What OpenAPI says that this address takes."""
    described = request.app.openapi()["paths"]
    # Its own description comes first: /rules/dry-run could be a rule's address too.
    found = described.get(request.url.path) or described.get(getattr(request.scope.get("route"), "path_format", ""), {})
    return sorted(method.upper() for method in found)


def kind_of(error: TidemarkError) -> Kind:
    """The kind of the error, or of the nearest of its ancestors that has one."""
    for ancestor in type(error).__mro__:
        kind = KINDS.get(ancestor)
        if kind is not None:
            return kind
    return INTERNAL


_PATH_FIELDS: Final = {"biller_id": "billerId"}

# What an endpoint may have done before it failed, by the beginning of its path; the others only read.
_STORED: Final = {
    "/metrics/train/": "Rows of this request may be in the history; the same request again completes it.",
    "/events/": "Events of this request may have been taken; what is sent again is counted again.",
}
_NOTHING_STORED: Final = "Nothing of this request was stored."
