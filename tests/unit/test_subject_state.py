"""Absorb, learn, publish: what depends on the events alone, and what the clock may add."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.closing import close
from detection.hours import HOUR_MS, MINUTE_MS
from detection.policy import PUBLISHED_SILENCE_HOURS, Policy
from detection.rules.book import RuleBook
from detection.rules.rule import Rule, Window
from detection.rules.watch import watch
from detection.subject import Subject
from detection.subject_state import KEPT_MINUTES, Arrivals, SubjectState
from detection.windows import CallWindow

POLICY = Policy()
START = 490_000
LATENCY_US = 120_000


def calls(hour: int, count: int, *, minute: int = 5, errors: int = 0, timeouts: int = 0) -> Arrivals:
    answered = count - timeouts
    window = CallWindow(count, errors, timeouts, LATENCY_US * answered, LATENCY_US**2 * answered)
    at = hour * HOUR_MS + minute * MINUTE_MS
    return Arrivals(
        watermark_ms=at,
        accepted=count,
        windows={hour: window},
        minutes={at // MINUTE_MS: CallWindow(count, errors, timeouts, LATENCY_US * answered)},
    )


def step(state: SubjectState, arrived: Arrivals, *, clock_ms: int = -1) -> None:
    state.absorb(arrived)
    state.learn(POLICY)
    state.publish(clock_ms, POLICY)


def fresh() -> SubjectState:
    return SubjectState(Subject.biller("B1"))


def learned(state: SubjectState) -> dict[str, object]:
    return {slug: model.to_state() for slug, model in state.models.items()}


def test_a_window_is_learned_when_an_event_a_grace_period_younger_is_seen() -> None:
    state = fresh()
    step(state, calls(START, 10))
    step(state, calls(START + 1, 10, minute=59))
    assert not state.models
    step(state, calls(START + 2, 10, minute=1))
    assert {slug: model.n_learned for slug, model in state.models.items()} == {
        "average-response-time": 1,
        "error-rate": 1,
        "timeout-error-rate": 1,
    }
    assert set(state.learned) == {START}
    assert set(state.windows) == {START + 1, START + 2}


def test_a_window_is_published_when_it_has_closed_before_it_is_learned() -> None:
    state = fresh()
    step(state, calls(START, 10, errors=2))
    step(state, calls(START + 1, 10, minute=1))
    forecast = state.forecasts["error-rate"]
    assert forecast.hour == START + 1
    assert forecast.estimate.n_learned == 1
    assert state.verdicts["error-rate"].value == 20.0
    assert not state.models


def test_an_hour_without_calls_is_no_observation() -> None:
    state = fresh()
    step(state, calls(START, 10))
    step(state, calls(START + 5, 10))
    step(state, calls(START + 8, 10))
    assert state.models["error-rate"].n_learned == 2


def test_an_hour_in_which_every_call_timed_out_has_no_response_time() -> None:
    state = fresh()
    step(state, calls(START, 4, timeouts=4))
    step(state, calls(START + 3, 4))
    assert "average-response-time" not in state.models
    assert state.models["timeout-error-rate"].n_learned == 1
    assert state.verdicts["timeout-error-rate"].value == 100.0


def test_a_correction_inside_the_grace_period_is_exact() -> None:
    late, straight = fresh(), fresh()
    step(late, calls(START, 10))
    step(late, calls(START + 1, 10, minute=30))
    step(late, calls(START, 5, errors=5))
    both, fives = calls(START, 10), calls(START, 5, errors=5)
    assert both.windows is not None
    assert fives.windows is not None
    both.windows[START].add(fives.windows[START])  # type: ignore[arg-type]  # both are of calls
    step(straight, both)
    step(straight, calls(START + 1, 10, minute=30))
    assert late.forecasts == straight.forecasts
    assert late.verdicts == straight.verdicts
    assert late.windows == straight.windows


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.lists(st.integers(0, 200), max_size=12))
def test_the_clock_never_changes_what_is_learned(gaps: list[int], ticks: list[int]) -> None:
    quiet, ticking = fresh(), fresh()
    hour = START
    for at, gap in enumerate(gaps):
        hour += gap
        step(quiet, calls(hour, 3 + at))
        step(ticking, calls(hour, 3 + at))
        if at < len(ticks):
            ticking.publish((hour + ticks[at]) * HOUR_MS, POLICY)
    assert learned(quiet) == learned(ticking)
    end = (hour + 300) * HOUR_MS
    quiet.publish(end, POLICY)
    ticking.publish(end, POLICY)
    assert quiet.forecasts == ticking.forecasts
    assert quiet.verdicts == ticking.verdicts
    assert quiet.published_hour == ticking.published_hour


def test_a_silent_subject_is_published_for_a_month_and_then_rests() -> None:
    state = fresh()
    step(state, calls(START, 10))
    assert state.publish((START + 100) * HOUR_MS, POLICY)
    assert state.forecasts["error-rate"].status == "stale"
    assert state.publish((START + 10_000) * HOUR_MS, POLICY)
    assert state.published_hour == START + PUBLISHED_SILENCE_HOURS
    assert not state.publish((START + 20_000) * HOUR_MS, POLICY)


def test_publishing_twice_changes_nothing() -> None:
    state = fresh()
    step(state, calls(START, 10))
    clock = (START + 3) * HOUR_MS
    assert state.publish(clock, POLICY)
    before = (dict(state.forecasts), dict(state.verdicts), state.published_hour)
    assert not state.publish(clock, POLICY)
    assert (state.forecasts, state.verdicts, state.published_hour) == before


def test_only_the_last_minutes_are_kept() -> None:
    state = fresh()
    for minute in range(0, 60, 3):
        step(state, calls(START, 2, minute=minute))
    newest = START * 60 + 57
    assert min(state.minutes) > newest - KEPT_MINUTES
    assert newest in state.minutes


def publish_one(state: SubjectState, clock_ms: int) -> None:
    state.learn(POLICY)
    state.publish(clock_ms, POLICY)


def publish_many(state: SubjectState, clock_ms: int) -> None:
    close([state], clock_ms, POLICY)


@pytest.mark.parametrize("publish", [publish_one, publish_many])
@pytest.mark.parametrize("n_corrections", [0, 1, 4])
def test_an_hour_that_is_published_again_counts_once_in_the_window_of_a_rule(
    publish: Callable[[SubjectState, int], None], n_corrections: int
) -> None:
    rule = Rule(id="failing", metric="error-rate", condition="outside threshold", window=Window(n=3, m=5))
    rules = RuleBook([rule])
    state = fresh()
    opened = []
    for hour in range(START, START + 75):
        is_bad = hour >= START + 72
        state.absorb(calls(hour, 40, errors=30 if is_bad else hour % 2))
        for _ in range(1 + n_corrections):
            publish(state, (hour + 1) * HOUR_MS + 2 * MINUTE_MS)
            watch(state, rules, POLICY)
            opened += [hour for one in state.transitions if one.event == "opened"]
            state.settled()
            if n_corrections:
                # Late, but in time.
                state.absorb(calls(hour, 4, errors=3 if is_bad else 0))
    assert opened == [START + 74]
