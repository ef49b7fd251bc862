"""`tidemark backtest` and `tidemark predict`: what they read, write and refuse (its pictures: test_backtest_plots)."""

import csv
import gzip
import json
import math
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from api.openapi import PREDICTION
from cli.backtest import backtest
from cli.predict import ask, path_of, predict
from cli.recorded import read_history
from cli.trace import score_of
from detection.backtest import backtest as fold
from detection.catalogue import AVERAGE_RESPONSE_TIME
from detection.errors import ConflictError, DependencyError, InputError, InvalidRowError, OperatorError, TidemarkError
from detection.estimate import Scored, WarmingUp
from detection.hours import iso_hour
from detection.policy import Policy
from detection.rows import Observation

EXAMPLES = Path(__file__).parents[2] / "examples"
START = 490_000

app = typer.Typer()
app.command("backtest")(backtest)
app.command("predict")(predict)


def observations(count: int) -> list[Observation]:
    return [Observation(START + at, 200.0 + 50.0 * math.sin(at / 4), 7) for at in range(count)]


def written(tmp_path: Path, text: str, name: str = "hours.csv") -> Path:
    file = tmp_path / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return file


@pytest.mark.parametrize("name", ["hours.csv", "hours.csv.gz"])
def test_each_hour_is_predicted_before_it_is_learned(tmp_path: Path, name: str) -> None:
    some = observations(60)
    lines = [f"B1,{iso_hour(one.hour)},x,{one.value!r},7,average-response-time" for one in reversed(some)]
    text = "\n".join(["series,timestamp,label,value,count,metric", *lines])
    output = tmp_path / "predictions.csv"
    run = CliRunner().invoke(app, ["backtest", str(written(tmp_path, text, name)), "--output", str(output), "--json"])
    assert run.exit_code == 0, run.output
    summary = json.loads(run.stdout)["metrics"]["average-response-time"]
    assert (summary["series"], summary["hours"], summary["judged"]) == (1, 60, 12)
    with output.open() as file:
        found = list(csv.DictReader(file))
    assert list(found[0]) == [
        "series", "timestamp", "value", "estimate", "lower", "upper", "threshold", "score", "status",
    ]  # fmt: skip
    for row, said in zip(found, fold(AVERAGE_RESPONSE_TIME, some, Policy()), strict=True):
        estimate = said.forecast.estimate
        assert row == {
            "series": "B1",
            "timestamp": iso_hour(said.observation.hour),
            "value": repr(said.observation.value),
            "estimate": repr(estimate.location),
            "lower": repr(estimate.lower),
            "upper": repr(estimate.upper),
            "threshold": repr(said.forecast.threshold.value),
            "score": repr(said.verdict.score if isinstance(said.verdict, Scored) else 0.0),
            "status": said.forecast.status,
        }
    assert list(tmp_path.glob("*.part")) == []


def test_the_summary_for_people_has_a_line_for_each_metric(tmp_path: Path) -> None:
    text = f"series,timestamp,value\nB1,{iso_hour(START)},1.5\n"
    run = CliRunner().invoke(app, ["backtest", str(written(tmp_path, text)), "-o", str(tmp_path / "out.csv")])
    assert run.exit_code == 0, run.output
    assert "gauge" in run.stdout


def test_the_recorded_hours_can_be_read() -> None:
    history = read_history(EXAMPLES / "hourly.csv.gz")
    series = history.series
    assert history.rows == 69_549
    assert len(series) == 80
    assert sum(len(recorded.observations) for recorded in series.values()) == 69_549
    assert len(series["cloud-app1-03"].labelled) == 163
    assert sum(len(recorded.labelled) for recorded in series.values()) == 4523
    assert series["probe-01-latency"].labelled == set()


def test_every_row_has_a_finite_score_and_an_hour_that_is_not_judged_that_of_an_expected_one(tmp_path: Path) -> None:
    some = observations(60)
    some[30] = Observation(some[30].hour, 90_000.0, 7)
    text = "\n".join(["series,timestamp,value", *(f"B1,{iso_hour(one.hour)},{one.value!r}" for one in some)])
    output = tmp_path / "predictions.csv"
    run = CliRunner().invoke(app, ["backtest", str(written(tmp_path, text)), "-o", str(output), "--json"])
    assert run.exit_code == 0, run.output
    with output.open() as file:
        rows = list(csv.DictReader(file))
    assert all(math.isfinite(float(row["score"])) for row in rows)
    assert any(float(row["score"]) != 0.0 for row in rows)
    assert score_of(WarmingUp(START, 90_000.0, 7)) == 0.0


