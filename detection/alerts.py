"""When the flag of an alert goes up or down: recorded with the very write that published it, told to others later."""

from dataclasses import dataclass
from typing import Literal

from detection.hours import iso_hour
from detection.subject import Subject


@dataclass(frozen=True, slots=True)
class Transition:
    """The flag of one series changed with the verdict on the window of `hour` (since the epoch, UTC).

    A flag that goes down because nothing was heard for an hour has no verdict: its numbers are None. `rev` is the
    revision of the write that records it, 0 before: a window that is corrected may raise and lower a flag repeatedly.
    """

    subject: Subject
    slug: str
    hour: int
    is_alert: bool
    value: float | None = None
    count: int | None = None
    estimate: float | None = None
    threshold: float | None = None
    score: float | None = None
    rev: int = 0

    @property
    def kind(self) -> Literal["opened", "resolved"]:
        return "opened" if self.is_alert else "resolved"

    @property
    def id(self) -> str:
        """The same whenever it is told, so that a second telling can be recognised."""
        return f"{self.subject}/{self.slug}/{iso_hour(self.hour)}/{self.rev}/{self.kind}"
