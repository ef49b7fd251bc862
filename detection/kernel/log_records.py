"""Where the records of a log are in the bytes of its batches: Kafka's message format v2, uncompressed.

A record is its length, attributes, the distance of its time and of its offset from those of its batch, key, value and
headers; lengths and distances are zigzag varints of protocol buffers, a length of -1 says that there is nothing
("Kafka protocol guide", record batch).
"""

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled
from detection.kernel.uncounted import uncounted

Octets = NDArray[np.uint8]
Whole = NDArray[np.int64]

# What is said of a batch: where its records begin and end, the offset and the time (ms) that theirs are counted from,
# how many there are, and 1 where the broker gave all of them that time.
BATCH_COLUMNS = 6
# What is said of a record: offset, time (ms), and from where to where its key, value and headers are; -1 for no key.
RECORD_COLUMNS = 8
OFFSET, TIMESTAMP, KEY, KEY_END, VALUE, VALUE_END, HEADERS, HEADERS_END = range(RECORD_COLUMNS)

# A varint of 64 bits is no longer.
_LONGEST = 10


@compiled
def index_records(data: Octets, batches: Whole, records: Whole) -> int:
    """Fill `records` (RECORD_COLUMNS, N) with those of `batches` (M, BATCH_COLUMNS), one behind the other.

    Returns -1, or the row of the first batch whose bytes are no records.
    """
    data = uncounted(data)
    n = 0
    for i in range(len(batches)):
        at, end = batches[i, 0], batches[i, 1]
        for _ in range(batches[i, 4]):
            length, start = _varint(data, at, end)
            if not 0 <= length <= end - start:
                return i
            ends = start + length
            # One byte of attributes, which nobody has given a meaning yet.
            distance, at = _varint(data, start + 1, ends)
            records[TIMESTAMP, n] = batches[i, 3] + (0 if batches[i, 5] else distance)
            distance, at = _varint(data, at, ends)
            records[OFFSET, n] = batches[i, 2] + distance
            for column in (KEY, VALUE):
                size, at = _varint(data, at, ends)
                if not -1 <= size <= ends - at:
                    return i
                records[column, n] = at if size >= 0 else -1
                at += max(size, 0)
                records[column + 1, n] = at
            if at >= ends:
                # Not even the number of headers.
                return i
            records[HEADERS, n], records[HEADERS_END, n] = at, ends
            at = ends
            n += 1
        if at != end:
            return i
    return -1


@compiled
def _varint(data: Octets, at: int, end: int) -> tuple[int, int]:
    """The number at this place, and the place behind it: beyond the end where there is none, so that nothing fits."""
    number = np.uint64(0)
    for shift in range(_LONGEST):
        if at >= end:
            break
        octet = data[at]
        at += 1
        number |= np.uint64(octet & 127) << np.uint64(7 * shift)
        if octet < 128:
            half, sign = np.int64(number >> np.uint64(1)), np.int64(number & np.uint64(1))
            return half ^ -sign, at  # type: ignore[return-value]  # compiled code has one kind of whole number
    return -2, end + 1
