"""Answers about the past as JSON for people, and as rows for programs: NDJSON and CSV."""

import csv
from collections.abc import Iterable
from functools import lru_cache
from io import StringIO
from typing import Any, Final

import orjson

from api.stats_parameters import Format, percentile_name, write_cursor
from detection.subject import Subject
from state.questions import Answer, Newest, Page, Question, Summary
from state.window_codec import moment_text

MEDIA_TYPES: Final[dict[Format, str]] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
}

# Beyond this there is only what doubles make of decimals.
_DIGITS: Final = 12
# Percentiles of windows are within a hundredth or two.
_DIGITS_OF_BINS: Final = 4


def document(question: Question, page: Page, *, step: str) -> bytes:
    """One page as JSON: an object for each metric, or for each window; indented, because people read it."""
    starts = [one.start_ms for one in page.answers if isinstance(one, Summary)]
    ends = [one.end_ms for one in page.answers if isinstance(one, Summary)]
    from_ms = min(starts, default=None) if page.from_ms is None else page.from_ms
    to_ms = max(ends, default=None) if page.to_ms is None else page.to_ms
    found: dict[str, Any] = {
        **_named(question.subject),
        "from": None if from_ms is None else _time(from_ms),
        "to": None if to_ms is None else _time(to_ms),
    }
    if step:
        windows: dict[int, dict[str, Any]] = {}
        for one in page.answers:
            if isinstance(one, Summary):
                window = windows.get(one.start_ms)
                if window is None:
                    window = {"start": _time(one.start_ms), "end": _time(one.end_ms), "metrics": {}}
                    windows[one.start_ms] = window
                window["metrics"][metric_name(question, one)] = _fields(question, one)
        found |= {"step": step, "windows": [window for _, window in sorted(windows.items())]}
    else:
        found["metrics"] = {metric_name(question, one): _fields(question, one) for one in page.answers}
    found["next_cursor"] = None if page.after is None else write_cursor(page.after)
    return orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def lines(question: Question, answers: Iterable[Answer]) -> bytes:
    """One JSON object to a line."""
    return b"".join(orjson.dumps(_row(question, one), option=orjson.OPT_APPEND_NEWLINE) for one in answers)


def header(question: Question) -> bytes:
    """The first line of the CSV."""
    return _csv([_columns(question)])


def table(question: Question, answers: Iterable[Answer]) -> bytes:
    """CSV by RFC 4180, without its header; labels are JSON."""
    columns = _columns(question)
    rows = []
    for one in answers:
        row = _row(question, one)
        if isinstance(one, Newest):
            row["labels"] = orjson.dumps(one.labels).decode()
        rows.append([row[column] for column in columns])
    return _csv(rows)


def metric_name(question: Question, answer: Answer) -> str:
    """A model's metric as its events name it, a biller's as the catalogue does."""
    return answer.metric if question.subject.kind == "biller" else answer.metric.replace("-", "_")


def _named(subject: Subject) -> dict[str, Any]:
    if subject.kind == "biller":
        return {"biller_id": subject.id}
    name, _, version = subject.id.partition("/")
    return {"name": name, "version": version}


def _columns(question: Question) -> list[str]:
    if question.is_latest and question.step_ms is None:
        return ["metric", "last", "last_at", "labels"]
    names = ["metric", "start", "end", "count", "mean", "min", "max", "last", "last_at"]
    return names + [percentile_name(share) for share in question.shares]


def _row(question: Question, answer: Answer) -> dict[str, Any]:
    row: dict[str, Any] = {"metric": metric_name(question, answer)}
    if isinstance(answer, Summary):
        row |= {"start": _time(answer.start_ms), "end": _time(answer.end_ms)}
    return row | _fields(question, answer)


def _fields(question: Question, answer: Answer) -> dict[str, Any]:
    last = {"last": _rounded(answer.last), "last_at": _time(answer.last_ms)}
    if isinstance(answer, Newest):
        return {**last, "labels": dict(answer.labels)}
    rounded = _rounded if question.values else _rounded_of_bin
    return {
        "count": answer.count,
        "mean": _rounded(answer.mean),
        "min": _rounded(answer.minimum),
        "max": _rounded(answer.maximum),
        **last,
        **dict(zip(_names(question.shares), map(rounded, answer.percentiles), strict=True)),
    }


@lru_cache(maxsize=64)
def _names(shares: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(map(percentile_name, shares))


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


@lru_cache(maxsize=16_384)
def _rounded_of_bin(value: float) -> float:
    """There are a few thousand bins, and each is answered again and again."""
    return float(f"{value:.{_DIGITS_OF_BINS}g}")


def _time(ms: int) -> str:
    return moment_text(ms).decode()


def _csv(rows: Iterable[Iterable[object]]) -> bytes:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()
