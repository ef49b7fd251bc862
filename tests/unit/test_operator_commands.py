"""`tidemark thresholds` and `tidemark explain` against an API that answers as ours does."""

import csv
import gzip
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from api.openapi import PREDICTION, THRESHOLD
from cli.explain import bar
from cli.main import app
from cli.threshold_files import COLUMNS
from cli.thresholds import table

SERIES = [
    THRESHOLD
    | {"subject": f"biller:B{number:04d}", "estimate": number + 1 / 3, "status": "ready" if number % 2 else "prior"}
    for number in range(2_500)
]
ALERTING = SERIES[7] | {"alert": SERIES[7]["alert"] | {"is_alert": True}, "last_value": None}
QUIET = {"is_alert": False, "evidence": None}
SERIES = [ALERTING if at == 7 else one | {"alert": QUIET} for at, one in enumerate(SERIES)]

POINT = {
    "window_start": "2026-03-01T10:00:00Z", "value": 500.0, "count": 20, "estimate": 300.0, "lower": 200.0,
    "upper": 400.0, "threshold": 450.0, "score": 1.25, "exceeded": True, "credible": True, "origin": "live",
    "excluded": False,
}  # fmt: skip
CLAIM = {
    "judged": 24, "exceeded": 1, "claimed_exceedance": 0.01, "observed_exceedance": 0.0417, "interval": [0.007, 0.2],
    "pinball_loss": 1.0, "naive_pinball_loss": 2.0, "skill": 0.5,
}  # fmt: skip


