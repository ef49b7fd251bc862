"""One series as the fields of a Redis hash, and back: what is published of it, and the last verdict.

The static fields say whose series it is and what is claimed of it; they are written once, and again when what is
claimed has changed (`about_of`). The dynamic ones are written together at every closing, so nothing of an older answer
can stay behind; an empty one says "not yet". They are few, because the server takes its time for each of them. The
fields are a function of the state alone: no time of writing, no counter. Numbers are exact both ways.

What the series has learned is in the subject's hash of models, as the record that `SeriesModel.to_bytes` gives, and
empty where there is none.

Readers know one flat set of names, whatever the version (`state.readable_series`). Of the older ones, which are still
read, version 1 has what was learned in its own field `model`, as JSON. A series becomes one of version 3 when it is
next written, and a program that reads older ones alone then refuses it.
"""

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
from typing import Any, Final

import orjson

from detection.catalogue import Metric, metric_of
from detection.closing import Closings
from detection.errors import UnreadableStateError
from detection.estimate import Estimate, Forecast, Scored, Status, Threshold, Verdict, WarmingUp
from detection.hours import HOUR_MS, iso
from detection.policy import Policy
from detection.series_model import SeriesModel
from detection.subject import Subject
from state import packing
from state.keys import models_key, series_key
from state.series_fields import ABOUT, DYNAMIC, READABLE_SERIES, SERIES_SCHEMA
from state.window_codec import hour_of, hour_text

_SCHEMA: Final = b"%d" % SERIES_SCHEMA
_NO_FORECAST: Final = (b"",) * (len(DYNAMIC) - 1)
_STATUS: Final[dict[Status, bytes]] = {
    "prior": b"prior",
    "learning": b"learning",
    "ready": b"ready",
    "stale": b"stale",
}
_KNOWN_STATUS: Final = {text: status for status, text in _STATUS.items()}
_BOOLEAN: Final = (b"false", b"true")
_QUOTED: Final = b'"%a"'
_MOST: Final = 2**63 - 1
_EXCEEDED: Final = (b"normal", b"exceeded")
_WARMING_UP: Final = b'{"verdict":"warming-up","window":"%b","count":%b,"value":%b}'
_SCORED: Final = (
    b'{"verdict":"%b","window":"%b","count":%b,"value":%b,"estimate":%b,"threshold":%b,"score":%b,'
    b'"is_credible":%b,"is_alert":%b}'
)


def encode_series(
    subject: Subject,
    metric: Metric,
    *,
    forecast: Forecast | None,
    verdict: Verdict | None,
    policy: Policy,
    is_whole: bool = True,
) -> list[bytes]:
    """Names and values by turns, as HSET takes them.

    Where the state is not whole, no verdict means that the stored one stands: `last` is then left out.
    """
    values = (*(_NO_FORECAST if forecast is None else _forecast_values(forecast, policy)), _last(verdict))
    flat = about_fields(subject, metric, policy)
    for pair in zip(DYNAMIC, values, strict=True):
        flat += pair
    if verdict is None and not is_whole:
        del flat[-2:]
    return flat


def about_fields(subject: Subject, metric: Metric, policy: Policy) -> list[bytes]:
    """The static fields, names and values by turns."""
    flat = list(_about_fields(metric.slug, metric.unit, metric.direction, policy.coverage))
    flat[3] = str(subject).encode()
    return flat


def about_of(slugs: Iterable[str], policy: Policy) -> bytes:
    """A digest of the static fields of these series, but for whose they are; while it is the same, they stand."""
    return _about_of(tuple(slugs), policy.coverage)


def _last(verdict: Verdict | None) -> bytes:
    """The field `last`: the verdict as JSON, empty where there is none."""
    match verdict:
        case None:
            return b""
        case WarmingUp():
            return _WARMING_UP % (_hour(verdict.hour), b"%d" % verdict.count, *_in_json(verdict.value))
        case Scored():
            return _SCORED % (
                _EXCEEDED[verdict.is_exceeded],
                _hour(verdict.hour),
                b"%d" % verdict.count,
                *_in_json(verdict.value, verdict.estimate, verdict.threshold, verdict.score),
                _BOOLEAN[verdict.is_credible],
                _BOOLEAN[verdict.is_alert],
            )


