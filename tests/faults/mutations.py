"""Three ways to break exactly-once, each applied to a forked worker before it starts; the product knows none of them.

A mutation that finds nothing to change ends its worker: then the product was rebuilt, and the mutation must be as well.
"""

import itertools
from hashlib import sha1
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from state import redis_pipeline
from state.redis_transactions import Transactions
from stream import aggregation
from stream.buffer import Flushed
from stream.pipeline import Pipeline

_COMPARISON: Final = b"~= ARGV[1] then"


def every_write_wins() -> None:
    """Subjects are written by a script that no longer compares revisions: the last writer's state stands."""
    original = redis_pipeline._script

    def changed(name: str) -> tuple[str, bytes]:
        digest, source = original(name)
        if name != redis_pipeline.WRITE_SUBJECT:
            return digest, source
        if _COMPARISON not in source:
            raise SystemExit(f"{name} does not compare revisions as it used to")
        source = source.replace(_COMPARISON, b"== 'never' then")
        return sha1(source, usedforsecurity=False).hexdigest(), source

    async def by_script(*_: object) -> None:
        return None

    _replace(redis_pipeline, "_script", changed)
    _replace(Transactions, "write", by_script)


def nothing_is_known_already() -> None:
    """Stored offsets are ignored: a call that is read again is counted again."""

    def ignored(calls: aggregation.Calls, *_: object) -> NDArray[np.int64]:
        return np.zeros(len(calls.offset), np.int64)

    _replace(aggregation, "_stored_offsets", ignored)


def acknowledged_before_the_write() -> None:
    """Four of five flushes say that what is in memory is written, and leave it there: it is lost when a worker dies."""
    flush = Pipeline.flush
    calls = itertools.count()

    async def early(pipeline: Pipeline) -> Flushed:
        if next(calls) % 5 == 4:
            return await flush(pipeline)
        known = pipeline._buffer.flushed
        handles, known.handles = known.handles, []
        return Flushed(handles=handles)

    _replace(Pipeline, "flush", early)


def _replace(owner: Any, name: str, value: object) -> None:
    if not hasattr(owner, name):
        raise SystemExit(f"{owner} has no {name} any more")
    setattr(owner, name, value)
