"""`references.csv`: how good each reference method was on each series, measured before and kept."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from detection.evaluation import Recording, SeriesAccuracy

REFERENCES = Path(__file__).parent / "references.csv"
LAST_HOURS = 240

_NUMBERS = ("scale", "relmae", "pinball99", "interval95", "exceedance99", "coverage95")
_COLUMNS = ("series", "method", "scope", "hours", *_NUMBERS)


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """Which of the scored hours were judged: the last so many of each series, or all of them."""

    last_hours: int | None = None

    @classmethod
    def named(cls, name: str) -> Self:
        return cls() if name == "all" else cls(int(name.removeprefix("last ")))

    def __str__(self) -> str:
        return "all" if self.last_hours is None else f"last {self.last_hours}"

    def hours(self, recording: Recording) -> tuple[int, ...]:
        scored = recording.scored_hours()
        return scored if self.last_hours is None else scored[-self.last_hours :]


ALL = Scope()


@dataclass(frozen=True, slots=True)
class ReferenceRow:
    """One method on one series."""

    series: str
    method: str
    scope: Scope
    accuracy: SeriesAccuracy


def read_rows(path: Path = REFERENCES) -> list[ReferenceRow]:
    with path.open(newline="") as file:
        return [
            ReferenceRow(
                cells["series"],
                cells["method"],
                Scope.named(cells["scope"]),
                SeriesAccuracy(hours=int(cells["hours"]), **{name: float(cells[name]) for name in _NUMBERS}),
            )
            for cells in csv.DictReader(file)
        ]


def write_rows(rows: Iterable[ReferenceRow], path: Path = REFERENCES) -> None:
    """By method, then by series; numbers to twelve digits."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for row in sorted(rows, key=lambda one: (one.scope.last_hours is not None, one.method, one.series)):
            numbers = (f"{getattr(row.accuracy, name):.12g}" for name in _NUMBERS)
            writer.writerow((row.series, row.method, row.scope, row.accuracy.hours, *numbers))
