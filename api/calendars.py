"""`/calendars/{name}`: an iCalendar file whose events are excluded of many subjects, now and when it changes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from api import openapi
from api.access import GuardedRoute
from api.bodies import read_body
from api.connections import Connections, connections
from api.excluding import change_exclusions
from api.exclusion_schemas import SCHEDULED, CalendarScheduled
from api.moments import Moment
from api.problems import INVALID_REQUEST, MEDIA_REFUSED, SHOWN_ERRORS, Fault, Kind, RefusedError, kind_of
from detection.cohorts import size_of
from detection.errors import ConflictError
from detection.events import NEWEST_MS, OLDEST_MS
from detection.exclusions import Exclusion, Exclusions
from detection.hours import HOUR_MS, SECOND_MS, iso_hour
from detection.subject import Kind as SubjectKind
from detection.subject import Subject
from state.calendar_files import MAX_BYTES, read_calendar
from state.redis_pipeline import each_part

router = APIRouter(tags=["exclusions"], route_class=GuardedRoute)

Parts = Annotated[Connections, Depends(connections)]
Name = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="What the calendar is called here: sent again by this name it takes the place of what it said.",
        examples=["bank-holidays"],
    ),
]

_PAGE: Final = 500
_TAKEN: Final = frozenset({"text/calendar", "application/octet-stream", "", "application/x-www-form-urlencoded"})

_RESPONSES: Final = openapi.responses(CalendarScheduled, SCHEDULED, 413, 415, 422, 503)
_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {"text/calendar": {"schema": {"type": "string"}, "example": "BEGIN:VCALENDAR\r\n..."}},
    }
}


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which subjects a calendar is for."""

    subject: str
    kind: SubjectKind | None
    cohort: str | None

    def names(self, subject: Subject) -> bool:
        return self.kind in {None, subject.kind} and fnmatchcase(subject.id, self.subject)

    async def of(self, parts: Connections, page: Iterable[Subject]) -> set[Subject]:
        """Those of the page that are meant."""
        named = [subject for subject in page if self.names(subject)]
        if self.cohort is None:
            return set(named)
        metric, _, size = self.cohort.partition("/")
        answers = await parts.store.answers(named)
        return {
            subject
            for subject in named
            if (fields := answers.get(subject, {}).get(metric)) is not None
            and size_of(float(fields["expected_calls"])) == size
        }


@dataclass(slots=True)
class _Outcome:
    """What became of the subjects, so far."""

    subjects: int = 0
    changed: int = 0
    added: int = 0
    taken_back: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)

    def answer(self) -> dict[str, Any]:
        return {
            "subjects": self.subjects,
            "changed": self.changed,
            "added": self.added,
            "taken_back": self.taken_back,
            "failed": self.failed[:SHOWN_ERRORS],
            "failed_total": len(self.failed),
        }

    def fail(self, subject: Subject, kind: Kind, detail: str) -> None:
        self.failed.append({"subject": str(subject), "type": f"urn:tidemark:problem:{kind.name}", "detail": detail})


