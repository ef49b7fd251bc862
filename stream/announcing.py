"""What was published, and alerts that went up or down, on their way to the topics `thresholds` and `alerts`.

Out of the outbox that the write filled which made it so: at least once, each message with an id to recognise it by. Of
a threshold only the newest counts: what was published again before it was told is told once.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from detection.alerts import Transition
from detection.hours import HOUR_MS, iso
from detection.subject import Subject
from state.store import StateStore
from stream.outboxes import Outboxes

THRESHOLDS: Final = "thresholds"
ALERTS: Final = "alerts"

_NUMBERS: Final = ("estimate", "lower", "upper", "threshold", "expected_calls", "measured_exceedance")
_WHOLE: Final = ("min_calls", "n_learned", "judged")
_TEXTS: Final = ("operator", "unit", "status", "window_start", "window_end", "valid_until", "version")


@dataclass(frozen=True, slots=True)
class Message:
    """One message; messages of the same series have the same key, and so an order."""

    topic: str
    key: bytes
    value: bytes


Send = Callable[[Sequence[Message]], Awaitable[None]]


class Announcer(Outboxes):
    """Tells what is in the outboxes; raises DependencyError, and remembers the rest, when one of the two is away.

    `send` returns when the broker has all of them.
    """

    def __init__(self, store: StateStore, send: Send) -> None:
        super().__init__()
        self._store = store
        self._send = send

    async def _carry(self, subjects: Sequence[Subject]) -> int:
        found = await self._store.announcements(subjects)
        if not found:
            return 0
        answers = await self._store.answers([subject for subject, one in found.items() if one.published])
        messages = [
            threshold_message(subject, slug, fields)
            for subject, series in answers.items()
            for slug, fields in series.items()
            if fields["status"]
        ]
        messages += [alert_message(one) for told in found.values() for one in told.alerts.values()]
        await self._send(messages)
        await self._store.announced(found)
        return len(messages)


def threshold_message(subject: Subject, slug: str, fields: Mapping[str, str]) -> Message:
    """What is published of a series; its id is the version of the answer."""
    value: dict[str, Any] = {"id": f"{subject}/{slug}/{fields['version']}", "subject": str(subject), "metric": slug}
    value |= {name: float(fields[name]) if fields[name] else None for name in _NUMBERS}
    value |= {name: int(fields[name]) for name in _WHOLE}
    value |= {name: fields[name] for name in _TEXTS}
    return Message(THRESHOLDS, f"{subject}/{slug}".encode(), orjson.dumps(value))


def alert_message(one: Transition) -> Message:
    """A flag that went up (`opened`) or down (`resolved`), with the closed window that it goes by."""
    value = {
        "id": one.id,
        "kind": one.kind,
        "subject": str(one.subject),
        "metric": one.slug,
        "window_start": iso(one.hour * HOUR_MS),
        "value": one.value,
        "calls": one.count,
        "estimate": one.estimate,
        "threshold": one.threshold,
        "score": one.score,
    }
    return Message(ALERTS, f"{one.subject}/{one.slug}".encode(), orjson.dumps(value))
