"""The pipeline between batches and the store: nothing twice, nothing lost, whatever the store does."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
import pytest

from detection.catalogue import ERROR_RATE
from detection.errors import DependencyError
from detection.hours import HOUR_MS, MINUTE_MS
from detection.policy import Policy
from detection.series_model import SeriesModel
from detection.subject import Subject
from detection.subject_state import SubjectState
from state.memory_store import MemoryStore
from stream.dead_letters import DeadLetter
from stream.pipeline import Pipeline

POLICY = Policy()
START_MS = 490_000 * HOUR_MS
B1 = Subject.biller("B1")


@dataclass(frozen=True)
class Record:
    offset: int
    value: bytes | None
    timestamp: int = START_MS + 1000 * HOUR_MS
    key: bytes | None = b"B1"


class Unreliable(MemoryStore):
    """The store in memory, with another writer that is faster, or an outage, when a test says so."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self.writes_first: list[SubjectState] = []
        self.failures: list[DependencyError] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def save(self, states: Sequence[SubjectState]) -> list[Subject]:
        if self.writes_first:
            other = self.writes_first.pop()
            assert await super().save([other]) == []
        refused = await super().save(states)
        self.meanwhile()
        if self.failures:
            raise self.failures.pop()
        return refused

    async def confirm(self, states: Sequence[SubjectState]) -> list[Subject]:
        if self.failures:
            raise self.failures.pop()
        return await super().confirm(states)


def record(offset: int, *, minutes: int = 0, outcome: str = "ok", biller: str = "B1") -> Record:
    call = {
        "biller_id": biller,
        "timestamp": START_MS + minutes * MINUTE_MS,
        "latency_ms": 100.0 + offset,
        "outcome": outcome,
    }
    return Record(offset, orjson.dumps(call))


def pipeline(store: MemoryStore, letters: list[DeadLetter] | None = None, *, log_id: str = "log") -> Pipeline:
    async def keep(some: Sequence[DeadLetter]) -> None:
        if letters is not None:
            letters.extend(some)

    return Pipeline(store, POLICY, log_id=log_id, future_ms=300_000, send_dead_letters=keep)


async def written(records: Sequence[Record]) -> MemoryStore:
    """What one quiet run leaves."""
    store = MemoryStore(POLICY)
    one = pipeline(store)
    one.absorb_calls("calls", 0, records, None)
    await one.flush()
    return store


def comparable(store: MemoryStore) -> dict[str, dict[bytes, bytes]]:
    # Both count the writes.
    counts = {b"rev", b"published"}
    return {
        key: {name: value for name, value in fields.items() if name not in counts}
        for key, fields in store.hashes.items()
    }


RECORDS = [record(at, minutes=at * 9) for at in range(60)]


async def test_a_lost_reply_is_repeated_without_counting_anything_twice() -> None:
    store = Unreliable(POLICY)
    one = pipeline(store)
    one.absorb_calls("calls", 0, RECORDS[:40], "first")
    store.failures.append(DependencyError("redis", "the reply was lost"))
    with pytest.raises(DependencyError):
        await one.flush()
    one.absorb_calls("calls", 0, RECORDS[40:], "second")
    flushed = await one.flush()
    assert flushed.handles == ["first", "second"]
    assert flushed.events["calls", "replayed"] == 40
    assert comparable(store) == comparable(await written(RECORDS))


async def test_a_flush_in_many_slices_is_the_same_as_one_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record(at, minutes=at * 3, biller=f"B{at % 7}") for at in range(140)]
    whole = await written(records)
    monkeypatch.setattr("stream.pipeline._SLICE_SUBJECTS", 2)
    monkeypatch.setattr("stream.pipeline._SLICE_CALLS", 30)
    assert comparable(await written(records)) == comparable(whole)
    # One slice fails when others are written: all of it comes again, and what is there counts as replayed.
    store = Unreliable(POLICY)
    one = pipeline(store)
    one.absorb_calls("calls", 0, records, "all")
    store.failures.append(DependencyError("redis", "away in the middle"))
    with pytest.raises(DependencyError):
        await one.flush()
    flushed = await one.flush()
    assert flushed.handles == ["all"]
    assert 0 < flushed.events["calls", "replayed"] < 140
    assert flushed.events["calls", "accepted"] + flushed.events["calls", "replayed"] == 140
    assert comparable(store) == comparable(whole)


