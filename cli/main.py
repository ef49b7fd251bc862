"""The command `tidemark`, and how its errors end: one sentence, what to do next, and an exit code that scripts can use.

Exit codes: 0 done, 2 mend the input, 3 try again later, 4 a person must look.
"""

import importlib
from dataclasses import dataclass
from typing import Any

import typer
from typer.completion import completion_init  # type: ignore[attr-defined]  # typer re-exports it without saying so
from typer.core import TyperGroup

from detection.errors import (
    DependencyError,
    InputError,
    OperatorError,
    RetryError,
    SettingsError,
    TidemarkError,
)

_ENDINGS: dict[type[TidemarkError], tuple[int, str]] = {
    InputError: (2, "Correct the input, then run the same again."),
    RetryError: (3, "The same may succeed later: run it again."),
    DependencyError: (
        3,
        (
            "Is it running? `tidemark up` starts the embedded stack; TIDEMARK_KAFKA_BROKERS, TIDEMARK_REDIS_URL and "
            "TIDEMARK_POSTGRES_URL name another one."
        ),
    ),
    OperatorError: (4, ""),
    SettingsError: (4, "Correct the setting, then start again."),
}


def ending(error: TidemarkError) -> tuple[int, str]:
    """Exit code and next step for an error: those of the nearest class above it."""
    for kind in type(error).__mro__:
        if kind in _ENDINGS:
            return _ENDINGS[kind]
    return 4, ""


@dataclass(frozen=True, slots=True)
class _Subcommand:
    """Where a command is found when it is run, and its line in the help, which loads none of them."""

    module: str
    line: str


_SUBCOMMANDS = {
    "up": _Subcommand("cli.up", "Start the embedded stack, a worker and the API, with a live summary."),
    "worker": _Subcommand("cli.serve", "Learn from the stream until stopped."),
    "api": _Subcommand("cli.serve", "Serve the REST API until stopped."),
    "migrate": _Subcommand("cli.serve", "Bring PostgreSQL's tables to the newest schema."),
    "replay": _Subcommand("cli.replay", "Send recorded calls to the broker, in recorded order."),
    "simulate": _Subcommand("cli.simulate", "Send the events of billers and AI models that never were."),
    "predict": _Subcommand("cli.predict", "Ask the API for the next hour of a series."),
    "inspect": _Subcommand("cli.inspect", "Show what Redis knows of a subject."),
    "rules": _Subcommand("cli.rules", "Check rules in a file, try them over the history, apply or list them."),
    "log": _Subcommand("cli.log", "Show which life of the topics is read, or begin a topic's next one."),
    "backtest": _Subcommand("cli.backtest", "Predict each row of a recorded history before it is learned."),
    "thresholds": _Subcommand("cli.thresholds", "List the thresholds of all series, or export them into a file."),
    "explain": _Subcommand("cli.explain", "Say why the threshold of a series is what it is, and how it has held."),
    "dead-letters": _Subcommand("cli.dead_letters", "List what could not be used, or send it again."),
    "state": _Subcommand("cli.state", "Export what was learned, import it, or learn it anew from the history."),
    "snapshots": _Subcommand("cli.snapshots", "Keep what was learned in object storage, and bring it back."),
    "keys": _Subcommand("cli.keys", "Make, list, rotate and take back the keys that the API is asked with."),
    "acl": _Subcommand("cli.acl", "Print the users that Redis is to have, one for each role."),
    "doctor": _Subcommand("cli.doctor", "Check every dependency and setting, and say what to do."),
    "completion": _Subcommand("cli.completion", "Print the script that completes this command in a shell."),
}


@dataclass(frozen=True, slots=True)
class _Completion:
    """What a shell may go on with, with the names that its formats look for."""

    value: str
    help: str
    type: str = "plain"


class _Commands(TyperGroup):
    """Loads a command when it is run, and ends every TidemarkError without a traceback.

    Anything else is a defect, and its traceback is wanted.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's own signature
        return list(_SUBCOMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - typer's own signature
        known = _SUBCOMMANDS.get(cmd_name)
        if known is None:
            return None
        found = getattr(importlib.import_module(known.module), cmd_name.replace("-", "_"))
        if isinstance(found, typer.Typer):
            # A group of its own, whose commands are loaded together.
            return typer.main.get_command(found)
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command(cmd_name)(found)
        return typer.main.get_command(alone)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        # By the list alone: typer's own would load every command for its line.
        return [_Completion(name, known.line) for name, known in _SUBCOMMANDS.items() if name.startswith(incomplete)]

    def main(self, *args: Any, **options: Any) -> Any:
        # With `add_completion`, typer would register the shells, and offer to write into the user's own files.
        completion_init()
        return super().main(*args, **options)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer's own signature
        with formatter.section("Commands"):
            formatter.write_dl([(name, known.line) for name, known in _SUBCOMMANDS.items()])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TidemarkError as error:
            from rich.console import Console

            code, advice = ending(error)
            console = Console(stderr=True, highlight=False, soft_wrap=True)
            console.print("Error:", style="bold red", end=" ")
            console.print(str(error), markup=False)
            if advice:
                console.print(advice, markup=False)
            raise typer.Exit(code) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Drawing the help with rich takes longer than all the rest.
    rich_markup_mode=None,
    help="Learns from the stream of calls the highest value of every API metric that is normal in the next hour.",
)


@app.callback()
def _root() -> None:
    """Makes a group of an app to which typer sees no command added."""


if __name__ == "__main__":
    app()
