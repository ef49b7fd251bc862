"""What is read of many subjects at once: enough to show where each stands, or to count what has come of them.

No explanation, no model and no single minute is read: a page of a thousand subjects is one look at the store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from detection.rules.alert import Alert
from detection.subject_state import KEPT_MINUTES
from detection.windows import CallWindow, GaugeWindow, Value, Window, add


class Lately(NamedTuple):
    """The newest minute of a subject, since the epoch, and by slug the value of the last minutes up to it."""

    minute: int
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Survey:
    """Where a subject stands: of each series the readable fields that say so, its alerts, its last minutes."""

    series: Mapping[str, Mapping[str, str]]
    alerts: Mapping[str, Alert]
    lately: Lately | None


@dataclass(frozen=True, slots=True)
class Tally:
    """What has come of a subject: events that were accepted and that were late, and what waits for PostgreSQL.

    `published` are `status` and `valid_until` of each series that has an answer.
    """

    accepted: int
    late: int
    is_pending: bool
    published: Sequence[Mapping[str, str]]


def lately_of(minutes: Mapping[int, Window]) -> Lately | None:
    """The sum of the newest minutes; None where there are none."""
    if not minutes:
        return None
    newest = max(minutes)
    some = [window for minute, window in minutes.items() if minute > newest - KEPT_MINUTES]
    total: Window = CallWindow() if isinstance(some[0], CallWindow) else GaugeWindow()
    for window in some:
        add(total, window)
    return Lately(newest, {value.metric.slug: value for value in total.values()})
