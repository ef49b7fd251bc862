"""The picture of one back-tested series: what was observed, what had been said of it, and what was made of it.

The identifiers of the drawn parts (`gid`, in SVG the `id` of a group): value, estimate, band, threshold, exceeded,
labelled, label-marks, not-judged; in the panel below score, boundary, alerting, beyond, score-labelled and so on. A
long series also has value-range, threshold-range and score-range.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from cli.steps import HOURS_A_DAY, Steps, pace_of
from cli.trace import Flags, Floats, Hours, Trace
from detection.hours import iso_hour

_INCHES = (12.0, 6.0)
# Apart in lightness as well as in hue, for who sees no red or no green.
_VALUE, _ESTIMATE, _BAND, _THRESHOLD = "#212529", "#339af0", "#a5d8ff", "#e8590c"
_EXCEEDED, _LABELLED, _LABEL_MARK = "#c2255c", "#ffec99", "#f59f00"
_NOT_JUDGED, _QUIET = "#f1f3f5", "#868e96"

_STYLE: Any = {
    # Text stays text: it can be searched, and a name in any script is drawn by whoever shows the picture.
    "svg.fonttype": "none",
    # The same series makes the same bytes.
    "svg.hashsalt": "tidemark",
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.parse_math": False,
    "axes.edgecolor": "#ced4da",
    "axes.labelcolor": "#495057",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e9ecef",
    "grid.linewidth": 0.7,
    "xtick.color": "#868e96",
    "ytick.color": "#868e96",
    "xtick.labelcolor": "#495057",
    "ytick.labelcolor": "#495057",
}

# Above this ratio of the highest to the typical value, the typical ones are a flat line on a linear axis.
_STEEPEST_LINEAR = 20.0
# What is said of a series may take this many times the height that its values take, above them and below.
_ROOM = 1.0
_FEW_HOURS = 1000
_SCORES_SHOWN = (-1.0, 3.0)


def svg(trace: Trace) -> bytes:
    """The picture as an SVG document that refers to nothing outside of itself."""
    with _style():
        file = BytesIO()
        figure = _drawn(trace)
        figure.savefig(file, format="svg", metadata={"Title": trace.series, "Date": None, "Creator": "Tidemark"})
    return file.getvalue()


def draw(trace: Trace) -> Figure:
    """The picture as a figure of Matplotlib; time runs in days since the epoch."""
    with _style():
        return _drawn(trace)


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # Said of names in scripts that Matplotlib's own font lacks. It only measures with it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _drawn(trace: Trace) -> Figure:
    figure = Figure(figsize=_INCHES, dpi=100, facecolor="white")
    FigureCanvasSVG(figure)
    # Fixed margins: pictures that are looked at one after the other keep their axes in place.
    grid = figure.add_gridspec(
        2, 1, height_ratios=(4.5, 1), left=0.062, right=0.985, top=0.84, bottom=0.06, hspace=0.07
    )
    values = figure.add_subplot(grid[0])
    scores = figure.add_subplot(grid[1], sharex=values)
    pace = pace_of(trace.hours)
    _draw_values(values, trace, pace)
    _draw_scores(scores, trace, pace)
    for axes, panel in ((values, ""), (scores, "score-")):
        _shade(axes, trace.hours, ~trace.is_judged, _NOT_JUDGED, f"{panel}not-judged")
        _shade(axes, trace.hours, trace.is_labelled, _LABELLED, f"{panel}labelled")
    # On top of all: the shade of one hour in a year is narrower than the lines that cover it.
    _shade(values, trace.hours, trace.is_labelled, _LABEL_MARK, "label-marks", at=(0.98, 0.02), order=5.0)
    for axes in (values, scores):
        axes.grid(visible=True)
        axes.set_axisbelow(True)
    values.tick_params(axis="x", length=0, labelbottom=False)
    _set_time(scores, trace.hours)
    _set_title(figure, trace)
    _set_legend(figure, trace)
    return figure


def _draw_values(axes: Axes, trace: Trace, pace: int) -> None:
    lower, upper = Steps.of(trace.hours, trace.lowers, pace), Steps.of(trace.hours, trace.uppers, pace)
    axes.fill_between(
        lower.days, lower.least, upper.most, step="post", color=_BAND, alpha=0.55, linewidth=0, gid="band", zorder=2
    )
    # The observed values last: nothing that was said of them hides them.
    thresholds, values = Steps.of(trace.hours, trace.thresholds, pace), Steps.of(trace.hours, trace.values, pace)
    _line(axes, thresholds, "threshold", color=_THRESHOLD, width=1.1, order=3.0)
    _line(axes, Steps.of(trace.hours, trace.estimates, pace), "estimate", color=_ESTIMATE, width=1.5, order=3.1)
    # Thinner where the line is dense, so that the estimate shows through.
    width = 0.8 if trace.hours.size <= _FEW_HOURS else 0.5
    _line(axes, values, "value", color=_VALUE, width=width, order=3.2)
    if pace > 1:
        _range(axes, thresholds, "threshold-range", color=_THRESHOLD, order=2.5)
        _range(axes, values, "value-range", color=_VALUE, order=2.6)
    exceeded = trace.is_exceeded
    axes.plot(
        (trace.hours[exceeded] + 0.5) / HOURS_A_DAY,
        trace.values[exceeded],
        linestyle="none",
        marker="o",
        markersize=4.5 if pace == 1 else 3.5,
        color=_EXCEEDED,
        markeredgecolor="white",
        markeredgewidth=0.5,
        gid="exceeded",
        zorder=4,
    )
    _set_scale(axes, trace)


def _draw_scores(axes: Axes, trace: Trace, pace: int) -> None:
    steps = Steps.of(trace.hours, trace.scores, pace)
    _line(axes, steps, "score", color=_QUIET, width=0.8, order=3.0)
    if pace > 1:
        _range(axes, steps, "score-range", color=_QUIET, order=2.6)
    alerting = trace.scores > 1.0
    middles = (trace.hours + 0.5) / HOURS_A_DAY
    axes.vlines(
        middles[alerting], 1.0, trace.scores[alerting], color=_EXCEEDED, linewidth=1.5, gid="alerting", zorder=3.1
    )
    axes.axhline(1.0, color=_THRESHOLD, linewidth=0.9, linestyle=(0, (4, 2)), gid="boundary", zorder=3.2)
    bottom, top = _SCORES_SHOWN
    beyond = trace.scores > top
    axes.plot(
        middles[beyond],
        np.full(int(beyond.sum()), top),
        linestyle="none",
        marker="^",
        markersize=4,
        color=_EXCEEDED,
        markeredgewidth=0,
        clip_on=False,
        gid="beyond",
        zorder=4,
    )
    axes.set_ylim(bottom, top)
    axes.yaxis.set_major_locator(FixedLocator([0, 1, 2, 3]))
    axes.set_ylabel("score")


def _line(axes: Axes, steps: Steps, name: str, *, color: str, width: float, order: float) -> None:
    axes.plot(
        steps.days,
        steps.mean,
        drawstyle="steps-post",
        color=color,
        linewidth=width,
        # An hour alone between two gaps is shorter than a pixel; so it is seen.
        solid_capstyle="projecting",
        gid=name,
        zorder=order,
    )


def _range(axes: Axes, steps: Steps, name: str, *, color: str, order: float) -> None:
    axes.fill_between(
        steps.days, steps.least, steps.most, step="post", color=color, alpha=0.3, linewidth=0, gid=name, zorder=order
    )


def _shade(
    axes: Axes,
    hours: Hours,
    is_meant: Flags,
    color: str,
    name: str,
    *,
    at: tuple[float, float] = (0.0, 1.0),
    order: float = 1.0,
) -> None:
    """From the first part of the height of the axes, as much as the second part."""
    meant = hours[is_meant]
    if not meant.size:
        return
    starts = np.flatnonzero(np.diff(meant, prepend=meant[0] - 2) > 1)
    ends = np.append(starts[1:], meant.size) - 1
    spans = [
        (meant[a] / HOURS_A_DAY, (meant[b] + 1 - meant[a]) / HOURS_A_DAY) for a, b in zip(starts, ends, strict=True)
    ]
    # With an edge, as an hour of a long series is narrower than what can be seen.
    axes.broken_barh(
        spans, at, transform=axes.get_xaxis_transform(), color=color, linewidth=0.8, gid=name, zorder=order
    )


def _set_scale(axes: Axes, trace: Trace) -> None:
    """Every observed value is inside; a threshold or band may leave the picture where it lies far from all of them."""
    bottom, top = float(trace.values.min()), float(trace.values.max())
    judged = trace.is_judged if trace.is_judged.any() else np.ones_like(trace.is_judged)
    said = np.concatenate([trace.lowers[judged], trace.uppers[judged], trace.thresholds[judged]])
    said = said[np.isfinite(said)]
    if said.size:
        low, middle, high = np.quantile(said, (0.005, 0.5, 0.99))
        room = _ROOM * (top - bottom)
        bottom = min(bottom, middle, max(low, bottom - room))
        top = max(top, middle, min(high, top + room))
    positive = trace.values[trace.values > 0.0]
    if bottom >= 0.0 and positive.size and top > _STEEPEST_LINEAR * float(np.median(positive)):
        _set_logarithmic(axes, positive, top, has_zeros=bool((trace.values == 0.0).any()))
        return
    margin = 0.04 * (top - bottom) or 0.1 * abs(top) or 1.0
    # Zero is the end of most scales: nothing is drawn below it for a margin's sake.
    axes.set_ylim(0.0 if 0.0 <= bottom < 0.15 * top else bottom - margin, top + margin)
    axes.yaxis.set_major_locator(MaxNLocator(7))
    axes.yaxis.set_major_formatter(FuncFormatter(_short))


def _set_logarithmic(axes: Axes, positive: Floats, top: float, *, has_zeros: bool) -> None:
    """Zeros, where there are any, have a place below the smallest values, on a linear stretch."""
    least, top = float(np.quantile(positive, 0.01)), 1.5 * top
    if has_zeros:
        axes.set_yscale("symlog", linthresh=least, linscale=0.5)
        axes.set_ylim(-0.1 * least, top)
        decades = range(math.ceil(math.log10(least)), math.floor(math.log10(top)) + 1)
        axes.yaxis.set_major_locator(FixedLocator([0.0, *(10.0**decade for decade in decades)]))
    else:
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(float(positive.min()) / 1.5, top)
        is_narrow = top < 1000.0 * least
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if is_narrow else (1.0,), numticks=12))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(FuncFormatter(_short))


def _short(number: float, _position: int | None = None) -> str:
    """A number for a narrow place: 0.25, 1,200, 35k, 2.5M."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size and (size > 1e3 or abs(number) >= 1e4):
            return f"{number / size:.4g}{letter}"
    return f"{number:,.6g}"


