"""Whether a claimed share was kept, and how sure of it one can be."""

import numpy as np
import pytest

from detection.claim import Days, days_of, held, interval, together


def days(*pairs: tuple[int, int]) -> Days:
    judged, exceeded = np.array(pairs, np.int64).reshape(-1, 2).T
    return Days(judged, exceeded)


@pytest.mark.parametrize(
    ("exceeded", "hours", "low", "high"),
    # Newcombe (1998), table I, method 5.
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 20, 0.0, 0.1684), (1, 29, 0.0009, 0.1776)],
)
def test_the_interval_is_the_published_one(exceeded: int, hours: int, low: float, high: float) -> None:
    assert interval(exceeded / hours, hours) == pytest.approx((low, high), abs=5e-5)


def test_one_hour_beyond_among_seven_is_no_evidence_against_a_claim_of_one_in_a_hundred() -> None:
    assert held(0.01, days((7, 1))).standing == "kept"


def test_hours_of_a_day_belong_together() -> None:
    hours = np.array([10, 23, 24, 47, 48, 100])
    found = days_of(hours, np.array([True, False, True, True, False, False]))
    assert found.judged.tolist() == [2, 2, 1, 1]
    assert found.exceeded.tolist() == [1, 2, 0, 0]
    assert days_of(np.zeros(0, np.int64), np.zeros(0, np.bool_)).judged.size == 0


def test_scattered_exceedances_are_as_good_as_independent_and_clumped_ones_are_not() -> None:
    scattered = held(0.01, days(*[(24, 1), (24, 0), (24, 0), (24, 0)] * 25))
    clumped = held(0.01, days(*[(24, 24), *[(24, 0)] * 95]))
    assert scattered.clumping == 1.0
    assert clumped.clumping > 20.0
    assert (scattered.observed, clumped.observed) == (25 / 2400, 24 / 2304)
    assert scattered.low is not None
    assert clumped.low is not None
    assert clumped.low < scattered.low


@pytest.mark.parametrize(
    ("exceeded", "standing"),
    [(24, "kept"), (0, "fewer than claimed"), (5, "fewer than claimed"), (60, "more than claimed")],
)
def test_a_claim_is_kept_where_the_interval_holds_it(exceeded: int, standing: str) -> None:
    claim = held(0.01, days(*[(24, 1)] * exceeded, *[(24, 0)] * (100 - exceeded)))
    assert claim.standing == standing
    assert (claim.low is not None and claim.low > 0.01) == (standing == "more than claimed")


def test_nothing_judged_is_no_claim_kept_or_broken() -> None:
    claim = held(0.01, days())
    assert (claim.observed, claim.low, claim.high, claim.standing) == (None, None, None, "unknown")
    assert held(0.01, together([])) == claim


def test_the_interval_holds_the_true_share_about_as_often_as_it_says_though_bad_hours_come_together() -> None:
    """An exceedance is followed by another one with a chance of one half; 95 % of the intervals are to hold."""
    rng = np.random.default_rng(11)
    share, again, hours, times = 0.01, 0.5, 24 * 90, 600
    begin = share * (1.0 - again) / (1.0 - share)
    held_it = plainly = 0
    for _ in range(times):
        draws = rng.random(hours)
        is_exceeded = np.zeros(hours, np.bool_)
        for at in range(1, hours):
            is_exceeded[at] = draws[at] < (again if is_exceeded[at - 1] else begin)
        claim = held(share, days_of(np.arange(hours), is_exceeded))
        held_it += claim.standing == "kept"
        low, high = interval(float(is_exceeded.mean()), hours)
        plainly += low <= share <= high
    assert held_it / times > 0.9
    assert plainly / times < 0.8
