"""The pictures of `tidemark backtest --plots`: what is drawn is what was observed, said and judged."""

import io
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from typer.testing import CliRunner

from cli.gallery import Gallery, file_name
from cli.main import app
from cli.picture import draw, svg
from cli.progress import Progress
from cli.steps import Steps, pace_of
from cli.trace import Floats, Trace
from detection.backtest import Tally
from detection.backtest import backtest as fold
from detection.catalogue import AVERAGE_RESPONSE_TIME, Metric, metric_of
from detection.errors import InputError
from detection.hours import iso_hour
from detection.policy import Policy
from detection.rows import Observation

EXAMPLES = Path(__file__).parents[2] / "examples"
START = 490_000
SVG = "{http://www.w3.org/2000/svg}"


def daily(at: int) -> float:
    """A season of a day, with something on top that a model cannot know."""
    return 200.0 + 80.0 * math.sin(at * math.tau / 24) + 20.0 * math.sin(at * at)


def trace(
    hours: Sequence[int],
    value: Callable[[int], float] = daily,
    *,
    series: str = "B1",
    metric: Metric = AVERAGE_RESPONSE_TIME,
    labelled: Sequence[int] = (),
) -> Trace:
    """A series that was really back-tested; `hours` and `labelled` count from its start."""
    policy = Policy()
    predicted = list(fold(metric, [Observation(START + at, value(at), 50) for at in hours], policy))
    tally = Tally.of(metric, policy)
    for one in predicted:
        tally.add(one.verdict)
    return Trace.of(series, metric, predicted, tally=tally, labelled={START + at for at in labelled})


def with_an_outage() -> Trace:
    """Ten days, of which the fourth has no calls; three bad hours, two of them labelled with the hour before."""
    hours = [at for at in range(240) if not 96 <= at < 120]
    return trace(hours, lambda at: 3_000.0 if at in {150, 190, 191} else daily(at), labelled=[149, 150, 190])


def found(figure: Figure, name: str) -> list[Any]:
    """The lines and areas of this name, wherever they are drawn."""
    parts: list[Any] = [part for axes in figure.axes for part in (*axes.lines, *axes.collections)]
    return [part for part in parts if part.get_gid() == name]


def line(figure: Figure, name: str) -> tuple[Floats, Floats]:
    (part,) = found(figure, name)
    assert isinstance(part, Line2D)
    return np.asarray(part.get_xdata(), dtype=np.float64), np.asarray(part.get_ydata(), dtype=np.float64)


def spans(figure: Figure, name: str) -> list[tuple[int, int]]:
    """The shaded stretches, in hours from the start."""
    (part,) = found(figure, name)
    days = [[corner[0] for corner in np.asarray(path.vertices)] for path in part.get_paths()]
    return [(round(min(x) * 24) - START, round(max(x) * 24) - START) for x in days]


def values_axes(figure: Figure) -> Axes:
    return figure.axes[0]


@pytest.mark.parametrize("name", ["value", "estimate", "threshold", "score"])
def test_a_line_has_the_number_of_each_hour_for_the_whole_hour(name: str) -> None:
    drawn = with_an_outage()
    days, numbers = line(draw(drawn), name)
    known = getattr(drawn, f"{name}s")
    # Each of the two runs of hours is closed by its end, after which a gap begins.
    expected_days = [*range(97), 96, *range(120, 241), 240]
    assert [round(day * 24 - START, 6) for day in days] == expected_days
    assert np.array_equal(numbers[:96], known[:96])
    assert np.array_equal(numbers[98:218], known[96:])
    assert (numbers[96], numbers[218]) == (known[95], known[-1])
    assert list(np.flatnonzero(np.isnan(numbers))) == [97, 219]


def test_the_band_lies_between_its_lower_and_its_upper_bound() -> None:
    drawn = trace(range(120))
    (band,) = found(draw(drawn), "band")
    assert isinstance(band, PolyCollection)
    corners = np.vstack([np.asarray(path.vertices) for path in band.get_paths()])
    for hour, lower, upper in zip(drawn.hours, drawn.lowers, drawn.uppers, strict=True):
        here = corners[np.isclose(corners[:, 0], hour / 24)][:, 1]
        assert lower in here
        assert upper in here


def test_an_exceedance_is_marked_at_its_hour_and_value_and_nothing_else_is() -> None:
    drawn = with_an_outage()
    days, numbers = line(draw(drawn), "exceeded")
    assert {150, 190} <= {round(day * 24 - 0.5) - START for day in days}
    assert np.array_equal(numbers, drawn.values[drawn.is_exceeded])
    assert np.all(numbers > drawn.thresholds[drawn.is_exceeded])


def test_labelled_hours_and_hours_that_were_not_judged_are_shaded() -> None:
    drawn = with_an_outage()
    figure = draw(replace(drawn, is_judged=drawn.hours >= START + 48))
    for name in ("labelled", "score-labelled", "label-marks"):
        assert spans(figure, name) == [(149, 151), (190, 191)]
    assert spans(figure, "not-judged") == spans(figure, "score-not-judged") == [(0, 48)]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "labelled anomaly" in legend


