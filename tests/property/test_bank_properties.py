"""A bank is its series' single models: the same bits, whatever the histories, their number and their order."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.bank import Bank
from detection.catalogue import AVERAGE_RESPONSE_TIME, ERROR_RATE, Metric, gauge
from detection.challengers.selection import Selection
from detection.errors import InputError, InvalidObservationError, UnreadableStateError
from detection.estimate import Forecast, Scored, Verdict
from detection.kernel.bank import Records
from detection.policy import Policy
from detection.rows import Observation
from detection.series_model import SeriesModel
from tests.strategies import History, histories

POLICY = Policy(zone="Europe/Berlin")
# Across the hour that the clocks of Berlin jumped over on 2024-03-31.
FIRST_HOUR = 475_400
SERIES = (
    (AVERAGE_RESPONSE_TIME, histories()),
    (ERROR_RATE, histories(highest=100.0)),
    (gauge("prediction-accuracy"), histories(lowest=-1e9)),
    (gauge("queue-length"), histories(lowest=-1e9)),
)
Drawn = tuple[Metric, History, int]


@st.composite
def series(draw: st.DrawFn) -> Drawn:
    metric, history = draw(st.sampled_from(SERIES))
    return metric, draw(history), draw(st.integers(0, 2**31))


MANY = st.lists(series(), min_size=1, max_size=5)


def counts_of(drawn: Drawn) -> list[int]:
    chance = random.Random(drawn[2])
    return [int(10 ** chance.uniform(0.0, 5.0)) for _ in drawn[1]]


def hours_of(many: list[Drawn]) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """By hour the values and counts of all series, NaN where one is silent or over."""
    length = max(len(history) for _, history, _ in many)
    values, counts = np.full((length, len(many)), np.nan), np.zeros((length, len(many)))
    for at, drawn in enumerate(many):
        history = drawn[1]
        values[: len(history), at] = [np.nan if value is None else value for value in history]
        counts[: len(history), at] = counts_of(drawn)
    return [(FIRST_HOUR + hour, values[hour], counts[hour]) for hour in range(length)]


def assert_same_forecast(said: Forecast, answer: np.void) -> None:
    estimate = said.estimate
    assert (estimate.location, estimate.lower, estimate.upper, estimate.expected_count, said.threshold.value) == tuple(
        answer[name] for name in ("location", "lower", "upper", "expected_count", "threshold")
    )


def assert_same_verdict(said: Verdict, answer: np.void) -> None:
    assert isinstance(said, Scored) == bool(answer["is_judged"])
    if isinstance(said, Scored):
        assert (said.estimate, said.threshold, said.score, said.is_exceeded, said.is_credible) == tuple(
            answer[name] for name in ("location", "threshold", "score", "is_exceeded", "is_credible")
        )


def fold(bank: Bank, many: list[Drawn]) -> list[Records]:
    return [bank.learn_many(*hour) for hour in hours_of(many)]


@settings(max_examples=60, deadline=None)
@given(MANY)
def test_a_bank_answers_and_learns_as_single_models_do(many: list[Drawn]) -> None:
    models = [SeriesModel(metric, POLICY) for metric, _, _ in many]
    bank = Bank([metric for metric, _, _ in many], POLICY)
    for hour, values, counts in hours_of(many):
        expected = bank.forecast_many(hour)
        judged = bank.learn_many(hour, values, counts)
        for at, model in enumerate(models):
            assert_same_forecast(model.forecast(hour, POLICY), expected[at])
            if not np.isnan(values[at]):
                said = model.learn(hour, float(values[at]), int(counts[at]), POLICY)
                assert_same_verdict(said, judged[at])
    assert bank.to_bytes() == [model.to_bytes() for model in models]


@settings(max_examples=60, deadline=None)
@given(series(), st.integers(0, 200))
def test_a_history_learned_at_once_is_one_learned_hour_by_hour(drawn: Drawn, already: int) -> None:
    metric, history, _ = drawn
    hours = zip(range(FIRST_HOUR, FIRST_HOUR + len(history)), history, counts_of(drawn), strict=True)
    known = [Observation(hour, value, count) for hour, value, count in hours if value is not None]
    singly, at_once = SeriesModel(metric, POLICY), SeriesModel(metric, POLICY)
    said = [singly.learn(one.hour, one.value, one.count, POLICY) for one in known]
    assert at_once.learn_all(known[:already], POLICY) + at_once.learn_all(known[already:], POLICY) == said
    assert at_once.to_bytes() == singly.to_bytes()
    assert at_once.next_hour == singly.next_hour


@settings(max_examples=30, deadline=None)
@given(MANY, st.randoms(use_true_random=False))
def test_the_order_of_the_series_never_matters(many: list[Drawn], chance: random.Random) -> None:
    order = list(range(len(many)))
    chance.shuffle(order)
    bank = Bank([metric for metric, _, _ in many], POLICY)
    shuffled = Bank([many[at][0] for at in order], POLICY)
    answers, others = fold(bank, many), fold(shuffled, [many[at] for at in order])
    assert [answer[order].tobytes() for answer in answers] == [other.tobytes() for other in others]
    stored = bank.to_bytes()
    assert [stored[at] for at in order] == shuffled.to_bytes()


@settings(max_examples=20, deadline=None)
@given(series(), st.integers(2, 200))
def test_a_series_does_not_notice_how_many_there_are(drawn: Drawn, size: int) -> None:
    alone, crowd = Bank([drawn[0]], POLICY), Bank([drawn[0]] * size, POLICY)
    for one, all_of_them in zip(fold(alone, [drawn]), fold(crowd, [drawn] * size), strict=True):
        assert {answer.tobytes() for answer in all_of_them} == {one[0].tobytes()}
    assert set(crowd.to_bytes()) == set(alone.to_bytes())


@settings(max_examples=20, deadline=None)
@given(MANY, MANY)
def test_a_bank_stored_and_read_again_goes_on_to_the_bit(many: list[Drawn], later: list[Drawn]) -> None:
    metrics = [metric for metric, _, _ in many]
    bank = Bank(metrics, POLICY)
    fold(bank, many)
    again = Bank.from_models(Bank.from_bytes(metrics, bank.to_bytes(), POLICY).to_models(), POLICY)
    for hour, values, counts in hours_of(later):
        moved = hour + 1_000
        row = [np.resize(numbers, len(bank)) for numbers in (np.abs(values), counts)]
        assert bank.learn_many(moved, *row).tobytes() == again.learn_many(moved, *row).tobytes()
    assert bank.to_bytes() == again.to_bytes()


@settings(max_examples=20, deadline=None)
@given(MANY, st.integers(0, 60))
def test_asking_a_bank_changes_nothing(many: list[Drawn], ahead: int) -> None:
    bank = Bank([metric for metric, _, _ in many], POLICY)
    fold(bank, many)
    before, hour = bank.to_bytes(), FIRST_HOUR + 1_000
    first = bank.forecast_many(hour + ahead)
    bank.score_many(hour, np.full(len(bank), 7.0), np.full(len(bank), 50.0))
    assert bank.forecast_many(hour + ahead).tobytes() == first.tobytes()
    assert bank.to_bytes() == before


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_a_value_that_cannot_be_learned_leaves_the_whole_bank_as_it_was(value: float) -> None:
    bank = Bank([AVERAGE_RESPONSE_TIME, ERROR_RATE], POLICY)
    bank.learn_many(FIRST_HOUR, np.array([1.0, 1.0]), np.array([10.0, 10.0]))
    before = bank.to_bytes()
    with pytest.raises(InvalidObservationError, match="series 1, error-rate"):
        bank.learn_many(FIRST_HOUR + 1, np.array([1.0, value]), np.array([10.0, 10.0]))
    with pytest.raises(InvalidObservationError, match="not after the last one learned"):
        bank.learn_many(FIRST_HOUR, np.array([np.nan, 1.0]), np.array([0.0, 10.0]))
    assert bank.to_bytes() == before


def test_a_series_that_was_silent_may_still_learn_an_hour_that_others_have_left_behind() -> None:
    bank = Bank([AVERAGE_RESPONSE_TIME] * 2, POLICY)
    bank.learn_many(FIRST_HOUR + 5, np.array([1.0, np.nan]), np.array([10.0, 0.0]))
    bank.learn_many(FIRST_HOUR, np.array([np.nan, 1.0]), np.array([0.0, 10.0]))
    assert bank.n_learned.tolist() == [1, 1]


def test_what_is_no_record_cannot_be_read() -> None:
    stored = Bank([ERROR_RATE], POLICY).to_bytes()[0]
    for damaged in (b"", stored[:-1], stored + b"more", b"\xff" + stored[1:]):
        with pytest.raises(UnreadableStateError, match="error-rate"):
            Bank.from_bytes([ERROR_RATE], [damaged], POLICY)


def test_a_series_with_challengers_is_refused() -> None:
    policy = Policy(selection=Selection.parse("error-rate=ewa"))
    model = SeriesModel(ERROR_RATE, policy)
    with pytest.raises(InputError, match="challengers"):
        Bank.from_models([model], policy)
