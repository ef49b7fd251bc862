"""What OpenAPI says beside the types: media types, problems, and an example of every request and answer."""

from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.access import ACCESS, UNLISTED
from api.links import add_links
from api.problems import (
    FORBIDDEN,
    INTERNAL,
    INVALID_REQUEST,
    KINDS,
    MEDIA_REFUSED,
    MEDIA_TYPE,
    PRECONDITION_FAILED,
    TOO_MANY_REQUESTS,
    UNAUTHENTICATED,
    Kind,
)
from api.schemas import (
    BulkRequest,
    CallGiven,
    CallsGiven,
    ObservationGiven,
    PredictRequest,
    Problem,
    TrainCalls,
    TrainFromHistory,
    TrainRows,
)

Described = dict[int | str, dict[str, Any]]

_REFERENCE: Final = "#/components/schemas/{model}"
_BODIES: Final[tuple[type[BaseModel], ...]] = (
    BulkRequest,
    CallGiven,
    CallsGiven,
    ObservationGiven,
    PredictRequest,
    Problem,
    TrainCalls,
    TrainFromHistory,
    TrainRows,
)
_EXAMPLES: Final = {
    kind.status: kind for kind in (*KINDS.values(), INVALID_REQUEST, MEDIA_REFUSED, PRECONDITION_FAILED, INTERNAL)
}
_TAGS: Final = [
    {"name": "predict", "description": "What is normal in the next hour."},
    {"name": "thresholds", "description": "All series at once, for who sets alert conditions."},
    {"name": "overview", "description": "Where every subject stands, for a page that people look at."},
    {"name": "stats", "description": "How metrics and calls have been."},
    {"name": "history", "description": "What was published of each hour, and how often it held."},
    {"name": "alerts", "description": "What is open, and what people have to say of it."},
    {"name": "rules", "description": "What is reason to tell somebody, and who has said so."},
    {"name": "train", "description": "Learning from data sets of the past."},
    {"name": "exclusions", "description": "Hours that are not to be learned: incidents and maintenance."},
    {"name": "events", "description": "Calls and observations, into the stream."},
    {"name": "health", "description": "For probes and Prometheus."},
]

PREDICTION: Final[dict[str, Any]] = {
    "subject": "biller:B1",
    "metric": "average-response-time",
    "estimate": 212.4,
    "lower": 168.9,
    "upper": 281.7,
    "threshold": 334.1,
    "operator": ">",
    "unit": "ms",
    "window_start": "2026-11-21T20:00:00Z",
    "window_end": "2026-11-21T21:00:00Z",
    "valid_until": "2026-11-21T21:01:00Z",
    "version": "9f2c51d08a3e",
    "status": "ready",
    "n_learned": 2160,
    "cohort": "average-response-time/10-100",
    "cohort_measured_exceedance": 0.0104,
    "expected_calls": 61.3,
    "min_calls": 5,
    "claimed_exceedance": 0.01,
    "measured_exceedance": 0.0112,
    "judged": 2112,
    "alert": {
        "is_alert": True,
        "evidence": {
            "source": "minutes",
            "window_start": "2026-11-21T19:46:00Z",
            "window_end": "2026-11-21T20:01:00Z",
            "value": 512.8,
            "calls": 17,
            "min_calls": 5,
            "threshold": 334.1,
            "score": 2.47,
        },
    },
    "explanation": {
        "sentence": "212.4 ms is expected after 2160 learned hours: up to 334.1 ms is normal in the hour from "
        "2026-11-21T20:00:00Z, 1 % of normal hours go beyond.",
        "parts": {"spread": 14.6, "disagreement": 9.8, "correction": 1.04, "drift": "none", "weight_week": 0.46},
    },
}
GAUGE_PREDICTION: Final[dict[str, Any]] = PREDICTION | {
    "subject": "model:Mistral/v1",
    "metric": "prediction-accuracy",
    "cohort": "prediction-accuracy/<10",
    "estimate": 0.81,
    "lower": 0.74,
    "upper": 0.87,
    "threshold": 0.7,
    "operator": "<",
    "unit": "",
    "alert": {"is_alert": False, "evidence": None},
    "explanation": {
        "sentence": "0.81 is expected after 2160 learned hours: down to 0.7 is normal in the hour from "
        "2026-11-21T20:00:00Z, 1 % of normal hours go beyond.",
        "parts": {"spread": 0.021, "disagreement": 0.012, "correction": 0.97, "drift": "none", "weight_last": 0.3},
    },
}
THRESHOLD: Final[dict[str, Any]] = {
    name: PREDICTION[name]
    for name in (
        "subject",
        "metric",
        "estimate",
        "lower",
        "upper",
        "threshold",
        "operator",
        "unit",
        "status",
        "window_start",
        "window_end",
        "valid_until",
        "version",
        "n_learned",
        "cohort",
        "cohort_measured_exceedance",
        "alert",
    )
} | {"last_window": "2026-11-21T19:00:00Z", "last_value": 241.2}
TRAINED: Final[dict[str, Any]] = {
    "mode": "merge",
    "accepted": 2,
    "duplicate": 0,
    "rejected": [{"row": 3, "field": "value", "reason": "'many' is not a finite number"}],
    "rejected_total": 1,
    "is_changed": True,
    "backtest": {"n": 0, "exceedance": None, "pinball": None, "skill": None},
    "prediction": PREDICTION | {"status": "learning", "n_learned": 2},
}

