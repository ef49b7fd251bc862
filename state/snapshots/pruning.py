"""Which snapshots go, and which objects nobody needs then."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from detection.errors import OperatorError
from detection.hours import parse_ms
from state.snapshots.lock import held
from state.snapshots.manifest import INDEXES, SEGMENTS, Manifest, catalogue, path_of
from state.snapshots.storage import Storage

DAY_MS: Final = 24 * 3600 * 1000

# What we have written; anything else below the address is somebody else's, and stays.
_OURS: Final = re.compile(
    rf"{SEGMENTS}/[0-9a-f]{{64}}\.ndjson\.zst|{INDEXES}/\d{{8}}T\d{{6}}\.\d{{3}}Z/\d{{5}}\.ndjson\.zst"
)


@dataclass(frozen=True, slots=True)
class Retention:
    """The newest `keep` snapshots stay, and those that are younger than `keep_days`; None where that says nothing."""

    keep: int | None = None
    keep_days: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return self.keep is None and self.keep_days is None

    def gone(self, snapshots: Sequence[Manifest], now_ms: int) -> list[Manifest]:
        """Those that go, of snapshots with the oldest first.

        Of each scope the newest stay, so that snapshots of some subjects push none of all subjects out; the very newest
        stays whatever its age.
        """
        gone = []
        for place, one in enumerate(snapshots):
            newer = sum(other.scope == one.scope for other in snapshots[place + 1 :])
            is_among_newest = newer < max(self.keep or 1, 1)
            is_young = self.keep_days is not None and now_ms - parse_ms(one.taken) < self.keep_days * DAY_MS
            if not (is_among_newest or is_young):
                gone.append(one)
        return gone


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted, or would be: snapshots by their id, and objects that nobody needs, leftovers among them."""

    is_dry: bool
    snapshots: tuple[str, ...]
    kept: int
    objects: int
    bytes: int
    foreign: tuple[str, ...]


async def prune(storage: Storage, retention: Retention, *, now_ms: Callable[[], int], is_dry: bool = False) -> Pruned:
    """Delete snapshots, and the objects that no remaining one needs: what an interrupted one has left among them.

    OperatorError where a manifest cannot be read: nobody knows what it needs, so nothing is deleted. ConflictError
    while somebody else writes there.
    """
    async with held(storage, now_ms, doing="snapshots prune") as lock:
        found = catalogue(storage)
        if found.unreadable:
            path, why = next(iter(found.unreadable.items()))
            raise OperatorError(
                f"{why}. Nothing was deleted, because nobody knows what this snapshot needs; if nobody wants it, "
                f"delete {storage}/{path} by hand"
            )
        gone = retention.gone(found.snapshots, now_ms())
        remaining = [one for one in found.snapshots if one not in gone]
        needed = {path for one in remaining for path in one.paths()}
        listed = [one for folder in (SEGMENTS, INDEXES) for one in storage.list(folder)]
        unneeded = [one for one in listed if one.path not in needed]
        ours = [one for one in unneeded if _OURS.fullmatch(one.path)]
        if not is_dry:
            # A snapshot first, then what it needs: whoever reads finds it whole, or does not find it.
            storage.delete([path_of(one.id) for one in gone])
            for one in ours:
                lock.renew()
                storage.delete([one.path])
        return Pruned(
            is_dry=is_dry,
            snapshots=tuple(one.id for one in gone),
            kept=len(remaining),
            objects=len(ours),
            bytes=sum(one.bytes for one in ours),
            foreign=tuple(one.path for one in unneeded if not _OURS.fullmatch(one.path)),
        )
