"""A series as readers know it: one flat set of names, whatever the version of its hash.

Version 2, which is still read, had a field for each part of the last verdict, for the window's end and for the version
of the answer, and version 1 had them too. What version 3 says in one field, `last`, is told by these names again.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final

import orjson

from detection.errors import UnreadableStateError
from state.as_stored import Held
from state.series_fields import OLDER_VERDICT, SERIES_SCHEMA, STANDING, STORED
from state.window_codec import hour_of, hour_text

_SCHEMA: Final = b"%d" % SERIES_SCHEMA
_VERDICT: Final = tuple(name.decode() for name in OLDER_VERDICT)
_TRUE: Final = {False: "false", True: "true"}
_NOTHING_TOLD: Final = ("",) * len(OLDER_VERDICT)
_LONGEST_NAME: Final = 300


def is_older(values: Sequence[bytes | None]) -> bool:
    """Whether the values of STORED_FIELDS are of an older version, so that those of all ANSWER_FIELDS are needed."""
    return values[0] is not None and values[0] != _SCHEMA


def held(values: Sequence[bytes | None]) -> Held:
    """The values of ANSWER_FIELDS, or of this version those of STORED_FIELDS, in one text where that is possible."""
    own = values[: len(STORED)]
    try:
        joined = b"\n".join(own)  # type: ignore[arg-type]  # a missing one is a TypeError
    except TypeError:
        return values
    return joined if own[0] == _SCHEMA and joined.count(b"\n") == len(own) - 1 else values


def answer_fields(values: Sequence[bytes | None]) -> dict[str, str] | None:
    """The readable fields by name, of the values of ANSWER_FIELDS; None where there is no such series.

    Of this version those of STORED_FIELDS will do (`is_older`).

    The same names for every version: the window's end, the parts of the last verdict, and `version`, a short hash of
    all the others, which is the same where they are. Raises UnreadableStateError that names the series.
    """
    if values[0] is None:
        return None
    try:
        return _readable(values)
    except ValueError as error:
        raise _damaged(values, error) from error


def survey_fields(values: Sequence[bytes | None]) -> dict[str, str] | None:
    """Those of the readable fields that say where a series stands, of the values of SURVEY_FIELDS.

    As `answer_fields` has them; None where there is no such series. Raises UnreadableStateError that names the series.
    """
    if values[0] is None:
        return None
    try:
        return _standing(values)
    except ValueError as error:
        raise _damaged(values, error) from error


def _damaged(values: Sequence[bytes | None], error: Exception) -> UnreadableStateError:
    subject, metric = ((value or b"").decode(errors="replace")[:_LONGEST_NAME] for value in values[1:3])
    return UnreadableStateError(f"series {metric} of {subject}: damaged: {error!r}")


def _standing(values: Sequence[bytes | None]) -> dict[str, str]:
    found = [value or b"" for value in values[: len(STANDING)]]
    texts = b"\n".join(found).decode().split("\n")
    if len(texts) != len(STANDING):  # somebody has written a line feed into one
        texts = [value.decode() for value in found]
    fields = dict(zip(STANDING, texts, strict=True))
    last, *older = values[len(STANDING) :]
    verdict: Sequence[str]
    if values[0] != _SCHEMA:
        verdict = [(value or b"").decode() for value in older]
    else:
        verdict = _told(fields["subject"], fields["metric"], last.decode()) if last else _NOTHING_TOLD
    fields |= zip(_VERDICT, verdict, strict=True)
    return fields


def readable(flat: Sequence[bytes]) -> dict[str, str]:
    """The same of what `encode_series` gave."""
    return _readable(flat[1::2])


def _readable(values: Sequence[bytes | None]) -> dict[str, str]:
    found = [value or b"" for value in values[: len(STORED)]]
    joined = b"\n".join(found)
    texts = joined.decode().split("\n")
    if len(texts) != len(STORED):  # somebody has written a line feed into one
        texts = [value.decode() for value in found]
    (
        schema, subject, metric, unit, operator, coverage, claimed_exceedance,
        status, estimate, lower, upper, threshold, expected_calls, window_start, valid_until,
        n_learned, min_calls, judged, measured_exceedance, explanation, last,
    ) = texts  # fmt: skip
    digest = blake2b(joined, digest_size=6)
    if values[0] == _SCHEMA:
        verdict = _told(subject, metric, last) if last else _NOTHING_TOLD
    else:
        older = [value or b"" for value in values[len(STORED) :]]
        digest.update(b"\n".join(older))
        verdict = tuple(value.decode() for value in older)
    return {
        "schema": schema,
        "subject": subject,
        "metric": metric,
        "unit": unit,
        "status": status,
        "estimate": estimate,
        "lower": lower,
        "upper": upper,
        "threshold": threshold,
        "coverage": coverage,
        "claimed_exceedance": claimed_exceedance,
        "expected_calls": expected_calls,
        "operator": operator,
        "window_start": window_start,
        "window_end": _next_hour(window_start) if window_start else "",
        "valid_until": valid_until,
        "n_learned": n_learned,
        "min_calls": min_calls,
        "judged": judged,
        "measured_exceedance": measured_exceedance,
        "explanation": explanation,
        "last_verdict": verdict[0],
        "last_window": verdict[1],
        "last_count": verdict[2],
        "last_value": verdict[3],
        "last_estimate": verdict[4],
        "last_threshold": verdict[5],
        "last_score": verdict[6],
        "last_is_credible": verdict[7],
        "last_is_alert": verdict[8],
        "version": digest.hexdigest(),
    }


@lru_cache(maxsize=4_096)
def _next_hour(text: str) -> str:
    return hour_text(hour_of(text) + 1)


def _told(subject: str, metric: str, last: str) -> Sequence[str]:
    """The parts of the last verdict, as older versions spell them; UnreadableStateError that names the key."""
    try:
        told = orjson.loads(last)
        count = str(told["count"])
        if told["verdict"] == "warming-up":
            (value,) = _texts(told["value"])
            return ("warming-up", str(told["window"]), count, value, "", "", "", "", "")
        numbers = _texts(told["value"], told["estimate"], told["threshold"], told["score"])
        booleans = _TRUE[told["is_credible"]], _TRUE[told["is_alert"]]
        return (str(told["verdict"]), str(told["window"]), count, *numbers, *booleans)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableStateError(f"series {metric} of {subject}: last: damaged: {error!r}") from error


def _texts(*values: float | str) -> list[str]:
    """Numbers of JSON as they stood there, an infinity without its quotes."""
    return orjson.dumps(values)[1:-1].replace(b'"', b"").decode().split(",")