async def test_a_write_that_somebody_else_was_ahead_of_is_applied_again_on_top() -> None:
    store = Unreliable(POLICY)
    one = pipeline(store)
    other = SubjectState(B1)
    other.offsets["log/calls/7"] = 5
    store.writes_first.append(other)
    one.absorb_calls("calls", 0, RECORDS, None)
    flushed = await one.flush()
    assert flushed.conflicts == 1
    state = (await store.load([B1]))[B1]
    assert state.accepted == len(RECORDS)
    assert state.offsets == {"log/calls/0": 60, "log/calls/7": 5}
    assert state.rev == 2


async def test_what_a_rebalance_fetches_again_while_it_is_in_memory_is_taken_once() -> None:
    store = MemoryStore(POLICY)
    one = pipeline(store)
    one.absorb_calls("calls", 0, RECORDS[:50], None)
    one.absorb_calls("calls", 0, RECORDS[30:], None)
    await one.flush()
    assert comparable(store) == comparable(await written(RECORDS))


async def test_what_the_next_owner_reads_again_changes_nothing() -> None:
    store = MemoryStore(POLICY)
    first, second = pipeline(store), pipeline(store)
    first.absorb_calls("calls", 0, RECORDS[:50], None)
    await first.flush()
    second.absorb_calls("calls", 0, RECORDS[20:], None)
    flushed = await second.flush()
    assert flushed.events["calls", "replayed"] == 30
    assert comparable(store) == comparable(await written(RECORDS))


async def test_an_owner_that_lost_its_partition_cannot_write_over_its_successor() -> None:
    store = MemoryStore(POLICY)
    zombie, successor = pipeline(store), pipeline(store)
    zombie.absorb_calls("calls", 0, RECORDS[:10], None)
    await zombie.flush()
    zombie.absorb_calls("calls", 0, RECORDS[10:30], None)
    successor.absorb_calls("calls", 0, RECORDS[10:], None)
    await successor.flush()
    flushed = await zombie.flush()
    assert flushed.events["calls", "replayed"] == 20
    assert comparable(store) == comparable(await written(RECORDS))


async def test_every_event_is_accepted_late_dead_or_replayed() -> None:
    letters: list[DeadLetter] = []
    one = pipeline(MemoryStore(POLICY), letters)
    records = [
        record(0),
        record(1, minutes=300),
        record(2, minutes=10),
        Record(3, b"{"),
        Record(4, None),
        record(5, biller="B 2"),
    ]
    one.absorb_calls("calls", 0, records, None)
    flushed = await one.flush()
    assert +flushed.events == {("calls", "accepted"): 2, ("calls", "late"): 1, ("calls", "dead"): 3}
    assert [(letter.reason, letter.origin.get("offset")) for letter in letters] == [
        ("invalid", 3),
        ("invalid", 4),
        ("invalid", 5),
        ("late", None),
    ]
    assert letters[-1].value["calls"][0]["offset"] == 2


async def test_an_event_ahead_of_the_broker_is_refused_by_the_time_of_its_record() -> None:
    letters: list[DeadLetter] = []
    one = pipeline(MemoryStore(POLICY), letters)
    ahead = Record(0, record(0).value, timestamp=START_MS - 300_001)
    tolerated = Record(1, record(1).value, timestamp=START_MS - 300_000)
    without_time = Record(2, record(2).value, timestamp=-1)
    one.absorb_calls("calls", 0, [ahead, tolerated, without_time], None)
    flushed = await one.flush()
    assert flushed.events["calls", "accepted"] == 2
    assert "ahead" in letters[0].detail


async def test_the_clock_publishes_for_the_silent_subjects_of_own_partitions_only() -> None:
    store = MemoryStore(POLICY)
    one = pipeline(store)
    one.absorb_calls("calls", 0, [record(0)], None)
    await one.flush()
    one.absorb_calls("calls", 1, [record(0, biller="B2", minutes=600)], None)
    await one.flush()
    other = Subject.biller("B2")
    before = (await store.load([B1]))[B1].published_hour
    assert (await one.tick({"calls/1"})).subjects == 0
    one.release([])
    assert (await one.tick({"calls/0"})).subjects == 1
    states = await store.load([B1, other])
    assert states[B1].published_hour == states[other].published_hour > before


