"""What `tidemark up` shows while it runs: read over HTTP, as any outsider could, drawn as one screen or one line."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

import metrics
from cli import credentials
from cli.replay import event_time
from cli.replaying import Replay

_PAGE = 500
_SERIES_SHOWN = 9


@dataclass(frozen=True, slots=True)
class Glance:
    """One look at a running Tidemark; what could not be read keeps its former value."""

    events: dict[str, float] = field(default_factory=dict)
    subjects: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    series: tuple[dict[str, Any], ...] = ()
    has_more_series: bool = False
    missing: str = ""
    events_per_second: float = 0.0
    read_at: float = 0.0

    @property
    def absorbed(self) -> float:
        """Events that reached an end: in a window, or with a reason why not."""
        return sum(self.events.values())


class Watcher:
    """Looks at the API, and at the workers' own metrics, one glance at a time; an endpoint that fails is no error."""

    def __init__(self, api: str, workers: Sequence[str]) -> None:
        self._client = httpx.AsyncClient(timeout=5, trust_env=False, headers=credentials.headers())
        self._api = api
        self._workers = [f"{origin}/metrics" for origin in workers]
        self._counted: dict[str, dict[str, float]] = {}
        self._ended: Counter[str] = Counter()
        self._last = Glance()

    async def close(self) -> None:
        await self._client.aclose()

    async def readiness(self) -> str:
        """Empty when the API says that it is ready and each worker answers, else what is missing."""
        try:
            response = await self._client.get(f"{self._api}/readyz")
        except httpx.HTTPError as error:
            return f"the API does not answer ({type(error).__name__})"
        if response.status_code != httpx.codes.OK:
            return _missing(response)
        silent = sum([not await self._count(worker) for worker in self._workers])
        return f"{silent} of {len(self._workers)} workers do not answer" if silent else ""

    async def look(self, now: float) -> Glance:
        """`now` is the time of a monotonic clock, in seconds."""
        last = self._last
        missing = await self.readiness()
        events: Counter[str] = Counter(self._ended)
        for counted in self._counted.values():
            events.update(counted)
        glance = replace(last, events=dict(events), missing=missing, read_at=now)
        page = await self._page()
        if page is not None:
            rows = [row for row in page.get("thresholds", []) if isinstance(row, dict)]
            glance = replace(
                glance,
                series=tuple(rows),
                subjects=len({_subject(row) for row in rows}),
                statuses=dict(Counter(str(row.get("status")) for row in rows)),
                has_more_series=page.get("next_cursor") is not None,
            )
        if last.read_at and now > last.read_at:
            rate = max(0.0, glance.absorbed - last.absorbed) / (now - last.read_at)
            glance = replace(glance, events_per_second=rate)
        self._last = glance
        return glance

    async def _count(self, source: str) -> bool:
        """Whether the worker answered; what it has counted is then kept."""
        try:
            response = await self._client.get(source)
        except httpx.HTTPError:
            return False
        if response.status_code != httpx.codes.OK:
            return False
        counted = dict(_events(response.text))
        before = self._counted.get(source, {})
        if sum(counted.values()) < sum(before.values()):
            # A process that was started again counts from zero.
            self._ended.update(before)
        self._counted[source] = counted
        return True

    async def _page(self) -> dict[str, Any] | None:
        try:
            response = await self._client.get(f"{self._api}/thresholds", params={"limit": _PAGE})
            page = response.json() if response.status_code == httpx.codes.OK else None
        except (httpx.HTTPError, ValueError):
            return None
        return page if isinstance(page, dict) else None


def line(glance: Glance, replay: Replay | None) -> str:
    """The summary for a log: one line."""
    parts = [] if replay is None else [f"sent {replay.acknowledged:,} ({replay.share:.0%})"]
    parts += [
        f"absorbed {glance.absorbed:,.0f}",
        f"{glance.events_per_second:,.0f}/s",
        f"event time {_reached(glance, replay)}",
        f"subjects {_count_of(glance.subjects, glance)}",
        f"series {_statuses(glance)}",
        *(f"{result} {count:,.0f}" for result, count in glance.events.items() if result != "accepted" and count),
    ]
    if glance.missing:
        parts.append(f"NOT READY: {glance.missing}")
    return " · ".join(parts)


