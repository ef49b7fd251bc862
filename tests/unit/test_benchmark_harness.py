"""A figure is worth its reference, its target and the stamp of where it was measured."""

import io
import platform
import subprocess
import sys
import types
from pathlib import Path

import orjson
import pytest
from rich.console import Console
from rich.progress import Progress

from benchmarks.__main__ import main, measure, names, table, write
from benchmarks.context import Context, commit, machine
from benchmarks.result import Result, Target

KEYS = [
    "name",
    "value",
    "unit",
    "reference",
    "reference_value",
    "ratio",
    "target",
    "met",
    "machine",
    "commit",
]
INGEST = Result(
    name="ingest",
    value=300_000.0,
    unit="calls/s",
    reference="stock agent",
    reference_value=12_000.0,
    target=Target(at_least=200_000, ratio_at_least=15),
)


@pytest.fixture
def context() -> Context:
    console = Console(quiet=True)
    return Context(console=console, progress=Progress(console=console))


def test_a_record_has_exactly_the_agreed_keys() -> None:
    record = INGEST.record(machine="m", commit="c")
    assert list(record) == KEYS
    assert record["ratio"] == 25
    assert record["met"] is True
    assert record["target"] == "ratio >= 15, >= 200000 calls/s"


@pytest.mark.parametrize(
    ("target", "is_met"),
    [
        (Target(), None),
        (Target(at_least=300_000), True),
        (Target(at_least=300_001), False),
        (Target(at_most=300_000), True),
        (Target(at_most=299_999), False),
        (Target(ratio_at_least=25), True),
        (Target(ratio_at_most=24), False),
        (Target(at_least=1, ratio_at_most=24), False),
    ],
    ids=lambda item: item.text("calls/s") if isinstance(item, Target) else None,
)
def test_a_target_is_met_when_all_its_bounds_hold(target: Target, is_met: bool | None) -> None:
    assert target.is_met(300_000, 25) is is_met


def test_a_bound_on_a_ratio_without_a_reference_is_a_mistake_of_the_benchmark() -> None:
    with pytest.raises(ValueError, match="needs a reference"):
        assert Result(name="x", value=1, unit="s", target=Target(ratio_at_most=1)).is_met


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_no_measurement(value: float) -> None:
    with pytest.raises(ValueError, match="not a measurement"):
        Result(name="x", value=value, unit="s")


def test_a_reference_has_a_name_and_a_value_or_neither() -> None:
    with pytest.raises(ValueError, match="a name and a value"):
        Result(name="x", value=1, unit="s", reference="r")
    with pytest.raises(ValueError, match="a name and a value"):
        Result(name="x", value=1, unit="s", reference_value=1)


def test_results_are_written_as_a_list_of_records(tmp_path: Path) -> None:
    path = write("ingest", [INGEST], folder=tmp_path / "results")
    (record,) = orjson.loads(path.read_bytes())
    assert path.name == "ingest.json"
    assert list(record) == KEYS
    assert (record["machine"], record["commit"]) == (machine(), commit())


def test_the_machine_is_described_without_its_name() -> None:
    node = platform.node()
    assert "cores" in machine()
    assert "GiB" in machine()
    assert not node or node not in machine()


def test_the_commit_is_dirty_unless_only_results_changed(tmp_path: Path) -> None:
    assert commit(tmp_path) == "none"
    _git(tmp_path, "init", "--quiet")
    assert commit(tmp_path) == "none"
    _git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "start")
    clean = commit(tmp_path)
    assert len(clean) == 12
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "ingest.json").write_text("[]")
    assert commit(tmp_path) == clean
    (tmp_path / "code.py").write_text("")
    assert commit(tmp_path) == f"{clean}-dirty"


def test_a_benchmark_that_returns_nothing_is_refused(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, lambda context: [])
    with pytest.raises(TypeError, match="not an empty one"):
        measure("pretended", context)


def test_a_module_without_run_is_refused(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend(monkeypatch, None)
    with pytest.raises(TypeError, match="no function run"):
        measure("pretended", context)


def test_a_benchmark_is_given_the_context_and_its_results_come_back(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Context] = []

    def run(given: Context) -> list[Result]:
        seen.append(given)
        return [INGEST]

    _pretend(monkeypatch, run)
    assert measure("pretended", context) == [INGEST]
    assert seen == [context]


def test_an_unknown_benchmark_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no-such-benchmark"])
    error = capsys.readouterr().err
    assert "no-such-benchmark" in error
    assert all(name in error for name in names())


def test_the_table_shows_what_was_missed() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table("all", [INGEST, Result(name="slow", value=9, unit="ms", target=Target(at_most=5))]))
    shown = console.export_text()
    assert "300,000 calls/s" in shown
    assert "<= 5 ms" in shown
    assert "no" in shown


def _pretend(monkeypatch: pytest.MonkeyPatch, run: object) -> None:
    module = types.ModuleType("benchmarks.pretended")
    if run is not None:
        module.run = run  # type: ignore[attr-defined]  # what a real module declares
    monkeypatch.setitem(sys.modules, "benchmarks.pretended", module)


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True)
