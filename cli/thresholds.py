"""`tidemark thresholds`: what is normal in the next hour, of all series at once.

tidemark thresholds list --metric error-rate        as a table, page by page in a terminal
tidemark thresholds export thresholds.csv           into a file: CSV, NDJSON or Parquet
"""

import sys
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli.client import Url, lines
from cli.completion import metrics, served_subjects
from cli.options import AsJson
from cli.pager import page
from detection.errors import InputError

if TYPE_CHECKING:
    from cli.progress import Progress

_PATH: Final = "/thresholds"
# The first of them say how wide the columns are: no table of a million rows is kept to find out.
_ROWS_MEASURED: Final = 1000

_Row = dict[str, Any]

thresholds = typer.Typer(
    name="thresholds",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="List the thresholds of all series, or export them into a file.",
)


class Kind(StrEnum):
    """Whose thresholds are wanted."""

    biller = "biller"
    model = "model"


class Status(StrEnum):
    """How much stands behind a threshold."""

    prior = "prior"
    learning = "learning"
    ready = "ready"
    stale = "stale"


class Format(StrEnum):
    """What a file of thresholds can be."""

    csv = "csv"
    ndjson = "ndjson"
    parquet = "parquet"


_SUFFIXES: Final = {
    ".csv": Format.csv,
    ".ndjson": Format.ndjson,
    ".jsonl": Format.ndjson,
    ".parquet": Format.parquet,
}

MetricOption = Annotated[
    str | None, typer.Option("--metric", help="Number, slug or name of one metric.", autocompletion=metrics)
]
KindOption = Annotated[Kind | None, typer.Option("--kind", help="Only billers, or only models.")]
PrefixOption = Annotated[
    str, typer.Option("--prefix", help="What the ids of the subjects begin with.", autocompletion=served_subjects)
]
StatusOption = Annotated[Status | None, typer.Option("--status", help="Only series of this status.")]


@thresholds.command("list")
def list_(
    metric: MetricOption = None,
    kind: KindOption = None,
    prefix: PrefixOption = "",
    status: StatusOption = None,
    alerting: Annotated[bool, typer.Option("--alerting", help="Only what is beyond its threshold now.")] = False,
    url: Url = "http://127.0.0.1:8000",
    pager: Annotated[bool, typer.Option(help="In a terminal, show it page by page.")] = True,
    as_json: AsJson = False,
) -> None:
    """Show the threshold of every series, in the order of their subjects.

    Exit codes: 0 listed, 2 no such metric or subject can be, 3 the API is away, 4 it failed.
    """
    asked = lines(url, _PATH, _query(metric, kind, prefix, status))
    rows = (row for row in asked if row["alert"]["is_alert"]) if alerting else asked
    if as_json:
        _print_json(rows)
    elif pager:
        page(table(rows))
    else:
        for line in table(rows):
            print(line)


@thresholds.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to; `-` is standard output. `.gz` and `.zst` are packed.")],
    format_: Annotated[Format | None, typer.Option("--format", help="Else by the file's suffix.")] = None,
    metric: MetricOption = None,
    kind: KindOption = None,
    prefix: PrefixOption = "",
    status: StatusOption = None,
    url: Url = "http://127.0.0.1:8000",
    as_json: Annotated[bool, typer.Option("--json", help="Say as JSON how many there were.")] = False,
) -> None:
    """Write the threshold of every series into a file: CSV, NDJSON or Parquet.

    A file that was not written to its end is not there. Exit codes: 0 written, 2 the file or a filter is wrong, 3 the
    API is away, 4 it failed.
    """
    from cli.packed import plain_suffix, written
    from cli.progress import Progress
    from cli.threshold_files import WRITERS

    is_piped = str(file) == "-"
    chosen = format_ or (Format.ndjson if is_piped else _SUFFIXES.get(plain_suffix(file)))
    if chosen is None:
        raise InputError(f"{file}: what is it to be? Name it .csv, .ndjson or .parquet, or say so with --format")
    asked = lines(url, _PATH, _query(metric, kind, prefix, status))
    with Progress({"thresholds": None}, is_shown=sys.stderr.isatty()) as progress:
        rows = _Counted(asked, progress)
        if is_piped:
            WRITERS[chosen.value](rows, sys.stdout.buffer)
            sys.stdout.flush()
        else:
            with written(file) as opened:
                WRITERS[chosen.value](rows, opened)
    if as_json:
        import orjson

        print(
            orjson.dumps({"file": str(file), "thresholds": rows.count}).decode(), file=sys.stderr if is_piped else None
        )
    elif not is_piped:
        print(f"{rows.count:,} thresholds in {file}")


class _Counted:
    """Rows on their way, counted as they pass."""

    def __init__(self, rows: Iterable[_Row], progress: "Progress") -> None:
        self.count = 0
        self._rows = rows
        self._progress = progress

    def __iter__(self) -> Iterator[_Row]:
        for row in self._rows:
            self.count += 1
            self._progress.advance("thresholds")
            yield row


def _query(metric: str | None, kind: Kind | None, prefix: str, status: Status | None) -> dict[str, str]:
    given = {"metric": metric, "kind": kind, "prefix": prefix, "status": status}
    return {name: str(value) for name, value in given.items() if value}


def _print_json(rows: Iterable[_Row]) -> None:
    """As a page of the API is, but all of it; a row at a time."""
    import orjson

    print('{"thresholds":[', end="")
    for number, row in enumerate(rows):
        print("," if number else "", orjson.dumps(row).decode(), sep="", end="")
    print("]}")


def table(rows: Iterable[_Row]) -> Iterator[str]:
    """A line for each row, below a head; columns as wide as the first thousand rows need, and never cut."""
    cells = (_cells(row) for row in rows)
    measured = list(islice(cells, _ROWS_MEASURED))
    if not measured:
        yield "no series"
        return
    head = ("subject", "metric", "status", "estimate", "threshold", "alert", "valid until")
    widths = [max(map(len, column)) for column in zip(head, *measured, strict=True)]
    for line in chain([head], measured, cells):
        yield "  ".join(
            cell.rjust(width) if number in _NUMBERS else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()


# Columns that are read from their end.
_NUMBERS: Final = (3, 4)


def _cells(row: _Row) -> tuple[str, ...]:
    unit = f" {row['unit']}" if row["unit"] else ""
    return (
        row["subject"],
        row["metric"],
        row["status"],
        f"{shown(row['estimate'])}{unit}",
        f"{row['operator']} {shown(row['threshold'])}{unit}",
        "ALERT" if row["alert"]["is_alert"] else "",
        row["valid_until"],
    )


def shown(number: float | None) -> str:
    """Four digits, as people read them; a dash for what is not known."""
    return "–" if number is None else f"{float(f'{number:.4g}'):,.10g}"
