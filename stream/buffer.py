"""What is between Kafka and the store at the moment: the buffer of absorbed events, and what writing them has done."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Self

from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from stream.dead_letters import DeadLetter
from stream.decoding import ObservedAt
from stream.held_calls import HeldCalls

CALLS = "calls"
OBSERVATIONS = "observations"

# An observation is an object, with a number for each of its fields; a call is a row of numbers.
_OBSERVATION_WEIGHT: Final = 30


@dataclass(slots=True)
class Step:
    """A state on its way to the store: how many events correct closed windows, and what was closed and learned of it.

    `published_before` is the hour that it was published for before.
    """

    state: SubjectState
    corrections: int
    published_before: int
    closed_windows: int = 0
    learned_windows: int = 0
    has_news: bool = False

    def count_closed(self) -> None:
        """Look at what was closed, before the write forgets it."""
        state = self.state
        hours = (*state.learned, *state.windows)
        self.closed_windows = sum(self.published_before <= hour < state.published_hour for hour in hours)
        self.learned_windows = len(state.learned)
        self.has_news = bool(state.changed or state.transitions)


@dataclass(slots=True)
class Flushed:
    """What one flush did; `handles` are the batches that may now be acknowledged.

    The outboxes of `learned` may have windows for the history, those of `news` something to announce.

    `events` counts by topic and by what became of them: accepted, late, replayed or dead. `corrections` counts those
    of the accepted that came after their window had closed.
    """

    handles: list[Any] = field(default_factory=list)
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    corrections: Counter[str] = field(default_factory=Counter)
    refetched: Counter[str] = field(default_factory=Counter)
    crowded: int = 0
    conflicts: int = 0
    subjects: int = 0
    closed_windows: int = 0
    learned_windows: int = 0
    learned: set[Subject] = field(default_factory=set)
    news: set[Subject] = field(default_factory=set)

    def add(self, step: Step, arrived: Arrivals) -> None:
        """Count one subject's write."""
        topic = CALLS if step.state.subject.kind == "biller" else OBSERVATIONS
        self.events[topic, "accepted"] += arrived.accepted
        self.events[topic, "late"] += arrived.late
        self.corrections[topic] += step.corrections
        self.add_closed(step)

    def expect(self, step: Step) -> None:
        """Have the subject's outbox looked at, whatever we hear of the write: one that seems to fail may be done."""
        if step.learned_windows:
            self.learned.add(step.state.subject)
        if step.has_news:
            self.news.add(step.state.subject)

    def add_closed(self, step: Step) -> None:
        """Count what was closed and learned in one subject's write."""
        self.subjects += 1
        self.closed_windows += step.closed_windows
        self.learned_windows += step.learned_windows

    def include(self, newer: Self) -> None:
        """Add what a buffer that was filled meanwhile has counted."""
        self.handles += newer.handles
        self.events.update(newer.events)
        self.refetched.update(newer.refetched)

    def count_replayed(self, calls: int, observations: int) -> None:
        """What was neither accepted, late nor refused was in the state, or in memory, already."""
        for topic, total in ((CALLS, calls), (OBSERVATIONS, observations)):
            taken = self.events[topic, "accepted"] + self.events[topic, "late"] + self.crowded * (topic == OBSERVATIONS)
            self.events[topic, "replayed"] = total - taken + self.refetched[topic]
        self.events[OBSERVATIONS, "dead"] += self.crowded


class Load(NamedTuple):
    """How many events there are, and as how many calls they weigh in memory."""

    events: int = 0
    weight: int = 0


@dataclass(slots=True)
class Buffer:
    """What was absorbed since the last flush; `flushed` is what earlier, failed tries have already done of it.

    `life` is the number of times that everything in memory was forgotten before.
    """

    life: int = 0
    calls: HeldCalls = field(default_factory=HeldCalls)
    observed: list[tuple[str, ObservedAt]] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    flushed: Flushed = field(default_factory=Flushed)

    @property
    def load(self) -> Load:
        """What is in it."""
        calls, observed = len(self.calls), len(self.observed)
        return Load(calls + observed, calls + _OBSERVATION_WEIGHT * observed)

    def successor(self) -> Self:
        """Empty, for what comes while this one is written."""
        return type(self)(life=self.life, calls=self.calls.successor())

    def add(self, newer: Self) -> None:
        """Put what was absorbed meanwhile behind what is in here."""
        self.calls.extend(newer.calls)
        self.observed += newer.observed
        self.dead_letters += newer.dead_letters
        self.flushed.include(newer.flushed)
