"""The state store of production: Redis or Valkey, one script call per subject, many of them in a pipeline.

A write whose answer was lost on the way may have been applied. Repeating it is safe: the stored revision has then moved
on, so the repeat is refused, `save` names the subject among those it did not write, and its caller loads it again, as
after any conflict. The offsets in what it loads tell which events are in it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Self

from redis.asyncio import Redis

from detection.cohorts import Cohort
from detection.errors import ConflictError
from detection.hours import iso
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import Window
from state import redis_cohorts
from state.codec import HEAD_FIELDS, Write, decode, decode_minutes, decode_outbox, encode, head, outbox_fields, slugs_of
from state.cohort_codec import decode_cohorts, encode_cohorts
from state.keys import CLOCK, SUBJECTS, models_key, outbox_key, series_key, subject_key
from state.redis_glances import Glances
from state.redis_pipeline import (
    ADVANCE_CLOCK,
    READ_HASHES,
    SUBJECTS_AT_ONCE,
    WRITE_SUBJECT,
    Command,
    Scripts,
    client_of,
    each_part,
    in_parts,
    redis_errors,
)
from state.series_codec import ANSWER_FIELDS, OBSOLETE, answer_fields
from state.store import Head

# What bounds the memory of one pipeline of writes, where a subject has more to write than usual.
_ARGUMENTS_AT_ONCE: Final = 60_000

_READ_ATTEMPTS: Final = 5


class RedisStore:
    """A `state.store.StateStore`; the client must answer bytes, as `connect` makes it."""

    def __init__(self, client: Redis, policy: Policy) -> None:
        self._client = client
        self._policy = policy
        self._scripts = Scripts(client)
        self._glances = Glances(client)

    @classmethod
    def connect(
        cls, url: str, policy: Policy, *, connections: int = 16, timeout_seconds: float = 5.0, retries: int = 3
    ) -> Self:
        """A store with its own bounded pool of connections; nothing is connected before it is used."""
        return cls(client_of(url, connections=connections, timeout_seconds=timeout_seconds, retries=retries), policy)

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def load(self, subjects: Sequence[Subject]) -> dict[Subject, SubjectState]:
        found: dict[Subject, SubjectState] = {}
        remaining = list(dict.fromkeys(subjects))
        for _ in range(_READ_ATTEMPTS):
            if not remaining:
                return found
            remaining = await self._load(remaining, found)
        if remaining:
            raise ConflictError(f"{remaining[0]}: new metrics appeared at each of {_READ_ATTEMPTS} readings")
        return found

    async def _load(self, subjects: list[Subject], found: dict[Subject, SubjectState]) -> list[Subject]:
        """Read each subject at one moment; returns those that had got a new series since their series were listed."""
        grown: list[Subject] = []
        slugs = await self._slugs(subjects)

        async def read(part: Sequence[Subject]) -> None:
            calls = [_keys_first(READ_HASHES, _keys(subject, slugs[subject])) for subject in part]
            for subject, replies in zip(part, await self._scripts.run(calls), strict=True):
                fields, models, *series = (_pairs(reply) for reply in replies)
                if not fields:
                    continue
                if not set(slugs_of(subject, fields.get(b"metrics"))) <= set(slugs[subject]):
                    grown.append(subject)
                    continue
                by_slug = dict(zip(slugs[subject], series, strict=True))
                found[subject] = decode(subject, fields, by_slug, models, self._policy)

        await in_parts(subjects, read)
        return grown

    async def _slugs(self, subjects: Sequence[Subject]) -> dict[Subject, list[str]]:
        """The series of each subject, asked for where they are not the same for all of its kind."""
        slugs = {subject: slugs_of(subject, None) for subject in subjects if subject.kind == "biller"}
        asked = [subject for subject in subjects if subject.kind != "biller"]

        async def read(part: Sequence[Subject]) -> None:
            replies = await self._pipeline([("HGET", subject_key(subject), "metrics") for subject in part])
            slugs.update((subject, slugs_of(subject, reply)) for subject, reply in zip(part, replies, strict=True))

        await in_parts(asked, read)
        return slugs

    async def save(self, states: Sequence[SubjectState]) -> list[Subject]:
        await self._index([state.subject for state in states if state.rev == 0])
        refused: list[Subject] = []

        async def write(part: list[tuple[SubjectState, Write]]) -> None:
            calls = [_write_call(one) for _, one in part]
            for (state, _), written in zip(part, await self._scripts.run(calls), strict=True):
                if written:
                    state.rev += 1
                    state.settled()
                else:
                    refused.append(state.subject)

        await each_part(self._encoded(states), write)
        return refused

    def _encoded(self, states: Sequence[SubjectState]) -> Iterator[list[tuple[SubjectState, Write]]]:
        """The writes of these states, each made when its pipeline is due."""
        part: list[tuple[SubjectState, Write]] = []
        arguments = 0
        for state in states:
            write = encode(state, self._policy)
            part.append((state, write))
            arguments += sum(len(flat) for _, flat in write.hashes)
            if len(part) >= SUBJECTS_AT_ONCE or arguments >= _ARGUMENTS_AT_ONCE:
                yield part
                part, arguments = [], 0
        if part:
            yield part

    async def _index(self, subjects: Sequence[Subject]) -> None:
        """List new subjects before they are written: one that is listed and missing is harmless, the reverse is not."""

        async def add(part: Sequence[Subject]) -> None:
            await self._pipeline([("ZADD", SUBJECTS, *(each for subject in part for each in (0, str(subject))))])

        await in_parts(subjects, add)

    async def heads(self, subjects: Sequence[Subject]) -> list[Head]:
        found: dict[Subject, Head] = {}

        async def read(part: Sequence[Subject]) -> None:
            commands: list[Command] = []
            for subject in part:
                commands += [
                    ("HMGET", subject_key(subject), *HEAD_FIELDS),
                    ("HLEN", outbox_key(subject)),
                ]
            replies = await self._pipeline(commands)
            for subject, values, unrelayed in zip(part, replies[::2], replies[1::2], strict=True):
                one = head(subject, values, unrelayed)
                if one is not None:
                    found[subject] = one

        await in_parts(subjects, read)
        return [found[subject] for subject in subjects if subject in found]

    async def subjects(self, *, after: str = "", limit: int = 1000, prefix: str = "") -> list[Subject]:
        start = f"({after}" if after and after >= prefix else f"[{prefix}" if prefix else "-"
        end = b"(" + prefix.encode() + b"\xff" if prefix else b"+"
        (members,) = await self._pipeline([("ZRANGE", SUBJECTS, start, end, "BYLEX", "LIMIT", 0, limit)])
        return [Subject.parse(member.decode()) for member in members]

    async def answers(self, subjects: Sequence[Subject]) -> dict[Subject, dict[str, dict[str, str]]]:
        found: dict[Subject, dict[str, dict[str, str]]] = {}
        slugs = await self._slugs(subjects)

        async def read(part: Sequence[Subject]) -> None:
            asked = [(subject, slug) for subject in part for slug in slugs[subject]]
            replies = await self._pipeline([("HMGET", series_key(*one), *ANSWER_FIELDS) for one in asked])
            for (subject, slug), values in zip(asked, replies, strict=True):
                fields = answer_fields(values)
                if fields is not None:
                    found.setdefault(subject, {})[slug] = fields

        await in_parts(subjects, read)
        return found

    async def minutes(self, subjects: Sequence[Subject]) -> dict[Subject, dict[int, Window]]:
        found: dict[Subject, dict[int, Window]] = {}

        async def read(part: Sequence[Subject]) -> None:
            replies = await self._pipeline([("HGET", subject_key(subject), "minutes") for subject in part])
            for subject, reply in zip(part, replies, strict=True):
                if reply is not None:
                    found[subject] = decode_minutes(subject, reply)

        await in_parts(subjects, read)
        return found

    async def glance(self, subject: Subject, slug: str) -> tuple[dict[str, str] | None, dict[int, Window]]:
        values, minutes = await self._glances.read(
            [("HMGET", series_key(subject, slug), *ANSWER_FIELDS), ("HGET", subject_key(subject), "minutes")]
        )
        return answer_fields(values), {} if minutes is None else decode_minutes(subject, minutes)

    async def outbox(self, subjects: Sequence[Subject]) -> dict[Subject, dict[int, Window]]:
        found: dict[Subject, dict[int, Window]] = {}

        async def read(part: Sequence[Subject]) -> None:
            replies = await self._scripts.run([_keys_first(READ_HASHES, [outbox_key(subject)]) for subject in part])
            for subject, (reply,) in zip(part, replies, strict=True):
                if reply:
                    found[subject] = decode_outbox(subject, _pairs(reply))

        await in_parts(subjects, read)
        return found

    async def relayed(self, hours: Mapping[Subject, Sequence[int]]) -> None:
        async def delete(part: Sequence[Subject]) -> None:
            await self._pipeline(
                [("HDEL", outbox_key(subject), *outbox_fields(hours[subject])) for subject in part if hours[subject]]
            )

        await in_parts(list(hours), delete)

    async def advance_clock(self, ms: int) -> int:
        (shown,) = await self._scripts.run([(ADVANCE_CLOCK, 1, CLOCK, ms, iso(ms))])
        return int(shown)

    async def clock(self) -> int:
        (shown,) = await self._pipeline([("HGET", CLOCK, "ms")])
        return -1 if shown is None else int(shown)

    async def claim_cohorts(self, *, now_ms: int, due_ms: int) -> bool:
        return await redis_cohorts.claim(self._client, now_ms=now_ms, due_ms=due_ms)

    async def keep_cohorts(self, cohorts: Iterable[Cohort], *, now_ms: int, due_ms: int) -> None:
        fields = encode_cohorts(cohorts, coverage=self._policy.coverage, now_ms=now_ms, due_ms=due_ms)
        await redis_cohorts.replace(self._client, fields)

    async def cohorts(self) -> list[Cohort]:
        return decode_cohorts(await redis_cohorts.read(self._client))

    async def ping(self) -> None:
        await self._pipeline([("PING",)])

    async def _pipeline(self, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        with redis_errors():
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = await pipeline.execute()
        return replies


def _keys(subject: Subject, slugs: Sequence[str]) -> list[str]:
    return [subject_key(subject), models_key(subject), *(series_key(subject, slug) for slug in slugs)]


def _keys_first(script: str, keys: Sequence[str]) -> Command:
    return (script, len(keys), *keys)


def _write_call(write: Write) -> Command:
    keys, flats = zip(*write.hashes, strict=True)
    return (
        WRITE_SUBJECT,
        len(keys),
        *keys,
        write.expected_rev,
        OBSOLETE,
        len(write.series),
        *map(len, flats),
        *(each for flat in flats for each in flat),
    )


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
