"""The states that a worker has in its hands: loaded as far as needed, kept between writes, given up when in doubt."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import compress

from detection.closing import close
from detection.live_normals import live_normals_of_many
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import SubjectState
from state.store import StateStore
from tracing import span

_PAGE = 1000


class States:
    """States by subject, at most `limit` of them between two writes, and those as counts alone: their models are not.

    `verify` is awaited after each load: what it raises says that the store cannot be believed.
    """

    def __init__(self, store: StateStore, policy: Policy, *, limit: int) -> None:
        self._store = store
        self._policy = policy
        self._limit = limit
        self._kept: OrderedDict[Subject, SubjectState] = OrderedDict()
        self.verify: Callable[[], Awaitable[None]] | None = None

    async def take(self, subjects: Sequence[Subject]) -> dict[Subject, SubjectState]:
        """The stored ones among these; they are the caller's until they are saved."""
        taken = {}
        missing = []
        for subject in subjects:
            state = self._kept.pop(subject, None)
            if state is None:
                missing.append(subject)
            else:
                taken[subject] = state
        with span("load", subjects=len(subjects), missing=len(missing)):
            for at in range(0, len(missing), _PAGE):
                taken.update(await self._store.load_counts(missing[at : at + _PAGE]))
            await self._verify(missing)
        return taken

    async def close(self, states: Sequence[SubjectState], clock_ms: int) -> set[Subject]:
        """Learn and publish what is due of these; the subjects that somebody else has written meanwhile."""
        if not states:
            return set()
        with span("close", subjects=len(states)):
            bare = [state for state in states if not state.has_models]
            refused = set(await self._store.load_models(bare)) if bare else set()
            await self._verify(bare)
            whole = [state for state in states if state.subject not in refused] if refused else states
            # In a thread, so that heartbeats and batches go on; the compiled core lets the interpreter go meanwhile.
            await asyncio.to_thread(self._close, whole, clock_ms)
        return refused

    def _close(self, states: Sequence[SubjectState], clock_ms: int) -> None:
        closed = list(compress(states, close(states, clock_ms, self._policy)))
        normals = live_normals_of_many([(state, state.live) for state in closed], self._policy)
        for state, live in zip(closed, normals, strict=True):
            state.live = live

    async def save(self, states: Sequence[SubjectState]) -> set[Subject]:
        """Write them, and keep those that were written; the subjects that somebody else was ahead of."""
        with span("write", subjects=len(states)):
            refused = set(await self._store.save(states))
        for state in states:
            if state.subject not in refused:
                state.shed()
                self._kept[state.subject] = state
        while len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return refused

    async def confirm(self, states: Sequence[SubjectState]) -> set[Subject]:
        """Make sure that these, which have all there is to write, are as durable as a write; and keep them."""
        refused = set(await self._store.confirm(states)) if states else set()
        self.keep([state for state in states if state.subject not in refused])
        return refused

    def keep(self, states: Collection[SubjectState]) -> None:
        """Take back what was not changed."""
        self._kept.update((state.subject, state) for state in states)

    def clear(self) -> None:
        """Know nothing: the next take asks the store."""
        self._kept.clear()

    async def _verify(self, loaded: Collection[object]) -> None:
        """What was loaded from a store that has lost writes must not be written back with newer offsets."""
        if loaded and self.verify is not None:
            await self.verify()