async def test_a_backlog_that_is_read_and_not_yet_written_makes_nobody_silent() -> None:
    store = Unreliable(POLICY)
    one = pipeline(store)
    source = one.source("calls", 0)
    one.absorb_calls("calls", 0, [record(0)], None)
    await one.flush()
    one.absorb_calls("calls", 0, [record(1, minutes=600)], None)
    assert one._clocks() == {source: START_MS}
    store.failures = [DependencyError("redis", "away")]
    with pytest.raises(DependencyError):
        await one.flush()
    assert one._clocks() == {source: START_MS}
    await one.flush()
    assert one._clocks() == {source: START_MS + 600 * MINUTE_MS}


async def test_calls_of_hours_that_a_data_set_has_settled_are_late() -> None:
    store = MemoryStore(POLICY)
    state = SubjectState(B1)
    model = state.models["error-rate"] = SeriesModel(ERROR_RATE, POLICY)
    model.learn(490_001, 5.0, 10, POLICY)
    state.changed.add("error-rate")
    assert await store.save([state]) == []
    one = pipeline(store)
    one.absorb_calls("calls", 0, [record(0), record(1, minutes=60), record(2, minutes=120)], None)
    flushed = await one.flush()
    assert (flushed.events["calls", "late"], flushed.events["calls", "accepted"]) == (2, 1)


async def test_a_series_that_was_only_trained_is_published_by_the_owner_of_the_first_partition() -> None:
    store = MemoryStore(POLICY)
    trained = Subject.biller("B9")
    state = SubjectState(trained)
    model = state.models["error-rate"] = SeriesModel(ERROR_RATE, POLICY)
    model.learn(490_000, 5.0, 10, POLICY)
    state.changed.add("error-rate")
    state.is_outdated = True
    state.publish(-1, POLICY)
    assert await store.save([state]) == []
    one = pipeline(store)
    one.absorb_calls("calls", 0, [record(0, minutes=600)], None)
    await one.flush()
    assert (await one.tick({"calls/3"})).subjects == 0
    one.release([])
    assert (await one.tick({"calls/0"})).subjects == 1
    assert (await store.load([trained]))[trained].forecasts["error-rate"].hour == 490_009


async def test_a_busy_stream_does_not_keep_silent_subjects_from_being_published() -> None:
    store = MemoryStore(POLICY)
    one = pipeline(store)
    one.absorb_calls("calls", 0, [record(0)], None)
    await one.flush()
    one.absorb_calls("calls", 0, [record(1, biller="B2", minutes=600)], None)
    await one.flush()
    one.absorb_calls("calls", 0, [record(2, biller="B2", minutes=601)], None)
    assert one.load.events == 1
    assert (await one.tick({"calls/0"})).subjects == 1


async def test_silent_subjects_of_an_earlier_life_of_the_log_still_have_an_owner() -> None:
    store = MemoryStore(POLICY)
    one = pipeline(store)
    one.absorb_calls("calls", 0, [record(0)], None)
    await one.flush()
    renamed = pipeline(store, log_id="renamed")
    renamed.absorb_calls("calls", 0, [record(0, biller="B2", minutes=600)], None)
    await renamed.flush()
    assert (await renamed.tick({"calls/0"})).subjects == 1


async def test_what_is_forgotten_while_it_is_written_does_not_come_back() -> None:
    store = Unreliable(POLICY)
    one = pipeline(store)
    one.absorb_calls("calls", 0, RECORDS[:40], None)
    store.failures.append(DependencyError("redis", "away"))
    store.meanwhile = one.forget
    with pytest.raises(DependencyError):
        await one.flush()
    assert one.load.events == 0
    one.release([("calls", 0)])
    one.absorb_calls("calls", 0, RECORDS, None)
    await one.flush()
    assert comparable(store) == comparable(await written(RECORDS))


