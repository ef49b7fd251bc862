"""Shared between the accuracy benchmark and its references: the hourly examples, and what was said about them."""

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

from detection.evaluation import Prediction, Recording
from detection.hours import HOUR_MS, parse_ms

HOURLY = "hourly.csv.gz"


def read_recordings(path: Path) -> dict[str, Recording]:
    """The series of a file as in `examples/`, by name, in the order of the names."""
    families: dict[str, str] = {}
    values: dict[str, dict[int, float]] = {}
    labels: dict[str, dict[int, bool]] = {}
    for cells in _cells(path):
        name, hour = cells["series"], _hour(cells["timestamp"])
        families[name] = cells["family"]
        values.setdefault(name, {})[hour] = float(cells["value"])
        marks = labels.setdefault(name, {})
        if cells["label"]:
            marks[hour] = cells["label"] == "1"
    return {name: Recording(name, families[name], values[name], labels[name]) for name in sorted(values)}


def read_predictions(path: Path) -> dict[str, dict[int, Prediction]]:
    """What `tidemark backtest` wrote, by series and hour."""
    found: dict[str, dict[int, Prediction]] = {}
    for cells in _cells(path):
        score = cells.get("score")
        found.setdefault(cells["series"], {})[_hour(cells["timestamp"])] = Prediction(
            estimate=float(cells["estimate"]),
            lower=float(cells["lower"]),
            upper=float(cells["upper"]),
            threshold=float(cells["threshold"]),
            score=float(score) if score else None,
        )
    return found


def _cells(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        yield from csv.DictReader(file)


def _hour(text: str) -> int:
    return parse_ms(text) // HOUR_MS
