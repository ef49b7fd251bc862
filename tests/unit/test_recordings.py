"""Recorded calls are read alike from each format, and what cannot be read is named by row and field."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.recordings import MAX_LINE_BYTES, RecordedCall, Recording
from detection.errors import InputError, InvalidRowError

EXAMPLE = Path(__file__).parents[2] / "examples" / "calls.ndjson.gz"
START_MS = 1_763_755_200_000
CSV = """biller_id,timestamp,latency_ms,outcome,comment
B1,1763755200000,184.2,ok,first
B2,2025-11-21T20:00:01Z,3,timeout,
"""


def rows_of(path: Path) -> list[RecordedCall | InvalidRowError]:
    with Recording(path) as recording:
        return list(recording)


def calls_of(path: Path) -> list[RecordedCall]:
    rows = rows_of(path)
    calls = [row for row in rows if isinstance(row, RecordedCall)]
    assert len(calls) == len(rows)
    return calls


def refusals_of(path: Path) -> list[tuple[int, str]]:
    return [(row.row, row.field) for row in rows_of(path) if isinstance(row, InvalidRowError)]


def written(path: Path, text: str | bytes) -> Path:
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["calls.csv", "calls.csv.gz"])
def test_csv_becomes_one_message_a_row_with_its_time_as_recorded(tmp_path: Path, name: str) -> None:
    first, second = calls_of(written(tmp_path / name, CSV))
    assert first == RecordedCall(row=1, key=b"B1", message=first.message, event_ms=START_MS)
    assert json.loads(first.message) == {
        "biller_id": "B1",
        "timestamp": START_MS,
        "latency_ms": 184.2,
        "outcome": "ok",
    }
    assert json.loads(second.message)["timestamp"] == "2025-11-21T20:00:01Z"
    assert second.event_ms == START_MS + 1000


def test_csv_takes_a_status_instead_of_an_outcome(tmp_path: Path) -> None:
    path = written(tmp_path / "calls.csv", "status,latency_ms,timestamp,biller_id\n503,12,1763755200000,B1\n")
    assert json.loads(calls_of(path)[0].message)["status"] == 503


def test_a_numeric_biller_id_stays_text(tmp_path: Path) -> None:
    path = written(tmp_path / "calls.csv", "biller_id,timestamp,latency_ms,outcome\n0042,1763755200000,1,ok\n")
    assert json.loads(calls_of(path)[0].message)["biller_id"] == "0042"


@pytest.mark.parametrize("name", ["calls.ndjson", "calls.ndjson.gz", "calls.jsonl"])
def test_ndjson_is_sent_byte_for_byte(tmp_path: Path, name: str) -> None:
    line = b'{"biller_id": "B1",  "timestamp": "2025-11-21T20:00:00+00:00", "latency_ms": 1e1, "outcome": "ok"}'
    (call,) = calls_of(written(tmp_path / name, b"\n" + line + b"\r\n\n"))
    assert call == RecordedCall(row=1, key=b"B1", message=line, event_ms=START_MS)


@pytest.mark.parametrize(
    "times",
    [
        pa.array([START_MS], pa.int64()),
        pa.array([START_MS], pa.timestamp("ms", tz="UTC")),
        pa.array([START_MS * 1_000_000 + 1], pa.timestamp("ns", tz="Europe/Berlin")),
        pa.array(["2025-11-21T20:00:00Z"]),
    ],
    ids=["int", "milliseconds", "nanoseconds", "text"],
)
def test_parquet_is_read_whatever_way_it_keeps_time(tmp_path: Path, times: pa.Array) -> None:
    table = pa.table({"biller_id": ["B1"], "timestamp": times, "latency_ms": [5.0], "outcome": ["error"]})
    pq.write_table(table, tmp_path / "calls.parquet")
    (call,) = calls_of(tmp_path / "calls.parquet")
    assert (call.key, call.event_ms) == (b"B1", START_MS)
    assert json.loads(call.message)["outcome"] == "error"


def test_parquet_without_time_zone_is_refused(tmp_path: Path) -> None:
    times = pa.array([START_MS], pa.timestamp("ms"))
    table = pa.table({"biller_id": ["B1"], "timestamp": times, "latency_ms": [5.0], "outcome": ["ok"]})
    pq.write_table(table, tmp_path / "calls.parquet")
    with pytest.raises(InputError, match="time zone"):
        rows_of(tmp_path / "calls.parquet")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("B1,1763755200000,nan,ok", "row"),
        ("B1,1763755200000,-1,ok", "latency_ms"),
        ("B1,1763755200000,slow,ok", "latency_ms"),
        ("B1,2025-11-21T20:00:00,1,ok", "timestamp"),
        ("B1,yesterday,1,ok", "timestamp"),
        ("B1,1763755200,1,ok", "timestamp"),
        ("B1,1763755200000,1,fine", "outcome"),
        ("B1,1763755200000,1,", "outcome"),
        ("{B1},1763755200000,1,ok", "biller_id"),
        (",1763755200000,1,ok", "biller_id"),
        ("B1,1763755200000,1", "row"),
    ],
)
def test_a_bad_row_names_its_number_and_field_and_the_next_is_read(tmp_path: Path, row: str, field: str) -> None:
    good = "B1,1763755200000,1,ok"
    path = written(tmp_path / "calls.csv", f"biller_id,timestamp,latency_ms,outcome\n{good}\n{row}\n{good}\n")
    rows = rows_of(path)
    assert len(rows) == 3
    assert refusals_of(path) == [(2, field)] or (field == "row" and refusals_of(path)[0][0] == 2)
    assert isinstance(rows[2], RecordedCall)


def test_a_bad_line_of_ndjson_names_its_number_and_the_next_is_read(tmp_path: Path) -> None:
    good = b'{"biller_id":"B1","timestamp":1763755200000,"latency_ms":1,"outcome":"ok"}'
    long = b'{"biller_id":"' + b"B" * MAX_LINE_BYTES * 3 + b'"}'
    lines = [good, b"{", b"[]", b'{"biller_id":"\xff"}', long, b'{"biller_id":"B1"}', good]
    path = written(tmp_path / "calls.ndjson", b"\n".join(lines))
    assert [row for row, _ in refusals_of(path)] == [2, 3, 4, 5, 6]
    assert refusals_of(path)[-1] == (6, "timestamp")
    assert isinstance(rows_of(path)[-1], RecordedCall)


def test_a_byte_that_is_no_utf8_spoils_its_row_only(tmp_path: Path) -> None:
    text = b"biller_id,timestamp,latency_ms,outcome\nB\xff,1763755200000,1,ok\nB1,1763755200000,1,ok\n"
    assert refusals_of(written(tmp_path / "calls.csv", text))[0][0] == 1
    assert len(rows_of(tmp_path / "calls.csv")) == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("calls.xlsx", b"", "format"),
        ("calls.csv", b"biller_id,latency_ms\n", "timestamp"),
        ("calls.csv", b"", "biller_id"),
        ("calls.parquet", b"no parquet", "Parquet"),
    ],
)
def test_a_file_that_is_none_is_refused_as_a_whole(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        rows_of(tmp_path / name)


def test_a_file_that_is_missing_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        rows_of(tmp_path / "calls.csv")


def test_a_truncated_file_says_where_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "calls.ndjson.gz"
    path.write_bytes(EXAMPLE.read_bytes()[:50_000])
    with pytest.raises(InputError, match=r"damaged after row \d{3,}"):
        rows_of(path)


def test_the_example_is_read_completely_and_its_share_grows_to_one() -> None:
    shares = []
    with Recording(EXAMPLE) as recording:
        for number, row in enumerate(recording, start=1):
            assert isinstance(row, RecordedCall)
            if number % 10_000 == 0:
                shares.append(recording.share)
        assert recording.share == 1.0
    assert number == 119_446
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.5
