"""What is published of many series: each as the line of JSON that a reader is sent, made of the text that is stored.

What is written is, to the byte, what `api.ready` says of one series. Whatever is unusual in any way is left to it: a
young series, an infinity, a value of the last minutes that is beyond the threshold or too near to it to tell, a text
that nobody of ours has written.

Numbers are handed on as the digits that are stored, once they are numbers of JSON. Where one is compared, it is read to
some 15 digits, and what a difference that small would decide is unusual.
"""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled
from detection.kernel.number_text import read_real
from detection.kernel.time_text import LENGTH, put_minute, read_minute
from detection.kernel.uncounted import uncounted

Octets = NDArray[np.uint8]
Whole = NDArray[np.int64]
# Texts in one array, and where they end: text k begins where the one before it ends.
Table = tuple[Octets, Whole]
Tables = tuple[Table, Table, Table]

# What a series comes to: it is not published; it was written, and is `ready` or `stale`; it was not written.
UNPUBLISHED, READY, STALE, UNUSUAL = range(4)

# The fields of a stored series that are needed, in the order in which their places are told.
NEEDED = (
    "unit",
    "operator",
    "status",
    "estimate",
    "lower",
    "upper",
    "threshold",
    "expected_calls",
    "window_start",
    "valid_until",
    "n_learned",
    "min_calls",
    "last",
)
_UNIT, _OPERATOR, _STATUS, _ESTIMATE, _LOWER, _UPPER, _THRESHOLD, _EXPECTED = range(8)
_WINDOW_START, _VALID_UNTIL, _N_LEARNED, _MIN_CALLS, _LAST = range(8, 13)
_NUMBERS = np.array([_ESTIMATE, _LOWER, _UPPER, _THRESHOLD, _EXPECTED, _N_LEARNED, _MIN_CALLS])

# Which of the sums of the last minutes a metric is the value of; none of them.
MEAN_LATENCY, ERROR_SHARE, TIMEOUT_SHARE, NO_VALUE = range(4)
_CALLS, _ERRORS, _TIMEOUTS, _LATENCY_US = range(4)

# Of a table of cohorts, each metric's: a size class for each of these ends, one below them, and any size.
SIZE_ENDS = np.array([1e1, 1e2, 1e3, 1e4, 1e5, 1e6])
SIZES = len(SIZE_ENDS) + 2
_ANY_SIZE = SIZES - 1

# Of a version.
DIGEST_BYTES = 6

_HOUR_MINUTES = 60
_MINUTE_MS = 60_000
# What a number that was read may be away from the one that is meant, and more.
_CLOSE = 1e-9

_QUOTE, _BACKSLASH, _COMMA, _ZERO, _NINE = (ord(one) for one in '"\\,09')
_FEED, _CLOSING, _SPACE, _LAST_PLAIN, _ABOVE, _BELOW = (ord(one) for one in "\n} ~><")
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)

_WORDS = (
    b'{"subject":"', b'","metric":"', b'","estimate":', b',"lower":', b',"upper":', b',"threshold":', b',"operator":"',
    b'","unit":"', b'","window_start":"', b'","window_end":"', b'","valid_until":"', b'","version":"', b'","status":"',
    b'","n_learned":', b',"last_window":', b',"last_value":', b',"alert":{"is_alert":', b',"evidence":',
    b'{"source":"hour","window_start":"', b'","window_end":"', b'","value":', b',"calls":', b',"min_calls":',
    b',"threshold":', b',"score":', b"}", b"}}\n", b"null", b"true", b"false", b"ready", b"stale", b",",
    b'{"verdict":"', b'","window":"', b'","count":', b',"value":', b',"estimate":', b',"is_credible":', b',"is_alert":',
)  # fmt: skip
(
    _W_SUBJECT, _W_METRIC, _W_ESTIMATE, _W_LOWER, _W_UPPER, _W_THRESHOLD, _W_OPERATOR,
    _W_UNIT, _W_START, _W_END, _W_VALID, _W_VERSION, _W_STATUS,
    _W_LEARNED, _W_LAST_WINDOW, _W_LAST_VALUE, _W_ALERT, _W_EVIDENCE,
    _W_SOURCE, _W_EVIDENCE_END, _W_EVIDENCE_VALUE, _W_CALLS, _W_MIN_CALLS,
    _W_BEYOND, _W_SCORE, _W_CLOSE, _W_LINE_END, _W_NULL, _W_TRUE, _W_FALSE, _W_READY, _W_STALE, _W_COMMA,
    _L_VERDICT, _L_WINDOW, _L_COUNT, _L_VALUE, _L_ESTIMATE, _L_CREDIBLE, _L_ALERT,
) = range(len(_WORDS))  # fmt: skip
_WORD = np.frombuffer(b"".join(_WORDS), np.uint8)
_WORD_AT = np.cumsum(np.array([0, *map(len, _WORDS)]))

