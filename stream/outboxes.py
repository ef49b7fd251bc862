"""Subjects whose outboxes wait to be carried on: remembered until it is done, some of them at a time."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final

from detection.subject import Subject

_SUBJECTS_AT_ONCE: Final = 500


class Outboxes(ABC):
    """What is in them stays there until others have it, so here only the names of the subjects are remembered."""

    def __init__(self) -> None:
        self._pending: dict[Subject, None] = {}

    @property
    def pending(self) -> int:
        """Subjects whose outbox is not known to be empty."""
        return len(self._pending)

    def add(self, subjects: Iterable[Subject]) -> None:
        """Remember subjects whose outbox may have something in it."""
        self._pending.update(dict.fromkeys(subjects))

    async def drain(self) -> int:
        """Carry all that is pending; how many things. DependencyError, with the rest remembered, when one is away."""
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

    @abstractmethod
    async def _carry(self, subjects: Sequence[Subject]) -> int:
        """Carry what these have, and take it out only after others have it; how many things."""
