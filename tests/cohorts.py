"""Cohorts whose truth is known, for tests of what is made of them."""

import random
from dataclasses import dataclass

from detection.catalogue import Metric
from detection.cohort_learning import Census
from detection.cohorts import Cohort, Cohorts, Outlook, Prior, back, onto

COVERAGE = 0.99
Z_COVERAGE = 2.3263478740408408
Z_BAND = 1.959963984540054


@dataclass(frozen=True)
class Truth:
    """Levels vary between series by `spread`, hours within one by `noise`, both in units of the metric's scale."""

    level: float = 5.0
    spread: float = 0.5
    noise: float = 1.0
    calls: float = 50.0


def published(metric: Metric, truth: Truth, *, hours: int, chance: random.Random) -> tuple[Outlook, float]:
    """What a series with so many hours says of itself, and its true level."""
    scale = {"mean": "log", "ratio": "logit", "gauge": "plain"}[metric.kind]
    level = chance.gauss(truth.level, truth.spread)
    known = level + chance.gauss(0.0, truth.noise / hours**0.5)
    side = 1.0 if metric.direction == "above" else -1.0
    places = (0.0, -Z_BAND * truth.noise, Z_BAND * truth.noise, side * Z_COVERAGE * truth.noise)
    told = [back(scale, known + place) for place in places]  # type: ignore[arg-type]  # one of the three
    return Outlook(*told), level


def census(metric: Metric, truth: Truth, *, series: int, hours: int = 24, seed: int = 1) -> Census:
    """So many ready series that were drawn from the truth."""
    chance = random.Random(seed)
    counted = Census()
    for _ in range(series):
        counted.add_ready(metric.slug, truth.calls, published(metric, truth, hours=hours, chance=chance)[0], hours)
    return counted


def known(metric: Metric, truth: Truth, *, series: int, hours: int = 24, seed: int = 1) -> Cohorts:
    """The cohorts of such a census."""
    return Cohorts(census(metric, truth, series=series, hours=hours, seed=seed).cohorts(COVERAGE))


def prior_in(cohorts: Cohorts, metric: Metric, calls: float = 50.0) -> Prior:
    """The prior that speaks for a series with so many calls."""
    found: Cohort | None = cohorts.find(metric.slug, calls)
    assert found is not None
    assert found.prior is not None
    return found.prior


def place(prior: Prior, value: float) -> float:
    """Where a value lies on the prior's scale."""
    return onto(prior.scale, value)
