"""Hours and minutes that arrived, added to stored ones of many subjects at once, text to text: no window is made."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from detection.counted_windows import CountedWindows, Int64s
from detection.hours import HOUR_MINUTES, MINUTE_MS
from detection.kernel.window_text import LONGEST_BIN, LONGEST_WINDOW, merge_windows
from detection.subject_state import KEPT_MINUTES, Arrivals, SubjectState
from detection.windows import Window
from state.keys import subject_key
from state.stored_windows import StoredHours, StoredMinutes, StoredWindows

Absorbed = tuple[SubjectState, Arrivals]


def absorb_counted(absorbed: Sequence[Absorbed]) -> None:
    """Give the states their windows as `SubjectState.absorb` would, and take them out of the arrivals.

    Where something is unusual, they stay in the arrivals.
    """
    _absorb_hours(absorbed)
    _absorb_minutes(absorbed)


def _absorb_hours(absorbed: Iterable[Absorbed]) -> None:
    some = _same_columns([(one, found) for one in absorbed if (found := _plain(one[0].windows, one[1].windows))])
    if not some:
        return
    columns = some[0][1][1].columns
    merged = _merged([found for _, found in some], HOUR_MINUTES * columns.moment, np.zeros(len(some), np.int64))
    for ((state, arrivals), (_, counted)), now in zip(some, merged, strict=True):
        if now:
            state.windows = StoredHours.changed(now, subject_key(state.subject))
            state.is_outdated |= any(hour < state.published_hour for hour in counted)
            arrivals.windows = None


def _absorb_minutes(absorbed: Iterable[Absorbed]) -> None:
    some = _same_columns([(one, found) for one in absorbed if (found := _plain(one[0].minutes, one[1].minutes))])
    if not some:
        return
    columns = some[0][1][1].columns
    newest_ms = [max(state.watermark_ms, arrivals.watermark_ms) for (state, arrivals), _ in some]
    oldest = np.array(newest_ms, np.int64) // MINUTE_MS - KEPT_MINUTES + 1
    merged = _merged([found for _, found in some], columns.moment, oldest)
    for ((state, arrivals), (text, _)), now in zip(some, merged, strict=True):
        if now:
            arrivals.minutes = None
            if now != text:
                state.minutes = StoredMinutes.changed(now, subject_key(state.subject))


_Plain = tuple[bytes, CountedWindows]


def _plain(known: Mapping[int, Window], arrived: Mapping[int, Window] | None) -> _Plain | None:
    """The text to add to, and what to add, where both are what they nearly always are."""
    if not isinstance(arrived, CountedWindows):
        return None
    if isinstance(known, StoredWindows):
        return known.dump(), arrived
    return None if known else (b"{}", arrived)


def _same_columns(some: list[tuple[Absorbed, _Plain]]) -> list[tuple[Absorbed, _Plain]]:
    return [one for one in some if one[1][1].columns is some[0][1][1].columns]


def _merged(some: Sequence[_Plain], minute: Int64s, oldest: Int64s) -> list[bytes]:
    """The texts with what is added to them; nothing for one that is unusual. `minute` is that of each row."""
    columns = some[0][1].columns
    texts = [text for text, _ in some]
    begin = np.array([one.begin for _, one in some], np.int64)
    end = np.array([one.end for _, one in some], np.int64)
    text_at = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    bins = int((columns.bin_at[end] - columns.bin_at[begin]).sum())
    merged = np.empty(int(text_at[-1] + LONGEST_WINDOW * (end - begin).sum() + LONGEST_BIN * bins), np.uint8)
    merged_at = np.empty(len(some) + 1, np.int64)
    merge_windows(
        np.frombuffer(b"".join(texts), np.uint8),
        text_at,
        minute,
        columns.sums,
        columns.bin_at,
        columns.bin_number,
        columns.bin_count,
        begin,
        end,
        oldest,
        merged,
        merged_at,
    )
    return [merged[start:stop].tobytes() for start, stop in pairwise(merged_at.tolist())]
