"""Surveys and tallies of subjects: which fields they take, and what those say; no other field is asked for."""

from collections.abc import Iterable, Sequence
from typing import Final

from detection.errors import UnreadableStateError
from detection.subject import Subject
from detection.subject_state import KEPT_MINUTES
from state.codec import decode_alerts
from state.keys import outbox_key, series_key, subject_key
from state.outbox_codec import is_for_history
from state.readable_series import survey_fields
from state.series_fields import SURVEY_FIELDS
from state.survey import Lately, Survey, Tally
from state.window_codec import load_sums

Command = tuple[str, ...]

_OWN_FIELDS: Final = ("rev", "minutes", "alerts")
_COUNTERS: Final = ("rev", "accepted", "late")
_PUBLISHED: Final = ("status", "valid_until")


def survey_commands(subject: Subject, slugs: Iterable[str]) -> list[Command]:
    """What to ask for of a subject with these series: one reply for itself and one for each of them."""
    return [
        ("HMGET", subject_key(subject), *_OWN_FIELDS),
        *(("HMGET", series_key(subject, slug), *SURVEY_FIELDS) for slug in slugs),
    ]


def survey_of(subject: Subject, slugs: Sequence[str], replies: Sequence[Sequence[bytes | None]]) -> Survey | None:
    """The survey of the replies to `survey_commands`; None where the subject is not stored.

    Raises UnreadableStateError that names the key.
    """
    (rev, minutes, alerts), *series = replies
    if rev is None:
        return None
    found = {slug: survey_fields(values) for slug, values in zip(slugs, series, strict=True)}
    return Survey(
        series={slug: fields for slug, fields in found.items() if fields is not None and fields["status"]},
        alerts=decode_alerts(subject, alerts) if alerts else {},
        lately=read_lately(subject, minutes),
    )


def tally_commands(subject: Subject, slugs: Iterable[str]) -> list[Command]:
    """What to ask for of a subject with these series: two replies for itself and one for each of them."""
    return [
        ("HMGET", subject_key(subject), *_COUNTERS),
        ("HKEYS", outbox_key(subject)),
        *(("HMGET", series_key(subject, slug), *_PUBLISHED) for slug in slugs),
    ]


def tally_of(replies: Sequence[Sequence[bytes | None]]) -> Tally | None:
    """The tally of the replies to `tally_commands`; None where the subject is not stored.

    Raises UnreadableStateError.
    """
    (rev, accepted, late), outbox, *series = replies
    if rev is None:
        return None
    try:
        return Tally(
            accepted=int(accepted or 0),
            late=int(late or 0),
            is_pending=any(name is not None and is_for_history(name) for name in outbox),
            published=[
                {"status": status.decode(), "valid_until": (valid_until or b"").decode()}
                for status, valid_until in series
                if status
            ],
        )
    except ValueError as error:
        raise UnreadableStateError(f"what is counted of a subject is damaged: {error!r}") from error


def read_lately(subject: Subject, minutes: bytes | None) -> Lately | None:
    """The last minutes in sum, of their stored text; UnreadableStateError that names the key."""
    if minutes is None:
        return None
    try:
        newest, total = load_sums(minutes, KEPT_MINUTES)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableStateError(f"{subject_key(subject)}: damaged minutes: {error!r}") from error
    if newest is None:
        return None
    return Lately(newest, {value.metric.slug: value for value in total.values()})
