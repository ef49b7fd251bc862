"""Closed in company or one by one: the same models and the same fields, byte for byte."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from detection.catalogue import BILLER_METRICS, metric_of
from detection.challengers.selection import Selection
from detection.closing import Closings, close
from detection.errors import UnreadableStateError
from detection.estimate import Estimate, Forecast, Scored, Threshold, Verdict, WarmingUp
from detection.exclusions import Exclusion, Exclusions
from detection.hours import HOUR_MS, MINUTE_MS
from detection.kernel.row import ANSWER, ROW, TOLD
from detection.models import Models
from detection.policy import Policy
from detection.rows import Observation
from detection.series_model import SeriesModel
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState, first_open_hour
from detection.windows import CallWindow, Window
from state.codec import encode
from state.series_codec import about_fields, encode_closings, encode_series
from tests.contract.states import FIRST_HOUR, call_window, gauge_window

Step = tuple[dict[int, Window], int]

POLICIES = [
    Policy(),
    Policy(grace_ms=3 * HOUR_MS, zone="America/Sao_Paulo", coverage=0.95, min_calls=1),
    Policy(close_after_ms=90 * MINUTE_MS, stale_after_hours=2),
]
# Around what it takes to be warm (48), and a series that was trained beyond the windows that come.
TRAINED = [(0, 0), (1, 0), (47, 0), (48, 0), (60, -30), (60, 4), (400, 0)]


def window(answered: int, timeouts: int, failing: float, mean_us: int) -> CallWindow:
    """An hour of calls; one at least, which timed out where nobody answered."""
    timeouts = timeouts if answered else max(timeouts, 1)
    return CallWindow(
        calls=answered + timeouts,
        errors=round(answered * failing),
        timeouts=timeouts,
        latency_us=answered * mean_us,
        latency_us2=answered * mean_us**2,
    )


WINDOWS = st.builds(
    window,
    st.sampled_from([0, 1, 3, 20, 21, 100_000]),
    st.sampled_from([0, 0, 1, 50]),
    st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    st.sampled_from([0, 1, 250_000, 333_333, 900_000, 10**12]),
)


@st.composite
def lives(draw: st.DrawFn) -> tuple[int, list[Step]]:
    """What a biller's series were trained with, and what comes in: windows, late ones too, and hours on the clock."""
    steps: list[Step] = []
    hour = FIRST_HOUR
    for _ in range(draw(st.integers(1, 4))):
        hour += draw(st.sampled_from([0, 1, 2, 5, 200]))
        arrived: dict[int, Window] = draw(st.dictionaries(st.integers(hour - 3, hour + 5), WINDOWS, max_size=8))
        steps.append((arrived, draw(st.sampled_from([-2, 0, 1, 3, 40, 800]))))
        hour = max([hour, *arrived])
    return draw(st.integers(0, len(TRAINED) - 1)), steps


@lru_cache
def trained(slug: str, kind: int, policy_at: int) -> bytes:
    """The record of a series that has learned so many ordinary hours, with a level shift in them; empty for none."""
    hours, ends_at = TRAINED[kind]
    if not hours:
        return b""
    policy, metric, chance = POLICIES[policy_at], metric_of(slug), Random(hours)
    first = FIRST_HOUR - 2 + ends_at - hours
    level = 300.0 if metric.kind == "mean" else 2.0
    rows = [
        Observation(first + at, level * (3.0 if at > hours - 20 else 1.0) * chance.lognormvariate(0.0, 0.2), 20)
        for at in range(hours)
        if at % 17
    ]
    model = SeriesModel(metric, policy)
    model.learn_all(rows, policy)
    return model.to_bytes()


@dataclass
class Stored:
    """A subject's state on one of the two ways, and what a store holds of it by then, by key."""

    state: SubjectState
    policy: Policy
    hashes: dict[str, dict[bytes, bytes]] = field(default_factory=dict)

    def write(self) -> None:
        write = encode(self.state, self.policy)
        for key, flat in write.hashes:
            self.hashes.setdefault(key, {}).update(zip(flat[::2], flat[1::2], strict=True))
        write.apply_to(self.state)


def absorb(state: SubjectState, arrived: dict[int, Window], policy: Policy) -> None:
    """Those of the windows that are not late."""
    if not arrived:
        return
    newest = max(arrived) * HOUR_MS + HOUR_MS // 2
    open_from = first_open_hour(state, max(newest, state.watermark_ms), policy)
    kept = {hour: deepcopy(window) for hour, window in sorted(arrived.items()) if hour >= open_from}
    state.absorb(Arrivals(watermark_ms=newest, accepted=len(kept), windows=kept))


