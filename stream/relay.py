"""Learned windows on their way to the history: out of the outbox that the learning write filled, at least once.

PostgreSQL may be away: the outbox keeps what it has not taken, and here only the names of the subjects are remembered.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Protocol

from detection.subject import Subject
from detection.windows import Window
from state.store import StateStore

_SUBJECTS_AT_ONCE = 500


class HistorySink(Protocol):
    """Where learned windows are kept for good; writing the same window again changes nothing."""

    async def record(self, windows: Mapping[Subject, Mapping[int, Window]]) -> object:
        """Keep these windows, by hour; raises DependencyError when it cannot."""
        ...


class HistoryRelay:
    """Carries outboxes to the history; raises DependencyError, and remembers the rest, when one of the two is away."""

    def __init__(self, store: StateStore, history: HistorySink) -> None:
        self._store = store
        self._history = history
        self._pending: dict[Subject, None] = {}

    @property
    def pending(self) -> int:
        """Subjects whose outbox is not known to be empty."""
        return len(self._pending)

    def add(self, subjects: Iterable[Subject]) -> None:
        """Remember subjects whose outbox has something in it."""
        self._pending.update(dict.fromkeys(subjects))

    async def drain(self) -> int:
        """Carry all that is pending; how many windows. A window is taken out only after the history has it."""
        carried = 0
        while self._pending:
            subjects = list(islice(self._pending, _SUBJECTS_AT_ONCE))
            # Forgotten before their outboxes are read: what a flush adds from here on is remembered anew.
            for subject in subjects:
                del self._pending[subject]
            try:
                carried += await self._carry(subjects)
            except BaseException:
                self.add(subjects)
                raise
        return carried

    async def _carry(self, subjects: list[Subject]) -> int:
        windows = {subject: hours for subject, hours in (await self._store.outbox(subjects)).items() if hours}
        if not windows:
            return 0
        await self._history.record(windows)
        await self._store.relayed({subject: list(hours) for subject, hours in windows.items()})
        return sum(map(len, windows.values()))
