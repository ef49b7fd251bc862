"""`POST /metrics/predict/...`: what is published of a series, or what would be after a sample. Never writes."""

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from api import openapi
from api.access import caller
from api.answers import fields_of, prediction, prior_fields
from api.bodies import format_of, parsed, read_body
from api.connections import Connections, connections
from api.direct import DirectRoute
from api.problems import INVALID_REQUEST, Fault, RefusedError, kind_of
from api.ready import Now, predicted
from api.schemas import BulkPrediction, BulkRequest, PredictRequest, Sample, SamplePrediction
from api.subjects import BillerId, GaugeName, MetricTypeId, ModelName, ModelVersion, biller_series, gauge_series
from detection.catalogue import Metric
from detection.errors import InvalidRowError, InvalidSubjectError, UnknownMetricError
from detection.estimate import Scored, Verdict, WarmingUp
from detection.hours import HOUR_MS, SECOND_MS, iso_hour
from detection.rows import NO_SUCH_TIME, checked_value, is_plausible_ms
from detection.subject import Subject
from detection.subject_state import SubjectState

router = APIRouter(tags=["predict"], route_class=DirectRoute)

_BULK_LIMIT_BYTES = 1024 * 1024
_SAMPLE_LIMIT_BYTES = 64 * 1024
# How far ahead of what is known a sample may lie.
_AHEAD_HOURS = 168


@router.post(
    "/metrics/predict/gauges/{metric}/{name}/{version:rest}",
    summary="The next hour of a model's gauge",
    response_class=Response,
    responses=openapi.responses(SamplePrediction, openapi.GAUGE_PREDICTION, 404, 413, 415, 422, 503),
    openapi_extra=openapi.body(PredictRequest, examples=openapi.SAMPLES, is_required=False),
)
async def predict_gauge(request: Request, metric: GaugeName, name: ModelName, version: ModelVersion) -> Response:
    """As for a biller's metric."""
    return await _predict(request, *gauge_series(metric, name, version))


@router.post(
    "/metrics/predict/{metricTypeId}/{billerId:rest}",  # noqa: FAST003 (both are aliases of the parameters below)
    summary="The next hour of a biller's metric",
    response_class=Response,
    responses=openapi.responses(SamplePrediction, openapi.PREDICTION, 404, 413, 415, 422, 503),
    openapi_extra=openapi.body(PredictRequest, examples=openapi.SAMPLES, is_required=False),
)
async def predict_biller(request: Request, metric_type_id: MetricTypeId, biller_id: BillerId) -> Response:
    """The highest value that is still normal in the next hour, and whether the biller is beyond it now.

    A biller that was never seen is answered with `status: prior`. With a sample in the body, the answer is what the
    model would say after that sample. Nothing is ever stored.
    """
    return await _predict(request, *biller_series(metric_type_id, biller_id))


@router.post(
    "/metrics/predict",
    summary="The next hour of up to 1000 series",
    response_class=Response,
    responses=openapi.responses(BulkPrediction, {"predictions": [openapi.PREDICTION]}, 404, 413, 415, 422, 503),
    openapi_extra=openapi.body(BulkRequest, examples=openapi.BULK),
)
async def predict_many(request: Request) -> Response:
    """The predictions come in the order of the items; one item that cannot be answered refuses the whole request."""
    parts = connections(request)
    format_of(request, taken=("json",))
    limit = min(_BULK_LIMIT_BYTES, parts.settings.max_body_bytes)
    given = parsed(BulkRequest, await read_body(request, limit=limit))
    wanted = [_bulk_series(index, str(item.metricTypeId), item.billerId) for index, item in enumerate(given.items)]
    clock_ms = await parts.clock_ms()
    subjects = list(dict.fromkeys(subject for subject, _ in wanted))
    asking = caller()
    for subject in subjects:
        asking.must_reach(subject)
    answers = await parts.store.answers(subjects)
    lately = await parts.store.lately(subjects)
    cohorts = await parts.cohorts()
    found = [
        prediction(
            subject,
            metric,
            _published(answers.get(subject, {}).get(metric.slug))
            or prior_fields(subject, metric, clock_ms=parts.begun_ms(clock_ms), policy=parts.policy),
            lately=lately.get(subject),
            clock_ms=clock_ms,
            cohorts=cohorts,
        )
        for subject, metric in wanted
    ]
    return Response(orjson.dumps({"predictions": found}), media_type="application/json")


async def _published_of(parts: Connections, subject: Subject, metric: Metric) -> tuple[str, bytes]:
    """Version and text of what is published of a series now; of the prior of its metric when it was never seen."""
    stored = await parts.store.glance(subject, metric.slug)
    now = Now(await parts.clock_ms(), await parts.cohorts())
    found = predicted(stored, metric, now)
    if found is None:
        fields = prior_fields(subject, metric, clock_ms=parts.begun_ms(now.clock_ms), policy=parts.policy)
        prior = prediction(subject, metric, fields, lately=None, clock_ms=now.clock_ms, cohorts=now.cohorts)
        return prior["version"], orjson.dumps(prior)
    return found


