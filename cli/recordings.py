"""Recorded calls in a file, row by row in flat memory: CSV, NDJSON (both gzipped or not) and Parquet."""

import contextlib
import csv
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import msgspec
import orjson

from detection.errors import InputError, InvalidEventError, InvalidRowError
from detection.events import CallEvent, check_call, decode_call

FORMATS = ".csv, .csv.gz, .ndjson, .ndjson.gz, .jsonl, .jsonl.gz, .parquet"
COLUMNS = ("biller_id", "timestamp", "latency_ms", "outcome", "status")
# A call is about a hundred bytes; a file without line ends must not fill the memory.
MAX_LINE_BYTES = 64 * 1024

_BATCH_ROWS = 10_000
# Where msgspec says that a field is wrong, that it is missing, and where our own errors do.
_AT = re.compile(r" - at `\$\.?(?P<field>\w+)?")
_MISSING = re.compile(r"missing required field `(?P<field>\w+)`")
_NAMED = re.compile(r"(?P<field>biller_id|timestamp|outcome):? (?P<reason>.+)")


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call as it goes to the broker: its key, its message, and when it happened.

    `event_ms` is for pacing and display; the message carries the timestamp as it was recorded.
    """

    row: int
    key: bytes
    message: bytes
    event_ms: int


class Recording:
    """Iterating yields each row, counted from 1, as a call or as the reason why it is none; the order is the file's.

    >>> with Recording(Path("examples/calls.ndjson.gz")) as recording:
    ...     next(iter(recording)).key
    b'probe-05'

    Raises InputError for a file that cannot be read at all, or not to its end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._close = contextlib.ExitStack()
        self._rows: Iterator[RecordedCall | InvalidRowError] = iter(())
        self._raw: IO[bytes] | None = None
        self._size = 0
        self._parquet_share = 0.0

    def __enter__(self) -> Self:
        name = self.path.name.lower()
        try:
            raw = self._close.enter_context(self.path.open("rb"))
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}") from None
        self._size = os.fstat(raw.fileno()).st_size
        if name.endswith(".parquet"):
            self._rows = self._parquet_rows(raw)
            return self
        self._raw = raw
        stream: IO[bytes] = raw
        if name.endswith(".gz"):
            name = name.removesuffix(".gz")
            stream = cast(IO[bytes], self._close.enter_context(gzip.GzipFile(fileobj=raw)))
        if name.endswith(".csv"):
            # surrogateescape: a byte that is no UTF-8 spoils its own row, not the file.
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
            self._rows = self._csv_rows(self._close.enter_context(text))
        elif name.endswith((".ndjson", ".jsonl")):
            self._rows = _ndjson_rows(stream)
        else:
            self._close.close()
            raise InputError(f"{self.path} is of no known format: it must end in {FORMATS}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close.close()

    def __iter__(self) -> Iterator[RecordedCall | InvalidRowError]:
        row = 0
        try:
            for item in self._rows:
                row = item.row
                yield item
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{self.path} is damaged after row {row}: {error}") from None

    @property
    def share(self) -> float:
        """How much of the file has been read, 0 to 1."""
        if self._raw is None or self._raw.closed or self._size == 0:
            return self._parquet_share
        return self._raw.tell() / self._size

    def _csv_rows(self, text: IO[str]) -> Iterator[RecordedCall | InvalidRowError]:
        reader = csv.reader(text, strict=True)
        try:
            header = next(reader, [])
        except csv.Error as error:
            raise InputError(f"{self.path}: the header cannot be read: {error}") from None
        _refuse_header(self.path, header)
        row = 0
        while True:
            row += 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield InvalidRowError(row, "row", str(error))
                continue
            if not cells:
                row -= 1
                continue
            if len(cells) != len(header):
                yield InvalidRowError(row, "row", f"{len(cells)} cells instead of {len(header)}")
                continue
            named = {name: cell for name, cell in zip(header, cells, strict=True) if cell and name in COLUMNS}
            yield _from_fields(row, named)

    def _parquet_rows(self, raw: IO[bytes]) -> Iterator[RecordedCall | InvalidRowError]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(raw)
        except pa.ArrowException as error:
            raise InputError(f"{self.path} is no Parquet file: {error}") from None
        schema = file.schema_arrow
        _refuse_header(self.path, schema.names)
        kind = schema.field("timestamp").type
        if pa.types.is_timestamp(kind) and kind.tz is None:
            raise InputError(f"{self.path}: the column timestamp has no time zone")
        names = [name for name in schema.names if name in COLUMNS]
        row = 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=names):
            table = pa.table(batch)
            if pa.types.is_timestamp(kind):
                # Python's datetime has no nanoseconds, and events have none either.
                place = table.schema.get_field_index("timestamp")
                exact = table.column("timestamp").cast(pa.timestamp("us", tz="UTC"), safe=False)
                table = table.set_column(place, "timestamp", exact)
            for fields in table.to_pylist():
                row += 1
                yield _from_fields(row, {name: value for name, value in fields.items() if value is not None})
            self._parquet_share = row / file.metadata.num_rows


