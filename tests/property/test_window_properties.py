"""Windows that nobody has looked at go from one write into the next as they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.errors import UnreadableStateError
from detection.hours import iso
from detection.windows import CallWindow, GaugeWindow, Window, add
from state.stored_windows import StoredMinutes, dump_hours, dump_minutes
from state.window_codec import load_hours, load_minutes, moment_text
from tests.property.test_codec_properties import call_windows, gauge_windows

FIRST_MINUTE = 29_400_000
MINUTES = st.integers(FIRST_MINUTE, FIRST_MINUTE + 20)


def minutes(windows: st.SearchStrategy[Window], most: int = 15) -> st.SearchStrategy[dict[int, Window]]:
    return st.dictionaries(MINUTES, windows, max_size=most)


@given(st.one_of(minutes(call_windows()), minutes(gauge_windows())))
def test_windows_come_back_as_they_were(windows: dict[int, Window]) -> None:
    assert load_minutes(dump_minutes(windows)) == windows
    by_hour = {minute // 60: window for minute, window in windows.items()}
    assert load_hours(dump_hours(by_hour)) == by_hour


@given(
    st.one_of(
        st.tuples(minutes(call_windows(), 6), minutes(call_windows(), 6)),
        st.tuples(minutes(gauge_windows(), 4), minutes(gauge_windows(), 4)),
    ),
    st.sets(MINUTES),
    st.lists(st.integers(0, 20), max_size=5),
)
def test_stored_minutes_are_written_as_those_that_were_all_read(
    of_both: tuple[dict[int, Window], dict[int, Window]], dropped: set[int], looked_at: list[int]
) -> None:
    windows, arrived = of_both
    data = dump_minutes(windows)
    stored, read = StoredMinutes(data, "key"), load_minutes(data)
    assert dict(stored.items()) == read
    assert stored.is_untouched
    assert stored.dump() == data
    for at in looked_at:
        assert stored.get(FIRST_MINUTE + at) == read.get(FIRST_MINUTE + at)
    for known in (stored, read):
        for minute, window in load_minutes(dump_minutes(arrived)).items():
            if minute in known:
                add(known[minute], window)
            else:
                known[minute] = window
        for minute in dropped:
            known.pop(minute, None)
    assert dict(stored.items()) == read
    assert dump_minutes(stored) == dump_minutes(read)
    assert stored == read
    assert len(stored) == len(read)
    assert sorted(stored) == sorted(read)


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"{",
        b'{"soon":{}}',
        b'{"2025-11-21T20:00:00Z":{"calls":3}}',
        b'{"2025-11-21T20:00:00Z":{"calls":3,"errors":0,"timeouts":0,"latency_us":"x","latency_us2":0}}',
        b'{"2025-11-21T20:00:00Z":{"calls":3,"errors":0,"timeouts":0,"latency_us":1,"latency_us2":0,"bins":{"a":1}}}',
        b'{"2025-11-21T20:00:00Z":{"events":3}}',
    ],
)
def test_what_cannot_have_been_written_is_not_read(data: bytes) -> None:
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        load_hours(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b'{"2025-11-21T20:00:00Z":{"calls":3',
        b'{"2025-11-21T20:00:00Z":3}',
        b'{"soon":{}}',
        b'{"2025-11-21T20:00:00Z":{"calls":3}}',
        b'{"2025-11-21T20:00:00Z":{"calls":3,"errors":0},"timeouts":{}}',
        b'{"2025-11-21T20:00:00Z":{"events":3}}',
    ],
)
def test_minutes_that_cannot_have_been_written_are_refused_when_they_are_asked_for(data: bytes) -> None:
    stored = StoredMinutes(data, "tidemark:1:{biller:B1}")
    with pytest.raises(UnreadableStateError, match="damaged minutes"):
        _ = dict(stored.items())


def test_spaces_in_stored_minutes_do_no_harm() -> None:
    written = dump_minutes({FIRST_MINUTE: CallWindow(calls=1), FIRST_MINUTE + 1: CallWindow(calls=2)})
    spaced = StoredMinutes(written.replace(b",", b", ").replace(b":{", b" : { "), "key")
    assert spaced[FIRST_MINUTE + 1] == CallWindow(calls=2)
    assert load_minutes(spaced.dump()) == load_minutes(written)


def test_the_bytes_of_a_window_are_those_of_earlier_versions() -> None:
    window = CallWindow(3, 1, 1, 2**53, 2**53 + 1, {70: 1, 9: 2, 100: 1})
    assert dump_hours({490_000: window, 489_999: CallWindow(timeouts=1, calls=1)}) == (
        b'{"2025-11-24T15:00:00Z":{"calls":1,"errors":0,"timeouts":1,"latency_us":0,"latency_us2":0},'
        b'"2025-11-24T16:00:00Z":{"calls":3,"errors":1,"timeouts":1,"latency_us":9007199254740992,'
        b'"latency_us2":"9007199254740993","bins":{"9":2,"70":1,"100":1}}}'
    )
    assert dump_minutes({}) == b"{}"
    assert dump_minutes({FIRST_MINUTE: GaugeWindow(events=2)}) == b'{"2025-11-24T16:00:00Z":{"events":2,"gauges":{}}}'


@given(ms=st.integers(0, 4_102_444_800_000))
def test_a_moment_is_written_as_everywhere_else(ms: int) -> None:
    assert moment_text(ms).decode() == iso(ms)