@router.put(
    "/calendars/{name}",
    summary="Exclude what a calendar says",
    response_class=Response,
    responses=_RESPONSES,
    openapi_extra=_BODY,
)
async def put_calendar(  # noqa: PLR0913, PLR0917 (one parameter a query parameter)
    request: Request,
    parts: Parts,
    name: Name,
    by: Annotated[str, Query(min_length=1, max_length=128, description="Who says so.", examples=["kim"])],
    subject: Annotated[str, Query(description="Id, `name/version`, or a glob of it.", max_length=256)] = "*",
    kind: Annotated[SubjectKind | None, Query(description="Only billers, or only models.")] = None,
    cohort: Annotated[
        str | None,
        Query(description="Only subjects whose series is of this cohort now: `error-rate/10-100`.", max_length=80),
    ] = None,
    start: Annotated[
        Moment | None,
        Query(alias="from", description="Events that ended before are left alone; the current hour when absent."),
    ] = None,
    days: Annotated[int, Query(ge=1, le=800, description="How far ahead events are looked for.")] = 400,
    zone: Annotated[
        str | None,
        Query(description="Time zone of whole days, where the calendar names none; TIDEMARK_TIME_ZONE when absent."),
    ] = None,
) -> Response:
    """Its events, recurring ones included, are exclusions of the subjects that are chosen, and of no others.

    Sent again it changes only what has changed: events that are gone are taken back, and so are all of subjects that
    are no longer chosen. What lies before `from` stays. Subjects that could not be changed are listed with their
    problem; sending the same again tries them again.
    """
    said = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if said not in _TAKEN:
        raise RefusedError(MEDIA_REFUSED, f"Content-Type {said[:80]!r} is not taken here; taken is text/calendar")
    data = await read_body(request, limit=MAX_BYTES)
    now_ms = parts.wall_ms()
    clock_ms = parts.begun_ms(await parts.clock_ms())
    from_ms = clock_ms if start is None else int(start.timestamp()) * SECOND_MS
    if not OLDEST_MS <= from_ms <= NEWEST_MS:
        reason = "is before 2000 or after 2099"
        raise RefusedError(INVALID_REQUEST, f"from: {reason}", [Fault("from", reason)])
    from_hour = from_ms // HOUR_MS
    before_hour = from_hour + days * 24
    found = await asyncio.to_thread(
        read_calendar, data, from_hour=from_hour, before_hour=before_hour, zone=zone or parts.policy.zone
    )
    wanted = [
        Exclusion(
            from_hour=one.from_hour,
            before_hour=one.before_hour,
            reason=one.summary or name,
            by=by,
            at_ms=now_ms,
            calendar=name,
            uid=one.uid,
        )
        for one in found
    ]

    def wish(known: Exclusions, *, is_chosen: bool) -> Exclusions:
        return known.scheduled(name, wanted if is_chosen else (), from_hour=from_hour)

    outcome = await _schedule(parts, _Choice(subject, kind, cohort), wish)
    span = {"from": iso_hour(from_hour), "to": iso_hour(before_hour)}
    return _answer({"calendar": name, **span, "events": len(wanted), **outcome.answer()})


@router.delete(
    "/calendars/{name}",
    summary="Take back what a calendar has excluded",
    response_class=Response,
    responses=openapi.responses(CalendarScheduled, SCHEDULED | {"events": 0, "added": 0, "taken_back": 57}, 422, 503),
)
async def delete_calendar(parts: Parts, name: Name) -> Response:
    """Of all subjects, the past included: what was excluded by it is learned after all."""

    def wish(known: Exclusions, *, is_chosen: bool) -> Exclusions:  # noqa: ARG001  # nobody is chosen any more
        return known.scheduled(name, (), from_hour=0)

    outcome = await _schedule(parts, _Choice("*", None, None), wish)
    return _answer({"calendar": name, "from": None, "to": None, "events": 0, **outcome.answer()})


async def _schedule(parts: Connections, choice: _Choice, wish: Callable[..., Exclusions]) -> _Outcome:
    """Let every subject have what is wished of it; only those that have it otherwise are written."""
    outcome = _Outcome()
    chosen: set[Subject] = set()

    async def change(subject: Subject) -> None:
        is_chosen = subject in chosen
        try:
            changed = await change_exclusions(parts, subject, lambda known: wish(known, is_chosen=is_chosen))
        except RefusedError as error:
            outcome.fail(subject, error.kind, error.detail)
            return
        except ConflictError as error:
            outcome.fail(subject, kind_of(error), str(error))
            return
        before, after = ({one.id for one in some} for some in (changed.before, changed.after))
        outcome.changed += before != after
        outcome.added += len(after - before)
        outcome.taken_back += len(before - after)

    async for known in _pages(parts):
        chosen = await choice.of(parts, known)
        outcome.subjects += len(chosen)
        due = [one for one, excluded in known.items() if wish(excluded, is_chosen=one in chosen) != excluded]
        await each_part(due, change)
    return outcome


async def _pages(parts: Connections) -> AsyncIterator[Mapping[Subject, Exclusions]]:
    """All subjects and what is excluded of them, page by page."""
    after = ""
    while page := await parts.store.subjects(after=after, limit=_PAGE):
        states = await parts.store.load_counts(page)
        yield {subject: state.exclusions for subject, state in states.items()}
        after = str(page[-1])


def _answer(answer: object) -> Response:
    return Response(orjson.dumps(answer), media_type="application/json")
