"""The counts of a subject as its own hash, and back: alone, and of many subjects at once.

Most writes only count events: they read and write this hash alone. Many of those are read and written by machine code
that makes no object of a field (`detection.kernel.subject_text`); what is unusual in any way goes one by one.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from functools import lru_cache
from typing import Annotated, Final, NamedTuple

import msgspec
import numpy as np
import orjson
from hiredis import Reader
from msgspec import Meta

from detection.catalogue import BILLER_METRICS, metric_of
from detection.errors import UnknownMetricError, UnreadableStateError
from detection.events import NEWEST_MS
from detection.exclusions import NOTHING_EXCLUDED
from detection.hours import MINUTE_MS
from detection.kernel.reply_text import ABSENT, TEXT
from detection.kernel.subject_text import LONGEST_COMMAND, MINUTES, SETTLED_BEFORE, WINDOWS, write_subjects
from detection.subject import Kind, Subject
from detection.subject_state import SubjectState
from detection.windows import CallWindow, GaugeWindow, Window
from state.alert_codec import load_alerts, load_live
from state.exclusion_codec import load_exclusions
from state.keys import SCHEMA, subject_key
from state.replies import Replies, fields_of
from state.series_codec import require_schema
from state.stored_windows import StoredHours, StoredMinutes, dump_hours, dump_minutes
from state.window_codec import hour_of, hour_text, load_hours, minute_of, moment_text

# What reading something that was never written raises.
DAMAGED: Final = (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    UnknownMetricError,
    msgspec.DecodeError,
)

_SCHEMA: Final = b"%d" % SCHEMA
_BILLER_SLUGS: Final = frozenset(metric.slug for metric in BILLER_METRICS)
# No counter reaches it, and a broker's offsets are no larger.
_MOST: Final = 2**63 - 1
_OFFSETS: Final = msgspec.json.Decoder(dict[str, Annotated[int, Meta(ge=0, le=_MOST)]])
_OPINIONS: Final = msgspec.json.Decoder(dict[str, int])
_NOTHING: Final = (b"", b"{}")
_NEVER: Final = b"1970-01-01T00:00:00Z"

# In the order of `detection.kernel.subject_text`.
Numbers = Sequence[int]
Texts = Sequence[bytes]


class Counted(NamedTuple):
    """A write that only counts events: the command that sets what differs of the subject's own hash."""

    key: str
    expected_rev: bytes
    command: bytes

    @property
    def keys(self) -> tuple[str]:
        """Of all hashes that it sets."""
        return (self.key,)

    @property
    def commands(self) -> list[bytes]:
        """As the protocol has them."""
        return [self.command]

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self.command)

    def apply_to(self, state: SubjectState) -> None:
        """The write has succeeded: the state is what is stored."""
        state.rev += 1


def subject_fields(state: SubjectState, *, rev: int) -> list[bytes]:
    """What every write sets of the subject's own, names and values by turns, as HSET takes them."""
    return [
        b"rev",
        b"%d" % rev,
        b"watermark",
        moment_text(state.watermark_ms) if state.watermark_ms >= 0 else b"",
        b"watermark_ms",
        b"%d" % state.watermark_ms,
        b"learned_before",
        hour_text(state.learned_before).encode(),
        b"settled_before",
        hour_text(state.settled_before).encode(),
        b"judged_before",
        moment_text(state.judged_before * MINUTE_MS),
        b"published_hour",
        hour_text(state.published_hour).encode(),
        b"is_outdated",
        b"true" if state.is_outdated else b"false",
        b"accepted",
        b"%d" % state.accepted,
        b"late",
        b"%d" % state.late,
        b"offsets",
        _dump_offsets(state),
        b"windows",
        dump_hours(state.windows),
    ]


def minutes_of(state: SubjectState) -> bytes:
    """The text of the last minutes; nothing where they are as they were read."""
    minutes = state.minutes
    return b"" if isinstance(minutes, StoredMinutes) and minutes.is_untouched else dump_minutes(minutes)


