"""Writes dashboard.json, the Grafana dashboard, from the catalogue of emitted metrics. `make docs` runs it.

What Grafana's own library cannot express wrongly is left to it. Every instrument of the catalogue has a panel: one that
this file does not name gets the panel of its kind in the last row.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    GridPos,
    Threshold,
    ThresholdsMode,
)

HERE: Final = Path(__file__).parent
# A script's own folder is on its path, the folder above, with `metrics`, is not.
sys.path.insert(0, str(HERE.parent))

import metrics  # noqa: E402  # needs the line above
from metrics import INSTRUMENTS, Instrument  # noqa: E402  # as above

FILE: Final = HERE / "dashboard.json"
ROWS: Final = ("Now", "Ingestion", "Learning", "Coverage", "Storage", "Notifications", "API", "More")

_SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
_WIDTH: Final = 24
_GREEN: Final = "green"


@dataclass(frozen=True, slots=True)
class Query:
    """One line, or family of lines, of a panel."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel before it has a place; `limits` are (value, colour) from which on it is drawn otherwise."""

    row: str
    title: str
    about: str
    queries: tuple[Query, ...]
    unit: str
    view: Literal["lines", "number"] = "lines"
    limits: tuple[tuple[float, str], ...] = ()
    width: int = 8
    least: float | None = 0.0
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """How the panel of one instrument differs from what its kind says."""

    row: str
    title: str
    unit: str = "short"
    limits: tuple[tuple[float, str], ...] = ()
    # A counter of what must not happen is shown as how often it did in the time that is looked at.
    is_rare: bool = False
    # Whether it goes below zero.
    is_signed: bool = False
    # Every process that reports a gauge reports the same, so the largest is the one; otherwise they add up.
    is_shared: bool = False


LOOKS: Final[dict[str, Look]] = {
    metrics.EVENTS.name: Look("Ingestion", "Events, by what became of them", "ops"),
    metrics.CONSUMER_LAG.name: Look("Ingestion", "Lag", limits=((10_000, "orange"),)),
    metrics.DEAD_LETTERS.name: Look("Ingestion", "Dead letters", "ops"),
    metrics.BUFFERED_EVENTS.name: Look("Ingestion", "Events read and not yet written"),
    metrics.FLUSH_SECONDS.name: Look("Ingestion", "Duration of a write", "s", limits=((1.0, "orange"),)),
    metrics.FLUSH_SUBJECTS.name: Look("Ingestion", "Subjects of a write"),
    metrics.WRITE_CONFLICTS.name: Look("Ingestion", "Write conflicts", "ops"),
    metrics.STALLS.name: Look("Now", "Stalls", limits=((1, "orange"), (3, "red")), is_rare=True),
    metrics.WINDOWS_CLOSED.name: Look("Learning", "Windows closed", "ops"),
    metrics.WINDOWS_LEARNED.name: Look("Learning", "Windows learned", "ops"),
    metrics.CORRECTIONS.name: Look("Learning", "Corrections of closed windows", "ops"),
    metrics.SERIES.name: Look("Learning", "Series, by status", is_shared=True),
    metrics.COHORT_EXCEEDANCE.name: Look(
        "Coverage", "Measured exceedance, by cohort", "percentunit", limits=((0.03, "red"),), is_shared=True
    ),
    metrics.COVERAGE_JUDGED.name: Look("Coverage", "Hours with a threshold", is_shared=True),
    metrics.COVERAGE_CLAIMED.name: Look("Coverage", "Claimed exceedance", "percentunit", is_shared=True),
    metrics.COVERAGE_OBSERVED.name: Look("Coverage", "Observed exceedance", "percentunit", is_shared=True),
    metrics.COVERAGE_LOW.name: Look("Coverage", "Observed exceedance, at least", "percentunit", is_shared=True),
    metrics.COVERAGE_HIGH.name: Look("Coverage", "Observed exceedance, at most", "percentunit", is_shared=True),
    metrics.COVERAGE_SKILL.name: Look(
        "Coverage", "Skill against the week before", "percentunit", is_signed=True, is_shared=True
    ),
    metrics.STORE_LOSSES.name: Look("Now", "Losses of Redis", limits=((1, "red"),), is_rare=True),
    metrics.REWOUND_RECORDS.name: Look("Now", "Records read again", limits=((1, "orange"),), is_rare=True),
    metrics.LOST_RECORDS.name: Look("Now", "Records lost", limits=((1, "red"),), is_rare=True),
    metrics.RECREATED_LOGS.name: Look("Now", "Topics made anew", limits=((1, "red"),), is_rare=True),
    metrics.HISTORY_PENDING.name: Look("Storage", "Subjects that the history waits for"),
    metrics.ARCHIVED_ROWS.name: Look("Storage", "Values archived", "ops"),
    metrics.ARCHIVE_LAG.name: Look("Storage", "Lag of the archive", limits=((10_000, "orange"),)),
    metrics.ARCHIVE_RETRIES.name: Look("Storage", "Attempts that PostgreSQL refused", "ops"),
    metrics.DEPENDENCY_UP.name: Look("Storage", "Dependencies that answer", "bool_on_off", is_shared=True),
    metrics.ANNOUNCEMENTS_PENDING.name: Look("Notifications", "Subjects to announce"),
    metrics.NOTIFICATIONS.name: Look("Notifications", "Notifications", "ops"),
    metrics.NOTIFICATIONS_PENDING.name: Look("Notifications", "Alerts to be told"),
    metrics.NOTIFICATIONS_OLDEST.name: Look(
        "Notifications", "Longest wait of an alert", "s", limits=((60, "orange"), (600, "red")), is_shared=True
    ),
    metrics.HTTP_REQUESTS.name: Look("API", "Requests", "reqps"),
    metrics.SHED_REQUESTS.name: Look("API", "Requests refused as too many", "reqps", limits=((1, "red"),)),
    metrics.HTTP_REQUEST_SECONDS.name: Look("API", "Duration of a request", "s", limits=((0.05, "orange"),)),
}


