"""A worker makes the cohorts of what is published, now and then, and shows them to Prometheus."""

from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

import metrics
from detection.catalogue import BILLER_METRICS
from detection.cohorts import Cohort, Cohorts
from detection.errors import DependencyError
from detection.subject import Subject
from state.keys import COHORTS
from state.memory_store import MemoryStore
from stream.cohorts import CohortRefresh
from tests.contract.states import POLICY, biller

SECOND = 1000


class Counting(MemoryStore):
    """The store in memory; it counts the pages that are read, and is away when a test says so."""

    pages = 0
    is_away = False

    async def subjects(self, *, after: str = "", limit: int = 1000, prefix: str = "") -> list[Subject]:
        if self.is_away:
            raise DependencyError("redis", "no answer")
        self.pages += 1
        return await super().subjects(after=after, limit=limit, prefix=prefix)


@dataclass
class Bench:
    """A worker's refresh over a store, with a clock of its own."""

    store: Counting = field(default_factory=lambda: Counting(POLICY))
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    now_ms: int = 1_763_755_200_000
    refresh: CohortRefresh = field(init=False)

    def __post_init__(self) -> None:
        self.refresh = CohortRefresh(
            self.store,
            metrics.instruments(self.registry),
            coverage=POLICY.coverage,
            every_seconds=300,
            wall_ms=lambda: self.now_ms,
        )

    async def add(self, count: int, *, hours: int, first: int = 0) -> None:
        states = [biller(f"B{first + at}", hours=hours, seed=first + at) for at in range(count)]
        assert await self.store.save(states) == []

    def shown(self, metric: str, size: str) -> float | None:
        labels = {"metric": metric, "size": size}
        return self.registry.get_sample_value("tidemark_cohort_measured_exceedance", labels)

    async def known(self) -> dict[tuple[str, str], Cohort]:
        return Cohorts(await self.store.cohorts()).known


async def test_the_ready_series_make_the_cohorts_and_the_young_ones_do_not() -> None:
    bench = Bench()
    await bench.add(6, hours=80)
    await bench.add(4, hours=20, first=6)
    await bench.refresh.refresh()
    known = await bench.known()
    assert known.keys() == {(metric.slug, size) for metric in BILLER_METRICS for size in ("<10", "any")}
    for one in known.values():
        assert one.prior is not None
        assert one.prior.series == 6


async def test_the_measured_exceedance_of_each_cohort_is_shown_as_it_was_published() -> None:
    bench = Bench()
    await bench.add(5, hours=120)
    await bench.refresh.refresh()
    subjects = await bench.store.subjects()
    judged = exceeded = 0.0
    for series in (await bench.store.answers(subjects)).values():
        fields = series["error-rate"]
        judged += float(fields["judged"])
        exceeded += float(fields["judged"]) * float(fields["measured_exceedance"])
    assert judged == (await bench.known())["error-rate", "<10"].judged > 0
    assert bench.shown("error-rate", "<10") == pytest.approx(exceeded / judged)
    assert bench.shown("error-rate", "any") == pytest.approx(exceeded / judged)


async def test_a_cohort_that_is_gone_is_no_longer_shown() -> None:
    bench = Bench()
    await bench.add(5, hours=80)
    await bench.refresh.refresh()
    await bench.store.keep_cohorts([], now_ms=bench.now_ms, due_ms=bench.now_ms + 300 * SECOND)
    await bench.refresh.refresh()
    assert bench.shown("error-rate", "any") is None


async def test_a_refresh_is_not_repeated_before_its_time() -> None:
    bench = Bench()
    await bench.add(6, hours=80)
    await bench.refresh.refresh()
    pages = bench.store.pages
    bench.now_ms += 299 * SECOND
    await bench.refresh.refresh()
    assert bench.store.pages == pages
    # Its time is counted from its end, or from twenty times as long as it took.
    bench.now_ms += 600 * SECOND
    await bench.refresh.refresh()
    assert bench.store.pages == 2 * pages


async def test_the_first_cohorts_of_a_new_installation_are_not_waited_for_long() -> None:
    bench = Bench()
    await bench.refresh.refresh()
    await bench.add(6, hours=80)
    bench.now_ms += 30 * SECOND
    await bench.refresh.refresh()
    assert ("error-rate", "<10") in await bench.known()


async def test_learned_state_is_not_touched() -> None:
    bench = Bench()
    await bench.add(6, hours=80)
    before = {key: dict(fields) for key, fields in bench.store.hashes.items()}
    await bench.refresh.refresh()
    assert {key: fields for key, fields in bench.store.hashes.items() if key != COHORTS} == before


async def test_a_store_that_is_away_postpones_the_refresh() -> None:
    bench = Bench()
    await bench.add(6, hours=80)
    bench.store.is_away = True
    await bench.refresh.refresh()
    bench.store.is_away = False
    bench.now_ms += 301 * SECOND
    await bench.refresh.refresh()
    assert ("error-rate", "<10") in await bench.known()


async def test_damaged_cohorts_are_written_anew_when_they_are_due() -> None:
    bench = Bench()
    await bench.add(6, hours=80)
    await bench.refresh.refresh()
    bench.store.hashes[COHORTS][b"error-rate/any"] = b"{"
    await bench.refresh.refresh()
    bench.now_ms += 900 * SECOND
    await bench.refresh.refresh()
    assert ("error-rate", "any") in await bench.known()
