"""Ten thousand numbered histories of everything that is hard; the number of one that fails is all that repeats it."""

from collections.abc import Iterator
from typing import Any

import pytest

from detection.catalogue import ERROR_RATE, Metric, gauge
from detection.checks.checked import Checked, CheckedForecaster, CheckedSeriesModel
from detection.checks.histories import History, random_history
from detection.checks.laws import require_sane
from detection.forecaster import SeasonalForecaster

ALL = 10_000
# Of each configuration, in a minute; the histories that are not in it are learned by `make soak`.
SAMPLE = 200

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "log": {"lower": 0.0},
    "ratio": {"lower": 0.0, "upper": 100.0},
    "signed": {},
    "below": {"direction": "below"},
}
METRICS: dict[str, Metric] = {"series-ratio": ERROR_RATE, "series-gauge": gauge("drift")}
MODELS: dict[str, Checked] = {
    **{
        name: CheckedForecaster(name, SeasonalForecaster, SeasonalForecaster.from_state, params)
        for name, params in CONFIGURATIONS.items()
    },
    **{name: CheckedSeriesModel(metric) for name, metric in METRICS.items()},
}


def numbers(model: str, count: int) -> Iterator[int]:
    """Other histories for each model, spread over all of them."""
    first = list(MODELS).index(model)
    yield from range(first, ALL, max(ALL // count, 1))


def endure(model: Checked, history: History) -> None:
    """Finite, inside bounds, deterministic, and equal after encode and decode at every later step."""
    whole, again, stored = model.fresh(), model.fresh(), model.fresh()
    for hour in history.hours():
        if hour.value is None:
            continue
        said = whole.ask(hour.at, hour.zone)
        require_sane(whole, said, history.name)
        stored = stored.decode(stored.encode())
        assert stored.ask(hour.at, hour.zone) == said, history.name
        verdicts = [one.learn(hour.at, hour.zone, hour.value, hour.count) for one in (whole, again, stored)]
        assert verdicts[0] == verdicts[1] == verdicts[2], history.name
        state = whole.encode()
        assert state == again.encode(), history.name
        assert state == stored.encode(), history.name
    after = history.first_hour + len(history.values)
    require_sane(whole, whole.ask(after, history.zone), history.name)
    require_sane(whole, whole.ask(after + 30, history.zone), history.name)


@pytest.mark.parametrize("model", MODELS)
def test_histories_of_everything_that_is_hard_break_no_model(model: str) -> None:
    for number in numbers(model, SAMPLE):
        endure(MODELS[model], random_history(number))


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", MODELS)
def test_all_ten_thousand_histories_break_no_model(model: str) -> None:
    for number in range(ALL):
        endure(MODELS[model], random_history(number))


def test_the_histories_hold_what_is_hard() -> None:
    histories = [random_history(number) for number in range(400)]
    values = [value for history in histories for value in history.values]
    assert None in values
    assert {0.0, 1e9, 1e-9, -1e9, 5e-324} <= set(values)
    assert any(len([value for value in history.values if value is not None]) == 1 for history in histories)
    assert {history.zone for history in histories} == {"UTC", "Europe/Berlin"}
    assert random_history(7) == random_history(7)