def _set_time(axes: Axes, hours: Hours) -> None:
    first, last = float(hours[0]) / HOURS_A_DAY, float(hours[-1] + 1) / HOURS_A_DAY
    margin = 0.005 * (last - first)
    axes.set_xlim(first - margin, last + margin)
    # Matplotlib annotates these two no more than half.
    locator = AutoDateLocator(tz=UTC, minticks=4, maxticks=12)  # type: ignore[no-untyped-call]
    formatter = ConciseDateFormatter(locator, tz=UTC, show_offset=False)  # type: ignore[no-untyped-call]
    formatter.formats[2] = formatter.zero_formats[2] = formatter.zero_formats[3] = "%d %b"
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)


def _set_title(figure: Figure, trace: Trace) -> None:
    figure.text(0.012, 0.962, trace.series, fontsize=13, fontweight="bold", color="#212529", va="center", gid="title")
    metric = ", ".join(filter(None, (trace.metric.slug, trace.metric.unit)))
    figure.text(0.985, 0.962, metric, fontsize=9.5, color="#495057", va="center", ha="right")
    figure.text(0.012, 0.921, summary(trace), fontsize=9.5, color="#495057", va="center", gid="summary")


def summary(trace: Trace) -> str:
    """How well the series was forecast, and how honest its threshold was, in one line."""
    tally = trace.tally
    first, last = (iso_hour(int(hour))[:10] for hour in trace.hours[[0, -1]])
    parts = [f"{first} to {last} UTC", f"{trace.hours.size:,} hours, {tally.hours:,} judged"]
    if tally.skill is not None:
        parts.append(f"skill {tally.skill:.2f} against 24 hours before")
    if tally.exceedance is not None:
        shares = f"{100.0 * tally.exceedance:.2f} % (claimed {100.0 * trace.claimed:.3g} %)"
        parts.append(f"{trace.metric.direction} threshold {shares}")
    if trace.is_labelled.any():
        parts.append(f"{int(trace.is_labelled.sum()):,} labelled")
    return "  ·  ".join(parts)


def _set_legend(figure: Figure, trace: Trace) -> None:
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=_VALUE, linewidth=1.4, label="observed"),
        Line2D([], [], color=_ESTIMATE, linewidth=1.6, label="estimate"),
        Patch(color=_BAND, alpha=0.55, label="95 % band"),
        Line2D([], [], color=_THRESHOLD, linewidth=1.6, label="threshold"),
        Line2D([], [], color=_EXCEEDED, marker="o", markersize=5, linestyle="none", label="exceedance"),
    ]
    if trace.is_labelled.any():
        handles.append(Patch(color=_LABELLED, label="labelled anomaly"))
    if not trace.is_judged.all():
        handles.append(Patch(color=_NOT_JUDGED, label="too little learned to judge"))
    figure.legend(
        handles=handles,
        loc="center left",
        bbox_to_anchor=(0.004, 0.875),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        handlelength=1.4,
        columnspacing=1.8,
    )
