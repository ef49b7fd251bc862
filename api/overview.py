"""`GET /overview`: where every subject stands, many at a time, for a page that people look at.

Of each subject only the fields that are shown are read, a thousand subjects in a few round trips, and what was made is
kept for a moment, so that many pages cost as much as one.
"""

import asyncio
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response

from api import cursors, openapi
from api.access import GuardedRoute
from api.answers import Answer, alert, number_of, status_at
from api.borrowing import pooled_outlook
from api.connections import Connections, connections
from api.kept import Kept
from api.overview_schemas import OVERVIEW, Overview
from api.problems import INVALID_REQUEST, Fault, RefusedError
from detection.catalogue import Metric, metric_of
from detection.cohorts import Cohorts, Outlook
from detection.errors import InvalidSubjectError
from detection.hours import iso
from detection.rules.alert import Alert
from detection.subject import Subject
from state.survey import Lately, Survey

router = APIRouter(tags=["overview"], route_class=GuardedRoute)

Parts = Annotated[Connections, Depends(connections)]
Page = tuple[bytes, str]

KEPT_SECONDS: Final = 3.0

_MOST: Final = 1000
# Whoever asks for a prediction meanwhile waits no longer than these take.
_MADE_AT_ONCE: Final = 50
_KINDS: Final = ("biller:", "model:")
_WORST_FIRST: Final = ("stale", "prior", "learning", "ready")
_SEVERITIES: Final = ("critical", "warning", "info")


