"""`tidemark up`: the embedded stack with worker and API, by one command."""

from pathlib import Path
from typing import Annotated

import typer

from cli.replay import speed_factor


def up(
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete what the data folder holds first.")] = False,
    replay: Annotated[
        Path | None, typer.Option(help="Replay these recorded calls; their event time then closes windows.")
    ] = None,
    speed: Annotated[str, typer.Option(help="Event time per wall time of the replay, or `max`.")] = "max",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the API; another one if it is taken.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Worker processes.")] = 1,
    data: Annotated[Path | None, typer.Option(help="Data folder; else TIDEMARK_DATA_DIR, else .tidemark.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="A line every few seconds instead of a screen.")] = False,
    seconds: Annotated[float | None, typer.Option("--for", min=0, help="Stop by itself after so many seconds.")] = None,
) -> None:
    """Start broker, Valkey, PostgreSQL, worker and API here, and keep a summary on the screen until Ctrl-C."""
    from cli.running import Options, run

    run(
        Options(
            data_dir=data,
            is_fresh=fresh,
            recording=replay,
            speed=speed_factor(speed),
            port=port,
            workers=workers,
            is_plain=plain,
            seconds=seconds,
        )
    )