def test_only_the_series_that_fit_a_pattern_are_back_tested(tmp_path: Path) -> None:
    text = "series,timestamp,value\n" + "".join(f"{name},{iso_hour(START)},1\n" for name in ("b1", "b2", "B1", "c"))
    file = str(written(tmp_path, text))
    output = tmp_path / "out.csv"
    run = CliRunner().invoke(app, ["backtest", file, "--series", "b*", "--series", "c", "-o", str(output), "--json"])
    assert run.exit_code == 0, run.output
    with output.open() as rows:
        assert [row["series"] for row in csv.DictReader(rows)] == ["b1", "b2", "c"]
    with pytest.raises(InputError, match=r"none of 4 series fits 'x\*'"):
        CliRunner().invoke(app, ["backtest", file, "--series", "x*"], catch_exceptions=False)


def test_without_an_output_only_the_summary_is_said(tmp_path: Path) -> None:
    file = written(tmp_path, f"series,timestamp,value\nB1,{iso_hour(START)},1.5\n")
    run = CliRunner().invoke(app, ["backtest", str(file), "--json"])
    assert run.exit_code == 0, run.output
    said = json.loads(run.stdout)
    assert (said["output"], said["plots"], said["metrics"]["gauge"]["hours"]) == (None, None, 1)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("line", "row", "field"),
    [
        (f",{iso_hour(START)},1,,", 2, "series"),
        ("B1,yesterday,1,,", 2, "timestamp"),
        (f"B1,{iso_hour(START)},1,,", 2, "timestamp"),
        (f"B1,{iso_hour(START + 1)},many,,", 2, "value"),
        (f"B2,{iso_hour(START + 1)},101,,error-rate", 2, "value"),
        (f"B1,{iso_hour(START + 1)},1,0,", 2, "count"),
        (f"B1,{iso_hour(START + 1)},1,,error-rate", 2, "metric"),
        (f"B2,{iso_hour(START + 1)},1,,no metric", 2, "metric"),
        (f"B1,{iso_hour(START + 1)},1", 2, "row"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(tmp_path: Path, line: str, row: int, field: str) -> None:
    text = f"series,timestamp,value,count,metric\nB1,{iso_hour(START)},1,,\n{line}\n"
    with pytest.raises(InvalidRowError) as refused:
        read_history(written(tmp_path, text))
    assert (refused.value.row, refused.value.field) == (row, field)


@pytest.mark.parametrize("text", ["", "series,value\n", "series,timestamp,value\n"])
def test_a_file_without_rows_or_columns_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError):
        read_history(written(tmp_path, text))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    text = "series,timestamp,value\n" + "".join(f"B1,{iso_hour(START + at)},{at}\n" for at in range(500))
    file = written(tmp_path, text, "hours.csv.gz")
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError):
        read_history(file)


class Answering(BaseHTTPRequestHandler):
    """Answers by the last part of the path, and remembers what it was asked."""

    asked: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:  # the name is http.server's
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.asked.append((self.path, body))
        last = self.path.rpartition("/")[2]
        status = int(last) if last.isdigit() else 200
        answer: Any = PREDICTION if status == 200 else {"detail": "the reason"}
        data = json.dumps(answer).encode() if last != "page" else b"<html>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name is http.server's)
        """Quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    Answering.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_predict_asks_the_api_and_shows_its_answer(url: str) -> None:
    shown = CliRunner().invoke(app, ["predict", "error-rate", "B1", "--url", url])
    plain = CliRunner().invoke(app, ["predict", "drift", "Mistral/v1", "--sample", "0.5", "--url", url, "--json"])
    assert shown.exit_code == 0, shown.output
    assert "beyond its threshold" in shown.stdout
    assert "334.1" in shown.stdout
    assert json.loads(plain.stdout) == PREDICTION
    assert Answering.asked == [
        ("/metrics/predict/error-rate/B1", b""),
        ("/metrics/predict/gauges/drift/Mistral/v1", b'{"sample":{"value":0.5}}'),
    ]


def test_an_id_cannot_leave_its_place_in_the_path() -> None:
    assert path_of("1", "a?b#c d") == "/metrics/predict/1/a%3Fb%23c%20d"


@pytest.mark.parametrize(
    ("last", "error"),
    [
        ("404", InputError),
        ("422", InputError),
        ("409", ConflictError),
        ("503", DependencyError),
        ("500", OperatorError),
        ("page", OperatorError),
    ],
)
def test_a_refusal_is_the_error_that_the_caller_can_act_on(url: str, last: str, error: type[TidemarkError]) -> None:
    with pytest.raises(error):
        ask(url, f"/{last}", None)


def test_an_api_that_is_away_is_said() -> None:
    with pytest.raises(DependencyError, match=r"127\.0\.0\.1:9"):
        ask("http://127.0.0.1:9", "/", None)
    with pytest.raises(InputError):
        ask("nonsense", "/", None)
