"""A scenario on its way out: event by event in the order of time, at the pace asked for, until it is stopped."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from cli.outlets import CALLS, OBSERVATIONS, Outlet
from detection.hours import HOUR_MS, SECOND_MS, iso
from detection.simulation.events import Event, is_call, simulate_events
from detection.simulation.labels import LabelledIncident, labels
from detection.simulation.scenario import Scenario

# Shorter waits would be spent on waking up.
_SHORTEST_WAIT_SECONDS = 0.005
# After so many events the loop gets its turn, or nothing could stop a sender that never waits.
_EVENTS_A_TURN = 1000

# Seconds to wait before an event of this time, in ms since the epoch, is due.
Pace = Callable[[int], float]


@dataclass(frozen=True, slots=True)
class Simulated:
    """What was sent and acknowledged, in event time and in wall time."""

    calls: int = 0
    observations: int = 0
    first_event_ms: int | None = None
    last_event_ms: int | None = None
    seconds: float = 0.0

    @property
    def events(self) -> int:
        """Calls and observations."""
        return self.calls + self.observations

    @property
    def rate(self) -> float:
        """Events a second of wall time."""
        return self.events / self.seconds if self.seconds > 0 else 0.0


def at_once(event_ms: int) -> float:  # noqa: ARG001 - one of several paces
    """Every event is due."""
    return 0.0


def at_speed(factor: float, start_ms: int) -> Pace:
    """Event time from `start_ms` on, so many times as fast as the clock from now on."""
    begun = time.monotonic()
    return lambda event_ms: begun + (event_ms - start_ms) / SECOND_MS / factor - time.monotonic()


def at_wall_time(event_ms: int) -> float:
    """Due when the wall clock says so."""
    return event_ms / SECOND_MS - time.time()


def endless(scenario: Scenario, on_scenario: Callable[[Scenario], None], *, from_ms: int) -> Iterator[Event]:
    """The events of the scenario from a moment on, then of those that follow it; each is announced before it begins."""
    while True:
        on_scenario(scenario)
        yield from (event for event in simulate_events(scenario) if event["timestamp"] >= from_ms)
        scenario = scenario.following()


async def simulate(
    events: Iterator[Event],
    outlet: Outlet,
    *,
    pace: Pace = at_once,
    stop: asyncio.Event | None = None,
    on_hour: Callable[[], None] = lambda: None,
) -> Simulated:
    """Send the events until there are no more or `stop` is set; returns when all that were sent are acknowledged.

    `on_hour` is told of every hour of event time that is over.
    """
    begun = time.monotonic()
    stop = stop or asyncio.Event()
    first_ms: int | None = None
    last_ms: int | None = None
    sent = {CALLS: 0, OBSERVATIONS: 0}
    for number, event in enumerate(events):
        event_ms: int = event["timestamp"]
        if pace(event_ms) > _SHORTEST_WAIT_SECONDS:
            await outlet.settle()
            await _until_due(event_ms, pace, stop)
        elif number % _EVENTS_A_TURN == 0:
            await asyncio.sleep(0)
        if stop.is_set():
            break
        topic, key = (CALLS, event["biller_id"]) if is_call(event) else (OBSERVATIONS, _model_id(event))
        await outlet.send(topic, key.encode(), orjson.dumps(event))
        sent[topic] += 1
        first_ms = event_ms if first_ms is None else first_ms
        for _ in range((event_ms if last_ms is None else last_ms) // HOUR_MS, event_ms // HOUR_MS):
            on_hour()
        last_ms = event_ms
    else:
        on_hour()
    await outlet.settle()
    return Simulated(sent[CALLS], sent[OBSERVATIONS], first_ms, last_ms, time.monotonic() - begun)


async def _until_due(event_ms: int, pace: Pace, stop: asyncio.Event) -> None:
    while not stop.is_set() and (wait := pace(event_ms)) > 0:
        try:
            async with asyncio.timeout(wait):
                await stop.wait()
        except TimeoutError:
            continue


def _model_id(event: Event) -> str:
    return f"{event['name']}/{event['version']}"


def label_rows(scenario: Scenario) -> list[dict[str, Any]]:
    """The labelled incidents as JSON: times as RFC 3339 and in ms since the epoch, subjects as texts."""
    return [_row(one) for one in labels(scenario)]


def _row(one: LabelledIncident) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "subjects": [str(subject) for subject in one.subjects],
        "metrics": one.metrics,
        "strength": one.strength,
        "start": iso(one.start_ms),
        "end": iso(one.end_ms),
        "start_ms": one.start_ms,
        "end_ms": one.end_ms,
    }
