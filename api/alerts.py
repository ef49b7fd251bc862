"""`GET /alerts` and what people have to say of an alert: that they take it on, and whether it was worth telling."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Body, Depends, Query, Response

from api import cursors, openapi
from api.access import GuardedRoute, caller
from api.connections import Connections, connections
from api.moments import Moment
from api.problems import INVALID_REQUEST, UNKNOWN_ALERT, Fault, RefusedError
from api.schemas import Acknowledgement, AlertHistoryPage, AlertList, Feedback, OpenAlert
from api.subjects import TEXT_RULE
from detection.errors import ConflictError, InvalidSubjectError
from detection.hours import iso
from detection.rules.alert import Alert, Transition, acknowledge, bar, give_opinion, key_of
from detection.rules.rule import Severity
from detection.subject import Kind, Subject
from detection.subject_state import SubjectState
from state.alert_codec import alert_fields
from state.alert_history import AlertFilter, AlertRow, Position

router = APIRouter(tags=["alerts"], route_class=GuardedRoute)

Parts = Annotated[Connections, Depends(connections)]

_ATTEMPTS = 8
_PAUSE_SECONDS = 0.05
_TAKEN_ON = {"id": openapi.ALERT["id"], "by": "kim"}
_OPINION = {"id": openapi.ALERT["id"], "opinion": "false"}
_SEVERITIES = ("critical", "warning", "info")
# What the next points need, and nobody else.
_WORKINGS = frozenset({"recent", "n_clear", "told", "again", "last_hour", "before"})

_RESPONSES = openapi.responses(OpenAlert, openapi.ALERT, 404, 409, 413, 422, 503)


@router.get(
    "/alerts",
    summary="Open alerts",
    response_class=Response,
    responses=openapi.responses(AlertList, {"alerts": [openapi.ALERT], "total": 1}, 422, 503),
)
async def list_alerts(
    parts: Parts,
    kind: Annotated[Kind | None, Query(description="Only billers, or only models.")] = None,
    subject: Annotated[str, Query(description="Id, `name/version`, or a glob of it.", max_length=256)] = "*",
    metric: Annotated[str, Query(description="Slug of a metric, or a glob of it.", max_length=80)] = "*",
    rule: Annotated[str, Query(description="Id of a rule, or a glob of it.", max_length=80)] = "*",
    severity: Annotated[Severity | None, Query(description="Only alerts of this severity.")] = None,
    limit: Annotated[int, Query(ge=1, le=10_000, description="Most alerts of one answer.")] = 1000,
) -> Response:
    """Those that are open now, the most severe first, and among them the newest. `total` counts all that are meant."""
    slug = metric.lower().replace("_", "-")
    asking = caller()
    wanted = [
        one
        for one in await parts.open_alerts()
        if kind in {None, one.subject.kind}
        and severity in {None, one.severity}
        and asking.reaches(one.subject)
        and fnmatchcase(one.subject.id, subject)
        and fnmatchcase(one.slug, slug)
        and fnmatchcase(one.rule, rule)
    ]
    wanted.sort(key=lambda one: (_SEVERITIES.index(one.severity), -(one.opened_ms or 0), one.id))
    body = {"alerts": [listed(one) for one in wanted[:limit]], "total": len(wanted)}
    return Response(orjson.dumps(body), media_type="application/json")


@router.get(
    "/alerts/history",
    summary="Alerts, over time",
    response_class=Response,
    responses=openapi.responses(AlertHistoryPage, {"alerts": [openapi.PAST_ALERT], "next_cursor": None}, 422, 503),
)
async def list_history(  # noqa: PLR0913, PLR0917 (one parameter a query parameter)
    parts: Parts,
    subject: Annotated[str | None, Query(description="`biller:B1` or `model:NAME/VERSION`.", max_length=300)] = None,
    metric: Annotated[str | None, Query(description="Slug of a metric.", max_length=80, pattern=TEXT_RULE)] = None,
    rule: Annotated[str | None, Query(description="Id of a rule.", max_length=80, pattern=TEXT_RULE)] = None,
    state: Annotated[Literal["open", "resolved"] | None, Query(description="Only those that are this by now.")] = None,
    start: Annotated[Moment | None, Query(alias="from", description="Opened then or later.")] = None,
    end: Annotated[Moment | None, Query(alias="to", description="Opened before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most alerts of one page.")] = 100,
    cursor: Annotated[str, Query(description="`next_cursor` of the page before.", max_length=1000)] = "",
) -> Response:
    """All that were opened, the newest first, as PostgreSQL has them: within a few seconds, and as long as is kept."""
    wanted = AlertFilter(
        subject=None if subject is None else str(Subject.parse(subject)),
        metric=None if metric is None else metric.lower().replace("_", "-"),
        rule=rule,
        state=state,
        start=start,
        end=end,
    )
    rows = await parts.alert_history.alerts(wanted, after=_read_cursor(cursor), limit=limit)
    next_cursor = _write_cursor(rows[-1]) if len(rows) == limit else None
    body = {"alerts": [_past(row) for row in rows], "next_cursor": next_cursor}
    return Response(orjson.dumps(body), media_type="application/json")


@router.post("/alerts/acknowledge", summary="Take an alert on", response_class=Response, responses=_RESPONSES)
async def acknowledge_alert(
    parts: Parts, given: Annotated[Acknowledgement, Body(openapi_examples={"kim": {"value": _TAKEN_ON}})]
) -> Response:
    """Nobody is told of it again unless it gets worse. The same again changes nothing."""

    def change(state: SubjectState, alert: Alert) -> Alert:
        if alert.acknowledged_by == given.by:
            return alert
        taken, transition = acknowledge(alert, by=given.by, at_ms=parts.wall_ms())
        _put(state, taken, transition)
        return taken

    return await _change(parts, given.id, change)


@router.post("/alerts/feedback", summary="Say whether an alert was worth telling", responses=_RESPONSES)
async def give_feedback(
    parts: Parts, given: Annotated[Feedback, Body(openapi_examples={"false": {"value": _OPINION}})]
) -> Response:
    """A false alert raises the bar for the learned boundary of its series by a quarter, a true one takes that back.

    It is raised to three times as far as was learned at most. A fixed boundary stays where it was put. The same opinion
    again changes nothing.
    """

    def change(state: SubjectState, alert: Alert) -> Alert:
        if alert.opinion == given.opinion:
            return alert
        weigh = {"false": 1, "true": -1, None: 0}
        more_false = state.opinions.get(alert.slug, 0) + weigh[given.opinion] - weigh[alert.opinion]
        state.opinions = {**state.opinions, alert.slug: max(more_false, 0)}
        judged, transition = give_opinion(alert, given.opinion, at_ms=parts.wall_ms())
        _put(state, judged, transition)
        return judged

    return await _change(parts, given.id, change)


def listed(alert: Alert, *, false_alerts: int | None = None) -> dict[str, Any]:
    """An alert as it is answered."""
    fields = alert_fields(alert)
    answer = {
        "id": fields.pop("id"),
        "state": fields.pop("state"),
        "subject": str(alert.subject),
        "metric": alert.slug,
        "rule": alert.rule,
        "line": alert.line,
        **{name: fields[name] for name in fields if name not in _WORKINGS},
    }
    if false_alerts is not None:
        answer |= {"false_alerts": false_alerts, "bar": bar(false_alerts)}
    return answer


async def _change(parts: Connections, alert_id: str, change: Callable[[SubjectState, Alert], Alert]) -> Response:
    subject, key = _parse(alert_id)
    caller().must_reach(subject)
    for attempt in range(_ATTEMPTS):
        state = (await parts.store.load_counts([subject])).get(subject)
        alert = None if state is None else state.alerts.get(key)
        if state is None or alert is None or alert.id != alert_id or alert.state == "pending":
            raise RefusedError(
                UNKNOWN_ALERT,
                f"{alert_id}: no such alert is open, nor was it in the last hours; GET /alerts lists them",
            )
        now = change(state, alert)
        if not state.transitions:
            return _answer(state, now)
        # So that a worker finds what is to be told of it, whatever becomes of us; again, if it has looked meanwhile.
        await parts.hints.hint([subject], now_ms=parts.wall_ms())
        if not await parts.store.save([state]):
            await parts.hints.hint([subject], now_ms=parts.wall_ms())
            return _answer(state, now)
        await asyncio.sleep(_PAUSE_SECONDS * attempt * random.random())  # noqa: S311 (no secret)
    raise ConflictError(f"{subject}: another writer was faster {_ATTEMPTS} times in a row")


def _answer(state: SubjectState, alert: Alert) -> Response:
    body = listed(alert, false_alerts=state.opinions.get(alert.slug, 0))
    return Response(orjson.dumps(body), media_type="application/json")


def _put(state: SubjectState, alert: Alert, transition: Transition) -> None:
    state.alerts = {**state.alerts, alert.key: alert}
    state.transitions.append(transition)


def _parse(alert_id: str) -> tuple[Subject, str]:
    """Whose alert it is, and its key: `biller:B1/error-rate/biller-failures/2026-03-01T10:00:00Z`."""
    try:
        kind, colon, rest = alert_id.partition(":")
        parts = rest.split("/")
        n_name = {"biller": 1, "model": 2}[kind] if colon else 0
        slug, rule, _ = parts[n_name : n_name + 3]
        return Subject.parse(f"{kind}:{'/'.join(parts[:n_name])}"), key_of(rule, slug)
    except (KeyError, ValueError, InvalidSubjectError) as error:
        reason = "is none that GET /alerts has answered"
        raise RefusedError(INVALID_REQUEST, f"id: {reason}", [Fault("id", reason)]) from error


def _past(row: AlertRow) -> dict[str, Any]:
    answer = asdict(row)
    for name in ("opened_at", "resolved_at", "acknowledged_at"):
        moment = answer.pop(name)
        answer[name.removesuffix("_at")] = None if moment is None else iso(round(moment.timestamp() * 1000))
    return answer


def _write_cursor(row: AlertRow) -> str:
    return cursors.write_cursor(f"{row.opened_at.isoformat()} {row.id}")


def _read_cursor(cursor: str) -> Position | None:
    if not cursor:
        return None
    try:
        text = cursors.read_cursor(cursor)
        moment, _, alert_id = text.partition(" ")
        opened_at = datetime.fromisoformat(moment)
        if opened_at.tzinfo is None or "\0" in alert_id:
            raise ValueError(text)  # noqa: TRY301  # it is refused as any other that cannot be read
    except ValueError as error:
        reason = "is not one that a page answered with"
        raise RefusedError(INVALID_REQUEST, f"cursor: {reason}", [Fault("cursor", reason)]) from error
    return opened_at, alert_id