def assert_alike(alone: Stored, together: Stored) -> None:
    one, other = alone.state, together.state
    assert together.hashes == alone.hashes
    assert {slug: other.models.record(slug) for slug in other.models} == {
        slug: one.models.record(slug) for slug in one.models
    }
    for name in ("windows", "learned_before", "published_hour", "is_outdated", "settled_before", "alerts"):
        assert getattr(other, name) == getattr(one, name)


def live(subjects: Iterable[tuple[Callable[[], SubjectState], list[Step]]], policy: Policy) -> int:
    """Let these subjects live both ways, side by side, and compare at every step; returns how many closings it took."""
    ways = [(Stored(born(), policy), Stored(born(), policy), steps) for born, steps in subjects]
    closings = 0
    for step in range(max(len(steps) for _, _, steps in ways)):
        present = [(alone, together, *steps[step]) for alone, together, steps in ways if step < len(steps)]
        # The clock is everybody's: that of the first.
        clock_ms = (max([*present[0][2], FIRST_HOUR]) + present[0][3]) * HOUR_MS + 30 * MINUTE_MS
        for alone, together, arrived, _ in present:
            absorb(alone.state, arrived, policy)
            absorb(together.state, arrived, policy)
        moved = []
        for alone, *_ in present:
            has_learned = alone.state.learn(policy)
            moved.append(alone.state.publish(clock_ms, policy) or has_learned)
        assert close([together.state for _, together, *_ in present], clock_ms, policy) == moved
        for alone, together, *_ in present:
            for name in ("changed", "relearned", "learned", "judged", "points"):
                assert getattr(together.state, name) == getattr(alone.state, name)
            closings += len(together.state.closings)
            alone.write()
            together.write()
            assert_alike(alone, together)
    return closings


def biller(number: int, kind: int, policy_at: int) -> Callable[[], SubjectState]:
    subject = Subject.biller(f"B{number}")
    records = {metric.slug: trained(metric.slug, kind, policy_at) for metric in BILLER_METRICS}
    return lambda: SubjectState(subject, models=Models.of_records(records, POLICIES[policy_at], str(subject)))


STEADY: list[Step] = [({FIRST_HOUR + at: call_window(250_000, 400_000, errors=1)}, 2) for at in range(4)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(lives(), min_size=1, max_size=4), st.integers(0, len(POLICIES) - 1))
@example([(6, STEADY), (0, STEADY), (5, STEADY)], 0)
def test_closed_in_company_or_alone_leads_to_the_same_bytes(
    company: list[tuple[int, list[Step]]], policy_at: int
) -> None:
    live(
        [(biller(number, kind, policy_at), steps) for number, (kind, steps) in enumerate(company)],
        POLICIES[policy_at],
    )


EXCLUDED = st.lists(
    st.builds(
        lambda begin, hours, slug: Exclusion(from_hour=begin, before_hour=begin + hours, slug=slug),
        st.integers(FIRST_HOUR - 4, FIRST_HOUR + 12),
        st.sampled_from([1, 1, 3, 200]),
        st.sampled_from([None, *(metric.slug for metric in BILLER_METRICS)]),
    ),
    min_size=1,
    max_size=4,
)


def excluding(born: Callable[[], SubjectState], exclusions: list[Exclusion]) -> Callable[[], SubjectState]:
    def state() -> SubjectState:
        one = born()
        one.exclusions = Exclusions(exclusions)
        return one

    return state


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(lives(), EXCLUDED | st.just([])), min_size=1, max_size=3), st.integers(0, len(POLICIES) - 1))
@example([((6, STEADY), [Exclusion(from_hour=FIRST_HOUR + 1, before_hour=FIRST_HOUR + 3)]), ((5, STEADY), [])], 0)
def test_excluded_hours_are_left_out_in_company_as_they_are_alone(
    company: list[tuple[tuple[int, list[Step]], list[Exclusion]]], policy_at: int
) -> None:
    live(
        [
            (excluding(biller(number, kind, policy_at), exclusions), steps)
            for number, ((kind, steps), exclusions) in enumerate(company)
        ],
        POLICIES[policy_at],
    )


def test_the_comparison_is_one_of_closings_in_company() -> None:
    assert live([(biller(1, 6, 0), STEADY), (biller(2, 0, 0), STEADY)], POLICIES[0]) == 2 * 3 * len(STEADY)


