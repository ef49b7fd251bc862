"""What is answered about series, made of what is stored without taking it to pieces: bytes in, bytes out.

Numbers are stored as the JSON that is answered, so of a `ready` series most of an answer is there already. What is not
as usual goes the long way of `api.answers`, which says the same byte for byte: a young series, an older version, an
infinity, a live alert.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from api.answers import OVERDUE_MS, Answer, listed, prediction, published_sentence
from detection.catalogue import Metric, metric_of
from detection.cohorts import Cohorts
from detection.errors import UnreadableStateError
from detection.hours import HOUR_MS, iso, parse_ms
from state.as_stored import AsStored, Held
from state.keys import series_key
from state.readable_series import answer_fields
from state.series_fields import STORED_FIELDS
from state.survey import Lately
from state.survey_codec import read_lately

_COMMON: Final = (
    b'{"subject":"%b","metric":"%b","estimate":%b,"lower":%b,"upper":%b,"threshold":%b,"operator":"%b","unit":%b,'
    b'"window_start":"%b","window_end":%b,"valid_until":"%b","version":"%b","status":"%b","n_learned":%b,%b,'
)
_LINE: Final = _COMMON + b'"last_window":%b,"last_value":%b,"alert":{"is_alert":%b,"evidence":%b}}\n'
_PREDICTION: Final = _COMMON + (
    b'"expected_calls":%b,"min_calls":%b,"claimed_exceedance":%b,"measured_exceedance":%b,"judged":%b,'
    b'"alert":{"is_alert":%b,"evidence":%b},"explanation":{"sentence":%b,"parts":%b}}'
)
_EVIDENCE: Final = (
    b'{"source":"hour","window_start":"%b","window_end":%b,"value":%b,"calls":%d,"min_calls":%b,"threshold":%b,'
    b'"score":%b}'
)
_NULL: Final = b"null"
_TRUE: Final = b"true"
_FALSE: Final = b"false"
_OPERATORS: Final = (b">", b"<")
_NUMBERS: Final = 7
_JUDGED_NUMBERS: Final = 3
_STATUS: Final = STORED_FIELDS.index("status")


class _Last(msgspec.Struct, gc=False):
    """The last verdict, numbers as the text that they are; one of a series that was warming up has no score."""

    verdict: str
    window: str
    count: int
    value: msgspec.Raw
    threshold: msgspec.Raw = msgspec.Raw()
    score: msgspec.Raw = msgspec.Raw()
    is_alert: bool = False


_LAST: Final = msgspec.json.Decoder(_Last)


@dataclass(frozen=True, slots=True)
class Now:
    """What answers depend on beside what is stored of a series."""

    clock_ms: int
    cohorts: Cohorts


class _Usual(NamedTuple):
    """What both answers about a `ready` series have: what they begin with, and how the alert stands."""

    status: str
    common: tuple[bytes, ...]
    last_window: bytes
    last_value: bytes
    is_alert: bytes
    evidence: bytes


def lines(stored: AsStored, slug: str | None, now: Now) -> Iterator[tuple[str, str, bytes, bytes]]:
    """Slug, status, start of the window and line of each published series; of one metric where its slug is given."""
    lately: Lately | None = None
    is_read = False
    for own_slug, held in stored.series:
        if slug not in (None, own_slug):
            continue
        values = _values(held)
        if not values[_STATUS]:
            continue
        if not is_read:
            lately, is_read = read_lately(stored.subject, stored.minutes), True
        usual = _usual(stored, own_slug, held, values, lately, now)
        if usual is None:
            item = _the_long_way(listed, stored, metric_of(own_slug), values, lately, now)
            text = orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE)
            yield own_slug, item["status"], item["window_start"].encode(), text
        else:
            line = _LINE % (*usual.common, usual.last_window, usual.last_value, usual.is_alert, usual.evidence)
            yield own_slug, usual.status, values[_WINDOW_START] or b"", line


def predicted(stored: AsStored, metric: Metric, now: Now) -> tuple[str, bytes] | None:
    """The version and the text of predict's answer, of the only series of what is stored; None if it is unpublished."""
    for slug, held in stored.series:
        values = _values(held)
        if not values[_STATUS]:
            return None
        lately = read_lately(stored.subject, stored.minutes)
        usual = _usual(stored, slug, held, values, lately, now)
        found = None if usual is None else _prediction(usual, metric, values)
        if found is None:
            item = _the_long_way(prediction, stored, metric, values, lately, now)
            return item["version"], orjson.dumps(item)
        return found
    return None


def _values(held: Held) -> Sequence[bytes | None]:
    return held.split(b"\n") if isinstance(held, bytes) else held


