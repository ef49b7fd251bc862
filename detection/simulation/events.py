"""A scenario as it would be sent: calls and observations of all its subjects, one after the other in time."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from detection.events import OUTCOME_NAMES
from detection.hours import HOUR_MS
from detection.simulation.calls import Calls, biller_calls
from detection.simulation.observations import ENVIRONMENTS, REGIONS, Observations, model_observations
from detection.simulation.scenario import DAY_MINUTES, Scenario, Whole

DAY_HOURS = 24

Event = dict[str, Any]


def simulate_events(scenario: Scenario) -> Iterator[Event]:
    """Call events and observation events in the order of their timestamps; of the same moment, billers first.

    The calls are those that `simulate_minutes` adds up. A day of all subjects is kept at a time, 17 bytes a call.
    """
    for day in scenario.days:
        calls = [biller_calls(scenario, index, day) for index in range(scenario.billers)]
        observations = [model_observations(scenario, index, day) for index in range(scenario.models)]
        first_hour = day * DAY_MINUTES // 60
        for hour in range(first_hour, first_hour + DAY_HOURS):
            if scenario.start_ms <= hour * HOUR_MS < scenario.end_ms:
                yield from _of_hour(scenario, hour, calls, observations)


def is_call(event: Event) -> bool:
    """Whether it is a call event; else it is an observation event."""
    return "biller_id" in event


def _of_hour(scenario: Scenario, hour: int, calls: list[Calls], observations: list[Observations]) -> Iterator[Event]:
    all_times = [one.time_ms for one in calls] + [one.time_ms for one in observations]
    in_hour = [_between(time_ms, hour) for time_ms in all_times]
    times = [time_ms[rows] for time_ms, rows in zip(all_times, in_hour, strict=True)]
    # Which subject, and which of its rows, stands at each place of the order.
    whose = np.repeat(np.arange(len(times)), [len(one) for one in times])
    row = np.concatenate([np.arange(rows.start, rows.stop) for rows in in_hour] or [np.arange(0)])
    order = np.argsort(np.concatenate(times or [np.arange(0)]), kind="stable")
    for at, number in zip(whose[order].tolist(), row[order].tolist(), strict=True):
        if at < scenario.billers:
            yield _call(scenario.biller_subjects[at].id, calls[at], number)
        else:
            index = at - scenario.billers
            yield _observation(scenario.model_subjects[index].id, observations[index], number)


def _between(time_ms: Whole, hour: int) -> slice:
    """The rows of the hour; they are in order of their minutes, so hours never mix."""
    begin, end = np.searchsorted(time_ms // HOUR_MS, [hour, hour + 1])
    return slice(int(begin), int(end))


def _call(biller_id: str, calls: Calls, row: int) -> Event:
    return {
        "biller_id": biller_id,
        "timestamp": int(calls.time_ms[row]),
        "latency_ms": int(calls.latency_us[row]) / 1000.0,
        "outcome": OUTCOME_NAMES[calls.outcome[row]],
    }


def _observation(model_id: str, found: Observations, row: int) -> Event:
    name, _, version = model_id.partition("/")
    return {
        "name": name,
        "version": version,
        "timestamp": int(found.time_ms[row]),
        "prediction_accuracy": round(float(found.accuracy[row]), 4),
        "drift": round(float(found.drift[row]), 4),
        "inference_time": round(float(found.inference_time[row]), 3),
        "labels": {"region": REGIONS[found.region[row]], "env": ENVIRONMENTS[found.environment[row]]},
    }
