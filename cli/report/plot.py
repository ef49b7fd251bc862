"""The picture of one back-tested series as an SVG inside an HTML page, whose style sheet gives it its colours.

Three panels share the time: the values with all that was said of them, the score, and by weeks how often the threshold
was exceeded beside how often it claims to be. Steps are drawn in whole units of time inside a panel that the browser
stretches, so that a step costs some five bytes.
"""

from collections.abc import Iterator

import numpy as np
from markupsafe import Markup

from cli.report.axes import Axis, round_up, time_ticks
from cli.report.series import ReportedSeries, WouldBeAlert, span_begin, span_hours
from cli.report.text import claimed, number, percent, quantity
from cli.steps import HOURS_A_DAY, Steps, pace_of
from cli.trace import Flags, Floats, Hours, Trace
from detection.hours import HOUR_MS, parse_ms

_WIDTH, _LEFT, _RIGHT = 1080, 62, 8
_PANEL = _WIDTH - _LEFT - _RIGHT
_VALUES = (14, 230)
_SCORES = (258, 56)
_ALERTS = 317
_SPANS = (348, 56)
_HEIGHT = 426
# Half a pixel is as exact as an eye.
_EXACT = 2
_SCORES_SHOWN = (-1.0, 3.0)
# The shares of a span are shown up to so many times the claimed one, unless none is as high.
_HIGHEST_SHARE = 12.0


def svg(series: ReportedSeries, number_of_plot: int) -> Markup:
    """The picture; `number_of_plot` makes its identifiers the only ones of their page."""
    return Markup("").join(_parts(series, number_of_plot))


def _parts(series: ReportedSeries, plot: int) -> Iterator[Markup]:
    trace, figures = series.trace, series.figures
    pace = pace_of(trace.hours)
    axis = Axis.of(trace)
    yield Markup(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-labelledby="t{} d{}"><title id="t{}">{}</title>'
        '<desc id="d{}">{}</desc>'
    ).format(_WIDTH, _HEIGHT, plot, plot, plot, f"{figures.name}, {figures.metric}", plot, description(series))
    yield from _frame(trace, axis)
    yield _opened(_VALUES, trace, pace)
    yield from _shades(trace, pace)
    yield from _values(trace, axis, pace)
    yield Markup("</svg>")
    yield _opened(_SCORES, trace, pace)
    yield from _shades(trace, pace)
    yield from _scores(trace, pace)
    yield Markup("</svg>")
    yield from _alerts(series)
    yield from _shares(series)
    yield Markup("</svg>")


def description(series: ReportedSeries) -> str:
    """What the picture shows, for those who do not see it."""
    figures, claim = series.figures, series.figures.claim
    low, high = float(series.trace.values.min()), float(series.trace.values.max())
    parts = [
        (
            f"Hourly values from {figures.begin[:10]} to {figures.end[:10]}, {quantity(low, figures.unit)} to "
            f"{quantity(high, figures.unit)}, with estimate, 95 % band and threshold."
        ),
        (
            f"{claim.exceeded:,} of {claim.judged:,} judged hours are beyond the threshold, "
            f"{percent(claim.observed)} where {claimed(claim.claimed)} are claimed."
        ),
        f"{len(figures.alerts):,} alerts would have been raised.",
    ]
    if figures.labelled_hours:
        parts.append(f"{figures.labelled_hours:,} hours are labelled as anomalous.")
    return " ".join(parts)


def _opened(panel: tuple[int, int], trace: Trace, pace: int) -> Markup:
    """A panel in which x counts steps of time from the first one, and y half pixels from its top."""
    top, height = panel
    steps = int(trace.hours[-1]) // pace - int(trace.hours[0]) // pace + 1
    return Markup(
        '<svg x="{}" y="{}" width="{}" height="{}" viewBox="0 0 {} {}" preserveAspectRatio="none" aria-hidden="true">'
    ).format(_LEFT, top, _PANEL, height, steps, height * _EXACT)


def _frame(trace: Trace, axis: Axis) -> Iterator[Markup]:
    """Lines and words: values and times where they are, and what the panels are."""
    top, height = _VALUES
    for value, text in axis.ticks():
        yield _level(top + height * (1.0 - float(axis.shares(np.array(value)))), text)
    top, height = _SCORES
    for score in (0.0, 1.0, 2.0):
        yield _level(top + height * (1.0 - _score_share(score)), f"{score:.0f}")
    unit = f", {trace.metric.unit}" if trace.metric.unit else ""
    for (panel, _), words in zip(
        (_VALUES, _SCORES, _SPANS), (f"value{unit}", "score", "hours beyond the threshold, %"), strict=True
    ):
        yield Markup('<text class="panel" x="{}" y="{}">{}</text>').format(_LEFT + 3, panel - 3, words)
    first, last = _ends(trace)
    bottom = _SPANS[0] + _SPANS[1]
    for day, text in time_ticks(first, last):
        x = _x(trace, day * HOURS_A_DAY)
        yield Markup('<path class="grid" d="M{:.1f} {}V{}"/><text x="{:.1f}" y="{}" class="time">{}</text>').format(
            x, _VALUES[0], bottom, x, bottom + 15, text
        )


