"""Whatever happens to workers and servers, the end is that of a quiet run; and what would be different is noticed."""

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from _pytest.capture import CaptureManager
from _pytest.terminal import TerminalReporter

from local.postgres import Postgres
from tests.faults.brokers import Embedded
from tests.faults.content import differences
from tests.faults.schedule import Kind, schedule_of
from tests.faults.soak import soak
from tests.faults.stream import late, stream_of

# So many that every kind of fault has had its turn.
_A_HANDFUL = 5
_RUNS = int(os.environ.get("FAULT_RUNS", "200"))
_FIRST_SEED = int(os.environ.get("FAULT_SEED", "1000"))

Say = Callable[[str], None]


@pytest.fixture
def say(pytestconfig: pytest.Config) -> Say:
    """A line on the terminal at once, also where pytest keeps back what is printed."""
    reporter = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")
    assert isinstance(reporter, TerminalReporter)
    assert isinstance(capture, CaptureManager)

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled():
            reporter.write_line(line)

    return write


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_a_handful_of_schedules_with_every_kind_of_fault_ends_as_the_quiet_run(
    postgres: Postgres, tmp_path: Path
) -> None:
    lines: list[str] = []
    summary = await soak(
        range(_A_HANDFUL), folder=tmp_path, postgres_url=postgres.url, lanes=_A_HANDFUL, say=lines.append
    )
    assert not summary.failed, "\n".join(lines)
    assert summary.struck().keys() == Embedded.kinds
    assert sum(one.hits for one in summary.outcomes) >= _A_HANDFUL, f"faults came too early or too late:\n{summary}"


@pytest.mark.soak
async def test_hundreds_of_schedules_end_as_the_quiet_run(postgres: Postgres, tmp_path: Path, say: Say) -> None:
    seeds = range(_FIRST_SEED, _FIRST_SEED + _RUNS)
    summary = await soak(seeds, folder=tmp_path, postgres_url=postgres.url, lanes=6, say=say)
    say(str(summary))
    assert len(summary.outcomes) == _RUNS
    assert not summary.failed, f"see above, or run again: {[one.seed for one in summary.failed]}"


@pytest.mark.parametrize("seed", range(20))
def test_no_order_in_which_a_stream_is_sent_makes_an_event_late(seed: int) -> None:
    stream = stream_of(seed)
    for attempt in range(5):
        shuffled = stream.shuffled(random.Random(attempt))
        assert sorted(map(id, shuffled)) == sorted(map(id, stream.sorted_records))
        assert shuffled != stream.sorted_records
        assert late(shuffled) == late(stream.sorted_records)


def test_a_seed_always_gives_the_same_stream_and_the_same_schedule() -> None:
    again = stream_of.__wrapped__(3)
    assert again == stream_of(3)
    assert again != stream_of(4)
    assert schedule_of(3, list(Kind)) == schedule_of(3, list(Kind))
    assert schedule_of(3, list(Kind)) != schedule_of(4, list(Kind))


def test_every_kind_of_fault_comes_within_a_handful_of_seeds() -> None:
    for first in range(20):
        schedules = [schedule_of(first + at, Embedded.kinds) for at in range(_A_HANDFUL)]
        assert {fault.kind for one in schedules for fault in one.faults} == Embedded.kinds


def test_a_difference_names_the_key_and_the_field() -> None:
    expected = {"a": {"x": "1", "y": "2"}, "b": {"x": "1"}}
    found = {"a": {"x": "1", "y": "3"}, "c": {"x": "1"}}
    assert differences(expected, found) == [
        "a y: expected 2, found 3",
        "b is missing",
        "c should not be there: {'x': '1'}",
    ]
    assert differences(expected, expected) == []


def test_what_is_frozen_is_still_alive_and_what_is_killed_is_not(tmp_path: Path) -> None:
    from tests.faults.nursery import Forked

    process = Forked("worker", {"TIDEMARK_KAFKA_BROKERS": "127.0.0.1:1"}, tmp_path / "worker.log")
    process.signal(signal.SIGSTOP)
    assert process.is_frozen
    assert process.status is None
    process.end()
