"""What a run has come to: every field in Redis, every row of the history, every dead letter; how two runs differ."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition
from redis.asyncio import Redis

from detection.policy import Policy
from detection.subject import Subject
from state import keys
from tests.faults.stream import PARTITIONS, Stream
from tests.faults.topics import DEAD_LETTERS
from tests.worker import BOOKKEEPING, Hashes, hashes, text, unsettled

# What is left out of the comparison, and why:
#   rev       counts writes, and how many there are depends on where one flush ends and the next begins
#   offsets   where in the log events lay, which the shuffling changes
#   alerts, live, judged_before   what was known at a moment: minutes are judged when they are read
#   verdicts  of series that are trained meanwhile: what an hour compared with is what had been published of it by then,
#             and that is another thing before the data set than after it; the models converge, what was said does not
#   cohorts   what was published of all series at some moment of the wall clock (left out by `hashes`)
LEFT_OUT = BOOKKEEPING

_HISTORY = {
    "call_windows": "select subject, hour, calls, errors, timeouts, latency_us, latency_us2, bins from call_windows",
    "observations": "select subject, metric, hour, value, count, origin, estimate, lower, upper, threshold, score,"
    " is_exceeded, is_credible, coverage, expected_calls from observations",
    "replaced_series": "select subject, metric, live_from from replaced_series",
}
_KEY_COLUMNS = {"call_windows": 2, "observations": 3, "replaced_series": 2}


@dataclass(frozen=True, slots=True)
class Content:
    """Redis and the history as one mapping from key to fields to text; the letters as a set, for they may repeat."""

    fields: Hashes
    letters: frozenset[tuple[str, str]]


async def in_redis(redis: "Redis") -> Hashes:
    """Every field of every key but the bookkeeping, and the list of subjects."""
    stored = await hashes(redis, without=LEFT_OUT)
    members: list[bytes] = await redis.zrange(keys.SUBJECTS, 0, -1)  # type: ignore[assignment]  # without scores
    return {**stored, keys.SUBJECTS: {text(member): "" for member in members}}


async def in_history(url: str, *, trained: Collection[str]) -> Hashes:
    """Every row, as fields below its primary key; without verdicts on the hours of series that were trained."""
    found: Hashes = {}
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for name, query in _HISTORY.items():
            cursor = await connection.execute(query)
            assert cursor.description is not None
            columns = [column.name for column in cursor.description]
            for row in await cursor.fetchall():
                values = [_shown(value) for value in row]
                first = _KEY_COLUMNS[name]
                key = f"postgres:{name}:{'/'.join(values[:first])}"
                fields = dict(zip(columns[first:], values[first:], strict=True))
                if name == "observations" and "/".join(values[:2]) in trained:
                    fields = {column: fields[column] for column in ("value", "count", "origin")}
                found[key] = fields
    return found


def _shown(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode() if isinstance(value, dict | list) else str(value)


async def in_state(redis: "Redis", stream: Stream) -> int:
    """How many of the stream's events the state has, accepted or late."""
    pipeline = redis.pipeline(transaction=False)
    for subject in stream.subjects:
        pipeline.execute_command("HMGET", keys.subject_key(Subject.parse(subject)), "accepted", "late")
    return sum(int(count) for counts in await pipeline.execute() for count in counts if count is not None)


async def unfinished(redis: "Redis", stream: Stream, policy: Policy) -> str:
    """Why a quiet run is not over yet; empty when everything is counted, published and carried to the history."""
    if missing := await unsettled(redis, stream.events, policy):
        return missing
    # What was only trained has no event that would say until when it has to be published.
    stored = await hashes(redis)
    hours = {fields["published_hour"] for name, fields in stored.items() if name.endswith("}")}
    return "" if len(hours) == 1 else f"subjects are published for {sorted(hours)}, not all for the same hour"


def differences(expected: Mapping[str, Mapping[str, str]], found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A line for each field that is not as expected, in the order of the keys."""
    lines = []
    for key in sorted(expected.keys() | found.keys()):
        if key not in found:
            lines.append(f"{key} is missing")
        elif key not in expected:
            lines.append(f"{key} should not be there: {_cut(str(found[key]))}")
        else:
            lines += [
                f"{key} {name}: expected {_cut(str(expected[key].get(name)))}, found {_cut(str(found[key].get(name)))}"
                for name in sorted(expected[key].keys() | found[key].keys())
                if expected[key].get(name) != found[key].get(name)
            ]
    return lines


def _cut(value: str) -> str:
    return value if len(value) <= 200 else f"{value[:200]}…"


async def letters(bootstrap: str, client_id: str, expected: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """The dead letters, by what they are about: poison by its text, late events by subject and time."""
    found: set[tuple[str, str]] = set()
    async for letter in _letters(bootstrap, client_id, lambda: expected <= found):
        found.update(_abouts(letter))
    return frozenset(found)


async def _letters(bootstrap: str, client_id: str, is_enough: Any) -> AsyncIterator[dict[str, Any]]:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, client_id=client_id, auto_offset_reset="earliest")
    async with consumer:
        consumer.assign([TopicPartition(DEAD_LETTERS, one) for one in range(PARTITIONS)])
        empty = 0
        # An answer without records may only mean that the fetch of another partition was quicker.
        while empty < (2 if is_enough() else 20):
            fetched = await consumer.getmany(timeout_ms=250)
            empty = 0 if fetched else empty + 1
            for records in fetched.values():
                for record in records:
                    yield orjson.loads(record.value)


def _abouts(letter: Mapping[str, Any]) -> set[tuple[str, str]]:
    value = letter["value"]
    match letter["reason"], value:
        case "late", {"calls": calls}:
            return {("late", f"biller:{call['biller_id']}@{call['timestamp']}") for call in calls}
        case "late", {"subject": subject, "timestamp": timestamp}:
            return {("late", f"{subject}@{timestamp}")}
        case reason, _:
            return {(reason, str(value))}
