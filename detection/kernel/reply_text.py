r"""Many hashes as the store's server sends them, each made one text, without a Python object for every field.

A reply of the Redis protocol is a string, `$5\r\nhello\r\n`, or a hash of strings: `%1`, in the older version of the
protocol `*2`, and a name and a value. What is not there is `_\r\n`, in the older one `$-1\r\n`, or a hash of no
field ("Redis serialization protocol specification", RESP3 and RESP2). Anything else is left to the client's own parser:
an error above all.
"""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled
from detection.kernel.uncounted import uncounted

Octets = NDArray[np.uint8]
Whole = NDArray[np.int64]

# What a reply comes to: nothing is stored; a text; a hash with other fields than expected, or with a line feed in one.
ABSENT, TEXT, UNUSUAL = range(3)

_MAP, _ARRAY, BULK, _NULL, _MINUS, _RETURN, _FEED, _ZERO, _NINE = (ord(one) for one in "%*$_-\r\n09")
# No length of a reply has as many.
_DIGITS = 12
# What is said in place of a length: there is no such thing, it has not all come yet, it is something else.
_NOTHING, _UNFINISHED, _OTHER = -1, -2, -3


@compiled
def find_replies(octets: Octets, end: Whole, found: int) -> int:
    """How many of the replies are whole, of which `found` were before: `end[i]` is where reply i begins.

    -1 where something else than strings and hashes of strings is among them.
    """
    stop = len(octets)
    octets = uncounted(octets)
    while found < len(end) - 1:
        behind = _end_of_reply(octets, end[found], stop)
        if behind == _OTHER:
            return -1
        if behind == _UNFINISHED:
            return found
        found += 1
        end[found] = behind
    return found


@compiled
def join_values(
    octets: Octets,
    end: Whole,
    names: Octets,
    name_end: Whole,
    version: Octets,
    texts: Octets,
    text_end: Whole,
    kind: Whole,
) -> None:
    """Of each reply, as `find_replies` found them, one text: what a string says, or a hash's values, a line each.

    Text i is in `texts`, which is as long as `octets`, from `text_end[i]` to `text_end[i + 1]`, and empty where `kind`
    is not TEXT. A hash has exactly the fields of `names`, in any order, of which field j is from `name_end[j]` to
    `name_end[j + 1]`; the values are in the order of the names, and the first of them is the `version`.
    """
    value_at = np.zeros((len(name_end) - 1, 2), np.int64)
    stop = len(octets)
    octets, names, texts = uncounted(octets), uncounted(names), uncounted(texts)
    size = 0
    for i in range(len(end) - 1):
        text_end[i] = size
        first = octets[end[i]]
        length, at = read_size(octets, end[i], stop)
        if length < 0 or (length == 0 and first != BULK):
            kind[i] = ABSENT
        elif first == BULK:
            kind[i] = TEXT
            size = _put(texts, size, octets, at, length)
        elif _find_values(octets, length, at, stop, names, name_end, value_at) and _is_same(octets, value_at, version):
            written = _join(octets, value_at, texts, size)
            kind[i] = UNUSUAL if written < 0 else TEXT
            size = max(written, size)
        else:
            kind[i] = UNUSUAL
    text_end[len(end) - 1] = size


@compiled
def _find_values(
    octets: Octets, items: int, at: int, stop: int, names: Octets, name_end: Whole, value_at: Whole
) -> bool:
    """Whether these are the names, once each; `value_at` then has where the value of each begins and ends."""
    count = len(name_end) - 1
    if items != 2 * count:
        return False
    value_at[:] = -1
    for expected in range(count):
        length, at = read_size(octets, at, stop)
        found = -1
        # A small hash keeps them in the order in which they came, a large one in none.
        for one in range(count):
            j = expected + one - (count if expected + one >= count else 0)
            if length == name_end[j + 1] - name_end[j] and is_at(octets, at, names, name_end[j], length):
                found = j
                break
        if found < 0 or value_at[found, 0] >= 0:
            return False
        length, at = read_size(octets, at + length + 2, stop)
        value_at[found, 0], value_at[found, 1] = at, at + length
        at += length + 2
    return True


@compiled
def _join(octets: Octets, value_at: Whole, texts: Octets, size: int) -> int:
    """Where the text ends that began at `size`; -1 where a value has a line feed."""
    for j in range(len(value_at)):
        if j > 0:
            texts[size] = _FEED
            size += 1
        for one in range(value_at[j, 0], value_at[j, 1]):
            octet = octets[one]
            if octet == _FEED:
                return -1
            texts[size] = octet
            size += 1
    return size


@compiled
def _put(texts: Octets, size: int, octets: Octets, at: int, length: int) -> int:
    for one in range(length):
        texts[size + one] = octets[at + one]
    return size + length


@compiled
def _end_of_reply(octets: Octets, at: int, stop: int) -> int:
    """The place behind it."""
    items, behind = read_size(octets, at, stop)
    if items < 0:
        return behind if items == _NOTHING else items
    if octets[at] == BULK:
        return _end_of_bulk(items, behind, stop)
    for _ in range(items):
        if behind < stop and octets[behind] != BULK:
            return _OTHER
        length, behind = read_size(octets, behind, stop)
        if length < 0:
            return _OTHER if length == _NOTHING else length
        behind = _end_of_bulk(length, behind, stop)
        if behind < 0:
            return behind
    return behind


@compiled
def _end_of_bulk(length: int, at: int, stop: int) -> int:
    end = at + length + 2
    return end if end <= stop else _UNFINISHED


@compiled
def read_size(octets: Octets, at: int, stop: int) -> tuple[int, int]:
    """Of what begins here the bytes, or the names and values that it has, and the place behind that line."""
    if at >= stop:
        return _UNFINISHED, at
    first = octets[at]
    if first == _NULL:
        return (_NOTHING if at + 3 <= stop else _UNFINISHED), at + 3
    if first not in (BULK, _ARRAY, _MAP):
        return _OTHER, at
    length, behind = _length(octets, at + 1, stop)
    return (2 * length if first == _MAP and length > 0 else length), behind


@compiled
def _length(octets: Octets, at: int, stop: int) -> tuple[int, int]:
    """The number here, and the place behind its line."""
    start = at
    is_negative = at < stop and octets[at] == _MINUS
    if is_negative:
        at += 1
    number = 0
    while at < stop and _ZERO <= octets[at] <= _NINE:
        number = 10 * number + octets[at] - _ZERO
        at += 1
        if at - start > _DIGITS:
            return _OTHER, at
    if at + 1 >= stop:
        return _UNFINISHED, at
    if octets[at] != _RETURN or octets[at + 1] != _FEED or at == start + is_negative or (is_negative and number != 1):
        return _OTHER, at
    return _NOTHING if is_negative else number, at + 2


@compiled
def is_at(octets: Octets, at: int, names: Octets, name: int, length: int) -> bool:
    """Whether so many letters from here on are those from the place `name` on."""
    for one in range(length):
        if octets[at + one] != names[name + one]:
            return False
    return True


@compiled
def _is_same(octets: Octets, value_at: Whole, version: Octets) -> bool:
    """Whether the first value is the version."""
    begin, end = value_at[0, 0], value_at[0, 1]
    return end - begin == len(version) and is_at(octets, begin, version, 0, len(version))
