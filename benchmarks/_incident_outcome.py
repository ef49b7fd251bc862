"""What alerts are worth, held against labelled incidents: how many were found, how soon, and how often for nothing.

An alert belongs to an incident of its biller, whatever its metric, if it opened after the incident began and at most an
hour after its end: the verdict on the last hour that it touched comes then. Every other alert is false. An incident
is found by its first alert, and the delay is from its first millisecond to the end of the minute, or hour, that opened
it. One that strikes most billers is found when as many of them have an alert as make a platform-wide one: 30 % of all.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from detection.hours import HOUR_MS
from detection.simulation.labels import LabelledIncident
from detection.subject import Subject

WEEK_MS = 168 * HOUR_MS
_AFTERWARDS_MS = HOUR_MS
_PLATFORM_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Opened:
    """An alert of one series, at the moment it opened."""

    subject: Subject
    slug: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Delays in minutes by kind of incident, None for one that was missed; false alerts by metric; biller-weeks."""

    delays: Mapping[str, Sequence[float | None]]
    false: Mapping[str, int]
    biller_weeks: float

    @property
    def recall(self) -> float:
        """Share of the incidents that were found."""
        every = [delay for delays in self.delays.values() for delay in delays]
        return sum(delay is not None for delay in every) / len(every)

    @property
    def median_delay(self) -> float:
        """Of those that were found, in minutes; infinite where none was."""
        found = [delay for delays in self.delays.values() for delay in delays if delay is not None]
        return median(found) if found else math.inf

    @property
    def false_alerts(self) -> float:
        """Per biller and week."""
        return sum(self.false.values()) / self.biller_weeks


def judge(
    opened: Iterable[Opened],
    incidents: Sequence[LabelledIncident],
    *,
    billers: int,
    from_ms: int,
    to_ms: int,
) -> Outcome:
    """The outcome of the alerts that opened between the two moments; incidents must lie between them."""
    of_subject: dict[Subject, list[int]] = {}
    for number, incident in enumerate(incidents):
        for subject in incident.subjects:
            of_subject.setdefault(subject, []).append(number)
    found: list[dict[Subject, int]] = [{} for _ in incidents]
    false: dict[str, int] = {}
    for alert in sorted(opened, key=lambda one: one.at_ms):
        if not from_ms <= alert.at_ms < to_ms:
            continue
        meant = [
            number
            for number in of_subject.get(alert.subject, ())
            if incidents[number].start_ms < alert.at_ms <= incidents[number].end_ms + _AFTERWARDS_MS
        ]
        for number in meant:
            found[number].setdefault(alert.subject, alert.at_ms)
        if not meant:
            false[alert.slug] = false.get(alert.slug, 0) + 1
    delays: dict[str, list[float | None]] = {}
    for incident, alerted in zip(incidents, found, strict=True):
        needed = math.ceil(_PLATFORM_SHARE * billers) if len(incident.subjects) > 1 else 1
        times = sorted(alerted.values())
        delay = (times[needed - 1] - incident.start_ms) / 60_000 if len(times) >= needed else None
        delays.setdefault(incident.kind, []).append(delay)
    return Outcome(delays, false, billers * (to_ms - from_ms) / WEEK_MS)


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """The outcomes of several streams as one."""
    delays: dict[str, list[float | None]] = {}
    false: dict[str, int] = {}
    for outcome in outcomes:
        for kind, some in outcome.delays.items():
            delays.setdefault(kind, []).extend(some)
        for slug, number in outcome.false.items():
            false[slug] = false.get(slug, 0) + number
    return Outcome(delays, false, sum(outcome.biller_weeks for outcome in outcomes))
