"""Minutes that arrived, added to stored ones of many subjects at once: text to text, and nothing is made of it."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from detection.counted_minutes import CountedMinutes
from detection.hours import MINUTE_MS
from detection.kernel.minute_text import LONGEST_MINUTE, merge_minutes
from detection.subject_state import KEPT_MINUTES, Arrivals, SubjectState
from state.keys import subject_key
from state.window_codec import StoredMinutes


def absorb_minutes(absorbed: Iterable[tuple[SubjectState, Arrivals]]) -> None:
    """Give the states their minutes as `SubjectState.absorb` would, and take them out of the arrivals.

    Where something is unusual, the minutes stay in the arrivals.
    """
    some = [(*one, found) for one in absorbed if (found := _plain(*one)) is not None]
    if not some:
        return
    columns = some[0][2][1].columns
    some = [one for one in some if one[2][1].columns is columns]
    texts = [text for *_, (text, _) in some]
    counted = [minutes for *_, (_, minutes) in some]
    begin = np.array([one.begin for one in counted], np.int64)
    end = np.array([one.end for one in counted], np.int64)
    newest_ms = np.array([max(state.watermark_ms, arrivals.watermark_ms) for state, arrivals, _ in some], np.int64)
    text_at = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    merged = np.empty(int(text_at[-1] + LONGEST_MINUTE * (end - begin).sum()), np.uint8)
    merged_at = np.empty(len(some) + 1, np.int64)
    merge_minutes(
        np.frombuffer(b"".join(texts), np.uint8),
        text_at,
        columns.minute,
        columns.sums,
        begin,
        end,
        newest_ms // MINUTE_MS - KEPT_MINUTES + 1,
        merged,
        merged_at,
    )
    for (state, arrivals, (text, _)), (start, stop) in zip(some, pairwise(merged_at.tolist()), strict=True):
        if start == stop:
            continue
        arrivals.minutes = None
        now = merged[start:stop].tobytes()
        if now != text:
            state.minutes = StoredMinutes.changed(now, subject_key(state.subject))


def _plain(state: SubjectState, arrivals: Arrivals) -> tuple[bytes, CountedMinutes] | None:
    """The text to add to, and what to add, where both are what they nearly always are."""
    known, arrived = state.minutes, arrivals.minutes
    text = known.text if isinstance(known, StoredMinutes) else None if known else b"{}"
    return None if text is None or not isinstance(arrived, CountedMinutes) else (text, arrived)
