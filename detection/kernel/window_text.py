"""The hours and minutes of billers as the text they are stored in, many billers at a time: what arrived is added to it.

The text is JSON as `state.window_codec` writes it, oldest window first and no space in it. Of a window that nothing is
added to the text stays as it is. What is unusual in any way, or too large, is left to that module.

A window is named by the minute that it begins with, since the epoch.
"""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled
from detection.kernel.time_text import LENGTH, put_minute, read_minute
from detection.kernel.uncounted import uncounted

Octets = NDArray[np.uint8]
Whole = NDArray[np.int64]
# Their minutes, sums and bins, as `merge_windows` takes them.
Rows = tuple[Whole, Whole, Whole, Whole, Whole]

# Rows of the sums: the squares of the latencies in three parts, `high`² << 32, `high` `low` << 17 and `low`².
CALLS, ERRORS, TIMEOUTS, LATENCY_US, SQUARES_HIGH, SQUARES_MIXED, SQUARES_LOW = range(7)
SUMS = 7

# No text of a window is longer, with its comma and without its bins.
LONGEST_WINDOW = 200
# Nor of one of its bins.
LONGEST_BIN = 24
BINS = 256

_WRITTEN = 5
# Larger ones are written as text: readers that know only doubles would lose digits.
_EXACT = 2**53
# The newest minute of a text that is none of ours, or out of order.
UNUSUAL = -2
# What is added to may be as large, and the sum still fits.
_LARGEST = 2**60
_DIGITS = 18
_NEVER = 2**62
# Where the next row is, and where the next letter is put.
_ROW, _SIZE = 0, 1

_QUOTE, _BACKSLASH, _COMMA, _COLON, _ZERO, _NINE = (ord(one) for one in '"\\,:09')
_OPEN, _CLOSE = (ord(one) for one in "{}")
# Of `"2026-01-05T09:00:00Z":`.
_NAME_LENGTH = LENGTH + 3
_FIELDS = np.frombuffer(b'{"calls":,"errors":,"timeouts":,"latency_us":,"latency_us2":', np.uint8)
_BINS_NAME = np.frombuffer(b',"bins":{', np.uint8)
# From where to where in `_FIELDS` each field's name is.
_FIELD_AT = np.array([0, 9, 19, 31, 45, 60], np.int64)


@compiled
def merge_windows(
    text: Octets,
    text_at: Whole,
    minute: Whole,
    sums: Whole,
    bin_at: Whole,
    bin_number: Whole,
    bin_count: Whole,
    begin: Whole,
    end: Whole,
    oldest: Whole,
    merged: Octets,
    merged_at: Whole,
) -> None:
    """Add to each of M texts the rows of `sums` (SUMS, N) from its `begin` to its `end`, sorted by `minute`.

    Text i is from `text_at[i]` to `text_at[i + 1]`. The bins of row j are `bin_number` and `bin_count` from `bin_at[j]`
    to `bin_at[j + 1]`, ascending. Windows before its `oldest` are left out of `merged`, where it then is from
    `merged_at[i]` to `merged_at[i + 1]`: there is nothing of one that is left over.
    """
    numbers = np.zeros(_WRITTEN, np.int64)
    bins = np.zeros(BINS, np.int64)
    place = np.zeros(2, np.int64)
    text, merged = uncounted(text), uncounted(merged)
    rows = (uncounted(minute), sums, uncounted(bin_at), uncounted(bin_number), uncounted(bin_count))
    for i in range(len(begin)):
        merged_at[i] = place[_SIZE]
        place[_ROW] = begin[i]
        if not _merge(text, text_at[i], text_at[i + 1], rows, end[i], oldest[i], merged, place, numbers, bins):
            place[_SIZE] = merged_at[i]
    merged_at[len(begin)] = place[_SIZE]


