"""`GET /thresholds`: what is published of all series, page by page or as one stream."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime

from api import cursors, openapi
from api.access import GuardedRoute, caller
from api.answers import Answer, listed
from api.connections import Connections, connections
from api.problems import INVALID_REQUEST, Fault, RefusedError
from api.schemas import Status, ThresholdPage
from detection.catalogue import BILLER_METRICS, metric_of
from detection.errors import InvalidSubjectError
from detection.hours import HOUR_MS, SECOND_MS, parse_ms
from detection.subject import Kind, Subject

router = APIRouter(tags=["thresholds"], route_class=GuardedRoute)

NDJSON = "application/x-ndjson"
_MOST = 1000
_SUBJECTS_AT_ONCE = 250
# A filter that nothing passes must not keep one request busy for ever: the page ends, and says where to go on.
_SUBJECTS_PER_PAGE = 5_000
_KINDS: tuple[Kind, ...] = ("biller", "model")
_SLUGS = {
    text: metric.slug for metric in BILLER_METRICS for text in (str(metric.number), metric.slug, metric.name.lower())
}

Parts = Annotated[Connections, Depends(connections)]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which series are wanted; None and "" want all."""

    slug: str | None = None
    kind: Kind | None = None
    prefix: str = ""
    status: str | None = None
    published_from_ms: int | None = None

    def takes(self, item: Answer) -> bool:
        """Whether a published series is wanted; kind and prefix were asked of the store already."""
        return (self.status is None or item["status"] == self.status) and (
            self.published_from_ms is None or parse_ms(item["window_start"]) >= self.published_from_ms
        )


@router.get(
    "/thresholds",
    summary="The thresholds of all series",
    response_class=Response,
    responses=openapi.responses(
        ThresholdPage,
        {"thresholds": [openapi.THRESHOLD], "next_cursor": None},
        422,
        503,
        description="One page, or with `Accept: application/x-ndjson` all of them, one a line.",
    )
    | {304: {"description": "The page is the one whose ETag was sent as If-None-Match."}},
)
async def list_thresholds(  # noqa: PLR0913, PLR0917 (one parameter a query parameter)
    request: Request,
    parts: Parts,
    metric: Annotated[str | None, Query(description="Number, slug or name of a metric.", max_length=80)] = None,
    kind: Annotated[Kind | None, Query(description="Only billers, or only models.")] = None,
    prefix: Annotated[str, Query(description="What the id begins with.", max_length=257)] = "",
    status: Annotated[Status | None, Query(description="Only series of this status.")] = None,
    changed_since: Annotated[
        AwareDatetime | None,
        Query(
            description="RFC 3339. Only thresholds for the hour that was the next one to close at this moment, or for "
            "a later one. No series that is still published and has changed since is left out, be it by a late call or "
            "by a training; many that have not changed are repeated, and `version` tells which. What is left out has "
            "been silent for 30 days, is `stale`, and can only change by a training, which answers with the change."
        ),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=_MOST, description="Most series of one page.")] = 100,
    cursor: Annotated[str, Query(description="`next_cursor` of the page before.", max_length=600)] = "",
    if_none_match: Annotated[str, Header(description="ETag of the page that is known.")] = "",
) -> Response:
    """In the order of the subjects' text. A page may be short, even empty, while `next_cursor` is given: go on with it.

    With `Accept: application/x-ndjson` every series is streamed, one a line, and `limit` does not count.
    """
    wanted = Filter(
        slug=None if metric is None else _SLUGS.get(metric.lower(), metric.lower().replace("_", "-")),
        kind=kind,
        prefix=prefix,
        status=status,
        published_from_ms=None
        if changed_since is None
        else parts.policy.closed_before(int(changed_since.timestamp() * SECOND_MS)) * HOUR_MS,
    )
    start = _read_cursor(cursor)
    if NDJSON in request.headers.get("accept", ""):
        # The first batch is read before the answer begins, so that a store that is away is still a problem document.
        lines = _lines(parts, wanted, start)
        first = await anext(lines, b"")
        return StreamingResponse(_after(first, lines), media_type=NDJSON)
    items, next_cursor = await page(parts, wanted, start=start, limit=limit)
    body = orjson.dumps({"thresholds": items, "next_cursor": next_cursor})
    etag = f'"{blake2b(body, digest_size=12).hexdigest()}"'
    if etag in (one.strip().removeprefix("W/") for one in if_none_match.split(",")):
        return Response(status_code=304, headers={"ETag": etag})
    return Response(body, media_type="application/json", headers={"ETag": etag})


