"""Billers that have stopped calling: looked for by the time of their partition, since no event of theirs comes.

Inside the hour only what this worker has seen is looked for. What was silent before it read the partition is taken up
when the clock closes the next hour, as the windows of every silent biller are.
"""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
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
# How long events may have to wait for a flush because of this.
_SLICE_SECONDS: Final = 0.2

Clocks = Mapping[str, int]


class Silence:
    """Remembers when each biller is to be looked at again, by source and by minute of event time.

    `clocks` are the sources that this worker reads, each with its newest event's time in ms.
    """

    def __init__(self, states: States, judging: Judging) -> None:
        self._states = states
        self._judging = judging
        self._due: dict[Subject, tuple[str, int]] = {}
        self._by_minute: dict[str, dict[int, set[Subject]]] = {}
        self._found = Flushed()

    def __len__(self) -> int:
        """Billers that are looked after."""
        return len(self._due)

    def note(self, states: Iterable[SubjectState], clocks: Clocks) -> None:
        """These were written: each is to be looked at when too many of its next calls have not come."""
        for state in states:
            minutes = _patience(state)
            source = _source_of(state, clocks)
            if minutes is None or source is None:
                self._due.pop(state.subject, None)
            else:
                self._put(state.subject, source, state.watermark_ms // MINUTE_MS + minutes)

    def take(self) -> Flushed:
        """What has been found since it was last taken."""
        found, self._found = self._found, Flushed()
        return found

    async def work(self, clocks: Clocks) -> None:
        """Look, for a slice of time, at those that are due by the clock of their source."""
        end = time.monotonic() + _SLICE_SECONDS
        for source in [one for one in self._by_minute if one not in clocks]:
            # Somebody else's now.
            for subjects in self._by_minute.pop(source).values():
                for subject in subjects:
                    self._due.pop(subject, None)
        for source, newest_ms in clocks.items():
            now_ms = newest_ms - _DISORDER_MS
            minutes = self._by_minute.get(source, {})
            for minute in sorted(one for one in minutes if one <= now_ms // MINUTE_MS):
                while minutes[minute] and time.monotonic() < end:
                    await self._look(minutes[minute], (source, minute), now_ms)
                if minutes[minute]:
                    return
                del minutes[minute]

    async def _look(self, bucket: set[Subject], due: tuple[str, int], now_ms: int) -> None:
        """Judge some of those in the bucket, and take them out of it once that is written."""
        page = [subject for _, subject in zip(range(_PAGE), bucket, strict=False)]
        wanted = [subject for subject in page if self._due.get(subject) == due]
        try:
            await self._judge(wanted, due[0], now_ms)
        except BaseException:
            # What is in memory may differ from what is stored: they are due still, and are loaded again.
            self._states.clear()
            raise
        bucket.difference_update(page)

    async def _judge(self, subjects: Sequence[Subject], source: str, now_ms: int) -> None:
        states = list((await self._states.take(subjects)).values())
        now = now_ms // MINUTE_MS
        judged = []
        for state in states:
            minutes = _patience(state)
            if minutes is not None and now - state.watermark_ms // MINUTE_MS >= minutes:
                judged.append((state, state.alerts))
        self._judging.judge_at([(state, now_ms) for state, _ in judged])
        changed = [state for state, alerts in judged if state.transitions or state.alerts is not alerts]
        for state in changed:
            step = Step(state, 0, state.published_hour)
            step.count_closed()
            # Before the write: one that seems to fail may be done.
            self._found.expect(step)
        writes = {state.subject for state in changed}
        self._states.keep([state for state in states if state.subject not in writes])
        refused = await self._states.save(changed)
        for state in states:
            self._due.pop(state.subject, None)
            minutes = _patience(state)
            if minutes is not None or state.subject in refused:
                # Later than now in any case: it is not looked at twice for the same minute.
                later = max(now + 1, state.watermark_ms // MINUTE_MS + (minutes or 1))
                self._put(state.subject, source, later)

    def _put(self, subject: Subject, source: str, minute: int) -> None:
        if self._due.get(subject) != (source, minute):
            self._due[subject] = source, minute
            self._by_minute.setdefault(source, {}).setdefault(minute, set()).add(subject)


def _source_of(state: SubjectState, clocks: Clocks) -> str | None:
    """The source of the subject whose clock is furthest, among those that this worker reads."""
    return max((one for one in state.offsets if one in clocks), key=lambda one: clocks[one], default=None)


def _patience(state: SubjectState) -> int | None:
    """Minutes without a call after which it is worth a look, None where it never is, or is told of already."""
    normal = state.live.get(SILENCE)
    if normal is None or not normal.location > 0.0:
        return None
    if any(one.slug == SILENCE and one.state == "open" for one in state.alerts.values()):
        return None
    return min(max(math.ceil(_MISSING_CALLS * 60.0 / normal.location) + 1, 2), _LONGEST_MINUTES)