ALERT: Final[dict[str, Any]] = {
    "id": "model:Mistral/v1/prediction-accuracy/low-accuracy/2026-11-21T20:00:00Z",
    "state": "open",
    "subject": "model:Mistral/v1",
    "metric": "prediction-accuracy",
    "rule": "low-accuracy",
    "line": "ALERT prediction_accuracy lower than 0.3, {'name': 'Mistral', 'version': 'v1', 'prediction_accuracy': "
    "0.193, 'drift': 0.11, 'timestamp': '2026-11-21T20:00:00Z'}",
    "since": "2026-11-21T20:00:00Z",
    "last": "2026-11-21T20:00:00Z",
    "opened": "2026-11-21T20:00:00Z",
    "value": 0.193,
    "boundary": 0.3,
    "count": 1,
    "score": 1.36,
    "worst": 1.36,
    "condition": "lower than",
    "severity": "critical",
    "owner": "ml-team",
    "detail": {
        "name": "Mistral",
        "version": "v1",
        "prediction_accuracy": 0.193,
        "drift": 0.11,
        "timestamp": "2026-11-21T20:00:00Z",
    },
}
PAST_ALERT: Final[dict[str, Any]] = {
    name: ALERT[name]
    for name in (
        "id",
        "opened",
        "subject",
        "metric",
        "rule",
        "severity",
        "owner",
        "value",
        "boundary",
        "worst",
        "count",
        "line",
        "detail",
    )
} | {
    "state": "resolved",
    "rev": 418,
    "resolved": "2026-11-21T20:07:00Z",
    "reason": None,
    "acknowledged_by": "kim",
    "acknowledged": "2026-11-21T20:02:11Z",
    "feedback": "true",
}

SAMPLES: Final[dict[str, Any]] = {
    "nothing": {"summary": "What is published", "value": {}},
    "sample": {
        "summary": "What would be after a sample",
        "value": {"sample": {"timestamp": "2026-11-21T20:00:00Z", "value": 512.8, "count": 60}},
    },
}
BULK: Final[dict[str, Any]] = {
    "two": {
        "summary": "Two series",
        "value": {
            "items": [
                {"metricTypeId": 1, "billerId": "B1"},
                {"metricTypeId": "error-rate", "billerId": "B2"},
            ]
        },
    }
}
DATA_SETS: Final[dict[str, Any]] = {
    "rows": {
        "summary": "Hours",
        "value": {
            "rows": [
                {"timestamp": "2026-11-20T00:00:00Z", "value": 184.2, "count": 60},
                {"timestamp": "2026-11-20T01:00:00Z", "value": 181.7, "count": 58},
            ]
        },
    },
    "calls": {
        "summary": "Raw calls",
        "value": {"calls": [{"timestamp": "2026-11-20T00:00:07Z", "latency_ms": 184.2, "outcome": "ok"}]},
    },
    "history": {
        "summary": "What the history knows",
        "value": {"source": "history", "from": "2026-10-01T00:00:00Z", "to": "2026-11-01T00:00:00Z"},
    },
}
CALLS: Final[dict[str, Any]] = {
    "one": {
        "summary": "One call",
        "value": {"biller_id": "B1", "timestamp": "2026-11-21T20:00:00Z", "latency_ms": 184.2, "outcome": "ok"},
    },
    "several": {
        "summary": "Several calls",
        "value": {
            "calls": [{"biller_id": "B1", "timestamp": 1763755200000, "latency_ms": 30000, "outcome": "timeout"}]
        },
    },
}
OBSERVATIONS: Final[dict[str, Any]] = {
    "one": {
        "summary": "One observation",
        "value": {
            "name": "Mistral",
            "version": "v1",
            "timestamp": "2026-11-21T20:00:00Z",
            "prediction_accuracy": 0.19,
            "drift": 0.11,
            "inference_time": 12.76,
        },
    }
}

