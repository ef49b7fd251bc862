"""What `tidemark inspect` shows is what the store holds, and an unknown name is met with near ones."""

import math

import orjson
import pytest

from cli.inspect import facts_of, show, sparkline
from detection.errors import InputError
from detection.subject import Subject
from state.memory_store import MemoryStore
from tests.contract.states import FIRST_HOUR, POLICY, advance, biller, call_window, model


async def test_everything_that_is_stored_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    store = MemoryStore(POLICY)
    state = advance(biller(), {FIRST_HOUR + 60: call_window(100_000, 120_000)}, offset=77)
    await store.save([state])
    facts = await facts_of(store, state.subject)
    assert orjson.loads(orjson.dumps(facts)) == facts
    assert facts["subject"]["offsets"] == {"kafka/calls/3": 77}
    assert set(facts["series"]) == set(state.forecasts)
    answer = facts["series"]["average-response-time"]
    assert float(answer["threshold"]) == state.forecasts["average-response-time"].threshold.value
    record = state.models["average-response-time"].readable()
    assert answer["model"].keys() == record.keys()
    assert answer["model"]["n_learned"] == record["n_learned"] > 48
    # Hours of the week that have not come yet.
    assert answer["model"]["hour_of_week"].count(None) == sum(map(math.isnan, record["hour_of_week"])) > 0
    show(facts)
    shown = capsys.readouterr().out
    assert answer["window_end"] in shown
    assert f"{168 - answer['model']['hour_of_week'].count(None)} numbers" in shown
    assert "nan" not in shown
    assert "open windows" in shown


async def test_one_metric_alone_can_be_asked_for() -> None:
    store = MemoryStore(POLICY)
    state = model()
    await store.save([state])
    facts = await facts_of(store, state.subject, metric="drift")
    assert list(facts["series"]) == ["drift"]
    with pytest.raises(InputError, match="no metric 'error-rate'; it has drift, prediction-accuracy"):
        await facts_of(store, state.subject, metric="error-rate")


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("B10", "did you mean biller:B1000, biller:B1001?"),
        ("b1000", "did you mean biller:B1000"),
        ("Mistral/v2", "did you mean model:Mistral/v1?"),
        ("entirely-different", "nothing is known of biller:entirely-different$"),
    ],
)
async def test_an_unknown_subject_is_met_with_near_ones(asked: str, answer: str) -> None:
    store = MemoryStore(POLICY)
    await store.save([biller("B1000", hours=1), biller("B1001", hours=1), model(hours=1)])
    with pytest.raises(InputError, match=answer):
        await facts_of(store, Subject.parse(asked))


async def test_an_empty_store_says_so() -> None:
    with pytest.raises(InputError, match="no subject yet"):
        await facts_of(MemoryStore(POLICY), Subject.parse("B1"))


def test_a_sparkline_leaves_out_what_is_not_known_yet() -> None:
    assert sparkline([None] * 12) == "none of 12 numbers yet"
    assert sparkline([None, 1.0, None, 2.0] * 2) == " ▁ █ ▁ █  4 numbers, 1 to 2"


def test_a_sparkline_of_equal_numbers_is_flat() -> None:
    assert sparkline([2.0] * 8).startswith("▁" * 8)
