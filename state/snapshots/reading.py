"""A snapshot as the lines of an export file, and whether all of it is there and whole."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from detection.errors import InputError, UnreadableStateError
from detection.policy import Policy
from detection.subject import Subject
from state.export import Reader, Writer
from state.snapshots.index import entries
from state.snapshots.manifest import INDEXES, SEGMENTS, Manifest, Segment
from state.snapshots.segments import SegmentReader, read_ahead, segment_path
from state.snapshots.storage import Storage

_READERS: Final = 2


@contextmanager
def lines(
    storage: Storage,
    manifest: Manifest,
    *,
    fits: Callable[[Subject], bool] | None = None,
    exactly: Sequence[str] | None = None,
) -> Iterator[Iterator[bytes]]:
    """The lines of the snapshot, or of the subjects that fit; `exactly` are their texts where those are known.

    Of some subjects, only the blocks with their lines are read; their header says that they are some. All of it comes
    byte for byte as it was exported. UnreadableStateError names the object that is missing or damaged.
    """
    with ThreadPoolExecutor(_READERS, thread_name_prefix="snapshot") as executor:
        window = read_ahead(len(manifest.segments)) if fits is None else 0
        ahead = executor if fits is None else None
        readers = [SegmentReader(storage, one, ahead, window=window) for one in manifest.segments]
        yield _whole(storage, manifest, readers) if fits is None else _some(storage, manifest, readers, fits, exactly)


def _whole(storage: Storage, manifest: Manifest, readers: Sequence[SegmentReader]) -> Iterator[bytes]:
    yield manifest.header.encode()
    for entry in entries(storage, manifest):
        yield readers[entry.segment].line(entry)
    yield manifest.trailer.encode()


def _some(
    storage: Storage,
    manifest: Manifest,
    readers: Sequence[SegmentReader],
    fits: Callable[[Subject], bool],
    exactly: Sequence[str] | None,
) -> Iterator[bytes]:
    writer = Writer()
    header = Reader([manifest.header.encode()]).header
    yield writer.header(replace(header, is_partial=True))
    for entry in entries(storage, manifest, among=exactly):
        if fits(Subject.parse(entry.subject)):
            writer.kept(entry.check)
            yield readers[entry.segment].line(entry)
    yield writer.trailer()


@dataclass(frozen=True, slots=True)
class Verified:
    """What was read of a snapshot, and what is wrong with it."""

    id: str
    subjects: int
    bytes: int
    faults: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether it can be restored."""
        return not self.faults


def verify(storage: Storage, manifest: Manifest, policy: Policy, advance: Callable[[int], None]) -> Verified:
    """Read every object and compare its sum, then read every subject's state; `advance` hears of bytes.

    What is said of an object is why it cannot be used; the subjects are looked at only where all objects are whole.
    """
    faults = [fault for one in manifest.segments if (fault := _fault(storage, one, advance))]
    subjects = 0
    if not faults:
        try:
            with lines(storage, manifest) as found:
                for exported in Reader(found).subjects():
                    exported.state(policy)
                    subjects += 1
        except (InputError, UnreadableStateError) as error:
            faults.append(str(error))
    return Verified(manifest.id, subjects, manifest.stored_bytes, tuple(faults))


def _fault(storage: Storage, segment: Segment, advance: Callable[[int], None]) -> str:
    digest, size = sha256(), 0
    try:
        for chunk in storage.stream(segment.path):
            digest.update(chunk)
            size += len(chunk)
            advance(len(chunk))
    except UnreadableStateError as error:
        return str(error)
    if size != segment.bytes:
        return f"{segment.path}: is damaged: it has {size:,} bytes, and the manifest says {segment.bytes:,}"
    if digest.hexdigest() != segment.sha256 or segment.path != segment_path(segment.sha256):
        return f"{segment.path}: is damaged: its SHA-256 is another"
    return ""


def foreign(storage: Storage, manifests: Sequence[Manifest]) -> list[str]:
    """Objects where segments and indexes are, of which no snapshot says anything."""
    known = {path for one in manifests for path in one.paths()}
    return sorted(one.path for folder in (SEGMENTS, INDEXES) for one in storage.list(folder) if one.path not in known)
