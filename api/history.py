"""`GET /history...`: what was observed of a series, hour by hour, beside what had been published of it."""

from datetime import datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Response

from api import cursors, openapi
from api.access import GuardedRoute
from api.connections import Connections, connections
from api.history_schemas import HISTORY, SPARKLINES, HistoryPage, SparklinesAnswer
from api.moments import Moment
from api.problems import INVALID_REQUEST, UNKNOWN_SUBJECT, Fault, RefusedError
from api.subjects import series_of, slug_of
from detection.events import NEWEST_MS, OLDEST_MS
from detection.exclusions import NOTHING_EXCLUDED, Exclusions
from detection.hours import HOUR_MS, SECOND_MS, iso
from detection.rows import is_plausible_ms
from detection.subject import Subject
from state.judged_hours import Point

router = APIRouter(tags=["history"], route_class=GuardedRoute)

Parts = Annotated[Connections, Depends(connections)]
MetricQuery = Annotated[str, Query(description="Number, slug or name of a metric.", max_length=80)]

_MOST_POINTS = 10_000
_MOST_SERIES = 100
_MOST_HOURS = 14 * 24


@router.get(
    "/history",
    summary="The hours of a series",
    response_class=Response,
    responses=openapi.responses(HistoryPage, HISTORY, 404, 422, 503),
)
async def read_history(
    parts: Parts,
    subject: Annotated[str, Query(description="`biller:B1` or `model:NAME/VERSION`.", max_length=300)],
    metric: MetricQuery,
    start: Annotated[Moment | None, Query(alias="from", description="Hours that begin then or later.")] = None,
    end: Annotated[Moment | None, Query(alias="to", description="Hours that begin before.")] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST_POINTS, description="Most hours of one page.")] = 500,
    cursor: Annotated[str, Query(description="`next_cursor` of the page before.", max_length=100)] = "",
) -> Response:
    """Hours as PostgreSQL has them, the oldest first: each is there once it is learned and nothing can change it.

    With a `from`, the oldest hours from then on, and `next_cursor` leads to newer ones. Without, the newest `limit`
    hours before `to`, and `next_cursor` leads to older ones.
    """
    whose, one = series_of(subject, metric)
    from_ms, to_ms = _ms(start), _ms(end)
    at_ms = _read_cursor(cursor)
    is_newest = from_ms is None
    if at_ms is not None:
        from_ms, to_ms = (None, at_ms) if is_newest else (at_ms, to_ms)
    points = await parts.judged_hours.points(
        whose, one.slug, from_ms=from_ms, to_ms=to_ms, limit=limit + 1, is_newest=is_newest
    )
    next_cursor = None
    if len(points) > limit:
        # The page before ends where this one begins, the page behind begins with the hour that was too many.
        points = points[1:] if is_newest else points[:limit]
        next_hour = points[0].hour if is_newest else points[-1].hour + 1
        next_cursor = cursors.write_cursor(str(next_hour))
    excluded = await _exclusions(parts, whose, is_known=bool(points))
    body = {
        "subject": str(whose),
        "metric": one.slug,
        "unit": one.unit,
        "operator": ">" if one.direction == "above" else "<",
        "points": [_shown(point, is_excluded=excluded.holds(one.slug, point.hour)) for point in points],
        "next_cursor": next_cursor,
    }
    return Response(orjson.dumps(body), media_type="application/json")


@router.get(
    "/history/sparklines",
    summary="The last hours of some series",
    response_class=Response,
    responses=openapi.responses(SparklinesAnswer, SPARKLINES, 404, 422, 503),
)
async def read_sparklines(
    parts: Parts,
    subject: Annotated[
        list[Annotated[str, Query(max_length=300)]],
        Query(description="`biller:B1` or `model:NAME/VERSION`, several times.", min_length=1, max_length=_MOST_SERIES),
    ],
    metric: MetricQuery,
    hours: Annotated[int, Query(ge=1, le=_MOST_HOURS, description="So many hours of each.")] = 48,
) -> Response:
    """Side by side, up to the newest hour that any of them has; a subject that nothing is known of has only nulls."""
    subjects = [Subject.parse(text) for text in subject]
    found = await parts.judged_hours.sparklines(subjects, slug_of(metric), hours=hours)
    body = {
        "from": None if found is None else iso(found.start * HOUR_MS),
        "hours": hours,
        "series": {str(one): [None] * hours if found is None else found.values[one] for one in subjects},
    }
    return Response(orjson.dumps(body), media_type="application/json")


async def _exclusions(parts: Connections, subject: Subject, *, is_known: bool) -> Exclusions:
    """Those of the subject; RefusedError where nothing of it was ever seen."""
    state = (await parts.store.load_counts([subject])).get(subject)
    if state is None and not is_known:
        raise RefusedError(UNKNOWN_SUBJECT, f"{subject}: nothing of it was ever seen")
    return NOTHING_EXCLUDED if state is None else state.exclusions


def _shown(point: Point, *, is_excluded: bool) -> dict[str, Any]:
    return {
        "window_start": iso(point.hour * HOUR_MS),
        "value": point.value,
        "count": point.count,
        "estimate": point.estimate,
        "lower": point.lower,
        "upper": point.upper,
        "threshold": point.threshold,
        "score": point.score,
        "exceeded": point.is_exceeded,
        "credible": point.is_credible,
        "origin": point.origin,
        "excluded": is_excluded,
    }


def _ms(moment: datetime | None) -> int | None:
    """No event is older or younger than these bounds, which every calendar can write out."""
    return None if moment is None else min(max(round(moment.timestamp() * SECOND_MS), OLDEST_MS), NEWEST_MS)


def _read_cursor(cursor: str) -> int | None:
    if not cursor:
        return None
    try:
        at_ms = int(cursors.read_cursor(cursor)) * HOUR_MS
        if not is_plausible_ms(at_ms):
            raise ValueError(cursor)  # noqa: TRY301  # it is refused as any other that cannot be read
    except ValueError as error:
        reason = "is not one that a page answered with"
        raise RefusedError(INVALID_REQUEST, f"cursor: {reason}", [Fault("cursor", reason)]) from error
    return at_ms
