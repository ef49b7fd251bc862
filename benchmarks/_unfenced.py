"""A worker without the fence, for comparison alone: `python -m benchmarks._unfenced`, with the environment of a worker.

Taken out, for the life of this process, is all that makes each call count exactly once: subjects are set without asking
whether somebody else has written them; no offset is kept in them, and none compared; no progress is kept. Where one of
these has another name by now, this fails at its start. No setting of the product does that.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import settings
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from state.codec import Write
from state.counts_codec import Counted
from state.redis_exchange import raise_first
from state.redis_store import RedisStore
from stream import aggregation, app
from stream.progress import Progress

Int64s = NDArray[np.int64]


async def _set(store: Any, part: Sequence[tuple[SubjectState, Write | Counted]]) -> list[bool]:
    """In the place of the compare-and-set: the same commands, without asking and without a transaction."""
    commands = [command for _, write in part for command in write.commands]
    exchanges = store._exchanges  # noqa: SLF001 (the store's own way to its server)
    raise_first(await exchanges.hold(lambda exchange: exchange.ask_packed(commands)))
    return [True] * len(part)


def _no_offsets(calls: aggregation.Calls, _: object) -> Int64s:
    """In the place of the offsets that the subjects hold."""
    return np.zeros(len(calls.subject), np.int64)


def _arrivals(calls: aggregation.Calls, late: NDArray[np.bool_]) -> Mapping[Subject, Arrivals]:
    """As `stream.aggregation._arrivals`, without the offsets."""
    starts = np.flatnonzero(np.diff(calls.subject, prepend=-1))
    newest = np.maximum.reduceat(calls.timestamp_ms, starts).tolist()
    late_counts = np.add.reduceat(late.astype(np.int64), starts).tolist()
    totals = np.diff(np.append(starts, len(late))).tolist()
    return {
        calls.subjects[code]: Arrivals(
            watermark_ms=newest[at], accepted=totals[at] - late_counts[at], late=late_counts[at]
        )
        for at, code in enumerate(calls.subject[starts].tolist())
    }


async def _nothing(*_: object) -> None:
    """In the place of what is asked and kept of the progress."""


def main() -> None:
    configured = settings.load()
    with ExitStack() as patched:
        for owner, name, stand_in in (
            (RedisStore, "_write", _set),
            (aggregation, "_stored_offsets", _no_offsets),
            (aggregation, "_arrivals", _arrivals),
            (Progress, "advance", _nothing),
            (Progress, "verify", _nothing),
        ):
            patched.enter_context(patch.object(owner, name, stand_in))
        app.run(configured)


if __name__ == "__main__":
    main()
