"""Simulated billers through the real core, minute by minute: learned, published, judged inside the hour and after it.

The way of a worker, without its edges: at the first minute of each hour the hour before it is closed, what is due is
learned and published, and what the minutes are judged by is taken from that; then every minute is judged as it ends.
What the judges say goes through the life cycle of alerts.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks._incident_outcome import Opened
from detection.catalogue import BILLER_METRICS, Metric, gauge
from detection.closing import close
from detection.estimate import Scored
from detection.hours import HOUR_MS, MINUTE_MS, SECOND_MS
from detection.kernel.live import EVIDENCE, judge_live
from detection.live import SILENCE, SLUGS, LivePolicy, evidence_of, limits_of, normal_records
from detection.live_normals import live_normals_of_many
from detection.policy import Policy
from detection.rules.alert import Alert, Judged, advance
from detection.rules.book import DEFAULT_RULES, RuleBook
from detection.rules.points import of_verdict
from detection.rules.watch import beyond_floor
from detection.simulation.calls import simulate_minutes
from detection.simulation.scenario import Scenario
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import CallWindow

Flags = NDArray[np.bool_]
Whole = NDArray[np.int64]

METRICS: Final[tuple[Metric, ...]] = (*BILLER_METRICS, gauge(SILENCE))
LAST_MINUTES: Final = 15

# What is worth an alert, beside what the judge inside the hour already asks for: a verdict on a closed hour must lie so
# far beyond its estimate. Five clear minutes end an alert, for everybody.
# Those that hold where nobody wrote any.
_BOOK: Final = RuleBook(DEFAULT_RULES)
RULES: Final = {
    slug: _BOOK.for_series(Subject.biller("B1"), slug)[0]
    for slug in (*(metric.slug for metric in BILLER_METRICS), SILENCE)
}


@dataclass(frozen=True, slots=True)
class Stream:
    """The minutes of all billers: [biller, minute, (calls, errors, timeouts, Σ latency, Σ latency²)]."""

    scenario: Scenario
    subjects: tuple[Subject, ...]
    minutes: Whole

    @classmethod
    def of(cls, scenario: Scenario) -> "Stream":
        """Every call of the scenario is drawn, and summed by minutes."""
        each = [
            np.stack([one.calls, one.errors, one.timeouts, one.latency_us, one.latency_us2], axis=1)
            for one in simulate_minutes(scenario)
        ]
        return cls(scenario, scenario.biller_subjects, np.stack(each))

    @property
    def first_hour(self) -> int:
        return self.scenario.first_minute // 60

    @property
    def hours(self) -> int:
        return self.scenario.minutes // 60


@dataclass(slots=True)
class Points:
    """What a judge said of every minute: beyond or clear, [biller, minute, metric of METRICS]; and of closed hours.

    `details` holds the minutes that are beyond, by (biller, minute, metric), where there is more to tell of them, and
    `verdicts` the closed hours that were judged, by (biller, the minute after the hour, metric); minutes count from 0.
    """

    is_beyond: Flags
    is_clear: Flags
    details: dict[tuple[int, int, int], Judged] = field(default_factory=dict)
    verdicts: dict[tuple[int, int, int], Judged] = field(default_factory=dict)

    @classmethod
    def none(cls, billers: int, minutes: int) -> "Points":
        shape = (billers, minutes, len(METRICS))
        return cls(np.zeros(shape, bool), np.zeros(shape, bool))


def judged_by_core(stream: Stream, live: LivePolicy, policy: Policy) -> Points:
    """What Tidemark says: evidence inside the hour, and verdicts on closed hours."""
    billers, minutes, _ = stream.minutes.shape
    points = Points.none(billers, minutes)
    states = [SubjectState(subject, announces=False) for subject in stream.subjects]
    counted = stream.minutes.astype(np.float64)
    has_call = stream.minutes[:, :, 0] > 0
    last_call = np.maximum.accumulate(np.where(has_call, np.arange(minutes), -1), axis=1)
    limits = limits_of(live)
    for hour in range(1, stream.hours):
        _absorb(stream, states, hour)
        close(states, (stream.first_hour + hour) * HOUR_MS + policy.close_after_ms, policy)
        normals = live_normals_of_many([(state, state.live) for state in states], policy)
        for number, (state, normal) in enumerate(zip(states, normals, strict=True)):
            state.live = normal
            for slug, verdict in _verdicts(state, stream.first_hour + hour - 1):
                points.verdicts[number, 60 * hour, SLUGS.index(slug)] = verdict
            state.settled()
        begin = 60 * hour
        seen = max(begin - 60, 0)
        before = last_call[:, seen - 1] if seen else np.full(billers, -1)
        first = stream.scenario.first_minute
        found = np.zeros((billers, 60, len(METRICS)), EVIDENCE)
        judge_live(
            np.ascontiguousarray(counted[:, seen : begin + 60]),
            np.full(billers, first + seen),
            np.where(before >= 0, before + first, -1),
            np.full(billers, first + begin),
            np.full(billers, first + begin + 60),
            normal_records(normals),
            limits,
            found,
        )
        points.is_beyond[:, begin : begin + 60] = found["is_beyond"] == 1
        points.is_clear[:, begin : begin + 60] = found["is_clear"] == 1
        for number, at in np.argwhere((found["is_beyond"] == 1).any(axis=2)).tolist():
            for evidence in evidence_of(found[number, at], first + begin + at):
                if evidence.is_beyond:
                    points.details[number, begin + at, SLUGS.index(evidence.slug)] = evidence.judged()
    return points


def _absorb(stream: Stream, states: list[SubjectState], hour: int) -> None:
    """What a worker has seen when the first minute of this hour is over."""
    first = stream.scenario.first_minute
    end = 60 * hour
    sums = stream.minutes[:, end - 60 : end].sum(axis=1)
    for number, state in enumerate(states):
        recent = stream.minutes[number, end - LAST_MINUTES : end].tolist()
        called = np.flatnonzero(stream.minutes[number, max(end - 60, 0) : end + 1, 0])
        newest = state.watermark_ms
        if len(called):
            newest = (first + max(end - 60, 0) + int(called[-1])) * MINUTE_MS + 59 * SECOND_MS
        total = sums[number].tolist()
        state.absorb(
            Arrivals(
                watermark_ms=max(newest, state.watermark_ms),
                windows={stream.first_hour + hour - 1: CallWindow(*total)} if total[0] else {},
                minutes={first + end - LAST_MINUTES + at: CallWindow(*one) for at, one in enumerate(recent) if one[0]},
            )
        )


def _verdicts(state: SubjectState, hour: int) -> Iterator[tuple[str, Judged]]:
    for slug, (closings, at) in state.closings.items():
        verdict = closings.verdicts[at]
        if not (closings.is_judged[at] and closings.last_hour[at] == hour and verdict["is_judged"]):
            continue
        scored = Scored(
            hour=hour,
            value=closings.last_value[at],
            count=closings.last_count[at],
            estimate=float(verdict["location"]),
            threshold=float(verdict["threshold"]),
            score=float(verdict["score"]),
            is_exceeded=bool(verdict["is_exceeded"]),
            is_credible=bool(verdict["is_credible"]),
        )
        yield slug, beyond_floor(RULES[slug], of_verdict(state.subject, closings.metrics[at], scored))


def opened(stream: Stream, points: Points) -> list[Opened]:
    """The alerts that these points open, by the life cycle of `detection.rules`."""
    hours: dict[tuple[int, int], dict[int, Judged]] = {}
    for (biller, minute, number), verdict in points.verdicts.items():
        hours.setdefault((biller, number), {})[minute] = verdict
    found: list[Opened] = []
    for biller, subject in enumerate(stream.subjects):
        for number, metric in enumerate(METRICS):
            verdicts = hours.get((biller, number), {})
            found += [
                Opened(subject, metric.slug, at_ms) for at_ms in _lives(stream, points, (biller, number), verdicts)
            ]
    return found


def _lives(stream: Stream, points: Points, series: tuple[int, int], verdicts: dict[int, Judged]) -> Iterator[int]:
    """When the alerts of one series open. Where there is none, only what is beyond can begin one."""
    biller, number = series
    subject, metric = stream.subjects[biller], METRICS[number]
    rule = RULES[metric.slug]
    beyond, clear = points.is_beyond[biller, :, number], points.is_clear[biller, :, number]
    beginning = np.union1d(np.flatnonzero(beyond), [at - 1 for at, one in verdicts.items() if one.is_beyond])
    speaking = np.union1d(np.flatnonzero(beyond | clear), [at - 1 for at in verdicts])
    known: Alert | None = None
    minute = -1
    while True:
        is_alive = known is not None and known.resolved_ms is None
        following = speaking if is_alive else beginning
        at = int(np.searchsorted(following, minute, side="right"))
        if at == len(following):
            return
        minute = int(following[at])
        for judged in _said(stream, points, (biller, minute, number), verdicts):
            known, transition = advance(known, rule, metric, subject, judged)
            if transition is not None and transition.event == "opened":
                yield judged.at_ms


def _said(stream: Stream, points: Points, place: tuple[int, int, int], verdicts: dict[int, Judged]) -> Iterator[Judged]:
    """The minute, and then the verdict on the hour that ends with it."""
    biller, minute, number = place
    is_beyond, is_clear = bool(points.is_beyond[place]), bool(points.is_clear[place])
    if is_beyond or is_clear:
        plain = Judged(
            at_ms=(stream.scenario.first_minute + minute + 1) * MINUTE_MS,
            value=0.0,
            count=1,
            boundary=0.0,
            score=2.0 if is_beyond else 0.0,
            is_beyond=is_beyond,
            is_clear=is_clear,
            span="minute",
        )
        yield points.details.get((biller, minute, number), plain)
    if minute + 1 in verdicts:
        yield verdicts[minute + 1]
