"""The outbox of a subject: what its writes have to tell others, in the same atomic step that made it so.

2026-03-01T10:00:00Z                       a learned window and how it compared, for the history
published                                  the revision that last published answers, for the topic `thresholds`
alert:0000000042:0000:opened               how an alert changed, by revision and place in it, for the topic `alerts`
history:0000000042:0000:opened             the same, for the history
"""

from collections.abc import Iterable, Mapping
from typing import Final

from detection.errors import UnreadableStateError
from detection.rules.alert import Transition
from detection.subject import Subject
from detection.subject_state import SubjectState
from state.alert_codec import dump_transition, load_transition
from state.keys import outbox_key
from state.store import Announcements, LearnedHour
from state.window_codec import dump_learned, hour_of, hour_text, load_judged, load_window

PUBLISHED: Final = b"published"

_ALERT: Final = b"alert:"
_HISTORY: Final = b"history:"


def outbox_entries(state: SubjectState) -> list[bytes]:
    """Names and values by turns of what the state's next write has to tell; empty when that is nothing."""
    flat: list[bytes] = []
    for hour in sorted(state.learned):
        flat += (hour_text(hour).encode(), dump_learned(state.learned[hour], state.judged.get(hour, {})))
    if state.changed and state.announces:
        flat += (PUBLISHED, b"%d" % (state.rev + 1))
    for at, one in enumerate(state.transitions):
        # In the order of the revisions, in which they are told.
        name = f"{state.rev + 1:010d}:{at:04d}:{one.event}".encode()
        told = dump_transition(one)
        # Each of the two takes its own out when it has it, whether the other one is away or not.
        flat += (_ALERT + name, told, _HISTORY + name, told)
    return flat


def decode_outbox(subject: Subject, fields: Mapping[bytes, bytes]) -> dict[int, LearnedHour]:
    """The learned windows by hour, oldest first; raises UnreadableStateError naming the key."""
    try:
        hours = {
            hour_of(text.decode()): LearnedHour(load_window(data), load_judged(data))
            for text, data in fields.items()
            if not _is_announcement(text)
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableStateError(f"{outbox_key(subject)}: damaged: {error!r}") from error
    return dict(sorted(hours.items()))


def decode_announcements(subject: Subject, fields: Mapping[bytes, bytes]) -> Announcements | None:
    """What is to be told besides the windows, None for nothing; raises UnreadableStateError naming the key."""
    alerts = _transitions(subject, fields, _ALERT)
    published = fields.get(PUBLISHED, b"")
    return Announcements(published, alerts) if published or alerts else None


def decode_alert_history(subject: Subject, fields: Mapping[bytes, bytes]) -> dict[str, Transition]:
    """How alerts changed, by the name of the field, oldest first; raises UnreadableStateError naming the key."""
    return _transitions(subject, fields, _HISTORY)


def outbox_fields(hours: Iterable[int]) -> list[str]:
    """The outbox's field names of these hours."""
    return [hour_text(hour) for hour in hours]


def is_for_history(name: bytes) -> bool:
    """Whether this field of an outbox waits for PostgreSQL."""
    return name != PUBLISHED and not name.startswith(_ALERT)


def _is_announcement(name: bytes) -> bool:
    return name == PUBLISHED or name.startswith((_ALERT, _HISTORY))


def _transitions(subject: Subject, fields: Mapping[bytes, bytes], prefix: bytes) -> dict[str, Transition]:
    try:
        return {
            text.decode(): _load(subject, text.decode(), data)
            for text, data in sorted(fields.items())
            if text.startswith(prefix)
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableStateError(f"{outbox_key(subject)}: damaged: {error!r}") from error


def _load(subject: Subject, name: str, data: bytes) -> Transition:
    return load_transition(subject, data, rev=int(name.split(":")[1]))
