"""The query parameters of `GET /stats/...`, read strictly: a refusal names the parameter and what was given."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Final, Literal, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api import cursors
from api.problems import INVALID_REQUEST, Fault, RefusedError
from detection.catalogue import BILLER_METRICS
from detection.events import NEWEST_MS, OLDEST_MS
from detection.hours import HOUR_MS, MINUTE_MS, parse_ms
from detection.rows import NO_SUCH_TIME, is_plausible_ms
from detection.subject import Subject
from state.questions import SHARES, Comparison, Operator, Position, Question

Format = Literal["json", "csv", "ndjson"]
Read = TypeVar("Read")

MOST_ROWS: Final = 1000
_MOST_PATTERNS: Final = 32
_MOST_CONDITIONS: Final = 16
_LONGEST_STEP_MS: Final = 366 * 24 * HOUR_MS
# The first window of the longest step begins before the oldest event can.
_SOONEST_MS: Final = OLDEST_MS - _LONGEST_STEP_MS
_OPERATORS: Final = get_args(Operator)
_STEP: Final = re.compile(r"([1-9][0-9]{0,5})([mhd])", re.ASCII)
_UNITS_MS: Final = {"m": MINUTE_MS, "h": HOUR_MS, "d": 24 * HOUR_MS}
_NOWHERE: Final = Position(-1, "")
_PATTERN: Final = re.compile(r"[a-z0-9*?-]{1,63}", re.ASCII)
_BILLER_SLUGS: Final = {
    text: metric.slug
    for metric in BILLER_METRICS
    for text in (str(metric.number), metric.slug, metric.name.lower().replace("_", "-"))
}

_Text = Annotated[str, StringConstraints(max_length=300)]


class BillerParameters(BaseModel):
    """What can be asked of a biller; every parameter that is not here is refused, lest a misspelt filter be ignored."""

    model_config = ConfigDict(extra="forbid")

    metric: list[_Text] = Field(
        default=[],
        max_length=_MOST_PATTERNS,
        description="Only these metrics; `*` stands for any letters and `?` for one. May be given several times.",
        examples=[["prediction_*"]],
    )
    from_: _Text = Field(
        default="",
        alias="from",
        description="The oldest moment: RFC 3339, or milliseconds since the epoch. Moved back to the full minute (of a "
        "biller: hour) unless values are compared.",
        examples=["2026-11-21T00:00:00Z"],
    )
    to: _Text = Field(
        default="",
        description="The moment before which everything lies, written as `from`. Moved on to the full minute (of a "
        "biller: hour) unless values are compared.",
        examples=["2026-11-22T00:00:00Z"],
    )
    step: _Text = Field(
        default="",
        description="One window for each so many minutes, hours or days: `5m`, `1h`, `1d`, counted from the epoch in "
        "UTC. One window over everything when absent.",
        examples=["1h"],
    )
    percentiles: _Text = Field(
        default="",
        description="Which ones, each above 0 and at most 100, at most 16, separated by commas.",
        examples=["50,90,95,99"],
    )
    latest: bool = Field(
        default=False,
        description="Only the newest window of each metric; without `step`, only its newest observation.",
    )
    limit: int = Field(
        default=100,
        ge=1,
        le=MOST_ROWS,
        description="Most summaries (one a metric and window) of one JSON page. CSV and NDJSON are not cut into pages.",
    )
    cursor: _Text = Field(default="", description="`next_cursor` of the page before.")
    format: Format | None = Field(
        default=None, description="`json`, `csv` or `ndjson`; when absent, what `Accept` asks for, else JSON."
    )


class ModelParameters(BillerParameters):
    """What can be asked of a model."""

    label: list[_Text] = Field(
        default=[],
        max_length=_MOST_CONDITIONS,
        description="Only observations with this label, `key:value`; several must all be there.",
        examples=[["region:eu"]],
    )
    value: list[_Text] = Field(
        default=[],
        max_length=_MOST_CONDITIONS,
        description="Only observations whose value is `lt`, `le`, `gt`, `ge`, `eq` or `ne` a number: `lt:0.3`. Several "
        "must all hold. Answered from the raw observations, as far back as these are kept, with exact percentiles.",
        examples=[["lt:0.3"]],
    )


def question_of_model(subject: Subject, given: ModelParameters) -> Question:
    """Raises RefusedError for the first parameter that cannot be read."""
    metrics = _each("metric", given.metric, _pattern)
    labels: dict[str, str] = {}
    for key, value in _each("label", given.label, _label):
        if labels.setdefault(key, value) != value:
            raise _refused("label", f"{key}:{value}", "no event has two values of one label")
    return replace(
        _question(subject, given, metrics),
        labels=labels,
        values=tuple(_each("value", given.value, _comparison)),
    )


def question_of_biller(subject: Subject, given: BillerParameters) -> Question:
    """Raises RefusedError for the first parameter that cannot be read, and for windows that are no whole hours."""
    metrics = _each("metric", given.metric, lambda text: _BILLER_SLUGS.get(_slug(text)) or _pattern(text))
    question = _question(subject, given, metrics)
    if question.step_ms is not None and question.step_ms % HOUR_MS:
        raise _refused("step", given.step, "calls are kept by the hour, so it must be whole hours")
    return question


def read_cursor(cursor: str) -> Position | None:
    """None where no page was before; raises RefusedError for what no page answered with."""
    if not cursor:
        return None
    try:
        text = cursors.read_cursor(cursor)
        start, _, metric = text.partition(" ")
        position = Position(int(start), metric)
    except ValueError:
        position = _NOWHERE
    if not (_SOONEST_MS <= position.start_ms < NEWEST_MS or position.start_ms == 0) or not _PATTERN.fullmatch(
        position.metric
    ):
        raise _refused("cursor", cursor, "is not one that a page answered with")
    return position


def write_cursor(position: Position) -> str:
    """The inverse of `read_cursor`."""
    return cursors.write_cursor(f"{position.start_ms} {position.metric}")


@lru_cache(maxsize=256)
def percentile_name(share: float) -> str:
    """`p99.9` for 0.999: the share as it was asked for."""
    return f"p{100 * share:.10g}"


def _question(subject: Subject, given: BillerParameters, metrics: list[str]) -> Question:
    from_ms = _one("from", given.from_, _moment)
    to_ms = _one("to", given.to, _moment)
    if from_ms is not None and to_ms is not None and from_ms >= to_ms:
        raise _refused("to", given.to, f"must be later than from, {given.from_!r}")
    return Question(
        subject,
        metrics=tuple(metrics),
        from_ms=from_ms,
        to_ms=to_ms,
        step_ms=_one("step", given.step, _step),
        shares=_one("percentiles", given.percentiles, _shares) or SHARES,
        is_latest=given.latest,
    )


def _each(parameter: str, texts: Iterable[str], read: Callable[[str], Read]) -> list[Read]:
    found: list[Read] = []
    for text in texts:
        try:
            found.append(read(text))
        except ValueError as error:
            raise _refused(parameter, text, str(error)) from error
    return found


def _one(parameter: str, text: str, read: Callable[[str], Read]) -> Read | None:
    return _each(parameter, [text], read)[0] if text else None


def _refused(parameter: str, given: str, reason: str) -> RefusedError:
    sentence = f"{given[:80]!r}: {reason}"
    return RefusedError(INVALID_REQUEST, f"{parameter}: {sentence}", [Fault(parameter, sentence)])


def _slug(text: str) -> str:
    return text.strip().lower().replace("_", "-")


def _pattern(text: str) -> str:
    slug = _slug(text)
    if not _PATTERN.fullmatch(slug):
        raise ValueError("must be 1 to 63 letters, digits, hyphens, underscores, * or ?")
    return slug


def _moment(text: str) -> int:
    try:
        ms = int(text) if text.isascii() and text.isdigit() else parse_ms(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            "must be RFC 3339 with an offset (a + in it is written %2B), or milliseconds since the epoch"
        ) from error
    if not is_plausible_ms(ms):
        raise ValueError(NO_SUCH_TIME)
    return ms


def _step(text: str) -> int:
    found = _STEP.fullmatch(text)
    if found is None:
        raise ValueError("must be a number of minutes, hours or days, such as 5m, 1h or 1d")
    step_ms = int(found[1]) * _UNITS_MS[found[2]]
    if step_ms > _LONGEST_STEP_MS:
        raise ValueError("must be at most 366d")
    return step_ms


def _label(text: str) -> tuple[str, str]:
    key, colon, value = text.partition(":")
    if not colon or not key or "\0" in text:
        raise ValueError("must be key:value")
    return key, value


def _comparison(text: str) -> Comparison:
    name, _, number = text.partition(":")
    if name not in _OPERATORS:
        raise ValueError(f"must begin with one of {', '.join(f'{each}:' for each in _OPERATORS)}")
    return Comparison(cast("Operator", name), _number(number))


def _shares(text: str) -> tuple[float, ...]:
    numbers = [_number(part) for part in text.split(",")]
    if len(numbers) > _MOST_CONDITIONS:
        raise ValueError(f"are more than {_MOST_CONDITIONS}")
    if not all(0 < number <= 100 for number in numbers):
        raise ValueError("each must be above 0 and at most 100")
    return tuple(dict.fromkeys(number / 100 for number in numbers))


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]!r} is not a finite number")
    return number
