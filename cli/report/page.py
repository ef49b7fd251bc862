"""The page of a report: all figures, pictures of the worst series, and the same figures again for programs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cli.report import text
from cli.report.figures import Figures, gravest, worst_first
from cli.report.plot import svg, told
from cli.report.series import ReportedSeries, SeriesFigures
from detection.claim import Claim

_HERE: Final = Path(__file__).parent
_ALERTS_LISTED: Final = 50
_ALERTS_OF_A_SERIES: Final = 40
_SERIES_RANKED: Final = 10
# What a scale of claims shows: multiples of the claimed share.
_SCALE: Final = 4.0


@dataclass(frozen=True, slots=True)
class Plotted:
    """A series with its picture; `key` is what links name it by."""

    key: str
    figures: SeriesFigures
    picture: Markup


def render(figures: Figures, series: Sequence[ReportedSeries], *, plots: int, drawn: Callable[[], object]) -> str:
    """The whole page, with pictures of the worst series, `plots` of them at the most; `drawn` is called after each.

    The same figures make the same text.
    """
    plotted: list[Plotted] = []
    for at, one in enumerate(worst_first(series)[:plots]):
        plotted.append(Plotted(f"series-{at + 1}", one.figures, svg(one, at)))
        drawn()
    alerts = gravest(alert for one in figures.series for alert in one.alerts)
    ranked = figures.series
    is_short = len(ranked) <= 2 * _SERIES_RANKED
    # Where seasonal naive is never wrong, every hour is like the one before, and nothing is to be learned from it.
    skilled = [one for one in ranked if one.skill is not None]
    template = _environment().get_template("report.html")
    return template.render(
        f=figures,
        style=Markup((_HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704  # our own file, not data
        data=embedded(figures),
        plotted=plotted,
        keys={one.figures.name: one.key for one in plotted},
        alerts=alerts[:_ALERTS_LISTED],
        alerts_of_a_series=_ALERTS_OF_A_SERIES,
        worst=ranked if is_short else ranked[:_SERIES_RANKED],
        best=() if is_short else skilled[::-1][:_SERIES_RANKED],
        left_out=len(ranked) - len(plotted),
        sizes=_sizes(figures),
        constant=len([one for one in ranked if one.claim.judged]) - len(skilled),
        uncounted=sum(one.expected_calls is None and bool(one.unit) for one in ranked),
    )


def embedded(figures: Figures) -> Markup:
    """The figures as JSON that no text inside of it can end: `<` and its kin are written as escapes."""
    plain = orjson.dumps(figures).decode()
    for character in "<>&":
        plain = plain.replace(character, f"\\u{ord(character):04x}")
    return Markup(plain)  # noqa: S704  # nothing in it is markup any more


def scale(claim: Claim) -> Markup:
    """The interval of the observed share, and the claim, on a line from 0 to four times the claim."""
    if claim.observed is None or claim.low is None or claim.high is None:
        return Markup("")
    most = _SCALE * claim.claimed
    low, high, observed = (100.0 * min(share / most, 1.0) for share in (claim.low, claim.high, claim.observed))
    return Markup(
        '<svg class="scale {}" viewBox="0 0 100 14" preserveAspectRatio="none" aria-hidden="true">'
        '<path class="axis" d="M0 7H100"/><path class="interval" d="M{:.1f} 7H{:.1f}"/>'
        '<path class="claimed" d="M{:.1f} 0V14"/><path class="observed" d="M{:.1f} 7h0"/></svg>'
    ).format(claim.standing.split(" ", maxsplit=1)[0], low, max(high, low + 0.5), 100.0 / _SCALE, observed)


def _sizes(figures: Figures) -> bool:
    """Whether any cohort is more than its metric."""
    return any(not one.name.endswith("/any") for one in figures.cohorts)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "percent": text.percent,
        "claimed": text.claimed,
        "number": text.number,
        "quantity": text.quantity,
        "decimal": text.decimal,
        "count": text.count,
        "moment": text.moment,
        "scale": scale,
        "told": told,
    }
    return environment