def encode_counted(states: Sequence[SubjectState]) -> list[Counted | None]:
    """The writes of those states that only count events, None for others and for what has unusual numbers."""
    counting = [at for at, state in enumerate(states) if _only_counts(state)]
    writes: list[Counted | None] = [None] * len(states)
    if not counting:
        return writes
    keys = []
    numbers: list[tuple[int, ...]] = []
    texts: list[bytes] = []
    for at in counting:
        state = states[at]
        keys.append(subject_key(state.subject))
        numbers.append(
            (
                state.rev + 1,
                state.watermark_ms,
                state.learned_before,
                state.settled_before,
                state.judged_before,
                state.published_hour,
                state.is_outdated,
                state.accepted,
                state.late,
            )
        )
        texts += (keys[-1].encode(), _dump_offsets(state), dump_hours(state.windows), minutes_of(state))
    try:
        columns = np.array(numbers, np.int64)
    except OverflowError:
        return writes
    text_at = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    commands = np.empty(int(text_at[-1]) + LONGEST_COMMAND * len(counting), np.uint8)
    end = np.empty(len(counting) + 1, np.int64)
    write_subjects(columns.ravel(), np.frombuffer(b"".join(texts), np.uint8), text_at, commands, end)
    data, ends = commands[: end[-1]].tobytes(), end.tolist()
    for at, key, start, stop in zip(counting, keys, ends, ends[1:]):  # noqa: B905 (there is one end more)
        if stop > start:
            writes[at] = Counted(key, b"%d" % states[at].rev, data[start:stop])
    return writes


def _only_counts(state: SubjectState) -> bool:
    """Whether `state.codec.encode` would write nothing but `subject_fields`, and maybe the minutes."""
    return not (
        not state.rev
        or not state.about
        or state.changed
        or state.is_whole
        or state.learned
        or state.transitions
        or state.alerts
        or state.has_alerts_stored
        or state.opinions
        or state.has_new_exclusions
        # These are nothing to write, but a write forgets them.
        or state.judged
        or state.closings
        or state.points
    )


def decode_counts(subject: Subject, fields: Mapping[bytes, bytes]) -> SubjectState | None:
    """The state of a subject's own fields alone, without models and answers; None where it is to be loaded whole.

    Raises UnreadableStateError that names the key.
    """
    key = subject_key(subject)
    require_schema(key, fields, (SCHEMA,))
    if b"settled_before" not in fields or not fields.get(b"about"):
        # Written by an older version, or some of its series were.
        return None
    try:
        return _counted(subject, key, numbers_of(fields), texts_of(fields))
    except DAMAGED as error:
        raise UnreadableStateError(f"{key}: damaged: {error!r}") from error


def decode_many_counts(
    subjects: Sequence[Subject], replies: Replies
) -> tuple[dict[Subject, SubjectState], list[Subject]]:
    """`decode_counts` of the replies to HGETALL: the states that are stored, and those that are to be loaded whole."""
    found: dict[Subject, SubjectState] = {}
    older: list[Subject] = []
    hashes = replies.subjects(_SCHEMA)
    data = bytes(replies.octets)
    for at, (subject, kind) in enumerate(zip(subjects, hashes.kind, strict=True)):
        if kind == ABSENT:
            continue
        state = None
        if kind == TEXT:
            key = subject_key(subject)
            texts = [data[begin:end] for begin, end in hashes.text_at[at]]
            try:
                state = _counted(subject, key, hashes.numbers[at], texts)
            except DAMAGED as error:
                raise UnreadableStateError(f"{key}: damaged: {error!r}") from error
        else:
            state = decode_counts(subject, _parsed(data[hashes.end[at] : hashes.end[at + 1]]))
        if state is None:
            older.append(subject)
        else:
            found[subject] = state
    return found, older


def numbers_of(fields: Mapping[bytes, bytes]) -> Numbers:
    """KeyError, TypeError or ValueError for what was never written."""
    return (
        whole(fields, b"rev"),
        whole(fields, b"watermark_ms", least=-1, most=NEWEST_MS),
        hour_of(fields[b"learned_before"].decode()),
        hour_of(fields.get(b"settled_before", _NEVER).decode()),
        minute_of(fields.get(b"judged_before", _NEVER).decode()),
        hour_of(fields[b"published_hour"].decode()),
        fields[b"is_outdated"] == b"true",
        whole(fields, b"accepted"),
        whole(fields, b"late"),
    )


