"""Lines of subjects, in blocks that unpack alone: a subject is read by its block, and all of them in one go."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import pyarrow as pa

from detection.errors import UnreadableStateError
from state.export import check_of
from state.snapshots.index import Entry, unpacked
from state.snapshots.manifest import SEGMENTS, Segment
from state.snapshots.storage import Storage

# Lines in a block before they are packed, and packed blocks in a segment: what has to be in memory of each.
_BLOCK: Final = 512 * 1024
_SEGMENT: Final = 16 * 1024 * 1024
# Segments on their way to the storage at a time.
_UPLOADS: Final = 2
# What is read of all segments of a snapshot ahead, and of one at most.
_AHEAD: Final = 48 * 1024 * 1024
_WINDOW: Final = 4 * 1024 * 1024


class SegmentWriter:
    """Packs lines into segments, and brings them to the storage while the next one is made.

    `is_there` says whether the storage has an object of this path and these bytes.
    """

    def __init__(self, storage: Storage, numbers: Iterator[int], is_there: Callable[[str, int], bool]) -> None:
        self._storage = storage
        self._numbers = numbers
        self._is_there = is_there
        self._lines: list[bytes] = []
        self._line_bytes = 0
        self._waiting: list[Entry] = []
        self._packed = bytearray()
        self._subjects = 0
        self._uploads: set[asyncio.Task[None]] = set()
        self._number = -1
        self._segments: dict[int, Segment] = {}
        self.uploaded_bytes = 0

    async def add(self, entry: Entry, line: bytes) -> None:
        """The next line; the entry is told its segment now, and where in it when the block is packed."""
        if not self._subjects:
            self._number = next(self._numbers)
        entry.segment = self._number
        self._lines.append(line)
        self._line_bytes += len(line)
        self._waiting.append(entry)
        self._subjects += 1
        if self._line_bytes >= _BLOCK:
            await self._pack()

    async def close(self) -> dict[int, Segment]:
        """What is written, by its number; all of it is in the storage."""
        await self._pack()
        await self._finish()
        await self._uploaded(0)
        return dict(self._segments)

    async def _pack(self) -> None:
        if not self._lines:
            return
        block = await asyncio.to_thread(_packed, b"".join(self._lines))
        for entry in self._waiting:
            entry.offset, entry.length = len(self._packed), len(block)
        self._packed += block
        self._lines, self._waiting, self._line_bytes = [], [], 0
        if len(self._packed) >= _SEGMENT:
            await self._finish()

    async def _finish(self) -> None:
        if not self._packed:
            return
        content = bytes(self._packed)
        digest = await asyncio.to_thread(lambda: sha256(content).hexdigest())
        path = segment_path(digest)
        self._segments[self._number] = Segment(path, digest, len(content), self._subjects, self._subjects)
        await self._uploaded(_UPLOADS - 1)
        self._uploads.add(asyncio.create_task(self._upload(path, content)))
        self._packed, self._subjects = bytearray(), 0

    async def _upload(self, path: str, content: bytes) -> None:
        if not self._is_there(path, len(content)):
            await asyncio.to_thread(self._storage.put, path, content)
            self.uploaded_bytes += len(content)

    async def _uploaded(self, most: int) -> None:
        while len(self._uploads) > most:
            done, self._uploads = await asyncio.wait(self._uploads, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()


def segment_path(digest: str) -> str:
    """A segment is called by the SHA-256 of its content."""
    return f"{SEGMENTS}/{digest}.ndjson.zst"


def _packed(lines: bytes) -> bytes:
    found: bytes = pa.Codec("zstd").compress(lines, asbytes=True)
    return found


def read_ahead(segments: int) -> int:
    """Bytes to be read of each segment at once, where so many are read side by side."""
    return min(_WINDOW, _AHEAD // max(segments, 1))


@dataclass(slots=True)
class _Block:
    offset: int
    lines: dict[str, bytes]


class SegmentReader:
    """Lines of one segment, whose blocks are asked for in their order; the next bytes are on their way meanwhile.

    UnreadableStateError names the segment, and the subject whose line is not what the index says.
    """

    def __init__(self, storage: Storage, segment: Segment, executor: Executor | None, *, window: int) -> None:
        self._storage = storage
        self._segment = segment
        self._executor = executor
        self._window = window
        self._start = 0
        self._bytes = b""
        self._next: tuple[int, Future[bytes]] | None = None
        self._block = _Block(-1, {})

    def line(self, entry: Entry) -> bytes:
        """The subject's line, whose check is the one in the index."""
        if self._block.offset != entry.offset:
            self._block = self._unpack(entry)
        found = self._block.lines.get(entry.check)
        if found is None:
            raise UnreadableStateError(
                f"{self._segment.path}: has no line of {entry.subject} with the check {entry.check} at byte "
                f"{entry.offset:,}"
            )
        return found

    def _unpack(self, entry: Entry) -> _Block:
        packed = self._read(entry.offset, entry.length)
        where = f"{self._segment.path}: bytes {entry.offset:,} to {entry.offset + entry.length:,}"
        if len(packed) != entry.length:
            raise UnreadableStateError(f"{where}: it ends after {len(packed):,} of them")
        try:
            lines = unpacked(packed).splitlines(keepends=True)
        except (OSError, ValueError) as error:
            raise UnreadableStateError(f"{where} are damaged: {error}") from error
        return _Block(entry.offset, {check_of(line): line for line in lines})

    def _read(self, offset: int, length: int) -> bytes:
        end = self._start + len(self._bytes)
        if not self._start <= offset < end + 1 or not self._bytes:
            self._start, self._bytes, end = offset, b"", offset
        if offset > self._start:
            self._bytes = self._bytes[offset - self._start :]
            self._start = offset
        while end < offset + length:
            more = self._more(end, offset + length - end)
            if not more:
                break
            self._bytes += more
            end += len(more)
        return self._bytes[:length]

    def _more(self, start: int, least: int) -> bytes:
        """The bytes from there on; what comes behind them is asked for already."""
        if start >= self._segment.bytes:
            return b""
        if self._next is not None and self._next[0] == start:
            found = self._next[1].result()
        else:
            found = self._fetch(start, max(self._window, least))
        self._next = None
        after = start + len(found)
        if self._executor is not None and found and after < self._segment.bytes:
            self._next = after, self._executor.submit(self._fetch, after, self._window)
        return found

    def _fetch(self, start: int, length: int) -> bytes:
        wanted = min(length, self._segment.bytes - start)
        return self._storage.get_range(self._segment.path, start=start, length=wanted)
