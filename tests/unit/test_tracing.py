"""Traces follow writes through retries, losses and commits; switched off they are nothing."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

import tracing
from detection.errors import DependencyError
from detection.subject import Subject
from detection.subject_state import SubjectState
from settings import Settings
from state.memory_store import MemoryStore
from stream.trails import Trails
from stream.worker import Batch
from tests.unit.test_pipeline import Record, comparable
from tests.unit.test_progress import PLACE, POLICY, START_MS, Log, Run, quiet
from tracing import TRACEPARENT, Traces

SENDER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Recorder:
    """Traces that are kept here, in the order in which their spans ended."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.traces = Traces(provider)

    def ended(self, name: str) -> list[ReadableSpan]:
        return [one for one in self._kept.get_finished_spans() if one.name == name]

    def names(self) -> list[str]:
        return [one.name for one in self._kept.get_finished_spans()]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.traces.close()


def traced(run: Run, traces: Traces) -> Trails:
    trails = run.worker._trails = Trails(traces)
    return trails


@dataclass(frozen=True, slots=True)
class Sent:
    """A record with headers, as aiokafka's parser hands them over."""

    offset: int
    headers: tuple[tuple[str, bytes], ...]


class Away(MemoryStore):
    """A store that does not take the next writes."""

    refusals = 0

    async def save(self, states: Sequence[SubjectState]) -> list[Subject]:
        if self.refusals:
            self.refusals -= 1
            raise DependencyError("redis", "away")
        return await super().save(states)


async def test_a_write_is_one_trace_that_ends_with_its_commit(recorder: Recorder) -> None:
    run = Run(Log(10), MemoryStore(POLICY))
    trails = traced(run, recorder.traces)
    await run.begin()
    await run.read(0, 4)
    assert recorder.ended("ingest") == []
    trails.committed({PLACE: 4}, START_MS)
    [write] = recorder.ended("ingest")
    assert {one.context.trace_id for one in recorder._kept.get_finished_spans()} == {write.context.trace_id}
    assert (write.attributes or {})["tidemark.accepted"] == 4
    assert write.status.status_code == StatusCode.UNSET


async def test_a_commit_of_other_offsets_ends_no_trace_until_all_of_its_own_are_committed(recorder: Recorder) -> None:
    run = Run(Log(10), MemoryStore(POLICY))
    trails = traced(run, recorder.traces)
    await run.begin()
    await run.read(0, 4)
    trails.committed({("observations", 0): 99}, START_MS)
    trails.committed({PLACE: 3}, START_MS)
    assert "commit" not in recorder.names()
    trails.committed({PLACE: 4}, START_MS)
    assert recorder.names().count("commit") == 1


async def test_a_write_that_is_tried_again_stays_one_trace_and_names_the_one_of_what_came_meanwhile(
    recorder: Recorder,
) -> None:
    store = Away(POLICY)
    run = Run(Log(8), store)
    trails = traced(run, recorder.traces)
    await run.begin()
    first = Batch(*PLACE, run.log.records[:4], 4, end=8)
    await run.worker.absorb(first, is_current=lambda: True)
    store.refusals = 1
    absorb = Batch(*PLACE, run.log.records[4:], 8, end=8)
    try_again = trails.try_again

    def meanwhile() -> None:
        # What the consumer's task would do while the write waits for the store.
        with trails.batch(absorb):
            run.worker._next[PLACE] = 8
        try_again()

    trails.try_again = meanwhile  # type: ignore[method-assign]  # between two attempts is where it must come
    await run.worker.flush()
    trails.committed({PLACE: 4}, START_MS)
    other, write = recorder.ended("ingest")
    assert [link.context.trace_id for link in write.links] == [other.context.trace_id]
    assert [one.status.status_code for one in recorder.ended("write")] == [StatusCode.ERROR, StatusCode.UNSET]
    assert write.status.status_code == StatusCode.UNSET


async def test_a_loss_of_the_store_fails_the_trace_and_leaves_no_span_open(recorder: Recorder) -> None:
    store = MemoryStore(POLICY)
    run = Run(Log(8), store)
    traced(run, recorder.traces)
    await run.begin()
    await run.read(0, 4)
    store.hashes.clear()
    await run.read(4, 8)
    [failed] = recorder.ended("ingest")
    assert failed.status.status_code == StatusCode.ERROR
    assert "LostWritesError" in (failed.status.description or "")


async def test_what_is_traced_ends_in_the_same_state(recorder: Recorder) -> None:
    store = MemoryStore(POLICY)
    run = Run(Log(9), store)
    traced(run, recorder.traces)
    await run.begin()
    await run.read(0, 9)
    assert comparable(store) == await quiet(9)


async def test_a_batch_names_the_requests_that_its_records_say_they_come_from(recorder: Recorder) -> None:
    trails = Trails(recorder.traces)
    sent = ((TRACEPARENT, SENDER.encode()), ("other", b"x"))
    records: list[Record | Sent] = [Sent(at, sent) if at % 2 == 0 else Record(at, b"") for at in range(20)]
    records[10] = Sent(10, ((TRACEPARENT, b"00-nonsense"),))
    with trails.batch(Batch(*PLACE, records, None, end=20)):
        pass
    [batch] = recorder.ended("batch")
    assert [f"{link.context.trace_id:032x}" for link in batch.links] == [SENDER.split("-")[1]]


async def test_what_is_not_sampled_has_no_span() -> None:
    run = Run(Log(10), MemoryStore(POLICY))
    trails = traced(run, Traces(TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)))
    await run.begin()
    await run.read(0, 4)
    trails.committed({PLACE: 4}, START_MS)
    assert not trails._written


def test_without_an_active_span_nothing_is_timed_and_nothing_named() -> None:
    with tracing.span("load", subjects=3) as found:
        assert found is None
    assert tracing.traceparent() is None


def test_a_span_that_has_ended_is_no_longer_named(recorder: Recorder) -> None:
    span = recorder.traces.begin("ingest")
    assert span is not None
    with span.active():
        assert tracing.traceparent() == span.traceparent
        span.end()
        assert tracing.traceparent() is None


def test_a_collector_that_takes_connections_and_says_nothing_does_not_hold_up_the_end() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        traces = tracing.connect(Settings(otlp_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"), "worker")
        assert traces is not None
        # More than are sent at once: each part would wait for its own answer.
        for _ in range(2000):
            span = traces.begin("ingest")
            assert span is not None
            span.end()
        began = time.monotonic()
        traces.close()
        assert time.monotonic() - began < 14


_LOGGED = """
import structlog, logs, tracing
from opentelemetry.sdk.trace import TracerProvider
from settings import Settings

logs.configure(Settings())
span = tracing.Traces(TracerProvider(shutdown_on_exit=False)).begin("ingest")
with span.active():
    structlog.get_logger().info("inside")
structlog.get_logger().info("outside")
print(span.traceparent)
"""


def test_a_line_of_the_log_names_the_trace_that_it_belongs_to() -> None:
    done = subprocess.run([sys.executable, "-c", _LOGGED], capture_output=True, text=True, check=True)
    inside, outside = map(json.loads, done.stderr.splitlines())
    assert done.stdout.startswith(f"00-{inside['trace_id']}-{inside['span_id']}-")
    assert "trace_id" not in outside


_IMPORTED = """
import sys
from settings import Settings
from stream.app import create_app as worker
from api.app import create_app as api

worker(Settings()); api(Settings())
# The client of Redis loads what metrics are made with by itself.
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))])
"""


def test_a_process_without_a_collector_does_not_load_what_traces_are_made_with() -> None:
    done = subprocess.run([sys.executable, "-c", _IMPORTED], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
