"""A report as a file: what is collected series by series, and written at once or not at all."""

import hashlib
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cli.recorded import History, Recorded
from cli.report.figures import Run, figures_of
from cli.report.page import render
from cli.report.series import ReportedSeries, reported
from cli.trace import Trace
from detection.backtest import Predicted
from detection.errors import InputError
from detection.hours import iso, parse_ms
from detection.policy import Policy


class Sheet:
    """Takes in one series at a time; `close` writes the page. InputError where it cannot be written.

    `made_at` is written instead of the time and of how long it took, so that the same input makes the same bytes.
    """

    def __init__(self, path: Path, *, plots: int, made_at: str | None) -> None:
        self._path = path
        self._plots = plots
        self._made_at = made_at
        self._began = time.monotonic()
        self._series: list[ReportedSeries] = []
        if not path.parent.is_dir():
            raise InputError(f"{path}: there is no folder {path.parent}")

    def add(self, trace: Trace, recorded: Recorded, predicted: Sequence[Predicted]) -> None:
        """Judge a series."""
        self._series.append(reported(trace, recorded, predicted))

    def close(
        self,
        file: Path,
        history: History,
        patterns: Sequence[str],
        policy: Policy,
        drawn: Callable[[], object],
    ) -> None:
        """Write the page of all that were added; `drawn` is called after each picture."""
        content = file.read_bytes()
        run = Run(
            file=file.name,
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            rows=history.rows,
            series_in_file=len(history.series),
            patterns=tuple(patterns),
            settings=_settings(policy),
            version=_version(),
            command=self._command(file, patterns),
            made_at=self._made_at or iso(int(datetime.now(UTC).timestamp()) * 1000),
            seconds=None if self._made_at else round(time.monotonic() - self._began, 1),
        )
        page = render(figures_of(run, self._series), self._series, plots=self._plots, drawn=drawn)
        part = self._path.with_name(self._path.name + ".part")
        try:
            part.write_text(page, encoding="utf-8")
            part.replace(self._path)
        except OSError as error:
            raise InputError(f"{self._path}: {error.strerror or error}") from error
        finally:
            part.unlink(missing_ok=True)

    def _command(self, file: Path, patterns: Sequence[str]) -> str:
        """What makes this report again, whatever else was asked for at the same time."""
        chosen = [part for pattern in patterns for part in ("--series", pattern)]
        drawn = ["--report-series", str(self._plots)]
        return shlex.join(["tidemark", "backtest", str(file), *chosen, "--report", str(self._path), *drawn])


def checked_time(text: str) -> str:
    """As it is written into a report; InputError for what is no time with an offset."""
    try:
        return iso(parse_ms(text))
    except ValueError as error:
        raise InputError(f"--report-time {text!r}: a time with an offset is needed, as 2026-01-31T09:00:00Z") from error


def _settings(policy: Policy) -> dict[str, str]:
    """Those that decide what is said of an hour, by their variables."""
    return {
        "TIDEMARK_COVERAGE": f"{policy.coverage:g}",
        "TIDEMARK_MIN_CALLS": str(policy.min_calls),
        "TIDEMARK_TIME_ZONE": policy.zone,
        "TIDEMARK_STALE_AFTER_HOURS": str(policy.stale_after_hours),
        "TIDEMARK_CHALLENGERS": _selected(policy.selection.challengers),
        "TIDEMARK_FORECASTERS": _selected(policy.selection.forecasters),
    }


def _selected(names: Mapping[str, tuple[str, ...]]) -> str:
    return "; ".join(f"{scope}={','.join(chosen)}" for scope, chosen in names.items())


def _version() -> str:
    try:
        return version("tidemark")
    except PackageNotFoundError:
        return "0+unknown"
