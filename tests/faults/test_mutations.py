"""A build without exactly-once is noticed: three ways to lose it, each found by the driver within a few seeds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from local.postgres import Postgres
from tests.faults import mutations
from tests.faults.outcome import Outcome
from tests.faults.soak import Summary, soak

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


async def _first_difference(mutation: Callable[[], None], postgres: Postgres, folder: Path) -> Summary:
    return await soak(
        range(12),
        folder=folder,
        postgres_url=postgres.url,
        lanes=4,
        mutation=mutation,
        is_enough=lambda outcome: bool(_miscounted(outcome)),
    )


def _miscounted(outcome: Outcome) -> list[str]:
    """Differences that no worker that was slow, or stopped too early, can have left."""
    return [one for one in outcome.differences if " accepted: expected" in one]


async def test_a_store_whose_last_writer_wins_is_caught(postgres: Postgres, tmp_path: Path) -> None:
    summary = await _first_difference(mutations.every_write_wins, postgres, tmp_path)
    assert any(map(_miscounted, summary.failed)), str(summary)


async def test_a_pipeline_that_counts_what_it_has_already_is_caught(postgres: Postgres, tmp_path: Path) -> None:
    summary = await _first_difference(mutations.nothing_is_known_already, postgres, tmp_path)
    assert any(map(_miscounted, summary.failed)), str(summary)


async def test_a_worker_that_acknowledges_before_it_writes_is_caught(postgres: Postgres, tmp_path: Path) -> None:
    summary = await _first_difference(mutations.acknowledged_before_the_write, postgres, tmp_path)
    assert any(map(_miscounted, summary.failed)), str(summary)
