"""The records of one partition as a fetch brought them: bytes and places, and an object only for what is asked for."""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import overload

import numpy as np
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.record.util import calc_crc32c, decode_varint
from numpy.typing import NDArray

from detection.kernel.log_records import (
    BATCH_COLUMNS,
    HEADERS,
    HEADERS_END,
    KEY,
    KEY_END,
    OFFSET,
    RECORD_COLUMNS,
    TIMESTAMP,
    VALUE,
    VALUE_END,
    index_records,
)

Int64s = NDArray[np.int64]
# A topic and the number of a partition.
Source = tuple[str, int]
_NOWHERE: Source = ("", -1)

# Base offset, length of all that follows on it, leader epoch, magic: in the same places in every format. Then, from v2
# on: CRC, attributes, last offset delta, first and last time, producer's id, epoch and sequence, number of records.
_ANY_HEAD = struct.Struct(">qiib")
_HEAD = struct.Struct(">qiibIhiqqqhii")
_LENGTH_ENDS = struct.calcsize(">qi")
_CRC_ENDS = struct.calcsize(">qiibI")
_MAGIC = 2
# Of the attributes: the codec; a transaction or a control batch; and that the time is the broker's.
_CODEC = 0x07
_UNUSUAL = 0x10 | 0x20
_LOG_APPEND_TIME = 0x08

