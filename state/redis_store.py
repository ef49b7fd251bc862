"""The state store of production: Redis or Valkey, one script call per subject, many of them in a pipeline.

A write whose answer was lost on the way may have been applied. Repeating it is safe: the stored revision has then moved
on, so the repeat is refused, `save` names the subject among those it did not write, and its caller loads it again, as
after any conflict. The offsets in what it loads tell which events are in it.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Self

from redis.asyncio import Redis

from detection.cohorts import Cohort
from detection.errors import ConflictError
from detection.hours import iso
from detection.policy import Policy
from detection.rules.alert import Alert, Transition
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import Window
from state import redis_cohorts, redis_progress
from state.as_stored import AsStored, StoredTexts
from state.codec import (
    HEAD_FIELDS,
    Write,
    decode,
    decode_alerts,
    decode_models,
    encode,
    head,
    slugs_of,
)
from state.cohort_codec import decode_cohorts, encode_cohorts
from state.counts_codec import Counted, decode_counts, decode_many_counts, encode_counted
from state.keys import CLOCK, SUBJECTS, models_key, outbox_key, series_key, subject_key
from state.redis_answers import Answers
from state.redis_exchange import Exchanges
from state.redis_glances import Glances
from state.redis_outboxes import Outboxes
from state.redis_pipeline import (
    ADVANCE_CLOCK,
    CONFIRM_SUBJECT,
    FIND_BEHIND,
    LIST_SUBJECTS,
    NO_REPLICAS,
    READ_HASHES,
    REPLICAS_SHARE,
    SUBJECTS_AT_ONCE,
    WRITE_SUBJECT,
    Command,
    Replicas,
    Scripts,
    client_of,
    each_part,
    in_parts,
    redis_errors,
)
from state.redis_transactions import Transactions
from state.replies import fields_of, pairs_of
from state.store import Announcements, Head, LearnedHour, LogLife, Reached, is_owned
from state.survey import Lately, Survey, Tally
from state.survey_codec import survey_commands, survey_of, tally_commands, tally_of
from state.window_codec import hour_text

# What bounds the memory of one round of writes, where a subject has more to write than usual, and how long the server
# does nothing else.
_BYTES_AT_ONCE: Final = 1_000_000

_READ_ATTEMPTS: Final = 5


class RedisStore:
    """A `state.store.StateStore`; the client must answer bytes, as `connect` makes it."""

    def __init__(self, client: Redis, policy: Policy, *, replicas: Replicas = NO_REPLICAS) -> None:
        self._client = client
        self._policy = policy
        self._replicas = replicas
        # A cluster's client is not of this class, and its subjects are on many nodes.
        is_single = isinstance(client, Redis)
        self._exchanges = Exchanges(client) if is_single else None
        exchange = None if self._exchanges is None else self._exchanges.try_all
        self._scripts = Scripts(client, replicas=replicas, exchange=exchange)
        self._answers = Answers(self._ask, self._scripts, self._exchanges, Glances(client, self._exchanges))
        self._transactions = Transactions(client, replicas) if is_single else None
        self._outboxes = Outboxes(self._ask, self._pipeline, self._scripts)
        # Of each part that was written since the last look at the progress, the last subject and its revision. On a
        # cluster they are on other nodes than the progress, which says nothing of those.
        self._written: dict[str, int] = {}
        self._remembers = False

    @classmethod
    def connect(
        cls,
        url: str,
        policy: Policy,
        *,
        connections: int = 16,
        timeout_seconds: float = 5.0,
        retries: int = 3,
        replicas: int = 0,
    ) -> Self:
        """A store with its own bounded pool of connections; nothing is connected before it is used.

        A write of subjects counts as done when that many replicas have it too.
        """
        client = client_of(url, connections=connections, timeout_seconds=timeout_seconds, retries=retries)
        return cls(client, policy, replicas=Replicas(replicas, int(timeout_seconds * 1000 * REPLICAS_SHARE)))

    @property
    def client(self) -> Redis:
        """For what else is kept beside the subjects, through the same connections."""
        return self._client

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
            calls = [_read_call(_keys(subject, slugs[subject])) for subject in part]
            for subject, replies in zip(part, await self._scripts.run(calls), strict=True):
                fields, models, *series = (pairs_of(reply) for reply in replies)
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

    async def load_counts(self, subjects: Sequence[Subject]) -> dict[Subject, SubjectState]:
        found: dict[Subject, SubjectState] = {}
        older: list[Subject] = []

        async def read(part: Sequence[Subject]) -> None:
            commands = [("HGETALL", subject_key(subject)) for subject in part]
            texts = None if self._exchanges is None else await self._exchanges.ask_unparsed(commands)
            if texts is not None:
                states, others = decode_many_counts(part, texts)
                found.update(states)
                older.extend(others)
                return
            for subject, reply in zip(part, await self._ask(commands), strict=True):
                if not reply:
                    continue
                state = decode_counts(subject, fields_of(reply))
                if state is None:
                    older.append(subject)
                else:
                    found[subject] = state

        await in_parts(subjects, read)
        return found | await self.load(older) if older else found

    async def load_models(self, states: Sequence[SubjectState]) -> list[Subject]:
        moved: list[Subject] = []

        async def read(part: Sequence[SubjectState]) -> None:
            commands: list[Command] = []
            for state in part:
                # Somebody may write between the two, but nothing comes of it: the state's own write will be refused.
                commands += (("HGET", subject_key(state.subject), "rev"), ("HGETALL", models_key(state.subject)))
            replies = await self._ask(commands)
            for state, rev, reply in zip(part, replies[::2], replies[1::2], strict=True):
                if state.about and rev == b"%d" % state.rev:
                    decode_models(state, fields_of(reply), self._policy)
                else:
                    moved.append(state.subject)

        await in_parts([state for state in states if not state.has_models], read)
        return moved

    async def save(self, states: Sequence[SubjectState]) -> list[Subject]:
        await self._index([state.subject for state in states if state.rev == 0])
        refused: list[Subject] = []

        async def write(part: list[tuple[SubjectState, Write | Counted]]) -> None:
            last: SubjectState | None = None
            for (state, one), written in zip(part, await self._write(part), strict=True):
                if written:
                    one.apply_to(state)
                    last = state
                else:
                    refused.append(state.subject)
            if last is not None and self._remembers:
                self._written[subject_key(last.subject)] = last.rev

        await each_part(self._encoded(states), write)
        return refused

    async def _write(self, part: Sequence[tuple[SubjectState, Write | Counted]]) -> Sequence[Any]:
        """Whether each was written."""
        written = None if self._transactions is None else await self._transactions.write([one for _, one in part])
        if written is None:
            writes = [encode(state, self._policy) if isinstance(one, Counted) else one for state, one in part]
            return await self._scripts.run([_write_call(one) for one in writes], is_durable=True)
        return written

    def _encoded(self, states: Sequence[SubjectState]) -> Iterator[list[tuple[SubjectState, Write | Counted]]]:
        """The writes of these states, each made when its part is due."""
        for start in range(0, len(states), SUBJECTS_AT_ONCE):
            some = states[start : start + SUBJECTS_AT_ONCE]
            part: list[tuple[SubjectState, Write | Counted]] = []
            size = 0
            for state, counted in zip(some, encode_counted(some), strict=True):
                write = encode(state, self._policy) if counted is None else counted
                part.append((state, write))
                size += write.size
                if size >= _BYTES_AT_ONCE:
                    yield part
                    part, size = [], 0
            if part:
                yield part

    async def _index(self, subjects: Sequence[Subject]) -> None:
        """List new subjects before they are written: one that is listed and missing is harmless, the reverse is not."""

        async def add(part: Sequence[Subject]) -> None:
            await self._scripts.run([(LIST_SUBJECTS, 1, SUBJECTS, *map(str, part))], is_durable=True)

        await in_parts(subjects, add)

    async def confirm(self, states: Sequence[SubjectState]) -> list[Subject]:
        refused: list[Subject] = []

        async def write(part: Sequence[SubjectState]) -> None:
            calls = [(CONFIRM_SUBJECT, 1, subject_key(state.subject), state.rev) for state in part]
            for state, confirmed in zip(part, await self._scripts.run(calls, is_durable=True), strict=True):
                if not confirmed:
                    refused.append(state.subject)

        if self._replicas.count:
            await in_parts(states, write)
        return refused

    async def heads(self, subjects: Sequence[Subject]) -> list[Head]:
        found: dict[Subject, Head] = {}

        async def read(part: Sequence[Subject]) -> None:
            commands: list[Command] = []
            for subject in part:
                commands += [
                    ("HMGET", subject_key(subject), *HEAD_FIELDS),
                    ("HLEN", outbox_key(subject)),
                ]
            replies = await self._ask(commands)
            for subject, values, unrelayed in zip(part, replies[::2], replies[1::2], strict=True):
                one = head(subject, values, unrelayed)
                if one is not None:
                    found[subject] = one

        await in_parts(subjects, read)
        return [found[subject] for subject in subjects if subject in found]

    async def unrelayed(self, subjects: Sequence[Subject]) -> list[Subject]:
        lengths: dict[Subject, int] = {}

        async def read(part: Sequence[Subject]) -> None:
            replies = await self._ask([("HLEN", outbox_key(subject)) for subject in part])
            lengths.update(zip(part, replies, strict=True))

        await in_parts(subjects, read)
        return [subject for subject in subjects if lengths[subject]]

    async def behind(self, subjects: Sequence[Subject], *, places: Collection[str], hour: int) -> list[Subject]:
        if self._exchanges is None:
            # On a cluster the subjects' hashes are on many nodes.
            return [
                head.subject
                for head in await self.heads(subjects)
                if is_owned(head, places) and (head.published_hour < hour or head.is_outdated)
            ]
        found: list[Subject] = []
        # The first one decides about subjects that were only trained.
        asked = (hour_text(hour), *sorted(places))

        async def read(part: Sequence[Subject]) -> None:
            (numbers,) = await self._scripts.run([(FIND_BEHIND, len(part), *map(subject_key, part), *asked)])
            found.extend(part[number] for number in numbers)

        await in_parts(subjects, read)
        return found

    async def subjects(self, *, after: str = "", limit: int = 1000, prefix: str = "") -> list[Subject]:
        start = f"({after}" if after and after >= prefix else f"[{prefix}" if prefix else "-"
        end = b"(" + prefix.encode() + b"\xff" if prefix else b"+"
        (members,) = await self._pipeline([("ZRANGE", SUBJECTS, start, end, "BYLEX", "LIMIT", 0, limit)])
        return [Subject.parse(member.decode()) for member in members]

    async def count_subjects(self, *, prefix: str = "") -> int:
        start, end = ("-", "+") if not prefix else (f"[{prefix}", b"(" + prefix.encode() + b"\xff")
        (count,) = await self._pipeline([("ZLEXCOUNT", SUBJECTS, start, end)])
        return int(count)

    async def answers(self, subjects: Sequence[Subject]) -> dict[Subject, dict[str, dict[str, str]]]:
        return await self._answers.read(subjects, await self._slugs(subjects))

    async def as_stored(self, subjects: Sequence[Subject]) -> StoredTexts:
        slugs = {subject: sorted(some) for subject, some in (await self._slugs(subjects)).items()}
        return await self._answers.as_stored(subjects, slugs)

    async def lately(self, subjects: Sequence[Subject]) -> dict[Subject, Lately]:
        return await self._answers.lately(subjects)

    async def glance(self, subject: Subject, slug: str) -> AsStored:
        return await self._answers.glance(subject, slug)

    async def alerts(self, subjects: Sequence[Subject]) -> dict[Subject, dict[str, Alert]]:
        found: dict[Subject, dict[str, Alert]] = {}

        async def read(part: Sequence[Subject]) -> None:
            replies = await self._pipeline([("HGET", subject_key(subject), "alerts") for subject in part])
            for subject, reply in zip(part, replies, strict=True):
                if reply:
                    found[subject] = decode_alerts(subject, reply)

        await in_parts(subjects, read)
        return found

    async def surveys(self, subjects: Sequence[Subject]) -> dict[Subject, Survey]:
        found: dict[Subject, Survey] = {}
        slugs = await self._slugs(subjects)

        async def read(part: Sequence[Subject]) -> None:
            commands = [command for subject in part for command in survey_commands(subject, slugs[subject])]
            replies = iter(await self._ask(commands))
            for subject in part:
                one = survey_of(subject, slugs[subject], list(islice(replies, 1 + len(slugs[subject]))))
                if one is not None:
                    found[subject] = one

        await in_parts(subjects, read)
        return found

    async def tallies(self, subjects: Sequence[Subject]) -> dict[Subject, Tally]:
        found: dict[Subject, Tally] = {}
        slugs = await self._slugs(subjects)

        async def read(part: Sequence[Subject]) -> None:
            commands = [command for subject in part for command in tally_commands(subject, slugs[subject])]
            replies = iter(await self._ask(commands))
            for subject in part:
                one = tally_of(list(islice(replies, 2 + len(slugs[subject]))))
                if one is not None:
                    found[subject] = one

        await in_parts(subjects, read)
        return found

    async def outbox(self, subjects: Sequence[Subject]) -> dict[Subject, dict[int, Window]]:
        found = await self.learned_hours(subjects)
        return {subject: {hour: one.window for hour, one in hours.items()} for subject, hours in found.items()}

    async def learned_hours(self, subjects: Sequence[Subject]) -> dict[Subject, dict[int, LearnedHour]]:
        return await self._outboxes.learned_hours(subjects)

    async def relayed(self, hours: Mapping[Subject, Sequence[int]]) -> None:
        await self._outboxes.relayed(hours)

    async def alert_history(self, subjects: Sequence[Subject]) -> dict[Subject, dict[str, Transition]]:
        return await self._outboxes.alert_history(subjects)

    async def alert_history_kept(self, names: Mapping[Subject, Iterable[str]]) -> None:
        await self._outboxes.alert_history_kept(names)

    async def announcements(self, subjects: Sequence[Subject]) -> dict[Subject, Announcements]:
        return await self._outboxes.announcements(subjects)

    async def announced(self, told: Mapping[Subject, Announcements]) -> None:
        await self._outboxes.announced(told)

    async def advance_clock(self, ms: int) -> int:
        (shown,) = await self._scripts.run([(ADVANCE_CLOCK, 1, CLOCK, ms, iso(ms))])
        return int(shown)

    async def clock(self) -> int:
        (shown,) = await self._pipeline([("HGET", CLOCK, "ms")])
        return -1 if shown is None else int(shown)

    async def progress(self) -> dict[str, Reached]:
        return await redis_progress.read(self._client)

    async def advance_progress(self, known: Mapping[str, int], reached: Mapping[str, Reached]) -> dict[str, int]:
        # From the first time on: who never asks, as the API, has nothing to remember.
        self._remembers = self._exchanges is not None
        written, self._written = self._written, {}
        try:
            return await redis_progress.advance(self._client, known, reached, written)
        except BaseException:
            self._written = written | self._written
            raise

    async def log_lives(self) -> dict[str, LogLife]:
        return await redis_progress.lives(self._client)

    async def note_recreated(self, topic: str, *, now_ms: int) -> None:
        await redis_progress.note_recreated(self._client, topic, now_ms=now_ms)

    async def renew_log(self, topic: str, *, now_ms: int) -> int:
        return await redis_progress.renew(self._client, topic, now_ms=now_ms)

    async def claim_cohorts(self, *, now_ms: int, due_ms: int) -> bool:
        return await redis_cohorts.claim(self._client, now_ms=now_ms, due_ms=due_ms)

    async def keep_cohorts(self, cohorts: Iterable[Cohort], *, now_ms: int, due_ms: int) -> None:
        fields = encode_cohorts(cohorts, coverage=self._policy.coverage, now_ms=now_ms, due_ms=due_ms)
        await redis_cohorts.replace(self._client, fields)

    async def cohorts(self) -> list[Cohort]:
        return decode_cohorts(await redis_cohorts.read(self._client))

    async def ping(self) -> None:
        await self._pipeline([("PING",)])

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        return await (self._pipeline(commands) if self._exchanges is None else self._exchanges.ask(commands))

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


def _read_call(keys: Sequence[str]) -> Command:
    return (READ_HASHES, len(keys), *keys)


def _write_call(write: Write) -> Command:
    keys, flats = zip(*write.hashes, strict=True)
    return (
        WRITE_SUBJECT,
        len(keys),
        *keys,
        write.expected_rev,
        len(write.removed),
        len(write.series),
        *write.removed,
        *map(len, flats),
        *(each for flat in flats for each in flat),
    )
