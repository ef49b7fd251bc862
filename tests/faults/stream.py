"""A seeded stream of a day's work: calls, observations, poison, late ones, and data sets to train with.

Every order in which a stream is sent leads to the same state, as long as no event becomes late by it:

- A subject's events arrive less than the grace period out of order, so none is late that would not be in sorted order.
- What is late is so in every order: it arrives hours behind events that certainly came before it.
- A subject whose events lie in several partitions has no order at all between them. Its events are of two neighbouring
  hours, of which the older one stays open until an event of a third.
"""

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import orjson

from detection.catalogue import biller_metric
from detection.hours import HOUR_MS, MINUTE_MS, iso_hour

PARTITIONS: Final = 4
# 1 March 2026, 00:00 UTC.
FIRST_HOUR: Final = 492_312

_HOURS: Final = 8
_GRACE_MS: Final = HOUR_MS
# Calls of one message are of so short a time; what a record is delayed by makes up the rest of the grace period.
_SPREAD_MS: Final = 5 * MINUTE_MS
_TRAINED_HOURS: Final = 48

Topic = Literal["calls", "observations"]


@dataclass(frozen=True, slots=True)
class Event:
    """One call or observation; no two of a subject are of the same millisecond."""

    subject: str
    ms: int


@dataclass(frozen=True, slots=True)
class Record:
    """One message; without events it is poison. `partition` is None where the key decides."""

    topic: Topic
    key: bytes
    value: bytes
    events: tuple[Event, ...]
    arrival_ms: int
    delay_ms: int
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Training:
    """Two halves of a data set of hours long before the stream; the path is that of the API."""

    path: str
    halves: tuple[bytes, bytes]

    @property
    def series(self) -> str:
        """As `SUBJECT/SLUG`."""
        match self.path.split("/"):
            case ["gauges", slug, name, version]:
                return f"model:{name}/{version}/{slug}"
            case [number, biller_id]:
                return f"biller:{biller_id}/{biller_metric(number).slug}"
            case _:
                raise ValueError(self.path)


@dataclass(frozen=True, slots=True)
class Stream:
    """What is sent in a run, and what anybody can count of it without the code that is tested."""

    seed: int
    sorted_records: tuple[Record, ...]
    trainings: tuple[Training, ...]

    @property
    def events(self) -> int:
        """All that must come to be accepted or late."""
        return sum(len(record.events) for record in self.sorted_records)

    @property
    def subjects(self) -> list[str]:
        """The subjects with events."""
        return sorted({event.subject for record in self.sorted_records for event in record.events})

    @property
    def trained(self) -> frozenset[str]:
        """The series that data sets are for, as `SUBJECT/SLUG`."""
        return frozenset(one.series for one in self.trainings)

    def shuffled(self, rng: random.Random) -> tuple[Record, ...]:
        """The records in another order that leads to the same state."""
        arrivals = [record.arrival_ms + rng.randint(0, record.delay_ms) for record in self.sorted_records]
        order = tuple(self.sorted_records[at] for at in sorted(range(len(arrivals)), key=arrivals.__getitem__))
        assert late(order) == late(self.sorted_records), "the shuffle made an event late"
        return order

    def counts(self) -> dict[str, tuple[int, int]]:
        """How many events of each subject must be accepted, and how many late."""
        are_late = Counter(event.subject for event in late(self.sorted_records))
        totals = Counter(event.subject for record in self.sorted_records for event in record.events)
        return {subject: (total - are_late[subject], are_late[subject]) for subject, total in totals.items()}

    def letters(self) -> set[tuple[str, str]]:
        """What must be in the dead letters: poison by its text, late events by subject and time."""
        poison = {("invalid", record.value.decode()) for record in self.sorted_records if not record.events}
        return poison | {("late", f"{event.subject}@{event.ms}") for event in late(self.sorted_records)}


def late(records: Iterable[Record]) -> set[Event]:
    """The events whose hour is learned when they come in this order."""
    newest: dict[str, int] = {}
    found = set()
    for record in records:
        for event in record.events:
            newest[event.subject] = max(newest.get(event.subject, 0), event.ms)
            if event.ms // HOUR_MS < (newest[event.subject] - _GRACE_MS) // HOUR_MS:
                found.add(event)
    return found


@lru_cache(maxsize=4)
def stream_of(seed: int) -> Stream:
    """The stream of this seed."""
    making = _Making(random.Random(f"stream {seed}"))
    making.make()
    records = sorted(making.records, key=lambda record: record.arrival_ms)
    stream = Stream(seed, tuple(records), tuple(making.trainings))
    assert stream.letters(), "nothing is late, nothing is poison"
    return stream


