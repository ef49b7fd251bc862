"""A data set as it arrives, JSON, NDJSON or CSV: rows or raw calls, each checked, each refusal with its row."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import orjson

from api.bodies import Format
from api.problems import INVALID_REQUEST, Fault, RefusedError
from detection.catalogue import Metric
from detection.errors import InvalidEventError, InvalidRowError, TooLargeError
from detection.events import CallEvent, check_call
from detection.hours import HOUR_MS, parse_ms
from detection.rows import Row, checked_row, shown
from detection.subject import Subject
from detection.training import rows_of_calls

_ROW_FIELDS: Final = frozenset({"timestamp", "value", "count"})
_SOURCES: Final = ("rows", "calls", "source")
_AT_FIELD: Final = re.compile(r" - at `\$\.?([^`]*)`$|required field `([^`]*)`")
_NO_HOUR: Final = 1 << 62


@dataclass(slots=True)
class DataSet:
    """What one body holds: the rows that can be read, and why the others cannot."""

    rows: list[Row] = field(default_factory=list)
    rejected: list[InvalidRowError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FromHistory:
    """The body that asks for what is known already: the hours `from_hour` to `before_hour`."""

    from_hour: int = 0
    before_hour: int = _NO_HOUR


def read_data_set(
    body: bytes, form: Format, *, subject: Subject, metric: Metric, max_rows: int
) -> DataSet | FromHistory:
    """Raises RefusedError for a body whose structure is broken, TooLargeError for one with too many rows."""
    match form:
        case "json":
            return _from_json(body, subject, metric, max_rows)
        case "ndjson":
            return _from_records(_lines(body, max_rows), subject, metric)
        case "csv":
            return _from_records(_table(body, max_rows), subject, metric)


def fault_of_event(error: Exception, *, row: int | None = None, index: int | None = None) -> Fault:
    """The field that an event's refusal names, and the reason."""
    text = str(error)
    found = _AT_FIELD.search(text)
    if found is not None:
        name = found.group(1) or found.group(2) or "event"
        return Fault(name, text[: found.start()] if found.group(1) else "is missing", row=row, index=index)
    name, colon, reason = text.partition(": ")
    if colon and " " not in name:
        return Fault(name, reason, row=row, index=index)
    first = text.partition(" ")[0]
    return Fault(first if first in CallEvent.__struct_fields__ else "event", text, row=row, index=index)


def _from_json(body: bytes, subject: Subject, metric: Metric, max_rows: int) -> DataSet | FromHistory:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _broken(f"the body is not JSON: {error}") from error
    given = [name for name in _SOURCES if isinstance(document, dict) and name in document]
    if len(given) != 1:
        raise _broken('the body must be an object with one of "rows", "calls" and "source"')
    allowed = {"source", "from", "to"} if given == ["source"] else set(given)
    unknown = sorted(document.keys() - allowed)
    if unknown:
        raise _broken(f"{unknown[0][:80]!r} is not known here", field=unknown[0][:80])
    if given == ["source"]:
        return _from_history(document)
    items = document[given[0]]
    if not isinstance(items, list):
        raise _broken("must be an array", field=given[0])
    if len(items) > max_rows:
        raise TooLargeError(f"{len(items)} rows, {max_rows} are the most")
    records = enumerate(items, start=1)
    return _calls(records, subject, metric) if given == ["calls"] else _rows(records, metric, is_strict=True)


