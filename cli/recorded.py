"""Recorded history for a back-test: hourly values of any series, or raw calls, counted exactly as live ones are."""

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, cast

from detection.catalogue import BILLER_METRICS, Metric, metric_of
from detection.errors import InputError, InvalidRowError, UnknownMetricError
from detection.events import CallEvent, decode_call
from detection.rows import Observation, checked_row
from detection.subject import Subject
from detection.training import rows_of_calls

_LABELLED: Final = "1"
_LOOKED_AT: Final = ("0", _LABELLED)
_NEEDED: Final = ("series", "timestamp", "value")
_GZIP: Final = b"\x1f\x8b"
_TOLD_EVERY: Final = 1_000
_CALL_FORMATS: Final = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz", ".parquet")


@dataclass(frozen=True, slots=True)
class Recorded:
    """The observations of one series by hour, and the hours that its file marks as anomalous.

    `subject` is what rules see: a gauge is taken for one of a model. `looked_at` are the hours that are marked as
    anomalous or as not. `is_counted` says whether the file tells of each hour how many calls stand behind it.
    """

    metric: Metric
    subject: Subject
    observations: dict[int, Observation] = field(default_factory=dict)
    labelled: set[int] = field(default_factory=set)
    looked_at: set[int] = field(default_factory=set)
    uncounted: set[int] = field(default_factory=set)

    @property
    def is_counted(self) -> bool:
        return not self.uncounted


@dataclass(frozen=True, slots=True)
class History:
    """The series of a file by their names, and how many rows were read."""

    rows: int
    series: dict[str, Recorded]


def read_history(file: Path, told: Callable[[float], object] = lambda _share: None) -> History:
    """What is recorded in a file; InvalidRowError for the first row that is no observation, or no call.

    `told` hears now and then what share of the file was read.
    """
    if file.name.lower().endswith(_CALL_FORMATS) or _has_calls(file):
        return _read_calls(file, told)
    found: dict[str, Recorded] = {}
    number = 0
    for number, cells in _cells(file, told):
        name = cells["series"]
        if not name:
            raise InvalidRowError(number, "series", "is missing")
        metric = _metric(number, cells.get("metric") or "gauge")
        recorded = found.setdefault(
            name, Recorded(metric, Subject("model" if metric.kind == "gauge" else "biller", name))
        )
        if recorded.metric != metric:
            raise InvalidRowError(number, "metric", f"is {metric}, and {recorded.metric} in an earlier row of {name}")
        row = checked_row(
            number, timestamp=cells["timestamp"], value=cells["value"], count=cells.get("count"), metric=metric
        )
        if row.hour in recorded.observations:
            raise InvalidRowError(number, "timestamp", f"{cells['timestamp']}: an earlier row of {name} has this hour")
        recorded.observations[row.hour] = row.observation()
        if row.count is None:
            recorded.uncounted.add(row.hour)
        if cells.get("label") == _LABELLED:
            recorded.labelled.add(row.hour)
        if cells.get("label") in _LOOKED_AT:
            recorded.looked_at.add(row.hour)
    if not found:
        raise InputError(f"{file}: no row")
    return History(number, found)


def _read_calls(file: Path, told: Callable[[float], object]) -> History:
    """A series for each metric of each biller, called BILLER/METRIC."""
    from cli.recordings import Recording

    calls: dict[str, list[tuple[int, CallEvent]]] = {}
    row = 0
    with Recording(file) as recording:
        for one in recording:
            if isinstance(one, InvalidRowError):
                raise one
            row = one.row
            if row % _TOLD_EVERY == 0:
                told(recording.share)
            calls.setdefault(one.key.decode(), []).append((row, decode_call(one.message)))
    if not calls:
        raise InputError(f"{file}: no row")
    found: dict[str, Recorded] = {}
    for biller, mine in calls.items():
        for metric in BILLER_METRICS:
            observations = {one.hour: one.observation() for one in rows_of_calls(mine, metric)}
            if observations:
                found[f"{biller}/{metric.slug}"] = Recorded(metric, Subject.biller(biller), observations)
    return History(row, found)


def _has_calls(file: Path) -> bool:
    """Whether the header is one of calls. A file that cannot be read is refused where it is read as a whole."""
    try:
        with file.open("rb") as raw, _text(raw) as text:
            header = [name.strip() for name in next(csv.reader(text), [])]
    except (csv.Error, UnicodeDecodeError, OSError, EOFError, zlib.error):
        return False
    return "biller_id" in header and "series" not in header


def _text(raw: BinaryIO) -> io.TextIOWrapper:
    is_packed = raw.read(2) == _GZIP
    raw.seek(0)
    unpacked = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if is_packed else raw
    return io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="")


def _cells(file: Path, told: Callable[[float], object]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Rows counted from 1, the header not; columns that are not asked for are ignored."""
    number = 0
    try:
        with file.open("rb") as raw, _text(raw) as text:
            size = file.stat().st_size
            reader = csv.reader(text, strict=True)
            header = [name.strip() for name in next(reader, [])]
            missing = [name for name in _NEEDED if name not in header]
            if missing:
                raise InputError(f"{file}: the header has no column {', '.join(missing)}")
            for cells in reader:
                if not cells:
                    continue
                number += 1
                if len(cells) != len(header):
                    raise InvalidRowError(number, "row", f"has {len(cells)} columns, the header {len(header)}")
                if number % _TOLD_EVERY == 0:
                    told(raw.tell() / size)
                yield number, dict(zip(header, cells, strict=True))
    except (csv.Error, UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}, after row {number}: {error}") from error


def _metric(number: int, text: str) -> Metric:
    try:
        return metric_of(text)
    except UnknownMetricError as error:
        raise InvalidRowError(number, "metric", str(error)) from error
