"""`tidemark backtest FILE --output predictions.csv --plots FOLDER`: hourly series folded as on the live path."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detection.errors import InputError, InvalidRowError, OperatorError

if TYPE_CHECKING:
    from cli.gallery import Gallery
    from detection.backtest import Predicted, Tally
    from detection.catalogue import Metric
    from detection.rows import Observation

_LABELLED = "1"
_NEEDED = ("series", "timestamp", "value")
_WRITTEN = ("series", "timestamp", "value", "estimate", "lower", "upper", "threshold", "score", "status")
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Recorded:
    """The observations of one series by hour, and the hours that its file marks as anomalous."""

    metric: "Metric"
    observations: dict[int, "Observation"] = field(default_factory=dict)
    labelled: set[int] = field(default_factory=set)


# By metric: how many series, how many hours, and how well the judged ones were forecast.
Tallies = dict[str, tuple[int, int, "Tally"]]

File = Annotated[
    Path,
    typer.Argument(
        exists=True,
        dir_okay=False,
        help="CSV, also gzipped, with series, timestamp, value[, count][, metric][, label]; hourly. "
        "A label of 1 is an hour of a known anomaly: it is shaded in the pictures, and learned like any other.",
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", dir_okay=False, help="CSV of what was said before each value.")
]
Plots = Annotated[
    Path | None,
    typer.Option("--plots", file_okay=False, help="Folder for a picture of each series, and a page that lists them."),
]
Patterns = Annotated[
    list[str] | None,
    typer.Option("--series", metavar="PATTERN", help="Only series whose name fits, as in 'probe-*'; can be repeated."),
]


def backtest(
    file: File,
    output: Output = None,
    plots: Plots = None,
    patterns: Patterns = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, and no progress.")] = False,
) -> None:
    """Predict each hour of recorded series before its value is learned.

    lower and upper claim 95 % of normal hours, threshold claims the coverage of TIDEMARK_COVERAGE, else 99 %. score is
    1 at the boundary beyond which a value is reason to look, and 0 while too little is learned to judge.
    """
    import settings
    from cli.progress import Progress
    from cli.trace import Trace
    from detection.backtest import Tally
    from detection.backtest import backtest as fold

    policy = settings.load().policy()
    gallery = None if plots is None else _gallery(plots)
    series = _chosen(file, read_series(file), patterns or [])
    tallies: Tallies = {}
    totals = {
        "hours": sum(len(recorded.observations) for recorded in series.values()),
        "plots": 0 if gallery is None else len(series),
    }
    with nullcontext() if output is None else _writer(output) as write, Progress(totals, is_shown=not as_json) as bar:
        for name in sorted(series):
            recorded = series[name]
            metric, observations = recorded.metric, recorded.observations
            tally = Tally.of(metric, policy)
            predicted: list[Predicted] = []
            for one in fold(metric, [observations[hour] for hour in sorted(observations)], policy):
                tally.add(one.verdict)
                predicted.append(one)
                if write is not None:
                    write(_row(name, one))
                bar.advance("hours")
            if gallery is not None:
                gallery.add(Trace.of(name, metric, predicted, tally=tally, labelled=recorded.labelled))
                bar.advance("plots")
            n_series, n_hours, total = tallies.get(metric.slug, (0, 0, Tally.of(metric, policy)))
            total.include(tally)
            tallies[metric.slug] = (n_series + 1, n_hours + len(observations), total)
    index = None if gallery is None else gallery.close()
    if as_json:
        _print_json(file, output, index, tallies)
    else:
        _print_table([path for path in (output, index) if path is not None], tallies)


def read_series(file: Path) -> dict[str, Recorded]:
    """Each series by its name; InvalidRowError for the first row that is no observation."""
    from detection.rows import checked_row

    found: dict[str, Recorded] = {}
    for number, cells in _cells(file):
        name = cells["series"]
        if not name:
            raise InvalidRowError(number, "series", "is missing")
        metric = _metric(number, cells.get("metric") or "gauge")
        recorded = found.setdefault(name, Recorded(metric))
        if recorded.metric != metric:
            raise InvalidRowError(number, "metric", f"is {metric}, and {recorded.metric} in an earlier row of {name}")
        row = checked_row(
            number, timestamp=cells["timestamp"], value=cells["value"], count=cells.get("count"), metric=metric
        )
        if row.hour in recorded.observations:
            raise InvalidRowError(number, "timestamp", f"{cells['timestamp']}: an earlier row of {name} has this hour")
        recorded.observations[row.hour] = row.observation()
        if cells.get("label") == _LABELLED:
            recorded.labelled.add(row.hour)
    if not found:
        raise InputError(f"{file}: no row")
    return found


def _chosen(file: Path, series: dict[str, Recorded], patterns: Sequence[str]) -> dict[str, Recorded]:
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


def _cells(file: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Rows counted from 1, the header not; columns that are not asked for are ignored."""
    import csv
    import gzip
    import io
    import zlib

    with file.open("rb") as raw:
        is_packed = raw.read(2) == _GZIP
    number = 0
    try:
        with (
            gzip.open(file, "rb") if is_packed else file.open("rb") as unpacked,
            io.TextIOWrapper(unpacked, encoding="utf-8-sig", newline="") as text,
        ):
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
                yield number, dict(zip(header, cells, strict=True))
    except (csv.Error, UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise InputError(f"{file}, after row {number}: {error}") from error


def _metric(number: int, text: str) -> "Metric":
    from detection.catalogue import metric_of
    from detection.errors import UnknownMetricError

    try:
        return metric_of(text)
    except UnknownMetricError as error:
        raise InvalidRowError(number, "metric", str(error)) from error


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


def _print_table(written: Sequence[Path], tallies: Tallies) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(caption="judged: hours of a warm model; skill: 1 is perfect, 0 as good as 24 hours before")
    for title in ("metric", "series", "hours", "judged", "beyond %", "pinball", "skill"):
        table.add_column(title, justify="left" if title == "metric" else "right")
    for slug in sorted(tallies):
        n_series, n_hours, tally = tallies[slug]
        share = None if tally.exceedance is None else 100.0 * tally.exceedance
        numbers = (f"{n_series:,}", f"{n_hours:,}", f"{tally.hours:,}")
        table.add_row(slug, *numbers, _shown(share), _shown(tally.pinball), _shown(tally.skill))
    console = Console()
    console.print(table)
    for path in written:
        console.print(f"Written: {path}", markup=False, highlight=False, soft_wrap=True)


def _print_json(file: Path, output: Path | None, index: Path | None, tallies: Tallies) -> None:
    import orjson

    metrics = {
        slug: {
            "series": n_series,
            "hours": n_hours,
            "judged": tally.hours,
            "exceedance": tally.exceedance,
            "pinball": tally.pinball,
            "skill": tally.skill,
        }
        for slug, (n_series, n_hours, tally) in sorted(tallies.items())
    }
    facts = {"file": file, "output": output, "plots": index, "metrics": metrics}
    print(orjson.dumps(facts, default=str).decode())


def _shown(number: float | None) -> str:
    return "–" if number is None else f"{number:.3f}"
