"""`tidemark snapshots`: what was learned, in object storage, and back from there.

tidemark snapshots create --prune --keep 48    what changed since the one before; old ones go
tidemark snapshots list                        which there are
tidemark snapshots verify                      whether the newest can be restored: every byte is read
tidemark snapshots restore                     into an empty Redis, of which predictions are then the same
tidemark snapshots restore --subject B1        one biller, by an index and one block
"""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.completion import stored_snapshots
from cli.options import AsJson, Globs
from detection.errors import InputError, UnreadableStateError

if TYPE_CHECKING:
    from cli.snapshotting import Restored
    from state.snapshots.manifest import Manifest
    from state.snapshots.pruning import Pruned

snapshots = typer.Typer(
    name="snapshots",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Keep what was learned in object storage (TIDEMARK_SNAPSHOT_URL), and bring it back.",
)

Which = Annotated[
    str, typer.Argument(help="The id of a snapshot, or `latest`.", autocompletion=stored_snapshots, show_default=True)
]
Prefix = Annotated[str, typer.Option("--prefix", help="Only those whose id begins so.")]
Keep = Annotated[int | None, typer.Option("--keep", min=1, help="The newest that stay.")]
KeepDays = Annotated[int | None, typer.Option("--keep-days", min=1, help="Days for which they stay.")]


@snapshots.command()
def create(
    subject: Globs = None,
    prefix: Prefix = "",
    full: Annotated[bool, typer.Option("--full", help="Use nothing of earlier snapshots again.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete old snapshots afterwards.")] = False,
    keep: Keep = None,
    keep_days: KeepDays = None,
    as_json: AsJson = False,
) -> None:
    """Write what changed since the newest snapshot of the same subjects, and what it needs beside.

    Workers may run meanwhile: each subject is read at one moment, and what the snapshot says of the topics is how far
    they were before the first. A snapshot that was not written to its end is not there.

    Exit codes: 0 written, 2 an option is missing, 3 Redis or the storage is away, or somebody else writes there, 4 the
    storage refuses us, or a setting must be mended.
    """
    import orjson

    from cli.snapshotting import create_snapshot, prune_snapshots, scope_of
    from settings import load
    from state.snapshots.pruning import Retention

    retention = Retention(keep, keep_days)
    _refuse_half(retention.is_empty, is_pruning=prune)
    settings = load()
    made = asyncio.run(create_snapshot(settings, scope=scope_of(subject, prefix), is_full=full, is_shown=_is_shown()))
    pruned = asyncio.run(prune_snapshots(settings, retention, is_dry=False)) if prune else None
    if as_json:
        print(orjson.dumps(_facts(made) | ({"pruned": _pruned(pruned)} if pruned else {})).decode())
        return
    print(
        f"{made.id}: {made.subjects:,} subjects, {made.written:,} of them written, {made.deleted:,} gone; "
        f"{made.uploaded_bytes:,} bytes in {made.seconds:.1f} s"
    )
    if pruned:
        print(_pruned_text(pruned))


@snapshots.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the snapshots that are there, newest first.

    Exit codes: 0 listed, 3 the storage is away, 4 it refuses us, or a manifest cannot be read.
    """
    import orjson

    from cli.snapshotting import open_storage
    from settings import load
    from state.snapshots.manifest import catalogue

    found = catalogue(open_storage(load()))
    newest_first = found.snapshots[::-1]
    if as_json:
        document = {"snapshots": [_facts(one) for one in newest_first], "unreadable": dict(found.unreadable)}
        print(orjson.dumps(document).decode())
    else:
        _table(newest_first)
    if found.unreadable:
        raise UnreadableStateError("; ".join(found.unreadable.values()))


@snapshots.command()
def show(snapshot: Which = "latest", as_json: AsJson = False) -> None:
    """Say what a snapshot is of, and which objects it needs.

    Exit codes: 0 shown, 3 the storage is away, 4 it refuses us, or there is no such snapshot that can be read.
    """
    import orjson

    from cli.snapshotting import open_storage
    from settings import load
    from state.snapshots.manifest import catalogue

    found = catalogue(open_storage(load())).find(snapshot)
    progress = _progress(found)
    objects = [{"path": one.path, "bytes": one.bytes, "subjects": one.subjects} for one in found.index]
    objects += [
        {"path": one.path, "bytes": one.bytes, "subjects": one.subjects, "used": one.used} for one in found.segments
    ]
    if as_json:
        print(orjson.dumps(_facts(found) | {"progress": progress, "objects": objects}).decode())
        return
    for name, value in _facts(found).items():
        print(f"{name:15} {', '.join(value) or '-' if isinstance(value, list) else value}")
    for source, offset in sorted(progress.items()):
        print(f"{'read until':15} {source} {offset:,}")
    for one in objects:
        used = f", {one['used']:,} of them used" if "used" in one else ""
        print(f"{'object':15} {one['path']} {one['bytes']:,} bytes, {one['subjects']:,} subjects{used}")


@snapshots.command()
def verify(
    snapshot: Which = "latest",
    all_: Annotated[bool, typer.Option("--all", help="Every snapshot, and what belongs to none.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read every byte of a snapshot, compare all sums, and read the state of every subject.

    Exit codes: 0 it can be restored, 3 the storage is away, 4 it cannot be restored, or there is none.
    """
    import orjson

    from cli.snapshotting import verify_snapshots
    from settings import load

    found, foreign = verify_snapshots(load(), None if all_ else snapshot, is_shown=_is_shown())
    faults = [fault for one in found for fault in one.faults]
    if as_json:
        document = {
            "snapshots": [
                {"id": one.id, "subjects": one.subjects, "bytes": one.bytes, "faults": list(one.faults)}
                for one in found
            ],
            "foreign": foreign,
        }
        print(orjson.dumps(document).decode())
    else:
        for one in found:
            print(f"{one.id}: {'whole' if one.is_whole else 'damaged'}, {one.subjects:,} subjects, {one.bytes:,} bytes")
        for path in foreign:
            print(f"{path}: belongs to no snapshot; `tidemark snapshots prune` deletes what we have left behind")
    if faults:
        raise UnreadableStateError("; ".join(dict.fromkeys(faults)))


