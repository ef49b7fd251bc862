"""A folder of pictures, one a series, and a page that lists them: looked at offline, in any browser."""

import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from cli.picture import summary, svg
from cli.trace import Trace
from detection.errors import InputError

_INDEX = "index.html"
_LONGEST_NAME = 120

_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Back-test</title>
<style>
  :root { color-scheme: light }
  body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #212529; background: #fff;
         font: 15px/1.45 system-ui, sans-serif }
  h1 { font-size: 1.4rem; margin: 0 0 .3rem }
  p { margin: 0 0 1.2rem; color: #495057; max-width: 60rem }
  table { border-collapse: collapse; width: 100% }
  th, td { padding: .45rem .7rem; text-align: right; border-bottom: 1px solid #e9ecef;
           font-variant-numeric: tabular-nums }
  th { position: sticky; top: 0; background: #fff; color: #495057; font-weight: 600; white-space: nowrap }
  th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left }
  td:nth-child(2) { overflow-wrap: anywhere; font-weight: 600 }
  img { display: block; width: 20rem; aspect-ratio: 2 / 1; border: 1px solid #e9ecef }
  a { color: #1864ab; text-decoration: none }
  a:hover { text-decoration: underline }
  tr:hover td { background: #f8f9fa }
</style>
"""
_EXPLANATION = (
    "Judged: hours of a warm model. Beyond: share of the judged hours beyond the threshold published for them, "
    "beside the share that it claims. Skill: 1 is perfect, 0 as good as the value 24 hours before. "
    "Alerting: hours with a score above 1."
)
_COLUMNS = ("picture", "series", "metric", "hours", "judged", "labelled", "beyond %", "claimed %", "skill", "alerting")


class Gallery:
    """Writes one picture at a time; `close` writes the page of all that were added. InputError where it cannot."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: list[str] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refused(folder, error) from error

    def add(self, trace: Trace) -> None:
        """Draw a series."""
        name = file_name(trace.series)
        self._write(name, svg(trace))
        self._lines.append(_line(name, trace))

    def close(self) -> Path:
        """The page, which replaces one of an earlier back-test."""
        heading = f"{len(self._lines):,} back-tested series"
        titles = "".join(f"<th>{title}</th>" for title in _COLUMNS)
        page = (
            f"{_HEAD}<h1>{heading}</h1>\n<p>{_EXPLANATION}</p>\n<table>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n"
            f"{''.join(self._lines)}</tbody>\n</table>\n</html>\n"
        )
        self._write(_INDEX, page.encode())
        return self._folder / _INDEX

    def _write(self, name: str, content: bytes) -> None:
        file = self._folder / name
        try:
            file.write_bytes(content)
        except OSError as error:
            raise _refused(file, error) from error


def file_name(series: str) -> str:
    """A name of its own for each series, whatever characters the series has, that stays in its folder."""
    safe = quote(series, safe=" ")
    if len(safe) > _LONGEST_NAME:
        safe = f"{safe[:_LONGEST_NAME]}-{hashlib.sha256(series.encode()).hexdigest()[:16]}"
    # A leading dot hides a file.
    return f"{safe.replace('.', '%2E', 1) if safe.startswith('.') else safe}.svg"


def _line(name: str, trace: Trace) -> str:
    tally = trace.tally
    link = quote(name)
    share = None if tally.exceedance is None else 100.0 * tally.exceedance
    cells = (
        f'<a href="{link}"><img src="{link}" alt="{escape(summary(trace))}" loading="lazy"></a>',
        f'<a href="{link}">{escape(trace.series)}</a>',
        escape(trace.metric.slug),
        f"{trace.hours.size:,}",
        f"{tally.hours:,}",
        f"{int(trace.is_labelled.sum()):,}",
        _shown(share),
        f"{100.0 * trace.claimed:.3g}",
        _shown(tally.skill),
        f"{int((trace.scores > 1.0).sum()):,}",
    )
    return f"<tr>{_joined(cells)}</tr>\n"


def _joined(cells: Sequence[str]) -> str:
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _shown(number: float | None) -> str:
    return "–" if number is None else f"{number:.2f}"


def _refused(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: {error.strerror or error}")
