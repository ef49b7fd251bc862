"""`GET /pipeline`: how events come through, from the broker to the state and the history, and what was refused of them.

Whatever is away, the answer comes within about a second, and says which parts it lacks. It is kept for a few seconds.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Generic, TypeVar

import orjson
from fastapi import APIRouter, Depends, Query, Request, Response

from api import openapi
from api.access import GuardedRoute
from api.census import Census, Counting
from api.connections import Connections, connections
from api.event_log import CALLS, OBSERVATIONS
from api.kept import Kept
from api.log_extents import Extent
from api.pipeline_schemas import DEAD_LETTERS, PIPELINE, DeadLetters, Pipeline
from detection.errors import DependencyError, UnreadableStateError
from detection.hours import iso
from state.dead_letters import TOPIC, Letter
from state.sources import source_of
from state.store import Reached

router = APIRouter(tags=["health"], route_class=GuardedRoute)

Parts = Annotated[Connections, Depends(connections)]
Answer = dict[str, Any]
Found = TypeVar("Found")

_KEPT_SECONDS: Final = 3.0
_WITHIN_SECONDS: Final = 0.8
_TOPICS: Final = (CALLS, OBSERVATIONS)
_EXCERPT: Final = 500
_NOT_COUNTED: Final = "not counted yet"


@dataclass(frozen=True, slots=True)
class _Part(Generic[Found]):
    """What was found, or why nothing was."""

    found: Found | None = None
    reason: str | None = None


class Rates:
    """Records by the second of each topic, between two looks."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, int]] = {}

    def of(self, topic: str, reached: int, now: float) -> float | None:
        """None at the first look, and where a log has begun anew."""
        before = self._seen.get(topic)
        self._seen[topic] = now, reached
        if before is None or reached < before[1] or now <= before[0]:
            return None
        return round((reached - before[1]) / (now - before[0]), 3)


@dataclass(slots=True)
class Looking:
    """What is kept of the pipeline between two looks; one for each app."""

    counting: Counting = field(default_factory=Counting)
    answers: Kept[bytes] = field(default_factory=lambda: Kept(_KEPT_SECONDS))
    letters: Kept[bytes] = field(default_factory=lambda: Kept(_KEPT_SECONDS))
    rates: Rates = field(default_factory=Rates)


@router.get(
    "/pipeline",
    summary="How events come through",
    response_class=Response,
    responses=openapi.responses(Pipeline, PIPELINE),
)
async def pipeline(request: Request, parts: Parts) -> Response:
    """Lag of each partition, clock, dead letters, series by status, what is away. A few seconds old at most."""
    looking: Looking = request.app.state.looking

    async def make() -> bytes:
        return orjson.dumps(await _look(parts, looking))

    return Response(await looking.answers.get((), make), media_type="application/json")


@router.get(
    "/pipeline/dead-letters",
    summary="The newest dead letters",
    response_class=Response,
    responses=openapi.responses(DeadLetters, DEAD_LETTERS, 422, 503),
)
async def dead_letters(
    request: Request,
    parts: Parts,
    limit: Annotated[int, Query(ge=1, le=100, description="Most letters of the answer.")] = 20,
) -> Response:
    """Why events could not be used, where they came from, and how they begin. A few seconds old at most."""
    looking: Looking = request.app.state.looking

    async def make() -> bytes:
        return orjson.dumps({"dead_letters": [_letter(one) for one in await parts.log.dead_letters(limit)]})

    return Response(await looking.letters.get(limit, make), media_type="application/json")


