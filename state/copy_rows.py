"""Rows of PostgreSQL's binary COPY made of whole columns: no Python object to a row, and a float arrives bit for bit.

The format is that of "COPY: Binary Format" in PostgreSQL's documentation: a header, rows of fields with their lengths,
a trailer; numbers are big-endian.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Int64s = NDArray[np.int64]
Floats = NDArray[np.float64]

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"

# 2000-01-01, where PostgreSQL's clock begins.
_POSTGRES_EPOCH_MS: Final = 946_684_800_000
# An 8-byte number with its length before it.
_CELL: Final = 12


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts: each row's is one of a few."""

    values: Sequence[bytes]
    code: Int64s


@dataclass(frozen=True, slots=True)
class Pairs:
    """A column of `bigint[][]` of two rows: row n's are the slices of `first` and `second` that end at `ends[n]`."""

    first: Int64s
    second: Int64s
    ends: Int64s


def moments(ms: Int64s) -> Int64s:
    """Milliseconds since the epoch as a column of `timestamptz`."""
    return (ms - _POSTGRES_EPOCH_MS) * 1000


def copy_rows(texts: Sequence[Texts], numbers: Sequence[Int64s | Floats], pairs: Pairs | None = None) -> bytes:
    """Everything that COPY is sent: in each row first its texts, then its numbers of 8 bytes, then its pairs.

    Rows that are equally long in each of their fields are made together, and keep their order.
    """
    rows = len(numbers[0])
    fields = len(texts) + len(numbers) + (pairs is not None)
    layout = np.zeros(rows, np.int64)
    for column in texts:
        length = np.array([len(value) for value in column.values], np.int64)
        layout = layout * (int(length.max(initial=0)) + 1) + length[column.code]
    if pairs is not None:
        layout = layout * (int(np.diff(pairs.ends, prepend=0).max()) + 1) + np.diff(pairs.ends, prepend=0)
    order = np.argsort(layout, kind="stable")
    borders = np.flatnonzero(np.diff(layout[order])) + 1
    parts = [HEADER]
    for chosen in np.split(order, borders):
        columns = [_constant(fields.to_bytes(2, "big"), len(chosen))]
        for text in texts:
            columns += _text_cells(text, chosen)
        columns += [_number_cells(number[chosen]) for number in numbers]
        if pairs is not None:
            columns.append(_pair_cells(pairs, chosen))
        parts.append(np.concatenate(columns, axis=1).tobytes())
    parts.append(TRAILER)
    return b"".join(parts)


def _constant(value: bytes, rows: int) -> Bytes:
    return np.broadcast_to(np.frombuffer(value, np.uint8), (rows, len(value)))


def _text_cells(column: Texts, chosen: Int64s) -> list[Bytes]:
    """Of equally long texts."""
    code, inverse = np.unique(column.code[chosen], return_inverse=True)
    width = len(column.values[int(code[0])])
    table = np.frombuffer(b"".join(column.values[one] for one in code.tolist()), np.uint8).reshape(len(code), width)
    return [_constant(width.to_bytes(4, "big"), len(chosen)), table[inverse]]


def _number_cells(numbers: Int64s | Floats) -> Bytes:
    """One cell to each number, side by side in as many columns as there are."""
    cells = np.empty(numbers.shape, [("size", ">i4"), ("number", numbers.dtype.newbyteorder(">"))])
    cells["size"] = 8
    cells["number"] = numbers
    return cells.view(np.uint8).reshape(len(numbers), -1)


def _pair_cells(pairs: Pairs, chosen: Int64s) -> Bytes:
    """Of equally many pairs; an array of int8 (type 20) is sent with its bounds, which begin at 1."""
    ends = pairs.ends[chosen]
    length = int(ends[0] - (pairs.ends[chosen[0] - 1] if chosen[0] else 0))
    at = ends[:, np.newaxis] + np.arange(-length, 0)
    head = (28 + 2 * length * _CELL, 2, 0, 20, 2, 1, length, 1)
    return np.concatenate(
        [
            _constant(b"".join(number.to_bytes(4, "big") for number in head), len(chosen)),
            _number_cells(pairs.first[at]),
            _number_cells(pairs.second[at]),
        ],
        axis=1,
    )
