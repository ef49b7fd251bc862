"""Which dead letters are meant, and which of them can go back to the topic that they came from."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Literal

from detection.errors import InputError
from detection.hours import parse_ms
from state.dead_letters import LATE, UNREADABLE, Letter
from state.replayed import Mark

# Nothing is sent to any other, whatever a letter says.
TOPICS: Final = ("calls", "observations")

_PLACES: Final = re.compile(r"(\d+)/(\d+)(?:-(\d+))?")

Fate = Literal["ready", "late", "sent", "sending", "not whole", "no value", "unreadable"]

WHY_NOT: Final[dict[Fate, str]] = {
    "late": "would be late again, because their hours are learned; --reason late sends them all the same",
    "sent": "were sent already; --again sends them once more, and they may count twice",
    "sending": "may have been sent by somebody who was stopped; --again sends them once more, and they may count twice",
    "not whole": "are not kept as they came: too long, or an observation that its model could not take",
    "no value": "have no value",
    "unreadable": "are no letters of a worker",
}


@dataclass(frozen=True, slots=True)
class Selection:
    """The letters that are meant: those that fit everything that is said. Times are the letters' own, in ms."""

    reason: str = ""
    topic: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    places: Collection[tuple[int, int, int]] = field(default=())

    @classmethod
    def parse(
        cls, *, reason: str = "", topic: str = "", since: str = "", until: str = "", at: Collection[str] = ()
    ) -> "Selection":
        """Of what was typed; `at` are `PARTITION/OFFSET` or `PARTITION/FIRST-LAST`. InputError names the option."""
        return cls(
            reason,
            topic,
            None if not since else _moment("--since", since),
            None if not until else _moment("--until", until),
            [_places(one) for one in at],
        )

    def takes(self, letter: Letter) -> bool:
        """Whether the letter is meant."""
        return (
            self.reason in {"", letter.reason}
            and self.topic in {"", letter.topic}
            and (self.since_ms is None or letter.time_ms >= self.since_ms)
            and (self.until_ms is None or letter.time_ms < self.until_ms)
            and (
                not self.places
                or any(
                    partition == letter.partition and first <= letter.offset <= last
                    for partition, first, last in self.places
                )
            )
        )


def fate(letter: Letter, mark: Mark | None, *, with_late: bool, again: bool) -> Fate:
    """Whether the letter can be sent, and else why not."""
    if letter.reason == UNREADABLE or letter.topic not in TOPICS:
        return "unreadable"
    if not letter.is_whole:
        return "not whole"
    if letter.value is None:
        return "no value"
    if letter.reason == LATE and not with_late:
        return "late"
    return "ready" if mark is None or again else mark


def _moment(option: str, text: str) -> int:
    try:
        return parse_ms(text)
    except ValueError as error:
        raise InputError(f"{option} {text!r}: not a time as 2026-03-01T10:00:00Z") from error


def _places(text: str) -> tuple[int, int, int]:
    found = _PLACES.fullmatch(text)
    if found is None:
        raise InputError(f"--at {text!r}: PARTITION/OFFSET or PARTITION/FIRST-LAST, as `list` shows them")
    partition, first, last = found.groups()
    return int(partition), int(first), int(last or first)
