"""`python -m benchmarks.references [NAME ...]`: measures references, and puts their rows into `references.csv`."""

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks._recorded import HOURLY, read_recordings
from benchmarks._reference_rows import ALL, LAST_HOURS, REFERENCES, ReferenceRow, Scope, read_rows, write_rows
from benchmarks.references.auto_arima import AutoArima
from benchmarks.references.method import Method, run
from benchmarks.references.prophet_daily import ProphetDaily
from benchmarks.references.quantile_rule import QuantileRule
from benchmarks.references.river_ewa import RiverEwa
from detection.evaluation import Recording, measure

EXAMPLES = Path(__file__).parents[2] / "examples" / HOURLY


@dataclass(frozen=True, slots=True)
class Measurement:
    """A method, on which hours it is judged, and on every `every`-th series by name: the slow ones not on all."""

    method: Callable[[], Method]
    scope: Scope = ALL
    every: int = 1


MEASUREMENTS = {
    "quantile-rule": Measurement(QuantileRule),
    "river-ewa": Measurement(RiverEwa),
    "prophet": Measurement(ProphetDaily, Scope(LAST_HOURS)),
    "auto-arima": Measurement(AutoArima, Scope(LAST_HOURS), every=8),
    "auto-arima-log": Measurement(partial(AutoArima, is_log=True), Scope(LAST_HOURS), every=8),
}


def rows_of(recording: Recording, measurement: Measurement) -> list[ReferenceRow]:
    """One row for each kind of bounds that the method has."""
    hours = frozenset(measurement.scope.hours(recording))
    said = run(recording, measurement.method(), hours)
    return [
        ReferenceRow(recording.name, name, measurement.scope, measure(recording, predictions, hours))
        for name, predictions in said.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """What was measured of a series is on disk before the next one starts; rows of other methods stay as they are."""
    parser = argparse.ArgumentParser(prog="benchmarks.references", description="Measure what could be run instead.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASUREMENTS)}; all without one")
    parser.add_argument("--output", type=Path, default=REFERENCES, help="instead of benchmarks/references.csv")
    options = parser.parse_args(arguments)
    chosen: list[str] = options.names
    output: Path = options.output
    unknown = set(chosen) - MEASUREMENTS.keys()
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose from {', '.join(MEASUREMENTS)}")
    recordings = [one for one in read_recordings(EXAMPLES).values() if one.scored_hours()]
    # Fits that do not converge are part of what is measured.
    warnings.simplefilter("ignore")
    for name in chosen or MEASUREMENTS:
        measurement = MEASUREMENTS[name]
        for recording in recordings[measurement.every - 1 :: measurement.every]:
            started = time.process_time()
            new = rows_of(recording, measurement)
            replaced = {(row.series, row.method, row.scope) for row in new}
            kept = [row for row in _rows_so_far(output) if (row.series, row.method, row.scope) not in replaced]
            write_rows([*kept, *new], output)
            sys.stdout.write(f"{name}: {recording.name}, {time.process_time() - started:.1f} s\n")
            sys.stdout.flush()


def _rows_so_far(path: Path) -> list[ReferenceRow]:
    return read_rows(path) if path.exists() else []


if __name__ == "__main__":
    main()
