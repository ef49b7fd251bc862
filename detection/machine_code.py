"""The ways into the compiled core that a worker or the API takes, taken once: its machine code is then in memory.

To read it from the disk, and what Numba needs for that, takes up to a second or two. Whoever waits for something else
anyway, as a worker does for its partitions, does it then; the API would let all who ask wait for the first one who
wants all thresholds.
"""

import numpy as np

from detection.closing import close
from detection.hours import HOUR_MS
from detection.kernel.call_text import read_calls
from detection.kernel.histograms import count_bins as count_packed_bins
from detection.kernel.histograms import range_of_bins
from detection.kernel.id_numbers import number_ids, place_ids
from detection.kernel.latency_bins import count_bins
from detection.kernel.log_records import BATCH_COLUMNS, RECORD_COLUMNS, index_records
from detection.kernel.number_order import order_by_number
from detection.kernel.reply_text import find_replies, join_values
from detection.kernel.subject_text import FIELDS, read_subjects, write_subjects
from detection.kernel.threshold_text import write_lines
from detection.kernel.window_text import LATENCY_US, SUMS, merge_windows, sum_latest
from detection.live import judge_minutes
from detection.live_normals import live_normals, live_normals_of_many
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import CallWindow

_HOUR = 480_000


def load_streaming_code(policy: Policy) -> None:
    """Read no call and add no window of nobody, load and write nobody, close an hour and judge a minute of nobody."""
    time, latency, outcome, biller = np.empty((4, 1), np.int64)
    place, ids, nothing = np.zeros(1, np.int64), np.empty((1, 2), np.int64), np.frombuffer(b"", np.uint8)
    no_text = np.empty(0, np.uint8)
    read_calls(nothing, place, place, time, latency, outcome, biller, ids)
    index_records(nothing, np.empty((0, BATCH_COLUMNS), np.int64), np.empty((RECORD_COLUMNS, 0), np.int64))
    none = place[:0]
    count_bins(none, np.empty(0, np.bool_), none, place, none, none)
    sums = np.empty((SUMS, 0), np.int64)
    merge_windows(nothing, place, none, sums, place, none, none, none, none, none, no_text, place)
    find_replies(no_text, place, 0)
    read_subjects(no_text, place, nothing, none, none, none, np.empty(2 * FIELDS, np.int64))
    write_subjects(none, nothing, place, no_text, place)
    number_ids(nothing, ids[:0], 0, 0, no_text, place, place, place)
    place_ids(no_text, place, 0, 0, place)
    order_by_number(np.empty(0, np.int32), place, np.empty(0, np.int32))
    state = SubjectState(Subject.biller("nobody"), watermark_ms=(_HOUR + 3) * HOUR_MS)
    state.windows = {hour: CallWindow(calls=1) for hour in (_HOUR, _HOUR + 1)}
    close([state], state.watermark_ms, policy)
    live_normals_of_many([(state, {})], policy)
    judge_minutes(live_normals(state, {}, policy), state.minutes, 0, 1)


def load_reading_code() -> None:
    """Read no reply, write the thresholds of no series, and count the bins of none."""
    place, nothing, no_text = np.zeros(1, np.int64), np.frombuffer(b"", np.uint8), np.empty(0, np.uint8)
    none = place[:0]
    find_replies(no_text, place, 0)
    join_values(no_text, place, nothing, place, nothing, no_text, place, none)
    sums = np.empty((LATENCY_US + 1, 0), np.int64)
    sum_latest(no_text, none, none, 0, none, sums)
    table = no_text, place
    places = none, none
    write_lines(
        no_text,
        *places,
        none,
        0,
        *places,
        (table, table, table),
        none,
        none,
        sums,
        no_text,
        0,
        0,
        no_text,
        place,
        *places,
    )
    range_of_bins(nothing)
    count_packed_bins(nothing, place, 0, 1, np.zeros(1))