def _from_history(document: Mapping[str, Any]) -> FromHistory:
    if document["source"] != "history":
        raise _broken('the only source is "history"', field="source")
    hours = {"from": 0, "to": _NO_HOUR}
    for name in hours:
        moment = document.get(name)
        if moment is None:
            continue
        try:
            # The hours that begin at or after `from` and before `to`.
            hours[name] = -(-parse_ms(moment) // HOUR_MS)
        except (TypeError, ValueError):
            raise _broken(f"{shown(moment)} is not RFC 3339 with an offset", field=name) from None
    if hours["from"] >= hours["to"]:
        raise _broken("must be after `from`", field="to")
    return FromHistory(hours["from"], hours["to"])


def _from_records(records: Iterator[tuple[int, object]], subject: Subject, metric: Metric) -> DataSet:
    first = next(records, None)
    if first is None:
        raise _broken("the body has no row")
    everything = _chain(first, records)
    if isinstance(first[1], dict) and "latency_ms" in first[1]:
        return _calls(everything, subject, metric)
    return _rows(everything, metric, is_strict=not isinstance(first[1], _Cells))


def _chain(first: tuple[int, object], rest: Iterator[tuple[int, object]]) -> Iterator[tuple[int, object]]:
    yield first
    yield from rest


class _Cells(dict[str, Any]):
    """One row of a table: every value is a text, and columns that nobody asked for are no mistake."""


def _rows(records: Iterable[tuple[int, object]], metric: Metric, *, is_strict: bool) -> DataSet:
    found = DataSet()
    for number, record in records:
        try:
            found.rows.append(_checked_row(number, record, metric, is_strict=is_strict))
        except InvalidRowError as error:
            found.rejected.append(error)
    return found


def _checked_row(number: int, record: object, metric: Metric, *, is_strict: bool) -> Row:
    if isinstance(record, InvalidRowError):
        raise record
    if not isinstance(record, dict):
        raise InvalidRowError(number, "row", "is not an object")
    unknown = record.keys() - _ROW_FIELDS if is_strict else set()
    if unknown:
        raise InvalidRowError(number, min(unknown)[:80], "is no field of a row: timestamp, value and count are")
    return checked_row(
        number,
        timestamp=record.get("timestamp"),
        value=record.get("value"),
        count=record.get("count"),
        metric=metric,
    )


def _calls(records: Iterable[tuple[int, object]], subject: Subject, metric: Metric) -> DataSet:
    if subject.kind != "biller":
        raise _broken("calls are a biller's; a model is trained with rows", field="calls")
    found = DataSet()
    calls: list[tuple[int, CallEvent]] = []
    for number, record in records:
        try:
            calls.append((number, _checked_call(number, record, subject)))
        except InvalidRowError as error:
            found.rejected.append(error)
    found.rows.extend(rows_of_calls(calls, metric))
    return found


def _checked_call(number: int, record: object, subject: Subject) -> CallEvent:
    if isinstance(record, InvalidRowError):
        raise record
    if not isinstance(record, dict):
        raise InvalidRowError(number, "call", "is not an object")
    fields: dict[str, Any] = {"biller_id": subject.id, **{key: value for key, value in record.items() if value != ""}}
    if fields["biller_id"] != subject.id:
        raise InvalidRowError(number, "biller_id", f"{shown(fields['biller_id'])} is not {subject.id}")
    try:
        call = msgspec.convert(fields, CallEvent, strict=not isinstance(record, _Cells))
        check_call(call)
    except (msgspec.ValidationError, InvalidEventError) as error:
        fault = fault_of_event(error)
        raise InvalidRowError(number, fault.field, fault.reason) from None
    return call


def _lines(body: bytes, max_rows: int) -> Iterator[tuple[int, object]]:
    number = 0
    for line in io.BytesIO(body):
        if not line.strip():
            continue
        number += 1
        _refuse_more_than(max_rows, number)
        try:
            yield number, orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield number, InvalidRowError(number, "row", f"is not JSON: {error}")


def _table(body: bytes, max_rows: int) -> Iterator[tuple[int, object]]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _broken(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    number = 0
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header)
        for cells in reader:
            if not cells:
                continue
            number += 1
            _refuse_more_than(max_rows, number)
            if len(cells) == len(header):
                yield number, _Cells(zip(header, cells, strict=True))
            else:
                yield number, InvalidRowError(number, "row", f"has {len(cells)} columns, the header {len(header)}")
    except csv.Error as error:
        raise _broken(f"row {number + 1} is not CSV: {error}", field="row", row=number + 1) from error


def _check_header(header: list[str]) -> None:
    needed = ("timestamp", "latency_ms" if "latency_ms" in header else "value")
    for name in needed:
        if name not in header:
            raise _broken("the header has no such column", field=name)
    doubled = next((name for name in header if header.count(name) > 1), None)
    if doubled is not None:
        raise _broken("the header names this column twice", field=doubled[:80])


def _refuse_more_than(max_rows: int, number: int) -> None:
    if number > max_rows:
        raise TooLargeError(f"more than {max_rows} rows")


def _broken(reason: str, *, field: str = "body", row: int | None = None) -> RefusedError:
    detail = reason if field == "body" else f"{field}: {reason}"
    return RefusedError(INVALID_REQUEST, detail, [Fault(field, reason, row=row)])