def test_who_is_closed_alone_may_be_in_company() -> None:
    policy = Policy(selection=Selection.parse("biller:B2/*=ewa"))
    gauges: list[Step] = [
        ({FIRST_HOUR + at: gauge_window(drift=0.1 * at, bias=-0.2 * at)}, clock) for at, (_, clock) in enumerate(STEADY)
    ]
    closings = live(
        [
            (biller(1, 0, 0), STEADY),
            (lambda: SubjectState(Subject.biller("B2")), STEADY),
            (lambda: SubjectState(Subject.model("Mistral", "v1")), gauges),
        ],
        policy,
    )
    assert closings == 3 * len(STEADY)


FLOATS = st.floats()
WHOLE = st.integers(0, 2**31)
HOURS = st.integers(0, 1_000_000)
FORECASTS = st.builds(
    Forecast,
    hour=HOURS,
    estimate=st.builds(Estimate, FLOATS, FLOATS, FLOATS, FLOATS, WHOLE),
    threshold=st.builds(Threshold, FLOATS, st.just("above"), st.just(POLICIES[0].coverage), WHOLE),
    status=st.sampled_from(["prior", "learning", "ready", "stale"]),
    measured_exceedance=FLOATS,
    judged=st.integers(1, 2**31),
    explanation=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
)
VERDICTS = st.one_of(
    st.none(),
    st.builds(WarmingUp, HOURS, FLOATS, WHOLE),
    st.builds(Scored, HOURS, FLOATS, WHOLE, FLOATS, FLOATS, FLOATS, st.booleans(), st.booleans()),
)


@given(st.lists(st.tuples(FORECASTS, VERDICTS, st.booleans()), max_size=5))
def test_every_number_has_the_same_text_in_a_column_and_alone(
    drawn: list[tuple[Forecast, Verdict | None, bool]],
) -> None:
    subject, metric, policy = Subject.biller("B1"), BILLER_METRICS[0], POLICIES[0]
    # As before the first judged hour, when there is no share to tell.
    published = [
        (one if has_judged else replace(one, judged=0, measured_exceedance=None), verdict)
        for one, verdict, has_judged in drawn
    ]
    n = len(published)
    closings = Closings(
        policy,
        metrics=[metric] * n,
        hour=[one.hour for one, _ in published],
        status=[one.status for one, _ in published],
        answers=np.zeros(n, ANSWER),
        told=np.zeros(n, TOLD),
        explanations=[one.explanation for one, _ in published],
        is_judged=[verdict is not None for _, verdict in published],
        last_hour=[0 if verdict is None else verdict.hour for _, verdict in published],
        last_value=[0 if verdict is None else verdict.value for _, verdict in published],
        last_count=[0 if verdict is None else verdict.count for _, verdict in published],
        verdicts=np.zeros(n, ANSWER),
    )
    for at, (forecast, verdict) in enumerate(published):
        estimate, answer, told = forecast.estimate, closings.answers[at], closings.told[at]
        answer["location"], answer["lower"], answer["upper"] = estimate.location, estimate.lower, estimate.upper
        answer["threshold"], told["min_count"] = forecast.threshold.value, forecast.threshold.min_count
        told["expected_count"], told["n_learned"] = estimate.expected_count, estimate.n_learned
        told["judged"] = forecast.judged
        if forecast.measured_exceedance is not None:
            told["exceedance_rate"] = forecast.measured_exceedance
        if isinstance(verdict, Scored):
            judged = closings.verdicts[at]
            judged["is_judged"], judged["score"] = 1, verdict.score
            judged["location"], judged["threshold"] = verdict.estimate, verdict.threshold
            judged["is_exceeded"], judged["is_credible"] = verdict.is_exceeded, verdict.is_credible
    about = about_fields(subject, metric, policy)
    assert [about + flat for flat in encode_closings(closings)] == [
        encode_series(subject, metric, forecast=forecast, verdict=verdict, policy=policy, is_whole=False)
        for forecast, verdict in published
    ]


def test_a_damaged_record_in_company_is_refused_as_it_is_alone() -> None:
    good = trained("error-rate", 6, 0)
    slot = int(ROW.fields["slot"][1]) if ROW.fields else 0
    for bad in (b"\x09" + good[1:], good[:100], good[:slot] + b"\xff\xff" + good[slot + 2 :]):
        state = biller(1, 6, 0)()
        state.models.put_record("error-rate", bad)
        absorb(state, STEADY[0][0], POLICIES[0])
        with pytest.raises(UnreadableStateError) as alone:
            SeriesModel.from_bytes(metric_of("error-rate"), bad, POLICIES[0])
        with pytest.raises(UnreadableStateError) as together:
            close([state], (FIRST_HOUR + 3) * HOUR_MS, POLICIES[0])
        assert str(together.value) == f"biller:B1: {alone.value}"