class _Making:
    """The parts of a stream, in the order in which chance is asked."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._taken: set[tuple[str, int]] = set()
        self.records: list[Record] = []
        self.trainings: list[Training] = []

    def make(self) -> None:
        for number in range(16):
            self._biller(f"steady-{number:02}", hours=range(_HOURS), calls=self._rng.randint(8, 24))
        for number in range(6):
            # They fall silent: the clock of the others closes their windows.
            self._biller(f"silent-{number}", hours=range(self._rng.randint(1, 4)), calls=15)
        self._scattered([f"scattered-{number}" for number in range(4)])
        for number in range(4):
            self._model(f"model-{number}", observations=self._rng.randint(5, 15))
        for number in range(6):
            self._late(f"steady-{number:02}")
        for number in range(10):
            self._poison(number)
        for path in (
            "1/steady-00",
            "1/never-called",
            "2/never-called",
            "3/silent-0",
            "gauges/drift/model-0/v1",
            "gauges/drift/never-observed/v1",
        ):
            self.trainings.append(self._training(path))

    def _biller(self, biller_id: str, *, hours: range, calls: int) -> None:
        level = self._rng.uniform(20, 400)
        for hour in hours:
            # One in each hour at least, so that it is known which hours are learned.
            left = calls
            while left > 0:
                size = min(left, self._rng.choice((1, 1, 1, 1, 2, 5)))
                left -= size
                start = self._moment(hour)
                some = [self._call(biller_id, start + self._rng.randint(0, _SPREAD_MS), level) for _ in range(size)]
                self._add("calls", biller_id, [call for call, _ in some], [event for _, event in some], start)

    def _scattered(self, billers: list[str]) -> None:
        """Calls of several billers in a message, in any partition: two workers write the same subjects."""
        first = self._rng.randint(1, _HOURS - 3)
        for _ in range(60):
            start = self._moment(first + self._rng.randint(0, 1))
            end = min(start + _SPREAD_MS, (FIRST_HOUR + first + 2) * HOUR_MS - 1)
            some = [
                self._call(self._rng.choice(billers), self._rng.randint(start, end), 90.0)
                for _ in range(self._rng.randint(1, 6))
            ]
            partition = self._rng.randrange(PARTITIONS)
            self._add("calls", "several", [call for call, _ in some], [event for _, event in some], start, partition)

    def _model(self, name: str, *, observations: int) -> None:
        for hour in range(_HOURS):
            for _ in range(observations):
                start = self._moment(hour)
                event = self._event(f"model:{name}/v1", start)
                value = {
                    "name": name,
                    "version": "v1",
                    "timestamp": event.ms,
                    "prediction_accuracy": round(self._rng.betavariate(20, 4), 6),
                    "drift": self._rng.uniform(0, 0.3),
                }
                record = Record("observations", name.encode(), orjson.dumps(value), (event,), start, self._delay())
                self.records.append(record)

    def _late(self, biller_id: str) -> None:
        """Behind all events of the hours before, which arrive with less than the grace period's delay."""
        arrival = self._moment(self._rng.randint(5, _HOURS - 1))
        call, event = self._call(biller_id, arrival - self._rng.randint(5 * HOUR_MS, 6 * HOUR_MS), 50.0)
        self.records.append(Record("calls", biller_id.encode(), orjson.dumps(call), (event,), arrival, 0))

    def _poison(self, number: int) -> None:
        topic: Topic = self._rng.choice(("calls", "calls", "observations"))
        text = f'{{"biller_id": "steady-{number:02}", "poison": {number}'
        key = f"steady-{number:02}".encode()
        self.records.append(Record(topic, key, text.encode(), (), self._moment(self._rng.randrange(_HOURS)), HOUR_MS))

    def _training(self, path: str) -> Training:
        first = FIRST_HOUR - self._rng.randint(100, 200)
        rows = [
            {
                "timestamp": iso_hour(first + hour),
                "value": round(self._rng.uniform(0, 1 if "gauges" in path else 60), 3),
                "count": self._rng.randint(1, 40),
            }
            for hour in range(_TRAINED_HOURS)
        ]
        middle = self._rng.randint(1, _TRAINED_HOURS - 1)
        return Training(path, (orjson.dumps({"rows": rows[:middle]}), orjson.dumps({"rows": rows[middle:]})))

    def _moment(self, hour: int) -> int:
        return (FIRST_HOUR + hour) * HOUR_MS + self._rng.randrange(HOUR_MS - _SPREAD_MS)

    def _delay(self) -> int:
        return self._rng.choice((0, MINUTE_MS, _GRACE_MS - _SPREAD_MS - 1))

    def _event(self, subject: str, ms: int) -> Event:
        while (subject, ms) in self._taken:
            ms += 1
        self._taken.add((subject, ms))
        return Event(subject, ms)

    def _call(self, biller_id: str, ms: int, level: float) -> tuple[dict[str, object], Event]:
        event = self._event(f"biller:{biller_id}", ms)
        call = {
            "biller_id": biller_id,
            "timestamp": event.ms,
            "latency_ms": round(self._rng.lognormvariate(0, 0.4) * level, 3),
            "outcome": self._rng.choice(("ok",) * 17 + ("error", "error", "timeout")),
        }
        return call, event

    def _add(
        self,
        topic: Topic,
        key: str,
        calls: Sequence[dict[str, object]],
        events: Sequence[Event],
        arrival_ms: int,
        partition: int | None = None,
    ) -> None:
        value = calls[0] if len(calls) == 1 else {"calls": calls}
        record = Record(topic, key.encode(), orjson.dumps(value), tuple(events), arrival_ms, self._delay(), partition)
        self.records.append(record)