@snapshots.command()
def restore(
    snapshot: Which = "latest",
    subject: Globs = None,
    prefix: Prefix = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Into a Redis that is not empty, also over what is newer there.")
    ] = False,
    other_logs: Annotated[
        bool, typer.Option("--other-logs", help="Kafka is another one: forget how far its topics were read.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Although Kafka says that workers are alive.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make Redis hold what a snapshot holds: all of it is checked first, then written, then read back and compared.

    Without --subject or --prefix, Redis has to be empty. With --replace it need not be: every subject of the snapshot
    becomes what it was, whatever it is now, and others stay as they are. Of some subjects, only those are looked at:
    one that is newer in Redis is refused unless --replace is there. How far the topics were read comes along; workers
    then go on from there, and each subject leaves out what it has. Of another Kafka say --other-logs.

    Exit codes: 0 done, 2 of another log, or something is in Redis, 3 Redis, Kafka or the storage is away, 4 workers are
    alive, the snapshot is damaged or of another version, or what was read back differs.
    """
    import orjson

    from cli.snapshotting import restore_snapshot, scope_of
    from settings import load

    done: Restored = asyncio.run(
        restore_snapshot(
            load(),
            snapshot,
            scope=scope_of(subject, prefix),
            is_replacing=replace,
            is_other_log=other_logs,
            is_dry=dry_run,
            is_forced=force,
            is_shown=_is_shown(),
        )
    )
    print(orjson.dumps(done.facts()).decode() if as_json else done.text())


@snapshots.command()
def prune(
    keep: Keep = None,
    keep_days: KeepDays = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, delete nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete old snapshots, and the objects that no other one needs; what an interrupted one has left goes too.

    A snapshot stays that is among the newest of its kind (--keep) or young enough (--keep-days), and so does the newest
    of all subjects whatever its age.

    Exit codes: 0 done, 2 neither --keep nor --keep-days, 3 the storage is away, or somebody else writes there, 4 it
    refuses us, or a manifest cannot be read, of which nobody knows what it needs.
    """
    import orjson

    from cli.snapshotting import prune_snapshots
    from settings import load
    from state.snapshots.pruning import Retention

    retention = Retention(keep, keep_days)
    _refuse_half(retention.is_empty, is_pruning=True)
    done = asyncio.run(prune_snapshots(load(), retention, is_dry=dry_run))
    print(orjson.dumps(_pruned(done)).decode() if as_json else _pruned_text(done))


def _refuse_half(is_empty: bool, *, is_pruning: bool) -> None:
    if is_pruning and is_empty:
        raise InputError("say what stays: --keep N, --keep-days DAYS, or both")
    if not is_pruning and not is_empty:
        raise InputError("--keep and --keep-days say what --prune leaves: say --prune too")


def _is_shown() -> bool:
    return sys.stderr.isatty()


def _facts(one: "Manifest") -> dict[str, Any]:
    return {
        "id": one.id,
        "taken": one.taken,
        "program": one.program,
        "log_id": one.log_id,
        "scope": list(one.scope),
        "parent": one.parent,
        "subjects": one.subjects,
        "written": one.written,
        "deleted": one.deleted,
        "uploaded_bytes": one.uploaded_bytes,
        "stored_bytes": one.stored_bytes,
        "seconds": one.seconds,
    }


def _progress(one: "Manifest") -> dict[str, int]:
    from state.export import Reader

    return {source: reached.offset for source, reached in Reader([one.header.encode()]).header.progress.items()}


def _table(found: "tuple[Manifest, ...]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(pad_edge=False)
    table.add_column("snapshot", no_wrap=True)
    table.add_column("of", overflow="fold")
    for name in ("subjects", "written", "bytes", "all its bytes", "s"):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(
            one.id,
            ", ".join(one.scope) or "all",
            f"{one.subjects:,}",
            f"{one.written:,}",
            f"{one.uploaded_bytes:,}",
            f"{one.stored_bytes:,}",
            f"{one.seconds:.1f}",
        )
    Console(highlight=False).print(table)


def _pruned(done: "Pruned") -> dict[str, Any]:
    return {
        "is_dry_run": done.is_dry,
        "snapshots": list(done.snapshots),
        "kept": done.kept,
        "objects": done.objects,
        "bytes": done.bytes,
        "foreign": list(done.foreign),
    }


def _pruned_text(done: "Pruned") -> str:
    went = "would go" if done.is_dry else "deleted"
    objects = f"{done.objects:,} objects of {done.bytes:,} bytes"
    lines = [f"{len(done.snapshots):,} snapshots and {objects} {went}; {done.kept:,} snapshots stay"]
    lines += [f"{path}: is not ours, and stays" for path in done.foreign]
    return "\n".join(lines)
