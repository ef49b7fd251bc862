"""The accuracy benchmark on a small made-up history: its report, its results and its page."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks._accuracy_page import page
from benchmarks._accuracy_report import ALERT_REFERENCE, OURS, REFERENCE, Report, report
from benchmarks._reference_rows import ALL, ReferenceRow, Scope
from benchmarks.accuracy import results
from detection.errors import InputError
from detection.evaluation import Prediction, Recording, measure

HOURS = 400
NAMES = {"cloud-a": "latency", "nab-b": "error", "probe-c": "latency"}
INCIDENTS = {250, 300}


def _value(hour: int) -> float:
    return 100.0 if hour in INCIDENTS else 10.0 + hour % 24 + hour * 7919 % 5


@pytest.fixture(scope="module")
def recordings() -> dict[str, Recording]:
    values = {hour: _value(hour) for hour in range(HOURS)}
    labels = {hour: hour in INCIDENTS for hour in range(HOURS)}
    return {
        name: Recording(name, family, values, {} if name == "probe-c" else labels) for name, family in NAMES.items()
    }


@pytest.fixture(scope="module")
def made(recordings: Mapping[str, Recording]) -> Report:
    rows = []
    for name, recording in recordings.items():
        theirs = measure(recording, said_of(recording, off=2.0))
        rows += [ReferenceRow(name, method, ALL, theirs) for method in (REFERENCE, "other")]
        last = Scope(100)
        hours = frozenset(last.hours(recording))
        if name != "nab-b":
            refitted = measure(recording, said_of(recording, off=4.0), hours)
            rows.append(ReferenceRow(name, "refitted", last, refitted))
    predictions = {name: said_of(recording, off=1.0) for name, recording in recordings.items()}
    return report(recordings, predictions, rows)


def said_of(recording: Recording, *, off: float) -> dict[int, Prediction]:
    """Wrong by so much in every hour, and silent but in the incidents."""
    return {
        hour: Prediction(value - off, value - 2.0 * off, value + off, value + off, 2.0 if value == 100.0 else 0.0)
        for hour, value in recording.values.items()
    }


def test_ours_is_divided_by_each_reference_on_the_same_series_and_hours(made: Report) -> None:
    assert made.overall.line(REFERENCE).paired.relmae == pytest.approx(1 / 2)
    assert made.overall.line("other").relmae.better_share == 1.0
    (refitted,) = made.refitted
    assert refitted.ours.series == 2
    assert refitted.line("refitted").paired.relmae == pytest.approx(1 / 4)
    assert refitted.line("refitted").paired.pinball99 == pytest.approx(1 / 4)


def test_groups_are_by_family_and_by_source(made: Report) -> None:
    assert {one.group: one.ours.series for one in made.families} == {"error": 1, "latency": 2}
    assert {one.group: one.ours.series for one in made.sources} == {"cloud": 1, "nab": 1, "probe": 1}


def test_a_method_that_was_not_measured_on_the_group_is_an_error(made: Report) -> None:
    with pytest.raises(InputError, match="refitted was not measured on all"):
        made.overall.line("refitted")


def test_alerts_are_judged_by_family_and_on_series_without_labels(made: Report) -> None:
    ours = made.alert_line(OURS)
    assert {family: (one.series, one.incidents) for family, one in ours.families.items()} == {
        "error": (1, 2),
        "latency": (1, 2),
    }
    assert ours.families["latency"].best_f1 == 1.0
    # Nobody marked the two jumps of the series without labels: two runs in 232 hours.
    assert ours.unlabelled.per_week == pytest.approx(2 * 168 / 232)
    assert made.alerts[0] is ours
    assert made.alert_line(ALERT_REFERENCE).families["error"].at_boundary.recall > 0.0


def test_every_target_of_the_benchmark_is_met_or_missed(made: Report) -> None:
    found = results(made)
    assert all(one.is_met is not None for one in found)
    assert {one.name: one.is_met for one in found}["alerts, error: best F1"] is True
    assert {one.name: one.is_met for one in found}["alarm runs a week on unlabelled series, as shipped"] is False


def test_the_page_shows_targets_references_and_alerts(made: Report, tmp_path: Path) -> None:
    text = page(made, results(made), tmp_path / "none.csv", stamp="commit c, machine m")
    assert "Measured on commit c, machine m." in text
    assert "No figures on sources left out are recorded." in text
    for heading in ("All series", "Family: error", "Source: probe", "2 series, last 100 hours of each"):
        assert f"### {heading}" in text
    assert f"| **{OURS}** |" in text
    assert f"| {ALERT_REFERENCE} |" in text


def test_the_page_shows_what_was_left_out_as_it_is_recorded(made: Report, tmp_path: Path) -> None:
    left_out = tmp_path / "left_out.csv"
    left_out.write_text("Source,relMAE\nnab,0.98\n", encoding="utf-8")
    text = page(made, results(made), left_out, stamp="")
    assert "| Source | relMAE |" in text
    assert "| nab | 0.98 |" in text
    assert "No figures on sources" not in text


def test_every_row_of_a_table_has_as_many_cells_as_its_header(made: Report, tmp_path: Path) -> None:
    widths = 0
    for line in page(made, results(made), tmp_path / "none.csv", stamp="").splitlines():
        if not line.startswith("|"):
            widths = 0
            continue
        widths = widths or line.count("|")
        assert line.count("|") == widths, line