@compiled
def sum_latest(text: Octets, begin: Whole, end: Whole, kept: int, newest: Whole, sums: Whole) -> None:
    """Of each of M texts of minutes the newest one, -1 where there is none, and in `sums` (4, M) the last `kept` ones.

    Text i is from `begin[i]` to `end[i]`, and there is none where it begins at -1. The sums are in the order of CALLS
    to LATENCY_US. Where the newest minute is UNUSUAL, they are of no use.
    """
    numbers = np.zeros(_WRITTEN, np.int64)
    bins = np.zeros(BINS, np.int64)
    text = uncounted(text)
    for i in range(len(begin)):
        sums[:, i] = 0
        newest[i] = -1 if begin[i] < 0 else _newest(text, begin[i], end[i])
        if newest[i] >= 0 and not _sum(text, begin[i] + 1, end[i] - 1, newest[i], kept, sums[:, i], numbers, bins):
            newest[i] = UNUSUAL


@compiled
def _newest(text: Octets, at: int, end: int) -> int:
    """The minute that is named last, if this is an object; -1 for an empty one."""
    if end - at < 2 or text[at] != _OPEN or text[end - 1] != _CLOSE:
        return UNUSUAL
    if end - at == 2:
        return -1
    for one in range(end - 2, at + _NAME_LENGTH, -1):
        if text[one] == _OPEN:
            found = _read_name(text, one - _NAME_LENGTH, one)
            if found >= 0:
                return found
    return UNUSUAL


@compiled
def _sum(text: Octets, at: int, stop: int, newest: int, kept: int, sums: Whole, numbers: Whole, bins: Whole) -> bool:
    """Whether these are minutes in their order, up to the newest; `numbers` and `bins` are to work with."""
    previous = -1
    while at < stop:
        found = _read_name(text, at, stop)
        behind = _end_of_value(text, at + _NAME_LENGTH, stop)
        if found <= previous or behind < 0:
            return False
        # One that is too old is read too: of a text that is damaged anywhere, nothing is told.
        if not _read_window(text, at + _NAME_LENGTH, behind, numbers, bins):
            return False
        if found > newest - kept:
            for field in range(SQUARES_HIGH):
                sums[field] += numbers[field]
                if sums[field] > _LARGEST:
                    return False
        previous = found
        at = behind
        if at < stop:
            if text[at] != _COMMA or at == stop - 1:
                return False
            at += 1
    return previous == newest


@compiled
def _merge(
    text: Octets,
    at: int,
    stop: int,
    rows: Rows,
    end: int,
    oldest: int,
    merged: Octets,
    place: Whole,
    numbers: Whole,
    bins: Whole,
) -> bool:
    """Whether the text and the rows from `place` on could be merged; `numbers` and `bins` are to work with."""
    if stop - at < 2 or text[at] != _OPEN or text[stop - 1] != _CLOSE:
        return False
    minute = rows[0]
    _put(merged, place, _OPEN)
    numbers[:] = 0
    bins[:] = 0
    at += 1
    previous = -1
    while at < stop - 1:
        found = _read_name(text, at, stop - 1)
        behind = _end_of_value(text, at + _NAME_LENGTH, stop - 1)
        if found <= previous or behind < 0 or not _put_rows(rows, end, oldest, found, merged, place, numbers, bins):
            return False
        if place[_ROW] < end and minute[place[_ROW]] == found:
            if not _read_window(text, at + _NAME_LENGTH, behind, numbers, bins):
                return False
            if not _put_rows(rows, end, oldest, found + 1, merged, place, numbers, bins):
                return False
        elif found >= oldest:
            _put_comma(merged, place)
            _put_text(merged, place, text, at, behind)
        previous = found
        at = behind
        if at < stop - 1:
            if text[at] != _COMMA or at == stop - 2:
                return False
            at += 1
    if not _put_rows(rows, end, oldest, _NEVER, merged, place, numbers, bins):
        return False
    _put(merged, place, _CLOSE)
    return True