# No line is longer than twice the stored text, what its subject, metric and cohort are called, and this.
LONGEST = len(_WORD) + 200

# Of the last verdict: its hour, whether it alerts, and where its count, value, threshold and score begin and end.
_V_HOUR, _V_ALERT, _V_COUNT, _V_VALUE, _V_BEYOND, _V_SCORE = 0, 1, 2, 4, 6, 8
_VERDICT_SIZE = 10
_NOWHERE = -1


@compiled
def write_lines(
    text: Octets,
    begin: Whole,
    end: Whole,
    field: Whole,
    fields: int,
    subject: Whole,
    metric: Whole,
    tables: Tables,
    value_of: Whole,
    newest: Whole,
    sums: Whole,
    digests: Octets,
    clock_ms: int,
    overdue_ms: int,
    lines: Octets,
    line_end: Whole,
    kind: Whole,
    window: Whole,
) -> None:
    """Write the lines of N series, line i from `line_end[i]` to `line_end[i + 1]`, and what each came to into `kind`.

    Series i is in the text from `begin[i]` to `end[i]`, as exactly so many `fields`, a line each, of which `field` has
    the places of the NEEDED ones. It is `metric[i]` of `subject[i]`; the tables are what the subjects and the metrics
    are called, and what is said of their cohorts, with its name: of metric m and size s in row m * SIZES + s. `newest`
    and `sums` are those of the last minutes of each subject, as `window_text.sum_latest` gives them, and metric m is
    the value `value_of[m]` of them. From i * DIGEST_BYTES on, `digests` has its version. `window[i]` is the minute that
    the published hour begins with, where a line was written.
    """
    split = np.zeros(fields + 1, np.int64)
    places = np.zeros((len(NEEDED), 2), np.int64)
    verdict = np.zeros(_VERDICT_SIZE, np.int64)
    text, lines = uncounted(text), uncounted(lines)
    subjects, metrics, cohorts = _uncounted(tables[0]), _uncounted(tables[1]), _uncounted(tables[2])
    at = 0
    for i in range(len(begin)):
        line_end[i] = at
        kind[i] = UNUSUAL
        if not _split(text, begin[i], end[i], split):
            continue
        for one in range(len(field)):
            places[one, 0], places[one, 1] = split[field[one]], split[field[one] + 1] - 1
        if places[_STATUS, 0] == places[_STATUS, 1]:
            kind[i] = UNPUBLISHED
            continue
        if not _is_plain(text, places) or not _read_verdict(text, places[_LAST, 0], places[_LAST, 1], verdict):
            continue
        operator = text[places[_OPERATOR, 0]]
        threshold = read_real(text, places[_THRESHOLD, 0], places[_THRESHOLD, 1])
        if not _is_within(threshold, operator, value_of[metric[i]], newest[subject[i]], sums[:, subject[i]]):
            continue
        size = _size(read_real(text, places[_EXPECTED, 0], places[_EXPECTED, 1]))
        window[i], valid = _minute(text, places, _WINDOW_START), _minute(text, places, _VALID_UNTIL)
        if size < 0 or window[i] < 0 or valid < 0:
            continue
        kind[i] = STALE if clock_ms > valid * _MINUTE_MS + overdue_ms else READY
        at = _put_word(lines, at, _W_SUBJECT)
        at = _put_row(lines, at, subjects, subject[i])
        at = _put_word(lines, at, _W_METRIC)
        at = _put_row(lines, at, metrics, metric[i])
        at = _put_published(lines, at, text, places, window[i])
        for one in range(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES):
            lines[at], lines[at + 1] = _HEX[digests[one] >> 4], _HEX[digests[one] & 15]
            at += 2
        at = _put_word(lines, at, _W_STATUS)
        at = _put_word(lines, at, _W_STALE if kind[i] == STALE else _W_READY)
        at = _put_field(lines, at, _W_LEARNED, text, places, _N_LEARNED)
        at = _put_word(lines, at, _W_COMMA)
        at = _put_row(lines, at, cohorts, metric[i] * SIZES + size)
        if kind[i] == STALE or window[i] - verdict[_V_HOUR] > _HOUR_MINUTES:
            verdict[_V_ALERT] = 0
        at = _put_verdict(lines, at, text, places, verdict)
        at = _put_word(lines, at, _W_LINE_END)
    line_end[len(begin)] = at