async def _predict(request: Request, subject: Subject, metric: Metric) -> Response:
    parts = connections(request)
    sample = await _sample(request, parts) if _has_body(request) else None
    if sample is None:
        version, text = await _published_of(parts, subject, metric)
    else:
        found = await _after_sample(parts, subject, metric, sample)
        version, text = found["version"], orjson.dumps(found)
    return Response(text, media_type="application/json", headers={"ETag": f'"{version}"'})


def _has_body(request: Request) -> bool:
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def _sample(request: Request, parts: Connections) -> Sample | None:
    format_of(request, taken=("json",))
    body = await read_body(request, limit=min(_SAMPLE_LIMIT_BYTES, parts.settings.max_body_bytes))
    return parsed(PredictRequest, body).sample if body.strip() else None


async def _after_sample(parts: Connections, subject: Subject, metric: Metric, sample: Sample) -> dict[str, Any]:
    """The model, with what has closed and then the sample learned, on a copy."""
    policy, clock_ms = parts.policy, await parts.clock_ms()
    state = (await parts.store.load([subject])).get(subject) or SubjectState(subject)
    model = state.model(metric, policy).copy()
    for hour, window in state.closed_windows():
        for value in state.learnable(hour, window):
            if value.metric.slug == metric.slug and (model.next_hour is None or hour >= model.next_hour):
                model.learn(hour, value.value, value.count, policy)
    earliest = model.next_hour if model.next_hour is not None else 0
    latest = max(earliest, policy.closed_before(clock_ms)) + _AHEAD_HOURS
    hour = _hour_of(sample, default=max(state.published_hour, earliest, policy.closed_before(clock_ms)))
    if hour < earliest:
        raise _refused(
            "timestamp",
            f"the hour from {iso_hour(hour)} is already learned; {iso_hour(earliest)} is the first that is not",
        )
    if hour > latest:
        raise _refused("timestamp", f"the hour from {iso_hour(hour)} is more than {_AHEAD_HOURS} hours ahead")
    try:
        seen = checked_value(1, sample.value, metric)
    except InvalidRowError as error:
        raise _refused(error.field, error.reason) from None
    verdict = model.learn(hour, seen, sample.count, policy)
    forecast = model.forecast(hour + 1, policy)
    fields = fields_of(subject, metric, forecast, verdict, policy)
    cohorts, then_ms = await parts.cohorts(), min(clock_ms, (hour + 1) * HOUR_MS)
    found = prediction(subject, metric, fields, lately=None, clock_ms=then_ms, cohorts=cohorts)
    return found | {"sample": _judged(verdict)}


def _hour_of(sample: Sample, *, default: int) -> int:
    """Checked before it is compared: a refusal cannot write out an hour that no calendar has."""
    match sample.timestamp:
        case None:
            return default
        case int() as ms:
            pass
        case moment:
            ms = int(moment.timestamp()) * SECOND_MS
    if not is_plausible_ms(ms):
        raise _refused("timestamp", NO_SUCH_TIME)
    return ms // HOUR_MS


def _judged(verdict: Verdict) -> dict[str, Any]:
    known: dict[str, Any] = {"window_start": iso_hour(verdict.hour), "value": verdict.value, "count": verdict.count}
    match verdict:
        case Scored():
            return known | {
                "verdict": "exceeded" if verdict.is_exceeded else "normal",
                "estimate": verdict.estimate,
                "threshold": verdict.threshold,
                "score": verdict.score,
                "is_credible": verdict.is_credible,
                "is_alert": verdict.is_alert,
            }
        case WarmingUp():
            nothing = dict.fromkeys(("estimate", "threshold", "score", "is_credible"))
            return known | {"verdict": "warming-up", **nothing, "is_alert": False}


def _bulk_series(index: int, metric_type_id: str, biller_id: str) -> tuple[Subject, Metric]:
    """Raises RefusedError that names the item."""
    try:
        return biller_series(metric_type_id, biller_id)
    except UnknownMetricError as error:
        raise RefusedError(kind_of(error), str(error), [Fault("metricTypeId", str(error), index=index)]) from None
    except InvalidSubjectError as error:
        raise RefusedError(kind_of(error), str(error), [Fault("billerId", str(error), index=index)]) from None


def _published(fields: dict[str, str] | None) -> dict[str, str] | None:
    """None as well for a series that has a model but was not yet published."""
    return fields if fields and fields["status"] else None


def _refused(field: str, reason: str) -> RefusedError:
    return RefusedError(INVALID_REQUEST, f"sample.{field}: {reason}", [Fault(f"sample.{field}", reason)])
