"""Billers that have stopped calling: looked for by the time of their partition, since no event of theirs comes.

Only what this worker has seen is looked for inside the hour; what was silent before it started is found when the clock
closes the hour, as every silent biller is.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from detection.hours import MINUTE_MS, SECOND_MS
from detection.live import SILENCE
from detection.subject import Subject
from detection.subject_state import SubjectState
from stream.buffer import Flushed, Step
from stream.judging import Judging
from stream.states import States

# How far the events of a partition may be out of order before somebody is called silent for it.
_DISORDER_MS: Final = 60 * SECOND_MS
# So many calls must be missing before it is worth a look, which then decides.
_MISSING_CALLS: Final = 6.0
_LONGEST_MINUTES: Final = 15
_PAGE: Final = 500

NewestMs = Callable[[Mapping[str, int]], int | None]


class Silence:
    """Remembers when each biller is to be looked at again, by minutes of event time.

    `newest_ms` gives the newest event's time among some sources, None where this worker reads none of them.
    """

    def __init__(self, states: States, judging: Judging, newest_ms: NewestMs) -> None:
        self._states = states
        self._judging = judging
        self._newest_ms = newest_ms
        self._due: dict[Subject, int] = {}
        self._by_minute: dict[int, set[Subject]] = {}

    def forget(self) -> None:
        """Others may be ours now, and ours are others'."""
        self._due.clear()
        self._by_minute.clear()

    def note(self, states: Iterable[SubjectState]) -> None:
        """These were heard of: each is to be looked at when too many of its next calls have not come."""
        for state in states:
            minutes = _patience(state)
            if minutes is not None:
                self._put(state.subject, state.watermark_ms // MINUTE_MS + minutes)

    async def work(self, newest_ms: int) -> Flushed:
        """Look at those that are due when the newest event of any partition is at `newest_ms`; what came of it."""
        found = Flushed()
        now = (newest_ms - _DISORDER_MS) // MINUTE_MS
        due = [
            subject
            for minute in sorted(one for one in self._by_minute if one <= now)
            for subject in self._by_minute.pop(minute)
            if self._due.get(subject) == minute
        ]
        for start in range(0, len(due), _PAGE):
            try:
                await self._look(due[start : start + _PAGE], found)
            except BaseException:
                # They are due still; what was not looked at is looked at by the next call.
                for subject in due[start:]:
                    self._put(subject, now)
                self._states.clear()
                raise
        return found

    async def _look(self, subjects: Sequence[Subject], found: Flushed) -> None:
        states = (await self._states.take(subjects)).values()
        judged = []
        for state in states:
            newest_ms = self._newest_ms(state.offsets)
            minutes = _patience(state)
            self._due.pop(state.subject, None)
            if newest_ms is None or minutes is None:
                continue
            clock_ms = newest_ms - _DISORDER_MS
            if clock_ms // MINUTE_MS - state.watermark_ms // MINUTE_MS >= minutes:
                judged.append((state, clock_ms, state.alerts))
            self._put(state.subject, max(clock_ms // MINUTE_MS, state.watermark_ms // MINUTE_MS) + minutes)
        self._judging.judge_at([(state, clock_ms) for state, clock_ms, _ in judged])
        changed = [state for state, _, alerts in judged if state.transitions or state.alerts is not alerts]
        self._states.keep([state for state in states if state not in changed])
        steps = [Step(state, 0, state.published_hour) for state in changed]
        for step in steps:
            step.count_closed()
            found.expect(step)
        refused = await self._states.save(changed)
        for subject in refused:
            # Somebody else wrote it, so perhaps it called.
            self._put(subject, 0)

    def _put(self, subject: Subject, minute: int) -> None:
        if self._due.get(subject) != minute:
            self._due[subject] = minute
            self._by_minute.setdefault(minute, set()).add(subject)


def _patience(state: SubjectState) -> int | None:
    """Minutes without a call after which it is worth a look, None where it never is, or is told of already."""
    normal = state.live.get(SILENCE)
    if normal is None or not normal.location > 0.0:
        return None
    if any(one.slug == SILENCE and one.state == "open" for one in state.alerts.values()):
        return None
    return min(max(math.ceil(_MISSING_CALLS * 60.0 / normal.location) + 1, 2), _LONGEST_MINUTES)
