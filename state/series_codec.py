"""One series as the fields of a Redis hash, and back: what is published of it, and the last verdict.

Every field is written at every write, so nothing of an older answer can stay behind; an empty one says "not yet". The
fields are a function of the state alone: no time of writing, no counter. Numbers are exact both ways, except for those
of the explanation (see `for_reading`).

What the series has learned is in the subject's hash of models, as the record that `SeriesModel.to_bytes` gives, and
empty where there is none. A series of version 1, which is still read, has it in its own field `model`, as JSON. It
becomes one of version 2 when it is next written, and a program that reads version 1 alone then refuses it.
"""

from array import array
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final, cast

import orjson

from detection.catalogue import Metric
from detection.errors import UnreadableStateError
from detection.estimate import Estimate, Forecast, Scored, Status, Threshold, Verdict, WarmingUp
from detection.hours import HOUR_MS, iso
from detection.policy import Policy
from detection.series_model import SeriesModel
from detection.subject import Subject
from state import packing
from state.keys import models_key, series_key
from state.window_codec import hour_of, hour_text

_ABOUT: Final = ("schema", "subject", "metric", "unit")
_FORECAST: Final = (
    "status",
    "estimate",
    "lower",
    "upper",
    "threshold",
    "coverage",
    "claimed_exceedance",
    "expected_calls",
    "operator",
    "window_start",
    "window_end",
    "valid_until",
    "n_learned",
    "min_calls",
    "judged",
    "measured_exceedance",
    "explanation",
)
_VERDICT: Final = (
    "last_verdict",
    "last_window",
    "last_count",
    "last_value",
    "last_estimate",
    "last_threshold",
    "last_score",
    "last_is_credible",
    "last_is_alert",
)

# What is published of a series; `version` is a short hash of all the others.
ANSWER_FIELDS: Final = (*_ABOUT, *_FORECAST, *_VERDICT, "version")

# What the hash of a series of version 1 has and that of version 2 has not.
OBSOLETE: Final = b"model"

SERIES_SCHEMA: Final = 2
READABLE_SERIES: Final = (1, SERIES_SCHEMA)

_NAMES: Final = tuple(name.encode() for name in ANSWER_FIELDS)
_SCHEMA: Final = b"%d" % SERIES_SCHEMA
_NO_FORECAST: Final = (b"",) * len(_FORECAST)
_NO_VERDICT: Final = (b"",) * len(_VERDICT)
_BOOLEAN: Final = {False: b"false", True: b"true"}
_KNOWN_STATUS: Final = {"prior", "learning", "ready", "stale"}


def encode_series(
    subject: Subject,
    metric: Metric,
    *,
    forecast: Forecast | None,
    verdict: Verdict | None,
    policy: Policy,
) -> list[bytes]:
    """Names and values by turns, as HSET takes them."""
    values = [
        _SCHEMA,
        str(subject).encode(),
        metric.slug.encode(),
        metric.unit.encode(),
        *(_NO_FORECAST if forecast is None else _forecast_values(forecast, policy)),
        *(_NO_VERDICT if verdict is None else _verdict_values(verdict)),
    ]
    values.append(blake2b(b"\n".join(values), digest_size=6).hexdigest().encode())
    flat = [b""] * (2 * len(_NAMES))
    flat[::2] = _NAMES
    flat[1::2] = values
    return flat


