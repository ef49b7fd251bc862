"""A month of observation events of some models, as the archive takes them: what statistics are measured on."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from detection.events import Observed
from detection.hours import HOUR_MS, parse_ms
from detection.subject import Subject
from state.archive import Arrived

START_MS: Final = parse_ms("2026-10-01T00:00:00Z")
DAYS: Final = 30
END_MS: Final = START_MS + DAYS * 24 * HOUR_MS
METRICS: Final = ("drift", "inference-time", "prediction-accuracy", "tokens")

_BATCH_EVENTS: Final = 50_000


def batches(*, models: int, events_per_model: int) -> Iterator[Arrived]:
    """Events in the order of time, of all models in turn."""
    chance = np.random.default_rng(7)
    subjects = [subject_of(number) for number in range(models)]
    levels = chance.uniform(0.6, 0.9, models)
    events = models * events_per_model
    for begin in range(0, events, _BATCH_EVENTS):
        numbers = np.arange(begin, min(begin + _BATCH_EVENTS, events))
        count = len(numbers)
        at_ms = START_MS + numbers * (END_MS - START_MS) // events
        model = numbers % models
        accuracy = np.clip(chance.normal(levels[model], 0.04), 0.0, 1.0)
        columns = (
            accuracy,
            np.abs(chance.normal(0.1, 0.05, count)),
            chance.lognormal(2.5, 0.4, count),
            chance.poisson(420, count).astype(np.float64),
        )
        rows = zip(model.tolist(), at_ms.tolist(), *(one.round(6).tolist() for one in columns), strict=True)
        regions = np.where(chance.random(count) < 0.7, "eu", "us").tolist()
        yield Arrived(
            "kafka/observations/0",
            begin,
            [
                Observed(
                    subjects[which],
                    ms,
                    {"prediction-accuracy": right, "drift": drift, "inference-time": took, "tokens": tokens},
                    {"region": region},
                )
                for (which, ms, right, drift, took, tokens), region in zip(rows, regions, strict=True)
            ],
            numbers.tolist(),
            begin + count,
        )


def subject_of(number: int) -> Subject:
    """The model of this number."""
    return Subject.model(f"Model-{number:02d}", "v1")
