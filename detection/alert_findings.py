"""Which labelled incidents alerts would have told people of, which they would have missed, and which told of nothing.

Labelled hours at most four hours apart are one incident, and near is up to two hours away from it, as in
`detection.alert_evaluation`. That judges every hour whose score is high; here alerts count, each once, by when people
would have been told of them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from detection.alert_evaluation import NEAR_HOURS, runs

Outcome = Literal["found", "already open", "missed"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """An alert from the hour that opened it to the last one before it was over, hours since the epoch."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class IncidentFinding:
    """A labelled incident, first and last hour, and what became of it.

    `found`: an alert opened in it or near it, `delay_hours` after its first labelled hour had begun (one that opened
    before has 0; told at the end of the first hour, it is 1). `already open`: no alert opened, as one was open all
    along. `missed`: neither.
    """

    first: int
    last: int
    outcome: Outcome
    delay_hours: int | None


@dataclass(frozen=True, slots=True)
class AlertFindings:
    """The incidents of one series in their order; `is_false` says of each alert whether it came near none of them."""

    incidents: tuple[IncidentFinding, ...]
    is_false: tuple[bool, ...]


def find(alerts: Sequence[Stretch], labelled: Iterable[int], *, judged_from: int) -> AlertFindings:
    """Compare alerts with labelled hours (ascending); incidents that were over before `judged_from` are left out."""
    known = [(first, last) for first, last in runs(labelled) if last >= judged_from]
    return AlertFindings(
        incidents=tuple(_finding(first, last, alerts) for first, last in known),
        is_false=tuple(not any(_meet(one, first, last) for first, last in known) for one in alerts),
    )


def _finding(first: int, last: int, alerts: Sequence[Stretch]) -> IncidentFinding:
    near = [one for one in alerts if _meet(one, first, last)]
    opened = [one.first for one in near if one.first >= first - NEAR_HOURS]
    if opened:
        return IncidentFinding(first, last, "found", max(0, min(opened) + 1 - first))
    return IncidentFinding(first, last, "already open" if near else "missed", None)


def _meet(alert: Stretch, first: int, last: int) -> bool:
    return alert.first <= last + NEAR_HOURS and alert.last >= first - NEAR_HOURS