@compiled
def _uncounted(table: Table) -> Table:
    return uncounted(table[0]), uncounted(table[1])


@compiled
def _split(text: Octets, at: int, stop: int, split: Whole) -> bool:
    """Whether there are as many lines as expected; `split` is then where each begins, and one behind the last's end.

    The last but one, which is the longest by far and of which nothing is needed, is not looked through.
    """
    fields = len(split) - 1
    split[0] = at
    found = 1
    while at < stop and found < fields - 1:
        if text[at] == _FEED:
            split[found] = at + 1
            found += 1
        at += 1
    last = stop
    while last > at and text[last - 1] != _FEED:
        last -= 1
    split[fields - 1] = last
    split[fields] = stop + 1
    return found == fields - 1 and last > at


@compiled
def _is_plain(text: Octets, places: Whole) -> bool:
    """Whether the series is `ready`, its numbers are numbers, and its unit has no letter that JSON would escape."""
    stop = places[_STATUS, 1]
    if _behind(text, places[_STATUS, 0], stop, _W_READY) != stop:
        return False
    at = places[_OPERATOR, 0]
    if places[_OPERATOR, 1] - at != 1 or (text[at] != _ABOVE and text[at] != _BELOW):
        return False
    for one in range(places[_UNIT, 0], places[_UNIT, 1]):
        if not _is_letter(text[one]):
            return False
    for one in _NUMBERS:
        if np.isnan(read_real(text, places[one, 0], places[one, 1])):
            return False
    return True


@compiled
def _is_letter(octet: int) -> bool:
    """Whether it stands for itself in a string of JSON."""
    return _SPACE <= octet <= _LAST_PLAIN and octet not in (_QUOTE, _BACKSLASH)


@compiled
def _is_within(threshold: float, operator: int, value_of: int, newest: int, sums: Whole) -> bool:
    """Whether the last minutes are clearly within the threshold, or say nothing of this metric."""
    if newest < 0:
        # None at all; a text that is unusual has another number.
        return newest == -1
    if value_of == NO_VALUE:
        return True
    calls = sums[_CALLS] - (sums[_TIMEOUTS] if value_of == MEAN_LATENCY else 0)
    if calls <= 0:
        return True
    if value_of == MEAN_LATENCY:
        value = sums[_LATENCY_US] / calls / 1000.0
    else:
        value = 100.0 * sums[_ERRORS if value_of == ERROR_SHARE else _TIMEOUTS] / calls
    margin = _CLOSE * max(abs(value), abs(threshold))
    return value <= threshold - margin if operator == _ABOVE else value >= threshold + margin


