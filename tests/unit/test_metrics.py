"""The catalogue of emitted metrics is complete, consistent, and what is really emitted."""

from dataclasses import fields

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from metrics import INSTRUMENTS, Instrument, Instruments, instruments
from state.memory_store import MemoryStore
from tests.unit.test_progress import PLACE, POLICY, Log, Run


def test_every_entry_of_the_catalogue_is_registered_with_its_name_type_and_help() -> None:
    registry = CollectorRegistry()
    instruments(registry)
    text = generate_latest(registry).decode()
    for item in INSTRUMENTS:
        assert f"# TYPE {item.name} {item.kind}\n" in text
        assert f"# HELP {item.name} {item.help}\n" in text


def test_the_catalogue_and_the_live_instruments_are_the_same_set() -> None:
    assert len(INSTRUMENTS) == len(fields(Instruments)) == len({item.name for item in INSTRUMENTS})


def test_importing_registers_nothing_so_two_registries_do_not_meet() -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    instruments(one).events.labels(topic="calls", result="accepted").inc(3)
    instruments(other)
    labels = {"topic": "calls", "result": "accepted"}
    assert one.get_sample_value("tidemark_events_total", labels) == 3
    assert other.get_sample_value("tidemark_events_total", labels) is None


@pytest.mark.parametrize("item", INSTRUMENTS, ids=lambda item: item.name)
def test_names_follow_the_conventions_of_prometheus(item: Instrument) -> None:
    assert item.name.startswith("tidemark_")
    assert item.name.endswith("_total") == (item.kind == "counter")
    assert bool(item.buckets) == (item.kind == "histogram")
    assert item.help.endswith(".")
    assert item.comment.endswith(".")


async def test_a_partition_that_is_read_elsewhere_is_no_longer_said_to_lag_here() -> None:
    run = Run(Log(10), MemoryStore(POLICY))
    await run.begin()
    await run.read(0, 4)
    assert run.counted("tidemark_consumer_lag_records", topic="calls", partition="0") == 6
    await run.worker.release([PLACE], within_seconds=5)
    labels = {"topic": "calls", "partition": "0"}
    assert run.registry.get_sample_value("tidemark_consumer_lag_records", labels) is None
