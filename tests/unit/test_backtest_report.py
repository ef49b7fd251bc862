"""`tidemark backtest --report`: what it says is what was measured, whatever a series is called, the same every time."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.recorded import Recorded, read_history
from cli.report.axes import Axis, time_ticks
from cli.report.figures import Figures, Run, figures_of, worst_first
from cli.report.page import embedded, render
from cli.report.plot import svg
from cli.report.series import ReportedSeries, reported
from cli.report.text import claimed, number, percent, tick
from cli.trace import Trace
from detection.alert_evaluation import BOUNDARY
from detection.backtest import Tally, backtest
from detection.catalogue import AVERAGE_RESPONSE_TIME, Metric, metric_of
from detection.claim import days_of, held
from detection.evaluation import Prediction, Recording, measure
from detection.hours import HOUR_MS, WEEK_HOURS, iso_hour
from detection.policy import Policy
from detection.rows import Observation
from detection.rules.book import DEFAULT_RULES
from detection.rules.rehearsal import rehearse
from detection.subject import Subject

EXAMPLES = Path(__file__).parents[2] / "examples"
START = 490_000
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\"'"
MADE_AT = "2026-01-31T09:00:00Z"


def daily(at: int) -> float:
    """A season of a day, with something on top that a model cannot know."""
    return 200.0 + 80.0 * math.sin(at * math.tau / 24) + 20.0 * math.sin(at * at)


def report_of(
    hours: Sequence[int],
    value: Callable[[int], float] = daily,
    *,
    name: str = "B1",
    metric: Metric = AVERAGE_RESPONSE_TIME,
    count: int | None = 50,
    labelled: Sequence[int] | None = None,
) -> ReportedSeries:
    """A series that was really back-tested; `hours` and `labelled` count from its start."""
    policy = Policy()
    found = [Observation(START + at, value(at), count or 1) for at in hours]
    recorded = Recorded(
        metric,
        Subject("biller" if metric.number else "model", name),
        {one.hour: one for one in found},
        labelled={START + at for at in labelled or ()},
        looked_at=set() if labelled is None else {one.hour for one in found},
        uncounted={one.hour for one in found} if count is None else set(),
    )
    predicted = list(backtest(metric, found, policy))
    tally = Tally.of(metric, policy)
    for one in predicted:
        tally.add(one.verdict)
    trace = Trace.of(name, metric, predicted, tally=tally, labelled=recorded.labelled)
    return reported(trace, recorded, predicted)


def run_of(**changes: Any) -> Run:
    plain: dict[str, Any] = {
        "file": "hours.csv",
        "sha256": "0" * 64,
        "bytes": 1,
        "rows": 1,
        "series_in_file": 1,
        "patterns": (),
        "settings": {"TIDEMARK_MIN_CALLS": "5"},
        "version": "0",
        "command": "tidemark backtest hours.csv",
        "made_at": MADE_AT,
        "seconds": None,
    }
    return Run(**(plain | changes))


def page_of(series: Sequence[ReportedSeries], *, plots: int = 50, **changes: Any) -> str:
    return render(figures_of(run_of(**changes), series), series, plots=plots, drawn=lambda: None)


def written(tmp_path: Path, series: dict[str, Callable[[int], float]], hours: int = 300) -> Path:
    """A file of hourly values; each name is quoted as CSV quotes it."""
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in series}
    lines = [
        f"{quoted[name]},{iso_hour(START + at)},{value(at)!r}" for name, value in series.items() for at in range(hours)
    ]
    file = tmp_path / "hours.csv"
    file.write_text("\n".join(["series,timestamp,value", *lines]), encoding="utf-8")
    return file


def reported_file(file: Path, report: Path, *options: str) -> tuple[str, dict[str, Any]]:
    """The page that the command wrote, and what it said on stdout."""
    run = CliRunner().invoke(app, ["backtest", str(file), "--report", str(report), "--json", *options])
    assert run.exit_code == 0, run.output
    said: dict[str, Any] = json.loads(run.stdout)
    return report.read_text(encoding="utf-8"), said


class Page(HTMLParser):
    """What a browser makes of a page: its elements, and the data that it carries."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "img", "link"}:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self.words.setdefault(self._open[-1], []).append(data)

    @property
    def data(self) -> dict[str, Any]:
        (text,) = self.words["script"]
        plain: dict[str, Any] = json.loads(text)
        return plain

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def recorded_report(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Any]]:
    """Six recorded series, some of them labelled, one with counts."""
    folder = tmp_path_factory.mktemp("report")
    patterns = ["--series", "cloud-app1-0[1-4]", "--series", "cloud-outbound-2[12]", "--series", "probe-06-latency"]
    return reported_file(EXAMPLES / "hourly.csv.gz", folder / "report.html", *patterns, "--report-series", "4")