@compiled
def _put_rows(
    rows: Rows, end: int, oldest: int, before: int, merged: Octets, place: Whole, numbers: Whole, bins: Whole
) -> bool:
    """Write the rows of windows before this minute, the first with `numbers` and `bins`; False where one is too large.

    Both are zeros afterwards.
    """
    minute, sums, bin_at, bin_number, bin_count = rows
    while place[_ROW] < end and minute[place[_ROW]] < before:
        row = place[_ROW]
        if minute[row] >= oldest:
            if not _add_row(sums, row, numbers):
                return False
            for one in range(bin_at[row], bin_at[row + 1]):
                bins[bin_number[one]] += bin_count[one]
            _put_comma(merged, place)
            _put_name(merged, place, minute[row])
            for field in range(_WRITTEN):
                _put_text(merged, place, _FIELDS, _FIELD_AT[field], _FIELD_AT[field + 1])
                _put_number(merged, place, numbers[field])
            if not _put_bins(merged, place, bins):
                return False
            _put(merged, place, _CLOSE)
        numbers[:] = 0
        bins[:] = 0
        place[_ROW] = row + 1
    return True


@compiled
def _put_bins(merged: Octets, place: Whole, bins: Whole) -> bool:
    """Write those that are not zero, if there are any; False where one is too large."""
    is_first = True
    for number in range(BINS):
        count = bins[number]
        if count == 0:
            continue
        if count > _EXACT:
            return False
        if is_first:
            _put_text(merged, place, _BINS_NAME, 0, len(_BINS_NAME))
            is_first = False
        else:
            _put(merged, place, _COMMA)
        _put(merged, place, _QUOTE)
        _put_number(merged, place, number)
        _put(merged, place, _QUOTE)
        _put(merged, place, _COLON)
        _put_number(merged, place, count)
    if not is_first:
        _put(merged, place, _CLOSE)
    return True


@compiled
def _add_row(sums: Whole, row: int, numbers: Whole) -> bool:
    """Add one row to the numbers; False where they become too large."""
    if sums[SQUARES_HIGH, row] >= _LARGEST >> 32 or sums[SQUARES_MIXED, row] >= _LARGEST >> 17:
        return False
    numbers[SQUARES_HIGH] += (sums[SQUARES_HIGH, row] << 32) + (sums[SQUARES_MIXED, row] << 17)
    numbers[SQUARES_HIGH] += min(sums[SQUARES_LOW, row], _LARGEST)
    for field in range(SQUARES_HIGH):
        numbers[field] += min(sums[field, row], _LARGEST)
    return numbers[CALLS] <= _EXACT and numbers[LATENCY_US] < _LARGEST and numbers[SQUARES_HIGH] < _LARGEST


@compiled
def _read_name(text: Octets, at: int, stop: int) -> int:
    """The minute that is named here; -1 for anything else."""
    if stop - at < _NAME_LENGTH or text[at] != _QUOTE:
        return -1
    if text[at + LENGTH + 1] != _QUOTE or text[at + LENGTH + 2] != _COLON:
        return -1
    return read_minute(text, at + 1, stop)


@compiled
def _put_name(merged: Octets, place: Whole, minute: int) -> None:
    _put(merged, place, _QUOTE)
    place[_SIZE] = put_minute(merged, place[_SIZE], minute)
    _put(merged, place, _QUOTE)
    _put(merged, place, _COLON)


@compiled
def _end_of_value(text: Octets, at: int, stop: int) -> int:
    """Behind the object that begins here, if only bins are an object in it and nothing is escaped; -1 for others."""
    if at >= stop or text[at] != _OPEN:
        return -1
    is_in_bins = False
    for one in range(at + 1, stop):
        octet = text[one]
        if octet == _CLOSE:
            if not is_in_bins:
                return one + 1
            if one + 1 >= stop or text[one + 1] != _CLOSE:
                return -1
            is_in_bins = False
        elif octet == _OPEN:
            if is_in_bins or not _is_bins_name(text, one + 1 - len(_BINS_NAME), at, stop):
                return -1
            is_in_bins = True
        elif octet == _BACKSLASH:
            return -1
    return -1


