"""What every state store promises: Redis in production, memory in tests of the pure parts, one contract for both.

A subject is read and written in one piece. A write names the revision it read, and is refused when the stored one
differs: the loser loads again and applies its events again, so two writers cannot lose an update.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from detection.cohorts import Cohort
from detection.judged_hours import JudgedHour
from detection.rules.alert import Alert, Transition
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import Window
from state.as_stored import AsStored, StoredTexts
from state.survey import Lately, Survey, Tally


@dataclass(frozen=True, slots=True)
class Head:
    """The few fields of a stored subject that say whether anything is to be done for it."""

    subject: Subject
    rev: int
    watermark_ms: int
    published_hour: int
    is_outdated: bool
    offsets: Mapping[str, int]
    unrelayed: int


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a source is in the state: the offset after the last record, that record's time in ms, and its short hash.

    The time is -1 and the hash empty where no record is known. Both say whether a log is still the one that was read.
    """

    offset: int
    time_ms: int = -1
    record: str = ""


@dataclass(frozen=True, slots=True)
class LogLife:
    """What is kept of a topic that was made anew: how often an operator said so, and how often a worker noticed."""

    life: int = 0
    recreated: int = 0
    noticed: str = ""
    renewed: str = ""


@dataclass(frozen=True, slots=True)
class LearnedHour:
    """A learned window on its way to the history, and by slug how it compared with what had been published of it."""

    window: Window
    judged: Mapping[str, JudgedHour]


@dataclass(frozen=True, slots=True)
class Announcements:
    """What others are still to be told of a subject.

    `published` is the revision that last published its answers, empty where that was told; `alerts` says how its alerts
    have changed, by the name of their field in the outbox, oldest first.
    """

    published: bytes
    alerts: Mapping[str, Transition]


FIRST_PLACE: Final = "calls/0"


def is_owned(head: Head, places: Collection[str]) -> bool:
    """Whether the subject's events come from one of these places."""
    if not head.offsets:
        return FIRST_PLACE in places
    return any(place_of(source) in places for source in head.offsets)


def place_of(source: str) -> str:
    """Topic and partition of a source, whatever its log was called: `calls/3` of `kafka/calls/3`."""
    return source.partition("/")[2]