def test_what_the_report_says_of_a_metric_is_what_the_terminal_says(
    recorded_report: tuple[str, dict[str, Any]],
) -> None:
    page, said = recorded_report
    data = Page(page).data
    for groups, kind in ((data["metrics"], "metrics"), (data["cohorts"], "cohorts")):
        assert {group["name"] for group in groups} == said[kind].keys()
        for group in groups:
            told = said[kind][group["name"]]
            assert (group["series"], group["hours"], group["claim"]["judged"]) == (
                told["series"],
                told["hours"],
                told["judged"],
            )
            assert group["claim"]["observed"] == pytest.approx(told["exceedance"], rel=1e-12)
            assert group["pinball"] == pytest.approx(told["pinball"], rel=1e-12)
            assert group["skill_pooled"] == pytest.approx(told["skill"], rel=1e-12)
    assert said["cohorts"].keys() == {
        "average-response-time/<10",
        "average-response-time/any",
        "gauge/any",
    }


def test_the_figures_of_a_series_are_those_of_the_evaluation() -> None:
    """On the same hours: the protocol of the accuracy page judges from the 169th hour on."""
    hours = range(24 * 40)
    series = report_of(hours)
    trace, figures = series.trace, series.figures
    predictions = {
        int(hour): Prediction(*numbers)
        for hour, *numbers in zip(
            trace.hours, trace.estimates, trace.lowers, trace.uppers, trace.thresholds, strict=True
        )
    }
    values = dict(zip(trace.hours.tolist(), trace.values.tolist(), strict=True))
    late = {START + at for at in hours if at >= WEEK_HOURS}
    ours = trace.hours >= START + WEEK_HOURS
    theirs = measure(Recording("B1", "latency", values), predictions, late)
    claim = held(trace.claimed, days_of(trace.hours[ours], trace.is_exceeded[ours]))
    assert claim.judged == theirs.hours
    assert claim.observed == pytest.approx(theirs.exceedance99, rel=1e-12)
    # And all judged hours, by their definition.
    judged = trace.is_judged
    assert figures.claim.judged == int(judged.sum()) == trace.tally.hours
    gap = trace.values[judged] - trace.thresholds[judged]
    assert figures.claim.exceeded == int((gap > 0.0).sum())
    assert figures.pinball == pytest.approx(float(np.maximum(0.99 * gap, -0.01 * gap).mean()), rel=1e-9)
    inside = (trace.lowers <= trace.values) & (trace.values <= trace.uppers)
    assert figures.inside == pytest.approx(float(inside[judged].mean()), rel=1e-12)
    errors = np.abs(trace.values - trace.estimates)[judged].mean()
    naive = np.abs(trace.values[24:] - trace.values[:-24])[judged[24:]].mean()
    assert figures.skill == pytest.approx(1.0 - errors / naive, rel=1e-9)
    assert figures.relative_pinball == pytest.approx((figures.pinball or 0.0) / naive, rel=1e-9)


