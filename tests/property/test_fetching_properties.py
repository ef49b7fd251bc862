"""Records read as bytes and places are those that aiokafka reads, whatever the log holds and however it is cut."""

import gc
import struct
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.kernel.log_records import BATCH_COLUMNS, RECORD_COLUMNS, index_records
from stream import fetching
from stream.log_records import LogRecords

TP = TopicPartition("calls", 3)
Texts = tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]
Row = tuple[str, int, int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]
# What the fetcher had before anything was installed in it.
STOCK_RECORDS: Any = fetching.PartitionRecords.__mro__[1]

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)


@dataclass
class Log:
    """A partition's bytes, batch by batch."""

    data: bytes = b""
    end: int = 0
    batches: list[tuple[int, int]] = field(default_factory=list)

    def append(
        self, texts: Sequence[Texts], *, magic: int = 2, codec: int = NONE, is_transactional: bool = False, gap: int = 0
    ) -> None:
        """One batch; `gap` offsets behind its last record were compacted away."""
        builder: Any
        if magic == 2:
            builder = DefaultRecordBatchBuilder(
                magic, codec, is_transactional, 7 if is_transactional else -1, 0, 0, 10**7
            )
            for at, (key, value, headers) in enumerate(texts):
                builder.append(at, 1_767_225_600_000 + 10 * at, key, value, headers)
        else:
            builder = LegacyRecordBatchBuilder(magic, codec, 10**7)
            for at, (key, value, _) in enumerate(texts):
                builder.append(at, 1_767_225_600_000 + 10 * at, key, value)
        built = bytearray(builder.build())
        if magic == 2:
            struct.pack_into(">q", built, 0, self.end)
            struct.pack_into(">i", built, 23, len(texts) - 1 + gap)
            struct.pack_into(">I", built, 17, calc_crc32c(bytes(built[21:])))
        else:
            self._move(built, len(texts), codec)
            # Not compressed, each is sent by itself: a fetch never begins before what was asked for.
            self.batches += [(len(self.data), self.end + at) for at in range(len(texts) if codec == NONE else 0)]
        if magic == 2 or codec:
            self.batches.append((len(self.data), self.end))
        self.data += bytes(built)
        self.end += len(texts) + gap

    def _move(self, built: bytearray, count: int, codec: int) -> None:
        """Messages of the older formats have an offset each; a compressed one that of its last."""
        at = 0
        for number in range(1 if codec else count):
            struct.pack_into(">q", built, at, self.end + (count - 1 if codec else number))
            at += 12 + struct.unpack_from(">i", built, at + 8)[0]


def rows(records: Sequence[Any]) -> list[Row]:
    return [(one.topic, one.partition, one.offset, one.timestamp, one.key, one.value, one.headers) for one in records]


def stock(data: bytes, begin: int) -> tuple[list[Row], int]:
    """What aiokafka reads, and where it would then fetch."""
    found = STOCK_RECORDS(TP, MemoryRecords(data), None, begin, None, None, True, 0)
    return rows(list(found)), found.next_fetch_offset


def ours(data: bytes, begin: int, *, most: int) -> tuple[list[Row], int]:
    """The same, taken `most` at a time through the fetcher's own door."""
    found = fetching.PartitionRecords(TP, fetching.Fetched(data), None, begin, None, None, True, 0)
    position = SimpleNamespace(paused=False, position=begin)
    position.consumed_to = lambda offset: setattr(position, "position", offset)
    assignment = SimpleNamespace(active=True, state_value=lambda _: position)
    result = fetching.FetchResult(TP, assignment=assignment, partition_records=found, backoff=0.1)
    read: list[Row] = []
    while result.has_more():
        reached = position.position
        some = result.getall(most)
        assert len(some) <= most
        # Where it stood lost nothing of what then came, and where it stands now repeats nothing of it.
        assert all(reached <= one.offset < position.position for one in some)
        read += rows(some)
    return read, position.position


