"""`python -m benchmarks [NAME]`: runs one benchmark, or all, writes the results and prints them as a table."""

import argparse
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

import orjson
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import benchmarks
from benchmarks.context import RESULTS, Context, commit, machine
from benchmarks.result import Result

HARNESS = {"__main__", "context", "result"}


def names() -> list[str]:
    """The benchmarks there are, by the names of their modules.

    What begins with `_` is shared between them; a package holds what they measure against.
    """
    found = (module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.ispkg)
    return sorted(name for name in found if name not in HARNESS and not name.startswith("_"))


def measure(name: str, context: Context) -> list[Result]:
    """Runs one benchmark; TypeError when its module does not keep the contract."""
    module = importlib.import_module(f"benchmarks.{name}")
    results = _entry(module)(context)
    if not results or not all(isinstance(item, Result) for item in results):
        raise TypeError(f"benchmarks/{name}.py: run must return a list of Result, and not an empty one")
    return list(results)


def write(name: str, results: Sequence[Result], *, folder: Path = RESULTS) -> Path:
    """Writes `NAME.json`; the file of an earlier run is replaced whole."""
    where, what = machine(), commit()
    records = [item.record(machine=where, commit=what) for item in results]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_bytes(orjson.dumps(records, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    return path


def table(title: str, results: Sequence[Result]) -> Table:
    """The results for a person."""
    made = Table("name", title=title, title_justify="left")
    for column in ("value", "reference", "ratio"):
        made.add_column(column, justify="right")
    made.add_column("measured against")
    made.add_column("target")
    made.add_column("met")
    for item in results:
        made.add_row(
            item.name,
            f"{_number(item.value)} {item.unit}",
            "" if item.reference_value is None else f"{_number(item.reference_value)} {item.unit}",
            "" if item.ratio is None else f"{item.ratio:.3g}",
            item.reference,
            item.target.text(item.unit),
            _MET[item.is_met],
        )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures in the order of the names; each result is on disk before the next benchmark starts."""
    known = names()
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure Tidemark against its references.")
    parser.add_argument("name", nargs="?", choices=known, help="one benchmark; all of them without it")
    chosen: str | None = parser.parse_args(arguments).name
    console = Console()
    if not known:
        parser.error("there is no benchmark yet")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    for name in known if chosen is None else [chosen]:
        with Progress(*columns, console=console) as progress:
            results = measure(name, Context(console=console, progress=progress))
        path = write(name, results)
        console.print(table(name, results))
        console.print(f"written to benchmarks/results/{path.name}\n")


_MET = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}


def _entry(module: ModuleType) -> Callable[[Context], list[Result]]:
    run = getattr(module, "run", None)
    if not callable(run):
        raise TypeError(f"{module.__name__} has no function run(context)")
    return cast("Callable[[Context], list[Result]]", run)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


if __name__ == "__main__":
    main()