def test_a_series_without_labels_says_nothing_of_them() -> None:
    figure = draw(trace(range(60)))
    assert found(figure, "labelled") == []
    assert "labelled anomaly" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_scores_have_their_boundary_and_what_is_beyond_the_panel_is_marked() -> None:
    drawn = with_an_outage()
    drawn = replace(drawn, scores=np.linspace(-2.0, 5.0, drawn.hours.size))
    figure = draw(drawn)
    assert set(line(figure, "boundary")[1]) == {1.0}
    (alerting,) = found(figure, "alerting")
    assert isinstance(alerting, LineCollection)
    tops = [np.asarray(segment)[:, 1].max() for segment in alerting.get_segments()]
    assert tops == list(drawn.scores[drawn.scores > 1.0])
    days, heights = line(figure, "beyond")
    assert len(days) == int((drawn.scores > 3.0).sum()) > 0
    assert set(heights) == {figure.axes[1].get_ylim()[1]}


def test_the_title_names_the_series_its_skill_and_the_claimed_and_measured_exceedance() -> None:
    drawn = with_an_outage()
    text = {part.get_gid(): part.get_text() for part in draw(drawn).texts}
    assert text["title"] == "B1"
    assert drawn.tally.skill is not None
    assert drawn.tally.exceedance is not None
    assert f"skill {drawn.tally.skill:.2f}" in text["summary"]
    assert f"above threshold {100 * drawn.tally.exceedance:.2f} % (claimed 1 %)" in text["summary"]
    assert "1970" not in text["summary"]
    assert iso_hour(START)[:10] in text["summary"]


def test_a_metric_whose_low_values_are_bad_is_said_to_be_below() -> None:
    drawn = trace(range(60), lambda at: daily(at) / 400, metric=metric_of("prediction-accuracy"))
    assert any("below threshold" in part.get_text() for part in draw(drawn).texts)


@pytest.mark.parametrize(
    ("value", "scale"),
    [
        (daily, "linear"),
        (lambda at: daily(at) - 300.0, "linear"),
        (lambda _: 0.0, "linear"),
        (lambda _: 5.0, "linear"),
        (lambda at: math.exp(5 * math.sin(at * at)), "log"),
        (lambda at: math.exp(5 * math.sin(at * at)) if at % 9 else 0.0, "symlog"),
        (lambda at: 1e9 if at == 70 else daily(at), "log"),
    ],
)
def test_the_scale_follows_the_data_and_shows_every_value(value: Callable[[int], float], scale: str) -> None:
    drawn = trace(range(100), value, metric=metric_of("gauge"))
    axes = values_axes(draw(drawn))
    assert axes.get_yscale() == scale
    bottom, top = axes.get_ylim()
    assert math.isfinite(bottom)
    assert bottom <= drawn.values.min() <= drawn.values.max() < top


def test_a_threshold_far_away_does_not_flatten_the_values() -> None:
    drawn = trace(range(100))
    far = replace(drawn, thresholds=np.where(drawn.hours < START + 70, 5_000.0, drawn.thresholds))
    bottom, top = values_axes(draw(far)).get_ylim()
    assert top - bottom < 3.5 * (drawn.values.max() - drawn.values.min())


