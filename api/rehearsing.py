"""`POST /rules/dry-run`: which alerts rules would have opened over the hours that the history knows."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from api import openapi, rule_schemas
from api.access import GuardedRoute
from api.connections import Connections, connections
from api.moments import Moment
from api.problems import INVALID_REQUEST, Fault, RefusedError
from api.rule_bodies import read_any_body
from detection.catalogue import Metric, metric_of
from detection.hours import HOUR_MS, iso, iso_hour
from detection.rows import Observation
from detection.rules.alert import Alert
from detection.rules.book import RuleBook
from detection.rules.glob import literal_beginning
from detection.rules.rehearsal import rehearse
from detection.rules.rule import CALLS, Rule
from detection.subject import Kind, Subject

router = APIRouter(tags=["rules"], route_class=GuardedRoute)

Parts = Annotated[Connections, Depends(connections)]

_SUBJECTS_AT_ONCE: Final = 250
_MOST_SERIES: Final = 5000
_SHOWN_ALERTS: Final = 1000
_WEEK_HOURS: Final = 7 * 24
# Learned boundaries take every hour of a series to be forecast and learned again, 0.3 ms each.
_SECONDS: Final = 20.0
_KINDS: Final[tuple[Kind, ...]] = ("biller", "model")

_OF_HOURS: Final = (
    "Rules were held against hours: live, a fixed boundary is held against each event of a model, and a learned one "
    "against a biller's minutes too, so alerts open earlier, and more of them."
)


@dataclass(slots=True)
class _Tally:
    """What was found so far; `first_hour` and `last_hour` are those of all rows that count."""

    n_series: int = 0
    n_hours: int = 0
    first_hour: int | None = None
    last_hour: int | None = None
    alerts: list[Alert] = field(default_factory=list)
    series_of: Counter[str] = field(default_factory=Counter)
    is_complete: bool = True


@router.post(
    "/rules/dry-run",
    summary="Try rules over the history",
    response_class=Response,
    responses=openapi.responses(rule_schemas.DryRun, rule_schemas.DRY_RUN, 413, 415, 422, 503),
    openapi_extra=rule_schemas.book_body(),
)
async def dry_run(
    request: Request,
    parts: Parts,
    from_: Annotated[
        Moment | None, Query(alias="from", description="RFC 3339; from the first hour on when absent.")
    ] = None,
    to: Annotated[Moment | None, Query(description="RFC 3339; to the last hour when absent.")] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_SERIES, description="Most series that are looked at.")] = 500,
) -> Response:
    """The rules of the body only, a whole book or a single one; nothing is stored, nobody is told.

    A learned boundary is learned again from the first hour that is known, as it was live; alerts count from `from` on.
    After twenty seconds the answer is what was found until then, and `is_complete` is false.
    """
    if from_ is not None and to is not None and from_ >= to:
        fault = Fault("to", "it is not after `from`")
        raise RefusedError(INVALID_REQUEST, f"{fault.field}: {fault.reason}", [fault])
    draft = await read_any_body(request)
    rules = [rule for rule in draft.rules if rule.is_enabled]
    from_hour = 0 if from_ is None else _hour(from_)
    tally = await _rehearsed(parts, rules, from_hour, None if to is None else _hour(to), limit)
    return Response(orjson.dumps(_described(rules, tally)), media_type="application/json")


async def _rehearsed(
    parts: Connections, rules: Sequence[Rule], from_hour: int, to_hour: int | None, limit: int
) -> _Tally:
    tally = _Tally()
    book = RuleBook(rules)
    until = time.monotonic() + _SECONDS
    async for subject, metric in _series(parts, book):
        if tally.n_series >= limit or time.monotonic() > until:
            tally.is_complete = False
            break
        found = await parts.history.read(subject, metric.slug)
        rows = [Observation(row.hour, row.value, row.count) for row in found if to_hour is None or row.hour < to_hour]
        meant = book.for_series(subject, metric.slug)
        rehearsed = await asyncio.to_thread(rehearse, meant, subject, metric, rows, parts.policy, from_hour=from_hour)
        tally.n_series += 1
        tally.n_hours += rehearsed.hours
        tally.alerts += rehearsed.alerts
        tally.series_of.update(rule.id for rule in meant)
        hours = [row.hour for row in rows if row.hour >= from_hour]
        if hours:
            tally.first_hour = min(hours[0], hours[0] if tally.first_hour is None else tally.first_hour)
            tally.last_hour = max(hours[-1], hours[-1] if tally.last_hour is None else tally.last_hour)
    return tally


async def _series(parts: Connections, book: RuleBook) -> AsyncIterator[tuple[Subject, Metric]]:
    """The series that any rule means, in the order of their texts; what begins like none of them is not asked for."""
    for kind in _KINDS:
        beginnings = {literal_beginning(rule.subject) for rule in book.rules if rule.kind in {None, kind}}
        for beginning in sorted(one for one in beginnings if not _begins_like_another(one, beginnings)):
            after, prefix = "", f"{kind}:{beginning}"
            while subjects := await parts.store.subjects(after=after, limit=_SUBJECTS_AT_ONCE, prefix=prefix):
                after = str(subjects[-1])
                meant = [subject for subject in subjects if book.for_subject(subject)]
                answers = await parts.store.answers(meant) if meant else {}
                for subject in meant:
                    for slug in sorted(answers.get(subject, ())):
                        if book.for_series(subject, slug):
                            yield subject, metric_of(slug)


def _begins_like_another(beginning: str, others: set[str]) -> bool:
    return any(other != beginning and beginning.startswith(other) for other in others)


def _described(rules: Sequence[Rule], tally: _Tally) -> dict[str, Any]:
    hours = 0 if tally.first_hour is None or tally.last_hour is None else tally.last_hour - tally.first_hour + 1
    alerts = sorted(tally.alerts, key=lambda one: (one.opened_ms or 0, one.id))
    return {
        "from": None if tally.first_hour is None else iso_hour(tally.first_hour),
        "to": None if tally.last_hour is None else iso_hour(tally.last_hour + 1),
        "series": tally.n_series,
        "hours": tally.n_hours,
        "is_complete": tally.is_complete,
        "rules": [_of_rule(rule, [one for one in alerts if one.rule == rule.id], tally, hours) for rule in rules],
        "alerts": [_alert(one) for one in alerts[:_SHOWN_ALERTS]],
        "alerts_total": len(alerts),
        "notes": _notes(rules, tally),
    }


def _of_rule(rule: Rule, alerts: Sequence[Alert], tally: _Tally, hours: int) -> dict[str, Any]:
    weeks = Counter(_week(one.opened_ms or 0) for one in alerts)
    series = Counter(f"{one.subject}:{one.slug}" for one in alerts)
    return {
        "id": rule.id,
        "series": tally.series_of[rule.id],
        "alerts": len(alerts),
        "alerts_per_week": round(len(alerts) * _WEEK_HOURS / max(hours, _WEEK_HOURS), 3),
        "weeks": dict(sorted(weeks.items())),
        "by_series": dict(series.most_common(_SHOWN_ALERTS)),
    }


def _alert(one: Alert) -> dict[str, Any]:
    return {
        "rule": one.rule,
        "subject": str(one.subject),
        "metric": one.slug,
        "severity": one.severity,
        "opened": iso(one.opened_ms or 0),
        "resolved": None if one.resolved_ms is None else iso(one.resolved_ms),
        "value": one.value,
        "boundary": one.boundary,
        "worst": one.worst,
        "line": one.line,
    }


def _notes(rules: Sequence[Rule], tally: _Tally) -> list[str]:
    notes = [_OF_HOURS]
    with_labels = [rule.id for rule in rules if rule.labels]
    if with_labels:
        notes.append(f"Hours have no labels, so those of {', '.join(with_labels)} were not asked for.")
    silent = [rule.id for rule in rules if rule.metric == CALLS]
    if silent:
        notes.append(f"How many calls there were is judged by minutes only: {', '.join(silent)} saw nothing.")
    if not tally.is_complete:
        notes.append(f"Only {tally.n_series:,} series were looked at: ask for fewer of them, or for fewer rules.")
    return notes


def _week(ms: int) -> str:
    year, week, _ = datetime.fromtimestamp(ms / 1000, UTC).isocalendar()
    return f"{year}-W{week:02d}"


def _hour(moment: datetime) -> int:
    return int(moment.timestamp() * 1000) // HOUR_MS
