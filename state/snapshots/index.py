"""Where each subject's line is: parts of some ten thousand subjects, lines of JSON, packed.

    ["biller:B1",17,"9f2c4e6ab1d07735","41e0aa0c93b2f1d8",3,0,118204]

The subject, its revision, its fingerprint (`state.redis_export.fingerprint`), the check of its line, the number of the
segment in the manifest, and where the block with its line begins there and how long it is.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from hashlib import sha256
from typing import Final

import orjson
import pyarrow as pa

from detection.errors import UnreadableStateError
from state.snapshots.manifest import INDEXES, IndexPart, Manifest
from state.snapshots.storage import Storage

_PART: Final = 25_000


@dataclass(slots=True)
class Entry:
    """A subject's line; segment and block are known when the block is packed."""

    subject: str
    rev: int
    fingerprint: str
    check: str
    segment: int = -1
    offset: int = 0
    length: int = 0

    @property
    def is_placed(self) -> bool:
        """Whether it is known where the line is."""
        return self.length > 0


class IndexWriter:
    """Writes entries in the order of their subjects, a part at a time."""

    def __init__(self, storage: Storage, snapshot_id: str) -> None:
        self._storage = storage
        self._folder = f"{INDEXES}/{snapshot_id}"
        self._lines: list[bytes] = []
        self._first = ""
        self._last = ""
        self.parts: list[IndexPart] = []

    def add(self, entry: Entry) -> None:
        """The next one."""
        self._first = self._first or entry.subject
        self._last = entry.subject
        self._lines.append(orjson.dumps(astuple(entry), option=orjson.OPT_APPEND_NEWLINE))
        if len(self._lines) >= _PART:
            self._write()

    def close(self) -> list[IndexPart]:
        """Write the rest."""
        if self._lines:
            self._write()
        return self.parts

    def _write(self) -> None:
        content = pa.Codec("zstd").compress(b"".join(self._lines), asbytes=True)
        path = f"{self._folder}/{len(self.parts):05d}.ndjson.zst"
        self._storage.put(path, content)
        self.parts.append(
            IndexPart(path, sha256(content).hexdigest(), len(content), len(self._lines), self._first, self._last)
        )
        self._lines, self._first = [], ""


def entries(storage: Storage, manifest: Manifest, *, among: Iterable[str] | None = None) -> Iterator[Entry]:
    """The entries in the order of their subjects, of the parts that may have one of `among` where that is given.

    UnreadableStateError names the part that is missing or damaged.
    """
    wanted = None if among is None else list(among)
    for part in manifest.index:
        if wanted is None or any(part.first <= one <= part.last for one in wanted):
            yield from _read(storage, part)


def _read(storage: Storage, part: IndexPart) -> Iterator[Entry]:
    content = storage.get(part.path)
    if (len(content), sha256(content).hexdigest()) != (part.bytes, part.sha256):
        raise UnreadableStateError(f"{part.path}: is damaged: {len(content):,} of {part.bytes:,} bytes, or another sum")
    count = 0
    try:
        for line in io.BytesIO(unpacked(content)):
            yield Entry(*orjson.loads(line))
            count += 1
    except (OSError, TypeError, ValueError) as error:
        raise UnreadableStateError(f"{part.path}: cannot be read: {error}") from error
    if count != part.subjects:
        raise UnreadableStateError(f"{part.path}: has {count:,} subjects, and the manifest says {part.subjects:,}")


def unpacked(content: bytes) -> bytes:
    """What was packed with Zstandard; OSError or ValueError where it is damaged."""
    with pa.CompressedInputStream(pa.BufferReader(content), "zstd") as stream:
        found: bytes = stream.read()
    return found
