"""Who may ask what: one table of all endpoints, looked at before any of them is reached.

Where authentication is on, each request names a key or brings a token (`api.credentials`). Its scope is looked at here,
and so are the subjects that it reaches, wherever the address names one. Endpoints that are told by their body which
subjects are meant, or that answer about many, ask `caller()` themselves.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import parse_qsl

import structlog
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from api.bodies import limited
from api.problems import FORBIDDEN, RefusedError
from detection.errors import InvalidSubjectError
from detection.subject import Subject
from state import api_keys
from state.api_keys import EVERYTHING, SCOPES

log = structlog.get_logger()

# How an endpoint is told which subjects are meant:
#   path    its path names one                     query    its query does, by `subject`, or none: then all
#   asked   by its body or of many: it asks itself  all      it is about all of them, or about none
Names = Literal["path", "query", "asked", "all"]


@dataclass(frozen=True, slots=True)
class Access:
    """What an endpoint asks of its caller; `scope` None lets everybody in."""

    scope: api_keys.Scope | None
    names: Names = "all"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `name` for the audit, what it may do, and the subjects that it reaches, as globs."""

    id: str
    name: str
    scopes: frozenset[str]
    subjects: tuple[str, ...] = EVERYTHING
    per_second: int | None = None

    @property
    def reaches_all(self) -> bool:
        """Whether no subject is out of its reach."""
        return "*" in self.subjects

    def may(self, scope: str) -> bool:
        """`admin` may do everything."""
        return scope in self.scopes or "admin" in self.scopes

    def reaches(self, subject: Subject) -> bool:
        """Whether the subject is one of its own."""
        return self.reaches_all or api_keys.reaches(self.subjects, subject)

    def must_reach(self, subject: Subject) -> None:
        """Raises RefusedError (403) for a subject that is out of reach, whether anything is known of it or not."""
        if not self.reaches(subject):
            raise RefusedError(FORBIDDEN, f"{subject}: this key is for other subjects")

    def must_reach_all(self) -> None:
        """Raises RefusedError (403) for a caller that is for some subjects alone."""
        if not self.reaches_all:
            raise RefusedError(FORBIDDEN, "this is about all subjects, and the key is for some: name one of them")


EVERYBODY: Final = Caller("", "", frozenset(SCOPES))

_CALLER: ContextVar[Caller] = ContextVar("caller", default=EVERYBODY)

# Of a body that the framework reads: an id, a name, a reason, two moments. What may be long is read by `read_body`.
_GIVEN_LIMIT_BYTES: Final = 64 * 1024

_OPEN: Final = Access(None)
UNLISTED: Final = Access("admin")