def decode_series(
    subject: Subject,
    metric: Metric,
    fields: Mapping[bytes, bytes],
    records: Mapping[bytes, bytes],
    policy: Policy,
) -> tuple[SeriesModel | None, Forecast | None, Verdict | None]:
    """The inverse of `encode_series`, with what was learned: the record by this metric's slug among the subject's.

    Raises UnreadableStateError that names the key.
    """
    key = series_key(subject, metric.slug)
    version = require_schema(key, fields, READABLE_SERIES)
    try:
        forecast = _forecast(fields) if fields[b"status"] else None
        verdict = _verdict(fields) if fields[b"last_verdict"] else None
        model = _model_of_version_1(subject, metric, fields, policy) if version == 1 else None
    except UnreadableStateError as error:
        raise UnreadableStateError(f"{key}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableStateError(f"{key}: damaged: {error!r}") from error
    if version == SERIES_SCHEMA:
        model = _model(subject, metric, records, policy)
    return model, forecast, verdict


def _model(subject: Subject, metric: Metric, records: Mapping[bytes, bytes], policy: Policy) -> SeriesModel | None:
    key = models_key(subject)
    record = records.get(metric.slug.encode())
    if record is None:
        # Not the same as an empty one: to learn the series anew would hide that something was lost.
        raise UnreadableStateError(f"{key}: {metric}: missing")
    try:
        return SeriesModel.from_bytes(metric, record, policy, str(subject)) if record else None
    except UnreadableStateError as error:
        raise UnreadableStateError(f"{key}: {error}") from error


def _model_of_version_1(
    subject: Subject, metric: Metric, fields: Mapping[bytes, bytes], policy: Policy
) -> SeriesModel | None:
    packed = fields[OBSOLETE]
    return SeriesModel.from_version_1(metric, packing.load(packed), policy, str(subject)) if packed else None


def require_schema(key: str, fields: Mapping[bytes, bytes], readable: Sequence[int]) -> int:
    """The schema version of these fields; raises UnreadableStateError for one not readable, and for none at all."""
    found = fields.get(b"schema")
    if found is None:
        raise UnreadableStateError(f"{key}: missing, or without its schema version")
    for version in readable:
        if found == b"%d" % version:
            return version
    text, known = found.decode(errors="replace"), " and ".join(map(str, readable))
    raise UnreadableStateError(f"{key}: schema version {text}, this program reads {known}")


def answer_fields(values: list[bytes | None]) -> dict[str, str] | None:
    """The readable fields by name, of the values of ANSWER_FIELDS; None where there is no such series."""
    if values[0] is None:
        return None
    return {name: "" if value is None else value.decode() for name, value in zip(ANSWER_FIELDS, values, strict=True)}


def numbers(*values: float) -> list[bytes]:
    """The shortest texts that are read back as the same floats."""
    # Through an array, because an int among them would be read back as a float, which is written differently.
    floats = array("d", values)
    texts = orjson.dumps(floats.tolist())[1:-1].split(b",")
    if b"null" in texts:
        return [repr(value).encode() for value in floats]
    return texts


def for_reading(explanation: Mapping[str, float | str]) -> dict[str, float | str]:
    """The explanation in five significant digits: it is read by people, nothing is computed from it."""
    return {name: one if isinstance(one, str) else float(f"{one:.5g}") for name, one in explanation.items()}


def _forecast_values(forecast: Forecast, policy: Policy) -> list[bytes]:
    estimate, threshold = forecast.estimate, forecast.threshold
    measured = forecast.measured_exceedance
    return [
        forecast.status.encode(),
        *numbers(
            estimate.location,
            estimate.lower,
            estimate.upper,
            threshold.value,
            threshold.coverage,
            round(1.0 - threshold.coverage, 12),
            estimate.expected_count,
        ),
        threshold.operator.encode(),
        *_window_values(forecast.hour, policy.close_after_ms),
        b"%d" % estimate.n_learned,
        b"%d" % threshold.min_count,
        b"%d" % forecast.judged,
        b"" if measured is None else numbers(measured)[0],
        orjson.dumps(for_reading(forecast.explanation)),
    ]


@lru_cache(maxsize=4_096)
def _window_values(hour: int, close_after_ms: int) -> tuple[bytes, bytes, bytes]:
    valid_until = iso((hour + 1) * HOUR_MS + close_after_ms)
    return hour_text(hour).encode(), hour_text(hour + 1).encode(), valid_until.encode()


def _verdict_values(verdict: Verdict) -> list[bytes]:
    start, count = hour_text(verdict.hour).encode(), b"%d" % verdict.count
    match verdict:
        case WarmingUp():
            return [b"warming-up", start, count, *numbers(verdict.value), b"", b"", b"", b"", b""]
        case Scored():
            return [
                b"exceeded" if verdict.is_exceeded else b"normal",
                start,
                count,
                *numbers(verdict.value, verdict.estimate, verdict.threshold, verdict.score),
                _BOOLEAN[verdict.is_credible],
                _BOOLEAN[verdict.is_alert],
            ]


def _forecast(fields: Mapping[bytes, bytes]) -> Forecast:
    status = fields[b"status"].decode()
    if status not in _KNOWN_STATUS:
        raise ValueError(f"status {status!r}")
    measured = fields[b"measured_exceedance"]
    return Forecast(
        hour=hour_of(fields[b"window_start"].decode()),
        estimate=Estimate(
            location=float(fields[b"estimate"]),
            lower=float(fields[b"lower"]),
            upper=float(fields[b"upper"]),
            expected_count=float(fields[b"expected_calls"]),
            n_learned=int(fields[b"n_learned"]),
        ),
        threshold=Threshold(
            value=float(fields[b"threshold"]),
            direction="above" if fields[b"operator"] == b">" else "below",
            coverage=float(fields[b"coverage"]),
            min_count=int(fields[b"min_calls"]),
        ),
        status=cast("Status", status),
        measured_exceedance=float(measured) if measured else None,
        judged=int(fields[b"judged"]),
        explanation=orjson.loads(fields[b"explanation"]),
    )


def _verdict(fields: Mapping[bytes, bytes]) -> Verdict:
    hour = hour_of(fields[b"last_window"].decode())
    value, count = float(fields[b"last_value"]), int(fields[b"last_count"])
    if fields[b"last_verdict"] == b"warming-up":
        return WarmingUp(hour, value, count)
    return Scored(
        hour=hour,
        value=value,
        count=count,
        estimate=float(fields[b"last_estimate"]),
        threshold=float(fields[b"last_threshold"]),
        score=float(fields[b"last_score"]),
        is_exceeded=fields[b"last_verdict"] == b"exceeded",
        is_credible=fields[b"last_is_credible"] == b"true",
    )
