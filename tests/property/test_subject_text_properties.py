"""What machine code reads and writes of a subject's own hash is, byte for byte, what Python reads and writes of it."""

from collections.abc import Callable, Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hiredis import Reader, pack_command
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.errors import UnreadableStateError
from detection.events import NEWEST_MS
from detection.exclusions import Exclusion, Exclusions
from detection.hours import HOUR_MS
from detection.kernel.subject_text import LONGEST_COMMAND
from detection.live import LiveNormal
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import CallWindow
from state.codec import encode
from state.counts_codec import Counted, decode_counts, decode_many_counts, encode_counted, minutes_of
from state.exclusion_codec import dump_exclusions
from state.keys import subject_key
from state.replies import Replies
from state.stored_windows import StoredMinutes, dump_hours, dump_minutes
from tests.contract.states import FIRST_HOUR, POLICY
from tests.property.test_reply_text_properties import sent

Fields = dict[bytes, bytes]

# The first example loads the compiled core.
FIRST_LOADS = settings(deadline=None)

SUBJECTS = (Subject.biller("B1"), Subject.biller("x" * 128), Subject.model("Mistral", "v1"))
LAST_HOUR = NEWEST_MS // HOUR_MS - 1

counts = st.one_of(st.integers(0, 10**18 - 1), st.integers(0, 2**63 - 1), st.sampled_from([0, 9, 10, 99, 100]))
hours = st.one_of(st.integers(0, LAST_HOUR), st.sampled_from([0, FIRST_HOUR, LAST_HOUR]))
windows = st.builds(
    CallWindow,
    calls=st.integers(0, 2**40),
    latency_us=st.integers(0, 2**60),
    latency_us2=st.integers(0, 2**80),
    bins=st.dictionaries(st.integers(0, 200), st.integers(1, 2**40), max_size=4),
)
offsets = st.dictionaries(st.sampled_from(["log/calls/0", "log/calls/1", "é/calls/0"]), st.integers(0, 2**63 - 1))


@st.composite
def counted(draw: st.DrawFn, subjects: Sequence[Subject] = SUBJECTS[:2]) -> SubjectState:
    """A state as it is between two writes that only count."""
    state = SubjectState(
        draw(st.sampled_from(subjects)),
        rev=draw(counts.filter(bool)),
        watermark_ms=draw(st.one_of(st.just(-1), st.integers(0, NEWEST_MS), st.sampled_from([0, 59_999, 60_000]))),
        learned_before=draw(hours),
        published_hour=draw(hours),
        accepted=draw(counts),
        late=draw(counts),
        offsets=draw(offsets),
        windows=draw(st.dictionaries(hours, windows, max_size=3)),
        minutes=draw(st.dictionaries(st.integers(0, LAST_HOUR * 60), windows, max_size=3)),
        is_outdated=draw(st.booleans()),
        has_models=False,
        is_whole=False,
        known=frozenset({"error-rate"}),
        about=b"0123456789ab",
        trained_before=draw(hours),
        judged_before=draw(st.integers(0, LAST_HOUR * 60)),
        live=draw(st.sampled_from([{}, {"error-rate": LiveNormal(FIRST_HOUR, 1.0, 1.0, 0.5)}])),
    )
    if draw(st.booleans()):
        state.minutes = StoredMinutes(b"{}", "key")
    return state


def command_of(state: SubjectState) -> bytes:
    """What is written of one that only counts, by the way of all others."""
    write = encode(state, POLICY)
    ((key, flat),) = write.hashes
    assert not write.removed
    command: tuple[Any, ...] = ("HSET", key, *flat)
    packed: bytes = pack_command(command)
    return packed


@FIRST_LOADS
@given(st.lists(counted(), min_size=1, max_size=4))
def test_a_write_that_only_counts_is_the_same_command(states: list[SubjectState]) -> None:
    for state, write in zip(states, encode_counted(states), strict=True):
        is_usual = max(state.rev + 1, state.accepted, state.late) < 10**18 and state.watermark_ms < NEWEST_MS
        if not is_usual:
            assert write is None
            continue
        assert write == Counted(subject_key(state.subject), b"%d" % state.rev, command_of(state))
        general = encode(state, POLICY)
        texts = (subject_key(state.subject).encode(), dump_hours(state.windows), minutes_of(state))
        assert len(write.command) <= LONGEST_COMMAND + len(orjson.dumps(state.offsets)) + sum(map(len, texts))
        assert (general.key, general.keys, general.commands) == (write.key, list(write.keys), write.commands)
        assert write.size == len(write.command)
        other = replace(state)
        write.apply_to(state)
        general.apply_to(other)
        assert said(state) == said(other)


MORE_THAN_COUNTS: dict[str, Callable[[SubjectState], object]] = {
    "new": lambda state: setattr(state, "rev", 0),
    "of an older version": lambda state: setattr(state, "about", b""),
    "published": lambda state: state.changed.add("error-rate"),
    "whole": lambda state: setattr(state, "is_whole", True),
    "learned": lambda state: state.learned.update({FIRST_HOUR: CallWindow(calls=1)}),
    "with an alert in the store": lambda state: setattr(state, "has_alerts_stored", True),
    "with opinions": lambda state: setattr(state, "opinions", {"error-rate": 1}),
    "with new exclusions": lambda state: setattr(state, "has_new_exclusions", True),
    "beyond any date": lambda state: setattr(state, "published_hour", LAST_HOUR + 1),
    "beyond any number": lambda state: setattr(state, "accepted", 2**63),
}


