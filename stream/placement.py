"""Where reading begins, on each assignment and after each loss: what the store holds rules over what is committed.

Kafka's committed offsets say what was acknowledged to it. The store's progress says what is in the state. They differ
when the store has lost acknowledged writes: then reading goes back to what is left. Subjects that lost nothing leave
the repeated records out by their own offsets, the others apply them again, and the state ends as if nothing had been.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from detection.errors import DependencyError, LogRecreatedError
from metrics import Instruments
from state.store import Reached, StateStore
from stream.peek import Peek, Peeked, Place
from stream.progress import short_hash

log = structlog.get_logger()

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Placed:
    """The offsets to read from, by place, and what of each source is known to be stored."""

    positions: dict[Place, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)


class Placement:
    """Decides where to begin; `source` names a place in the life of the log that is read now."""

    def __init__(
        self,
        store: StateStore,
        instruments: Instruments,
        *,
        source: Callable[[str, int], str],
        peek: Peek,
        now_ms: Callable[[], int],
    ) -> None:
        self._store = store
        self._instruments = instruments
        self._source = source
        self._peek = peek
        self._now_ms = now_ms

    async def place(self, committed: Mapping[Place, int | None]) -> Placed:
        """Where to begin with these partitions, of which this is committed, None for nothing.

        Raises LogRecreatedError for a topic that is not the one that was read, DependencyError where the store is away.
        """
        progress = await self._store.progress()
        sources = {place: self._source(*place) for place in committed}
        if any(source not in progress for source in sources.values()):
            progress = await self._from_subjects(set(sources.values()) - progress.keys()) | progress
        asked = {
            place: progress[source].offset - 1
            for place, source in sources.items()
            if source in progress and progress[source].offset > 0
        }
        seen = await self._peek(asked)
        if asked.keys() - seen.keys():
            # To read on unchecked would be to take a topic that was made anew for the one that was read.
            raise DependencyError("kafka", f"no answer about {sorted(asked.keys() - seen.keys())}")
        for place, peeked in seen.items():
            await self._check(place, progress[sources[place]], peeked)
        placed = Placed()
        for place, source in sources.items():
            stored = progress.get(source, Reached(0))
            placed.known[source] = stored.offset
            placed.positions[place] = self._begin(place, stored.offset, committed[place] or 0, seen.get(place))
        # Said at once of what has no progress yet, so that the subjects need not be asked again at the next start.
        await self._store.advance_progress(
            dict.fromkeys(placed.known, 0), {one: progress.get(one, Reached(0)) for one in placed.known}
        )
        return placed

    async def _from_subjects(self, sources: set[str]) -> dict[str, Reached]:
        """The greatest offset of any subject, for state of a version that kept no progress."""
        found: dict[str, Reached] = {}
        after = ""
        while page := await self._store.subjects(after=after, limit=_PAGE):
            after = str(page[-1])
            for head in await self._store.heads(page):
                for source, offset in head.offsets.items():
                    if source in sources and offset > found.get(source, Reached(0)).offset:
                        found[source] = Reached(offset)
        return found

    def _begin(self, place: Place, stored: int, committed: int, peeked: Peeked | None) -> int:
        """The offset to read from; counts what is read again, and what nobody can read any more."""
        topic, partition = place
        beginning = 0 if peeked is None else peeked.beginning
        if beginning > stored:
            log.error("log.lost_records", topic=topic, partition=partition, stored=stored, beginning=beginning)
            self._instruments.lost_records.labels(topic).inc(beginning - stored)
        begin = max(stored, beginning)
        if committed > begin:
            log.error("store.rewound", topic=topic, partition=partition, committed=committed, stored=stored)
            self._instruments.rewound_records.labels(topic).inc(committed - begin)
        # What is committed lags behind after a kill, and an operator may have set it back: both are only read again.
        return max(min(begin, committed), beginning) if committed > 0 else begin

    async def _check(self, place: Place, stored: Reached, peeked: Peeked) -> None:
        """Raises LogRecreatedError where the log ends before what was read, or has another record in its place."""
        record = peeked.record
        if peeked.end < stored.offset:
            why = f"ends at offset {peeked.end}, but was already read up to {stored.offset}"
        elif (
            record is not None
            and stored.record
            and (record.timestamp, short_hash(record))
            != (
                stored.time_ms,
                stored.record,
            )
        ):
            why = f"has another record at offset {stored.offset - 1} than the one that was read there"
        else:
            return
        raise await self.recreated(place, why)

    async def recreated(self, place: Place, why: str) -> LogRecreatedError:
        """The error to raise, counted here and in the store."""
        topic, partition = place
        self._instruments.recreated_logs.labels(topic).inc()
        await self._store.note_recreated(topic, now_ms=self._now_ms())
        return LogRecreatedError(
            f"{topic}/{partition} {why}: the topic was made anew. Stop the workers, run `tidemark log renew {topic}` "
            "(or set TIDEMARK_KAFKA_LOG_ID to a new name for all topics), and start them"
        )