def _refuse_header(path: Path, header: list[str]) -> None:
    missing = [name for name in COLUMNS[:3] if name not in header]
    if "outcome" not in header and "status" not in header:
        missing.append("outcome or status")
    if missing:
        raise InputError(f"{path} has no column {', no column '.join(missing)}; it has {', '.join(header) or 'none'}")


def _ndjson_rows(stream: IO[bytes]) -> Iterator[RecordedCall | InvalidRowError]:
    row = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        row += 1
        if len(line) > MAX_LINE_BYTES:
            yield InvalidRowError(row, "row", f"longer than {MAX_LINE_BYTES} bytes")
            while line and not line.endswith(b"\n"):
                line = stream.readline(MAX_LINE_BYTES)
            continue
        message = line.strip()
        if not message:
            row -= 1
            continue
        try:
            call = decode_call(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            yield _refusal(row, error)
            continue
        yield _checked(row, call, message)


def _from_fields(row: int, fields: dict[str, Any]) -> RecordedCall | InvalidRowError:
    """A row of columns: numbers may be text, as they are in CSV."""
    recorded = fields.get("timestamp")
    if isinstance(recorded, str) and recorded.isdecimal():
        fields["timestamp"] = int(recorded)
    try:
        call = msgspec.convert(fields, CallEvent, strict=False)
        # As text: a datetime of our own would not be the timestamp as it was recorded.
        timestamp = recorded.isoformat() if isinstance(recorded, datetime) else fields["timestamp"]
        sent = {"biller_id": call.biller_id, "timestamp": timestamp, "latency_ms": call.latency_ms}
        sent |= {"outcome": call.outcome} if call.outcome is not None else {}
        sent |= {"status": call.status} if call.status is not None else {}
        message = orjson.dumps(sent)
    except (msgspec.ValidationError, orjson.JSONEncodeError) as error:
        return _refusal(row, error)
    return _checked(row, call, message)


def _checked(row: int, call: CallEvent, message: bytes) -> RecordedCall | InvalidRowError:
    """The call, or why the worker would refuse it too."""
    try:
        subject, event_ms, _, _ = check_call(call)
    except InvalidEventError as error:
        return _refusal(row, error)
    return RecordedCall(row=row, key=subject.id.encode(), message=message, event_ms=event_ms)


def _refusal(row: int, error: Exception) -> InvalidRowError:
    text = str(error)
    if place := _AT.search(text):
        return InvalidRowError(row, place["field"] or "row", text[: place.start()])
    if place := _MISSING.search(text):
        return InvalidRowError(row, place["field"], "missing")
    if place := _NAMED.match(text):
        return InvalidRowError(row, place["field"], place["reason"])
    return InvalidRowError(row, "row", text)
