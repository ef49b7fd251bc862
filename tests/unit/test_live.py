"""Evidence inside the hour: what a few minutes of a biller say, and what they do not."""

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import betabinom, binom, nbinom

from detection.catalogue import AVERAGE_RESPONSE_TIME, ERROR_RATE
from detection.closing import close
from detection.hours import HOUR_MS, MINUTE_MS
from detection.kernel.live import log_rate_tail, log_silence_tail
from detection.live import SILENCE, Evidence, LiveNormal, LivePolicy, judge_many_minutes, judge_minutes
from detection.live_normals import live_normals
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import CallWindow, Window

HOUR = 490_000
START = HOUR * 60
LATENCY = AVERAGE_RESPONSE_TIME.slug
ERRORS = ERROR_RATE.slug
LIVE = {
    LATENCY: LiveNormal(HOUR, 200.0, 200.0, 40.0, 0.5, 0.05),
    ERRORS: LiveNormal(HOUR, 0.01, 0.01, 0.0005, 500.0, 0.3),
    SILENCE: LiveNormal(HOUR, 600.0, 600.0, 0.02, 0.0, 0.1),
}


def window(calls: int = 10, *, errors: int = 0, latency_ms: float = 200.0, spread: float = 0.5) -> CallWindow:
    mean = 1000.0 * latency_ms
    return CallWindow(
        calls=calls,
        errors=errors,
        latency_us=round(calls * mean),
        latency_us2=round(calls * mean * mean * (1.0 + spread * spread)),
    )


def quiet(minutes: int = 20) -> dict[int, CallWindow]:
    """So many usual minutes before the one that is judged."""
    return {START + 30 - at: window() for at in range(minutes)}


def judged(
    minutes: Mapping[int, CallWindow], live: Mapping[str, LiveNormal] = LIVE, at: int = 30
) -> dict[str, Evidence]:
    return {one.slug: one for one in judge_minutes(live, minutes, START + at, START + at + 1)}