def test_spans_add_up_to_the_series() -> None:
    figures = report_of(range(24 * 40)).figures
    assert sum(span.hours for span in figures.spans) == figures.hours
    assert sum(span.judged for span in figures.spans) == figures.claim.judged
    assert sum(span.exceeded for span in figures.spans) == figures.claim.exceeded
    assert len({span.begin for span in figures.spans}) == len(figures.spans)
    # Mondays, which the 5th of January 2026 was.
    monday = 20_458 * 24
    assert {(int(np.datetime64(span.begin[:10], "h").astype(int)) - monday) % WEEK_HOURS for span in figures.spans} == {
        0
    }


def outage(at: int) -> float:
    return 3_000.0 if 200 <= at < 204 or at == 260 else daily(at)


def test_would_be_alerts_are_those_of_a_rehearsal_of_the_default_rules() -> None:
    series = report_of(range(320), outage)
    found = [Observation(START + at, outage(at), 50) for at in range(320)]
    rehearsed = rehearse(
        DEFAULT_RULES, Subject.biller("B1"), AVERAGE_RESPONSE_TIME, found, Policy(), from_hour=START
    ).alerts
    assert [(alert.rule, alert.opened) for alert in series.figures.alerts] == [
        (alert.rule, iso_hour((alert.opened_ms or 0) // HOUR_MS - 1)) for alert in rehearsed
    ]
    first = series.figures.alerts[0]
    assert (first.opened, first.value) == (iso_hour(START + 200), 3_000.0)
    assert first.threshold < first.value
    assert first.worst >= first.score > BOUNDARY
    at = series.trace.hours.tolist().index(START + 200)
    assert (first.threshold, first.score) == (series.trace.thresholds[at], series.trace.scores[at])


def test_alerts_are_held_against_labels() -> None:
    labelled = [201, 202, 203, 290, 291]
    series = report_of(range(320), outage, labelled=labelled)
    alerts, incidents = series.figures.alerts, series.figures.incidents
    assert [incident.outcome for incident in incidents] == ["found", "missed"]
    # It opened an hour before the first labelled one.
    assert incidents[0].delay_hours == 0
    assert (incidents[0].begin, incidents[0].end) == (iso_hour(START + 201), iso_hour(START + 204))
    assert {alert.opened: alert.is_false for alert in alerts}[iso_hour(START + 200)] is False
    assert {alert.opened: alert.is_false for alert in alerts}[iso_hour(START + 260)] is True
    total = figures_of(run_of(), [series]).total.alerts
    assert (total.incidents, total.found, total.missed, total.already_open) == (2, 1, 1, 0)
    assert total.false == sum(alert.is_false is True for alert in alerts) > 0


def test_without_labels_nothing_is_called_false() -> None:
    series = report_of(range(320), outage)
    assert {alert.is_false for alert in series.figures.alerts} == {None}
    assert series.figures.incidents == ()
    assert "Labelled incidents" not in page_of([series])


def test_a_series_that_was_looked_at_and_has_no_incident_has_false_alerts_only() -> None:
    series = report_of(range(320), outage, labelled=[])
    assert {alert.is_false for alert in series.figures.alerts} == {True}


def test_too_few_calls_raise_no_alert_and_unknown_ones_are_taken_to_be_enough() -> None:
    enough, few, unknown = (report_of(range(320), outage, count=count).figures for count in (50, 1, None))
    assert len(enough.alerts) == len(unknown.alerts) > 0
    assert few.alerts == ()
    assert few.unevidenced_alerts > 0
    assert (few.cohort, unknown.cohort) == ("average-response-time/<10", "average-response-time/any")
    assert unknown.expected_calls is None


def test_alerts_that_only_the_floor_holds_back_are_counted() -> None:
    figures = report_of(range(320), lambda at: outage(at) / 1_000.0).figures
    assert figures.alerts == ()
    assert figures.unfloored_alerts > 0


def test_the_worst_series_is_the_one_with_the_most_excess_and_the_unjudged_one_is_last() -> None:
    def shifting(at: int) -> float:
        return daily(at) * (1.0 + 2.0 * (at % 37 in {0, 1, 2}) * (at > 100))

    series = [
        report_of(range(600), name="calm"),
        report_of(range(10), name="young"),
        report_of(range(600), shifting, name="wild"),
    ]
    ranked = worst_first(series)
    assert ranked[0].figures.name == "wild"
    assert ranked[0].figures.claim.standing == "more than claimed"
    assert ranked[-1].figures.name == "young"
    assert ranked[-1].figures.claim.observed is None
    assert [one.name for one in figures_of(run_of(), series).series] == [one.figures.name for one in ranked]


def test_no_text_of_the_data_becomes_markup(tmp_path: Path) -> None:
    file = written(tmp_path, {HOSTILE: outage, "{{ 7 * 7 }}": daily})
    hostile_file = tmp_path / "<b>hours & more.csv"
    file.rename(hostile_file)
    text, _ = reported_file(hostile_file, tmp_path / "report.html", "--series", "*<img*", "--series", "*")
    page = Page(text)
    assert [attributes.get("type") for attributes in page.of("script")] == ["application/json"]
    assert page.of("img") == []
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    # The style sheet says `b` of nothing that is not ours.
    assert "<b>hours" not in text
    assert "{{ 7 * 7 }}" in page.words["h3"]
    assert HOSTILE in page.words["h3"]
    assert {series["name"] for series in page.data["series"]} == {HOSTILE, "{{ 7 * 7 }}"}


def test_the_report_asks_for_nothing_from_outside(recorded_report: tuple[str, dict[str, Any]]) -> None:
    text, _ = recorded_report
    page = Page(text)
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            link = attributes.get(name)
            assert link is None or link.startswith("#"), (tag, link)
    assert page.of("link") == []
    assert "url(" not in text
    assert "@import" not in text
    policies = [one["content"] for one in page.of("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_a_screen_reader_finds_its_way(recorded_report: tuple[str, dict[str, Any]]) -> None:
    page = Page(recorded_report[0])
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert page.of("html") == [{"lang": "en"}]
    for attributes in page.of("a"):
        assert (attributes["href"] or "")[1:] in ids
    for _, attributes in page.elements:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(ids)
    pictures = [one for one in page.of("svg") if one.get("role") == "img"]
    assert len(pictures) == 4
    assert all(one.get("aria-labelledby") for one in pictures)
    assert all(one.get("aria-hidden") == "true" for one in page.of("svg") if one.get("role") != "img")
    assert all(one.get("scope") in {"col", "row"} for one in page.of("th"))
    # What scrolls can be scrolled with the keyboard, and says what it is.
    for attributes in page.of("div"):
        assert (attributes.get("tabindex"), attributes.get("role")) == ("0", "region")
        assert attributes.get("aria-label")
    assert [tag for tag, _ in page.elements if tag in {"h1", "h2", "h3"}][:2] == ["h1", "h2"]


def test_the_series_that_are_not_drawn_are_counted(recorded_report: tuple[str, dict[str, Any]]) -> None:
    text, _ = recorded_report
    data = Page(text).data
    assert len(data["series"]) == 6
    assert "The worst 4 of 6 series; 2 are left out" in text
    drawn = re.findall(r'<h3 id="series-\d+-name">([^<]+)<', text)
    assert drawn == [series["name"] for series in data["series"][:4]]
    assert len(text) < 1_000_000


def test_a_report_without_pictures_has_all_figures() -> None:
    series = [report_of(range(200))]
    text = page_of(series, plots=0)
    assert "<h3" not in text
    assert len(Page(text).data["series"]) == 1


def test_the_same_input_makes_the_same_bytes(tmp_path: Path) -> None:
    file = written(tmp_path, {"B1": outage, "B2": daily})
    report = tmp_path / "report.html"
    first, second = (reported_file(file, report, "--report-time", MADE_AT)[0] for _ in range(2))
    assert first == second
    data = Page(first).data
    assert (data["run"]["made_at"], data["run"]["seconds"]) == (MADE_AT, None)
    timed, _ = reported_file(file, report)
    run = Page(timed).data["run"]
    assert run["seconds"] >= 0.0
    stamp = f"{run['made_at']}, in {run['seconds']:,.1f} seconds"
    assert timed.replace(stamp, MADE_AT) != timed
    data_of_both = [json.dumps(Page(text).data | {"run": None}) for text in (first, timed)]
    assert data_of_both[0] == data_of_both[1]


def test_the_report_says_what_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_COVERAGE", "0.98")
    file = written(tmp_path, {"B1": daily, "B 2": daily, "other": daily})
    text, said = reported_file(file, tmp_path / "a report.html", "--series", "B*", "--report-series", "1")
    run = Page(text).data["run"]
    assert run["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (run["rows"], run["series_in_file"], run["patterns"]) == (900, 3, ["B*"])
    assert run["settings"]["TIDEMARK_COVERAGE"] == "0.98"
    assert run["command"] == (
        f"tidemark backtest {file} --series 'B*' --report '{tmp_path}/a report.html' --report-series 1"
    )
    assert said["report"] == f"{tmp_path}/a report.html"
    assert "where 2\N{NO-BREAK SPACE}% are claimed" in text
    assert "2 of 3: those that fit B*" in text


@pytest.mark.parametrize(
    ("report", "time", "reason"),
    [("missing/report.html", MADE_AT, "there is no folder"), ("report.html", "yesterday", "with an offset")],
)
def test_a_report_that_cannot_be_is_refused_before_anything_is_read(
    tmp_path: Path, report: str, time: str, reason: str
) -> None:
    file = written(tmp_path, {"B1": daily}, hours=3)
    run = CliRunner().invoke(app, ["backtest", str(file), "--report", str(tmp_path / report), "--report-time", time])
    assert run.exit_code == 2
    assert reason in run.stderr
    assert list(tmp_path.iterdir()) == [file]


def test_a_report_of_series_that_are_too_young_says_so(tmp_path: Path) -> None:
    text, _ = reported_file(written(tmp_path, {"B1": daily}, hours=5), tmp_path / "report.html")
    assert "None of 5 hours was judged" in text
    assert Page(text).data["total"]["claim"]["standing"] == "unknown"


def test_raw_calls_are_counted_as_live_ones(tmp_path: Path) -> None:
    calls = [
        {"biller_id": "B1", "timestamp": (START + at) * HOUR_MS + part, "latency_ms": 100.0 + at, "outcome": outcome}
        for at in range(60)
        for part, outcome in enumerate(("ok", "ok", "error", "timeout"))
    ]
    file = tmp_path / "calls.ndjson"
    file.write_text("\n".join(map(json.dumps, calls)), encoding="utf-8")
    text, said = reported_file(file, tmp_path / "report.html")
    assert said["cohorts"].keys() == {
        f"{slug}/<10" for slug in ("average-response-time", "error-rate", "timeout-error-rate")
    }
    history = read_history(file)
    assert history.rows == 240
    first = {name: recorded.observations[START] for name, recorded in history.series.items()}
    assert first == {
        "B1/average-response-time": Observation(START, 100.0, 3),
        "B1/error-rate": Observation(START, 25.0, 4),
        "B1/timeout-error-rate": Observation(START, 25.0, 4),
    }
    assert Page(text).data["run"]["rows"] == 240
    as_csv = tmp_path / "calls.csv"
    rows = [f"{one['biller_id']},{one['timestamp']},{one['latency_ms']},{one['outcome']}" for one in calls]
    as_csv.write_text("\n".join(["biller_id,timestamp,latency_ms,outcome", *rows]), encoding="utf-8")
    assert read_history(as_csv) == history


def numbers_of(path: str) -> list[tuple[float, float]]:
    """The corners of a path of M, h, v and z."""
    x = y = 0.0
    corners = []
    for command, text in re.findall(r"([MhvVz])([-\d. ]*)", path):
        if command == "M":
            x, y = map(float, text.split())
        elif command == "h":
            x += float(text)
        elif command == "v":
            y += float(text)
        elif command == "V":
            y = float(text)
        corners.append((x, y))
    return corners


def test_the_picture_has_each_value_at_its_hour_and_height() -> None:
    hours = [at for at in range(240) if not 96 <= at < 120]
    series = report_of(hours, outage)
    text = str(svg(series, 0))
    (path,) = re.findall(r'<path class="value" d="([^"]+)"', text)
    corners = numbers_of(path)
    axis = Axis.of(series.trace)
    height = 230 * 2
    for at, share in zip(hours, axis.shares(series.trace.values).tolist(), strict=True):
        assert any(
            x0 <= at and at + 1 <= x1 and y0 == y1 and abs(y0 - (1.0 - share) * height) <= 0.51
            for (x0, y0), (x1, y1) in pairwise(corners)
        ), at
    # A gap is not bridged.
    assert path.count("M") == 2
    assert text.count('class="alert"') == len(series.figures.alerts) > 0
    (dots,) = re.findall(r'<path class="exceeded" d="([^"]+)"', text)
    assert dots.count("M") == series.figures.claim.exceeded


def test_a_long_series_is_drawn_by_days_and_stays_small() -> None:
    series = report_of(range(9_000), outage)
    text = str(svg(series, 0))
    assert len(text) < 60_000
    assert 'class="value-range"' in text
    assert len(series.figures.spans) <= 60


@pytest.mark.parametrize("metric", ["gauge", "error-rate", "prediction-accuracy"])
@pytest.mark.parametrize("value", [lambda _: 0.0, lambda _: 5.0, lambda at: float(at % 2), lambda at: 1e-9 * (at % 3)])
def test_any_series_can_be_drawn(metric: str, value: Callable[[int], float]) -> None:
    text = page_of([report_of(range(100), value, metric=metric_of(metric))])
    assert "nan" not in Page(text).words.get("text", [])
    assert not re.search(r'[ "MVHhv](nan|inf)', text)


@pytest.mark.parametrize(
    ("low", "high"), [(134.24, 134.27), (0.0, 1.0), (0.0, 7.0), (-3.0, 2e6), (0.0, 3e-8), (12_340.0, 12_350.0)]
)
def test_an_axis_tells_its_ticks_apart(low: float, high: float) -> None:
    series = report_of(range(48), lambda at: high if at % 2 else low, metric=metric_of("gauge"))
    ticks = Axis.of(series.trace).ticks()
    assert len(ticks) >= 3
    assert len({text for _, text in ticks}) == len(ticks)
    assert [value for value, _ in ticks] == sorted(value for value, _ in ticks)


@pytest.mark.parametrize("days", [0.5, 3, 10, 30, 100, 400, 1_500, 20_000])
def test_times_are_written_a_few_times_and_with_their_year(days: float) -> None:
    ticks = time_ticks(20_400.25, 20_400.25 + days)
    assert len(ticks) <= 24
    assert all(20_400.0 <= day <= 20_401.0 + days for day, _ in ticks)
    assert days < 3 or len(ticks) >= 2
    assert not ticks or re.search(r"\d{4}$", ticks[0][1])


def test_numbers_are_written_for_people() -> None:
    assert [percent(None), percent(0.01), claimed(0.01)] == ["–", "1.00\N{NO-BREAK SPACE}%", "1\N{NO-BREAK SPACE}%"]
    assert [number(value) for value in (None, 0.0, 0.25, 1_234.5, 35_000.0, 2.5e6, 3e-9)] == [
        "–", "0", "0.25", "1,234", "35k", "2.5M", "3.00e-09",
    ]  # fmt: skip
    assert [tick(value, step) for value, step in ((134.25, 0.01), (2.5, 2.5), (1_000.0, 500.0), (0.0, 0.5))] == [
        "134.25", "2.5", "1,000", "0",
    ]  # fmt: skip


def test_the_data_in_a_page_is_all_that_was_found() -> None:
    figures: Figures = figures_of(run_of(), [report_of(range(320), outage, name=HOSTILE)])
    data = str(embedded(figures))
    assert not set("<>&") & set(data)
    plain = json.loads(data)
    assert plain["schema"] == 1
    assert plain["series"][0]["name"] == HOSTILE
    assert plain["total"]["alerts"]["count"] == len(plain["series"][0]["alerts"])
