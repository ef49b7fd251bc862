"""`GET /thresholds`: what is published of all series, page by page or as one stream."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated, TypeVar

import orjson
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from api import cursors, openapi
from api.access import GuardedRoute, caller
from api.answers import Answer, listed
from api.connections import Connections, connections
from api.moments import Moment
from api.problems import INVALID_REQUEST, Fault, RefusedError
from api.ready import Now
from api.schemas import Status, ThresholdPage
from api.threshold_lines import Takes, lines_of
from detection.catalogue import BILLER_METRICS, metric_of
from detection.errors import InvalidSubjectError
from detection.hours import HOUR_MS, SECOND_MS, parse_ms
from detection.subject import Kind, Subject
from state.as_stored import StoredTexts

router = APIRouter(tags=["thresholds"], route_class=GuardedRoute)

Batch = TypeVar("Batch")

NDJSON = "application/x-ndjson"
_MOST = 1000
_SUBJECTS_AT_ONCE = 250
_BATCHES_AT_ONCE = 3
# Others wait for no longer than about this while all series are streamed: lines of young series take ten times as long.
_TURN_SECONDS = 0.0015
_FIRST_SUBJECTS = 20
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

    @property
    def is_open(self) -> bool:
        """Whether it takes every published series of its kind and prefix."""
        return self.slug is None and self.status is None and self.published_from_ms is None

    def takes(self, status: str, window_start: str) -> bool:
        """Whether a published series is wanted; kind and prefix were asked of the store already."""
        return (self.status is None or status == self.status) and (
            self.published_from_ms is None or parse_ms(window_start) >= self.published_from_ms
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
        Moment | None,
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
    """Some lines at a time, so that others are answered in between; what comes next is read meanwhile."""
    at_once = _FIRST_SUBJECTS
    async with aclosing(_ahead(_stored(parts, wanted, start))) as batches:
        async for texts, after_slug in batches:
            now = Now(await parts.clock_ms(), await parts.cohorts())
            takes = None if wanted.is_open and not after_slug else _taking(wanted, after_slug)
            first, count = 0, len(texts.subjects)
            while first < count:
                begun = time.perf_counter()
                behind = min(first + at_once, count)
                found = lines_of(texts, first, behind, now, takes, wanted.slug)
                spent = max(time.perf_counter() - begun, 1e-6)
                at_once = min(max(int((behind - first) * _TURN_SECONDS / spent), 1), _SUBJECTS_AT_ONCE)
                first = behind
                if found:
                    yield found
                await asyncio.sleep(0)


def _taking(wanted: Filter, after_slug: str) -> Takes:
    def takes(slug: str, status: str, window_start: str) -> bool:
        return slug > after_slug and wanted.slug in {None, slug} and wanted.takes(status, window_start)

    return takes


async def _stored(
    parts: Connections, wanted: Filter, start: tuple[str, str]
) -> AsyncGenerator[tuple[StoredTexts, str]]:
    """Batch by batch, the subjects in reach as the store has them; of the cursor's own, what is behind its slug.

    A few batches are read at a time: while lines are made of one, the store works on the next.
    """
    asking = caller()

    async def read(subjects: list[Subject], after_slug: str) -> tuple[StoredTexts, str]:
        reached = subjects if asking.reaches_all else [one for one in subjects if asking.reaches(one)]
        return await parts.store.as_stored(reached), after_slug

    reading: deque[asyncio.Task[tuple[StoredTexts, str]]] = deque()
    try:
        async for subjects, after_slug in _positions(parts, wanted, start):
            reading.append(asyncio.create_task(read(subjects, after_slug)))
            if len(reading) >= _BATCHES_AT_ONCE:
                yield await reading.popleft()
        while reading:
            yield await reading.popleft()
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def _ahead(batches: AsyncGenerator[Batch]) -> AsyncGenerator[Batch]:
    """The same, the next one asked for before this one is worked on."""
    asked: asyncio.Future[Batch] = asyncio.ensure_future(anext(batches))
    try:
        while True:
            try:
                batch = await asked
            except StopAsyncIteration:
                return
            asked = asyncio.ensure_future(anext(batches))
            # It begins now, so that the store is busy meanwhile.
            await asyncio.sleep(0)
            yield batch
    finally:
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        await batches.aclose()


async def _after(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


async def _batches(
    parts: Connections, wanted: Filter, start: tuple[str, str]
) -> AsyncIterator[tuple[list[Subject], list[Answer]]]:
    """The subjects of each batch that was read, and the wanted series among theirs; flat in memory."""
    async for subjects, after_slug in _positions(parts, wanted, start):
        found = await _read(parts, subjects, wanted)
        yield subjects, [item for item in found if item["metric"] > after_slug]


async def _positions(
    parts: Connections, wanted: Filter, start: tuple[str, str]
) -> AsyncIterator[tuple[list[Subject], str]]:
    """The subjects, batch by batch, and the slug behind which their series are wanted, empty for all of them."""
    after, after_slug = start
    for kind in _KINDS if wanted.kind is None else (wanted.kind,):
        prefix = f"{kind}:{wanted.prefix}"
        if after > prefix and not after.startswith(prefix):
            continue
        # The subject of the cursor may have more series, so it is read once more.
        if after_slug and after.startswith(prefix):
            yield [Subject.parse(after)], after_slug
        position = after
        while subjects := await parts.store.subjects(after=position, limit=_SUBJECTS_AT_ONCE, prefix=prefix):
            position = str(subjects[-1])
            yield subjects, ""


async def _read(parts: Connections, subjects: list[Subject], wanted: Filter) -> list[Answer]:
    asking = caller()
    subjects = subjects if asking.reaches_all else [one for one in subjects if asking.reaches(one)]
    answers = await parts.store.answers(subjects)
    lately = await parts.store.lately(subjects)
    clock_ms = await parts.clock_ms()
    cohorts = await parts.cohorts()
    items = [
        listed(subject, metric_of(slug), fields, lately=lately.get(subject), clock_ms=clock_ms, cohorts=cohorts)
        for subject in subjects
        for slug, fields in sorted(answers.get(subject, {}).items())
        if fields["status"] and wanted.slug in (None, slug)
    ]
    return [item for item in items if wanted.takes(item["status"], item["window_start"])]


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
