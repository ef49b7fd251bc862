"""The series of a subject as lines of JSON, made of what is stored without taking it to pieces.

Numbers are stored as the JSON that is answered, so of a `ready` series most of a line is there already. What is not as
usual goes the long way, which says the same byte for byte: a young series, an older version, an infinity, a live alert.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec
import orjson

from api.answers import OVERDUE_MS, Answer, listed
from detection.catalogue import metric_of
from detection.cohorts import Cohort, Cohorts
from detection.errors import UnreadableStateError
from detection.hours import HOUR_MS, iso, parse_ms
from state.as_stored import AsStored
from state.keys import series_key
from state.series_codec import ANSWER_FIELDS, SERIES_SCHEMA, answer_fields
from state.survey import Lately
from state.survey_codec import read_lately

_SCHEMA: Final = b"%d" % SERIES_SCHEMA
_PARTS: Final = ANSWER_FIELDS.index("last") + 1

_LINE: Final = (
    b'{"subject":"%b","metric":"%b","estimate":%b,"lower":%b,"upper":%b,"threshold":%b,"operator":"%b","unit":%b,'
    b'"window_start":"%b","window_end":%b,"valid_until":"%b","version":"%b","status":"%b","n_learned":%b,%b,'
    b'"last_window":%b,"last_value":%b,"alert":{"is_alert":%b,"evidence":%b}}\n'
)
_EVIDENCE: Final = (
    b'{"source":"hour","window_start":"%b","window_end":%b,"value":%b,"calls":%d,"min_calls":%b,"threshold":%b,'
    b'"score":%b}'
)
_NULL: Final = b"null"
_OPERATORS: Final = (b">", b"<")
_NUMBERS: Final = 7


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


def lines(
    stored: AsStored, slug: str | None, *, clock_ms: int, cohorts: Cohorts
) -> Iterator[tuple[str, str, bytes, bytes]]:
    """Slug, status, start of the window and line of each published series; of one metric where its slug is given."""
    lately: Lately | None = None
    is_read = False
    subject = str(stored.subject)
    for own_slug, values in stored.series:
        if not values[_STATUS] or slug not in (None, own_slug):
            continue
        if not is_read:
            lately, is_read = read_lately(stored.subject, stored.minutes), True
        line = _line(subject, own_slug, values, lately, clock_ms=clock_ms, cohorts=cohorts)
        if line is None:
            item = _item(stored, own_slug, values, lately, clock_ms=clock_ms, cohorts=cohorts)
            text = orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE)
            yield own_slug, item["status"], item["window_start"].encode(), text
        else:
            yield own_slug, *line


def _item(
    stored: AsStored,
    slug: str,
    values: Sequence[bytes | None],
    lately: Lately | None,
    *,
    clock_ms: int,
    cohorts: Cohorts,
) -> Answer:
    """The long way."""
    fields = answer_fields(values)
    if fields is None:
        raise UnreadableStateError(f"{series_key(stored.subject, slug)}: missing")
    return listed(stored.subject, metric_of(slug), fields, lately=lately, clock_ms=clock_ms, cohorts=cohorts)


def _line(
    subject: str,
    slug: str,
    values: Sequence[bytes | None],
    lately: Lately | None,
    *,
    clock_ms: int,
    cohorts: Cohorts,
) -> tuple[str, bytes, bytes] | None:
    """None for a series that is not as usual."""
    own: Any = values[:_PARTS]
    if own[0] != _SCHEMA or own[_STATUS] != b"ready" or None in own:
        return None
    (
        _, _, _, unit, operator, _, _, _, estimate, lower, upper, threshold, expected_calls,
        window_start, valid_until, n_learned, min_calls, _, _, _, last,
    ) = own  # fmt: skip
    try:
        # That they are numbers is seen here, and then believed.
        told = orjson.loads(
            b"[%b,%b,%b,%b,%b,%b,%b]" % (estimate, lower, upper, threshold, expected_calls, n_learned, min_calls)
        )
        if len(told) != _NUMBERS or operator not in _OPERATORS:
            return None
        verdict = _LAST.decode(last) if last else None
        start_ms, end = _window(window_start)
        status = "stale" if clock_ms > _ms(valid_until) + OVERDUE_MS else "ready"
    except (ValueError, msgspec.DecodeError):
        return None
    if lately is not None and status == "ready":
        found = lately.values.get(slug)
        if found is not None and (found.value > told[3] if operator == b">" else found.value < told[3]):
            return None
    is_alert, evidence, last_window, last_value = False, _NULL, _NULL, _NULL
    if verdict is not None:
        last_window, last_value = _quoted(verdict.window), _number(verdict.value)
        if verdict.score:
            hour_ms, hour_end = _window(verdict.window.encode())
            score, beyond = _number(verdict.score), _number(verdict.threshold)
            evidence = _EVIDENCE % (
                verdict.window.encode(), hour_end, last_value, verdict.count, min_calls, beyond, score,
            )  # fmt: skip
            is_alert = verdict.is_alert and status == "ready" and start_ms - hour_ms <= HOUR_MS
    line = _LINE % (
        subject.encode(), slug.encode(), estimate, lower, upper, threshold, operator, _quoted(unit.decode()),
        window_start, end, valid_until, blake2b(b"\n".join(own), digest_size=6).hexdigest().encode(),
        status.encode(), n_learned, _cohort(cohorts.find(slug, told[4]) if cohorts.known else None),
        last_window, last_value, b"true" if is_alert else b"false", evidence,
    )  # fmt: skip
    return status, window_start, line


_STATUS: Final = ANSWER_FIELDS.index("status")


def _number(text: msgspec.Raw) -> bytes:
    """JSON has no infinity: it is stored as a string."""
    found = bytes(text)
    return _NULL if found.startswith(b'"') else found


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


def _cohort(cohort: Cohort | None) -> bytes:
    if cohort is None:
        return b'"cohort":null,"cohort_measured_exceedance":null'
    told = {"cohort": cohort.name, "cohort_measured_exceedance": cohort.measured_exceedance}
    return orjson.dumps(told)[1:-1]
