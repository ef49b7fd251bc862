"""Calls as JSON text, many at a time: the plain ones, as nearly all of them are, read by machine code.

What is read here is, to the last bit, what `detection.events` reads of the same text. Whatever is unusual in any way is
left to it, good or bad: escapes, letters beyond ASCII, exponents, more than fifteen digits, literals and nested values,
a name that comes twice, times as text. So one place says what a call is, and why something else is none.

JSON is that of RFC 8259; the way from digits to a double is Clinger's fast path ("How to Read Floating Point Numbers
Accurately", 1990): a whole number below 2^53 divided by a power of ten up to 10^22, both of them exact.
"""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled
from detection.kernel.uncounted import uncounted

Octets = NDArray[np.uint8]
Whole = NDArray[np.int64]

# In the column `outcome`: this text was not read.
UNREAD = -1

_OK, _ERROR, _TIMEOUT = 0, 1, 2
_BILLER_ID, _TIMESTAMP, _LATENCY_MS, _OUTCOME, _STATUS = 1, 2, 4, 8, 16
_NEEDED = _BILLER_ID | _TIMESTAMP | _LATENCY_MS
_FIRST_SERVER_ERROR = 500
_MAX_LATENCY_MS = 3_600_000.0
_LONGEST_ID = 128
# No double has fewer exact digits.
_DIGITS = 15
_POWERS_OF_TEN = 10.0 ** np.arange(_DIGITS + 1)

_QUOTE, _BACKSLASH, _COMMA, _COLON, _DOT, _MINUS, _ZERO, _NINE = (ord(one) for one in '"\\,:.-09')
_OPEN, _CLOSE, _SPACE, _TAB, _FEED, _RETURN, _LAST_PLAIN = (ord(one) for one in "{} \t\n\r~")

# The letters of `detection.subject.PART_RULE`: 2 where an id may begin with it, 1 where it may go on.
_ID_LETTERS = np.array(
    [2 if chr(one).isalnum() and one < 128 else 1 if chr(one) in "._@+=-" else 0 for one in range(256)], np.uint8
)
_NAMES = np.frombuffer(b"biller_idtimestamplatency_msoutcomestatus", np.uint8)
_OUTCOMES = np.frombuffer(b"okerrortimeout", np.uint8)

# Where ids that differ share a place, so many others are looked at; one beyond them gets a second number.
_PROBES = 32


@compiled
def read_calls(
    text: Octets,
    starts: Whole,
    ends: Whole,
    timestamp_ms: Whole,
    latency_us: Whole,
    outcome: Whole,
    biller: Whole,
    ids: Whole,
) -> int:
    """Read N texts, each from its place in `starts` to that in `ends`, into columns of N numbers.

    `outcome` is UNREAD where a text is left to others, and nothing else then is in its row. `biller` numbers the ids;
    row k of `ids` (N, 2) says from where to where in the text the k-th one is. Returns how many there are. An id may
    have several numbers.
    """
    found = np.zeros(6, np.int64)
    size = 16
    while size < 2 * len(ends):
        size *= 2
    table = np.full(size, -1, np.int64)
    known = 0
    text = uncounted(text)
    for i in range(len(ends)):
        if _read_call(text, starts[i], ends[i], found):
            timestamp_ms[i], latency_us[i], outcome[i] = found[0], found[1], found[2]
            number = _number_of(text, found[3], found[4], table, ids, known)
            if number == known:
                ids[known, 0], ids[known, 1] = found[3], found[4]
                known += 1
            biller[i] = number
        else:
            outcome[i] = UNREAD
    return known


@compiled
def _number_of(text: Octets, start: int, end: int, table: Whole, ids: Whole, known: int) -> int:
    """The number of an id, `known` for a new one: FNV-1a, and the next place where another one has it."""
    mixed = np.uint64(14695981039346656037)
    for at in range(start, end):
        mixed = (mixed ^ np.uint64(text[at])) * np.uint64(1099511628211)
    mixed ^= mixed >> np.uint64(32)
    place = np.int64(mixed & np.uint64(len(table) - 1))
    for _ in range(_PROBES):
        number = table[place]
        if number < 0:
            table[place] = known
            return known
        if ids[number, 1] - ids[number, 0] == end - start:
            is_same = True
            for at in range(end - start):
                if text[ids[number, 0] + at] != text[start + at]:
                    is_same = False
                    break
            if is_same:
                return number
        place = (place + 1) & (len(table) - 1)
    return known


@compiled
def _read_call(text: Octets, at: int, end: int, found: Whole) -> bool:
    """Whether this is one plain call, which is then in `found`: time in ms, latency in us, outcome, id from and to."""
    at = _skip_space(text, at, end)
    if at >= end or text[at] != _OPEN:
        return False
    seen = 0
    while True:
        name = _skip_space(text, at + 1, end)
        at = _end_of_string(text, name, end)
        if at < 0:
            return False
        field = _field(text, name + 1, at - 1)
        at = _skip_space(text, at, end)
        if seen & field or at >= end or text[at] != _COLON:
            return False
        seen |= field
        at = _read_value(text, _skip_space(text, at + 1, end), end, field, found)
        if at < 0:
            return False
        at = _skip_space(text, at, end)
        if at >= end or (text[at] != _COMMA and text[at] != _CLOSE):
            return False
        if text[at] == _CLOSE:
            break
    if not seen & _OUTCOME:
        found[2] = found[5]
    is_whole = seen & _NEEDED == _NEEDED and seen & (_OUTCOME | _STATUS) != 0
    return is_whole and _skip_space(text, at + 1, end) == end


