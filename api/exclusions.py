"""`/billers/.../exclusions` and `/models/.../exclusions`: hours that are not to be learned, and learned after all."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Body, Depends, Path, Response

from api import openapi
from api.access import GuardedRoute
from api.connections import Connections, connections
from api.excluding import Changed, change_exclusions
from api.exclusion_schemas import CHANGED, EXCLUSION, GIVEN, ChangedExclusion, ExclusionGiven, ExclusionList
from api.problems import INVALID_REQUEST, UNKNOWN_EXCLUSION, UNKNOWN_SUBJECT, Fault, RefusedError
from api.subjects import BillerId, ModelName, ModelVersion
from detection.catalogue import biller_metric, gauge
from detection.events import NEWEST_MS, OLDEST_MS
from detection.exclusions import LONGEST_HOURS, Exclusion, Exclusions, hours_touched
from detection.subject import Subject
from state.exclusion_codec import exclusion_fields

router = APIRouter(tags=["exclusions"], route_class=GuardedRoute)

Parts = Annotated[Connections, Depends(connections)]
Given = Annotated[ExclusionGiven, Body(openapi_examples=GIVEN)]
ExclusionId = Annotated[str, Path(alias="exclusionId", description="As it was answered.", examples=[EXCLUSION["id"]])]

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_ALL: Final = "all"

_MADE: Final = openapi.responses(
    ChangedExclusion, CHANGED, 404, 409, 413, 422, 503, status=201, description="It was made."
) | {200: openapi.answer(ChangedExclusion, CHANGED | {"relearned": {}}, description="It was there already.")}
_TAKEN_BACK: Final = openapi.responses(ChangedExclusion, CHANGED, 404, 409, 422, 503)
_LISTED: Final = openapi.responses(ExclusionList, {"exclusions": [EXCLUSION], "total": 1}, 404, 422, 503)


@router.post(
    "/billers/{billerId:rest}/exclusions",  # noqa: FAST003 (an alias of the parameter below)
    summary="Exclude hours of a biller",
    status_code=201,
    response_class=Response,
    responses=_MADE,
)
async def exclude_biller(parts: Parts, biller_id: BillerId, given: Given) -> Response:
    """These hours are not learned, and if they were, the models are as if they had never seen them.

    Hours ahead are excluded when they come: counted and kept, but neither judged nor learned. The same again changes
    nothing, and is answered with 200.
    """
    return await _exclude(parts, Subject.biller(biller_id), given)


@router.get(
    "/billers/{billerId:rest}/exclusions",  # noqa: FAST003 (as above)
    summary="Excluded hours of a biller",
    response_class=Response,
    responses=_LISTED,
)
async def list_of_biller(parts: Parts, biller_id: BillerId) -> Response:
    """All of them, the earliest first."""
    return await _list(parts, Subject.biller(biller_id))


@router.delete(
    "/billers/{billerId:rest}/exclusions/{exclusionId}",  # noqa: FAST003 (as above)
    summary="Learn excluded hours of a biller after all",
    response_class=Response,
    responses=_TAKEN_BACK,
)
async def include_biller(parts: Parts, biller_id: BillerId, exclusion_id: ExclusionId) -> Response:
    """The models are as if these hours had never been excluded, unless another exclusion has them too."""
    return await _include(parts, Subject.biller(biller_id), exclusion_id)


@router.post(
    "/models/{name}/{version:rest}/exclusions",
    summary="Exclude hours of a model",
    status_code=201,
    response_class=Response,
    responses=_MADE,
)
async def exclude_model(parts: Parts, name: ModelName, version: ModelVersion, given: Given) -> Response:
    """As for a biller; a metric is one of its gauges."""
    return await _exclude(parts, Subject.model(name, version), given)


@router.get(
    "/models/{name}/{version:rest}/exclusions",
    summary="Excluded hours of a model",
    response_class=Response,
    responses=_LISTED,
)
async def list_of_model(parts: Parts, name: ModelName, version: ModelVersion) -> Response:
    """All of them, the earliest first."""
    return await _list(parts, Subject.model(name, version))


@router.delete(
    "/models/{name}/{version:rest}/exclusions/{exclusionId}",  # noqa: FAST003 (as above)
    summary="Learn excluded hours of a model after all",
    response_class=Response,
    responses=_TAKEN_BACK,
)
async def include_model(parts: Parts, name: ModelName, version: ModelVersion, exclusion_id: ExclusionId) -> Response:
    """As for a biller."""
    return await _include(parts, Subject.model(name, version), exclusion_id)


async def _exclude(parts: Connections, subject: Subject, given: ExclusionGiven) -> Response:
    wanted = _read(subject, given, now_ms=parts.wall_ms())
    changed = await change_exclusions(parts, subject, lambda known: known.added([wanted]))
    # One that was there already stays as it was said first.
    made = changed.after.get(wanted.id) or wanted
    is_new = changed.before.get(wanted.id) is None
    return _answer(_changed(subject, made, changed), status=201 if is_new else 200)


async def _include(parts: Connections, subject: Subject, exclusion_id: str) -> Response:
    def wish(known: Exclusions) -> Exclusions:
        if known.get(exclusion_id) is None:
            raise RefusedError(
                UNKNOWN_EXCLUSION, f"{subject} has no exclusion {exclusion_id[:200]!r}; GET its exclusions lists them"
            )
        return known.without([exclusion_id])

    changed = await change_exclusions(parts, subject, wish)
    gone = changed.before.get(exclusion_id)
    assert gone is not None  # noqa: S101  # `wish` has refused otherwise
    return _answer(_changed(subject, gone, changed))


async def _list(parts: Connections, subject: Subject) -> Response:
    state = (await parts.store.load_counts([subject])).get(subject)
    if state is None:
        raise RefusedError(UNKNOWN_SUBJECT, f"{subject}: no event of it was counted, nor was it trained")
    found = [_listed(subject, one) for one in state.exclusions]
    return _answer({"exclusions": found, "total": len(found)})


def _read(subject: Subject, given: ExclusionGiven, *, now_ms: int) -> Exclusion:
    """Raises UnknownMetricError, and RefusedError for a span that cannot be one."""
    from_ms, to_ms = _ms(given.from_), _ms(given.to)
    faults = [
        Fault(name, "is before 2000 or after 2099")
        for name, ms in (("from", from_ms), ("to", to_ms))
        if not OLDEST_MS <= ms <= NEWEST_MS
    ]
    if not faults and to_ms <= from_ms:
        faults.append(Fault("to", "is not after `from`"))
    from_hour, before_hour = hours_touched(from_ms, to_ms)
    if not faults and before_hour - from_hour > LONGEST_HOURS:
        faults.append(Fault("to", f"is more than {LONGEST_HOURS // 24} days after `from`"))
    if faults:
        raise RefusedError(INVALID_REQUEST, "; ".join(f"{one.field}: {one.reason}" for one in faults), faults)
    return Exclusion(
        from_hour=from_hour,
        before_hour=before_hour,
        slug=_slug(subject, given.metric),
        reason=given.reason,
        by=given.by,
        at_ms=now_ms,
    )


def _slug(subject: Subject, metric: str | int | None) -> str | None:
    if metric is None or str(metric).strip().lower() == _ALL:
        return None
    return (biller_metric(str(metric)) if subject.kind == "biller" else gauge(str(metric))).slug


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _listed(subject: Subject, one: Exclusion) -> dict[str, Any]:
    fields = exclusion_fields(one)
    span = {name: fields.pop(name) for name in ("from", "to")}
    hours = one.before_hour - one.from_hour
    return {"id": one.id, "subject": str(subject), **span, "hours": hours, "metric": one.slug, **fields}


def _changed(subject: Subject, one: Exclusion, changed: Changed) -> dict[str, Any]:
    relearned = {slug: asdict(relearned) for slug, relearned in changed.relearned.items()}
    return {**_listed(subject, one), "relearned": relearned}


def _answer(answer: object, *, status: int = 200) -> Response:
    return Response(orjson.dumps(answer), status_code=status, media_type="application/json")
