"""What the simulated subjects had learned before: weeks of hours as a data set, so that their live hours are judged."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import httpx

from detection.hours import HOUR_MS, MINUTE_MS
from detection.simulation.calls import BillerMinutes, simulate_minutes
from detection.simulation.events import simulate_events
from detection.simulation.scenario import Scenario

HOURS: Final = 21 * 24

Rows = list[dict[str, Any]]


def school(url: str, *, seed: int, billers: int, models: int, before_ms: int) -> None:
    """Train every series of these subjects with the three weeks before a full hour."""
    scenario = Scenario(seed=seed, billers=billers, models=models, start_ms=before_ms - HOURS * HOUR_MS, hours=HOURS)
    with httpx.Client(base_url=url, trust_env=False, timeout=60) as client:
        for path, rows in (*_billers(scenario), *_models(scenario)):
            client.post(f"/metrics/train/{path}", json={"rows": rows}).raise_for_status()


def _billers(scenario: Scenario) -> Iterator[tuple[str, Rows]]:
    for minutes in simulate_minutes(scenario):
        hours = _hours(minutes)
        for name in ("average-response-time", "error-rate", "timeout-error-rate"):
            yield f"{name}/{minutes.subject.id}", [{**hour[name], "timestamp": hour["timestamp"]} for hour in hours]


def _hours(minutes: BillerMinutes) -> Rows:
    found = []
    columns = (minutes.calls, minutes.errors, minutes.timeouts, minutes.latency_us)
    for at in range(0, len(minutes.calls), 60):
        calls, errors, timeouts, latency_us = (int(column[at : at + 60].sum()) for column in columns)
        if calls > timeouts:
            answered = calls - timeouts
            found.append(
                {
                    "timestamp": (minutes.first_minute + at) * MINUTE_MS,
                    "average-response-time": {"value": latency_us / 1000 / answered, "count": answered},
                    "error-rate": {"value": 100 * errors / calls, "count": calls},
                    "timeout-error-rate": {"value": 100 * timeouts / calls, "count": calls},
                }
            )
    return found


def _models(scenario: Scenario) -> Iterator[tuple[str, Rows]]:
    seen: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    only_models = Scenario(
        seed=scenario.seed, billers=0, models=scenario.models, start_ms=scenario.start_ms, hours=HOURS
    )
    for event in simulate_events(only_models):
        for metric in ("prediction_accuracy", "drift", "inference_time"):
            path = f"gauges/{metric.replace('_', '-')}/{event['name']}/{event['version']}"
            seen[path, event["timestamp"] // HOUR_MS].append(event[metric])
    rows: defaultdict[str, Rows] = defaultdict(list)
    for (path, hour), values in sorted(seen.items()):
        row = {"timestamp": hour * HOUR_MS, "value": sum(values) / len(values), "count": len(values)}
        rows[path].append(row)
    yield from rows.items()
