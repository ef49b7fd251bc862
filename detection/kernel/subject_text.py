"""Many subjects' own hashes: their numbers from the replies of the store's server, and the commands that write them.

They are what most writes consist of: events were counted, and nothing was closed. As `state.codec` writes it; what is
unusual in any way is left to that module.
"""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled
from detection.events import NEWEST_MS
from detection.kernel.reply_text import ABSENT, BULK, TEXT, UNUSUAL, is_at, read_size
from detection.kernel.time_text import LENGTH, put_minute, read_minute
from detection.kernel.uncounted import uncounted

Octets = NDArray[np.uint8]
Whole = NDArray[np.int64]

# The numbers of a subject. Those called "before" are hours since the epoch, but for the minutes that were judged.
REV, WATERMARK_MS, LEARNED_BEFORE, SETTLED_BEFORE, JUDGED_BEFORE, PUBLISHED_HOUR, IS_OUTDATED, ACCEPTED, LATE = range(9)
NUMBERS = 9
# Its texts, as they are read.
OFFSETS, WINDOWS, MINUTES, METRICS, ABOUT, ALERTS, LIVE, OPINIONS, EXCLUSIONS = range(9)
TEXTS = 9
# Of these, what is written, behind the key.
WRITTEN_TEXTS = 4

# What a command takes at most beside its texts.
LONGEST_COMMAND = 700

# As the fields are read: the version, the numbers, the texts. Of a whole hash none but the last may be missing.
_FIELDS = (
    *(b"schema", b"rev", b"watermark_ms", b"learned_before", b"settled_before", b"judged_before", b"published_hour"),
    *(b"is_outdated", b"accepted", b"late", b"offsets", b"windows", b"minutes", b"metrics", b"about"),
    *(b"alerts", b"live", b"opinions", b"exclusions"),
)
FIELDS = len(_FIELDS)
_SCHEMA, _FIRST_TEXT, _FIRST_OPTIONAL = 0, 1 + NUMBERS, 1 + NUMBERS + ALERTS
_NAMES = np.frombuffer(b"".join(_FIELDS), np.uint8)
_NAME_AT = np.cumsum([0, *map(len, _FIELDS)], dtype=np.int64)

# As they are written, each as the protocol has it.
_WRITTEN = (
    *(b"rev", b"watermark", b"watermark_ms", b"learned_before", b"settled_before", b"judged_before"),
    *(b"published_hour", b"is_outdated", b"accepted", b"late", b"offsets", b"windows", b"minutes"),
)
_FRAMED = [b"$%d\r\n%b\r\n" % (len(name), name) for name in _WRITTEN]
_HEADS = [b"*%d\r\n$4\r\nHSET\r\n" % (2 + 2 * fields) for fields in (len(_WRITTEN) - 1, len(_WRITTEN))]
_PIECES = [*_FRAMED, *_HEADS, b"$4\r\ntrue\r\n", b"$5\r\nfalse\r\n"]
_PIECE = np.frombuffer(b"".join(_PIECES), np.uint8)
_PIECE_AT = np.cumsum([0, *map(len, _PIECES)], dtype=np.int64)
_HEAD, _TRUE, _FALSE = len(_WRITTEN), len(_WRITTEN) + 2, len(_WRITTEN) + 3

_MINUS, _POINT, _ZERO, _NINE, _Z, _RETURN, _FEED = (ord(one) for one in "-.09Z\r\n")
_T, _R, _U, _E, _F, _A, _L, _S = (ord(one) for one in "truefals")
# As many digits are read, and no number is written that has more; and what is said of anything else.
_DIGITS = 18
_LARGEST = 10**_DIGITS - 1
_NONE = -2
_HOUR_MINUTES = 60
_MINUTE_MS = 60_000
_SECOND_MS = 1000
# The last one that has a year of its own here.
_NEWEST_MINUTE = NEWEST_MS // _MINUTE_MS - 1


@compiled
def read_subjects(
    octets: Octets,
    end: Whole,
    schema: Octets,
    numbers: Whole,
    text_at: Whole,
    kind: Whole,
    field_at: Whole,
) -> None:
    """Of each of M replies, as `find_replies` found them, the numbers, and where its texts are.

    `numbers` are M times NUMBERS, `text_at` M times TEXTS times the beginning and the end, which are the same where
    there is none. A `kind` is TEXT where both are there, else ABSENT, or UNUSUAL: some field is missing, of another
    version, or not as it is written. `field_at` (2 FIELDS) is to work with.
    """
    stop, length = len(octets), len(schema)
    octets, schema, numbers, text_at = uncounted(octets), uncounted(schema), uncounted(numbers), uncounted(text_at)
    field_at, names, name_at = uncounted(field_at), uncounted(_NAMES), uncounted(_NAME_AT)
    for i in range(len(end) - 1):
        items, at = read_size(octets, end[i], stop)
        if octets[end[i]] == BULK:
            kind[i] = UNUSUAL
        elif items <= 0:
            kind[i] = ABSENT
        elif (
            _find_fields(octets, items, at, stop, names, name_at, field_at)
            and _is_ours(octets, field_at, schema, length)
            and _read_numbers(octets, field_at, numbers, NUMBERS * i)
        ):
            kind[i] = TEXT
            for one in range(2 * TEXTS):
                text_at[2 * TEXTS * i + one] = field_at[2 * _FIRST_TEXT + one]
        else:
            kind[i] = UNUSUAL


