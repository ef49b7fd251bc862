"""What rules are shown after a flush: events, minutes that have closed since the last one, and closed hours.

A minute is judged by its biller's own time: when an event is so much younger than its end that hardly any call for it
is still to come. A biller that is silent has no such event: `stream.silence` asks for it by the time of its partition.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from detection.hours import MINUTE_MS, SECOND_MS
from detection.live import SILENCE, Evidence, LivePolicy, judge_many_minutes
from detection.policy import Policy
from detection.rules.alert import Judged
from detection.rules.measured import Measured, hours_of, minutes_of
from detection.rules.points import named, spoken
from detection.rules.watch import Rules, watch
from detection.subject_state import KEPT_MINUTES, Arrivals, SubjectState

MINUTE_GRACE_MS: Final = 5 * SECOND_MS


@dataclass(frozen=True, slots=True)
class Minutes:
    """The minutes [begin, end) of a biller, that are closed and not judged."""

    state: SubjectState
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Judging:
    """Shows the rules what there is; writes nothing: what becomes of it is in the states."""

    rules: Rules
    policy: Policy
    live: LivePolicy = field(default_factory=LivePolicy)

    def judge(self, states: Iterable[tuple[SubjectState, Arrivals | None]], *, latest_ms: int) -> None:
        """The closed minutes of these by their own time, the events that arrived, and what closed hours came to.

        An event that is later than `latest_ms` closes no minute after it.
        """
        states = list(states)
        own = [(state, min(state.watermark_ms, latest_ms)) for state, arrived in states if arrived is not None]
        minutes = self._closed(own)
        judged = self._judged(minutes)
        for state, arrived in states:
            watch(
                state,
                self.rules,
                self.policy,
                observed=() if arrived is None else arrived.observed,
                points=judged.get(id(state), ()),
                measured=self._measured(state, minutes.get(id(state))),
            )

    def judge_at(self, states: Sequence[tuple[SubjectState, int]]) -> None:
        """The minutes of these that are closed by a clock that is not their own, in ms since the epoch."""
        judged = self._judged(self._closed(states))
        for state, _ in states:
            watch(state, self.rules, self.policy, points=judged.get(id(state), ()))

    def _closed(self, states: Sequence[tuple[SubjectState, int]]) -> dict[int, Minutes]:
        """Which minutes are to be judged, by the identity of the state; from now on they were."""
        found: dict[int, Minutes] = {}
        for state, clock_ms in states:
            to_minute = (clock_ms - MINUTE_GRACE_MS) // MINUTE_MS
            if to_minute > state.judged_before and state.subject.kind == "biller":
                # Of a biller that was never judged, only the last minute: of those before it some may not be known.
                found[id(state)] = Minutes(state, state.judged_before or to_minute - 1, to_minute)
                state.judged_before = to_minute
        return found

    def _judged(self, closed: Mapping[int, Minutes]) -> dict[int, list[tuple[str, Judged]]]:
        """What these minutes say against what was learned, where it matters to anybody."""
        asked = [one for one in closed.values() if one.state.live]
        questions = [(one.state.live, one.state.minutes, one.begin, one.end) for one in asked]
        found: dict[int, list[tuple[str, Judged]]] = {}
        watched = [one.state.watched for one in asked]
        for one, evidence in zip(asked, judge_many_minutes(questions, self.live, watched=watched), strict=True):
            points = [_point(one.state, each) for each in evidence if _is_known(one.state, each)]
            if points:
                found[id(one.state)] = points
        return found

    def _measured(self, state: SubjectState, closed: Minutes | None) -> Iterator[Measured]:
        """What rules with a number look at, asked for only where there is one."""
        if state.subject.kind == "biller":
            yield from hours_of(state)
            if closed is not None:
                yield from minutes_of(state, closed.begin, closed.end)


def _is_known(state: SubjectState, evidence: Evidence) -> bool:
    """Whether missing calls are missing: of minutes that are no longer kept nobody can say how many they had."""
    kept_from = state.watermark_ms // MINUTE_MS - KEPT_MINUTES + 1
    return not (evidence.slug == SILENCE and evidence.is_beyond) or evidence.minute - evidence.minutes + 1 >= kept_from


def _point(state: SubjectState, evidence: Evidence) -> tuple[str, Judged]:
    judged = evidence.judged()
    detail = named(state.subject) | {spoken(evidence.slug): judged.value, **judged.detail}
    return evidence.slug, replace(judged, detail=detail)