def screen(glance: Glance, replay: Replay | None, notes: Sequence[str]) -> RenderableType:
    """The summary for a terminal: what flows, what is known, and a few series."""
    flow = Table.grid(padding=(0, 3))
    if replay is not None:
        state = "done" if replay.share >= 1 else f"{replay.share:.0%}"
        flow.add_row("Replay", f"{replay.acknowledged:,} calls sent, {state}, {replay.rejected} rows rejected")
    flow.add_row("Absorbed", f"{glance.absorbed:,.0f} events, {glance.events_per_second:,.0f}/s")
    kinds = (f"{result} {count:,.0f}" for result, count in sorted(glance.events.items()))
    flow.add_row("", ", ".join(kinds) or "none yet")
    flow.add_row("Event time", _reached(glance, replay))
    flow.add_row("Subjects", _count_of(glance.subjects, glance))
    flow.add_row("Series", _statuses(glance))
    if glance.missing:
        flow.add_row("Not ready", Text(glance.missing, style="bold red"))
    parts: list[RenderableType] = [flow, "", _series_table(glance)]
    parts += [Text(note, style="yellow") for note in notes[-3:]]
    parts.append(Text("Ctrl-C stops everything.", style="dim"))
    return Group(*parts)


def _series_table(glance: Glance) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("Subject", "Metric", "Status"):
        table.add_column(name, no_wrap=True)
    for name in ("Last", "Estimate", "Threshold", "Unit"):
        table.add_column(name, justify="left" if name == "Unit" else "right", no_wrap=True)
    for row in sorted(glance.series, key=_interest)[:_SERIES_SHOWN]:
        table.add_row(
            _subject(row),
            str(row.get("metric", "")),
            str(row.get("status", "")),
            *(_number(row.get(name)) for name in ("last_value", "estimate", "threshold")),
            str(row.get("unit") or ""),
        )
    return table


def _interest(row: dict[str, Any]) -> tuple[bool, bool, str]:
    """Ready series first, and one metric of each subject before the next metric."""
    return (row.get("status") != "ready", row.get("metric") != "average-response-time", _subject(row))


def _subject(row: dict[str, Any]) -> str:
    return str(row.get("subject") or row.get("biller_id") or "")


def _number(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-"
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _reached(glance: Glance, replay: Replay | None) -> str:
    """The end of the newest window that a threshold was published after; the replay's own place before there is one."""
    starts = [row["window_start"] for row in glance.series if row.get("window_start") is not None]
    if starts:
        newest = max(starts, key=str)
        return event_time(newest) if isinstance(newest, int) else str(newest)
    return event_time(None if replay is None else replay.last_event_ms)


def _count_of(count: int, glance: Glance) -> str:
    return f"{count:,}+" if glance.has_more_series else f"{count:,}"


def _statuses(glance: Glance) -> str:
    more = " (of the first page)" if glance.has_more_series else ""
    return ", ".join(f"{count:,} {status}" for status, count in sorted(glance.statuses.items())) + more or "none yet"


def _events(text: str) -> Iterator[tuple[str, float]]:
    """Events by result over all topics, from Prometheus text."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == metrics.EVENTS.name:
                found[sample.labels.get("result", "")] += sample.value  # type: ignore[assignment]  # a Counter adds floats too
    yield from found.items()


def _missing(response: httpx.Response) -> str:
    """The dependencies that a `/readyz` names as not working, whatever else its body says."""
    try:
        body = response.json()
    except ValueError:
        return f"HTTP {response.status_code}"
    if not isinstance(body, dict):
        return f"HTTP {response.status_code}"
    dependencies = body.get("dependencies")
    if not isinstance(dependencies, dict):
        return str(body.get("detail") or f"HTTP {response.status_code}")
    broken = (
        f"{name} ({state.get('reason', 'away')})"
        for name, state in dependencies.items()
        if isinstance(state, dict) and state.get("status") != "ok"
    )
    return ", ".join(broken) or f"HTTP {response.status_code}"
