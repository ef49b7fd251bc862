"""Minutes added to stored ones as text are those that `SubjectState.absorb` adds, for any text and any counts."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.counted_minutes import CountedMinutes, MinuteColumns
from detection.errors import UnreadableStateError
from detection.hours import MINUTE_MS, iso
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import CallWindow, Window
from state.minute_texts import absorb_minutes
from state.window_codec import StoredMinutes, dump_minutes

B1 = Subject.biller("B1")
LAST_MINUTE = 68_374_079
EXACT = 2**53

# Around the last day of February of a leap year and of another one, the turn of a year, and both ends of time.
DAYS = [0, 58, 59, 788, 789, 790, 11_015, 11_016, 20_453, 20_454, 21_972, 21_973, 47_481]
starts = st.one_of(st.sampled_from(DAYS).map(lambda day: 1440 * day), st.integers(0, LAST_MINUTE - 100))
counts = st.integers(0, 2**20)
large = st.one_of(counts, st.integers(0, 2**56), st.sampled_from([EXACT, EXACT + 1, 10**15, 10**18, 2**60, 2**64]))


@st.composite
def windows(draw: st.DrawFn) -> CallWindow:
    errors, timeouts = draw(counts), draw(counts)
    return CallWindow(errors + timeouts + draw(counts), errors, timeouts, draw(large), draw(large))


def by_minute(start: int) -> st.SearchStrategy[dict[int, CallWindow]]:
    return st.dictionaries(st.integers(start, start + 40), windows(), max_size=20)


@st.composite
def columns(draw: st.DrawFn, starts: Sequence[int]) -> list[CountedMinutes]:
    """For each subject some minutes, all of them in the same columns."""
    minutes: list[int] = []
    sums: list[list[int]] = []
    ends = [0]
    for start in starts:
        for minute in sorted(draw(st.sets(st.integers(start, start + 40), max_size=20))):
            minutes.append(minute)
            errors, timeouts = draw(counts), draw(counts)
            squares = [draw(st.integers(0, 2**most)) for most in draw(st.sampled_from([(20, 20, 20), (40, 50, 60)]))]
            sums.append([errors + timeouts + draw(counts), errors, timeouts, draw(st.integers(0, 2**62)), *squares])
        ends.append(len(minutes))
    found = MinuteColumns(np.array(minutes, np.int64), np.array(sums, np.int64).reshape(-1, 7).T)
    return [CountedMinutes(found, begin, end) for begin, end in pairwise(ends)]


def absorbed(
    stored: Sequence[bytes | None], arrived: Sequence[CountedMinutes], newest: Sequence[int], *, as_text: bool
) -> list[bytes | str]:
    """The minutes of each state afterwards; what is said of those that cannot be read."""
    states = [SubjectState(B1) for _ in stored]
    for state, text in zip(states, stored, strict=True):
        if text is not None:
            state.minutes = StoredMinutes(text, "key")
    arrivals = [
        Arrivals(watermark_ms=minute * MINUTE_MS, minutes=one) for one, minute in zip(arrived, newest, strict=True)
    ]
    if as_text:
        absorb_minutes(zip(states, arrivals, strict=True))
    found: list[bytes | str] = []
    for state, one in zip(states, arrivals, strict=True):
        try:
            state.absorb(one)
            found.append(dump_minutes(state.minutes))
        except UnreadableStateError as error:
            found.append(str(error))
    return found


@settings(deadline=None)
@given(st.data())
def test_text_is_merged_as_windows_are(data: st.DataObject) -> None:
    places = data.draw(st.lists(starts, min_size=1, max_size=4))
    stored = [data.draw(st.one_of(st.none(), by_minute(start).map(dump_minutes))) for start in places]
    arrived = data.draw(columns(places))
    newest = [data.draw(st.integers(start, start + 60)) for start in places]
    assert absorbed(stored, arrived, newest, as_text=True) == absorbed(stored, arrived, newest, as_text=False)


@settings(deadline=None)
@given(st.data(), starts)
def test_any_damage_is_left_to_what_reads_windows(data: st.DataObject, start: int) -> None:
    text = bytearray(dump_minutes(data.draw(by_minute(start))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 1))] = data.draw(
            st.sampled_from([b"0", b"9", b'"', b"}", b"{", b",", b" ", b"\\", b"Z", b""])
        )
        if not text:
            break
    arrived = data.draw(columns([start]))
    newest = [data.draw(st.integers(start, start + 60))]
    ours = absorbed([bytes(text)], arrived, newest, as_text=True)
    assert ours == absorbed([bytes(text)], arrived, newest, as_text=False)


@settings(deadline=None)
@given(st.integers(0, LAST_MINUTE))
def test_every_minute_is_named_and_found_again(minute: int) -> None:
    rows = MinuteColumns(np.array([minute], np.int64), np.array([[2], [1], [1], [7], [1], [1], [1]], np.int64))
    state = SubjectState(B1)
    for _ in range(2):
        arrivals = Arrivals(watermark_ms=minute * MINUTE_MS, minutes=CountedMinutes(rows, 0, 1))
        absorb_minutes([(state, arrivals)])
        assert arrivals.minutes is None
        state.absorb(arrivals)
    text = state.minutes.text if isinstance(state.minutes, StoredMinutes) else b""
    assert text == b'{"%b":{"calls":4,"errors":2,"timeouts":2,"latency_us":14,"latency_us2":8590196738}}' % (
        iso(minute * MINUTE_MS).encode()
    )


def test_what_is_added_to_is_read_once_more_as_it_is() -> None:
    rows = MinuteColumns(np.array([5, 6], np.int64), np.ones((7, 2), np.int64))
    one = CountedMinutes(rows, 0, 2)
    assert list(one) == [5, 6]
    assert dict(one.items()) == {minute: one[minute] for minute in (5, 6)}
    assert one.get(7) is None
    windows: list[Window] = [one[5], one[5]]
    windows[0].calls += 1  # type: ignore[union-attr]
    assert windows[1].calls == 1  # type: ignore[union-attr]