def _now() -> Iterator[Panel]:
    """What is looked at first: is it well, is it behind."""
    firing = 'count(ALERTS{alertname=~"Tidemark.+", alertstate="firing"}) or vector(0)'
    yield Panel(
        "Now",
        "Alerts about Tidemark",
        "Those of monitoring/alerts.yaml that fire. docs/runbook.md says what each means.",
        (Query(firing, "firing"),),
        "short",
        "number",
        ((1, "red"),),
        width=4,
    )
    for title, job in (("Workers", "tidemark-worker"), ("APIs", "tidemark-api")):
        yield Panel(
            "Now",
            title,
            "Processes that Prometheus reads.",
            (Query(f'sum(up{{job="{job}"}}) or vector(0)', title),),
            "short",
            "number",
            ((0, "red"), (1, _GREEN)),
            width=4,
        )
    yield Panel(
        "Now",
        "Records that wait",
        metrics.CONSUMER_LAG.help,
        (Query(f"sum({metrics.CONSUMER_LAG.name}) or vector(0)", "lag"),),
        "short",
        "number",
        ((10_000, "orange"),),
        width=4,
    )
    events = metrics.EVENTS.name
    yield Panel(
        "Now",
        "Events a second",
        metrics.EVENTS.help,
        (Query(f"sum(rate({events}[$__rate_interval])) or vector(0)", "events"),),
        "ops",
        "number",
        width=4,
    )
    yield Panel(
        "Now",
        "Dead or late",
        "Share of the events that were refused, or came after their window was learned.",
        (Query(f'sum(rate({events}{{result=~"dead|late"}}[5m])) / sum(rate({events}[5m]))', "dead or late"),),
        "percentunit",
        "number",
        ((0.01, "orange"), (0.2, "red")),
        width=4,
    )


def _beyond_the_catalogue() -> Iterator[Panel]:
    """What is said by several metrics together, or by one in another way."""
    flush, requests = metrics.FLUSH_SECONDS.name, metrics.HTTP_REQUESTS.name
    yield Panel(
        "Ingestion",
        "Share of time spent writing",
        "At a half, a write takes as long as the pause between two: the worker falls behind.",
        (Query(f"rate({flush}_sum[$__rate_interval])", "{{instance}}"),),
        "percentunit",
        limits=((0.5, "orange"),),
        most=1.0,
    )
    yield Panel(
        "API",
        "Share of requests that failed",
        "Answered with a status of 500 or more.",
        (Query(f'sum(rate({requests}{{status=~"5.."}}[5m])) / sum(rate({requests}[5m]))', "failed"),),
        "percentunit",
        limits=((0.05, "red"),),
        most=1.0,
    )


