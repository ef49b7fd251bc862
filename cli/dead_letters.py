"""`tidemark dead-letters`: what could not be used, and the way back for what can be used now.

tidemark dead-letters list                          the newest, with their reason and where they came from
tidemark dead-letters replay --topic calls          what would be sent back to its topic
tidemark dead-letters replay --topic calls --send   send it

A letter goes back as it came, with its key and a header that says which letter it was. It is sent once: see
`state.replayed` for how that is known, and `--again`. Late events would be late again, because their hours are learned;
they are left out unless `--reason late` asks for them. To learn an hour again there is `tidemark state refold`, and
`POST /metrics/train`.
"""

import asyncio
import sys
from collections.abc import Callable, Collection, Coroutine
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli.options import AsJson
from detection.errors import InputError

if TYPE_CHECKING:
    from cli.letters import Selection
    from cli.resending import Count, Resending
    from settings import Settings
    from state.dead_letters import Letter

    _Work = Callable[[Resending], Coroutine[Any, Any, dict[str, Any]]]

_REASONS: Final = ("invalid", "late")
_ORIGINS: Final = ("calls", "observations")

dead_letters = typer.Typer(
    name="dead-letters",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="List what could not be used, or send it back to the topic that it came from.",
)


def _beginning(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def completed(incomplete: str) -> list[str]:
        return [one for one in known if one.startswith(incomplete)]

    return completed


ReasonOption = Annotated[
    str, typer.Option("--reason", help="`invalid` or `late`.", autocompletion=_beginning(_REASONS))
]
TopicOption = Annotated[
    str, typer.Option("--topic", help="The topic that they came from.", autocompletion=_beginning(_ORIGINS))
]
SinceOption = Annotated[str, typer.Option("--since", help="RFC 3339: only letters written at this time or later.")]
UntilOption = Annotated[str, typer.Option("--until", help="RFC 3339: only letters written before.")]
PlaceOption = Annotated[
    list[str] | None,
    typer.Option("--at", help="A letter's own PARTITION/OFFSET, or PARTITION/FIRST-LAST; may be repeated."),
]


@dead_letters.command("list")
def list_(
    reason: ReasonOption = "",
    topic: TopicOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    at: PlaceOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many are shown at most.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show the newest dead letters: when, why, where from, and how they begin.

    Exit codes: 0 listed, 2 an option cannot be, 3 Kafka is away.
    """
    import orjson

    from cli.letters import Selection
    from settings import load
    from state.dead_letter_log import DeadLetterLog

    selection = Selection.parse(reason=reason, topic=topic, since=since, until=until, at=at or ())
    settings = load()

    async def read() -> "list[Letter]":
        async with DeadLetterLog.connect(settings.brokers()) as log:
            return await log.newest(limit, selection.takes)

    letters = asyncio.run(read())
    if as_json:
        print(orjson.dumps({"dead_letters": [facts_of(one) for one in letters]}).decode())
    else:
        _print(letters)


@dead_letters.command()
def replay(  # noqa: PLR0917 (one parameter an option)
    reason: ReasonOption = "",
    topic: TopicOption = "",
    since: SinceOption = "",
    until: UntilOption = "",
    at: PlaceOption = None,
    send: Annotated[bool, typer.Option("--send", help="Send them; without it, nothing is sent.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also those that may have been sent before.")] = False,
    rate: Annotated[float, typer.Option(min=0.1, help="Letters a second at most.")] = 500.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
) -> None:
    """Count the dead letters that can go back to their topic; with --send, send them, each once.

    They go as they came, with their key and a header `tidemark-replayed`. Late events would be late again: they are
    left out, unless --reason late asks for them.

    Exit codes: 0 done, 1 not confirmed, 2 an option cannot be, 3 Kafka or Redis is away.
    """
    import orjson

    from cli.letters import Selection
    from cli.progress import Progress
    from settings import load

    if yes and not send:
        raise InputError("--yes belongs to --send")
    selection = Selection.parse(reason=reason, topic=topic, since=since, until=until, at=at or ())
    settings = load()

    async def done(resending: "Resending") -> dict[str, Any]:
        counted = await resending.count()
        facts = counts_of(counted)
        if not as_json:
            print(text_of(counted))
        if send and counted.ready:
            if not yes:
                typer.confirm(f"Send {counted.ready:,} back to {', '.join(counted.topics)}?", abort=True, err=True)
            with Progress({"letters": counted.ready}, is_shown=sys.stderr.isatty()) as progress:
                facts["sent"] = await resending.send(
                    settings.brokers(), rate=rate, on_sent=lambda some: progress.advance("letters", some)
                )
        return facts

    facts = asyncio.run(_resending(settings, selection, again, done))
    if as_json:
        print(orjson.dumps(facts).decode())
    elif send:
        print(f"sent {facts['sent']:,}")
    elif facts["ready"]:
        print("nothing was sent: --send does it")


async def _resending(settings: "Settings", selection: "Selection", again: bool, work: "_Work") -> dict[str, Any]:
    from cli.resending import Resending
    from state.dead_letter_log import DeadLetterLog
    from state.redis_store import RedisStore
    from state.replayed import Replayed

    store = RedisStore.connect(settings.redis(), settings.policy())
    async with aclosing(store), DeadLetterLog.connect(settings.brokers()) as log:
        return await work(Resending(log, Replayed(store.client), await log.spans(), selection, again))


def facts_of(letter: "Letter") -> dict[str, Any]:
    """A letter as JSON."""
    from detection.hours import iso

    return {
        "time": iso(letter.time_ms) if letter.time_ms >= 0 else None,
        "letter": letter.place,
        "reason": letter.reason,
        "detail": letter.detail,
        "origin": {"topic": letter.topic, "partition": letter.origin_partition, "offset": letter.origin_offset},
        "key": None if letter.key is None else letter.key.decode(errors="replace"),
        "excerpt": letter.excerpt(500),
        "is_whole": letter.is_whole,
    }


def counts_of(counted: "Count") -> dict[str, Any]:
    """The counts as JSON."""
    return {
        "ready": counted.ready,
        "topics": dict(counted.topics),
        "left_out": {name: count for name, count in sorted(counted.fates.items()) if name != "ready"},
        "sent": 0,
    }


def text_of(counted: "Count") -> str:
    """The counts, for people."""
    from cli.letters import WHY_NOT

    told = [f"{count:,} would go to {topic}" for topic, count in sorted(counted.topics.items())]
    told += [f"{count:,} {WHY_NOT[name]}" for name, count in sorted(counted.fates.items()) if name != "ready"]
    return "\n".join(told) or "no letter fits"


def _print(letters: "Collection[Letter]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from detection.hours import SECOND_MS, iso

    if not letters:
        print("no dead letter fits")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for name in ("when", "letter", "reason", "from"):
        table.add_column(name, no_wrap=True)
    table.add_column("why, and how it begins", overflow="fold")
    for one in letters:
        when = iso(one.time_ms // SECOND_MS * SECOND_MS) if one.time_ms >= 0 else "–"
        # Never as markup: it is what strangers have sent.
        table.add_row(*map(Text, (when, one.place, one.reason, one.origin, f"{one.detail}\n{one.excerpt()}")))
    Console().print(table)
