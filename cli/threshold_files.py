"""Thresholds as files for other programs: a row for each series, written as they come."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, BinaryIO, Final

import orjson

Row = Mapping[str, Any]

# What a table has of a series, in this order; NDJSON has all that the API says.
COLUMNS: Final = (
    "subject",
    "metric",
    "status",
    "estimate",
    "lower",
    "upper",
    "operator",
    "threshold",
    "unit",
    "is_alert",
    "window_start",
    "window_end",
    "valid_until",
    "n_learned",
    "last_window",
    "last_value",
    "version",
)
_NUMBERS: Final = frozenset({"estimate", "lower", "upper", "threshold", "last_value"})
_ROWS_AT_ONCE: Final = 10_000


def write_ndjson(rows: Iterable[Row], file: BinaryIO) -> None:
    """Each row as the API answered it, a line each."""
    file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


def write_csv(rows: Iterable[Row], file: BinaryIO) -> None:
    """RFC 4180 with a head; what is not known is empty, numbers have all their digits."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(["" if one is None else _said(one) for one in _values(row)])
        if text.tell() > 64 * 1024:
            file.write(text.getvalue().encode())
            text.seek(0)
            text.truncate()
    file.write(text.getvalue().encode())


def write_parquet(rows: Iterable[Row], file: BinaryIO) -> None:
    """A column each, with its type; what is not known is null."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([(name, _type(name, pa)) for name in COLUMNS])
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for some in _parts(rows):
            columns = zip(*map(_values, some), strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


WRITERS: Final[Mapping[str, Callable[[Iterable[Row], BinaryIO], None]]] = {
    "csv": write_csv,
    "ndjson": write_ndjson,
    "parquet": write_parquet,
}


def _values(row: Row) -> list[Any]:
    return [row["alert"]["is_alert"] if name == "is_alert" else row[name] for name in COLUMNS]


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, float) else str(value)


def _type(name: str, arrow: Any) -> Any:
    if name in _NUMBERS:
        return arrow.float64()
    return {"is_alert": arrow.bool_(), "n_learned": arrow.int64()}.get(name) or arrow.string()


def _parts(rows: Iterable[Row]) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while some := list(islice(remaining, _ROWS_AT_ONCE)):
        yield some
