"""Each permanent scenario keeps its bounds; no model, and no kind of incident, is without one."""

import importlib
import pkgutil

import pytest
from river.time_series.base import Forecaster

import detection
from detection.challengers.registry import CHALLENGERS
from detection.incidents import KINDS
from detection.series_model import SeriesModel
from tests.accuracy.scenarios import SCENARIOS, Scenario


def models() -> set[type]:
    """Whatever claims bounds in the core: every forecaster with a `predict`, and the series' model."""
    for module in pkgutil.walk_packages(detection.__path__, "detection."):
        importlib.import_module(module.name)
    found: set[type] = {SeriesModel}
    left: list[type] = [Forecaster]
    while left:
        kind = left.pop()
        left.extend(kind.__subclasses__())
        if kind.__module__.startswith("detection.") and hasattr(kind, "predict"):
            found.add(kind)
    return found


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: str(scenario.name))
def test_a_scenario_keeps_its_bounds(scenario: Scenario) -> None:
    outcome = scenario.run()
    assert outcome.keys() == scenario.bounds.keys()
    missed = {
        name: f"{value:.4g}, not in [{scenario.bounds[name].lowest:g}, {scenario.bounds[name].highest:g}]"
        for name, value in outcome.items()
        if not scenario.bounds[name].holds(value)
    }
    assert not missed


def test_no_model_lacks_a_scenario() -> None:
    assert models() <= {scenario.model for scenario in SCENARIOS}


def test_no_challenger_lacks_a_scenario() -> None:
    assert {f"calm-challenger-{name}" for name in CHALLENGERS} <= {scenario.name for scenario in SCENARIOS}


def test_no_kind_of_incident_lacks_a_scenario() -> None:
    assert set(KINDS) <= {scenario.kind for scenario in SCENARIOS}


def test_every_scenario_has_an_id_of_its_own_and_a_bound() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    assert all(scenario.bounds for scenario in SCENARIOS)
