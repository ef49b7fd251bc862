"""What rides with a learned window: the forecast that had been published of it, and how its value compared."""

import random

import pytest

from detection.challengers.selection import Selection
from detection.closing import close
from detection.estimate import Forecast
from detection.hours import HOUR_MS, MINUTE_MS
from detection.judged_hours import JudgedHour
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import CallWindow, GaugeWindow, Window
from tests.contract.states import FIRST_HOUR, call_window, gauge_window

HOURS = 60
WARM_AFTER = 48
RACING = Policy(selection=Selection.parse("biller:B1/*=ewa"))


def calls(hour: int) -> CallWindow:
    chance = random.Random(hour)
    return call_window(*(int(chance.lognormvariate(12.0, 0.5)) for _ in range(20)), errors=chance.randrange(3))


def gauges(hour: int) -> GaugeWindow:
    # From one hour on negative: what was learned until then is begun anew.
    return gauge_window(drift=random.Random(hour).gauss(0.1 if hour < FIRST_HOUR + 55 else -0.1, 0.01))


def live(
    state: SubjectState, policy: Policy, *, in_company: bool
) -> tuple[dict[tuple[int, str], Forecast], dict[tuple[int, str], JudgedHour]]:
    """Let the hours come one by one, each published before it begins; what was published and what was judged of it."""
    published: dict[tuple[int, str], Forecast] = {}
    judged: dict[tuple[int, str], JudgedHour] = {}
    for hour in range(FIRST_HOUR, FIRST_HOUR + HOURS):
        now_ms = hour * HOUR_MS + 30 * MINUTE_MS
        window: Window = calls(hour) if state.subject.kind == "biller" else gauges(hour)
        state.absorb(Arrivals(watermark_ms=now_ms, accepted=1, windows={hour: window}))
        if in_company:
            close([state], now_ms, policy)
        else:
            state.learn(policy)
        # The single way publishes what the models say, whichever way they learned.
        for slug, model in state.models.items():
            assert model.next_hour is not None
            published[model.next_hour, slug] = model.forecast(model.next_hour, policy)
        judged |= {(hour, slug): one for hour, of_hour in state.judged.items() for slug, one in of_hour.items()}
        state.settled()
        assert state.judged == {}
    return published, judged


@pytest.mark.parametrize(
    ("subject", "policy", "in_company"),
    [
        (Subject.biller("B1"), Policy(), False),
        (Subject.biller("B1"), Policy(), True),
        (Subject.biller("B1"), RACING, False),
        (Subject.model("Mistral", "v1"), Policy(coverage=0.95), False),
    ],
)
def test_a_learned_hour_is_judged_by_the_forecast_that_stood_before_it(
    subject: Subject, policy: Policy, in_company: bool
) -> None:
    published, judged = live(SubjectState(subject), policy, in_company=in_company)
    assert len(judged) >= 7 * len({slug for _, slug in judged}) > 0
    for (hour, slug), one in judged.items():
        said = published[hour, slug]
        estimate = said.estimate
        assert (one.estimate, one.lower, one.upper) == (estimate.location, estimate.lower, estimate.upper)
        assert (one.threshold, one.coverage) == (said.threshold.value, policy.coverage)
        assert one.expected_calls == estimate.expected_count


def test_nothing_is_said_of_an_hour_of_a_series_that_was_warming_up() -> None:
    _, judged = live(SubjectState(Subject.biller("B1")), Policy(), in_company=False)
    assert min(hour for hour, _ in judged) == FIRST_HOUR + WARM_AFTER


def test_only_what_is_learned_is_judged_for_the_history() -> None:
    state, policy = SubjectState(Subject.biller("B1")), Policy()
    hours = range(FIRST_HOUR, FIRST_HOUR + HOURS)
    state.absorb(Arrivals(watermark_ms=hours[-1] * HOUR_MS, accepted=1, windows={hour: calls(hour) for hour in hours}))
    clock_ms = (hours[-1] + 2) * HOUR_MS
    close([state], clock_ms, policy)
    # The last hours are closed by the clock, and published, but a late call may still correct them.
    assert state.published_hour == hours[-1] + 1
    assert max(state.judged) == max(state.learned) < hours[-1] - 1
