"""What holds of evidence inside the hour whatever the minutes are."""

import math
import random

from hypothesis import given
from hypothesis import strategies as st

from detection.live import SLUGS, LiveNormal, judge_minutes
from detection.windows import CallWindow

HOUR = 490_000
START = HOUR * 60
LIVE = {
    SLUGS[0]: LiveNormal(HOUR, 200.0, 180.0, 40.0, 0.5, 0.05),
    SLUGS[1]: LiveNormal(HOUR, 0.01, 0.02, 0.0005, 500.0, 0.3),
    SLUGS[2]: LiveNormal(HOUR, 1e-5, 1e-5, 0.0, 20.0, 0.5),
    SLUGS[3]: LiveNormal(HOUR, 600.0, 500.0, 0.1, 0.0, 0.1),
}


@st.composite
def windows(draw: st.DrawFn) -> CallWindow:
    calls = draw(st.one_of(st.integers(1, 60), st.integers(1, 10**6)))
    timeouts = draw(st.integers(0, calls))
    errors = draw(st.integers(0, calls - timeouts))
    mean = draw(st.integers(0, 60_000_000)) if timeouts < calls else 0
    answered = calls - timeouts
    squares = answered * mean * mean * draw(st.integers(1, 20))
    return CallWindow(calls, errors, timeouts, answered * mean, squares)


minutes = st.dictionaries(st.integers(START - 10, START + 19), windows(), max_size=25)


@given(minutes)
def test_every_number_is_finite_and_nothing_is_beyond_and_clear(counted: dict[int, CallWindow]) -> None:
    for one in judge_minutes(LIVE, counted, START + 10, START + 20):
        numbers = (one.value, one.expected, one.boundary, one.score, one.chance)
        assert all(map(math.isfinite, numbers))
        assert one.chance >= 0.0
        assert not (one.is_beyond and one.is_clear)
        assert one.sentence
        if one.is_beyond:
            assert one.score > 1.0
            assert one.value < one.boundary if one.slug == "calls" else one.value > one.boundary


@given(minutes, st.integers(0, 2**32))
def test_the_order_in_which_minutes_are_given_does_not_matter(counted: dict[int, CallWindow], seed: int) -> None:
    shuffled = list(counted.items())
    random.Random(seed).shuffle(shuffled)
    assert judge_minutes(LIVE, dict(shuffled), START + 10, START + 20) == judge_minutes(
        LIVE, counted, START + 10, START + 20
    )


@given(minutes, st.integers(START + 5, START + 19), st.integers(1, 5))
def test_more_failed_calls_never_lower_the_score(counted: dict[int, CallWindow], minute: int, more: int) -> None:
    def score(of: dict[int, CallWindow]) -> float:
        found = judge_minutes(LIVE, of, START + 19, START + 20)
        return next((one.score for one in found if one.slug == SLUGS[1]), -math.inf)

    one = counted.get(minute, CallWindow(calls=10))
    fine = CallWindow(one.calls + more, one.errors, one.timeouts, one.latency_us, one.latency_us2)
    failed = CallWindow(one.calls + more, one.errors + more, one.timeouts, one.latency_us, one.latency_us2)
    assert score(counted | {minute: failed}) >= score(counted | {minute: fine}) - 1e-9


@given(minutes)
def test_judging_changes_nothing_that_it_was_given(counted: dict[int, CallWindow]) -> None:
    before = {minute: repr(one) for minute, one in counted.items()}
    judge_minutes(LIVE, counted, START + 10, START + 20)
    assert {minute: repr(one) for minute, one in counted.items()} == before
