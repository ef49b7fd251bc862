"""What the store is known to hold of each source that this worker reads, and whether it still does.

A store that lost writes it had acknowledged, by a failover, a restored copy or a flush, has also lost the end of the
progress: every flush says what it knows to be stored, and every load is followed by the same question. So no state
that is older than the offsets around it is ever written back:

    load → is the progress what it was? → fold → compare-and-set

Where writes are lost after the question, the compare-and-set is refused, because the revision went back with them, and
the next load is followed by the question again.
"""

import hashlib
from collections.abc import Mapping

from state.store import Reached, StateStore
from stream.decoding import Record


class LostWritesError(Exception):
    """The store holds less of a source than it had acknowledged; what is in memory follows on what is gone."""


class GivenUpError(Exception):
    """What is being written was given up meanwhile: its partitions are gone, or the store was found to have lost."""


class Progress:
    """The offsets that the store has acknowledged, by source; `epoch` counts how often all of that was put in doubt."""

    def __init__(self, store: StateStore) -> None:
        self._store = store
        self._known: dict[str, int] = {}
        self._flushed_in = 0
        self.epoch = 0

    def begin(self, known: Mapping[str, int]) -> None:
        """These are the sources that are read now, and what is stored of each."""
        self._known = dict(known)

    def doubt(self) -> None:
        """Whatever is being written must not be written any more: its partitions are gone, or the store has lost."""
        self.epoch += 1

    def start_flush(self) -> None:
        """From here on, until the next one, `verify` also asks whether anything was put in doubt since."""
        self._flushed_in = self.epoch

    async def verify(self) -> None:
        """Raises LostWritesError where the store has lost something, GivenUpError where what is written is in doubt."""
        await self.advance({})

    async def advance(self, reached: Mapping[str, Reached]) -> None:
        """All before these offsets is stored; raises LostWritesError where what was known to be stored is not.

        GivenUpError where the flush that this belongs to was put in doubt: then nothing is known to compare with.
        """
        self._require_no_doubt()
        known = {**dict.fromkeys(reached, 0), **self._known}
        stored = await self._store.advance_progress(known, reached)
        self._require_no_doubt()
        lost = {source: (known[source], offset) for source, offset in stored.items() if offset < known[source]}
        if lost:
            source, (acknowledged, offset) = next(iter(lost.items()))
            raise LostWritesError(f"{source}: stored up to {offset}, but {acknowledged} was acknowledged")
        for source, one in reached.items():
            if source in self._known:
                self._known[source] = max(self._known[source], one.offset)

    def _require_no_doubt(self) -> None:
        if self._flushed_in != self.epoch:
            raise GivenUpError("what is being written was given up meanwhile")


def reached_after(record: Record) -> Reached:
    """What is kept when everything up to this record is stored."""
    return Reached(record.offset + 1, record.timestamp, short_hash(record))


def short_hash(record: Record) -> str:
    """Sixteen hexadecimal digits of what the record says, by its key and value."""
    digest = hashlib.blake2b(record.key or b"", digest_size=8, key=b"tidemark")
    digest.update(b"\0")
    digest.update(record.value or b"")
    return digest.hexdigest()
