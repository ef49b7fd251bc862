"""Windows that are due, worked off beside the stream: a little at a time, so that the top of an hour stalls nothing.

What a flush closes in passing is written with its events. What is too much for it, and what only the clock closes
because its subject is silent, is closed here. Nothing of this is remembered: which subjects are behind is written in
each of them, and a walk over all of them finds it again.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import compress, islice
from operator import not_
from typing import Final

from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import SubjectState
from state.store import StateStore
from stream.buffer import Flushed, Step
from stream.judging import Judging
from stream.parts import each_part
from stream.states import States

_PAGE: Final = 1000
# Subjects that are closed in one call of the core, and calls at a time.
_PART: Final = 250
_PARTS_AT_ONCE: Final = 3
# How long events may have to wait for a flush because of this.
_SLICE_SECONDS: Final = 0.3


Closed = Callable[[Sequence[SubjectState]], None]


def _show_nobody(_: Sequence[SubjectState]) -> None:
    pass


class Closing:
    """Closes what is due, for the subjects of some places, in slices of time."""

    def __init__(self, store: StateStore, states: States, policy: Policy, judging: Judging) -> None:
        self._store = store
        self._states = states
        self._policy = policy
        self._judging = judging
        self._due: dict[Subject, None] = {}
        self._walked_hour = -1
        self._after: str | None = None
        # What the current walk began with; another hour, or another set of places, begins another walk.
        self._hour = -1
        self._closed = Flushed()
        self._show: Closed = _show_nobody

    @property
    def has_more(self) -> bool:
        """Whether the last slice ended before everything that is due was closed."""
        return bool(self._due) or self._after is not None

    def add(self, subjects: Iterable[Subject]) -> None:
        """These are due, and were not closed when they were written."""
        self._due.update(dict.fromkeys(subjects))

    def forget(self) -> None:
        """Look at all subjects again: others may be ours now."""
        self._due.clear()
        self._walked_hour = -1
        self._after = None

    async def work(self, places: set[str], clock_ms: int, *, show: Closed) -> Flushed:
        """Close for one slice of time; what was done, that of an earlier slice which failed included.

        `show` is given the states that were closed and written.
        """
        self._show = show
        end = time.monotonic() + _SLICE_SECONDS
        while self._due and time.monotonic() < end:
            await self._close(list(islice(self._due, _PAGE)), clock_ms)
        hour = self._policy.closed_before(clock_ms)
        if not self._due and self._after is None and hour > self._walked_hour:
            self._after, self._hour = "", hour
        while not self._due and self._after is not None and time.monotonic() < end:
            await self._walk(places, clock_ms)
        closed, self._closed = self._closed, Flushed()
        return closed

    async def _walk(self, places: set[str], clock_ms: int) -> None:
        """Look at one page of subjects, and close those that are behind."""
        page = await self._store.subjects(after=self._after or "", limit=_PAGE)
        if not page:
            self._after, self._walked_hour = None, self._hour
            return
        behind = await self._store.behind(page, places=places, hour=self._hour)
        self.add(behind)
        await self._close(behind, clock_ms)
        self._after = str(page[-1])

    async def _close(self, subjects: Sequence[Subject], clock_ms: int) -> None:
        """Close these; one that somebody else writes meanwhile stays due, and is looked at again."""

        async def close(part: Sequence[Subject]) -> None:
            states = list((await self._states.take(part)).values())
            is_due = [state.is_due(clock_ms, self._policy) for state in states]
            self._states.keep(list(compress(states, map(not_, is_due))))
            steps = [Step(state, 0, state.published_hour) for state in compress(states, is_due)]
            refused = await self._states.close([step.state for step in steps], clock_ms)
            self._judging.judge([(step.state, None) for step in steps], latest_ms=clock_ms)
            for step in steps:
                step.count_closed()
                self._closed.expect(step)
            refused |= await self._states.save([step.state for step in steps if step.state.subject not in refused])
            for subject in part:
                if subject not in refused:
                    self._due.pop(subject, None)
            for step in steps:
                if step.state.subject not in refused:
                    self._closed.add_closed(step)
            self._show([step.state for step in steps if step.state.subject not in refused])

        try:
            await each_part(subjects, close, size=_PART, at_once=_PARTS_AT_ONCE)
        except BaseException:
            self._states.clear()
            raise
