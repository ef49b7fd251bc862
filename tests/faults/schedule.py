"""What happens to a run, and when: seeded, so that a run can be had again, and said in a table."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """What can happen; the values are shown."""

    KILL_WORKER = "kill -9 of a worker"
    STOP_WORKER = "a worker is asked to stop"
    FREEZE_WORKER = "a worker hangs"
    ZOMBIE = "a worker hangs until its partitions are another's"
    SCALE = "to 4 workers, then to 2"
    REWIND = "all workers end, and begin anew at offset 0"
    FREEZE_BROKER = "the broker hangs"
    RESTART_BROKER = "kill -9 of the broker"
    CUT_BROKER = "no network between workers and broker"
    KILL_REDIS = "kill -9 of Redis"
    PAUSE_REDIS = "Redis is slow"
    CUT_REDIS = "no network to Redis"
    TRAIN = "a data set is trained with"
    KILL_API = "kill -9 of the API that trains"


# How often each comes beside its turn; what takes long comes rarely.
_WEIGHTS: Final = {Kind.KILL_WORKER: 4, Kind.TRAIN: 2, Kind.FREEZE_WORKER: 2, Kind.KILL_REDIS: 2, Kind.CUT_REDIS: 2}
# Which kinds take turns, so that a few runs in a row have seen them all.
_TURNS: Final = 3
_LONGEST_HANG_SECONDS: Final = 8.5


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that happens.

    The part of the stream up to `sent` is on its way when it strikes: as soon as the share `reached` of all events is
    in the state, or after `patience_seconds`. `victim` picks among those there are; `is_silent` cuts without a word.
    """

    kind: Kind
    sent: float
    reached: float
    patience_seconds: float
    seconds: float
    victim: int
    is_silent: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """The faults of one run, in order, and how its workers are set up."""

    seed: int
    workers: int
    flush_events: int
    flush_seconds: float
    faults: tuple[Fault, ...]


def schedule_of(seed: int, kinds: Collection[Kind]) -> Schedule:
    """The schedule of this seed, with faults of these kinds only; every run has a kill -9 of a worker."""
    rng = random.Random(f"schedule {seed}")
    possible = [kind for kind in Kind if kind in kinds]
    turns = [possible[(seed * _TURNS + turn) % len(possible)] for turn in range(_TURNS)]
    more = rng.choices(possible, [_WEIGHTS.get(kind, 1) for kind in possible], k=rng.randint(1, 2))
    chosen = [Kind.KILL_WORKER, *turns, *more]
    rng.shuffle(chosen)
    # Each fault finds a part of the stream that was sent for it.
    bounds = sorted(rng.uniform(0.05, 1) for _ in chosen)
    before = [0.0, *bounds[:-1]]
    return Schedule(
        seed=seed,
        workers=rng.choice((1, 1, 2)),
        flush_events=rng.choice((25, 80, 200)),
        flush_seconds=rng.choice((0.05, 0.1, 0.3)),
        faults=tuple(
            _fault(rng, kind, after=after, sent=sent) for kind, after, sent in zip(chosen, before, bounds, strict=True)
        ),
    )


def _fault(rng: random.Random, kind: Kind, *, after: float, sent: float) -> Fault:
    longest = _LONGEST_HANG_SECONDS
    seconds = {
        Kind.ZOMBIE: rng.uniform(6.5, longest),
        Kind.FREEZE_BROKER: rng.choice((0.5, 1.5, 1.5, longest)),
        Kind.CUT_BROKER: rng.choice((0.5, 2, 2, longest)),
    }.get(kind, rng.uniform(0.1, 2.5))
    return Fault(
        kind=kind,
        sent=sent,
        reached=after + rng.uniform(0.1, 0.8) * (sent - after),
        # Mostly until work is seen to be done; now and then at once, into whatever the fault before has left.
        patience_seconds=rng.choice((0.3, 4, 8, 13)),
        seconds=seconds,
        victim=rng.randrange(1000),
        is_silent=rng.random() < 0.5,
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be; the first row is the heading."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
