"""Training is one fold, however the data set is cut and however often it is sent."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from detection.backtest import backtest
from detection.catalogue import AVERAGE_RESPONSE_TIME
from detection.policy import Policy
from detection.rows import Observation, Row
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.training import sift, train
from tests.strategies import History, histories

POLICY = Policy()
METRIC = AVERAGE_RESPONSE_TIME
START = 490_000


def rows_of(history: History) -> list[Row]:
    return [Row(at + 1, START + at, value, 1 + at % 9) for at, value in enumerate(history) if value is not None]


class Trainee:
    """One series and its history, trained as the API trains it."""

    def __init__(self) -> None:
        self.state = SubjectState(Subject.biller("B1"))
        self.known: dict[int, Observation] = {}

    def train(self, rows: list[Row]) -> bool:
        model = self.state.models.get(METRIC.slug)
        found = sift(rows, known=self.known, model=model, open_from=START + 9999, closed_before=START + 9999)
        assert not found.rejected
        done = train(self.state, METRIC, known=self.known, added=found.accepted, anew=False, policy=POLICY)
        self.known.update({row.hour: row.observation() for row in found.accepted})
        return done.is_changed

    def model(self) -> object:
        model = self.state.models.get(METRIC.slug)
        return None if model is None else model.to_state()


@settings(max_examples=40, deadline=None)
@given(histories(longest=120), st.randoms(use_true_random=False), st.integers(min_value=1, max_value=5))
def test_any_cut_in_any_order_is_all_at_once(history: History, random: Random, parts: int) -> None:
    rows = rows_of(history)
    whole, cut = Trainee(), Trainee()
    whole.train(rows)
    owner = [random.randrange(parts) for _ in rows]
    for part in range(parts):
        cut.train([row for row, mine in zip(rows, owner, strict=True) if mine == part])
    assert cut.model() == whole.model()


@settings(max_examples=40, deadline=None)
@given(histories(longest=120), st.integers(min_value=0, max_value=120))
def test_half_and_the_other_half_in_either_order_is_all_at_once(history: History, at: int) -> None:
    rows = rows_of(history)
    whole, forth, back = Trainee(), Trainee(), Trainee()
    whole.train(rows)
    forth.train(rows[:at])
    forth.train(rows[at:])
    back.train(rows[at:])
    back.train(rows[:at])
    assert forth.model() == whole.model() == back.model()


@settings(max_examples=40, deadline=None)
@given(histories(longest=120))
def test_training_again_changes_nothing(history: History) -> None:
    rows = rows_of(history)
    trainee = Trainee()
    trainee.train(rows)
    before = trainee.model()
    assert not trainee.train(rows)
    assert trainee.model() == before


@settings(max_examples=20, deadline=None)
@given(histories(longest=80))
def test_what_is_forecast_after_training_is_what_the_backtest_said(history: History) -> None:
    rows = rows_of(history)
    said = list(backtest(METRIC, [row.observation() for row in rows], POLICY))
    trainee = Trainee()
    for row, predicted in zip(rows, said, strict=True):
        model = trainee.state.model(METRIC, POLICY)
        assert model.forecast(row.hour, POLICY) == predicted.forecast
        trainee.train([row])
