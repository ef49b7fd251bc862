"""`GET /coverage...`: how often what thresholds claimed held, of each series and of each cohort."""

from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Depends, Query, Response

from api import cursors, openapi
from api.access import GuardedRoute
from api.connections import Connections, connections
from api.history_schemas import COHORT_COVERAGE, COVERAGE, CohortCoverageList, CoveragePage
from api.problems import INVALID_REQUEST, UNKNOWN_SUBJECT, Fault, RefusedError
from api.subjects import slug_of
from detection.cohorts import ANY_SIZE, size_of
from detection.coverage import SPAN_HOURS, Span, Tally
from detection.errors import InvalidSubjectError
from detection.hours import HOUR_MS, iso
from detection.subject import Subject

router = APIRouter(tags=["history"], route_class=GuardedRoute)

Parts = Annotated[Connections, Depends(connections)]
SpanQuery = Annotated[Span, Query(description="The last 24 hours, 7 days or 30 days of the stream's clock.")]

_MOST = 1000
_SUBJECTS_AT_ONCE = 250
# A filter that nothing passes must not keep one request busy for ever: the page ends, and says where to go on.
_SUBJECTS_PER_PAGE = 5_000


@dataclass(frozen=True, slots=True)
class _Series:
    subject: Subject
    slug: str
    size: str


@router.get(
    "/coverage",
    summary="How often the thresholds of each series held",
    response_class=Response,
    responses=openapi.responses(CoveragePage, COVERAGE, 404, 413, 422, 503),
)
async def list_coverage(
    parts: Parts,
    subject: Annotated[str, Query(description="Only `biller:B1` or `model:NAME/VERSION`.", max_length=300)] = "",
    metric: Annotated[str, Query(description="Only this metric: number, slug or name.", max_length=80)] = "",
    cohort: Annotated[str, Query(description="Only series that are in it now: `METRIC/SIZE`.", max_length=120)] = "",
    span: SpanQuery = "week",
    limit: Annotated[int, Query(ge=1, le=_MOST, description="Most series of one page.")] = 100,
    cursor: Annotated[str, Query(description="`next_cursor` of the page before.", max_length=600)] = "",
) -> Response:
    """In the order of the subjects' text, as PostgreSQL has their hours. Hours of a data set are not judged.

    A page may be short, even empty, while `next_cursor` is given: go on with it.
    """
    clock_ms = await parts.clock_ms()
    slug = slug_of(metric) if metric else ""
    if subject:
        series, next_cursor = await _of_subject(parts, Subject.parse(subject), slug, cohort), None
    else:
        series, next_cursor = await _page(parts, slug, cohort, start=_read_cursor(cursor), limit=limit)
    asked = [(one.subject, one.slug) for one in series]
    tallies = await parts.coverage.of_series(asked, span=span, until_ms=max(clock_ms, 0))
    end_ms = clock_ms // HOUR_MS * HOUR_MS
    body = {
        "from": None if clock_ms < 0 else iso(end_ms - SPAN_HOURS[span] * HOUR_MS),
        "to": None if clock_ms < 0 else iso(end_ms),
        "series": [
            {
                "subject": str(one.subject),
                "metric": one.slug,
                "cohort": f"{one.slug}/{one.size}",
                **_claim(span, tally),
            }
            for one, tally in zip(series, tallies, strict=True)
        ],
        "next_cursor": next_cursor,
    }
    return Response(orjson.dumps(body), media_type="application/json")


@router.get(
    "/coverage/cohorts",
    summary="How often the thresholds of each cohort held",
    response_class=Response,
    responses=openapi.responses(CohortCoverageList, COHORT_COVERAGE, 422, 503),
)
async def list_cohorts(parts: Parts, span: SpanQuery = "week") -> Response:
    """As they were summed up last: a worker does so as often as it looks at the cohorts, of 500 subjects at most.

    An hour counts for the size of the calls that were expected of it, and for `any`.
    """
    found = await parts.coverage.of_cohorts(span)
    body = {
        "to": iso(max(one.until_ms for one in found)) if found else None,
        "cohorts": [
            {
                "cohort": one.name,
                "metric": one.metric,
                "size": one.size,
                "series": one.series,
                "every_nth": one.every_nth,
                **_claim(span, one.tally),
            }
            for one in found
        ],
    }
    return Response(orjson.dumps(body), media_type="application/json")


async def _of_subject(parts: Connections, subject: Subject, slug: str, cohort: str) -> list[_Series]:
    series = await _series(parts, [subject], slug, cohort)
    if not series and not await parts.store.heads([subject]):
        raise RefusedError(UNKNOWN_SUBJECT, f"{subject}: nothing of it was ever seen")
    return series


async def _page(
    parts: Connections, slug: str, cohort: str, *, start: tuple[str, str], limit: int
) -> tuple[list[_Series], str | None]:
    """Up to `limit` series after `start` (subject's text, slug), and the cursor of the page behind them, if any."""
    after, after_slug = start
    found: list[_Series] = []
    if after_slug:
        again = await _series(parts, [Subject.parse(after)], slug, cohort)
        found = [one for one in again if one.slug > after_slug]
    scanned = 0
    while len(found) <= limit and scanned < _SUBJECTS_PER_PAGE:
        subjects = await parts.store.subjects(after=after, limit=_SUBJECTS_AT_ONCE)
        if not subjects:
            break
        found += await _series(parts, subjects, slug, cohort)
        after = str(subjects[-1])
        scanned += len(subjects)
    if len(found) > limit:
        last = found[limit - 1]
        return found[:limit], cursors.write_cursor(f"{last.subject} {last.slug}")
    return found, cursors.write_cursor(f"{after} ") if scanned >= _SUBJECTS_PER_PAGE else None


async def _series(parts: Connections, subjects: list[Subject], slug: str, cohort: str) -> list[_Series]:
    """Those of the subjects that are published and wanted, with the cohort that they are in."""
    answers = await parts.store.answers(subjects)
    found = [
        _Series(subject, one, size_of(float(fields["expected_calls"] or 0)))
        for subject in subjects
        for one, fields in sorted(answers.get(subject, {}).items())
        if fields["status"] and slug in {"", one}
    ]
    return [one for one in found if cohort in {"", f"{one.slug}/{one.size}", f"{one.slug}/{ANY_SIZE}"}]


def _claim(span: Span, tally: Tally) -> dict[str, Any]:
    return {
        "span": span,
        "judged": tally.judged,
        "exceeded": tally.exceeded,
        "claimed_exceedance": tally.claimed_exceedance,
        "observed_exceedance": tally.observed_exceedance,
        "interval": tally.interval,
        "compared": tally.compared,
        "pinball_loss": tally.pinball_loss,
        "naive_pinball_loss": tally.naive_pinball_loss,
        "skill": tally.skill,
    }


def _read_cursor(cursor: str) -> tuple[str, str]:
    if not cursor:
        return "", ""
    try:
        text, _, slug = cursors.read_cursor(cursor).partition(" ")
        return str(Subject.parse(text)), slug
    except (ValueError, InvalidSubjectError) as error:
        reason = "is not one that a page answered with"
        raise RefusedError(INVALID_REQUEST, f"cursor: {reason}", [Fault("cursor", reason)]) from error