async def _look(parts: Connections, looking: Looking) -> Answer:
    ends, progress, lives, clock, postgres, census = await asyncio.gather(
        _part(parts.log.extents((*_TOPICS, TOPIC))),
        _part(parts.store.progress()),
        _part(parts.store.log_lives()),
        _part(parts.store.clock()),
        _part(parts.history.ping()),
        _part(looking.counting.newest(parts, within_seconds=_WITHIN_SECONDS / 2)),
    )
    redis = progress.reason or lives.reason or clock.reason
    if progress.found is None or lives.found is None:
        reached = None
    else:
        known = {topic: one.life for topic, one in lives.found.items()}
        reached = _reached(progress.found, log_id=parts.settings.kafka_log_id, lives=known)
    reasons = {
        "clock": clock.reason,
        "topics": ends.reason or progress.reason or lives.reason,
        "dead_letters": ends.reason,
        **dict.fromkeys(_COUNTED, census.reason or looking.counting.reason or _NOT_COUNTED),
    }
    answer: Answer = {
        "clock": None if clock.found is None or clock.found < 0 else iso(clock.found),
        "topics": _topics(ends.found, reached, looking.rates),
        "dead_letters": None if ends.found is None else _letters(ends.found.get(TOPIC, {})),
        **_counted(census.found),
        "dependencies": {
            "kafka": ends.reason or "up",
            "redis": redis or "up",
            "postgres": postgres.reason or "up",
        },
    }
    lacking = {part: reason for part, reason in reasons.items() if reason is not None}
    # Of the topics, one of the two sides may be known.
    lacking = {part: why for part, why in lacking.items() if part == "topics" or answer[part] is None}
    return answer | {"reasons": lacking}


async def _part(asked: Awaitable[Found]) -> _Part[Found]:
    try:
        async with asyncio.timeout(_WITHIN_SECONDS):
            return _Part(found=await asked)
    except DependencyError as error:
        return _Part(reason=error.reason)
    except UnreadableStateError as error:
        return _Part(reason=str(error))
    except TimeoutError:
        return _Part(reason="no answer in time")


def _reached(progress: Mapping[str, Reached], *, log_id: str, lives: Mapping[str, int]) -> dict[str, dict[int, int]]:
    """By topic and partition, how far the log that is read now is in the state."""
    found: dict[str, dict[int, int]] = {topic: {} for topic in _TOPICS}
    for source, one in progress.items():
        _, topic, partition = source.rsplit("/", 2)
        if topic in found and source == source_of(log_id, topic, int(partition), life=lives.get(topic, 0)):
            found[topic][int(partition)] = one.offset
    return found


def _topics(
    ends: Mapping[str, Mapping[int, Extent]] | None, reached: Mapping[str, Mapping[int, int]] | None, rates: Rates
) -> list[Answer] | None:
    """None where neither Kafka nor Redis says anything."""
    if ends is None and reached is None:
        return None
    now = time.monotonic()
    topics = []
    for topic in _TOPICS:
        own = None if ends is None else ends.get(topic, {})
        at = None if reached is None else reached.get(topic, {})
        partitions = [
            _partition(one, None if own is None else own.get(one), at) for one in sorted({*(own or ()), *(at or ())})
        ]
        lags = [one["lag"] for one in partitions]
        topics.append(
            {
                "topic": topic,
                "partitions": partitions,
                "lag": None if ends is None or reached is None or None in lags else sum(lags),
                "records_per_second": None if at is None else rates.of(topic, sum(at.values()), now),
            }
        )
    return topics


def _partition(partition: int, extent: Extent | None, at: Mapping[int, int] | None) -> Answer:
    # What nobody has read yet begins where the log does.
    reached = None if at is None else at.get(partition, 0 if extent is None else extent.beginning)
    end = None if extent is None else extent.end
    lag = None if end is None or reached is None else max(end - reached, 0)
    return {"partition": partition, "end": end, "reached": reached, "lag": lag}


def _letters(partitions: Mapping[int, Extent]) -> Answer:
    return {
        "records": sum(one.records for one in partitions.values()),
        "ever": sum(one.end for one in partitions.values()),
    }


_COUNTED: Final = ("subjects", "accepted", "late", "series", "history_pending", "counted_at")


def _counted(census: Census | None) -> Answer:
    if census is None:
        return dict.fromkeys(_COUNTED)
    return {
        "subjects": census.subjects,
        "accepted": census.accepted,
        "late": census.late,
        "series": dict(census.series),
        "history_pending": census.pending,
        "counted_at": iso(census.counted_at_ms),
    }


def _letter(letter: Letter) -> Answer:
    return {
        "partition": letter.partition,
        "offset": letter.offset,
        "time": iso(letter.time_ms) if letter.time_ms >= 0 else None,
        "reason": letter.reason,
        "detail": letter.detail,
        "origin": {
            "topic": letter.topic,
            "partition": letter.origin_partition,
            "offset": letter.origin_offset,
        },
        "key": None if letter.key is None else letter.key.decode(errors="replace"),
        "excerpt": letter.excerpt(_EXCERPT),
        "bytes": None if letter.value is None else len(letter.value),
        "is_whole": letter.is_whole,
    }
