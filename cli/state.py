"""`tidemark state`: what was learned, as a file, back from it, or learned anew.

tidemark state export state.ndjson.gz      every subject, whole: a copy to keep, or for another Redis
tidemark state import state.ndjson.gz      checked first, then written, then read back and compared
tidemark state refold probe-01             its models folded anew from the history in PostgreSQL
"""

import asyncio
import sys
import time
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.completion import stored_subjects
from cli.options import AsJson, Globs
from detection.errors import InputError, OperatorError

if TYPE_CHECKING:
    from cli.importing import Imported
    from cli.refolding import Refolded

state = typer.Typer(
    name="state",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Export what was learned, import it, or learn it anew from the history.",
)

_SUFFIXES = (".ndjson", ".jsonl")


@state.command()
def export(
    file: Annotated[Path, typer.Argument(help="Where to: .ndjson, or packed as .ndjson.gz or .ndjson.zst.")],
    subject: Globs = None,
    as_json: AsJson = False,
) -> None:
    """Write the state of every subject into a file, one line each.

    Workers may run meanwhile: each subject is read at one moment, and what the file says of the topics is how far they
    were before the first. A file that was not written to its end is not there.

    Exit codes: 0 written, 2 no such file can be, 3 Redis is away, 4 it cannot be written.
    """
    import orjson

    from cli.exporting import export_state
    from cli.packed import plain_suffix
    from cli.progress import Progress
    from settings import load
    from state.redis_store import RedisStore

    if plain_suffix(file) not in _SUFFIXES:
        raise InputError(f"{file}: name it .ndjson, .ndjson.gz or .ndjson.zst")
    settings = load()
    wall_ms = time.time_ns() // 1_000_000

    async def work() -> int:
        store = RedisStore.connect(settings.redis(), settings.policy())
        async with aclosing(store):
            return await export_state(
                store,
                file,
                globs=subject or (),
                log_id=settings.kafka_log_id,
                wall_ms=wall_ms,
                progress=lambda total: Progress({"subjects": total}, is_shown=sys.stderr.isatty()),
            )

    count = asyncio.run(work())
    facts = {"file": str(file), "subjects": count, "bytes": file.stat().st_size}
    print(orjson.dumps(facts).decode() if as_json else f"{count:,} subjects in {file}, {facts['bytes']:,} bytes")


@state.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `tidemark state export` wrote.")],
    subject: Globs = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also in place of what is newer in Redis.")] = False,
    other_logs: Annotated[
        bool, typer.Option("--other-logs", help="Kafka is another one: forget how far its topics were read.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Although Kafka says that workers are alive.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make Redis hold what a file holds: the whole file is checked first, then written, then read back and compared.

    How far the topics were read comes with it. Into a Redis of the same Kafka, workers then go on from there, and a
    worker that finds other topics stops and says so. Of another Kafka say --other-logs: its topics are then read from
    their beginning. So are those of the same Kafka where only some subjects come into an empty Redis.

    Exit codes: 0 done, 2 the file is damaged, of another version or log, or older than what is stored, 3 Redis is away,
    4 workers are alive, or what was read back differs.
    """
    import orjson

    from cli.importing import import_state, refuse_beside_workers
    from cli.packed import read
    from cli.progress import Progress
    from settings import load
    from state.redis_store import RedisStore

    settings = load()

    async def work() -> "Imported":
        if not (force or dry_run):
            await refuse_beside_workers(settings)
        store = RedisStore.connect(settings.redis(), settings.policy())
        async with aclosing(store):
            return await import_state(
                store,
                partial(read, file),
                policy=settings.policy(),
                log_id=settings.kafka_log_id,
                globs=subject or (),
                is_replacing=replace,
                is_other_log=other_logs,
                is_dry=dry_run,
                wall_ms=time.time_ns() // 1_000_000,
                progress=lambda totals: Progress(totals, is_shown=sys.stderr.isatty()),
            )

    done = asyncio.run(work())
    print(orjson.dumps(done.facts()).decode() if as_json else done.text())


@state.command()
def refold(
    subject: Annotated[
        list[str],
        typer.Argument(help="Ids of billers, or NAME/VERSION of models.", autocompletion=stored_subjects),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Although the history no longer holds all that was learned.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Learn the models of subjects anew: a fold over all that the history has of them, without excluded hours.

    Nothing is written where the history has fewer hours than a model has learned, because it would then know less than
    before: --force does it all the same.

    Exit codes: 0 done, 2 a subject is not known, 3 Redis or PostgreSQL is away, 4 the history is incomplete.
    """
    import orjson

    from cli.progress import Progress
    from cli.refolding import refold_subjects
    from settings import load

    progress = Progress({"subjects": len(subject)}, is_shown=sys.stderr.isatty())
    done: list[Refolded] = asyncio.run(refold_subjects(load(), subject, is_forced=force, progress=progress))
    facts: dict[str, Any] = {"subjects": [one.facts() for one in done]}
    print(orjson.dumps(facts).decode() if as_json else "\n".join(one.text() for one in done))
    incomplete = [str(one.subject) for one in done if one.is_refused]
    if incomplete:
        raise OperatorError(
            f"the history no longer holds all that {', '.join(incomplete)} learned; --force folds what is there"
        )