def _level(y: float, text: str) -> Markup:
    return Markup('<path class="grid" d="M{} {:.1f}H{}"/><text class="tick" x="{}" y="{:.1f}">{}</text>').format(
        _LEFT, y, _WIDTH - _RIGHT, _LEFT - 6, y + 3.5, text
    )


def _shades(trace: Trace, pace: int) -> Iterator[Markup]:
    for which, name in ((~trace.is_judged, "unjudged"), (trace.is_labelled, "labelled")):
        path = "".join(f"M{start} 0h{length}v999h-{length}z" for start, length in _runs(trace.hours, which, pace))
        if path:
            yield Markup('<path class="{}" d="{}"/>').format(name, path)


def _values(trace: Trace, axis: Axis, pace: int) -> Iterator[Markup]:
    height = _VALUES[1]

    def steps(numbers: Floats) -> Steps:
        # Farther away than this is outside of the picture, however far.
        return Steps.of(trace.hours, np.clip(axis.shares(numbers), -1.0, 2.0), pace)

    first = int(trace.hours[0]) // pace
    lower, upper, threshold, value = map(steps, (trace.lowers, trace.uppers, trace.thresholds, trace.values))
    yield _area("band", lower, lower.least, upper.most, first, pace, height)
    if pace > 1:
        yield _area("threshold-range", threshold, threshold.least, threshold.most, first, pace, height)
        yield _area("value-range", value, value.least, value.most, first, pace, height)
    yield _line("threshold", threshold, threshold.mean, first, pace, height)
    estimate = steps(trace.estimates)
    yield _line("estimate", estimate, estimate.mean, first, pace, height)
    yield _line("value", value, value.mean, first, pace, height)
    beyond = np.flatnonzero(trace.is_exceeded)
    if beyond.size:
        places = _ys(axis.shares(trace.values[beyond]), height)
        at = (trace.hours[beyond] / pace - first).tolist()
        half = 0.5 / pace
        dots = "".join(f"M{x + half:.5g} {y}h0" for x, y in zip(at, places, strict=True))
        yield Markup('<path class="exceeded" d="{}"/>').format(dots)


def _scores(trace: Trace, pace: int) -> Iterator[Markup]:
    height = _SCORES[1]
    shares = np.array([_score_share(one) for one in np.clip(trace.scores, -2.0, 4.0).tolist()])
    steps = Steps.of(trace.hours, shares, pace)
    first = int(trace.hours[0]) // pace
    if pace > 1:
        yield _area("score-range", steps, steps.least, steps.most, first, pace, height)
    yield _line("score", steps, steps.mean if pace == 1 else steps.most, first, pace, height)
    (boundary,) = _ys(np.array([_score_share(1.0)]), height)
    yield Markup('<path class="boundary" d="M0 {}h99999"/>').format(boundary)


def _alerts(series: ReportedSeries) -> Iterator[Markup]:
    """Each alert as a bar for as long as it was open, with a mark at the hour that opened it."""
    trace = series.trace
    yield Markup('<text class="tick" x="{}" y="{}">alerts</text>').format(_LEFT - 6, _ALERTS + 8)
    yield Markup('<path class="grid" d="M{} {}H{}"/>').format(_LEFT, _ALERTS + 5, _WIDTH - _RIGHT)
    for alert, stretch in zip(series.figures.alerts, series.stretches, strict=True):
        begin, end = _x(trace, stretch.first), _x(trace, stretch.last + 1)
        yield Markup(
            '<g class="alert"><title>{}</title><rect x="{:.1f}" y="{}" width="{:.1f}" height="4"/>'
            '<path d="M{:.1f} {}l5 10h-10z"/></g>'
        ).format(
            told(alert, series.figures.unit),
            begin,
            _ALERTS + 3,
            max(1.0, end - begin),
            (begin + _x(trace, stretch.first + 1)) / 2,
            _ALERTS,
        )


def told(alert: WouldBeAlert, unit: str) -> str:
    """An alert in one line."""
    return (
        f"{alert.opened}: {quantity(alert.value, unit)}, threshold {quantity(alert.threshold, unit)}, "
        f"score {alert.score:.2f}"
    )


