"""What Tidemark is compared with learns nothing before it has predicted it, and its kept rows belong to the data."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks._accuracy_page import MEASURED_HERE, METHODS
from benchmarks._recorded import HOURLY, read_predictions, read_recordings
from benchmarks._reference_rows import ALL, ReferenceRow, Scope, read_rows, write_rows
from benchmarks.context import ROOT
from benchmarks.references.__main__ import MEASUREMENTS
from benchmarks.references.method import LogScale, Past, prediction, run
from benchmarks.references.quantile_rule import NAME, QuantileRule
from benchmarks.references.river_ewa import CONFORMAL, GAUSSIAN, RiverEwa
from benchmarks.references.sigma_rule import SigmaRule
from detection.evaluation import Prediction, Recording, measure, seasonal_naive

PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", re.MULTILINE)


@pytest.fixture(scope="module")
def recordings() -> dict[str, Recording]:
    return read_recordings(ROOT / "examples" / HOURLY)


@pytest.fixture(scope="module")
def rows() -> list[ReferenceRow]:
    return read_rows()


class Remembering:
    """Says of each hour how many it has learned, and the newest of them."""

    def __init__(self) -> None:
        self.learned: list[int] = []

    def predict_one(self, hour: int) -> Mapping[str, Prediction]:
        newest = self.learned[-1] if self.learned else -1
        assert newest < hour
        return {"remembering": Prediction(len(self.learned), newest, 0.0, 0.0)}

    def learn_one(self, hour: int, value: float) -> None:
        self.learned.append(hour)


def test_an_hour_is_predicted_from_all_the_hours_before_it_and_no_other() -> None:
    recording = Recording("one", "other", {12: 1.0, 10: 1.0, 15: 1.0, 11: 1.0})
    said = run(recording, Remembering(), {11, 15})["remembering"]
    assert {hour: (one.estimate, one.lower) for hour, one in said.items()} == {11: (1, 10), 15: (3, 12)}


@pytest.mark.parametrize("method", [QuantileRule, RiverEwa, lambda: SigmaRule(168)], ids=["quantile", "river", "sigma"])
def test_what_is_said_of_an_hour_does_not_depend_on_its_value_or_on_what_comes_later(
    method: type[QuantileRule],
) -> None:
    values = {hour: 5.0 + hour % 24 + (hour * 7919 % 13) for hour in range(220)}
    changed = {hour: value if hour < 200 else 1e6 for hour, value in values.items()}
    hours = {190, 200}
    one = run(Recording("one", "other", values), method(), hours)
    assert one == run(Recording("one", "other", changed), method(), hours)


def test_the_quantile_rule_takes_quantiles_of_the_last_four_weeks() -> None:
    rule = QuantileRule()
    rule.learn_one(0, 1e9)
    for hour in range(1, 102):
        rule.learn_one(hour, float(hour - 1))
    # Of 0 to 100 every whole quantile is itself; hour 0 was four weeks and an hour ago.
    said = rule.predict_one(28 * 24 + 1)[NAME]
    assert (said.estimate, said.threshold) == (50.0, 99.0)
    assert (said.lower, said.upper) == (2.5, 97.5)


def test_the_sigma_rule_is_the_mean_and_three_standard_deviations() -> None:
    rule = SigmaRule(24)
    rule.learn_one(0, 1e9)
    for hour in range(10, 30):
        rule.learn_one(hour, 8.0 if hour % 2 else 12.0)
    said = rule.predict_one(30)[rule.name]
    assert (said.estimate, said.lower, said.upper, said.threshold) == (10.0, 6.0, 14.0, 16.0)


def test_a_rule_that_has_seen_nothing_of_its_window_still_says_a_number() -> None:
    rule = SigmaRule(24)
    rule.learn_one(0, 5.0)
    assert rule.predict_one(100)[rule.name] == Prediction(0.0, 0.0, 0.0, 0.0)


def test_gaps_are_bridged_without_looking_ahead() -> None:
    past = Past()
    for hour, value in ((100, 1.0), (101, 2.0), (104, 8.0), (105, 9.0)):
        past.learn_one(hour, value)
    assert past.filled(108).tolist() == [1.0, 2.0, 4.0, 6.0, 8.0, 9.0, 9.0, 9.0]


def test_no_bound_is_below_zero() -> None:
    assert prediction(estimate=-1.0, lower=-2.0, upper=3.0, threshold=4.0) == Prediction(0.0, 0.0, 3.0, 4.0)


def test_the_logarithm_bears_zeros_and_comes_back() -> None:
    scale = LogScale([0.0, 4.0, 6.0])
    assert scale.offset == pytest.approx(0.25)
    for value in (0.0, 1e-6, 5.0, 1e9):
        assert scale.back(scale.of(value)) == pytest.approx(value)


def test_the_river_model_learns_a_day_that_repeats_itself() -> None:
    values = {hour: 100.0 + 50.0 * (hour % 24 >= 12) + hour * 7919 % 5 for hour in range(168 + 168)}
    recording = Recording("day", "latency", values)
    said = run(recording, RiverEwa(), frozenset(recording.scored_hours()))
    assert said.keys() == {GAUSSIAN, CONFORMAL}
    for predictions in said.values():
        found = measure(recording, predictions)
        # The day goes up and down by 50.
        assert found.relmae * found.scale < 10.0
        assert found.coverage95 > 0.85


def test_the_river_model_bears_series_that_begin_with_zeros() -> None:
    values = {hour: 0.0 if hour < 30 else 3.0 for hour in range(200)} | {199: 4.0}
    recording = Recording("late", "error", values)
    assert run(recording, RiverEwa(), frozenset(recording.scored_hours()))


def test_recorded_values_labels_and_predictions_are_read_by_hour(tmp_path: Path) -> None:
    (tmp_path / "hourly.csv").write_text(
        "series,family,metric,timestamp,value,count,label\n"
        "b,error,gauge,1970-01-01T02:00:00Z,1.5,,1\n"
        "b,error,gauge,1970-01-01T03:00:00Z,2.5,,0\n"
        "a,latency,gauge,1970-01-01T02:00:00Z,7,4,\n"
    )
    assert read_recordings(tmp_path / "hourly.csv") == {
        "a": Recording("a", "latency", {2: 7.0}),
        "b": Recording("b", "error", {2: 1.5, 3: 2.5}, {2: True, 3: False}),
    }
    (tmp_path / "said.csv").write_text(
        "series,timestamp,value,estimate,lower,upper,threshold,score,status\n"
        "b,1970-01-01T02:00:00Z,1.5,1,2,3,4,0.5,ready\n"
        "b,1970-01-01T03:00:00Z,1.5,1,2,3,4,,ready\n"
    )
    assert read_predictions(tmp_path / "said.csv") == {"b": {2: Prediction(1, 2, 3, 4, 0.5), 3: Prediction(1, 2, 3, 4)}}


def test_rows_are_kept_as_they_were_written(rows: list[ReferenceRow], tmp_path: Path) -> None:
    write_rows(rows, tmp_path / "rows.csv")
    assert read_rows(tmp_path / "rows.csv") == rows
    assert str(Scope.named("last 240")) == "last 240"
    assert Scope.named("all") == ALL


def test_no_series_has_two_rows_of_one_method(rows: list[ReferenceRow]) -> None:
    assert len({(row.series, row.method, row.scope) for row in rows}) == len(rows)


def test_every_row_was_measured_on_the_hours_of_the_data(
    rows: list[ReferenceRow], recordings: Mapping[str, Recording]
) -> None:
    naive = {name: seasonal_naive(one.values) for name, one in recordings.items()}
    for row in rows:
        recording = recordings[row.series]
        hours = row.scope.hours(recording)
        errors = [abs(recording.values[hour] - naive[row.series][hour]) for hour in hours]
        assert row.accuracy.hours == len(hours), row
        # The values of the examples are rounded to a millionth.
        assert row.accuracy.scale == pytest.approx(sum(errors) / len(hours), rel=1e-6), row


def test_the_kept_rows_of_the_quantile_rule_are_what_it_still_says(
    rows: list[ReferenceRow], recordings: Mapping[str, Recording]
) -> None:
    recording = recordings["cloud-app1-01"]
    said = run(recording, QuantileRule(), frozenset(recording.scored_hours()))[NAME]
    (kept,) = (row.accuracy for row in rows if row.method == NAME and row.series == recording.name)
    found = measure(recording, said)
    assert found.relmae == pytest.approx(kept.relmae, rel=1e-9)
    assert found.pinball99 == pytest.approx(kept.pinball99, rel=1e-9)
    assert found.interval95 == pytest.approx(kept.interval95, rel=1e-9)


def test_every_method_that_has_rows_is_described_and_every_described_one_has_rows(rows: list[ReferenceRow]) -> None:
    assert {row.method for row in rows} == METHODS.keys() | MEASURED_HERE.keys()
    assert not METHODS.keys() & MEASURED_HERE.keys()


def test_the_slow_methods_are_judged_on_the_series_that_their_rule_names(
    rows: list[ReferenceRow], recordings: Mapping[str, Recording]
) -> None:
    long_enough = [name for name, one in recordings.items() if one.scored_hours()]
    subsets = {(one.scope, tuple(long_enough[one.every - 1 :: one.every])) for one in MEASUREMENTS.values()}
    for method in MEASURED_HERE:
        measured = {(row.scope, row.series) for row in rows if row.method == method}
        (scope,) = {scope for scope, _ in measured}
        assert (scope, tuple(sorted(series for _, series in measured))) in subsets, method


def test_every_reference_package_is_locked_in_the_version_that_the_project_has() -> None:
    folder = ROOT / "requirements"
    wanted = [line for line in (folder / "references.in").read_text().splitlines() if not line.startswith("#")]
    locked = _pins(folder / "references.txt")
    assert set(wanted) <= locked.keys(), "requirements/references.txt is old: run make lock"
    project = _pins(folder / "dev.txt")
    shared = locked.keys() & project.keys()
    assert {name: locked[name] for name in shared} == {name: project[name] for name in shared}


def _pins(path: Path) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for name, version in PIN.findall(path.read_text()):
        pins.setdefault(name, set()).add(version)
    return pins