@compiled
def _read_value(text: Octets, at: int, end: int, field: int, found: Whole) -> int:
    """Behind the value of this field, which is then in `found`; -1 for what is not plain or not good."""
    if field == _BILLER_ID:
        return _read_id(text, at, end, found)
    if field == _TIMESTAMP:
        start, at = at, _end_of_digits(text, at, end)
        found[0] = _whole(text, start, at)
        return at
    if field == _LATENCY_MS:
        return _read_latency(text, at, end, found)
    if field == _OUTCOME:
        start, at = at, _end_of_string(text, at, end)
        found[2] = _outcome(text, start + 1, at - 1)
        return at if found[2] != UNREAD else -1
    if field == _STATUS:
        start, at = at, _end_of_digits(text, at, end)
        status = _whole(text, start, at)
        found[5] = _ERROR if status >= _FIRST_SERVER_ERROR else _OK
        return at if 100 <= status <= 599 else -1
    if at < end and text[at] == _QUOTE:
        return _end_of_string(text, at, end)
    return _end_of_number(text, at, end)


@compiled
def _read_id(text: Octets, at: int, end: int, found: Whole) -> int:
    start, at = at + 1, _end_of_string(text, at, end)
    if not 0 < at - 1 - start <= _LONGEST_ID or _ID_LETTERS[text[start]] != 2:
        return -1
    for one in range(start + 1, at - 1):
        if not _ID_LETTERS[text[one]]:
            return -1
    found[3], found[4] = start, at - 1
    return at


@compiled
def _read_latency(text: Octets, at: int, end: int, found: Whole) -> int:
    start, at = at, _end_of_digits(text, at, end)
    mantissa = _whole(text, start, at)
    behind = 0
    if 0 <= at < end and text[at] == _DOT:
        point = at
        at = _end_of_fraction(text, at, end)
        behind = at - point - 1
        if at - start - 1 > _DIGITS:
            return -1
        for one in range(point + 1, at):
            mantissa = 10 * mantissa + text[one] - _ZERO
    if at < 0:
        return -1
    latency_ms = mantissa / _POWERS_OF_TEN[behind]
    if latency_ms > _MAX_LATENCY_MS:
        return -1
    found[1] = np.int64(np.rint(latency_ms * 1000.0))
    return at


@compiled
def _skip_space(text: Octets, at: int, end: int) -> int:
    while at < end and (text[at] == _SPACE or text[at] == _TAB or text[at] == _FEED or text[at] == _RETURN):
        at += 1
    return at


@compiled
def _end_of_string(text: Octets, at: int, end: int) -> int:
    """Behind the closing quote of the plain string that begins here; -1 for anything else."""
    if at >= end or text[at] != _QUOTE:
        return -1
    at += 1
    while at < end and text[at] != _QUOTE:
        if not _SPACE <= text[at] <= _LAST_PLAIN or text[at] == _BACKSLASH:
            return -1
        at += 1
    return at + 1 if at < end else -1


@compiled
def _end_of_digits(text: Octets, at: int, end: int) -> int:
    """Behind the digits of a whole number that is not negative; -1 for none, for a leading zero and for too many."""
    start = at
    while at < end and _ZERO <= text[at] <= _NINE:
        at += 1
    if at == start or at - start > _DIGITS or (text[start] == _ZERO and at - start > 1):
        return -1
    return at


@compiled
def _end_of_number(text: Octets, at: int, end: int) -> int:
    """Behind a number without an exponent; -1 for anything else."""
    if at < end and text[at] == _MINUS:
        at += 1
    at = _end_of_digits(text, at, end)
    return _end_of_fraction(text, at, end) if 0 <= at < end and text[at] == _DOT else at


@compiled
def _end_of_fraction(text: Octets, at: int, end: int) -> int:
    """Behind the digits that follow on this point; -1 for none."""
    start = at + 1
    at = start
    while at < end and _ZERO <= text[at] <= _NINE:
        at += 1
    return at if at > start else -1


@compiled
def _whole(text: Octets, start: int, end: int) -> int:
    number = 0
    for at in range(start, end):
        number = 10 * number + text[at] - _ZERO
    return number


@compiled
def _is(text: Octets, start: int, names: Octets, first: int, length: int) -> bool:
    for at in range(length):
        if text[start + at] != names[first + at]:
            return False
    return True


@compiled
def _field(text: Octets, start: int, end: int) -> int:
    """Which of a call's fields has this name, 0 for none."""
    length = end - start
    if length == 9:
        if _is(text, start, _NAMES, 0, 9):
            return _BILLER_ID
        if _is(text, start, _NAMES, 9, 9):
            return _TIMESTAMP
    elif length == 10 and _is(text, start, _NAMES, 18, 10):
        return _LATENCY_MS
    elif length == 7 and _is(text, start, _NAMES, 28, 7):
        return _OUTCOME
    elif length == 6 and _is(text, start, _NAMES, 35, 6):
        return _STATUS
    return 0


@compiled
def _outcome(text: Octets, start: int, end: int) -> int:
    length = end - start
    if length == 2 and _is(text, start, _OUTCOMES, 0, 2):
        return _OK
    if length == 5 and _is(text, start, _OUTCOMES, 2, 5):
        return _ERROR
    if length == 7 and _is(text, start, _OUTCOMES, 7, 7):
        return _TIMEOUT
    return UNREAD
