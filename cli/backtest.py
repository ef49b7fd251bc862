"""`tidemark backtest FILE --output predictions.csv`: hourly series folded as the live path folds them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from detection.errors import InputError, InvalidRowError

if TYPE_CHECKING:
    from detection.backtest import Tally
    from detection.catalogue import Metric
    from detection.policy import Policy
    from detection.rows import Observation

_NEEDED = ("series", "timestamp", "value")
_WRITTEN = ("series", "timestamp", "value", "estimate", "lower", "upper", "threshold", "status")
_GZIP = b"\x1f\x8b"

SeriesRows = dict[str, tuple["Metric", dict[int, "Observation"]]]
# By metric: how many series, how many hours, and how well the judged ones were forecast.
Tallies = dict[str, tuple[int, int, "Tally"]]

File = Annotated[
    Path,
    typer.Argument(
        exists=True, dir_okay=False, help="CSV, also gzipped, with series, timestamp, value[, count][, metric]; hourly."
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", dir_okay=False, help="CSV of what was said before each value.")]


def backtest(
    file: File,
    output: Output,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, and no progress.")] = False,
) -> None:
    """Predict each hour of recorded series before its value is learned.

    lower and upper claim 95 % of normal hours, threshold claims the coverage of TIDEMARK_COVERAGE, else 99 %.
    """
    import settings
    from detection.backtest import Tally

    policy = settings.load().policy()
    series = read_series(file)
    tallies: Tallies = {}
    hours = sum(len(observations) for _, observations in series.values())
    with _writer(output) as write, _Bar(hours, is_shown=not as_json) as bar:
        for name in sorted(series):
            metric, observations = series[name]
            tally = Tally.of(metric, policy)
            for row in _predicted(name, metric, observations, tally, policy):
                write(row)
                bar.advance()
            n_series, n_hours, total = tallies.get(metric.slug, (0, 0, Tally.of(metric, policy)))
            total.include(tally)
            tallies[metric.slug] = (n_series + 1, n_hours + len(observations), total)
    if as_json:
        _print_json(file, output, tallies)
    else:
        _print_table(output, tallies)


def read_series(file: Path) -> SeriesRows:
    """The metric and the observations by hour of each series; InvalidRowError for the first row that is none."""
    from detection.rows import checked_row

    found: SeriesRows = {}
    for number, cells in _cells(file):
        name = cells["series"]
        if not name:
            raise InvalidRowError(number, "series", "is missing")
        metric = _metric(number, cells.get("metric") or "gauge")
        known, observations = found.setdefault(name, (metric, {}))
        if known != metric:
            raise InvalidRowError(number, "metric", f"is {metric}, and {known} in an earlier row of {name}")
        row = checked_row(
            number, timestamp=cells["timestamp"], value=cells["value"], count=cells.get("count"), metric=metric
        )
        if row.hour in observations:
            raise InvalidRowError(number, "timestamp", f"{cells['timestamp']}: an earlier row of {name} has this hour")
        observations[row.hour] = row.observation()
    if not found:
        raise InputError(f"{file}: no row")
    return found


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


def _predicted(
    name: str, metric: "Metric", observations: Mapping[int, "Observation"], tally: "Tally", policy: "Policy"
) -> Iterator[Sequence[object]]:
    from detection.backtest import backtest as fold
    from detection.hours import iso_hour

    for one in fold(metric, [observations[hour] for hour in sorted(observations)], policy):
        tally.add(one.verdict)
        estimate, threshold = one.forecast.estimate, one.forecast.threshold
        yield (
            name,
            iso_hour(one.observation.hour),
            one.observation.value,
            estimate.location,
            estimate.lower,
            estimate.upper,
            threshold.value,
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


class _Bar:
    """The progress in hours, on stderr; nothing where it is not shown."""

    def __init__(self, hours: int, *, is_shown: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not is_shown,
        )
        self._task = self._progress.add_task("hours", total=hours)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self) -> None:
        self._progress.advance(self._task)


def _print_table(output: Path, tallies: Tallies) -> None:
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
    console.print(f"Written: {output}", markup=False, highlight=False, soft_wrap=True)


def _print_json(file: Path, output: Path, tallies: Tallies) -> None:
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
    print(orjson.dumps({"file": str(file), "output": str(output), "metrics": metrics}).decode())


def _shown(number: float | None) -> str:
    return "–" if number is None else f"{number:.3f}"