@compiled
def _is_bins_name(text: Octets, at: int, begin: int, stop: int) -> bool:
    """Whether the name of the bins is here, with its comma, and not before `begin`."""
    if at < begin or at + len(_BINS_NAME) > stop:
        return False
    for one in range(len(_BINS_NAME)):
        if text[at + one] != _BINS_NAME[one]:
            return False
    return True


@compiled
def _read_window(text: Octets, at: int, stop: int, numbers: Whole, bins: Whole) -> bool:
    """Whether these are a window's sums, with or without bins, and nothing else; they are then in both."""
    for field in range(_WRITTEN):
        for one in range(_FIELD_AT[field], _FIELD_AT[field + 1]):
            if at >= stop or text[at] != _FIELDS[one]:
                return False
            at += 1
        is_text = field >= LATENCY_US and at < stop and text[at] == _QUOTE
        if is_text:
            at += 1
        number, at = _read_number(text, at, stop)
        if number < 0 or is_text != (number > _EXACT):
            return False
        if is_text:
            if at >= stop or text[at] != _QUOTE:
                return False
            at += 1
        numbers[field] = number
    if numbers[ERRORS] + numbers[TIMEOUTS] > numbers[CALLS]:
        return False
    return at == stop - 1 or _read_bins(text, at, stop, bins)


@compiled
def _read_bins(text: Octets, at: int, stop: int, bins: Whole) -> bool:
    """Whether bins in their order are here, up to the end of the window; none of them is zero."""
    if not _is_bins_name(text, at, 0, stop):
        return False
    at += len(_BINS_NAME)
    previous = -1
    while at < stop:
        if text[at] != _QUOTE:
            return False
        number, at = _read_number(text, at + 1, stop)
        if not previous < number < BINS or at + 1 >= stop or text[at] != _QUOTE or text[at + 1] != _COLON:
            return False
        count, at = _read_number(text, at + 2, stop)
        if not 0 < count <= _EXACT or at >= stop:
            return False
        bins[number] = count
        previous = number
        if text[at] == _CLOSE:
            return at == stop - 2
        if text[at] != _COMMA:
            return False
        at += 1
    return False


@compiled
def _read_number(text: Octets, at: int, stop: int) -> tuple[int, int]:
    """A whole number as JSON has it, of at most `_DIGITS`, and the place behind it; -1 for anything else."""
    start = at
    number = 0
    while at < stop and _ZERO <= text[at] <= _NINE:
        number = 10 * number + text[at] - _ZERO
        at += 1
        if at - start > _DIGITS:
            return -1, at
    if at == start or (text[start] == _ZERO and at - start > 1):
        return -1, at
    return number, at


@compiled
def _put(merged: Octets, place: Whole, octet: int) -> None:
    merged[place[_SIZE]] = octet
    place[_SIZE] += 1


@compiled
def _put_text(merged: Octets, place: Whole, text: Octets, begin: int, end: int) -> None:
    size = place[_SIZE]
    for one in range(end - begin):
        merged[size + one] = text[begin + one]
    place[_SIZE] = size + end - begin


@compiled
def _put_comma(merged: Octets, place: Whole) -> None:
    """Where a window stands before."""
    if merged[place[_SIZE] - 1] == _CLOSE:
        _put(merged, place, _COMMA)


@compiled
def _put_number(merged: Octets, place: Whole, number: int) -> None:
    is_text = number > _EXACT
    if is_text:
        _put(merged, place, _QUOTE)
    rest, end = number // 10, place[_SIZE] + 1
    while rest:
        rest //= 10
        end += 1
    # From behind: to divide by a number that is known is far quicker than by any other.
    for at in range(end - 1, place[_SIZE] - 1, -1):
        merged[at] = _ZERO + number % 10
        number //= 10
    place[_SIZE] = end
    if is_text:
        _put(merged, place, _QUOTE)