def _of(item: Instrument) -> Panel:
    """The panel of one instrument of the catalogue."""
    look = LOOKS.get(item.name, Look("More", item.help.rstrip(".")))
    by = ", ".join(item.labels)
    legend = " ".join(f"{{{{{label}}}}}" for label in item.labels)
    grouped = f" by ({by})" if by else ""
    queries: list[Query]
    match item.kind:
        case "counter" if look.is_rare:
            queries = [Query(f"sum(increase({item.name}[$__range])) or vector(0)", look.title)]
        case "counter":
            queries = [Query(f"sum{grouped}(rate({item.name}[$__rate_interval]))", legend or look.title)]
        case "gauge":
            fold = "max" if look.is_shared else "sum"
            by_process = "" if by else " by (instance)"
            chosen = '{span="$span"}' if "span" in item.labels else ""
            queries = [Query(f"{fold}{grouped or by_process}({item.name}{chosen})", legend or "{{instance}}")]
        case "histogram":
            buckets = f"sum by ({', '.join(('le', *item.labels))})(rate({item.name}_bucket[$__rate_interval]))"
            queries = [
                Query(f"histogram_quantile({share}, {buckets})", f"{legend} {share:.0%}".strip())
                for share in (0.5, 0.99)
            ]
    view: Literal["lines", "number"] = "number" if look.is_rare else "lines"
    width = 4 if look.is_rare else 8
    about = f"{item.help} {item.comment}"
    least = None if look.is_signed else 0.0
    return Panel(look.row, look.title, about, tuple(queries), look.unit, view, look.limits, width, least)


def panels() -> list[Panel]:
    """All of them, in the order of the rows, and within a row of the catalogue."""
    found = [*_now(), *map(_of, INSTRUMENTS), *_beyond_the_catalogue()]
    # Numbers first, so that they fill one line of the row.
    return sorted(found, key=lambda one: (ROWS.index(one.row), one.view != "number"))


def dashboard() -> str:
    """The dashboard as Grafana imports it; the same catalogue gives the same bytes."""
    board = (
        builders.Dashboard("Tidemark")
        .uid("tidemark")
        .description("Made by monitoring/generate.py from the catalogue of emitted metrics.")
        .tags(["tidemark"])
        .timezone("browser")
        .refresh("30s")
        .time("now-6h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(builders.CustomVariable("span").label("Coverage over the last").values("week,day,month"))
    )
    number, y = 0, 0
    everything = panels()
    for row in ROWS:
        members = [one for one in everything if one.row == row]
        if not members:
            continue
        number += 1
        board.with_row(builders.Row(row).id(number).grid_pos(GridPos(h=1, w=_WIDTH, x=0, y=y)))
        y += 1
        for place, one in zip(_places(members, y), members, strict=True):
            number += 1
            board.with_panel(_drawn(one, number, place))
            y = max(y, place.y + place.h)
    return json.dumps(_without_nulls(board.build()), indent=2, sort_keys=True) + "\n"


def _places(members: Sequence[Panel], y: int) -> Iterator[GridPos]:
    """From left to right, and on the next line where one does not fit."""
    x, height = 0, 0
    for one in members:
        own = 4 if one.view == "number" else 8
        if x + one.width > _WIDTH or (height and own != height):
            x, y = 0, y + height
        yield GridPos(h=own, w=one.width, x=x, y=y)
        x, height = x + one.width, own


def _drawn(one: Panel, number: int, place: GridPos) -> timeseries.Panel | stat.Panel:
    limits = [Threshold(value=None, color=_GREEN), *(Threshold(value, color) for value, color in one.limits)]
    thresholds = builders.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(limits)
    drawn: timeseries.Panel | stat.Panel
    if one.view == "number":
        drawn = stat.Panel().reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    else:
        style = common.GraphTresholdsStyleMode.LINE if one.limits else common.GraphTresholdsStyleMode.OFF
        drawn = (
            timeseries.Panel()
            .fill_opacity(8)
            .show_points(common.VisibilityMode.NEVER)
            .thresholds_style(common_builders.GraphThresholdsStyleConfig().mode(style))
            .legend(
                common_builders.VizLegendOptions()
                .display_mode(common.LegendDisplayMode.TABLE)
                .placement(common.LegendPlacement.BOTTOM)
                .show_legend(show_legend=True)
                .calcs(["lastNotNull", "max"])
            )
            .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
        )
    drawn.id(number).title(one.title).description(one.about).datasource(_SOURCE).grid_pos(place)
    drawn.unit(one.unit).thresholds(thresholds)
    if one.least is not None:
        drawn.min(one.least)
    if one.most is not None:
        drawn.max(one.most)
    for at, query in enumerate(one.queries):
        drawn.with_target(
            prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id("ABCDEF"[at]).range()
        )
    return drawn


def _without_nulls(board: object) -> object:
    """As JSON: what the library leaves unsaid is left out, except that the first threshold has no value."""

    def pruned(value: object) -> object:
        match value:
            case {"color": _, "value": _}:
                return value
            case dict():
                return {key: pruned(one) for key, one in value.items() if one is not None}
            case list():
                return [pruned(one) for one in value]
            case _:
                return value

    return pruned(json.loads(json.dumps(board, cls=JSONEncoder)))


if __name__ == "__main__":
    FILE.write_text(dashboard(), encoding="utf-8")
    print("wrote monitoring/dashboard.json")