@compiled
def _minute(text: Octets, places: Whole, field: int) -> int:
    """What this field says and nothing else; -1 for anything else."""
    is_as_long = places[field, 1] - places[field, 0] == LENGTH
    return read_minute(text, places[field, 0], places[field, 1]) if is_as_long else -1


@compiled
def _size(expected: float) -> int:
    """The size class; -1 where it is too near to the end of one to tell."""
    if not expected > 0.0:
        return _ANY_SIZE
    size = 0
    for end in SIZE_ENDS:
        if abs(expected - end) <= _CLOSE * end:
            return -1
        size += expected > end
    return size


@compiled
def _read_verdict(text: Octets, at: int, stop: int, verdict: Whole) -> bool:
    """Whether this is a verdict as it is stored, or none; what is needed of it is then in the array."""
    verdict[:] = _NOWHERE
    verdict[_V_ALERT] = 0
    if at == stop:
        return True
    at = _behind(text, at, stop, _L_VERDICT)
    while 0 <= at < stop and text[at] != _QUOTE:
        if not _is_letter(text[at]):
            return False
        at += 1
    at = _behind(text, at, stop, _L_WINDOW)
    if at < 0:
        return False
    verdict[_V_HOUR] = read_minute(text, at, stop)
    if verdict[_V_HOUR] < 0:
        return False
    at = _behind(text, at + LENGTH, stop, _L_COUNT)
    at = _behind(text, _read_value(text, at, stop, verdict, _V_COUNT), stop, _L_VALUE)
    at = _read_value(text, at, stop, verdict, _V_VALUE)
    if at == stop - 1 and text[at] == _CLOSING:
        return _is_count(text, verdict[_V_COUNT], verdict[_V_COUNT + 1])
    # It is not handed on.
    at = _read_value(text, _behind(text, at, stop, _L_ESTIMATE), stop, verdict, _V_SCORE)
    at = _read_value(text, _behind(text, at, stop, _W_THRESHOLD), stop, verdict, _V_BEYOND)
    at = _read_value(text, _behind(text, at, stop, _W_SCORE), stop, verdict, _V_SCORE)
    credible = _behind(text, at, stop, _L_CREDIBLE)
    at = max(_behind(text, credible, stop, _W_TRUE), _behind(text, credible, stop, _W_FALSE))
    alert = _behind(text, at, stop, _L_ALERT)
    is_alert = _behind(text, alert, stop, _W_TRUE)
    at = max(is_alert, _behind(text, alert, stop, _W_FALSE))
    verdict[_V_ALERT] = is_alert >= 0
    is_whole = at == stop - 1 and text[at] == _CLOSING
    return is_whole and _is_count(text, verdict[_V_COUNT], verdict[_V_COUNT + 1])


@compiled
def _is_count(text: Octets, at: int, stop: int) -> bool:
    """Whether this number has nothing but digits."""
    for one in range(at, stop):
        if not _ZERO <= text[one] <= _NINE:
            return False
    return True


@compiled
def _read_value(text: Octets, at: int, stop: int, verdict: Whole, place: int) -> int:
    """The place behind a number, or one in quotes, which is not finite; -1 for anything else, or where `at` is."""
    if at < 0:
        return -1
    behind = at
    while behind < stop and text[behind] != _COMMA and text[behind] != _CLOSING:
        behind += 1
    if behind in (at, stop):
        return -1
    verdict[place], verdict[place + 1] = at, behind
    if text[at] != _QUOTE:
        return -1 if np.isnan(read_real(text, at, behind)) else behind
    for one in range(at + 1, behind - 1):
        if not _is_letter(text[one]):
            return -1
    return behind if behind - at > 1 and text[behind - 1] == _QUOTE else -1