def _the_long_way(
    answer: Callable[..., Answer],
    stored: AsStored,
    metric: Metric,
    values: Sequence[bytes | None],
    lately: Lately | None,
    now: Now,
) -> Answer:
    fields = answer_fields(values)
    if fields is None:
        raise UnreadableStateError(f"{series_key(stored.subject, metric.slug)}: missing")
    return answer(stored.subject, metric, fields, lately=lately, clock_ms=now.clock_ms, cohorts=now.cohorts)


def _usual(stored: AsStored, slug: str, held: Held, values: Any, lately: Lately | None, now: Now) -> _Usual | None:
    """None for a series that is not as usual."""
    if not isinstance(held, bytes) or values[_STATUS] != b"ready":
        return None
    (
        _, _, _, unit, operator, _, _, _, estimate, lower, upper, threshold, expected_calls,
        window_start, valid_until, n_learned, min_calls, _, _, _, last,
    ) = values  # fmt: skip
    try:
        # That they are numbers is seen here, and then believed.
        told = orjson.loads(
            b"[%b,%b,%b,%b,%b,%b,%b]" % (estimate, lower, upper, threshold, expected_calls, n_learned, min_calls)
        )
        if len(told) != _NUMBERS or operator not in _OPERATORS:
            return None
        verdict = _LAST.decode(last) if last else None
        start_ms, end = _window(window_start)
        status = "stale" if now.clock_ms > _ms(valid_until) + OVERDUE_MS else "ready"
    except (ValueError, msgspec.DecodeError):
        return None
    if lately is not None and status == "ready":
        found = lately.values.get(slug)
        if found is not None and (found.value > told[3] if operator == b">" else found.value < told[3]):
            return None
    is_alert, evidence, last_window, last_value = _FALSE, _NULL, _NULL, _NULL
    if verdict is not None:
        last_window, last_value = _quoted(verdict.window), _number(verdict.value)
        if verdict.score:
            began = verdict.window.encode()
            hour_ms, hour_end = _window(began)
            score, beyond = _number(verdict.score), _number(verdict.threshold)
            evidence = _EVIDENCE % (began, hour_end, last_value, verdict.count, min_calls, beyond, score)
            if verdict.is_alert and status == "ready" and start_ms - hour_ms <= HOUR_MS:
                is_alert = _TRUE
    common = (
        str(stored.subject).encode(), slug.encode(), estimate, lower, upper, threshold, operator,
        _quoted(unit.decode()), window_start, end, valid_until, blake2b(held, digest_size=6).hexdigest().encode(),
        status.encode(), n_learned, cohort_text(now, slug, told[4]),
    )  # fmt: skip
    return _Usual(status, common, last_window, last_value, is_alert, evidence)


def _prediction(usual: _Usual, metric: Metric, values: Any) -> tuple[str, bytes] | None:
    (
        _, _, _, _, operator, _, claimed, _, estimate, _, _, threshold, expected_calls,
        window_start, _, n_learned, min_calls, judged, measured, explanation, _,
    ) = values  # fmt: skip
    measured = measured or _NULL
    try:
        told = orjson.loads(b"[%b,%b,%b]" % (claimed, measured, judged))
        orjson.loads(explanation)
    except ValueError:
        return None
    if len(told) != _JUDGED_NUMBERS:
        return None
    sentence = published_sentence(
        metric,
        status=usual.status,
        estimate=float(estimate),
        threshold=float(threshold),
        operator=operator.decode(),
        window_start=window_start.decode(),
        n_learned=n_learned.decode(),
        claimed_exceedance=told[0],
    )
    text = _PREDICTION % (
        *usual.common, expected_calls, min_calls, claimed, measured, judged, usual.is_alert, usual.evidence,
        orjson.dumps(sentence), explanation,
    )  # fmt: skip
    return usual.common[_VERSION].decode(), text


_WINDOW_START: Final = STORED_FIELDS.index("window_start")
# Of what both answers begin with.
_VERSION: Final = 11


def _number(text: msgspec.Raw) -> bytes:
    """JSON has no infinity: it is stored as a string."""
    found = bytes(text)
    return _NULL if found[:1] == b'"' else found


@lru_cache(maxsize=4_096)
def _window(start: bytes) -> tuple[int, bytes]:
    """When an hour begins, and the text of its end, in quotes."""
    ms = parse_ms(start.decode())
    return ms, orjson.dumps(iso(ms + HOUR_MS))


@lru_cache(maxsize=4_096)
def _ms(text: bytes) -> int:
    return parse_ms(text.decode())


@lru_cache(maxsize=4_096)
def _quoted(text: str) -> bytes:
    return orjson.dumps(text)


def cohort_text(now: Now, slug: str, expected_calls: float) -> bytes:
    """What is said of the cohort of a series with so many calls an hour."""
    cohort = now.cohorts.find(slug, expected_calls) if now.cohorts.known else None
    if cohort is None:
        return b'"cohort":null,"cohort_measured_exceedance":null'
    told = {"cohort": cohort.name, "cohort_measured_exceedance": cohort.measured_exceedance}
    return orjson.dumps(told)[1:-1]
