"""A new snapshot: what changed since the one before is read and written, everything else is pointed to where it is.

What changed is told by fingerprints, which Redis works out itself. A segment of which the parent used less than half is
left behind: its subjects are written again, as those of many small segments are. So a snapshot needs at most twice the
bytes of its own lines, and a bounded number of objects, and it never leads through another snapshot.
"""

import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Final

from detection.errors import ConflictError, UnreadableStateError
from detection.hours import iso
from detection.subject import Subject
from state.export import OWN, Header, Writer, check_of
from state.redis_export import RedisExport, fingerprint
from state.redis_store import RedisStore
from state.snapshots.index import Entry, IndexWriter, entries
from state.snapshots.lock import Lock, held
from state.snapshots.manifest import SEGMENTS, Manifest, Segment, catalogue, encode, path_of
from state.snapshots.segments import SegmentWriter
from state.snapshots.storage import Storage

_PAGE: Final = 500
# A segment of which less is used is left behind.
_LEAST_USED: Final = 0.5
# More segments than these that are small are written anew together.
_SMALL: Final = 4 * 1024 * 1024
_MOST_SMALL: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a snapshot is made of.

    `fits` says which subjects are meant: those that `scope`, the globs, fit; the text of all of them begins with
    `prefix`. `is_full` uses nothing again. `now_ms` is the wall clock, and `advance` hears of subjects that are done.
    """

    log_id: str
    program: str
    now_ms: Callable[[], int]
    scope: tuple[str, ...] = ()
    fits: Callable[[Subject], bool] = lambda _: True
    prefix: str = ""
    is_full: bool = False
    advance: Callable[[int], None] = lambda _: None


async def create(store: RedisStore, storage: Storage, order: Order) -> Manifest:
    """The new snapshot, once it is all there.

    Workers may run meanwhile. Each subject is read at one moment, between the start and the end; what the snapshot says
    of the topics is how far they were before the first, so every event before is in it, and what a subject has beyond
    that is said by its own `offsets`. ConflictError while somebody else writes snapshots there.
    """
    async with held(storage, order.now_ms, doing="snapshots create") as lock:
        return await _Creation(store, storage, order, lock).run()


@dataclass(slots=True)
class _Parent:
    """The snapshot before, entry by entry; `usable` are the numbers of the segments that may be used again."""

    id: str = ""
    segments: tuple[Segment, ...] = ()
    usable: frozenset[int] = frozenset()
    remaining: Iterator[Entry] = field(default_factory=lambda: iter(()))
    ahead: Entry | None = None
    deleted: int = 0

    def find(self, subject: str) -> Entry | None:
        """The entry of that subject, which is asked for in the order of the index."""
        while self.ahead is not None and self.ahead.subject < subject:
            self.deleted += 1
            self.ahead = next(self.remaining, None)
        if self.ahead is None or self.ahead.subject != subject:
            return None
        found = self.ahead
        self.ahead = next(self.remaining, None)
        return found

    def close(self) -> int:
        """How many subjects it had that are gone."""
        while self.ahead is not None:
            self.deleted += 1
            self.ahead = next(self.remaining, None)
        return self.deleted


class _Creation:
    def __init__(self, store: RedisStore, storage: Storage, order: Order, lock: Lock) -> None:
        self._store = store
        self._redis = RedisExport(store.client)
        self._storage = storage
        self._order = order
        self._lock = lock
        self._writer = Writer()
        self._numbers = count()
        # The numbers that segments of the parent have in this snapshot, by those they have there.
        self._kept: dict[int, int] = {}
        self._used: Counter[int] = Counter()
        # Entries from the first one on whose block is not packed yet.
        self._entries: deque[Entry] = deque()
        self._written = 0
        self._line_bytes = 0

    async def run(self) -> Manifest:
        started, taken_ms = time.monotonic(), self._order.now_ms()
        # The progress first: everything before it is then in what is read after it.
        progress = await self._store.progress()
        shared = await self._redis.shared()
        header = self._writer.header(
            Header(self._order.log_id, iso(taken_ms), bool(self._order.scope), progress, shared)
        )
        there = {one.path: one.bytes for one in self._storage.list(SEGMENTS)}
        parent = _Parent() if self._order.is_full else _parent(self._storage, self._order, there)
        snapshot_id = id_of(taken_ms)
        index = IndexWriter(self._storage, snapshot_id)
        own = SegmentWriter(self._storage, self._numbers, lambda path, size: there.get(path) == size)
        async with aclosing(self._pages()) as pages:
            async for page in pages:
                await self._add(page, parent, own)
                self._drain(index)
                self._order.advance(len(page))
                self._lock.renew()
        deleted = parent.close()
        segments = await own.close()
        self._drain(index)
        segments |= {number: parent.segments[before] for before, number in self._kept.items()}
        parts = index.close()
        manifest = Manifest(
            id=snapshot_id,
            taken=iso(taken_ms),
            program=self._order.program,
            log_id=self._order.log_id,
            scope=self._order.scope,
            parent=parent.id,
            header=header.decode(),
            trailer=self._writer.trailer().decode(),
            subjects=sum(self._used.values()),
            written=self._written,
            deleted=deleted,
            line_bytes=self._line_bytes,
            uploaded_bytes=own.uploaded_bytes + sum(one.bytes for one in parts),
            seconds=round(time.monotonic() - started, 3),
            index=tuple(parts),
            segments=tuple(replace(segments[number], used=self._used[number]) for number in sorted(segments)),
        )
        self._lock.require()
        if not self._storage.put_new(path_of(snapshot_id), encode(manifest)):
            raise ConflictError(f"{self._storage}: there is a snapshot {snapshot_id} already")
        return manifest

    async def _pages(self) -> AsyncGenerator[list[Subject], None]:
        after = ""
        while page := await self._store.subjects(after=after, limit=_PAGE, prefix=self._order.prefix):
            after = str(page[-1])
            yield page

    async def _add(self, page: Sequence[Subject], parent: _Parent, own: SegmentWriter) -> None:
        """The subjects of the page, each where it was if it is still as it was."""
        wanted = [one for one in page if self._order.fits(one)]
        found = await self._redis.fingerprints(wanted) if parent.id else {}
        before: dict[Subject, Entry] = {}
        for subject in wanted:
            entry = parent.find(str(subject))
            if entry is not None and entry.segment in parent.usable:
                before[subject] = entry
        kept = {one for one, entry in before.items() if entry.fingerprint == found.get(one)}
        parts = await self._redis.read([one for one in wanted if one not in kept])
        for subject in wanted:
            if subject in kept:
                self._writer.kept(before[subject].check)
                self._keep(before[subject])
            elif subject in parts:
                line = self._writer.subject(subject, parts[subject])
                now = Entry(
                    str(subject), int(parts[subject][OWN][b"rev"]), fingerprint(subject, parts[subject]), check_of(line)
                )
                if subject in before and before[subject].check == now.check:
                    # As it was, only kept in another order: so it is after a restore.
                    self._keep(replace(before[subject], fingerprint=now.fingerprint))
                else:
                    await self._write(now, line, own)

    async def _write(self, entry: Entry, line: bytes, own: SegmentWriter) -> None:
        self._entries.append(entry)
        await own.add(entry, line)
        self._used[entry.segment] += 1
        self._written += 1
        self._line_bytes += len(line)

    def _keep(self, entry: Entry) -> None:
        number = self._kept.get(entry.segment)
        if number is None:
            number = self._kept[entry.segment] = next(self._numbers)
        self._used[number] += 1
        self._entries.append(replace(entry, segment=number))

    def _drain(self, index: IndexWriter) -> None:
        while self._entries and self._entries[0].is_placed:
            index.add(self._entries.popleft())


def id_of(taken_ms: int) -> str:
    """What a snapshot of this moment is called: `20261122T140000.123Z`."""
    return iso(taken_ms)[:19].replace("-", "").replace(":", "") + f".{taken_ms % 1000:03d}Z"


def _parent(storage: Storage, order: Order, there: Mapping[str, int]) -> _Parent:
    """The newest snapshot of the same subjects and log whose index can be read."""
    for manifest in reversed(catalogue(storage).snapshots):
        if (manifest.scope, manifest.log_id) != (order.scope, order.log_id):
            continue
        try:
            remaining = entries(storage, manifest)
            ahead = next(remaining, None)
        except UnreadableStateError:
            continue
        return _Parent(manifest.id, manifest.segments, _usable(manifest.segments, there), remaining, ahead)
    return _Parent()


def _usable(segments: Sequence[Segment], there: Mapping[str, int]) -> frozenset[int]:
    """The numbers of those that are there, whole, and used enough to be used again."""
    good = [
        number
        for number, one in enumerate(segments)
        if there.get(one.path) == one.bytes and one.used >= _LEAST_USED * one.subjects
    ]
    small = [number for number in good if segments[number].bytes < _SMALL]
    return frozenset(good) - frozenset(small if len(small) > _MOST_SMALL else ())