@pytest.mark.parametrize("what", MORE_THAN_COUNTS)
def test_what_does_more_than_count_goes_the_way_of_all_others(what: str) -> None:
    states = [SubjectState(subject, rev=1, about=b"0123456789ab", is_whole=False) for subject in SUBJECTS[:2]]
    assert None not in encode_counted(states)
    MORE_THAN_COUNTS[what](states[1])
    counting, more = encode_counted(states)
    # Where the numbers of one fit nowhere, all of its part go that way.
    assert counting == encode_counted(states[:1])[0] or what == "beyond any number"
    assert more is None


NONSENSE = st.one_of(
    st.binary(max_size=30),
    st.sampled_from([b"", b"-1", b"-2", b"+1", b"01", b" 1", b"1_0", b"0", b"9" * 20, b"true", b"{}", b"[]"]),
    st.sampled_from(["2026-01-05T09:00", "2026-01-05T09:30", "2026-02-30T09:00", "2100-01-01T00:00"]).map(
        lambda moment: f"{moment}:00Z".encode()
    ),
    counts.map(lambda number: b"%d" % number),
)


@st.composite
def stored(draw: st.DrawFn, subject: Subject) -> Fields:
    """A subject's own hash, some of it changed, taken out or added."""
    state = draw(counted([subject]))
    state.rev, state.is_whole, state.minutes = 0, True, {}
    if subject.kind == "model":
        state.windows, state.known = {}, frozenset({"drift"})
    ((_, flat),) = encode(state, POLICY).others[-1:]
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    found |= {b"rev": b"7", b"minutes": b"{}", b"about": state.about}
    if draw(st.booleans()):
        found[b"exclusions"] = draw(st.sampled_from([b"{}", b"", EXCLUDED]))
    for name in draw(st.lists(st.sampled_from(sorted(found)), max_size=2)):
        found.pop(name, None)
        if draw(st.booleans()):
            found[name] = draw(NONSENSE)
    if draw(st.booleans()):
        found[b"of a later version"] = draw(NONSENSE)
    return found


EXCLUDED = dump_exclusions(
    Exclusions([Exclusion(from_hour=FIRST_HOUR, before_hour=FIRST_HOUR + 2, reason="maintenance", by="ann", at_ms=0)])
)


@FIRST_LOADS
@given(st.data(), st.sampled_from([2, 3]))
def test_counts_are_read_as_one_by_one(data: st.DataObject, version: int) -> None:
    subjects = data.draw(st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=3, unique=True))
    hashes = [data.draw(st.one_of(stored(subject), st.just({}))) for subject in subjects]
    found = Replies(len(subjects))
    for fields in hashes:
        pairs = data.draw(st.one_of(st.just(list(fields.items())), st.permutations(list(fields.items()))))
        found.take(sent(pairs, version))
    assert found.are_whole
    expected = one_by_one(subjects, hashes)
    if isinstance(expected, str):
        with pytest.raises(UnreadableStateError) as other:
            decode_many_counts(subjects, found)
        assert str(other.value).startswith(expected)
        return
    states, older = decode_many_counts(subjects, found)
    assert ({subject: said(state) for subject, state in states.items()}, older) == expected


def one_by_one(
    subjects: Sequence[Subject], hashes: Sequence[Fields]
) -> tuple[dict[Subject, object], list[Subject]] | str:
    """What is said of the states, and those that are to be loaded whole; or which key is damaged."""
    found: dict[Subject, object] = {}
    older = []
    for subject, fields in zip(subjects, hashes, strict=True):
        try:
            state = decode_counts(subject, fields) if fields else None
        except UnreadableStateError as error:
            return str(error).split(": damaged")[0]
        if state is not None:
            found[subject] = said(state)
        elif fields:
            older.append(subject)
    return found, older


def said(state: SubjectState) -> dict[str, object]:
    """All of it, with windows as their text: to read one that is damaged would raise."""
    return {one.name: getattr(state, one.name) for one in fields_of(state)} | {
        "windows": dump_hours(state.windows),
        "minutes": dump_minutes(state.minutes),
        "models": len(state.models),
    }


@FIRST_LOADS
@given(counted(SUBJECTS[:1]))
def test_what_was_written_is_read(state: SubjectState) -> None:
    (write,) = encode_counted([state])
    if write is None:
        return
    first = encode(replace(state, rev=0, is_whole=True), POLICY).others[-1][1]
    own = dict(zip(first[::2], first[1::2], strict=True)) | bulks(write.command)
    own = {b"minutes": b"{}", b"about": state.about} | own
    replies = Replies(1)
    replies.take(sent(list(own.items()), 2))
    states, _ = decode_many_counts([state.subject], replies)
    read = said(states[state.subject])
    write.apply_to(state)
    # Until when it is settled, by whatever it was, is all that is told of that.
    assert read == said(state) | {"trained_before": state.settled_before}


def bulks(command: bytes) -> Fields:
    """The fields that a command sets."""
    reader = Reader()
    reader.feed(command)
    _, _, *flat = reader.gets()
    return dict(zip(flat[::2], flat[1::2], strict=True))
