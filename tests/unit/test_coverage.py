"""How often thresholds held, from sums: as from the days themselves, and with an interval that holds what it claims."""

import random

import numpy as np
import pytest

from detection.claim import Days, held
from detection.coverage import NOTHING, Tally


def tally(judged: list[int], exceeded: list[int]) -> Tally:
    """Of days with so many judged hours and exceedances."""
    return Tally(
        judged=sum(judged),
        exceeded=sum(exceeded),
        claimed=0.01 * sum(judged),
        compared=sum(judged),
        loss=3.0,
        naive_loss=12.0,
        clusters=len(judged),
        judged2=sum(day * day for day in judged),
        exceeded2=sum(day * day for day in exceeded),
        product=sum(one * other for one, other in zip(judged, exceeded, strict=True)),
    )


@pytest.mark.parametrize("seed", range(8))
def test_sums_say_of_the_share_what_the_days_say(seed: int) -> None:
    chance = random.Random(seed)
    judged = [chance.choice((24, 24, 7)) for _ in range(chance.randrange(1, 40))]
    exceeded = [chance.choice((0, 0, 0, 1, min(day, 9))) for day in judged]
    claim = held(0.01, Days(np.array(judged), np.array(exceeded)))
    found = tally(judged, exceeded)
    assert found.observed_exceedance == claim.observed
    assert found.interval == pytest.approx((claim.low, claim.high), rel=1e-9)
    assert found.design_effect == pytest.approx(claim.clumping, rel=1e-9)


@pytest.mark.parametrize("share", [0.004, 0.01, 0.03])
@pytest.mark.parametrize("days", [7, 30])
def test_the_interval_holds_the_true_share_as_often_as_it_claims(share: float, days: int) -> None:
    """4,000 draws: the share that is found is itself known to 0.7 % (two standard errors)."""
    chance = np.random.default_rng(days)
    drawn = chance.binomial(24, share, size=(4000, days))
    n_held = 0
    for row in drawn:
        low, high = tally([24] * days, row.tolist()).interval or (1.0, 0.0)
        n_held += low <= share <= high
    assert 0.93 < n_held / 4000 <= 0.995


@pytest.mark.parametrize("clump", [4, 8])
def test_the_interval_holds_where_exceedances_come_in_clumps(clump: int) -> None:
    """An incident takes `clump` hours of its day; an interval of independent hours would hold 84 % and 69 %."""
    chance = np.random.default_rng(clump)
    share = 0.02
    drawn = clump * chance.binomial(1, share * 24 / clump, size=(2000, 30 * 20))
    n_held = 0
    for row in drawn:
        low, high = tally([24] * row.size, row.tolist()).interval or (1.0, 0.0)
        n_held += low <= share <= high
    assert n_held / 2000 > 0.93


def test_nothing_judged_says_nothing() -> None:
    assert (NOTHING.observed_exceedance, NOTHING.claimed_exceedance, NOTHING.interval) == (None, None, None)
    assert (NOTHING.pinball_loss, NOTHING.naive_pinball_loss, NOTHING.skill) == (None, None, None)


def test_skill_is_what_is_won_over_last_week() -> None:
    found = tally([24], [0])
    assert (found.pinball_loss, found.naive_pinball_loss, found.skill) == (3.0 / 24, 0.5, 0.75)
