"""The outbox of a subject: what its writes have to tell others, in the same atomic step that made it so.

2026-03-01T10:00:00Z                       a learned window, for the history
published                                  the revision that last published answers, for the topic `thresholds`
alert:error-rate:2026-03-01T10:00:00Z:opened   a flag that went up or down, for the topic `alerts`
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

import orjson

from detection.alerts import Transition
from detection.errors import UnreadableStateError
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import Window
from state.keys import outbox_key
from state.store import Announcements
from state.window_codec import dump_window, hour_of, hour_text, load_window

PUBLISHED: Final = b"published"

_ALERT: Final = b"alert:"


def outbox_entries(state: SubjectState) -> list[bytes]:
    """Names and values by turns of what the state's next write has to tell; empty when that is nothing."""
    flat: list[bytes] = []
    for hour in sorted(state.learned):
        flat += (hour_text(hour).encode(), dump_window(state.learned[hour]))
    if state.changed and state.announces:
        flat += (PUBLISHED, b"%d" % (state.rev + 1))
    for one in state.transitions:
        told = replace(one, rev=state.rev + 1)
        # In the order of the revisions, in which they are told.
        name = f"alert:{told.slug}:{told.rev:010d}:{hour_text(told.hour)}:{told.kind}"
        flat += (name.encode(), _dump(told))
    return flat


def decode_outbox(subject: Subject, fields: Mapping[bytes, bytes]) -> dict[int, Window]:
    """The learned windows by hour, oldest first; raises UnreadableStateError naming the key."""
    try:
        windows = {
            hour_of(text.decode()): load_window(data) for text, data in fields.items() if not _is_announcement(text)
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableStateError(f"{outbox_key(subject)}: damaged: {error!r}") from error
    return dict(sorted(windows.items()))


def decode_announcements(subject: Subject, fields: Mapping[bytes, bytes]) -> Announcements | None:
    """What is to be told besides the windows, None for nothing; raises UnreadableStateError naming the key."""
    try:
        alerts = {
            text.decode(): _load(subject, text.decode(), data)
            for text, data in sorted(fields.items())
            if text.startswith(_ALERT)
        }
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableStateError(f"{outbox_key(subject)}: damaged: {error!r}") from error
    published = fields.get(PUBLISHED, b"")
    return Announcements(published, alerts) if published or alerts else None


def outbox_fields(hours: Iterable[int]) -> list[str]:
    """The outbox's field names of these hours."""
    return [hour_text(hour) for hour in hours]


def _is_announcement(name: bytes) -> bool:
    return name == PUBLISHED or name.startswith(_ALERT)


def _dump(one: Transition) -> bytes:
    return orjson.dumps(
        {
            "id": one.id,
            "value": one.value,
            "count": one.count,
            "estimate": one.estimate,
            "threshold": one.threshold,
            "score": one.score,
        }
    )


def _load(subject: Subject, name: str, data: bytes) -> Transition:
    slug, rev, rest = name.removeprefix("alert:").split(":", 2)
    start, _, kind = rest.rpartition(":")
    plain = orjson.loads(data)
    return Transition(
        subject,
        slug,
        hour_of(start),
        kind == "opened",
        plain["value"],
        plain["count"],
        plain["estimate"],
        plain["threshold"],
        plain["score"],
        int(rev),
    )
