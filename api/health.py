"""Whether the process lives, what it depends on, and what Prometheus reads."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from api import openapi
from api.access import GuardedRoute
from api.answers import status_at
from api.connections import Connections, connections
from api.schemas import Health, Readiness
from detection.errors import DependencyError
from metrics import Instruments

router = APIRouter(tags=["health"], route_class=GuardedRoute)

Parts = Annotated[Connections, Depends(connections)]

# What requests cannot do without; training also needs the history, and says so itself when it is away.
_NEEDED: Final = ("redis", "kafka")
_ANSWERS_WITHIN_SECONDS: Final = 3.0
_COUNTED_EVERY_SECONDS: Final = 5.0
_COUNTED_SUBJECTS: Final = 2_000
_STATUSES: Final = ("prior", "learning", "ready", "stale")


@router.get(
    "/healthz",
    summary="Whether the process answers",
    response_class=Response,
    responses={200: openapi.answer(Health, {"status": "ok"})},
)
async def health() -> Response:
    """Says nothing about what the process depends on: restarting it would not bring that back."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get(
    "/readyz",
    summary="Whether requests can be answered",
    response_class=Response,
    responses={
        200: openapi.answer(
            Readiness,
            {
                "status": "ok",
                "dependencies": {
                    "redis": {"status": "ok"},
                    "postgres": {"status": "error", "reason": "no answer in time"},
                    "kafka": {"status": "ok"},
                },
            },
        ),
        503: openapi.answer(
            Readiness,
            {
                "status": "error",
                "dependencies": {
                    "redis": {"status": "error", "reason": "ConnectionError: connection refused"},
                    "postgres": {"status": "ok"},
                    "kafka": {"status": "ok"},
                },
            },
            description="Redis or Kafka is away.",
        ),
    },
)
async def readiness(request: Request, parts: Parts) -> Response:
    """Each dependency with its state; 503 while Redis or Kafka is away. Without PostgreSQL only training is."""
    pings = {"redis": parts.store.ping(), "postgres": parts.history.ping(), "kafka": parts.log.ping()}
    reasons = dict(zip(pings, await asyncio.gather(*map(_reason, pings.values())), strict=True))
    instruments: Instruments = request.app.state.instruments
    for name, reason in reasons.items():
        instruments.dependency_up.labels(name).set(reason is None)
    is_ready = all(reasons[name] is None for name in _NEEDED)
    found = {
        "status": "ok" if is_ready else "error",
        "dependencies": {
            name: {"status": "ok"} if reason is None else {"status": "error", "reason": reason}
            for name, reason in reasons.items()
        },
    }
    return Response(orjson.dumps(found), status_code=200 if is_ready else 503, media_type="application/json")


@router.get(
    "/metrics",
    summary="Prometheus text",
    response_class=Response,
    responses={200: {"description": "Prometheus text.", "content": {"text/plain": {"example": "tidemark_series 3\n"}}}},
)
async def prometheus(request: Request, parts: Parts) -> Response:
    """What this process counts, and the series by status, of the first two thousand subjects."""
    counted: SeriesCount = request.app.state.series_count
    await counted.renew(parts, request.app.state.instruments)
    registry: CollectorRegistry = request.app.state.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class SeriesCount:
    """The series by status, counted again when the last count is a few seconds old; one count at a time."""

    def __init__(self) -> None:
        self._counted_at = float("-inf")
        self._counting = asyncio.Lock()

    async def renew(self, parts: Connections, instruments: Instruments) -> None:
        """Set the gauges; they keep what they show while the store is away."""
        async with self._counting:
            if time.monotonic() - self._counted_at < _COUNTED_EVERY_SECONDS:
                return
            try:
                counts = await _count(parts)
                instruments.dependency_up.labels("redis").set(1)
            except DependencyError:
                # Prometheus must be able to see that Redis is away, so this is a value and not an answer of 503.
                instruments.dependency_up.labels("redis").set(0)
                return
            for status, count in counts.items():
                instruments.series.labels(status).set(count)
            self._counted_at = time.monotonic()


async def _count(parts: Connections) -> dict[str, int]:
    counts = dict.fromkeys(_STATUSES, 0)
    clock_ms = await parts.clock_ms()
    subjects = await parts.store.subjects(limit=_COUNTED_SUBJECTS)
    for by_slug in (await parts.store.answers(subjects)).values():
        for fields in by_slug.values():
            if fields["status"]:
                counts[status_at(fields, clock_ms)] += 1
    return counts


async def _reason(ping: Awaitable[None]) -> str | None:
    """Why the dependency is away, None when it is not."""
    try:
        async with asyncio.timeout(_ANSWERS_WITHIN_SECONDS):
            await ping
    except DependencyError as error:
        return error.reason
    except TimeoutError:
        return "no answer in time"
    return None
