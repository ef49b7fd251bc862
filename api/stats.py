"""`GET /stats/...`: how the metrics of a model, or the calls of a biller, have been."""

from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import blake2b
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from api import openapi
from api.access import GuardedRoute
from api.connections import Connections, connections
from api.problems import UNKNOWN_SUBJECT, RefusedError
from api.stats_parameters import (
    MOST_ROWS,
    BillerParameters,
    Format,
    ModelParameters,
    question_of_biller,
    question_of_model,
    read_cursor,
)
from api.stats_schemas import BILLER_STATS, MODEL_STATS, TABLES, BillerStats, ModelStats
from api.stats_tables import MEDIA_TYPES, document, header, lines, table
from api.subjects import BillerId, ModelName, ModelVersion
from detection.subject import Subject
from state.questions import Page, Position, Question

router = APIRouter(tags=["stats"], route_class=GuardedRoute)

Parts = Annotated[Connections, Depends(connections)]
IfNoneMatch = Annotated[str, Header(description="ETag of the JSON page that is known.")]


def _described(model: type[BaseModel], example: dict[str, Any]) -> openapi.Described:
    described = openapi.responses(
        model,
        example,
        404,
        413,
        422,
        503,
        description="One page as JSON; as CSV or NDJSON all rows, one a metric and window.",
    )
    described[200]["content"] |= TABLES
    return described | {304: {"description": "The page is the one whose ETag was sent as If-None-Match."}}


@router.get(
    "/stats/billers/{billerId:rest}",  # noqa: FAST003 (an alias of the parameter below)
    summary="Statistics of a biller's calls",
    response_class=Response,
    responses=_described(BillerStats, BILLER_STATS),
)
async def stats_of_biller(
    request: Request,
    parts: Parts,
    biller_id: BillerId,
    given: Annotated[BillerParameters, Query()],
    if_none_match: IfNoneMatch = "",
) -> Response:
    """Count, mean, min, max, newest value and percentiles of each metric, over everything or window by window.

    From whole hours, those included that are still open. Percentiles of latencies are within 11.2 %; `min` and `max`
    are the bounds of 25 % bins. A rate's `min`, `max`, `last` and percentiles are over the hours.
    """
    subject = Subject.biller(biller_id)
    return await _answer(request, parts, question_of_biller(subject, given), given, if_none_match)


@router.get(
    "/stats/{name}/{version:rest}",
    summary="Statistics of a model's metrics",
    response_class=Response,
    responses=_described(ModelStats, MODEL_STATS),
)
async def stats_of_model(
    request: Request,
    parts: Parts,
    name: ModelName,
    version: ModelVersion,
    given: Annotated[ModelParameters, Query()],
    if_none_match: IfNoneMatch = "",
) -> Response:
    """Count, mean, min, max, newest value and percentiles of each metric, over everything or window by window.

    Percentiles are within 1.6 % of a value that was observed, and exact where values are compared. Metrics are named as
    the observation events name them.
    """
    subject = Subject.model(name, version)
    return await _answer(request, parts, question_of_model(subject, given), given, if_none_match)


async def _answer(
    request: Request, parts: Connections, question: Question, given: BillerParameters, if_none_match: str
) -> Response:
    after = read_cursor(given.cursor)
    form = given.format or _accepted(request)
    page = await parts.statistics.page(question, after=after, limit=given.limit if form == "json" else MOST_ROWS)
    if not page.is_known:
        raise RefusedError(UNKNOWN_SUBJECT, f"{question.subject}: nothing of it was ever seen")
    # What the first page moved to full minutes or hours stays so in all that follow.
    question = replace(question, from_ms=page.from_ms, to_ms=page.to_ms)
    if form != "json":
        return StreamingResponse(_rows(parts, question, page, form), media_type=MEDIA_TYPES[form])
    body = document(question, page, step=given.step)
    etag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    if etag in (one.strip().removeprefix("W/") for one in if_none_match.split(",")):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(body, media_type=MEDIA_TYPES[form], headers={"ETag": etag})


def _accepted(request: Request) -> Format:
    accept = request.headers.get("accept", "")
    if "ndjson" in accept:
        return "ndjson"
    return "csv" if "text/csv" in accept else "json"


async def _rows(parts: Connections, question: Question, page: Page, form: Format) -> AsyncIterator[bytes]:
    """Everything from this page on: one page in memory at a time."""
    if form == "csv":
        yield header(question)
    write = table if form == "csv" else lines
    while True:
        yield write(question, page.answers)
        after: Position | None = page.after
        if after is None:
            return
        page = await parts.statistics.page(question, after=after, limit=MOST_ROWS)
