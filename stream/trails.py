"""The traces of a worker: each follows the batches of one write, from their fetch to the commit of their offsets.

    ingest                                    from the first fetch to the commit
    ├── batch        one for each of its batches: topic, partition, offsets, events, dead
    │   ├── read     from the fetch until the worker takes it
    │   └── absorb   until its columns are kept
    │       └── decode
    ├── dead-letters, load, aggregate, close, write      the steps of `stream.pipeline`
    ├── progress     the store is told how far it has come
    └── commit       by Faust, some time later

What a write could not take and the next one takes again is a link. Without a collector all of this is nothing.
"""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from stream.buffer import Flushed
from stream.peek import Place
from tracing import TRACEPARENT, Span, Traces

if TYPE_CHECKING:
    from stream.worker import Batch

# Records of a batch that are asked which request they come from: what one request sent lies together.
_ASKED: Final = 8
# Writes whose commit is waited for; with more than these on the way, the oldest ends without one.
_UNCOMMITTED: Final = 64


@dataclass(frozen=True, slots=True)
class _Written:
    span: Span
    reached: Mapping[Place, int]


class Trails:
    """The trace of what is absorbed, of what is being written, and those of what is not yet committed."""

    def __init__(self, traces: Traces | None = None) -> None:
        self._traces = traces
        self._absorbed: Span | None = None
        self._absorbed_batches = 0
        self._writing: Span | None = None
        self._written: deque[_Written] = deque()
        self._committed: dict[Place, int] = {}

    @contextmanager
    def batch(self, batch: "Batch") -> Iterator[Span | None]:
        """Inside, a batch is absorbed."""
        if self._traces is None:
            yield None
            return
        taken_ns = time.time_ns()
        read_ns = batch.read_ns or taken_ns
        if not self._absorbed_batches:
            self._absorbed = self._traces.begin("ingest", kind="consumer", started_ns=read_ns)
        self._absorbed_batches += 1
        if self._absorbed is None:
            yield None
            return
        records = batch.records
        attributes = {
            "messaging.system": "kafka",
            "messaging.destination.name": batch.topic,
            "messaging.destination.partition.id": str(batch.partition),
            "messaging.batch.message_count": len(records),
            "tidemark.first_offset": records[0].offset,
            "tidemark.last_offset": records[-1].offset,
            "tidemark.lag_records": max(batch.end - records[-1].offset - 1, 0),
        }
        whole = self._absorbed.begin(
            "batch", kind="consumer", started_ns=read_ns, links=_senders(records), attributes=attributes
        )
        with whole.timed():
            whole.begin("read", started_ns=read_ns).end(ended_ns=taken_ns)
            with whole.begin("absorb").timed():
                yield whole

    @contextmanager
    def write(self) -> Iterator[None]:
        """Inside, what was absorbed before is written; what is raised fails its trace."""
        if self._traces is None:
            yield
            return
        self._writing, self._absorbed = self._absorbed, None
        batches, self._absorbed_batches = self._absorbed_batches, 0
        if self._writing is None:
            yield
            return
        self._writing.set({"tidemark.batches": batches})
        try:
            with self._writing.active():
                yield
        except BaseException as error:
            if self._writing is not None:
                self._writing.fail(f"{type(error).__name__}: {error}")
            raise
        finally:
            # What was written waits for its commit; all else ends here.
            if self._writing is not None:
                self._writing.end()
                self._writing = None

    def try_again(self) -> None:
        """The write is tried once more, with what was absorbed meanwhile."""
        if self._writing is not None and self._absorbed is not None:
            self._writing.link(self._absorbed)
        self.forget()

    def written(self, flushed: Flushed, reached: Mapping[Place, int]) -> None:
        """The write is done, up to these offsets, each after the last record of its partition."""
        if self._writing is None:
            return
        counts = dict.fromkeys(("accepted", "late", "replayed", "dead"), 0)
        for (_, result), count in flushed.events.items():
            counts[result] += count
        self._writing.set(
            {f"tidemark.{result}": count for result, count in counts.items()}
            | {
                "tidemark.events": sum(counts.values()),
                "tidemark.subjects": flushed.subjects,
                "tidemark.closed_windows": flushed.closed_windows,
                "tidemark.learned_windows": flushed.learned_windows,
                "tidemark.conflicts": flushed.conflicts,
            }
        )
        self._written.append(_Written(self._writing, dict(reached)))
        self._writing = None
        if len(self._written) > _UNCOMMITTED:
            self._written.popleft().span.end()

    def committed(self, offsets: Mapping[Place, int], started_ns: int) -> None:
        """Kafka has taken these offsets: the traces of all that lies before them are complete."""
        ended_ns = time.time_ns()
        self._committed.update(offsets)
        left: deque[_Written] = deque()
        for one in self._written:
            if any(self._committed.get(place, -1) < offset for place, offset in one.reached.items()):
                left.append(one)
                continue
            commit = {f"tidemark.offset.{topic}.{partition}": offset for (topic, partition), offset in offsets.items()}
            one.span.begin("commit", started_ns=started_ns, attributes=commit).end(ended_ns=ended_ns)
            one.span.end(ended_ns=ended_ns)
        self._written = left

    def ticked(self, started_ns: int, closed: Flushed) -> None:
        """The clock has closed windows, if there were any to close."""
        if self._traces is None or not closed.subjects:
            return
        attributes = {
            "tidemark.subjects": closed.subjects,
            "tidemark.closed_windows": closed.closed_windows,
            "tidemark.learned_windows": closed.learned_windows,
        }
        span = self._traces.begin("tick", started_ns=started_ns, attributes=attributes)
        if span is not None:
            span.end()

    def forget(self) -> None:
        """What is in memory is dropped, or goes on in another trace."""
        if self._absorbed is not None:
            self._absorbed.set({"tidemark.batches": self._absorbed_batches})
            self._absorbed.end()
        self._absorbed = None
        self._absorbed_batches = 0

    def close(self) -> None:
        """End what is not committed, and send what is left; blocks for some seconds at most."""
        self.forget()
        while self._written:
            self._written.popleft().span.end()
        if self._traces is not None:
            self._traces.close()


def _senders(records: Sequence[Any]) -> list[str]:
    """The requests that some of these records name as where they come from."""
    step = max(len(records) // _ASKED, 1)
    found = {
        value
        for record in records[::step]
        for name, value in (getattr(record, "headers", None) or ())
        if name == TRACEPARENT
    }
    return sorted(value.decode(errors="replace") for value in found if value is not None)