def test_a_long_series_is_drawn_by_days_and_loses_no_peak() -> None:
    hours = np.array([at for at in range(START, START + 9_000) if not START + 4_000 <= at < START + 4_100])
    numbers = np.sin(np.arange(hours.size) ** 2 * 1.0)
    numbers[5_555] = 99.0
    pace = pace_of(hours)
    steps = Steps.of(hours, numbers, pace)
    assert pace == 24
    assert steps.days.size < 400
    assert np.nanmax(steps.most) == 99.0
    assert np.nanmin(steps.least) == numbers.min()
    assert np.isnan(steps.mean).sum() == 2
    day = hours // 24 == hours[5_555] // 24
    (at,) = np.flatnonzero(steps.days == hours[5_555] // 24)
    assert steps.mean[at] == pytest.approx(numbers[day].mean())
    assert pace_of(hours[:2_400]) == 1


def test_a_long_series_shows_the_range_of_each_day() -> None:
    drawn = trace(range(60))
    # Years later, so that the same hours are told in days.
    long = replace(drawn, hours=np.append(drawn.hours[:-1], drawn.hours[-1] + 30_000))
    figure = draw(long)
    for name, numbers in (("value-range", long.values), ("threshold-range", long.thresholds)):
        (part,) = found(figure, name)
        heights = np.vstack([np.asarray(path.vertices) for path in part.get_paths()])[:, 1]
        assert (heights.min(), heights.max()) == (numbers.min(), numbers.max())
    assert len(found(figure, "score-range")) == 1
    assert found(draw(drawn), "value-range") == []


def test_one_hour_is_a_picture_too() -> None:
    figure = draw(trace([0]))
    assert line(figure, "value")[1][0] == daily(0)


@pytest.mark.parametrize("series", ["B1", "$x_1$ & <b>日本</b>", "$unclosed", "a\nb"])
def test_the_svg_holds_every_part_its_own_name_and_nothing_from_outside(series: str) -> None:
    drawn = with_an_outage()
    text = svg(replace(drawn, series=series, is_judged=drawn.hours >= START + 48)).decode()
    root = ET.fromstring(text)  # noqa: S314 - made a line above
    ids = [group.get("id") for group in root.iter(f"{SVG}g")]
    for name in ("value", "estimate", "band", "threshold", "exceeded", "labelled", "not-judged", "score", "boundary"):
        assert ids.count(name) == 1, name
    words = ["".join(part.itertext()) for part in root.iter(f"{SVG}text")]
    assert all(one in words for one in series.split("\n"))
    assert re.findall(r'(?:href|src)="(?!#)', text) == []
    assert re.findall(r"url\((?!#)", text) == []
    assert "@import" not in text


def test_the_same_series_makes_the_same_bytes() -> None:
    assert svg(with_an_outage()) == svg(with_an_outage())


def test_every_series_has_a_file_of_its_own_inside_the_folder(tmp_path: Path) -> None:
    names = ["B1", "b/1", "b%2F1", "../up", "..", ".", ".b", "x" * 300, "x" * 299 + "y", "日本", "a b", "index.html"]
    files = [file_name(name) for name in names]
    assert len(set(files)) == len(names)
    for file in files:
        (tmp_path / file).write_bytes(b"")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
    assert not any(file.startswith(".") for file in files)


def test_the_page_lists_every_series_and_links_to_its_picture(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "new" / "plots")
    gallery.add(replace(with_an_outage(), series="<b>&%2F 1"))
    gallery.add(trace([0], series="young"))
    page = gallery.close()
    text = page.read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;%2F 1" in text
    assert "<b>" not in text
    assert text.count("<tr>") == 3
    assert "://" not in text
    links = set(re.findall(r'(?:href|src)="([^"]+)"', text))
    assert links == {"%253Cb%253E%2526%25252F%201.svg", "young.svg"}
    assert (page.parent / "%3Cb%3E%26%252F 1.svg").exists()


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        Gallery(tmp_path / "file" / "plots")


def test_the_command_draws_the_recorded_series_that_it_is_asked_for(tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    command = ["backtest", str(EXAMPLES / "hourly.csv.gz"), "--plots", str(plots), "--json"]
    run = CliRunner().invoke(app, [*command, "--series", "cloud-ingress-0[12]", "--series", "nab-occupancy_6005"])
    assert run.exit_code == 0, run.output
    said = json.loads(run.stdout)
    assert said["plots"] == str(plots / "index.html")
    assert said["metrics"]["gauge"]["series"] == 3
    names = ["cloud-ingress-01.svg", "cloud-ingress-02.svg", "index.html", "nab-occupancy_6005.svg"]
    assert sorted(path.name for path in plots.iterdir()) == names
    root = ET.parse(plots / "nab-occupancy_6005.svg").getroot()  # noqa: S314 - made by the command
    ids = {group.get("id") for group in root.iter(f"{SVG}g")}
    assert {"value", "estimate", "band", "threshold", "exceeded", "labelled", "score"} <= ids


def test_without_matplotlib_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cli.gallery", "cli.picture"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    file = tmp_path / "hours.csv"
    file.write_text(f"series,timestamp,value\nB1,{iso_hour(START)},1\n")
    command = ["backtest", str(file)]
    without = CliRunner().invoke(app, [*command, "--json"])
    assert without.exit_code == 0, without.output
    run = CliRunner().invoke(app, [*command, "--plots", str(tmp_path / "plots")])
    assert run.exit_code == 4
    assert "pip install 'tidemark[plots]'" in run.stderr
    assert not (tmp_path / "plots").exists()


def test_progress_is_shown_from_two_seconds_on() -> None:
    file, times = io.StringIO(), iter([10.0, 11.0, 11.9, 12.0, 12.1])
    with Progress({"hours": 4, "plots": 0}, is_shown=True, clock=lambda: next(times), file=file) as bar:
        bar.advance("hours")
        bar.advance("hours")
        assert file.getvalue() == ""
        bar.advance("hours")
    assert "3/4" in file.getvalue()
    assert "plots" not in file.getvalue()


@pytest.mark.parametrize(("is_shown", "seconds"), [(True, 1.0), (False, 60.0)])
def test_what_is_soon_done_and_what_is_read_by_a_program_show_no_progress(is_shown: bool, seconds: float) -> None:
    file, times = io.StringIO(), iter([0.0, seconds])
    with Progress({"hours": 1}, is_shown=is_shown, clock=lambda: next(times), file=file) as bar:
        bar.advance("hours")
    assert file.getvalue() == ""