@router.get(
    "/overview",
    summary="Where every subject stands",
    response_class=Response,
    responses=openapi.responses(Overview, OVERVIEW, 422, 503)
    | {304: {"description": "The page is the one whose ETag was sent as If-None-Match."}},
)
async def overview(
    request: Request,
    parts: Parts,
    prefix: Annotated[
        str,
        Query(description="What the id begins with, or the whole text: `B1`, `biller:B1`, `model:Mi`.", max_length=265),
    ] = "",
    limit: Annotated[int, Query(ge=1, le=_MOST, description="Most subjects of one page.")] = 250,
    cursor: Annotated[str, Query(description="`next_cursor` of the page before.", max_length=600)] = "",
    if_none_match: Annotated[str, Header(description="ETag of the page that is known.")] = "",
) -> Response:
    """Status, open alert and distance to the threshold of each, as they were a few seconds ago at most."""
    after = _read_cursor(cursor)
    kept: Kept[Page] = request.app.state.overviews

    async def make() -> Page:
        return await _page(parts, prefix=prefix, after=after, limit=limit)

    body, etag = await kept.get((prefix, after, limit), make)
    # Weak: the same page may be sent compressed or not.
    headers = {"ETag": f'W/"{etag}"', "Cache-Control": "no-cache"}
    if f'"{etag}"' in (one.strip().removeprefix("W/") for one in if_none_match.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


async def _page(parts: Connections, *, prefix: str, after: str, limit: int) -> Page:
    """The document, and a short hash of it."""
    prefixes = [prefix] if prefix.startswith(_KINDS) else [f"{kind}{prefix}" for kind in _KINDS]
    subjects: list[Subject] = []
    for one in prefixes:
        # Those of the kind before have all been given.
        if len(subjects) <= limit and (after < one or after.startswith(one)):
            subjects += await parts.store.subjects(after=after, limit=limit + 1 - len(subjects), prefix=one)
    total = sum([await parts.store.count_subjects(prefix=one) for one in prefixes])
    clock_ms = await parts.clock_ms()
    cohorts = await parts.cohorts()
    shown = subjects[:limit]
    surveys = await parts.store.surveys(shown)
    items: list[Answer] = []
    for subject, survey in surveys.items():
        items.append(_subject(subject, survey, clock_ms=clock_ms, cohorts=cohorts))
        if len(items) % _MADE_AT_ONCE == 0:
            await asyncio.sleep(0)
    items.sort(key=_text)
    body = orjson.dumps(
        {
            "subjects": items,
            "total_known": total,
            "next_cursor": cursors.write_cursor(str(shown[-1])) if len(subjects) > limit else None,
        }
    )
    return body, blake2b(body, digest_size=12).hexdigest()


def _text(item: Answer) -> str:
    text: str = item["subject"]
    return text


def _subject(subject: Subject, survey: Survey, *, clock_ms: int, cohorts: Cohorts) -> Answer:
    series = [
        _series(slug, survey.series[slug], survey.lately, clock_ms=clock_ms, cohorts=cohorts)
        for slug in sorted(survey.series)
    ]
    alerts = [one for one in survey.alerts.values() if one.state == "open"]
    return {
        "subject": str(subject),
        # What has no answer yet is known by what is assumed of its metrics.
        "status": min((one["status"] for one in series), key=_WORST_FIRST.index, default="prior"),
        "alert": _alert(alerts),
        "alerts": len(alerts),
        "nearest": _nearest(series),
        "series": series,
    }


def _series(slug: str, fields: Mapping[str, str], lately: Lately | None, *, clock_ms: int, cohorts: Cohorts) -> Answer:
    metric = metric_of(slug)
    status = status_at(fields, clock_ms)
    found = alert(metric, fields, lately=lately, clock_ms=clock_ms, status=status)
    evidence = found["evidence"] if found["is_alert"] else None
    outlook = None if fields["status"] == "ready" else _borrowed(metric, fields, cohorts)
    return {
        "metric": slug,
        "unit": fields["unit"],
        "operator": fields["operator"],
        "status": status,
        "estimate": number_of(fields["estimate"]) if outlook is None else outlook.estimate,
        "lower": number_of(fields["lower"]) if outlook is None else outlook.lower,
        "upper": number_of(fields["upper"]) if outlook is None else outlook.upper,
        "threshold": number_of(fields["threshold"]) if outlook is None else outlook.threshold,
        "value": number_of(fields["last_value"]) if evidence is None else evidence["value"],
        "calls": _whole(fields["last_count"]) if evidence is None else evidence["calls"],
        "score": number_of(fields["last_score"]) if evidence is None else evidence["score"],
        "is_alert": found["is_alert"],
    }


def _borrowed(metric: Metric, fields: Mapping[str, str], cohorts: Cohorts) -> Outlook | None:
    pooled = pooled_outlook(metric, fields, cohorts.find(metric.slug, float(fields["expected_calls"])))
    return None if pooled is None else pooled.outlook


def _nearest(series: Sequence[Answer]) -> Answer | None:
    """Of the series that can alert, where there are any: what a young one says of its first hours is noise."""
    scored = [one for one in series if one["score"] is not None]
    judged = [one for one in scored if one["status"] == "ready"] or scored
    if not judged:
        return None
    nearest = max(judged, key=_score)
    return {"metric": nearest["metric"], "score": nearest["score"]}


def _score(item: Answer) -> float:
    score: float = item["score"]
    return score


def _alert(alerts: Sequence[Alert]) -> Answer | None:
    if not alerts:
        return None
    worst = min(alerts, key=lambda one: (_SEVERITIES.index(one.severity), -(one.opened_ms or 0), one.id))
    return {
        "id": worst.id,
        "state": worst.state,
        "severity": worst.severity,
        "metric": worst.slug,
        "rule": worst.rule,
        "since": iso(worst.since_ms),
        "acknowledged_by": worst.acknowledged_by or None,
    }


def _whole(text: str) -> int | None:
    return int(text) if text else None


def _read_cursor(cursor: str) -> str:
    if not cursor:
        return ""
    try:
        return str(Subject.parse(cursors.read_cursor(cursor)))
    except (ValueError, InvalidSubjectError) as error:
        reason = "is not one that a page answered with"
        raise RefusedError(INVALID_REQUEST, f"cursor: {reason}", [Fault("cursor", reason)]) from error
