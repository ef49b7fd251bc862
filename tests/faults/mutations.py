"""Three ways to break exactly-once, each applied to a forked worker before it starts; the product knows none of them.

A mutation that finds nothing to change ends its worker: then the product was rebuilt, and the mutation must be as well.
"""

import itertools
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from state.redis_pipeline import WRITE_SUBJECT
from stream import aggregation
from stream.buffer import Flushed
from stream.pipeline import Pipeline

_COMPARISON: Final = "~= ARGV[1] then"


def every_write_wins() -> None:
    """The script that writes a subject no longer compares revisions: the last writer's state stands."""
    read_text = Path.read_text

    def read(path: Path, *arguments: Any, **options: Any) -> str:
        text = read_text(path, *arguments, **options)
        if path.name == WRITE_SUBJECT:
            if _COMPARISON not in text:
                raise SystemExit(f"{WRITE_SUBJECT} does not compare revisions as it used to")
            text = text.replace(_COMPARISON, "== 'never' then")
        return text

    Path.read_text = read  # type: ignore[method-assign, assignment]


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
