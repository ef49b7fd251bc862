"""Ids by number, in the order in which they were first seen: a hash table over the bytes of ids that lie side by side.

FNV-1a (draft-eastlake-fnv) from a secret beginning, so that nobody outside can choose ids that share a place, mixed at
the end as MurmurHash3 does; linear probing.
"""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled
from detection.kernel.uncounted import uncounted

Octets = NDArray[np.uint8]
Whole = NDArray[np.int64]

# In the table: nobody's place.
FREE = -1


@compiled
def number_ids(
    text: Octets, places: Whole, secret: int, known: int, names: Octets, ends: Whole, table: Whole, numbers: Whole
) -> int:
    """Find the numbers of N ids, each in `text` from and to where its row of `places` (N, 2) says.

    The bytes of the ids numbered so far, `known` of them, lie in `names` one behind the other, up to their `ends`.
    A new one is put behind them, and into the table, which is a power of two long and must never be full. Returns how
    many are known then.
    """
    text, names, ends = uncounted(text), uncounted(names), uncounted(ends)
    for i in range(len(places)):
        start, stop = places[i, 0], places[i, 1]
        place = _place(text, start, stop, secret, len(table))
        while table[place] != FREE and not _is_same(text, start, stop, names, ends, table[place]):
            place = (place + 1) & (len(table) - 1)
        if table[place] == FREE:
            table[place] = known
            begin = ends[known - 1] if known else 0
            for at in range(start, stop):
                names[begin + at - start] = text[at]
            ends[known] = begin + stop - start
            known += 1
        numbers[i] = table[place]
    return known


@compiled
def place_ids(names: Octets, ends: Whole, secret: int, known: int, table: Whole) -> None:
    """Put the ids that are known into an empty table."""
    names = uncounted(names)
    begin = 0
    for number in range(known):
        place = _place(names, begin, ends[number], secret, len(table))
        while table[place] != FREE:
            place = (place + 1) & (len(table) - 1)
        table[place] = number
        begin = ends[number]


@compiled
def _place(text: Octets, start: int, stop: int, secret: int, size: int) -> int:
    mixed = np.uint64(secret)
    for at in range(start, stop):
        mixed = (mixed ^ np.uint64(text[at])) * np.uint64(1099511628211)
    mixed ^= mixed >> np.uint64(33)
    mixed *= np.uint64(0xFF51AFD7ED558CCD)
    mixed ^= mixed >> np.uint64(33)
    return np.int64(mixed & np.uint64(size - 1))  # type: ignore[return-value]  # compiled code has one kind of whole number


@compiled
def _is_same(text: Octets, start: int, stop: int, names: Octets, ends: Whole, number: int) -> bool:
    begin = ends[number - 1] if number else 0
    if ends[number] - begin != stop - start:
        return False
    for at in range(stop - start):
        if names[begin + at] != text[start + at]:
            return False
    return True