@compiled
def _find_fields(
    octets: Octets, items: int, at: int, stop: int, names: Octets, name_at: Whole, field_at: Whole
) -> bool:
    """Whether all are there that must be; where the value of each begins and ends is then in `field_at`."""
    for one in range(2 * FIELDS):
        field_at[one] = -1
    expected = 0
    for _ in range(items // 2):
        length, at = read_size(octets, at, stop)
        found = -1
        # A small hash keeps them in the order in which they came, a large one in none.
        for one in range(FIELDS):
            field = expected + one - (FIELDS if expected + one >= FIELDS else 0)
            begin = name_at[field]
            if length == name_at[field + 1] - begin and is_at(octets, at, names, begin, length):
                found = field
                break
        length, at = read_size(octets, at + length + 2, stop)
        if found >= 0:
            field_at[2 * found], field_at[2 * found + 1] = at, at + length
            expected = found + 1
        at += length + 2
    for field in range(_FIRST_OPTIONAL):
        if field_at[2 * field] < 0:
            return False
    for one in range(2 * _FIRST_OPTIONAL, 2 * FIELDS):
        field_at[one] = max(field_at[one], 0)
    return True


@compiled
def _is_ours(octets: Octets, field_at: Whole, schema: Octets, length: int) -> bool:
    """Whether it is of this version, and so are all of its series."""
    begin, end = field_at[2 * _SCHEMA], field_at[2 * _SCHEMA + 1]
    about = 2 * (_FIRST_TEXT + ABOUT)
    return field_at[about + 1] > field_at[about] and end - begin == length and is_at(octets, begin, schema, 0, length)


@compiled
def _read_numbers(octets: Octets, field_at: Whole, numbers: Whole, first: int) -> bool:
    """Whether all of them are what they should be; they are then from the place `first` on."""
    for number in range(NUMBERS):
        begin, end = field_at[2 * (1 + number)], field_at[2 * (1 + number) + 1]
        if number == IS_OUTDATED:
            found = _read_truth(octets, begin, end)
        elif LEARNED_BEFORE <= number <= PUBLISHED_HOUR:
            found = read_minute(octets, begin, end) if end - begin == LENGTH else _NONE
            if number != JUDGED_BEFORE and found >= 0:
                found = found // _HOUR_MINUTES if found % _HOUR_MINUTES == 0 else _NONE
        elif number == WATERMARK_MS and end - begin == 2 and octets[begin] == _MINUS and octets[begin + 1] == _ZERO + 1:
            # There was no event yet.
            numbers[first + number] = -1
            continue
        else:
            found = _read_whole(octets, begin, end)
        if found < 0:
            return False
        numbers[first + number] = found
    return numbers[first + WATERMARK_MS] <= NEWEST_MS


@compiled
def _read_whole(octets: Octets, at: int, end: int) -> int:
    """The number that is all there is here, as we write it."""
    if not 0 < end - at <= _DIGITS or (octets[at] == _ZERO and end - at > 1):
        return _NONE
    number = 0
    for one in range(at, end):
        if not _ZERO <= octets[one] <= _NINE:
            return _NONE
        number = 10 * number + octets[one] - _ZERO
    return number


@compiled
def _read_truth(octets: Octets, at: int, end: int) -> int:
    if end - at == 4 and octets[at] == _T and octets[at + 1] == _R and octets[at + 2] == _U and octets[at + 3] == _E:
        return 1
    if end - at == 5 and octets[at] == _F and octets[at + 1] == _A and octets[at + 2] == _L:
        return 0 if octets[at + 3] == _S and octets[at + 4] == _E else _NONE
    return _NONE


@compiled
def write_subjects(numbers: Whole, text: Octets, text_at: Whole, commands: Octets, end: Whole) -> None:
    """For each of M subjects the command that sets its `numbers` (M times NUMBERS) and the texts that are written.

    The texts of each are its key, its offsets, its windows and its minutes, which stay as they are stored where this
    one is empty; they are in `text` one after the other, from `text_at[4 i]` on. Command i is in `commands` from
    `end[i]` to `end[i + 1]`; it is empty where a number is none that could be read again.
    """
    numbers, text, text_at, commands = uncounted(numbers), uncounted(text), uncounted(text_at), uncounted(commands)
    pieces, piece_at = uncounted(_PIECE), uncounted(_PIECE_AT)
    size = 0
    end[0] = 0
    for i in range(len(end) - 1):
        first = NUMBERS * i
        if _are_writable(numbers, first):
            own = WRITTEN_TEXTS * i
            has_minutes = text_at[own + 4] > text_at[own + 3]
            size = _put_piece(commands, size, pieces, piece_at, _HEAD + has_minutes)
            size = _put_text(commands, size, text, text_at, own)
            size = _put_piece(commands, size, pieces, piece_at, 0)
            size = _put_whole(commands, size, numbers[first + REV])
            size = _put_piece(commands, size, pieces, piece_at, 1)
            size = _put_moment(commands, size, numbers[first + WATERMARK_MS])
            size = _put_piece(commands, size, pieces, piece_at, 2)
            size = _put_whole(commands, size, numbers[first + WATERMARK_MS])
            for number in range(LEARNED_BEFORE, IS_OUTDATED):
                size = _put_piece(commands, size, pieces, piece_at, 1 + number)
                minutes = numbers[first + number] * (1 if number == JUDGED_BEFORE else _HOUR_MINUTES)
                size = _put_moment(commands, size, minutes * _MINUTE_MS)
            size = _put_piece(commands, size, pieces, piece_at, 1 + IS_OUTDATED)
            size = _put_piece(commands, size, pieces, piece_at, _TRUE if numbers[first + IS_OUTDATED] else _FALSE)
            for number in range(ACCEPTED, NUMBERS):
                size = _put_piece(commands, size, pieces, piece_at, 1 + number)
                size = _put_whole(commands, size, numbers[first + number])
            for one in range(1, 3 + has_minutes):
                size = _put_piece(commands, size, pieces, piece_at, NUMBERS + one)
                size = _put_text(commands, size, text, text_at, own + one)
        end[i + 1] = size


@compiled
def _are_writable(numbers: Whole, first: int) -> bool:
    for number in range(NUMBERS):
        most = _LARGEST
        if number == WATERMARK_MS:
            most = NEWEST_MS - 1
        elif number == JUDGED_BEFORE:
            most = _NEWEST_MINUTE
        elif LEARNED_BEFORE <= number <= PUBLISHED_HOUR:
            most = _NEWEST_MINUTE // _HOUR_MINUTES
        if not (-1 if number == WATERMARK_MS else 0) <= numbers[first + number] <= most:
            return False
    return True


@compiled
def _put_piece(commands: Octets, size: int, pieces: Octets, piece_at: Whole, piece: int) -> int:
    begin = piece_at[piece]
    length = piece_at[piece + 1] - begin
    for one in range(length):
        commands[size + one] = pieces[begin + one]
    return size + length


@compiled
def _put_text(commands: Octets, size: int, text: Octets, text_at: Whole, which: int) -> int:
    """Text `which`, as the protocol has it."""
    begin = text_at[which]
    length = text_at[which + 1] - begin
    size = _put_length(commands, size, length)
    for one in range(length):
        commands[size + one] = text[begin + one]
    return _put_line_end(commands, size + length)


@compiled
def _put_whole(commands: Octets, size: int, number: int) -> int:
    """A number, at least -1, as the protocol has it."""
    size = _put_length(commands, size, 2 if number < 0 else _digits(number))
    if number < 0:
        commands[size] = _MINUS
        size += 1
    return _put_line_end(commands, _put_digits(commands, size, abs(number), _digits(abs(number))))


@compiled
def _put_moment(commands: Octets, size: int, ms: int) -> int:
    """A time as RFC 3339 has it, in UTC; of a time before the first an empty text."""
    if ms < 0:
        return _put_line_end(commands, _put_length(commands, size, 0))
    seconds, fraction = ms % _MINUTE_MS // _SECOND_MS, ms % _SECOND_MS
    size = _put_length(commands, size, LENGTH + 4 if fraction else LENGTH)
    behind = put_minute(commands, size, ms // _MINUTE_MS)
    _put_digits(commands, behind - 3, seconds, 2)
    if fraction:
        commands[behind - 1] = _POINT
        behind = _put_digits(commands, behind, fraction, 3)
        commands[behind] = _Z
        behind += 1
    return _put_line_end(commands, behind)


@compiled
def _put_length(commands: Octets, size: int, length: int) -> int:
    commands[size] = BULK
    return _put_line_end(commands, _put_digits(commands, size + 1, length, _digits(length)))


@compiled
def _put_line_end(commands: Octets, size: int) -> int:
    commands[size], commands[size + 1] = _RETURN, _FEED
    return size + 2


@compiled
def _digits(number: int) -> int:
    digits = 1
    while number >= 10:
        number //= 10
        digits += 1
    return digits


@compiled
def _put_digits(commands: Octets, size: int, number: int, digits: int) -> int:
    """So many digits of the number, from behind."""
    for at in range(size + digits - 1, size - 1, -1):
        commands[at] = _ZERO + number % 10
        number //= 10
    return size + digits