@compiled
def _put_published(lines: Octets, at: int, text: Octets, places: Whole, start: int) -> int:
    """From the estimate to where the version is written."""
    at = _put_field(lines, at, _W_ESTIMATE, text, places, _ESTIMATE)
    at = _put_field(lines, at, _W_LOWER, text, places, _LOWER)
    at = _put_field(lines, at, _W_UPPER, text, places, _UPPER)
    at = _put_field(lines, at, _W_THRESHOLD, text, places, _THRESHOLD)
    at = _put_field(lines, at, _W_OPERATOR, text, places, _OPERATOR)
    at = _put_field(lines, at, _W_UNIT, text, places, _UNIT)
    at = _put_field(lines, at, _W_START, text, places, _WINDOW_START)
    at = put_minute(lines, _put_word(lines, at, _W_END), start + _HOUR_MINUTES)
    at = _put_field(lines, at, _W_VALID, text, places, _VALID_UNTIL)
    return _put_word(lines, at, _W_VERSION)


@compiled
def _put_verdict(lines: Octets, at: int, text: Octets, places: Whole, verdict: Whole) -> int:
    """The rest of the line, from the last window on."""
    hour = verdict[_V_HOUR]
    at = _put_word(lines, at, _W_LAST_WINDOW)
    if hour == _NOWHERE:
        at = _put_word(lines, at, _W_NULL)
    else:
        lines[at] = _QUOTE
        at = put_minute(lines, at + 1, hour)
        lines[at] = _QUOTE
        at += 1
    at = _put_value(lines, _put_word(lines, at, _W_LAST_VALUE), text, verdict, _V_VALUE)
    at = _put_word(lines, _put_word(lines, at, _W_ALERT), _W_TRUE if verdict[_V_ALERT] else _W_FALSE)
    at = _put_word(lines, at, _W_EVIDENCE)
    if verdict[_V_SCORE] == _NOWHERE:
        return _put_word(lines, at, _W_NULL)
    at = put_minute(lines, _put_word(lines, at, _W_SOURCE), hour)
    at = put_minute(lines, _put_word(lines, at, _W_EVIDENCE_END), hour + _HOUR_MINUTES)
    at = _put_value(lines, _put_word(lines, at, _W_EVIDENCE_VALUE), text, verdict, _V_VALUE)
    at = _put_value(lines, _put_word(lines, at, _W_CALLS), text, verdict, _V_COUNT)
    at = _put_field(lines, at, _W_MIN_CALLS, text, places, _MIN_CALLS)
    at = _put_value(lines, _put_word(lines, at, _W_BEYOND), text, verdict, _V_BEYOND)
    at = _put_value(lines, _put_word(lines, at, _W_SCORE), text, verdict, _V_SCORE)
    return _put_word(lines, at, _W_CLOSE)


@compiled
def _put_value(lines: Octets, at: int, text: Octets, verdict: Whole, place: int) -> int:
    """JSON has no infinity, and what is not there is null too."""
    if verdict[place] == _NOWHERE or text[verdict[place]] == _QUOTE:
        return _put_word(lines, at, _W_NULL)
    return _put(lines, at, text, verdict[place], verdict[place + 1])


@compiled
def _put_field(lines: Octets, at: int, word: int, text: Octets, places: Whole, field: int) -> int:
    return _put(lines, _put_word(lines, at, word), text, places[field, 0], places[field, 1])


@compiled
def _put_row(lines: Octets, at: int, table: Table, row: int) -> int:
    return _put(lines, at, table[0], table[1][row], table[1][row + 1])


@compiled
def _put_word(lines: Octets, at: int, word: int) -> int:
    return _put(lines, at, _WORD, _WORD_AT[word], _WORD_AT[word + 1])


@compiled
def _put(lines: Octets, at: int, text: Octets, begin: int, end: int) -> int:
    for one in range(end - begin):
        lines[at + one] = text[begin + one]
    return at + end - begin


@compiled
def _behind(text: Octets, at: int, stop: int, word: int) -> int:
    """The place behind this word, if it is here; -1 where it is not, or `at` is -1 already."""
    length = _WORD_AT[word + 1] - _WORD_AT[word]
    if at < 0 or stop - at < length:
        return -1
    for one in range(length):
        if text[at + one] != _WORD[_WORD_AT[word] + one]:
            return -1
    return at + length