class StateStore(Protocol):
    """Readable hashes, one atomic write per subject; DependencyError when the store does not answer."""

    async def load(self, subjects: Sequence[Subject]) -> dict[Subject, SubjectState]:
        """The stored subjects among these; UnreadableStateError for another schema version."""
        ...

    async def load_counts(self, subjects: Sequence[Subject]) -> dict[Subject, SubjectState]:
        """As `load`, but of each subject only what counting events takes: no models, forecasts and verdicts.

        Those that an older version of this program wrote are loaded whole.
        """
        ...

    async def load_models(self, states: Sequence[SubjectState]) -> list[Subject]:
        """Give these states their models; the subjects of those which the store no longer has as they are here.

        The caller is to load these again. UnreadableStateError for a record that is missing.
        """
        ...

    async def save(self, states: Sequence[SubjectState]) -> list[Subject]:
        """Write each state whose `rev` is the stored one (0: not stored), and count its `rev` on; the others' subjects.

        What is written is the subject's fields, the series in `changed`, the records of those in `relearned`, and the
        `learned` windows into the outbox, each with what is `judged` of it; a written state is `settled`. Between two
        states there is no atomicity, within one there is nothing else.
        """
        ...

    async def confirm(self, states: Sequence[SubjectState]) -> list[Subject]:
        """Make sure that what is stored of these is as durable as a write; the subjects whose revision is another now.

        What was found in the store may have been written by somebody whose write never counted as done.
        """
        ...

    async def heads(self, subjects: Sequence[Subject]) -> list[Head]:
        """The stored subjects among these, without their windows and models."""
        ...

    async def unrelayed(self, subjects: Sequence[Subject]) -> list[Subject]:
        """Those of the subjects with something in their outbox, whoever's they are."""
        ...

    async def behind(self, subjects: Sequence[Subject], *, places: Collection[str], hour: int) -> list[Subject]:
        """Those of the subjects whose events come from one of these places and that are to be looked at.

        Their last answer is for an hour before this one, or was put off. A place is a topic's partition, `calls/3`; a
        subject that was only trained belongs to the first partition of calls.
        """
        ...

    async def subjects(self, *, after: str = "", limit: int = 1000, prefix: str = "") -> list[Subject]:
        """Up to `limit` subjects whose text (`biller:B1`) begins with `prefix`, in that text's order, after `after`.

        One whose first write never arrived may be among them; `load` then leaves it out.
        """
        ...

    async def count_subjects(self, *, prefix: str = "") -> int:
        """How many there are whose text begins with `prefix`, as `subjects` would list them."""
        ...

    async def answers(self, subjects: Sequence[Subject]) -> dict[Subject, dict[str, dict[str, str]]]:
        """The readable fields of every series of the subjects, by metric slug, without the models."""
        ...

    async def as_stored(self, subjects: Sequence[Subject]) -> StoredTexts:
        """What `answers` and `lately` are made of; a few hundred subjects at a time, as one question."""
        ...

    async def lately(self, subjects: Sequence[Subject]) -> dict[Subject, Lately]:
        """The last minutes, in sum, of those of the subjects that have any, without anything else of them."""
        ...

    async def alerts(self, subjects: Sequence[Subject]) -> dict[Subject, dict[str, Alert]]:
        """The alerts of those of the subjects that have any, whatever their state, by their key."""
        ...

    async def surveys(self, subjects: Sequence[Subject]) -> dict[Subject, Survey]:
        """Where each of the stored subjects stands; UnreadableStateError for what cannot be read."""
        ...

    async def tallies(self, subjects: Sequence[Subject]) -> dict[Subject, Tally]:
        """What has come of each of the stored subjects."""
        ...

    async def glance(self, subject: Subject, slug: str) -> AsStored:
        """What one series' answer is made of: no series where there is none, and its subject's last minutes."""
        ...

    async def outbox(self, subjects: Sequence[Subject]) -> dict[Subject, dict[int, Window]]:
        """Learned windows, by hour, that the history is not yet known to have."""
        ...

    async def learned_hours(self, subjects: Sequence[Subject]) -> dict[Subject, dict[int, LearnedHour]]:
        """As `outbox`, with how the windows compared with what had been published of them."""
        ...

    async def relayed(self, hours: Mapping[Subject, Sequence[int]]) -> None:
        """Take these windows out of the outbox: the history has them."""
        ...

    async def alert_history(self, subjects: Sequence[Subject]) -> dict[Subject, dict[str, Transition]]:
        """How alerts changed that the history is not yet known to have, by the name of the field, oldest first."""
        ...

    async def alert_history_kept(self, names: Mapping[Subject, Iterable[str]]) -> None:
        """Take these fields out of the outbox: the history has them."""
        ...

    async def announcements(self, subjects: Sequence[Subject]) -> dict[Subject, Announcements]:
        """What is to be told of those of the subjects of which anything is."""
        ...

    async def announced(self, told: Mapping[Subject, Announcements]) -> None:
        """Take this out of the outbox: others know. What was published meanwhile stays in."""
        ...

    async def advance_clock(self, ms: int) -> int:
        """Move the stream clock to `ms` unless it is further already; where it now is."""
        ...

    async def clock(self) -> int:
        """The newest event time that any worker has seen, -1 before the first."""
        ...

    async def progress(self) -> dict[str, Reached]:
        """How far each source is in the state, as the workers' flushes have said."""
        ...

    async def advance_progress(self, known: Mapping[str, int], reached: Mapping[str, Reached]) -> dict[str, int]:
        """Move the sources of `reached` on, never back; the offsets stored before, 0 for none, of all of `known`.

        `known` holds for each source, those of `reached` among them, an offset that the store had acknowledged before.
        Where it stores less, it has lost writes, and nothing is moved: the caller sees it in what is returned. It says
        -1 of all where a state is gone that was written through this store since the last call.
        """
        ...

    async def log_lives(self) -> dict[str, LogLife]:
        """The topics of which a worker or an operator has said that they were made anew."""
        ...

    async def note_recreated(self, topic: str, *, now_ms: int) -> None:
        """Count that a worker found the topic made anew."""
        ...

    async def renew_log(self, topic: str, *, now_ms: int) -> int:
        """Begin the topic's next life, whose number is returned, and drop the progress of those before."""
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