class Answering(BaseHTTPRequestHandler):
    """Answers what `answers` has for a path, and remembers what it was asked."""

    asked: ClassVar[list[tuple[str, dict[str, list[str]]]]] = []
    answers: ClassVar[dict[str, Any]] = {}

    def do_GET(self) -> None:  # the name is http.server's
        split = urlsplit(self.path)
        self.asked.append((split.path, parse_qs(split.query)))
        answer = self.answers.get(split.path)
        said = {"detail": f"GET {split.path}: Not Found"} if answer is None else answer
        body = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(404 if answer is None else 200)
        # A stream that ends before it should is one that is shorter than it says.
        self.send_header("Content-Length", str(len(body) + (7 if body.endswith(b"broken") else 0)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 (as above)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        """Quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    Answering.asked.clear()
    Answering.answers = {
        "/thresholds": b"".join(json.dumps(one).encode() + b"\n" for one in SERIES),
        "/metrics/predict/error-rate/B1": PREDICTION,
    }
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout if code == 0 else done.stderr


def test_thousands_of_thresholds_are_listed_in_columns(url: str) -> None:
    lines = run("thresholds", "list", "--url", url).splitlines()
    assert len(lines) == 1 + len(SERIES)
    assert lines[0].split() == ["subject", "metric", "status", "estimate", "threshold", "alert", "valid", "until"]
    at = lines[0].index("valid until")
    assert {line.index(one["valid_until"]) for line, one in zip(lines[1:], SERIES, strict=True)} == {at}
    assert [line.split()[0] for line in lines if "ALERT" in line] == ["biller:B0007"]


def test_what_is_listed_is_what_was_asked_for(url: str) -> None:
    options = ["--metric", "error-rate", "--kind", "biller", "--prefix", "B", "--status", "ready"]
    said = json.loads(run("thresholds", "list", *options, "--json", "--url", url))
    assert said == {"thresholds": SERIES}
    assert Answering.asked == [
        ("/thresholds", {"metric": ["error-rate"], "kind": ["biller"], "prefix": ["B"], "status": ["ready"]})
    ]
    alerting = json.loads(run("thresholds", "list", "--alerting", "--json", "--url", url))
    assert alerting == {"thresholds": [ALERTING]}


def test_no_series_is_said(url: str) -> None:
    Answering.answers["/thresholds"] = b""
    assert run("thresholds", "list", "--url", url) == "no series\n"
    assert json.loads(run("thresholds", "list", "--json", "--url", url)) == {"thresholds": []}


def test_a_table_keeps_no_more_than_the_rows_that_it_measures() -> None:
    asked = 0

    def rows() -> Iterator[dict[str, Any]]:
        nonlocal asked
        for asked in range(1_000_000):  # noqa: B007 (looked at outside)
            yield SERIES[0]

    lines = table(rows())
    assert len([next(lines) for _ in range(10)]) == 10
    assert asked < 1_001


@pytest.mark.parametrize("name", ["t.csv", "t.ndjson", "t.parquet", "t.csv.gz", "t.ndjson.zst", "T.CSV"])
def test_an_export_has_every_number_with_all_its_digits(url: str, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    assert "2,500 thresholds" in run("thresholds", "export", str(file), "--url", url)
    data = file.read_bytes()
    if name.endswith(".gz"):
        data = gzip.decompress(data)
    elif name.endswith(".zst"):
        data = pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    if ".ndjson" in name:
        assert [json.loads(line) for line in data.splitlines()] == SERIES
    elif name.endswith(".parquet"):
        rows = parquet.read_table(file).to_pylist()
        assert [row["estimate"] for row in rows] == [one["estimate"] for one in SERIES]
        assert [row["is_alert"] for row in rows].count(True) == 1
        assert rows[7]["last_value"] is None
    else:
        rows = list(csv.DictReader(io.StringIO(data.decode())))
        assert tuple(rows[0]) == COLUMNS
        assert [float(row["estimate"]) for row in rows] == [one["estimate"] for one in SERIES]
        assert (rows[7]["is_alert"], rows[7]["last_value"], rows[8]["is_alert"]) == ("true", "", "false")
    assert list(tmp_path.iterdir()) == [file]


def test_an_export_without_a_file_is_lines_on_standard_output(url: str) -> None:
    assert [json.loads(line) for line in run("thresholds", "export", "-", "--url", url).splitlines()] == SERIES
    assert run("thresholds", "export", "-", "--format", "csv", "--url", url).startswith("subject,metric,")


def test_an_export_that_ends_before_its_end_leaves_no_file(url: str, tmp_path: Path) -> None:
    Answering.answers["/thresholds"] = Answering.answers["/thresholds"] + b"broken"
    for name in ("t.csv", "t.ndjson.gz", "t.parquet"):
        run("thresholds", "export", str(tmp_path / name), "--url", url, code=3)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_nobody_can_tell_the_kind_of_is_refused(url: str, tmp_path: Path) -> None:
    assert "--format" in run("thresholds", "export", str(tmp_path / "t.txt"), "--url", url, code=2)
    assert "cannot be written" in run("thresholds", "export", str(tmp_path / "no" / "t.csv"), "--url", url, code=4)


def test_an_api_that_is_away_is_said() -> None:
    assert "127.0.0.1:9" in run("thresholds", "list", "--url", "http://127.0.0.1:9", code=3)


def test_an_explanation_without_a_history_says_so(url: str) -> None:
    said = run("explain", "B1", "error-rate", "--url", url)
    assert PREDICTION["explanation"]["sentence"] in " ".join(said.split())
    assert "the last hours are left out: GET /history: Not Found" in said
    assert "how the claim has held is left out: GET /coverage: Not Found" in said


def test_an_explanation_has_parts_hours_and_claims(url: str) -> None:
    Answering.answers["/history"] = {"subject": "biller:B1", "metric": "error-rate", "points": [POINT]}
    Answering.answers["/coverage"] = {"series": [CLAIM | {"span": "week"}]}
    Answering.answers["/metrics/predict/error-rate/B1"] = PREDICTION | {
        "explanation": {
            "sentence": "the sentence",
            "parts": {"weight_day": 0.75, "weight_last": 0.25, "drift": "none", "week_mean": 12.5},
        }
    }
    said = run("explain", "B1", "error-rate", "--url", url)
    lines = said.splitlines()
    (day,) = [line for line in lines if "the same hour of other days" in line]
    (last,) = [line for line in lines if "the last hour " in line]
    assert day.count("█") == 3 * last.count("█") > 0
    assert "12.5 ms" in said
    (hour,) = [line for line in lines if "2026-03-01T10:00:00Z" in line]
    assert ("450" in hour, "beyond" in hour, "1.25" in hour) == (True, True, True)
    assert "0.7 % to 20 %" in said
    asked = [(path, query.get("span") or query.get("limit")) for path, query in Answering.asked]
    assert asked[1:] == [("/history", ["24"]), *(("/coverage", [span]) for span in ("day", "week", "month"))]


def test_an_explanation_for_machines_has_all_of_it(url: str) -> None:
    Answering.answers["/history"] = {"points": [POINT]}
    said = json.loads(run("explain", "biller:B1", "error-rate", "--json", "--url", url))
    assert (said["prediction"], said["history"], said["coverage"]) == (PREDICTION, [POINT], [])
    assert said["notes"] == ["how the claim has held is left out: GET /coverage: Not Found"]


def test_a_series_that_cannot_be_is_refused(url: str) -> None:
    run("explain", "B 1", "error-rate", "--url", url, code=2)
    run("explain", "B2", "error-rate", "--url", url, code=2)


def test_bars_are_exact_to_an_eighth() -> None:
    assert bar(1.0, cells=3) == "███"
    assert bar(1 / 24, cells=3) == "▏"
    assert bar(0.0) == bar(-1.0) == ""
