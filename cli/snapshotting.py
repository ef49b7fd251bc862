"""What the commands of snapshots do: the settings, the storage and Redis brought together."""

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from cli.exporting import beginning, fits
from cli.importing import Imported, import_state, refuse_beside_workers
from cli.progress import Progress
from detection.errors import InputError
from detection.rules.glob import is_wild
from settings import Settings
from state.redis_export import RedisExport
from state.redis_store import RedisStore
from state.snapshots.creation import Order, create
from state.snapshots.manifest import Manifest, catalogue
from state.snapshots.pruning import Pruned, Retention, prune
from state.snapshots.reading import Verified, foreign, lines, verify
from state.snapshots.storage import Storage


def open_storage(settings: Settings) -> Storage:
    """Where the settings say that snapshots are kept."""
    return Storage.open(settings.snapshots(), certificates=settings.snapshot_ca_file)


def scope_of(globs: Collection[str] | None, prefix: str) -> tuple[str, ...]:
    """The globs that are meant, in one order whatever order they were told in."""
    if is_wild(prefix):
        raise InputError(f"--prefix {prefix!r}: a prefix has no * and ?; --subject takes a glob")
    return tuple(sorted({*(globs or ()), *([f"{prefix}*"] if prefix else [])}))


async def create_snapshot(settings: Settings, *, scope: tuple[str, ...], is_full: bool, is_shown: bool) -> Manifest:
    """See `state.snapshots.creation.create`."""
    storage = open_storage(settings)
    store = RedisStore.connect(settings.redis(), settings.policy())
    async with aclosing(store):
        total = await RedisExport(store.client).count()
        with Progress({"subjects": max(total, 1)}, is_shown=is_shown) as shown:
            order = Order(
                log_id=settings.kafka_log_id,
                program=version("tidemark"),
                now_ms=_wall_ms,
                scope=scope,
                fits=lambda subject: fits(subject, scope),
                prefix=beginning(scope),
                is_full=is_full,
                advance=lambda count: shown.advance("subjects", count),
            )
            return await create(store, storage, order)


async def prune_snapshots(settings: Settings, retention: Retention, *, is_dry: bool) -> Pruned:
    """See `state.snapshots.pruning.prune`."""
    return await prune(open_storage(settings), retention, now_ms=_wall_ms, is_dry=is_dry)


def verify_snapshots(settings: Settings, snapshot: str | None, *, is_shown: bool) -> tuple[list[Verified], list[str]]:
    """One snapshot, or all where that is None, and then also the objects that belong to none."""
    storage = open_storage(settings)
    found = catalogue(storage)
    chosen = list(found.snapshots) if snapshot is None else [found.find(snapshot)]
    total = sum(segment.bytes for one in chosen for segment in one.segments)
    with Progress({"bytes": max(total, 1)}, is_shown=is_shown) as shown:
        verified = [
            verify(storage, one, settings.policy(), lambda count: shown.advance("bytes", count)) for one in chosen
        ]
    if snapshot is not None:
        return verified, []
    unreadable = [Verified(path, 0, 0, (why,)) for path, why in found.unreadable.items()]
    return [*verified, *unreadable], foreign(storage, found.snapshots)


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore has done, or would do, and how long it took."""

    id: str
    taken: str
    imported: Imported
    seconds: float

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {"id": self.id, "taken": self.taken, "seconds": round(self.seconds, 3)} | self.imported.facts()

    def text(self) -> str:
        """For people."""
        return f"{self.id}, as of {self.taken}, in {self.seconds:.1f} s\n{self.imported.text()}"


async def restore_snapshot(
    settings: Settings,
    snapshot: str,
    *,
    scope: tuple[str, ...],
    is_replacing: bool,
    is_other_log: bool,
    is_dry: bool,
    is_forced: bool,
    is_shown: bool,
) -> Restored:
    """Write the snapshot, or the subjects of it that fit, into Redis, as `cli.importing.import_state` does.

    InputError where a whole snapshot would come into a Redis that is not empty, and nobody said that it may replace.
    """
    started = time.monotonic()
    if not (is_forced or is_dry):
        await refuse_beside_workers(settings)
    storage = open_storage(settings)
    manifest = catalogue(storage).find(snapshot)
    store = RedisStore.connect(settings.redis(), settings.policy())
    async with aclosing(store):
        stored = await RedisExport(store.client).count()
        if stored and not (scope or is_replacing or is_dry):
            raise InputError(
                f"Redis holds {stored:,} subjects: a snapshot is restored into an empty one. --replace makes the "
                f"{manifest.subjects:,} subjects of {manifest.id} what they were at {manifest.taken}, whatever they "
                "are now, and leaves all others as they are"
            )
        try:
            imported = await import_state(
                store,
                lambda: _lines(storage, manifest, scope),
                policy=settings.policy(),
                log_id=settings.kafka_log_id,
                globs=scope,
                is_replacing=is_replacing,
                is_other_log=is_other_log,
                is_dry=is_dry,
                wall_ms=_wall_ms(),
                progress=lambda totals: _progress(totals, manifest, is_shown=is_shown, is_whole=not scope),
            )
        except InputError as error:
            raise InputError(f"snapshot {manifest.id}, {error}") from error
    if scope and not (imported.new or imported.replaced or imported.unchanged):
        raise InputError(f"snapshot {manifest.id} has no subject that fits {', '.join(scope)}")
    return Restored(manifest.id, manifest.taken, imported, time.monotonic() - started)


def _lines(storage: Storage, manifest: Manifest, scope: tuple[str, ...]) -> AbstractContextManager[Iterator[bytes]]:
    if not scope:
        return lines(storage, manifest)
    exactly = None
    if not any(map(is_wild, scope)):
        # Whole texts are found in the index by themselves; of a bare id nobody knows the kind.
        exactly = [text for one in scope for text in ({one} if ":" in one else {f"biller:{one}", f"model:{one}"})]
    return lines(storage, manifest, fits=lambda subject: fits(subject, scope), exactly=exactly)


def _progress(totals: Mapping[str, int | None], manifest: Manifest, *, is_shown: bool, is_whole: bool) -> Progress:
    # Of a snapshot it is known before it was read.
    known = {name: manifest.subjects if total is None and is_whole else total for name, total in totals.items()}
    return Progress(known, is_shown=is_shown)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
