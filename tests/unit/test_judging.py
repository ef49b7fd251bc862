"""What rules see of a stream: events, minutes inside the hour, silence; and what becomes of it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
import pytest

from detection.errors import DependencyError
from detection.hours import HOUR_MS, MINUTE_MS, SECOND_MS
from detection.policy import Policy
from detection.rules.alert import Alert
from detection.rules.book import DEFAULT_RULES, RuleBook
from detection.rules.rule import Rule, rule_of
from detection.subject import Subject
from detection.subject_state import SubjectState
from state.memory_store import MemoryStore
from stream.dead_letters import DeadLetter
from stream.judging import Judging
from stream.pipeline import Pipeline
from tests.unit.test_pipeline import Record

POLICY = Policy()
START_MS = 489_984 * HOUR_MS
MISTRAL = Subject.model("Mistral", "v1")
B1 = Subject.biller("B1")
LOW_ACCURACY = rule_of(
    {"id": "low-accuracy", "metric": "prediction_accuracy", "condition": "lower than", "boundary": 0.3}
)


class Stream:
    """A pipeline over a store, and the offset that it has reached; begins anew as a worker does."""

    def __init__(self, rules: Iterable[Rule] = DEFAULT_RULES, *, wall_ms: Callable[[], int] | None = None) -> None:
        self._wall_ms = wall_ms
        self.store = MemoryStore(POLICY)
        self._book = RuleBook(rules)
        self._offset = 0
        self.restart()

    def restart(self) -> None:
        async def nowhere(letters: Sequence[DeadLetter]) -> None:
            assert not letters

        self.pipeline = Pipeline(
            self.store,
            POLICY,
            log_id="log",
            future_ms=300_000,
            send_dead_letters=nowhere,
            judging=Judging(self._book, POLICY),
            wall_ms=self._wall_ms,
        )

    async def observe(self, *accuracies: float) -> None:
        records = [
            self._record(
                {
                    "name": "Mistral",
                    "version": "v1",
                    "timestamp": START_MS + (self._offset + at) * SECOND_MS,
                    "prediction_accuracy": accuracy,
                    "drift": 0.11,
                },
                at,
            )
            for at, accuracy in enumerate(accuracies)
        ]
        self._offset += len(records)
        self.pipeline.absorb_observations("observations", 0, records, None)
        await self.pipeline.flush()

    async def call(
        self, biller: str, times_ms: Iterable[int], *, failed_every: int = 0, latency_ms: float = 100
    ) -> None:
        records = [
            self._record(
                {
                    "biller_id": biller,
                    "timestamp": time_ms,
                    "latency_ms": latency_ms + at % 7,
                    "outcome": "error" if failed_every and at % failed_every == 0 else "ok",
                },
                at,
            )
            for at, time_ms in enumerate(times_ms)
        ]
        self._offset += len(records)
        self.pipeline.absorb_calls("calls", 0, records, None)
        await self.pipeline.flush()

    def _record(self, fields: dict[str, Any], at: int) -> Record:
        return Record(self._offset + at, orjson.dumps(fields))

    async def alerts(self, subject: Subject) -> list[Alert]:
        """Those that are not over."""
        found = (await self.store.alerts([subject])).get(subject, {})
        return [one for one in found.values() if one.state != "resolved"]

    async def told(self, subject: Subject) -> list[str]:
        """What the outbox has to say of alerts, in its order."""
        found = await self.store.announcements([subject])
        return [one.event for one in found[subject].alerts.values()] if subject in found else []


async def test_one_low_accuracy_opens_one_alert_and_a_high_one_resolves_it() -> None:
    stream = Stream([LOW_ACCURACY])
    await stream.observe(0.8, 0.193, 0.25)
    (alert,) = await stream.alerts(MISTRAL)
    assert alert.state == "open"
    assert alert.value == 0.25
    await stream.observe(0.29, 0.28)
    assert await stream.told(MISTRAL) == ["opened"]
    await stream.observe(0.5)
    assert await stream.alerts(MISTRAL) == []
    assert await stream.told(MISTRAL) == ["opened", "resolved"]


async def test_the_line_that_operators_see_has_the_event_as_it_was_sent() -> None:
    stream = Stream([LOW_ACCURACY])
    await stream.observe(0.193)
    (alert,) = await stream.alerts(MISTRAL)
    assert alert.line == (
        "ALERT prediction_accuracy lower than 0.3, {'name': 'Mistral', 'version': 'v1', 'prediction_accuracy': 0.193, "
        "'drift': 0.11, 'timestamp': '2025-11-24T00:00:00Z'}"
    )


@pytest.mark.parametrize("restarts", [False, True])
async def test_a_restart_neither_resolves_nor_opens_an_alert(restarts: bool) -> None:
    stream = Stream([LOW_ACCURACY])
    for accuracy in (0.8, 0.1, 0.11, 0.9, 0.9, 0.2, 0.21):
        await stream.observe(accuracy)
        if restarts:
            stream.restart()
    assert await stream.told(MISTRAL) == ["opened", "resolved", "opened"]


async def test_events_that_are_read_again_open_nothing_again() -> None:
    stream = Stream([LOW_ACCURACY])
    await stream.observe(0.1, 0.9)
    stream.restart()
    stream._offset = 0
    await stream.observe(0.1, 0.9)
    assert await stream.told(MISTRAL) == ["opened", "resolved"]


async def test_an_alert_ends_with_its_rule() -> None:
    stream = Stream([LOW_ACCURACY])
    await stream.observe(0.1)
    stream._book = RuleBook([])
    stream.restart()
    await stream.observe(0.1)
    assert await stream.alerts(MISTRAL) == []
    assert await stream.told(MISTRAL) == ["opened", "resolved"]


def minute_by_minute(hours: Iterable[int], *, calls: int = 20) -> list[int]:
    return [START_MS + hour * HOUR_MS + at * (HOUR_MS // (60 * calls)) for hour in hours for at in range(60 * calls)]


async def healthy(stream: Stream, hours: int = 72) -> int:
    """A biller that fails once in a hundred calls, twenty a minute; the time it ends at."""
    for hour in range(hours):
        await stream.call("B1", minute_by_minute([hour]), failed_every=100)
    return START_MS + hours * HOUR_MS


async def test_a_failing_biller_opens_an_alert_within_minutes_of_the_hour() -> None:
    stream = Stream()
    now_ms = await healthy(stream)
    assert await stream.told(B1) == []
    for minute in range(4):
        await stream.call("B1", [now_ms + minute * MINUTE_MS + at * 3000 for at in range(20)], failed_every=2)
    (alert,) = await stream.alerts(B1)
    assert (alert.slug, alert.state) == ("error-rate", "open")
    assert alert.opened_ms is not None
    assert alert.opened_ms - now_ms <= 3 * MINUTE_MS
    assert "calls failed in the last" in str(alert.detail["sentence"])


async def test_a_biller_that_stops_calling_opens_an_alert_by_the_time_of_its_partition() -> None:
    stream = Stream()
    now_ms = await healthy(stream)
    for minute in range(12):
        await stream.call("B2", [now_ms + minute * MINUTE_MS + at * 3000 for at in range(20)])
        await stream.pipeline.tick({"calls/0"})
    (alert,) = await stream.alerts(B1)
    assert (alert.slug, alert.state) == ("calls", "open")
    assert await stream.told(B1) == ["opened"]
    await stream.call("B1", minute_by_minute([72])[240:], failed_every=100)
    assert await stream.told(B1) == ["opened", "resolved"]


MANY_ERRORS = rule_of(
    {"id": "many-errors", "kind": "biller", "metric": "error_rate", "condition": "higher than", "boundary": 20}
)


async def test_a_number_is_held_against_the_last_minutes_of_a_biller_from_its_first_hour_on() -> None:
    stream = Stream([MANY_ERRORS])
    times = minute_by_minute([0])
    await stream.call("B1", times[:200])
    assert await stream.told(B1) == []
    await stream.call("B1", times[200:300], failed_every=2)
    (alert,) = await stream.alerts(B1)
    assert (alert.rule, alert.slug, alert.state) == ("many-errors", "error-rate", "open")
    await stream.call("B1", times[300:500])
    assert await stream.told(B1) == ["opened", "worse", "resolved"]


async def test_a_number_is_held_against_the_closed_hour_of_a_biller_with_few_calls() -> None:
    stream = Stream([MANY_ERRORS])
    # A call in ten minutes: no five minutes have enough of them.
    await stream.call("B1", [START_MS + at * 10 * MINUTE_MS for at in range(6)], failed_every=1)
    assert await stream.told(B1) == []
    await stream.call("B1", [START_MS + 65 * MINUTE_MS])
    (alert,) = await stream.alerts(B1)
    assert (alert.value, alert.count) == (100.0, 6)


async def test_one_failed_call_of_three_is_no_alert_against_a_number_either() -> None:
    stream = Stream([MANY_ERRORS])
    await stream.call("B1", [START_MS, START_MS + 1000, START_MS + 2000, START_MS + 10 * MINUTE_MS], failed_every=3)
    assert await stream.alerts(B1) == []


async def others_call(stream: Stream, now_ms: int, minutes: Iterable[int]) -> None:
    """What makes the time of the partition go on while the first biller is silent."""
    for minute in minutes:
        await stream.call("B2", [now_ms + minute * MINUTE_MS + at * 3000 for at in range(20)])
        await stream.pipeline.tick({"calls/0"})


async def test_a_biller_that_was_silent_before_a_restart_is_found_when_the_next_hour_closes() -> None:
    stream = Stream()
    now_ms = await healthy(stream)
    stream.restart()
    await others_call(stream, now_ms, range(0, 70, 2))
    (alert,) = await stream.alerts(B1)
    assert (alert.slug, alert.state) == ("calls", "open")


async def test_silence_whose_write_was_done_though_the_reply_was_lost_is_told() -> None:
    stream = Stream()
    now_ms = await healthy(stream)
    save, losses = stream.store.save, 1

    async def save_and_lose(states: Sequence[SubjectState]) -> list[Subject]:
        nonlocal losses
        refused = await save(states)
        if losses and any(state.subject == B1 and state.alerts for state in states):
            losses -= 1
            raise DependencyError("redis", "the reply was lost")
        return refused

    stream.store.save = save_and_lose  # type: ignore[method-assign]  # the store that a test makes fail
    news: set[Subject] = set()
    for minute in range(6):
        await stream.call("B2", [now_ms + minute * MINUTE_MS + at * 3000 for at in range(20)])
        try:
            news |= (await stream.pipeline.tick({"calls/0"})).news
        except DependencyError:
            assert losses == 0
    assert losses == 0
    assert B1 in news
    assert await stream.told(B1) == ["opened"]


async def test_a_biller_that_stays_silent_is_not_resolved_by_its_silence() -> None:
    stream = Stream()
    now_ms = await healthy(stream)
    await others_call(stream, now_ms, range(0, 30 * 60, 10))
    assert await stream.told(B1) == ["opened"]


async def test_a_call_from_a_clock_that_is_ahead_makes_nobody_silent() -> None:
    stream = Stream(wall_ms=lambda: now_ms + 30_000)
    now_ms = START_MS
    now_ms = await healthy(stream)
    await stream.call("B1", [*(now_ms + at * 3000 for at in range(10)), now_ms + 4 * MINUTE_MS])
    assert await stream.alerts(B1) == []


async def test_a_partition_that_is_behind_is_not_looked_at_again_and_again() -> None:
    stream = Stream()
    now_ms = await healthy(stream)
    record = Record(
        0, orjson.dumps({"biller_id": "B2", "timestamp": now_ms + HOUR_MS // 2, "latency_ms": 1, "status": 200})
    )
    stream.pipeline.absorb_calls("calls", 1, [record], None)
    await stream.pipeline.flush()
    asked: list[Subject] = []
    load = stream.store.load_counts

    async def count(subjects: Sequence[Subject]) -> dict[Subject, SubjectState]:
        asked.extend(subjects)
        return await load(subjects)

    stream.pipeline._states.clear()
    stream.store.load_counts = count  # type: ignore[method-assign]  # only counted
    for _ in range(5):
        await stream.pipeline.tick({"calls/0", "calls/1"})
    # To close its hour, by the clock of the whole stream.
    assert asked == [B1]


async def test_what_goes_to_and_fro_in_one_write_is_told_in_its_order_and_within_bounds() -> None:
    stream = Stream([LOW_ACCURACY])
    await stream.observe(*(0.1, 0.9) * 2000, 0.1)
    told = await stream.told(MISTRAL)
    assert len(told) <= 1000
    assert told == ["opened", "resolved"] * (len(told) // 2) + ["opened"]
    (alert,) = await stream.alerts(MISTRAL)
    last = list((await stream.store.announcements([MISTRAL]))[MISTRAL].alerts.values())[-1]
    assert last.alert.id == alert.id
