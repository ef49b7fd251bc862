"""The command `tidemark`, and how its errors end: one sentence, what to do next, and an exit code that scripts can use.

Exit codes: 0 done, 2 mend the input, 3 try again later, 4 a person must look.
"""

from typing import Any

import typer
from typer.core import TyperGroup

from cli import replay, serve, up
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


class _Commands(TyperGroup):
    """Ends every TidemarkError without a traceback; anything else is a defect, and its traceback is wanted."""

    def invoke(self, context: Any) -> Any:
        try:
            return super().invoke(context)
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
app.command("up")(up.up)
app.command("replay")(replay.replay)
app.command("worker")(serve.worker)
app.command("api")(serve.api)

if __name__ == "__main__":
    app()
