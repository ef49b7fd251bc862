"""`tidemark simulate`: billers and models that never were, with incidents whose truth is known."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.replay import event_time, speed_factor
from detection.errors import InputError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from cli.outlets import Outlet
    from cli.simulating import Simulated
    from detection.simulation.scenario import Scenario

# An incident in so many hours, and so many hours, where nothing else is asked for.
_HOURS_AN_INCIDENT = 8
_HOURS = 24

Target = Literal["http", "kafka", "-"]


def simulate(
    *,
    seed: Annotated[int, typer.Option(min=0, help="The same seed, start and numbers give the same events.")] = 1,
    billers: Annotated[int, typer.Option(min=0, help="So many billers: biller-001, biller-002, ...")] = 10,
    models: Annotated[int, typer.Option(min=0, help="So many AI models: Llama/v1, Mistral/v1, ...")] = 10,
    hours: Annotated[
        int | None, typer.Option(min=0, help="Hours of event time: 24; with --live those before now: 0.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="First hour, such as 2026-03-02T00:00:00Z; else it ends with the last full hour.")
    ] = None,
    incidents: Annotated[
        int | None, typer.Option(min=0, help="Incidents of billers, and as many of models; else one in eight hours.")
    ] = None,
    speed: Annotated[str, typer.Option(help="Event time per wall time, such as 60, or `max`.")] = "max",
    live: Annotated[bool, typer.Option("--live", help="Go on at wall-clock time until Ctrl-C.")] = False,
    to: Annotated[Target, typer.Option(help="Where events go: the API, the broker, or `-` for NDJSON here.")] = "http",
    url: Annotated[str, typer.Option(help="Where the API is served, for --to http.")] = "http://127.0.0.1:8000",
    brokers: Annotated[
        str | None, typer.Option(help="Bootstrap brokers for --to kafka; else TIDEMARK_KAFKA_BROKERS.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Write the incidents into this file: JSON, or NDJSON by its ending.")
    ] = None,
    seconds: Annotated[float | None, typer.Option("--for", min=0, help="Stop by itself after so many seconds.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON, and no progress.")] = False,
) -> None:
    """Send the events of simulated billers and AI models, with labelled incidents among them.

    Volumes, latencies and errors have days and weeks; the kinds of incidents are spike, level-shift, slow-drift,
    timeout-storm, silent-biller and platform-wide.

    A day of ten billers and ten models to the API that `tidemark up` serves, then ask for a model's statistics:

        tidemark simulate

        curl http://127.0.0.1:8000/stats/Llama/v1

    Two days to learn from, then live until Ctrl-C; the truth goes into a file:

        tidemark simulate --live --hours 48 --labels incidents.json

    The same bytes at every run:

        tidemark simulate --start 2026-03-02T00:00Z --to - > day.ndjson
    """
    import asyncio

    factor = speed_factor(speed)
    if live and (start is not None or factor is not None):
        raise typer.BadParameter("--live begins now and runs at wall-clock time: without --start, --speed")
    scenario, from_ms = _scenario(
        seed=seed, billers=billers, models=models, hours=hours, start=start, incidents=incidents, is_live=live
    )
    done = asyncio.run(
        _run(
            scenario,
            _outlet(to, url, brokers),
            labels_file=labels,
            speed=factor,
            live_from_ms=from_ms if live else None,
            seconds=seconds,
            is_quiet=as_json,
        )
    )
    _print(to, done, as_json=as_json)


def _scenario(
    *, seed: int, billers: int, models: int, hours: int | None, start: str | None, incidents: int | None, is_live: bool
) -> "tuple[Scenario, int]":
    """What was asked for, and the moment from which on it is sent.

    A live one has a day at least, so that its incidents have room, and begins in the hour of now or before it.
    """
    import time

    from detection.hours import HOUR_MS, SECOND_MS, parse_ms
    from detection.simulation.scenario import Scenario

    now_ms = int(time.time() * SECOND_MS)
    asked = (0 if is_live else _HOURS) if hours is None else hours
    try:
        start_ms = now_ms // HOUR_MS * HOUR_MS - asked * HOUR_MS if start is None else parse_ms(start)
    except ValueError as error:
        raise InputError(f"--start {start}: {error}") from error
    lasting = max(asked, _HOURS) if is_live else asked
    count = max(1, lasting // _HOURS_AN_INCIDENT) if incidents is None else incidents
    scenario = Scenario(
        seed=seed,
        billers=billers,
        models=models,
        start_ms=start_ms,
        hours=lasting,
        incidents=count if billers else 0,
        model_incidents=count if models else 0,
    )
    return scenario, now_ms if is_live and not asked else start_ms


def _outlet(to: Target, url: str, brokers: str | None) -> "AbstractAsyncContextManager[Outlet]":
    import settings
    from cli import outlets

    match to:
        case "http":
            return outlets.http(url)
        case "kafka":
            return outlets.kafka(settings.load(**({} if brokers is None else {"kafka_brokers": brokers})))
        case "-":
            return outlets.stdout()


async def _run(
    scenario: "Scenario",
    opened: "AbstractAsyncContextManager[Outlet]",
    *,
    labels_file: Path | None,
    speed: float | None,
    live_from_ms: int | None,
    seconds: float | None,
    is_quiet: bool,
) -> "Simulated":
    import asyncio
    import signal

    from cli.progress import Progress
    from cli.simulating import at_once, at_speed, at_wall_time, endless, label_rows, simulate
    from detection.simulation.events import simulate_events

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if seconds is not None:
        loop.call_later(seconds, stop.set)
    rows = label_rows(scenario)
    if labels_file is not None:
        _write(labels_file, rows)
    async with opened as outlet:
        if live_from_ms is None:
            pace = at_once if speed is None else at_speed(speed, scenario.start_ms)
            with Progress({"hours": scenario.hours}, is_shown=not is_quiet) as bar:
                events = simulate_events(scenario)
                return await simulate(events, outlet, pace=pace, stop=stop, on_hour=lambda: bar.advance("hours"))

        def following(current: "Scenario") -> None:
            if current is not scenario:
                rows.extend(label_rows(current))
                if labels_file is not None:
                    _write(labels_file, rows)

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if not is_quiet:
            typer.echo(f"{scenario.billers} billers and {scenario.models} models, until Ctrl-C ...", err=True)
        return await simulate(endless(scenario, following, from_ms=live_from_ms), outlet, pace=at_wall_time, stop=stop)


def _write(file: Path, rows: "list[dict[str, object]]") -> None:
    import orjson

    if file.suffix in {".ndjson", ".jsonl"}:
        content = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    else:
        content = orjson.dumps(rows, option=orjson.OPT_INDENT_2) + b"\n"
    try:
        file.write_bytes(content)
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}") from error


def _print(to: Target, done: "Simulated", *, as_json: bool) -> None:
    """On stderr where the events have taken stdout."""
    import orjson

    if as_json:
        summary = {
            "to": to,
            "calls": done.calls,
            "observations": done.observations,
            "first_event_ms": done.first_event_ms,
            "last_event_ms": done.last_event_ms,
            "seconds": round(done.seconds, 3),
            "events_per_second": round(done.rate, 1),
        }
        typer.echo(orjson.dumps(summary).decode(), err=to == "-")
        return
    typer.echo(
        f"{done.calls:,} calls and {done.observations:,} observations in {done.seconds:.1f} s ({done.rate:,.0f}/s), "
        f"event time {event_time(done.first_event_ms)} to {event_time(done.last_event_ms)}",
        err=to == "-",
    )