_UNCOMPRESSED = 0
_DECODERS: dict[int, Callable[[bytes], bytes]] = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of a log, from `start` up to `stop` in the bytes of a fetch; the offset behind it is `end_offset`.

    Only of one that `is_known`, which is of format v2 and of no transaction, is all of it told.
    """

    start: int
    stop: int
    is_known: bool = False
    codec: int = _UNCOMPRESSED
    crc: int = 0
    base_offset: int = 0
    end_offset: int = 0
    base_ms: int = 0
    count: int = 0
    has_log_time: bool = False

    def is_sound(self, data: bytes) -> bool:
        """Whether its bytes are those that were sent: CRC-32C of all that follows on the checksum."""
        return bool(calc_crc32c(memoryview(data)[self.start + _CRC_ENDS : self.stop]) == self.crc)

    @property
    def is_compressed(self) -> bool:
        return self.codec != _UNCOMPRESSED

    def opened(self, data: bytes) -> bytes:
        """Its records, decompressed; raises what its codec does."""
        return bytes(_DECODERS[self.codec](data[self.start + _HEAD.size : self.stop]))

    def description(self, records: int, stop: int) -> tuple[int, ...]:
        """As the compiled reader has it (BATCH_COLUMNS), with its records from there to there."""
        return records, stop, self.base_offset, self.base_ms, self.count, int(self.has_log_time)


def batch_at(data: bytes, at: int) -> Batch | None:
    """The batch that begins there; None where there is none, or not all of it."""
    if at + _ANY_HEAD.size > len(data):
        return None
    _, length, _, magic = _ANY_HEAD.unpack_from(data, at)
    stop = at + _LENGTH_ENDS + length
    if length < 0 or stop > len(data):
        return None
    if magic != _MAGIC or stop - at < _HEAD.size:
        return Batch(at, stop)
    offset, _, _, _, crc, attributes, delta, first_ms, last_ms, *_, count = _HEAD.unpack_from(data, at)
    codec = attributes & _CODEC
    if attributes & _UNUSUAL or count < 0 or (codec and codec not in _DECODERS):
        return Batch(at, stop)
    has_log_time = bool(attributes & _LOG_APPEND_TIME)
    base_ms = last_ms if has_log_time else first_ms
    return Batch(at, stop, True, codec, crc, offset, offset + delta + 1, base_ms, count, has_log_time)  # noqa: FBT003


class LogRecord:
    """One of them, read when it is asked for; `timestamp` is in ms since the epoch, or -1."""

    __slots__ = ("_data", "_places", "offset", "partition", "timestamp", "topic")

    def __init__(self, data: bytes, places: Sequence[int], source: Source) -> None:
        self._data = data
        self._places = places
        self.topic, self.partition = source
        self.offset = places[OFFSET]
        self.timestamp = places[TIMESTAMP]

    @property
    def key(self) -> bytes | None:
        places = self._places
        return None if places[KEY] < 0 else self._data[places[KEY] : places[KEY_END]]

    @property
    def value(self) -> bytes | None:
        places = self._places
        return None if places[VALUE] < 0 else self._data[places[VALUE] : places[VALUE_END]]

    @property
    def headers(self) -> tuple[tuple[str, bytes | None], ...]:
        """Names and values, up to the first that is damaged."""
        found: list[tuple[str, bytes | None]] = []
        with suppress(ValueError, IndexError):
            # A number of too many bytes, or one that the data ends in: what was found before it stays.
            found.extend(_headers(self._data, self._places[HEADERS], self._places[HEADERS_END]))
        return tuple(found)


def _headers(data: bytes, at: int, end: int) -> Iterator[tuple[str, bytes | None]]:
    count, at = decode_varint(data, at)
    for _ in range(count):
        size, at = decode_varint(data, at)
        name, at = data[at : at + max(size, 0)], at + max(size, 0)
        if at >= end:
            break
        size, at = decode_varint(data, at)
        value, at = (data[at : at + size], at + size) if size >= 0 else (None, at)
        if at > end:
            break
        yield name.decode(errors="replace"), value


class LogRecords(Sequence[LogRecord]):
    """Records in the order of the log, over the bytes they came in."""

    __slots__ = ("_columns", "_source", "data")

    def __init__(self, data: bytes, columns: Int64s, source: Source = _NOWHERE) -> None:
        self.data = data
        self._columns = columns
        self._source = source

    @classmethod
    def of_batches(cls, data: bytes, batches: Sequence[Batch], source: Source) -> "LogRecords":
        """Those of uncompressed batches; ValueError for a damaged one."""
        described = [batch.description(batch.start + _HEAD.size, batch.stop) for batch in batches]
        return cls._indexed(data, described, source)

    @classmethod
    def of_compressed(cls, data: bytes, batch: Batch, source: Source) -> "LogRecords":
        """Those of a compressed one; ValueError for a damaged one, and what its codec raises."""
        opened = batch.opened(data)
        return cls._indexed(opened, [batch.description(0, len(opened))], source)

    @classmethod
    def _indexed(cls, data: bytes, described: Sequence[tuple[int, ...]], source: Source) -> "LogRecords":
        rows = np.array(described, np.int64).reshape(-1, BATCH_COLUMNS)
        count = int(rows[:, 4].sum())
        if count > len(data):
            raise ValueError(f"{count} records are said to be in {len(data)} bytes")
        columns = np.empty((RECORD_COLUMNS, count), np.int64)
        damaged = index_records(np.frombuffer(data, np.uint8), rows, columns)
        if damaged >= 0:
            raise ValueError(f"the batch from offset {rows[damaged, 2]} on is damaged")
        return cls(data, columns, source)

    @property
    def offsets(self) -> Int64s:
        offsets: Int64s = self._columns[OFFSET]
        return offsets

    @property
    def timestamps(self) -> Int64s:
        """When the broker was given each of them, in ms since the epoch, or -1."""
        timestamps: Int64s = self._columns[TIMESTAMP]
        return timestamps

    @property
    def values(self) -> tuple[Int64s, Int64s]:
        """From where to where in `data` each value is; an empty place where there is none."""
        start, end = self._columns[VALUE], self._columns[VALUE_END]
        return np.where(start < 0, end, start), np.ascontiguousarray(end)

    def __len__(self) -> int:
        return int(self._columns.shape[1])

    @overload
    def __getitem__(self, at: int) -> LogRecord: ...
    @overload
    def __getitem__(self, at: slice) -> "LogRecords": ...
    def __getitem__(self, at: int | slice) -> "LogRecord | LogRecords":
        if isinstance(at, slice):
            return LogRecords(self.data, self._columns[:, at], self._source)
        return LogRecord(self.data, self._columns[:, at].tolist(), self._source)

    def __iter__(self) -> Iterator[LogRecord]:
        for places in self._columns.T.tolist():
            yield LogRecord(self.data, places, self._source)