async def test_a_dead_letter_is_not_sent_again_because_the_store_is_away() -> None:
    letters: list[DeadLetter] = []
    store = Unreliable(POLICY)
    one = pipeline(store, letters)
    one.absorb_calls("calls", 0, [record(0), Record(1, b"{")], None)
    store.failures += [DependencyError("redis", "away")] * 3
    for _ in range(3):
        with pytest.raises(DependencyError):
            await one.flush()
    flushed = await one.flush()
    assert len(letters) == 1
    assert flushed.events["calls", "dead"] == 1


async def test_a_window_learned_by_a_write_whose_reply_was_lost_is_still_carried_to_the_history() -> None:
    store = Unreliable(POLICY)
    one = pipeline(store)
    one.absorb_calls("calls", 0, [record(0), record(1, minutes=200)], None)
    store.failures.append(DependencyError("redis", "the reply was lost"))
    with pytest.raises(DependencyError):
        await one.flush()
    await one.flush()
    assert list((await store.outbox([B1]))[B1]) == [490_000]


async def test_a_long_record_that_is_no_event_is_kept_in_a_letter_of_bounded_size() -> None:
    letters: list[DeadLetter] = []
    one = pipeline(MemoryStore(POLICY), letters)
    one.absorb_calls("calls", 0, [Record(0, b"\x01" * 2_000_000), Record(1, b"\xff" * 2_000_000)], None)
    await one.flush()
    assert [letter.value_bytes for letter in letters] == [2_000_000, 2_000_000]
    assert all(len(letter.as_json()) < 900_000 for letter in letters)


async def test_a_subject_cannot_have_more_metrics_than_one_event_may() -> None:
    letters: list[DeadLetter] = []
    store = MemoryStore(POLICY)
    one = pipeline(store, letters)
    records = [
        Record(
            at,
            orjson.dumps({"name": "M", "version": "v1", "timestamp": START_MS, **{f"m{at}-{n}": n for n in range(40)}}),
        )
        for at in range(2)
    ]
    one.absorb_observations("observations", 0, records, None)
    flushed = await one.flush()
    assert (flushed.events["observations", "accepted"], flushed.events["observations", "dead"]) == (1, 1)
    assert "more than 64 metrics" in letters[0].detail


async def test_events_that_correct_a_closed_window_are_counted() -> None:
    one = pipeline(MemoryStore(POLICY))
    one.absorb_calls("calls", 0, [record(0), record(1, minutes=65)], None)
    assert (await one.flush()).corrections["calls"] == 0
    one.absorb_calls("calls", 0, [record(2, minutes=59), record(3, minutes=70)], None)
    flushed = await one.flush()
    assert flushed.corrections["calls"] == 1
    assert flushed.events["calls", "accepted"] == 2


async def test_what_a_write_has_to_tell_is_looked_for_although_its_reply_was_lost() -> None:
    store = Unreliable(POLICY)
    one = pipeline(store)
    one.absorb_calls("calls", 0, RECORDS, None)
    store.failures.append(DependencyError("redis", "the reply was lost"))
    with pytest.raises(DependencyError):
        await one.flush()
    flushed = await one.flush()
    assert flushed.events["calls", "replayed"] == len(RECORDS)
    assert (flushed.news, flushed.learned) == ({B1}, {B1})


async def test_a_new_gauge_that_is_published_before_its_first_hour_is_over_can_be_read() -> None:
    store = MemoryStore(POLICY)
    one = pipeline(store)
    subject = Subject.model("Mistral", "v1")

    def observed(offset: int, minutes: int, **gauges: float) -> Record:
        event = {"name": "Mistral", "version": "v1", "timestamp": START_MS + minutes * MINUTE_MS, **gauges}
        return Record(offset, orjson.dumps(event))

    one.absorb_observations("observations", 0, [observed(0, 30, drift=0.1)], None)
    await one.flush()
    one.absorb_observations("observations", 0, [observed(1, 90, drift=0.1, memory=5.0)], None)
    await one.flush()
    state = (await store.load([subject]))[subject]
    assert set(state.forecasts) == {"drift", "memory"}
    assert "memory" not in state.verdicts