_ROWS_NDJSON = '{"timestamp":"2026-11-20T00:00:00Z","value":184.2,"count":60}\n'
_ROWS_CSV = "timestamp,value,count\n2026-11-20T00:00:00Z,184.2,60\n2026-11-20T01:00:00Z,181.7,58\n"

TABLES: Final[dict[str, Any]] = {
    "application/x-ndjson": {"schema": {"type": "string"}, "example": _ROWS_NDJSON},
    "text/csv": {"schema": {"type": "string"}, "example": _ROWS_CSV},
}


def answer(model: type[BaseModel], example: Any, *, description: str = "") -> dict[str, Any]:
    """A JSON answer with its example."""
    return {
        "model": model,
        "description": description or (model.__doc__ or "").partition("\n")[0],
        "content": {"application/json": {"example": example}},
    }


def responses(
    model: type[BaseModel], example: Any, *statuses: int, description: str = "", status: int = 200
) -> Described:
    """An endpoint's answer, and the statuses of the problems that it may answer instead."""
    described: Described = {status: answer(model, example, description=description)}
    for one in sorted({*statuses, INTERNAL.status}):
        described[one] = _refusal(_EXAMPLES[one])
    return described


def _refusal(kind: Kind) -> dict[str, Any]:
    problem = {
        "type": f"urn:tidemark:problem:{kind.name}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.title,
        "instance": "/metrics/predict/average-response-time/B1",
    }
    return {
        "description": kind.title,
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model="Problem")}, "example": problem}},
    }


def body(
    *models: type[BaseModel], examples: dict[str, Any], is_required: bool = True, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    """A request body that the handler reads itself; `more` are media types beside JSON."""
    refs = [{"$ref": _REFERENCE.format(model=model.__name__)} for model in models]
    schema: dict[str, Any] = refs[0] if len(refs) == 1 else {"anyOf": refs}
    content = {"application/json": {"schema": schema, "examples": examples}, **(more or {})}
    return {"requestBody": {"required": is_required, "content": content}}


def install(app: FastAPI) -> None:
    """Add the shapes that `body` and `problems` refer to."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes, tags=_TAGS
            )
            _, extra = models_json_schema([(model, "validation") for model in _BODIES], ref_template=_REFERENCE)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            for name, schema in extra.get("$defs", {}).items():
                schemas.setdefault(name, schema)
            # The framework's own shapes of a refused request: ours are problems.
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            _secure(document)
            add_links(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]  # how FastAPI is told to describe itself otherwise


def _secure(document: dict[str, Any]) -> None:
    """Say of each endpoint which scope it takes, and how it refuses who has not got it."""
    document["components"]["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`tm_...`) or a token of the identity provider; asked for where TIDEMARK_AUTH "
            "is `on`. `admin` may do everything.",
        },
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key, and nothing else."},
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            access = ACCESS.get((method.upper(), path), UNLISTED)
            if access.scope is None:
                continue
            operation["security"] = [{"bearer": [access.scope]}, {"key": [access.scope]}]
            refusals = (UNAUTHENTICATED, FORBIDDEN, TOO_MANY_REQUESTS)
            operation["responses"] |= {str(kind.status): _refusal(kind) for kind in refusals}
