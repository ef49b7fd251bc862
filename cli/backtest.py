"""`tidemark backtest FILE --report report.html --output predictions.csv --plots FOLDER`: folded as on the live path."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detection.errors import InputError, OperatorError

if TYPE_CHECKING:
    from rich.table import Table

    from cli.gallery import Gallery
    from cli.recorded import History, Recorded
    from cli.report.series import ReportedSeries
    from cli.report.written import Sheet
    from cli.trace import Trace
    from detection.backtest import Predicted, Tally
    from detection.policy import Policy

_WRITTEN = ("series", "timestamp", "value", "estimate", "lower", "upper", "threshold", "score", "status")


@dataclass(slots=True)
class Group:
    """The series of one metric or cohort: how many, how many hours, and how well the judged ones were forecast."""

    tally: "Tally"
    series: int = 0
    hours: int = 0


@dataclass(slots=True)
class Outcome:
    """What a back-test came to: by metric, by cohort, and where a report is wanted, each series."""

    metrics: dict[str, Group] = field(default_factory=dict)
    cohorts: dict[str, Group] = field(default_factory=dict)
    series: list["ReportedSeries"] = field(default_factory=list)


File = Annotated[
    Path,
    typer.Argument(
        exists=True,
        dir_okay=False,
        help="CSV, also gzipped, with series, timestamp, value[, count][, metric][, label]; hourly. "
        "A label of 1 is an hour of a known anomaly: it is shaded in the pictures, and learned like any other. "
        "Or raw calls, in any format that `tidemark replay` reads.",
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", dir_okay=False, help="CSV of what was said before each value.")
]
Plots = Annotated[
    Path | None,
    typer.Option("--plots", file_okay=False, help="Folder for a picture of each series, and a page that lists them."),
]
Report = Annotated[
    Path | None,
    typer.Option("--report", dir_okay=False, help="One HTML file with all figures, would-be alerts and pictures."),
]
ReportSeries = Annotated[
    int, typer.Option(min=0, metavar="N", help="Pictures in the report, of the worst series first.")
]
ReportTime = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Says that the report was made then, so that it is the same at every run."),
]
Patterns = Annotated[
    list[str] | None,
    typer.Option("--series", metavar="PATTERN", help="Only series whose name fits, as in 'probe-*'; can be repeated."),
]


def backtest(
    file: File,
    output: Output = None,
    plots: Plots = None,
    report: Report = None,
    report_series: ReportSeries = 50,
    report_time: ReportTime = None,
    patterns: Patterns = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, and no progress.")] = False,
) -> None:
    """Predict each hour of recorded series before its value is learned.

    lower and upper claim 95 % of normal hours, threshold claims the coverage of TIDEMARK_COVERAGE, else 99 %. score is
    1 at the boundary beyond which a value is reason to look, and 0 while too little is learned to judge.
    """
    import settings
    from cli.progress import Progress

    policy = settings.load().policy()
    gallery = None if plots is None else _gallery(plots)
    sheet = None if report is None else _sheet(report, plots=report_series, time=report_time)
    history = _read(file, is_shown=not as_json)
    series = _chosen(file, history.series, patterns or [])
    totals = {
        "hours": sum(len(recorded.observations) for recorded in series.values()),
        "plots": 0 if gallery is None else len(series),
        "report": 0 if sheet is None else min(report_series, len(series)),
    }
    outcome = Outcome()
    with nullcontext() if output is None else _writer(output) as write, Progress(totals, is_shown=not as_json) as bar:
        for name in sorted(series):
            predicted = _predicted(series[name], policy, lambda: bar.advance("hours"))
            if write is not None:
                for one in predicted:
                    write(_row(name, one))
            trace = _take_in(outcome, name, series[name], predicted, policy)
            if gallery is not None:
                gallery.add(trace)
                bar.advance("plots")
            if sheet is not None:
                sheet.add(trace, series[name], predicted)
        if sheet is not None:
            sheet.close(file, history, patterns or [], policy, lambda: bar.advance("report"))
    index = None if gallery is None else gallery.close()
    if as_json:
        _print_json(file, output, index, report, outcome)
    else:
        _print_table([path for path in (output, index, report) if path is not None], outcome)


def _read(file: Path, *, is_shown: bool) -> "History":
    from cli.progress import Progress
    from cli.recorded import read_history

    done = 0
    with Progress({"% read": 100}, is_shown=is_shown) as bar:

        def told(share: float) -> None:
            nonlocal done
            while done < int(100.0 * share):
                done += 1
                bar.advance("% read")

        return read_history(file, told)


def _predicted(recorded: "Recorded", policy: "Policy", advance: Callable[[], object]) -> list["Predicted"]:
    from detection.backtest import backtest as fold

    predicted = []
    for one in fold(recorded.metric, [recorded.observations[hour] for hour in sorted(recorded.observations)], policy):
        predicted.append(one)
        advance()
    return predicted


def _take_in(
    outcome: Outcome, name: str, recorded: "Recorded", predicted: Sequence["Predicted"], policy: "Policy"
) -> "Trace":
    from cli.trace import Trace
    from detection.backtest import Tally
    from detection.cohorts import cohort_name

    metric = recorded.metric
    tally = Tally.of(metric, policy)
    for one in predicted:
        tally.add(one.verdict)
    expected = predicted[-1].forecast.estimate.expected_count if recorded.is_counted else None
    for groups, key in ((outcome.metrics, metric.slug), (outcome.cohorts, cohort_name(metric, expected))):
        group = groups.setdefault(key, Group(Tally.of(metric, policy)))
        group.tally.include(tally)
        group.series += 1
        group.hours += len(predicted)
    return Trace.of(name, metric, predicted, tally=tally, labelled=recorded.labelled)


def _chosen(file: Path, series: dict[str, "Recorded"], patterns: Sequence[str]) -> dict[str, "Recorded"]:
    from fnmatch import fnmatchcase

    if not patterns:
        return series
    chosen = {
        name: recorded for name, recorded in series.items() if any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    if not chosen:
        raise InputError(f"{file}: none of {len(series):,} series fits {' or '.join(map(repr, patterns))}")
    return chosen


def _gallery(folder: Path) -> "Gallery":
    try:
        from cli.gallery import Gallery
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "matplotlib":
            raise
        raise OperatorError("--plots needs Matplotlib, which is not installed: pip install 'tidemark[plots]'") from None
    return Gallery(folder)


def _row(name: str, one: "Predicted") -> Sequence[object]:
    from cli.trace import score_of
    from detection.hours import iso_hour

    estimate, threshold = one.forecast.estimate, one.forecast.threshold
    return (
        name,
        iso_hour(one.observation.hour),
        one.observation.value,
        estimate.location,
        estimate.lower,
        estimate.upper,
        threshold.value,
        score_of(one.verdict),
        one.forecast.status,
    )


def _sheet(report: Path, *, plots: int, time: str | None) -> "Sheet":
    from cli.report.written import Sheet, checked_time

    return Sheet(report, plots=plots, made_at=None if time is None else checked_time(time))


@contextmanager
def _writer(output: Path) -> Iterator[Callable[[Sequence[object]], object]]:
    """Into a file beside the output first: a back-test that fails leaves no half of one."""
    import csv

    part = output.with_name(output.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_WRITTEN)
            yield writer.writerow
        part.replace(output)
    except OSError as error:
        raise InputError(f"{output}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def _print_table(written: Sequence[Path], outcome: Outcome) -> None:
    from rich.console import Console

    console = Console()
    console.print(_table("metric", outcome.metrics))
    # Where no series has a size class, cohorts are metrics.
    if any(not name.endswith("/any") for name in outcome.cohorts):
        console.print(_table("cohort", outcome.cohorts))
    console.print(
        "judged: hours of a warm model; skill: 1 is perfect, 0 as good as 24 hours before", style="dim italic"
    )
    for path in written:
        console.print(f"Written: {path}", markup=False, highlight=False, soft_wrap=True)


def _table(title: str, groups: Mapping[str, Group]) -> "Table":
    from rich.table import Table

    table = Table()
    for name in (title, "series", "hours", "judged", "beyond %", "pinball", "skill"):
        table.add_column(name, justify="left" if name == title else "right", overflow="fold")
    for name in sorted(groups):
        group = groups[name]
        tally = group.tally
        share = None if tally.exceedance is None else 100.0 * tally.exceedance
        numbers = (f"{group.series:,}", f"{group.hours:,}", f"{tally.hours:,}")
        table.add_row(name, *numbers, _shown(share), _shown(tally.pinball), _shown(tally.skill))
    return table


def _print_json(file: Path, output: Path | None, index: Path | None, report: Path | None, outcome: Outcome) -> None:
    import orjson

    facts = {
        "file": file,
        "output": output,
        "plots": index,
        "report": report,
        "metrics": _facts(outcome.metrics),
        "cohorts": _facts(outcome.cohorts),
    }
    print(orjson.dumps(facts, default=str).decode())


def _facts(groups: Mapping[str, Group]) -> dict[str, dict[str, float | None]]:
    return {
        name: {
            "series": group.series,
            "hours": group.hours,
            "judged": group.tally.hours,
            "exceedance": group.tally.exceedance,
            "pinball": group.tally.pinball,
            "skill": group.tally.skill,
        }
        for name, group in sorted(groups.items())
    }


def _shown(number: float | None) -> str:
    return "–" if number is None else f"{number:.3f}"