def encode_closings(closings: Closings) -> list[list[bytes]]:
    """The dynamic fields of each series, names and values by turns: byte for byte what `encode_series` gives.

    `last` is left out where nothing was judged: the stored verdict stands. In columns, at 5 us a series.
    """
    answers, told = closings.answers, closings.told
    windows = [_window_values(hour, closings.policy.close_after_ms) for hour in closings.hour]
    judged = told["judged"].tolist()
    columns: list[Iterable[bytes]] = [
        [_STATUS[status] for status in closings.status],
        *(_column(answers[name].tolist()) for name in ("location", "lower", "upper", "threshold")),
        _column(told["expected_count"].tolist()),
        [start for start, _ in windows],
        [valid_until for _, valid_until in windows],
        *(_column(told[name].tolist()) for name in ("n_learned", "min_count")),
        _column(judged),
        [
            share if count else b""
            for share, count in zip(_column(told["exceedance_rate"].tolist()), judged, strict=True)
        ],
        map(orjson.dumps, closings.explanations),
        _lasts(closings),
    ]
    by_turns: list[Iterable[bytes]] = []
    for name, column in zip(DYNAMIC, columns, strict=True):
        by_turns += (repeat(name), column)
    flats = list(map(list, zip(*by_turns)))  # noqa: B905 (the names never end)
    for flat, is_judged in zip(flats, closings.is_judged, strict=True):
        if not is_judged:
            del flat[-2:]
    return flats


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
    version, forecast, verdict = decode_answer(subject, metric, fields)
    if version == 1:
        try:
            return _model_of_version_1(subject, metric, fields, policy), forecast, verdict
        except UnreadableStateError as error:
            raise UnreadableStateError(f"{key}: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise UnreadableStateError(f"{key}: damaged: {error!r}") from error
    return _model(subject, metric, records, policy), forecast, verdict


def decode_answer(
    subject: Subject, metric: Metric, fields: Mapping[bytes, bytes]
) -> tuple[int, Forecast | None, Verdict | None]:
    """The version of the series, what is published of it, and its last verdict; UnreadableStateError names the key."""
    key = series_key(subject, metric.slug)
    version = require_schema(key, fields, READABLE_SERIES)
    try:
        forecast = _forecast(fields) if fields[b"status"] else None
        if version == SERIES_SCHEMA:
            verdict = _verdict(orjson.loads(fields[b"last"])) if fields[b"last"] else None
        else:
            verdict = _older_verdict(fields) if fields[b"last_verdict"] else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableStateError(f"{key}: damaged: {error!r}") from error
    return version, forecast, verdict


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
    packed = fields[b"model"]
    return SeriesModel.from_version_1(metric, packing.load(packed), policy, str(subject)) if packed else None


def require_schema(key: str, fields: Mapping[bytes, bytes], readable: Sequence[int]) -> int:
    """The schema version of these fields; raises UnreadableStateError for one not readable, and for none at all."""
    found = fields.get(b"schema")
    if found is None:
        raise UnreadableStateError(f"{key}: missing, or without its schema version")
    for version in readable:
        if found == b"%d" % version:
            return version
    text = found.decode(errors="replace")
    *others, newest = map(str, readable)
    known = f"{', '.join(others)} and {newest}" if others else newest
    raise UnreadableStateError(f"{key}: schema version {text}, this program reads {known}")


def numbers(*values: float) -> list[bytes]:
    """The shortest texts that are read back as the same floats."""
    # Through an array, because an int among them would be read back as a float, which is written differently.
    return _column(array("d", values).tolist())


def _column(values: Sequence[float], infinite: bytes = b"%a") -> list[bytes]:
    """The texts of many numbers, each as it would be alone; what JSON has no number for in the form `infinite`."""
    if not values:
        return []
    texts = orjson.dumps(values)[1:-1].split(b",")
    if b"null" in texts:
        return [infinite % value if text == b"null" else text for text, value in zip(texts, values, strict=True)]
    return texts


def _in_json(*values: float) -> list[bytes]:
    """Their texts as they may stand in JSON, where an infinity is a string."""
    return _column(array("d", values).tolist(), _QUOTED)


@lru_cache(maxsize=4_096)
def _about_fields(slug: str, unit: str, direction: str, coverage: float) -> tuple[bytes, ...]:
    """The static fields, names and values by turns, with no subject in its place."""
    values = (
        _SCHEMA,
        b"",
        slug.encode(),
        unit.encode(),
        b">" if direction == "above" else b"<",
        *numbers(coverage, round(1.0 - coverage, 12)),
    )
    return tuple(each for pair in zip(ABOUT, values, strict=True) for each in pair)


@lru_cache(maxsize=4_096)
def _about_of(slugs: tuple[str, ...], coverage: float) -> bytes:
    digest = blake2b(digest_size=6)
    for metric in map(metric_of, slugs):
        digest.update(b"\n".join(_about_fields(metric.slug, metric.unit, metric.direction, coverage)) + b"\n")
    return digest.hexdigest().encode()


def _forecast_values(forecast: Forecast, policy: Policy) -> list[bytes]:
    """Those of the dynamic fields but `last`."""
    estimate, threshold = forecast.estimate, forecast.threshold
    measured = forecast.measured_exceedance
    return [
        _STATUS[forecast.status],
        *numbers(estimate.location, estimate.lower, estimate.upper, threshold.value, estimate.expected_count),
        *_window_values(forecast.hour, policy.close_after_ms),
        b"%d" % estimate.n_learned,
        b"%d" % threshold.min_count,
        b"%d" % forecast.judged,
        b"" if measured is None else numbers(measured)[0],
        orjson.dumps(forecast.explanation),
    ]


@lru_cache(maxsize=4_096)
def _window_values(hour: int, close_after_ms: int) -> tuple[bytes, bytes]:
    """The start of the hour, and until when what is said of it is valid."""
    return _hour(hour), iso((hour + 1) * HOUR_MS + close_after_ms).encode()


@lru_cache(maxsize=4_096)
def _hour(hour: int) -> bytes:
    return hour_text(hour).encode()


def _lasts(closings: Closings) -> list[bytes]:
    """The last verdicts as JSON; of no meaning where nothing was judged."""
    verdicts = closings.verdicts
    scores, is_credible = verdicts["score"].tolist(), verdicts["is_credible"].tolist()
    return [
        _SCORED
        % (
            _EXCEEDED[is_exceeded],
            _hour(hour),
            count,
            value,
            estimate,
            threshold,
            score_text,
            _BOOLEAN[credible],
            _BOOLEAN[credible and score > 1.0],
        )
        if is_scored
        else _WARMING_UP % (_hour(hour), count, value)
        for hour, count, value, is_scored, is_exceeded, estimate, threshold, score, score_text, credible in zip(
            closings.last_hour,
            _column(closings.last_count),
            _column(closings.last_value, _QUOTED),
            verdicts["is_judged"].tolist(),
            verdicts["is_exceeded"].tolist(),
            _column(verdicts["location"].tolist(), _QUOTED),
            _column(verdicts["threshold"].tolist(), _QUOTED),
            scores,
            _column(scores, _QUOTED),
            is_credible,
            strict=True,
        )
    ]


def _forecast(fields: Mapping[bytes, bytes]) -> Forecast:
    measured = fields[b"measured_exceedance"]
    return Forecast(
        hour=hour_of(fields[b"window_start"].decode()),
        estimate=Estimate(
            location=_finite(fields[b"estimate"]),
            lower=_number(fields[b"lower"]),
            upper=_number(fields[b"upper"]),
            expected_count=_finite(fields[b"expected_calls"]),
            n_learned=_count(fields[b"n_learned"]),
        ),
        threshold=Threshold(
            value=_number(fields[b"threshold"]),
            direction="above" if fields[b"operator"] == b">" else "below",
            coverage=_finite(fields[b"coverage"]),
            min_count=_count(fields[b"min_calls"]),
        ),
        status=_KNOWN_STATUS[fields[b"status"]],
        measured_exceedance=_finite(measured) if measured else None,
        judged=_count(fields[b"judged"]),
        explanation=_parts(orjson.loads(fields[b"explanation"])),
    )


def _number(told: bytes | str | float) -> float:
    """Infinite maybe, but a number; ValueError for any other text."""
    number = float(told)
    if math.isnan(number):
        raise ValueError("NaN was never published")
    return number


def _finite(told: bytes) -> float:
    """ValueError for what is no finite number: bounds may be infinite, what is expected never is."""
    number = float(told)
    if not math.isfinite(number):
        raise ValueError(f"{number} was never expected")
    return number


def _count(told: bytes | str | int) -> int:
    number = int(told)
    if not 0 <= number <= _MOST:
        raise ValueError(f"{number} was never counted")
    return number


def _parts(told: object) -> dict[str, float | str]:
    if not isinstance(told, dict):
        raise TypeError("an explanation has parts with names")
    return told


def _verdict(told: dict[str, Any]) -> Verdict:
    hour = hour_of(told["window"])
    if told["verdict"] == "warming-up":
        return WarmingUp(hour, _number(told["value"]), _count(told["count"]))
    return Scored(
        hour=hour,
        value=_number(told["value"]),
        count=_count(told["count"]),
        estimate=_number(told["estimate"]),
        threshold=_number(told["threshold"]),
        score=_number(told["score"]),
        is_exceeded=told["verdict"] == "exceeded",
        is_credible=bool(told["is_credible"]),
    )


def _older_verdict(fields: Mapping[bytes, bytes]) -> Verdict:
    hour = hour_of(fields[b"last_window"].decode())
    value, count = _number(fields[b"last_value"]), _count(fields[b"last_count"])
    if fields[b"last_verdict"] == b"warming-up":
        return WarmingUp(hour, value, count)
    return Scored(
        hour=hour,
        value=value,
        count=count,
        estimate=_number(fields[b"last_estimate"]),
        threshold=_number(fields[b"last_threshold"]),
        score=_number(fields[b"last_score"]),
        is_exceeded=fields[b"last_verdict"] == b"exceeded",
        is_credible=fields[b"last_is_credible"] == b"true",
    )