def texts_of(fields: Mapping[bytes, bytes]) -> Texts:
    """KeyError where one is missing that every version has."""
    return (
        fields[b"offsets"],
        fields[b"windows"],
        fields[b"minutes"],
        fields[b"metrics"],
        *(fields.get(name, b"") for name in (b"about", b"alerts", b"live", b"opinions", b"exclusions")),
    )


def counts_of(subject: Subject, numbers: Numbers, texts: Texts) -> SubjectState:
    """The state, but for its windows; one of DAMAGED for what was never written."""
    rev, watermark_ms, learned_before, _, judged_before, published_hour, is_outdated, accepted, late = numbers
    offsets, _, _, metrics, about, alerts, live, opinions, exclusions = texts
    return SubjectState(
        subject=subject,
        rev=rev,
        watermark_ms=watermark_ms,
        learned_before=learned_before,
        published_hour=published_hour,
        accepted=accepted,
        late=late,
        offsets=load_offsets(offsets),
        is_outdated=bool(is_outdated),
        known=_metrics(metrics, subject.kind),
        about=about,
        alerts=load_alerts(subject, alerts) if alerts else {},
        has_alerts_stored=bool(alerts),
        live=load_live(live) if live else {},
        judged_before=judged_before,
        opinions={} if opinions in _NOTHING else _OPINIONS.decode(opinions),
        exclusions=NOTHING_EXCLUDED if exclusions in _NOTHING else load_exclusions(exclusions),
    )


def _counted(subject: Subject, key: str, numbers: Numbers, texts: Texts) -> SubjectState:
    state = counts_of(subject, numbers, texts)
    state.trained_before = numbers[SETTLED_BEFORE]
    state.windows = _hours(subject, texts[WINDOWS], key)
    state.minutes = StoredMinutes(texts[MINUTES], key)
    state.has_models = state.is_whole = False
    return state


def _parsed(reply: bytes) -> Mapping[bytes, bytes]:
    """The hash that HGETALL answered."""
    reader = Reader()
    reader.feed(reply)
    return fields_of(reader.gets())


def load_offsets(data: bytes) -> dict[str, int]:
    """By source; one of DAMAGED for what `subject_fields` cannot have written."""
    return _OFFSETS.decode(data)


def _dump_offsets(state: SubjectState) -> bytes:
    return orjson.dumps(state.offsets, option=orjson.OPT_SORT_KEYS)


def _hours(subject: Subject, data: bytes, key: str) -> MutableMapping[int, Window]:
    """The open windows: as the text that they are, where it is at first sight what was written of a biller."""
    is_plain = data == b"{}" or (data[:2] == b'{"' and data[-2:] == b"}}")
    if is_plain and subject.kind == "biller" and b'"events"' not in data:
        return StoredHours(data, key)
    return of_kind(subject, load_hours(data))


def of_kind(subject: Subject, windows: dict[int, Window]) -> dict[int, Window]:
    """The same; TypeError where one is of another kind than the subject's."""
    kind = CallWindow if subject.kind == "biller" else GaugeWindow
    if not all(type(window) is kind for window in windows.values()):
        raise TypeError(f"a {subject.kind} has only windows of its own kind")
    return windows


def whole(fields: Mapping[bytes, bytes], name: bytes, *, least: int = 0, most: int = _MOST) -> int:
    """The number of this name; KeyError or ValueError where there is none in that range."""
    number = int(fields[name])
    if not least <= number <= most:
        raise ValueError(f"{name.decode()} is {number}")
    return number


@lru_cache(maxsize=4_096)
def _metrics(text: bytes, kind: Kind) -> frozenset[str]:
    """Slugs as we write them; ValueError for any other, and for those of billers that no biller has."""
    slugs = frozenset(text.decode().split())
    for slug in slugs:
        if metric_of(slug).slug != slug or (kind == "biller" and slug not in _BILLER_SLUGS):
            raise ValueError(f"a {kind} has no metric {slug!r}")
    return slugs
