"""`tidemark replay FILE`: recorded calls into the broker."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from detection.errors import InputError

if TYPE_CHECKING:
    from cli.replaying import Replay


def speed_factor(text: str) -> float | None:
    """The option `--speed`: None for `max`; raises typer.BadParameter."""
    if text == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise typer.BadParameter(f"{text!r} is neither a number above 0 nor `max`")
    return factor


File = Annotated[
    Path,
    typer.Argument(help="CSV, NDJSON (each also gzipped) or Parquet with biller_id, timestamp, latency_ms, outcome."),
]
Speed = Annotated[str, typer.Option(help="Event time per wall time, such as 100000, or `max`.")]


def replay(
    file: File,
    speed: Speed = "max",
    brokers: Annotated[str | None, typer.Option(help="Bootstrap brokers; else TIDEMARK_KAFKA_BROKERS.")] = None,
    topic: Annotated[str, typer.Option(help="Topic; created if it is missing.")] = "calls",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many calls.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Exit with 0 although rows could not be read.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, and no progress.")] = False,
) -> None:
    """Send recorded calls to the broker, in recorded order and event time.

    Rows that cannot be read are reported and not sent; the exit code is then 2.
    """
    import asyncio

    import settings
    from cli.replaying import replay as send

    factor = speed_factor(speed)
    overrides: dict[str, object] = {} if brokers is None else {"kafka_brokers": brokers}
    configured = settings.load(**overrides)

    if as_json:
        done = asyncio.run(send(file, configured, topic=topic, speed=factor, limit=limit))
        _print_json(file, topic, done)
    else:
        with _Bar(file) as bar:
            done = asyncio.run(send(file, configured, topic=topic, speed=factor, limit=limit, on_progress=bar.show))
        _print_summary(topic, done)
    if done.rejected and not skip_bad:
        raise InputError(f"{file}: {done.rejected} rows could not be read, the first is {done.refusals[0]}")


class _Bar:
    """The progress bar: what was sent, how fast, up to which event time, and how long it may take."""

    def __init__(self, file: Path) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(file.name, total=1.0, numbers="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, now: "Replay") -> None:
        numbers = f"{now.acknowledged:,} calls  {now.rate:,.0f}/s  {event_time(now.last_event_ms)}"
        self._progress.update(self._task, completed=now.share, numbers=numbers)


def event_time(event_ms: int | None) -> str:
    """Event time for people, to the second, in UTC."""
    from datetime import UTC, datetime

    if event_ms is None:
        return "-"
    try:
        return datetime.fromtimestamp(event_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{event_ms} ms"


def _print_summary(topic: str, done: "Replay") -> None:
    for refusal in done.refusals:
        typer.echo(str(refusal), err=True)
    if done.rejected > len(done.refusals):
        typer.echo(f"... and {done.rejected - len(done.refusals)} more rows that could not be read", err=True)
    typer.echo(
        f"{done.acknowledged:,} calls acknowledged in topic {topic} in {done.seconds:.1f} s ({done.rate:,.0f}/s), "
        f"event time {event_time(done.first_event_ms)} to {event_time(done.last_event_ms)}, {done.rejected} rejected"
    )


def _print_json(file: Path, topic: str, done: "Replay") -> None:
    import orjson

    summary = {
        "file": str(file),
        "topic": topic,
        "sent": done.sent,
        "acknowledged": done.acknowledged,
        "rejected": done.rejected,
        "refusals": [{"row": item.row, "field": item.field, "reason": item.reason} for item in done.refusals],
        "first_event_ms": done.first_event_ms,
        "last_event_ms": done.last_event_ms,
        "seconds": round(done.seconds, 3),
        "calls_per_second": round(done.rate, 1),
    }
    print(orjson.dumps(summary).decode())
