"""What every state store promises: Redis in production, memory in tests of the pure parts, one contract for both.

A subject is read and written in one piece. A write names the revision it read, and is refused when the stored one
differs: the loser loads again and applies its events again, so two writers cannot lose an update.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from detection.cohorts import Cohort
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import Window


@dataclass(frozen=True, slots=True)
class Head:
    """The few fields of a stored subject that say whether anything is to be done for it."""

    subject: Subject
    rev: int
    watermark_ms: int
    published_hour: int
    offsets: Mapping[str, int]
    unrelayed: int


class StateStore(Protocol):
    """Readable hashes, one atomic write per subject; DependencyError when the store does not answer."""

    async def load(self, subjects: Sequence[Subject]) -> dict[Subject, SubjectState]:
        """The stored subjects among these; UnreadableStateError for another schema version."""
        ...

    async def save(self, states: Sequence[SubjectState]) -> list[Subject]:
        """Write each state whose `rev` is the stored one (0: not stored), and count its `rev` on; the others' subjects.

        What is written is the subject's fields, the series in `changed`, and the `learned` windows into the outbox; a
        written state is `settled`. Between two states there is no atomicity, within one there is nothing else.
        """
        ...

    async def heads(self, subjects: Sequence[Subject]) -> list[Head]:
        """The stored subjects among these, without their windows and models."""
        ...

    async def subjects(self, *, after: str = "", limit: int = 1000, prefix: str = "") -> list[Subject]:
        """Up to `limit` subjects whose text (`biller:B1`) begins with `prefix`, in that text's order, after `after`.

        One whose first write never arrived may be among them; `load` then leaves it out.
        """
        ...

    async def answers(self, subjects: Sequence[Subject]) -> dict[Subject, dict[str, dict[str, str]]]:
        """The readable fields of every series of the subjects, by metric slug, without the models."""
        ...

    async def minutes(self, subjects: Sequence[Subject]) -> dict[Subject, dict[int, Window]]:
        """The stored subjects' last minutes of event time, by minute since the epoch, without anything else of them."""
        ...

    async def glance(self, subject: Subject, slug: str) -> tuple[dict[str, str] | None, dict[int, Window]]:
        """One series' readable fields, None where there is no such series, and its subject's last minutes."""
        ...

    async def outbox(self, subjects: Sequence[Subject]) -> dict[Subject, dict[int, Window]]:
        """Learned windows, by hour, that the history is not yet known to have."""
        ...

    async def relayed(self, hours: Mapping[Subject, Sequence[int]]) -> None:
        """Take these windows out of the outbox: the history has them."""
        ...

    async def advance_clock(self, ms: int) -> int:
        """Move the stream clock to `ms` unless it is further already; where it now is."""
        ...

    async def clock(self) -> int:
        """The newest event time that any worker has seen, -1 before the first."""
        ...

    async def claim_cohorts(self, *, now_ms: int, due_ms: int) -> bool:
        """Whether the cohorts are to be refreshed now, and by whoever asks; they are then next due at `due_ms`."""
        ...

    async def keep_cohorts(self, cohorts: Iterable[Cohort], *, now_ms: int, due_ms: int) -> None:
        """Keep these in place of all cohorts that were known."""
        ...

    async def cohorts(self) -> list[Cohort]:
        """The cohorts that were kept last; UnreadableStateError for a field that nobody can have kept."""
        ...

    async def ping(self) -> None:
        """Raises DependencyError when the store does not answer."""
        ...
