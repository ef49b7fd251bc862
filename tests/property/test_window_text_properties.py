"""Windows added to stored ones as text are those that `SubjectState.absorb` adds, for any text and any counts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.counted_windows import CountedWindows, WindowColumns
from detection.errors import UnreadableStateError
from detection.hours import HOUR_MS, MINUTE_MS, iso
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import CallWindow, GaugeWindow, Window
from state.counted_texts import absorb_counted
from state.stored_windows import StoredHours, StoredMinutes, dump_hours, dump_minutes

B1 = Subject.biller("B1")
LAST_MINUTE = 68_374_079
EXACT = 2**53


@dataclass(frozen=True)
class Kind:
    """Hours, or minutes."""

    name: str
    unit_ms: int
    dump: Callable[[dict[int, Window]], bytes]

    @property
    def unit_minutes(self) -> int:
        return self.unit_ms // MINUTE_MS


KINDS = [Kind("windows", HOUR_MS, dump_hours), Kind("minutes", MINUTE_MS, dump_minutes)]
kinds = st.sampled_from(KINDS)

# Around the last day of February of a leap year and of another one, the turn of a year, and both ends of time.
DAYS = [0, 58, 59, 788, 789, 790, 11_015, 11_016, 20_453, 20_454, 21_972, 21_973, 47_481]
first_minutes = st.one_of(st.sampled_from(DAYS).map(lambda day: 1440 * day), st.integers(0, LAST_MINUTE - 2460))
counts = st.integers(0, 2**20)
large = st.one_of(counts, st.integers(0, 2**56), st.sampled_from([EXACT, EXACT + 1, 10**15, 10**18, 2**60, 2**64]))
bin_counts = st.one_of(st.integers(1, 2**20), st.sampled_from([EXACT - 1, EXACT]))
bins = st.dictionaries(st.one_of(st.integers(60, 90), st.integers(0, 255)), bin_counts, max_size=8)


@st.composite
def windows(draw: st.DrawFn) -> CallWindow:
    errors, timeouts = draw(counts), draw(counts)
    some = draw(st.one_of(st.just({}), bins))
    return CallWindow(errors + timeouts + draw(counts), errors, timeouts, draw(large), draw(large), some)


def by_moment(start: int) -> st.SearchStrategy[dict[int, Window]]:
    return st.dictionaries(st.integers(start, start + 40), windows(), max_size=20)


@st.composite
def columns(draw: st.DrawFn, starts: Sequence[int], *, has_bins: bool) -> list[CountedWindows]:
    """For each subject some windows, all of them in the same columns."""
    moments: list[int] = []
    sums: list[list[int]] = []
    binned: list[dict[int, int]] = []
    ends = [0]
    for start in starts:
        for moment in sorted(draw(st.sets(st.integers(start, start + 40), max_size=20))):
            moments.append(moment)
            errors, timeouts = draw(counts), draw(counts)
            squares = [draw(st.integers(0, 2**most)) for most in draw(st.sampled_from([(20, 20, 20), (40, 50, 60)]))]
            sums.append([errors + timeouts + draw(counts), errors, timeouts, draw(st.integers(0, 2**62)), *squares])
            binned.append(dict(sorted(draw(bins).items())) if has_bins else {})
        ends.append(len(moments))
    found = WindowColumns(
        np.array(moments, np.int64),
        np.array(sums, np.int64).reshape(-1, 7).T,
        np.array(list(accumulate(map(len, binned), initial=0)), np.int64),
        np.array([number for one in binned for number in one], np.int64),
        np.array([count for one in binned for count in one.values()], np.int64),
    )
    return [CountedWindows(found, begin, end) for begin, end in pairwise(ends)]


def absorbed(
    kind: Kind,
    stored: Sequence[bytes | None],
    arrived: Sequence[CountedWindows],
    newest: Sequence[int],
    *,
    as_text: bool,
) -> list[tuple[bytes | str, bool]]:
    """The windows of each state afterwards, or what is said of those that cannot be read; whether any was published."""
    states = [SubjectState(B1, published_hour=moment * kind.unit_ms // HOUR_MS) for moment in newest]
    for state, text in zip(states, stored, strict=True):
        if text is not None:
            setattr(state, kind.name, (StoredHours if kind.name == "windows" else StoredMinutes)(text, "key"))
    arrivals = [
        Arrivals(watermark_ms=moment * kind.unit_ms, **{kind.name: one})  # type: ignore[arg-type]
        for one, moment in zip(arrived, newest, strict=True)
    ]
    if as_text:
        absorb_counted(list(zip(states, arrivals, strict=True)))
    found: list[tuple[bytes | str, bool]] = []
    for state, one in zip(states, arrivals, strict=True):
        try:
            state.absorb(one)
            found.append((kind.dump(getattr(state, kind.name)), state.is_outdated))
        except UnreadableStateError as error:
            found.append((str(error), False))
    return found


@settings(deadline=None)
@given(st.data(), kinds)
def test_text_is_merged_as_windows_are(data: st.DataObject, kind: Kind) -> None:
    places = [one // kind.unit_minutes for one in data.draw(st.lists(first_minutes, min_size=1, max_size=4))]
    stored = [data.draw(st.one_of(st.none(), by_moment(start).map(kind.dump))) for start in places]
    arrived = data.draw(columns(places, has_bins=kind.name == "windows"))
    newest = [data.draw(st.integers(start, start + 60)) for start in places]
    ours = absorbed(kind, stored, arrived, newest, as_text=True)
    assert ours == absorbed(kind, stored, arrived, newest, as_text=False)


@settings(deadline=None)
@given(st.data(), kinds, first_minutes)
def test_any_damage_is_left_to_what_reads_windows(data: st.DataObject, kind: Kind, first_minute: int) -> None:
    start = first_minute // kind.unit_minutes
    text = bytearray(kind.dump(data.draw(by_moment(start))))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 1))] = data.draw(
            st.sampled_from([b"0", b"9", b'"', b"}", b"{", b",", b":", b" ", b"\\", b"Z", b""])
        )
        if not text:
            break
    arrived = data.draw(columns([start], has_bins=True))
    newest = [data.draw(st.integers(start, start + 60))]
    ours = absorbed(kind, [bytes(text)], arrived, newest, as_text=True)
    assert ours == absorbed(kind, [bytes(text)], arrived, newest, as_text=False)


@settings(deadline=None)
@given(st.integers(0, LAST_MINUTE))
def test_every_minute_is_named_and_found_again(minute: int) -> None:
    rows = WindowColumns.without_bins(np.array([minute]), np.array([[2], [1], [1], [7], [1], [1], [1]], np.int64))
    state = SubjectState(B1)
    for _ in range(2):
        arrivals = Arrivals(watermark_ms=minute * MINUTE_MS, minutes=CountedWindows(rows, 0, 1))
        absorb_counted([(state, arrivals)])
        assert arrivals.minutes is None
        state.absorb(arrivals)
    assert dump_minutes(state.minutes) == (
        b'{"%b":{"calls":4,"errors":2,"timeouts":2,"latency_us":14,"latency_us2":8590196738}}'
        % iso(minute * MINUTE_MS).encode()
    )


def test_bins_are_added_in_their_order_without_a_window_being_made() -> None:
    sums = np.array([[6, 9], [1, 2], [0, 0], [7, 8], [0, 0], [0, 0], [5, 6]])
    of_both = np.array([0, 3, 5]), np.array([9, 70, 255, 0, 70]), np.array([1, 2, 3, 4, 5])
    rows = WindowColumns(np.array([490_000, 490_001]), sums, *of_both)
    state = SubjectState(B1)
    for _ in range(2):
        arrivals = Arrivals(watermark_ms=490_001 * HOUR_MS, windows=CountedWindows(rows, 0, 2))
        absorb_counted([(state, arrivals)])
        assert arrivals.windows is None
    assert dump_hours(state.windows) == (
        b'{"2025-11-24T16:00:00Z":{"calls":12,"errors":2,"timeouts":0,"latency_us":14,"latency_us2":10,'
        b'"bins":{"9":2,"70":4,"255":6}},'
        b'"2025-11-24T17:00:00Z":{"calls":18,"errors":4,"timeouts":0,"latency_us":16,"latency_us2":12,'
        b'"bins":{"0":8,"70":10}}}'
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_windows_of_the_other_kind_are_left_to_what_refuses_them(kind: Kind) -> None:
    text = kind.dump({490_000: GaugeWindow(events=2)})
    rows = WindowColumns.without_bins(np.array([490_000]), np.array([[2], [1], [1], [7], [1], [1], [1]], np.int64))
    with pytest.raises(TypeError, match="cannot add CallWindow to GaugeWindow"):
        absorbed(kind, [text], [CountedWindows(rows, 0, 1)], [490_000], as_text=True)


def test_what_is_added_to_is_read_once_more_as_it_is() -> None:
    rows = WindowColumns(
        np.array([5, 6]), np.ones((7, 2), np.int64), np.array([0, 1, 3]), np.array([4, 4, 7]), np.array([1, 2, 3])
    )
    one = CountedWindows(rows, 0, 2)
    assert list(one) == [5, 6]
    assert dict(one.items()) == {minute: one[minute] for minute in (5, 6)}
    assert one[6].bins == {4: 2, 7: 3}
    assert one.get(7) is None
    found: list[Window] = [one[5], one[5]]
    found[0].calls += 1  # type: ignore[union-attr]
    assert found[1].calls == 1  # type: ignore[union-attr]