small = st.one_of(st.none(), st.binary(max_size=40))
texts = st.lists(
    st.tuples(small, small, st.lists(st.tuples(st.text(max_size=5), small), max_size=2)), min_size=1, max_size=9
)


@st.composite
def logs(draw: st.DrawFn, *, magics: Sequence[int] = (2, 2, 2, 1, 0)) -> Log:
    """Of one format: aiokafka cannot read a log that mixes them, and no broker sends one."""
    log = Log(end=draw(st.integers(0, 2**40)))
    magic = draw(st.sampled_from(magics))
    for some in draw(st.lists(texts, min_size=1, max_size=6)):
        log.append(
            some,
            magic=magic,
            codec=draw(st.sampled_from([NONE, NONE, NONE, GZIP, SNAPPY, LZ4, ZSTD] if magic == 2 else [NONE, GZIP])),
            is_transactional=magic == 2 and draw(st.integers(0, 5)) == 0,
            gap=draw(st.sampled_from([0, 0, 0, 3])) if magic == 2 else 0,
        )
    return log


@pytest.mark.parametrize("is_transactional", [False, True])
def test_bytes_that_were_read_go_at_once(is_transactional: bool) -> None:
    # Not when the collector looks for cycles, which a worker has it do seldom: each holds megabytes.
    log = Log()
    log.append([(None, b"{}", [])] * 5, is_transactional=is_transactional)
    fetched = fetching.Fetched(log.data)
    gone = weakref.ref(fetched)
    gc.disable()
    try:
        records = fetching.PartitionRecords(TP, fetched, None, 0, None, None, True, 0)
        del fetched
        assert len(records.take(9)) == 5
        assert not records.take(9)
        del records
        assert gone() is None
    finally:
        gc.enable()


@settings(deadline=None)
@given(logs(), st.integers(0, 12), st.integers(1, 30), st.integers(0, 60))
def test_any_log_is_read_as_aiokafka_reads_it(log: Log, late: int, most: int, cut: int) -> None:
    # A fetch begins somewhere in the first batch.
    ends = [begin for _, begin in log.batches[1:]] + [log.end]
    begin = min(log.batches[0][1] + late, ends[0] - 1)
    whole, end = stock(log.data, begin)
    assert ours(log.data, begin, most=most) == (whole, end)
    # The last batch may be cut off by the size of the fetch.
    data = log.data[: len(log.data) - cut] if cut < len(log.data) else log.data
    assert ours(data, begin, most=most) == stock(data, begin)


@settings(deadline=None)
@given(logs(magics=[2]), st.data())
def test_a_damaged_log_gives_what_is_before_the_damage_and_then_says_so(log: Log, data: st.DataObject) -> None:
    (at, begin) = data.draw(st.sampled_from(log.batches))
    damaged = bytearray(log.data)
    # Behind the checksum, which then is another one.
    damaged[data.draw(st.integers(at + 23, at + 61))] ^= data.draw(st.integers(1, 255))
    found = fetching.PartitionRecords(
        TP, fetching.Fetched(bytes(damaged)), None, log.batches[0][1], None, None, True, 0
    )
    read: list[Row] = []

    def read_all() -> None:
        while some := found.take(5):
            read.extend(rows(some))

    with pytest.raises(CorruptRecordException, match="calls"):
        read_all()
    expected, _ = stock(log.data[:at], log.batches[0][1])
    assert read == expected
    assert found.next_fetch_offset == begin


@pytest.mark.parametrize("codec", [NONE, GZIP, SNAPPY, LZ4, ZSTD])
def test_every_codec_is_read_without_an_object_for_each_record(codec: int) -> None:
    log = Log(end=7)
    log.append([(b"%d" % number, b"v" * 40, []) for number in range(2000)], codec=codec)
    found = fetching.PartitionRecords(TP, fetching.Fetched(log.data), None, 7, None, None, True, 0).take(5000)
    assert isinstance(found, LogRecords)
    assert rows(found) == stock(log.data, 7)[0]