@pytest.mark.parametrize("calls", [1, 7, 40, 1000, 20_000])
@pytest.mark.parametrize("rate", [1e-4, 0.01, 0.3])
@pytest.mark.parametrize("rho", [0.0, 0.0005, 0.05])
def test_the_chance_of_so_many_failures_is_scipys(calls: int, rate: float, rho: float) -> None:
    exact = binom(calls, rate) if rho == 0.0 else betabinom(calls, rate * (1 - rho) / rho, (1 - rate) * (1 - rho) / rho)
    for failed in {1, 2, 3, calls // 10, calls // 3, calls}:
        if calls * rate < failed <= calls:
            # Their own upper tails are 1 less the lower ones: nothing is left of a small one.
            expected = float(logsumexp(exact.logpmf(np.arange(failed, calls + 1))))
            found = log_rate_tail(float(failed), float(calls), rate, rho)
            # A sum of thousands of terms is cut: that is seen where chances are large.
            if calls <= 1000 or expected < -8.0:
                assert found == pytest.approx(expected, rel=1e-4 if calls <= 1000 else 1e-3, abs=1e-4)


@pytest.mark.parametrize("expected", [0.5, 5.0, 60.0, 3000.0])
@pytest.mark.parametrize("variance", [1e-6, 0.02, 0.3])
def test_the_chance_of_so_few_calls_is_scipys(expected: float, variance: float) -> None:
    size = 1.0 / variance
    exact = nbinom(size, size / (size + expected))
    for calls in {0, 1, int(expected // 10), int(expected // 2)}:
        if calls < expected:
            found = log_silence_tail(float(calls), expected, variance)
            known = float(exact.logcdf(calls))
            assert found == pytest.approx(known, rel=1e-3, abs=1e-6) if math.isfinite(known) else found < -700.0


def test_usual_minutes_are_clear_and_nothing_is_beyond() -> None:
    found = judged(quiet())
    assert set(found) == {LATENCY, ERRORS, SILENCE}
    assert all(one.is_clear and not one.is_beyond and one.score < 1.0 for one in found.values())


def test_one_failed_call_of_three_is_no_alert() -> None:
    found = judged({START + 30: window(3, errors=1)})
    assert not found[ERRORS].is_beyond


def test_three_failed_calls_of_three_are_no_alert_either() -> None:
    assert not judged({START + 30: window(3, errors=3)})[ERRORS].is_beyond


def test_half_of_forty_calls_failing_is_said_in_a_sentence() -> None:
    minutes = quiet() | {START + 30 - at: window(8, errors=4) for at in range(5)}
    one = judged(minutes)[ERRORS]
    assert one.is_beyond
    assert not one.is_clear
    assert one.value == pytest.approx(100.0 * one.failed / one.count)
    assert one.value > one.boundary > one.expected == pytest.approx(1.0)
    most = math.floor(one.boundary * one.count / 100.0 + 1e-9)
    assert one.sentence == (
        f"{one.failed} of {one.count} calls failed in the last {one.minutes} minutes; at most {most} would be normal"
    )


def test_a_certain_trifle_is_no_alert() -> None:
    live = LIVE | {ERRORS: LiveNormal(HOUR, 0.001, 0.001, 0.0, 500.0, 0.0)}
    minutes = {START + 30 - at: window(100_000, errors=300) for at in range(15)}
    one = judged(minutes, live)[ERRORS]
    assert one.chance < 1e-4
    assert not one.is_beyond


def test_calls_that_take_three_times_as_long_are_seen_in_the_first_minute() -> None:
    one = judged(quiet() | {START + 30: window(60, latency_ms=600.0)})[LATENCY]
    assert one.is_beyond
    assert one.minutes == 1
    assert "60 calls took 600 ms on average in the last minute" in one.sentence


def test_a_single_huge_call_is_no_alert() -> None:
    minutes = quiet()
    minutes[START + 30].add(CallWindow(calls=1, latency_us=25_000_000, latency_us2=25_000_000**2))
    one = judged(minutes)[LATENCY]
    assert not one.is_beyond


def test_a_slower_hour_is_not_held_against_the_minutes_of_the_hour_before() -> None:
    """Two minutes into the hour the long windows lie in the last one, which had another level."""
    live = LIVE | {LATENCY: replace(LIVE[LATENCY], before=600.0)}
    minutes = {START + 2 - at: window(60, latency_ms=600.0 if at > 2 else 200.0) for at in range(15)}
    assert not judged(minutes, live, at=2)[LATENCY].is_beyond
    assert judged(minutes, LIVE, at=2)[LATENCY].score > 1.0


def test_an_incident_that_is_over_is_clear_though_the_long_windows_still_hold_it() -> None:
    minutes = quiet() | {START + 30 - at: window(60, errors=30) for at in range(6, 15)}
    one = judged(minutes)[ERRORS]
    assert one.score > 1.0
    assert one.is_clear
    assert not one.is_beyond


def test_silence_is_seen_once_enough_calls_are_missing() -> None:
    minutes = {minute: one for minute, one in quiet(40).items() if minute <= START + 20}
    found = [judge_minutes(LIVE, minutes, START + at, START + at + 1) for at in range(21, 31)]
    beyond = [one.is_beyond for evidence in found for one in evidence if one.slug == SILENCE]
    assert not beyond[0]
    assert beyond[-1]
    assert beyond == sorted(beyond)


def test_a_biller_that_calls_twice_an_hour_is_not_silent_after_an_hour() -> None:
    live = {SILENCE: LiveNormal(HOUR, 2.0, 2.0, 0.1, 0.0, 0.1)}
    assert not judged({START - 30: window(1)}, live)[SILENCE].is_beyond


def test_a_long_silence_counts_what_was_missed_in_the_hours_before() -> None:
    live = {SILENCE: LiveNormal(HOUR, 12.0, 12.0, 0.1, 60.0, 0.1)}
    one = judged({START - 7 * 60: window(1)}, live)[SILENCE]
    assert one.is_beyond
    assert one.minutes == 7 * 60 + 30
    assert one.expected == pytest.approx(60.0 + 12.0 + 31 / 60 * 12.0)
    assert one.judged().count > 0  # what stands behind it are the calls that are missing


def test_a_late_clock_judges_every_minute_that_it_has_missed_once() -> None:
    minutes = quiet() | {START + 30 - at: window(20, errors=15) for at in range(8)}
    together = judge_minutes(LIVE, minutes, START + 21, START + 31)
    apart = [
        one
        for at in range(21, 31)
        for one in judge_minutes(
            LIVE, {m: w for m, w in minutes.items() if m <= START + at}, START + at, START + at + 1
        )
    ]
    assert together == apart
    assert len({one.minute for one in together}) == 10


def test_minutes_older_than_what_is_kept_are_not_judged() -> None:
    found = judge_minutes(LIVE, quiet(), START - 500, START + 31)
    assert min(one.minute for one in found) == START + 16


def test_a_series_that_was_never_published_says_nothing() -> None:
    assert judge_minutes({}, quiet(), START + 30, START + 31) == []
    assert judge_many_minutes([]) == []


def test_of_series_that_nobody_watches_only_what_is_beyond_is_answered() -> None:
    storm = quiet() | {START + 30 - at: window(20, errors=15) for at in range(5)}
    at = (START + 30, START + 31)
    questions = [(LIVE, quiet(), *at), (LIVE, storm, *at), (LIVE, quiet(), *at)]
    found = judge_many_minutes(questions, watched=[set(), set(), {SILENCE}])
    assert [[one.slug for one in each] for each in found] == [[], [ERRORS], [SILENCE]]


def test_what_is_stored_of_a_series_is_short_and_read_back_alike() -> None:
    one = LiveNormal.rounded(HOUR, 0.0123456789, 0.02345678, 0.000123456789, 1234.56789, 0.3333333)
    assert LiveNormal(*one.numbers()) == one
    assert len(str(one.numbers()).replace(" ", "")) <= 60


def test_a_quiet_stationary_biller_keeps_the_claimed_level_of_false_alerts() -> None:
    """A quarter of an hour at a time, of independent calls; with 200 times as many false alerts allowed as usual."""
    policy = LivePolicy(false_alerts=6.0, least_share=0.0, least_ms=0.0, least_rate=0.0, least_rise=0.0)
    live = {
        LATENCY: LiveNormal(HOUR, 200.0, 200.0, 0.0, 0.5, 0.0),
        ERRORS: LiveNormal(HOUR, 0.02, 0.02, 0.0, 500.0, 0.0),
        SILENCE: LiveNormal(HOUR, 1200.0, 1200.0, 0.0, 0.0, 0.0),
    }
    rng = np.random.default_rng(20)
    billers, hours = 12, 24 * 7
    false = 0
    for _ in range(4):
        calls = rng.poisson(20.0, (billers, hours * 4, 29))
        errors = rng.binomial(calls, 0.02)
        # Of a log-normal whose standard deviation is half of its mean.
        sigma2 = math.log(1.25)
        questions = []
        for b in range(billers):
            for quarter in range(0, hours * 4, 8):
                minutes = {}
                for at in range(29):
                    n = int(calls[b, quarter, at])
                    drawn = rng.lognormal(math.log(200_000.0) - 0.5 * sigma2, math.sqrt(sigma2), n)
                    minutes[START + 31 + at] = CallWindow(
                        calls=n,
                        errors=int(errors[b, quarter, at]),
                        latency_us=int(drawn.sum()),
                        latency_us2=int((drawn * drawn).sum()),
                    )
                questions.append((live, minutes, START + 45, START + 60))
        false += sum(any(one.is_beyond for one in found) for found in judge_many_minutes(questions, policy))
    weeks = 4 * billers * (hours * 4 / 8) * 15 / (7 * 24 * 60)
    assert 0.0 < false / weeks <= 1.5 * policy.false_alerts


def closed_state(hours: int = 24 * 8) -> SubjectState:
    """A biller of 20 calls a minute, of which one in a hundred fails, after so many hours."""
    state = SubjectState(Subject.biller("B1"), announces=False)
    rng = np.random.default_rng(7)
    policy = Policy()
    for hour in range(HOUR - hours, HOUR):
        total = CallWindow()
        minutes: dict[int, Window] = {}
        for at in range(60):
            calls = int(rng.poisson(20.0))
            one = window(calls, errors=int(rng.binomial(calls, 0.01)), latency_ms=200.0 * float(rng.lognormal(0, 0.05)))
            total.add(one)
            if at >= 45:
                minutes[hour * 60 + at] = one
        state.absorb(Arrivals(watermark_ms=(hour * 60 + 59) * MINUTE_MS, windows={hour: total}, minutes=minutes))
        close([state], (hour + 1) * HOUR_MS + policy.close_after_ms, policy)
        state.live = live_normals(state, state.live, policy)
        state.settled()
    return state


def test_what_was_published_becomes_what_minutes_are_judged_by() -> None:
    state = closed_state()
    assert set(state.live) == {LATENCY, ERRORS, "timeout-error-rate", SILENCE}
    assert all(one.hour == HOUR for one in state.live.values())
    assert state.live[LATENCY].location == pytest.approx(200.0, rel=0.05)
    assert state.live[LATENCY].spread == pytest.approx(0.5, rel=0.1)
    assert state.live[ERRORS].location == pytest.approx(0.01, rel=0.3)
    assert state.live[SILENCE].location == pytest.approx(1200.0, rel=0.1)
    found = judge_minutes(state.live, {START + at: window(20) for at in range(-10, 5)}, START, START + 5)
    assert not any(one.is_beyond for one in found)
    storm = {START + at: window(20, errors=8) for at in range(5)}
    assert any(one.is_beyond for one in judge_minutes(state.live, storm, START, START + 5) if one.slug == ERRORS)


def test_an_incident_does_not_become_normal_within_hours() -> None:
    state = closed_state()
    before = state.live
    policy = Policy()
    for hour in range(HOUR, HOUR + 8):
        total = window(1200, errors=360, latency_ms=700.0)
        state.absorb(Arrivals(watermark_ms=(hour * 60 + 59) * MINUTE_MS, windows={hour: total}))
        close([state], (hour + 1) * HOUR_MS + policy.close_after_ms, policy)
        state.live = live_normals(state, state.live, policy)
        state.settled()
    assert state.live[LATENCY].location < 1.4 * before[LATENCY].location
    assert state.live[ERRORS].location < 2.0 * before[ERRORS].location
    start = (HOUR + 8) * 60
    storm = {start + at: window(20, errors=6, latency_ms=700.0) for at in range(5)}
    beyond = {one.slug for one in judge_minutes(state.live, storm, start, start + 5) if one.is_beyond}
    assert beyond >= {LATENCY, ERRORS}


def test_other_subjects_than_billers_have_none() -> None:
    assert live_normals(SubjectState(Subject.model("Llama", "v1")), {}, Policy()) == {}
