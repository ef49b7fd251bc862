"""What a biller's calls came to, for rules with a number as boundary: closed hours, and the last minutes inside."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from detection.hours import HOUR_MS, MINUTE_MS
from detection.rules.alert import Span
from detection.windows import CallWindow

if TYPE_CHECKING:
    from detection.subject_state import SubjectState

# One minute of most billers has too few calls for a share of them to say anything.
MINUTES: Final = 5


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric's value over a span that ends at `at_ms`, and the calls behind it."""

    slug: str
    value: float
    count: int
    at_ms: int
    span: Span


def minutes_of(state: "SubjectState", from_minute: int, to_minute: int) -> Iterator[Measured]:
    """Each of the minutes [from, to) with the four before it, as far as they are kept; oldest first."""
    oldest = min(state.minutes, default=to_minute)
    for minute in range(max(from_minute, oldest), to_minute):
        total = CallWindow()
        for one in range(minute - MINUTES + 1, minute + 1):
            window = state.minutes.get(one)
            if isinstance(window, CallWindow):
                total.add(window)
        for value in total.values():
            yield Measured(value.metric.slug, value.value, value.count, (minute + 1) * MINUTE_MS, "minute")


def hours_of(state: "SubjectState") -> Iterator[Measured]:
    """The last hour of each series that has just been closed, before it is written."""
    end_ms = state.published_hour * HOUR_MS
    for slug, (closings, at) in state.closings.items():
        if closings.is_judged[at] and (closings.last_hour[at] + 1) * HOUR_MS == end_ms:
            yield Measured(slug, closings.last_value[at], closings.last_count[at], end_ms, "hour")
    for slug in sorted(state.changed & state.verdicts.keys()):
        verdict = state.verdicts[slug]
        if (verdict.hour + 1) * HOUR_MS == end_ms:
            yield Measured(slug, verdict.value, verdict.count, end_ms, "hour")