async def page(
    parts: Connections, wanted: Filter, *, start: tuple[str, str] = ("", ""), limit: int = 100
) -> tuple[list[Answer], str | None]:
    """Up to `limit` series after `start` (subject's text, slug), and the cursor of the page behind them, if any."""
    items: list[Answer] = []
    scanned = 0
    async for subjects, batch in _batches(parts, wanted, start):
        for item in batch:
            if len(items) == limit:
                return items, _write_cursor(items[-1]["subject"], items[-1]["metric"])
            items.append(item)
        scanned += len(subjects)
        if scanned >= _SUBJECTS_PER_PAGE:
            return items, _write_cursor(str(subjects[-1]), "~")
    return items, None


async def _lines(parts: Connections, wanted: Filter, start: tuple[str, str]) -> AsyncIterator[bytes]:
    async for _, batch in _batches(parts, wanted, start):
        if batch:
            yield b"".join(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in batch)


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


async def _batches(
    parts: Connections, wanted: Filter, start: tuple[str, str]
) -> AsyncIterator[tuple[list[Subject], list[Answer]]]:
    """The subjects of each batch that was read, and the wanted series among theirs; flat in memory."""
    after, after_slug = start
    for kind in _KINDS if wanted.kind is None else (wanted.kind,):
        prefix = f"{kind}:{wanted.prefix}"
        if after > prefix and not after.startswith(prefix):
            continue
        # The subject of the cursor may have more series, so it is read once more.
        if after_slug and after.startswith(prefix):
            again = Subject.parse(after)
            found = await _read(parts, [again], wanted)
            yield [again], [item for item in found if item["metric"] > after_slug]
        position = after
        while subjects := await parts.store.subjects(after=position, limit=_SUBJECTS_AT_ONCE, prefix=prefix):
            position = str(subjects[-1])
            yield subjects, await _read(parts, subjects, wanted)


async def _read(parts: Connections, subjects: list[Subject], wanted: Filter) -> list[Answer]:
    asking = caller()
    subjects = subjects if asking.reaches_all else [one for one in subjects if asking.reaches(one)]
    answers = await parts.store.answers(subjects)
    minutes = await parts.store.minutes(subjects)
    clock_ms = await parts.clock_ms()
    cohorts = await parts.cohorts()
    items = [
        listed(subject, metric_of(slug), fields, minutes=minutes.get(subject, {}), clock_ms=clock_ms, cohorts=cohorts)
        for subject in subjects
        for slug, fields in sorted(answers.get(subject, {}).items())
        if fields["status"] and wanted.slug in (None, slug)
    ]
    return [item for item in items if wanted.takes(item)]


def _write_cursor(subject: str, slug: str) -> str:
    return cursors.write_cursor(f"{subject} {slug}")


def _read_cursor(cursor: str) -> tuple[str, str]:
    if not cursor:
        return "", ""
    try:
        text = cursors.read_cursor(cursor)
        subject, space, slug = text.partition(" ")
        parsed = Subject.parse(subject)
    except (ValueError, InvalidSubjectError) as error:
        raise RefusedError(
            INVALID_REQUEST,
            "cursor: is not one that a page answered with",
            [Fault("cursor", "is not one that a page answered with")],
        ) from error
    return str(parsed), slug if space else "~"
