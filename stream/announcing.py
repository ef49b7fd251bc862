"""What was published, and alerts that went up or down, on their way to the topics `thresholds` and `alerts`.

Out of the outbox that the write filled which made it so: at least once, each message with an id to recognise it by. Of
a threshold only the newest counts: what was published again before it was told is told once.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from detection.hours import iso
from detection.rules.alert import Transition
from detection.subject import Subject
from state.alert_codec import alert_fields
from state.alerting import AlertingHints
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

    def __init__(self, store: StateStore, send: Send, hints: AlertingHints) -> None:
        super().__init__()
        self._store = store
        self._send = send
        self._hints = hints

    async def _carry(self, subjects: Sequence[Subject]) -> int:
        found = await self._store.announcements(subjects)
        if not found:
            return 0
        # First, so that the alerts are found even while the broker is away.
        await self._hints.hint(
            [subject for subject, one in found.items() if one.alerts], now_ms=time.time_ns() // 1_000_000
        )
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
    """How an alert changed, with all that is known of it and the line that operators see."""
    alert = one.alert
    value = {
        "id": one.id,
        "event": one.event,
        "at": iso(one.at_ms),
        "rev": one.rev,
        "subject": str(alert.subject),
        "metric": alert.slug,
        "rule": alert.rule,
        "line": alert.line,
        "alert": alert_fields(alert),
    }
    return Message(ALERTS, f"{alert.subject}/{alert.slug}".encode(), orjson.dumps(value))