def test_a_number_of_records_that_cannot_be_is_said() -> None:
    log = Log()
    log.append([(None, b"v", [])])
    false = bytearray(log.data)
    struct.pack_into(">i", false, 57, 2**31 - 1)
    struct.pack_into(">I", false, 17, calc_crc32c(bytes(false[21:])))
    with pytest.raises(CorruptRecordException, match="2147483647 records are said to be in"):
        fetching.PartitionRecords(TP, fetching.Fetched(bytes(false)), None, 0, None, None, True, 0).take(1)


def test_what_the_broker_stamped_has_the_brokers_time() -> None:
    log = Log(end=5)
    log.append([(b"k", b"v", []), (b"k", b"w", [])])
    stamped = bytearray(log.data)
    stamped[22] |= 0x08
    struct.pack_into(">q", stamped, 35, 1_800_000_000_000)
    struct.pack_into(">I", stamped, 17, calc_crc32c(bytes(stamped[21:])))
    assert [row[3] for row in ours(bytes(stamped), 5, most=9)[0]] == [1_800_000_000_000] * 2
    assert ours(bytes(stamped), 5, most=9) == stock(bytes(stamped), 5)


@settings(deadline=None)
@given(texts, st.data())
def test_bytes_that_are_no_records_are_never_read_beyond_their_batch(some: list[Texts], data: st.DataObject) -> None:
    log = Log()
    log.append(some)
    body = bytearray(log.data)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(61, len(body) - 1))] = data.draw(st.integers(0, 255))
    batches = np.array([[61, len(body), 0, 0, len(some), 0]], np.int64)
    assert batches.shape[1] == BATCH_COLUMNS
    columns = np.empty((RECORD_COLUMNS, len(some)), np.int64)
    if index_records(np.frombuffer(bytes(body), np.uint8), batches, columns) < 0:
        places = columns[2:]
        assert ((places >= -1) & (places <= len(body))).all()
        # And as objects they can be looked at.
        rows(LogRecords(bytes(body), columns))


@pytest.mark.parametrize("bad", [b"\xff" * 11, b"\x80"], ids=["too many bytes", "the data ends in it"])
def test_headers_are_read_up_to_the_first_that_is_damaged(bad: bytes) -> None:
    log = Log()
    log.append([(None, b"v", [("first", b"1"), ("second", b"x" * (len(bad) - 1))])])
    damaged = bytearray(log.data)
    damaged[len(damaged) - len(bad) :] = bad
    columns = np.empty((RECORD_COLUMNS, 1), np.int64)
    batches = np.array([[61, len(damaged), 0, 0, 1, 0]], np.int64)
    assert index_records(np.frombuffer(bytes(damaged), np.uint8), batches, columns) < 0
    assert LogRecords(bytes(damaged), columns)[0].headers == (("first", b"1"),)


def test_one_record_and_slices_and_all_of_them_are_the_same() -> None:
    log = Log(end=9)
    log.append([(b"%d" % number, b"v" * number, [("h", b"x"), ("n", None)]) for number in range(20)])
    found = fetching.PartitionRecords(TP, fetching.Fetched(log.data), None, 9, None, None, True, 0).take(100)
    assert isinstance(found, LogRecords)
    whole = rows(found)
    assert [rows([found[at]])[0] for at in range(20)] == whole
    assert rows(found[3:17:5]) == whole[3:17:5]
    assert rows([found[-1]]) == whole[-1:]
    assert list(found.offsets) == list(range(9, 29))
    one_by_one: Callable[[], Any] = fetching.PartitionRecords(
        TP, fetching.Fetched(log.data), None, 9, None, None, True, 0
    ).__next__
    assert rows([one_by_one() for _ in range(20)]) == whole
    with pytest.raises(StopIteration):
        one_by_one()