def _shares(series: ReportedSeries) -> Iterator[Markup]:
    """How often the threshold was exceeded in each span, as a bar, and the claim as a line through them all."""
    trace, claim = series.trace, series.figures.claim
    top, height = _SPANS
    length = span_hours(trace)
    found = [(span, span.exceeded / span.judged) for span in series.figures.spans if span.judged]
    highest = round_up(min(max([2.0 * claim.claimed, *(share for _, share in found)]), _HIGHEST_SHARE * claim.claimed))
    yield _level(top + height, "0")
    yield _level(top, number(100.0 * highest))
    begin = span_begin(trace)
    for span, share in found:
        hour = max(parse_ms(span.begin) // HOUR_MS, begin)
        left, right = (min(max(_x(trace, at), _LEFT), _WIDTH - _RIGHT) for at in (hour, hour + length))
        tall = height * min(share / highest, 1.0)
        yield Markup(
            '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>'
        ).format(
            "share over" if share > claim.claimed else "share",
            left + 1,
            top + height - max(tall, 1.0),
            max(1.0, right - left - 2),
            max(tall, 1.0),
            f"from {span.begin[:10]}: {span.exceeded:,} of {span.judged:,} judged hours, {percent(share)}",
        )
    y = top + height * (1.0 - claim.claimed / highest)
    yield Markup('<path class="claimed" d="M{} {:.1f}H{}"/>').format(_LEFT, y, _WIDTH - _RIGHT)


def _line(name: str, steps: Steps, heights: Floats, first: int, pace: int, height: int) -> Markup:
    """Steps as a path: to the right as long as nothing changes, then up or down."""
    path: list[str] = []
    is_drawn, waiting, y = False, 0, 0
    xs = np.rint(steps.days * HOURS_A_DAY / pace).astype(np.int64) - first
    known = ~np.isnan(heights)
    ys = _ys(np.where(known, heights, 0.0), height)
    for at in range(xs.size):
        if not known[at]:
            path.append(f"h{waiting}" if waiting else "")
            is_drawn, waiting = False, 0
            continue
        if not is_drawn:
            path.append(f"M{xs[at]} {ys[at]}")
            is_drawn, y = True, ys[at]
        elif ys[at] != y:
            path.append(f"h{waiting}v{ys[at] - y}")
            waiting, y = 0, ys[at]
        if at + 1 < xs.size and known[at + 1]:
            waiting += int(xs[at + 1] - xs[at])
    path.append(f"h{waiting}" if waiting else "")
    return Markup('<path class="{}" d="{}"/>').format(name, "".join(path))


def _area(name: str, steps: Steps, least: Floats, most: Floats, first: int, pace: int, height: int) -> Markup:
    """Between two columns of the same steps, run by run: along the upper one, and back along the lower one."""
    xs = np.rint(steps.days * HOURS_A_DAY / pace).astype(np.int64) - first
    known = ~np.isnan(least)
    tops, bottoms = (_ys(np.where(known, one, 0.0), height) for one in (most, least))
    ends = np.flatnonzero(~known)
    path: list[str] = []
    start = 0
    for end in ends.tolist():
        # The last known step of a run repeats the one before, to say where that ends.
        path.append(f"M{xs[start]} {tops[start]}")
        for at in range(start, end - 1):
            rise = tops[at + 1] - tops[at]
            path.append(f"h{xs[at + 1] - xs[at]}" + (f"v{rise}" if rise else ""))
        path.append(f"V{bottoms[end - 1]}")
        for at in range(end - 1, start, -1):
            rise = bottoms[at - 1] - bottoms[at]
            path.append((f"v{rise}" if rise else "") + f"h{xs[at - 1] - xs[at]}")
        path.append("z")
        start = end + 1
    return Markup('<path class="{}" d="{}"/>').format(name, "".join(path))


def _ys(shares: Floats, height: int) -> list[int]:
    """Half pixels from the top of a panel."""
    found: list[int] = np.rint((1.0 - shares) * height * _EXACT).astype(np.int64).tolist()
    return found


def _score_share(score: float) -> float:
    bottom, top = _SCORES_SHOWN
    return (score - bottom) / (top - bottom)


def _ends(trace: Trace) -> tuple[float, float]:
    """First and last day of the panels."""
    pace = pace_of(trace.hours)
    first, last = int(trace.hours[0]) // pace * pace, (int(trace.hours[-1]) // pace + 1) * pace
    return first / HOURS_A_DAY, last / HOURS_A_DAY


def _x(trace: Trace, hour: float) -> float:
    first, last = _ends(trace)
    return _LEFT + _PANEL * (hour / HOURS_A_DAY - first) / (last - first)


def _runs(hours: Hours, which: Flags, pace: int) -> list[tuple[int, int]]:
    """Runs of these hours: their first step, counted from that of the first hour, and how many steps they are."""
    steps = np.unique(hours[which] // pace)
    if not steps.size:
        return []
    starts = np.flatnonzero(np.diff(steps, prepend=steps[0] - 2) > 1)
    lengths = np.append(starts[1:], steps.size) - starts
    first = int(hours[0]) // pace
    return [(int(steps[start]) - first, int(length)) for start, length in zip(starts, lengths, strict=True)]
