"""The vectorised aggregation, held against one event at a time."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.events import ERROR, OK, TIMEOUT
from detection.hours import HOUR_MS, MINUTE_MS
from detection.kernel.latency_bins import count_bins
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState, first_open_hour
from detection.windows import CallWindow, latency_bin
from stream.aggregation import Calls, aggregate

START_MS = 490_000 * HOUR_MS
POLICY = Policy(grace_ms=30 * MINUTE_MS)
SUBJECTS = [Subject.biller(name) for name in ("A", "B", "C")]
SOURCES = ["log/calls/0", "log/calls/1"]


@dataclass(frozen=True)
class Event:
    subject: int
    source: int
    offset: int
    timestamp_ms: int
    latency_us: int
    outcome: int


@st.composite
def arrivals(draw: st.DrawFn) -> list[Event]:
    """Calls of three billers in two partitions, in order of offset within each, with times up to hours out of order."""
    rows = draw(
        st.lists(
            st.tuples(
                st.integers(0, 2),
                st.integers(0, 240 * 60_000),
                st.one_of(st.integers(0, 3_600_000_000), st.integers(0, 5)),
                st.sampled_from([OK, ERROR, TIMEOUT]),
            ),
            max_size=60,
        )
    )
    offsets = [0, 0]
    events = []
    for subject, after_ms, latency_us, outcome in rows:
        source = subject % 2
        offsets[source] += draw(st.integers(1, 3))
        events.append(Event(subject, source, offsets[source], START_MS + after_ms, latency_us, outcome))
    return events


def columns(events: Sequence[Event]) -> Calls:
    def column(name: str) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        return np.array([getattr(event, name) for event in events], np.int64)

    return Calls(
        SUBJECTS,
        SOURCES,
        column("subject"),
        column("source"),
        column("timestamp_ms"),
        column("latency_us"),
        column("outcome"),
        column("offset"),
    )


def one_at_a_time(events: Sequence[Event]) -> dict[Subject, SubjectState]:
    """What the documentation promises, said as plainly as it can be."""
    states: dict[Subject, SubjectState] = {}
    for event in events:
        subject, source = SUBJECTS[event.subject], SOURCES[event.source]
        state = states.setdefault(subject, SubjectState(subject))
        if event.offset < state.offsets.get(source, 0):
            continue
        arrived = Arrivals(watermark_ms=event.timestamp_ms, offsets={source: event.offset + 1})
        newest = max(state.watermark_ms, event.timestamp_ms)
        hour = event.timestamp_ms // HOUR_MS
        if hour < first_open_hour(state, newest, POLICY):
            arrived.late = 1
        else:
            arrived.accepted = 1
            arrived.windows = {hour: window(event, with_bins=True)}
            arrived.minutes = {event.timestamp_ms // MINUTE_MS: window(event, with_bins=False)}
        state.absorb(arrived)
        state.learn(POLICY)
    return states


def window(event: Event, *, with_bins: bool) -> CallWindow:
    answered = event.outcome != TIMEOUT
    return CallWindow(
        calls=1,
        errors=int(event.outcome == ERROR),
        timeouts=int(event.outcome == TIMEOUT),
        latency_us=event.latency_us * answered,
        latency_us2=event.latency_us**2 * answered,
        bins={latency_bin(event.latency_us): 1} if with_bins and answered else {},
    )


def in_batches(events: Sequence[Event], sizes: Sequence[int]) -> dict[Subject, SubjectState]:
    states: dict[Subject, SubjectState] = {}
    at = 0
    for size in [*sizes, len(events)]:
        batch = columns(events[at : at + size])
        at += size
        for subject, arrived in aggregate(batch, states, POLICY).arrivals.items():
            state = states.setdefault(subject, SubjectState(subject))
            state.absorb(arrived)
            state.learn(POLICY)
    return states


def facts(states: dict[Subject, SubjectState]) -> dict[str, object]:
    return {
        str(subject): (
            state.watermark_ms,
            state.learned_before,
            state.accepted,
            state.late,
            state.offsets,
            state.windows,
            state.minutes,
            state.learned,
            {slug: model.to_state() for slug, model in state.models.items()},
        )
        for subject, state in states.items()
    }


@settings(deadline=None)
@given(arrivals(), st.lists(st.integers(1, 20), max_size=6))
def test_where_a_batch_ends_never_matters(events: list[Event], sizes: list[int]) -> None:
    assert facts(in_batches(events, sizes)) == facts(one_at_a_time(events))


@settings(deadline=None)
@given(arrivals(), st.integers(0, 60))
def test_replaying_what_was_written_changes_nothing(events: list[Event], replayed_from: int) -> None:
    once = in_batches(events, [])
    again = [*events, *events[replayed_from:]]
    states = in_batches(events, [])
    result = aggregate(columns(events[replayed_from:]), states, POLICY)
    assert not result.arrivals
    assert result.replayed == len(events[replayed_from:])
    assert facts(in_batches(again, [len(events)])) == facts(once)


@settings(deadline=None)
@given(arrivals(), st.randoms(use_true_random=False))
def test_arrival_order_inside_the_grace_period_never_matters(events: list[Event], random: object) -> None:
    hour = [
        Event(one.subject, one.source, at, START_MS + one.timestamp_ms % (25 * MINUTE_MS), one.latency_us, one.outcome)
        for at, one in enumerate(events)
    ]
    shuffled = list(hour)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # Hypothesis hands over a random.Random
    renumbered = [
        Event(one.subject, one.source, at, one.timestamp_ms, one.latency_us, one.outcome)
        for at, one in enumerate(shuffled)
    ]
    straight, mixed = in_batches(hour, [7]), in_batches(renumbered, [3, 5])
    for subject, state in straight.items():
        assert state.windows == mixed[subject].windows
        assert state.minutes == mixed[subject].minutes
        assert state.late == mixed[subject].late == 0


@settings(deadline=None)
@given(arrivals())
def test_every_event_is_accepted_or_late(events: list[Event]) -> None:
    states = in_batches(events, [4, 4, 4])
    assert sum(state.accepted + state.late for state in states.values()) == len(events)
    kept = sum(
        window.calls
        for state in states.values()
        for window in (*state.windows.values(), *state.learned.values())
        if isinstance(window, CallWindow)
    )
    assert kept == sum(state.accepted for state in states.values())


def bins_of(latencies_us: Sequence[int], answered: Sequence[bool], starts: Sequence[int]) -> list[dict[int, int]]:
    at, number, count = np.empty(len(starts) + 1, np.int64), *np.empty((2, len(latencies_us)), np.int64)
    latency = np.array(latencies_us, np.int64)
    count_bins(latency, np.array(answered, np.bool_), np.array(starts, np.int64), at, number, count)
    return [
        dict(zip(number[begin:end].tolist(), count[begin:end].tolist(), strict=True)) for begin, end in pairwise(at)
    ]


@pytest.mark.parametrize("latency_us", [0, 1, 2, 3, 4, 5, 7, 8, 1023, 1024, 1280, 184_200, 3_600_000_000, 2**52])
def test_latency_bins_agree_with_the_whole_number_formula(latency_us: int) -> None:
    assert bins_of([latency_us], [True], [0]) == [{latency_bin(latency_us): 1}]


@settings(deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 3_600_000_000), st.booleans()), min_size=1, max_size=8), max_size=5))
def test_calls_of_several_windows_are_counted_by_bin(runs: list[list[tuple[int, bool]]]) -> None:
    calls = [call for run in runs for call in run]
    starts = list(accumulate(map(len, runs), initial=0))[:-1]
    expected = []
    for run in runs:
        counted = Counter(latency_bin(latency_us) for latency_us, is_answered in run if is_answered)
        expected.append(dict(sorted(counted.items())))
    found = bins_of([one for one, _ in calls], [one for _, one in calls], starts)
    assert found == expected
    assert [list(one) for one in found] == [list(one) for one in expected]
