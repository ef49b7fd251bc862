"""Observation events for tests of the archive, and what PostgreSQL must hold after them, counted plainly."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

from detection.events import Observed
from detection.subject import Subject
from state.archive import Arrived
from tests.databases import ask

SOURCE = "log/observations/0"
START_MS = 1_763_755_200_000
METRICS = ("prediction-accuracy", "drift", "inference-time")
REGIONS: tuple[dict[str, str], ...] = ({}, {"region": "eu"}, {"region": "us", "tier": "gold"})

# Each window again from the raw rows, in SQL that knows nothing of how the archive counts; without the bins.
_RECOUNTED = """
select subject, metric, label_set, date_trunc('{0}', at) as start, count(*),
    sum(round(value * 1000000000)::bigint) as sum_nano, min(value), max(value),
    (array_agg(value order by at desc, value desc))[1] as last, max(at)
from observation_events group by 1, 2, 3, 4
"""
_COUNTED = """
select subject, metric, label_set, start, count, sum_nano, minimum, maximum, last, last_at from gauge_{0}s
"""
_DIFFERENCE = "(({0}) except all ({1})) union all (({1}) except all ({0}))"


def observations(count: int, *, seed: int = 0, models: int = 5, step_ms: int = 700) -> list[Observed]:
    """Repeatable events of a few models, with one to three metrics each and now and then the same time twice."""
    random_numbers = random.Random(seed)
    subjects = [Subject.model(f"Model{number}", "v1") for number in range(models)]
    found: list[Observed] = []
    for number in range(count):
        slugs = random_numbers.sample(METRICS, random_numbers.randint(1, len(METRICS)))
        found.append(
            Observed(
                subjects[random_numbers.randrange(models)],
                START_MS + number // 2 * step_ms,
                {slug: round(random_numbers.gauss(0, 3), 3) for slug in slugs},
                random_numbers.choice(REGIONS),
            )
        )
    return found


def arrived(events: Sequence[Observed], *, begin: int = 0, source: str = SOURCE) -> Arrived:
    """The events as a batch of one source, one a record, from the offset `begin` on."""
    return Arrived(source, begin, events, range(begin, begin + len(events)), begin + len(events))


def rows_of(events: Iterable[Observed]) -> int:
    """One row for each metric of each event."""
    return sum(len(event.gauges) for event in events)


def wrong_windows(url: str) -> list[tuple[Any, ...]]:
    """The windows that differ from what the raw rows come to, and those that are missing or too many."""
    return [
        row
        for unit in ("minute", "hour")
        for row in ask(url, _DIFFERENCE.format(_RECOUNTED.format(unit), _COUNTED.format(unit)))
    ]


def repeated_rows(url: str) -> list[tuple[Any, ...]]:
    """Raw rows that are there more than once."""
    return ask(
        url,
        'select source, "offset", metric, count(*) from observation_events group by 1, 2, 3 having count(*) > 1',
    )
