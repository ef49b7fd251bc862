"""aiokafka's fetcher, without an object for each record.

Of each record aiokafka makes two objects, with a dozen fields that nobody here looks at: half of all that a call cost.
What is installed here takes batches as the bytes that they are (`stream.log_records`). Those of transactions and of
older formats it leaves to aiokafka, batch by batch: whoever reads has the same records either way.
"""

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from stream.log_records import Batch, LogRecords, batch_at


def install() -> None:
    """From now on every consumer of this process reads this way: the fetcher lets nobody choose."""
    fetcher.MemoryRecords = Fetched
    fetcher.PartitionRecords = PartitionRecords
    fetcher.FetchResult = FetchResult


class Fetched:
    """What a fetch brought of one partition: the bytes, and aiokafka's own view of them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._view = MemoryRecords(data)

    def has_next(self) -> bool:
        """Whether there is one whole batch."""
        return bool(self._view.has_next())

    def size_in_bytes(self) -> int:
        return int(self._view.size_in_bytes())


class PartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka publishes no annotations
    """Hands over records many at a time."""

    next_fetch_offset: int

    def __init__(self, tp: Any, records: Fetched, *others: Any) -> None:
        super().__init__(tp, records, *others)
        # aiokafka's iterator and this object hold each other: the bytes would stay until the collector looks, seldom.
        self._records_iterator = None
        self._data = records.data
        self._at = 0
        # What was found and is not taken yet: records and the offset behind them, or a batch that is aiokafka's.
        self._found: tuple[LogRecords, int] | None = None
        self._unusual: Iterator[Any] | None = None

    @property
    def is_at_end(self) -> bool:
        """Whether there is certainly nothing more."""
        return self._found is None and self._unusual is None and self._at >= len(self._data)

    def __next__(self) -> Any:
        for record in self.take(1):
            return record
        raise StopIteration

    def take(self, most: int) -> Sequence[Any]:
        """Up to `most` records, oldest first, none at the end; raises CorruptRecordException."""
        while True:
            if self._found is not None:
                return self._take_found(*self._found, most)
            if self._unusual is not None:
                some = list(islice(self._unusual, most))
                if some:
                    return some
                self._unusual = None
            if not self._find():
                return []

    def _take_found(self, found: LogRecords, end: int, most: int) -> LogRecords:
        taken = found[:most]
        if len(found) > most:
            self._found = found[most:], end
            self.next_fetch_offset = taken[-1].offset + 1
        else:
            self._found = None
            # Behind the last record there may be offsets of some that were compacted away.
            self.next_fetch_offset = end
        return taken

    def _find(self) -> bool:
        """Find the records of the next batches; False where there are no more batches."""
        batches: list[Batch] = []
        while (batch := batch_at(self._data, self._at)) is not None:
            if not batch.is_known:
                if not batches:
                    # In aiokafka's own way, this batch alone.
                    self._records = MemoryRecords(self._data[self._at : batch.stop])
                    self._unusual = self._unpack_records()
                    self._at = batch.stop
                    return True
                break
            if batch.is_compressed and batches:
                break
            if self._check_crcs and not batch.is_sound(self._data):
                if not batches:
                    raise CorruptRecordException(f"Invalid CRC - {self._tp}")
                break
            batches.append(batch)
            self._at = batch.stop
            if batch.is_compressed:
                break
        else:
            # What is left was cut off by the size of the fetch.
            self._at = len(self._data)
        if not batches:
            return False
        try:
            found = self._read(batches)
        except ValueError as error:
            raise CorruptRecordException(f"{self._tp}: {error}") from error
        # A batch may begin before what was asked for.
        found = found[int(np.searchsorted(found.offsets, self.next_fetch_offset)) :]
        end = max(batches[-1].end_offset, self.next_fetch_offset)
        if found:
            self._found = found, end
        else:
            self.next_fetch_offset = end
        return True

    def _read(self, batches: Sequence[Batch]) -> LogRecords:
        """The records of several uncompressed batches, or of a compressed one."""
        if batches[0].is_compressed:
            return LogRecords.of_compressed(self._data, batches[0], self._tp)
        return LogRecords.of_batches(self._data, batches, self._tp)


class FetchResult(fetcher.FetchResult):  # type: ignore[misc]  # as above
    """Gives as many records at once as are asked for, without looking at each of them."""

    _partition_records: PartitionRecords | None

    def getall(self, max_records: int | None = None) -> Sequence[Any]:
        """The next records; none where there are no more, or the consumer is somewhere else by now."""
        found = self._partition_records
        if not self.check_assignment(self._topic_partition) or found is None:
            return []
        records = found.take(sys.maxsize if max_records is None else max_records)
        self._update_position()
        if not records or found.is_at_end:
            self._partition_records = None
        return records