# By method and path; a test holds it against the app's routes, and one that is not in it takes `admin`.
ACCESS: Final[Mapping[tuple[str, str], Access]] = {
    ("GET", "/"): _OPEN,
    ("GET", "/page/{version}/{name}"): _OPEN,
    ("GET", "/docs"): _OPEN,
    ("GET", "/docs/{name}"): _OPEN,
    ("GET", "/healthz"): _OPEN,
    ("GET", "/readyz"): _OPEN,
    ("GET", "/metrics"): Access("read"),
    ("POST", "/metrics/predict/gauges/{metric}/{name}/{version}"): Access("read", "path"),
    ("POST", "/metrics/predict/{metricTypeId}/{billerId}"): Access("read", "path"),
    ("POST", "/metrics/predict"): Access("read", "asked"),
    ("POST", "/metrics/train/gauges/{metric}/{name}/{version}"): Access("train", "path"),
    ("POST", "/metrics/train/{metricTypeId}/{billerId}"): Access("train", "path"),
    ("POST", "/events/calls"): Access("ingest", "asked"),
    ("POST", "/events/observations"): Access("ingest", "asked"),
    ("GET", "/thresholds"): Access("read", "asked"),
    ("GET", "/overview"): Access("read"),
    ("GET", "/stats/billers/{billerId}"): Access("read", "path"),
    ("GET", "/stats/{name}/{version}"): Access("read", "path"),
    ("GET", "/history"): Access("read", "query"),
    ("GET", "/history/sparklines"): Access("read", "query"),
    ("GET", "/coverage"): Access("read", "query"),
    ("GET", "/coverage/cohorts"): Access("read"),
    ("GET", "/pipeline"): Access("read"),
    # What could not be read is shown as it came.
    ("GET", "/pipeline/dead-letters"): Access("admin"),
    ("GET", "/rules"): Access("read"),
    ("GET", "/rules/audit"): Access("read"),
    ("GET", "/rules/{rule_id}"): Access("read"),
    ("PUT", "/rules/{rule_id}"): Access("admin"),
    ("DELETE", "/rules/{rule_id}"): Access("admin"),
    ("PUT", "/rules"): Access("admin"),
    # It looks and changes nothing, but over the history of all subjects.
    ("POST", "/rules/dry-run"): Access("read"),
    ("POST", "/billers/{billerId}/exclusions"): Access("train", "path"),
    ("GET", "/billers/{billerId}/exclusions"): Access("read", "path"),
    ("DELETE", "/billers/{billerId}/exclusions/{exclusionId}"): Access("train", "path"),
    ("POST", "/models/{name}/{version}/exclusions"): Access("train", "path"),
    ("GET", "/models/{name}/{version}/exclusions"): Access("read", "path"),
    ("DELETE", "/models/{name}/{version}/exclusions/{exclusionId}"): Access("train", "path"),
    # What they are not for is taken back, of whichever subject.
    ("PUT", "/calendars/{name}"): Access("train"),
    ("DELETE", "/calendars/{name}"): Access("train"),
    ("GET", "/alerts"): Access("read", "asked"),
    ("GET", "/alerts/history"): Access("read", "query"),
    ("POST", "/alerts/acknowledge"): Access("admin", "asked"),
    ("POST", "/alerts/feedback"): Access("admin", "asked"),
}


def caller() -> Caller:
    """Who asks for what is being answered; everybody where authentication is off."""
    return _CALLER.get()


Admit = Callable[[Scope], Awaitable[Caller]]


class GuardedRoute(APIRoute):
    """A route that lets in whom ACCESS says; the app's `state.admit` tells who asks, None where nobody is asked for."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in (self.methods or ()):
            # Nobody may do what does not exist: the framework says so, with the methods that there are.
            await super().handle(scope, receive, send)
            return
        if self.body_field is not None:
            receive = limited(receive, limit=_GIVEN_LIMIT_BYTES)
        admit: Admit | None = scope["app"].state.admit
        access = ACCESS.get((scope["method"], self.path_format), UNLISTED)
        if admit is None or access.scope is None:
            await super().handle(scope, receive, send)
            return
        asking = await admit(scope)
        _check(asking, access, scope)
        token = _CALLER.set(asking)
        try:
            if access.scope == "read":
                await super().handle(scope, receive, send)
            else:
                await self._audited(asking, scope, receive, send)
        finally:
            _CALLER.reset(token)

    async def _audited(self, asking: Caller, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await super().handle(scope, receive, watched)
        finally:
            log.info(
                "audit",
                route=f"{scope['method']} {self.path_format}",
                given=dict(scope.get("path_params", {})),
                status=status,
                key=asking.id,
                by=asking.name,
            )


def _check(asking: Caller, access: Access, scope: Scope) -> None:
    if access.scope is not None and not asking.may(access.scope):
        raise RefusedError(FORBIDDEN, f"this takes the scope {access.scope}, which the key does not have")
    if asking.reaches_all or access.names == "asked":
        return
    subjects = _named(access, scope)
    if not subjects:
        asking.must_reach_all()
    for subject in subjects:
        asking.must_reach(subject)


def _named(access: Access, scope: Scope) -> list[Subject]:
    """The subjects that the address names; RefusedError for one that cannot be one."""
    try:
        match access.names:
            case "path":
                return [_of_path(scope["path_params"])]
            case "query":
                query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
                return [Subject.parse(text) for name, text in query if name == "subject"]
            case _:
                return []
    except InvalidSubjectError as error:
        raise RefusedError(FORBIDDEN, str(error)) from error


def _of_path(given: Mapping[str, str]) -> Subject:
    if "billerId" in given:
        return Subject.biller(given["billerId"])
    return Subject.model(given["name"], given["version"])
