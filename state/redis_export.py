"""Whole subjects out of Redis and into it, as the hashes that they are; each read at one moment, written in one step.

What belongs to no subject goes with them: the clock and the cohorts, which answers are made of, the rules, the lives of
the topics, and which dead letters were sent back. What targets of notifications were told does not: they are told again
of the alerts that are open.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final

from redis.asyncio import Redis

from detection.errors import ConflictError
from detection.subject import Subject
from state.codec import slugs_of
from state.export import MODELS, OUTBOX, OWN, Fields, Parts, keys_of
from state.keys import CLOCK, COHORTS, LOG, PROGRESS, REPLAYED, RULES, SUBJECTS, subject_key
from state.redis_pipeline import (
    LIST_SUBJECTS,
    READ_HASHES,
    REPLACE_HASH,
    Command,
    Scripts,
    in_parts,
    redis_errors,
    run_pipeline,
)
from state.redis_progress import encode_progress
from state.store import Reached

RESTORE_SUBJECT: Final = "restore_subject.lua"
FINGERPRINT: Final = "fingerprint.lua"

# By the names they have in a file. The clock is moved on instead of replaced.
SHARED: Final = {"clock": CLOCK, "cohorts": COHORTS, "rules": RULES, "log": LOG, "replayed": REPLAYED}

_READ_ATTEMPTS: Final = 5
_FINGERPRINT_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Restore:
    """A subject to be written as these parts, if its stored revision is still `expected_rev` (0: not stored)."""

    subject: Subject
    parts: Parts
    stored: Parts
    expected_rev: int


class RedisExport:
    """Subjects as their hashes; DependencyError when Redis does not answer."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._scripts = Scripts(client)

    async def count(self) -> int:
        """How many subjects are listed."""
        (found,) = await self._ask([("ZCARD", SUBJECTS)])
        return int(found)

    async def read(self, subjects: Sequence[Subject]) -> dict[Subject, Parts]:
        """The hashes of those that are stored."""
        found: dict[Subject, Parts] = {}
        remaining = list(subjects)
        for _ in range(_READ_ATTEMPTS):
            remaining = await self._read(remaining, found)
            if not remaining:
                return {subject: found[subject] for subject in subjects if subject in found}
        raise ConflictError(f"{remaining[0]}: new metrics appeared at each of {_READ_ATTEMPTS} readings")

    async def _read(self, subjects: Sequence[Subject], found: dict[Subject, Parts]) -> list[Subject]:
        """Returns those that had got a new series between the two looks at them."""
        metrics = await self._ask([("HGET", subject_key(one), "metrics") for one in subjects])
        names = {one: _parts_of(one, reply) for one, reply in zip(subjects, metrics, strict=True)}
        grown: list[Subject] = []

        async def read(some: Sequence[Subject]) -> None:
            calls = [(READ_HASHES, len(names[one]), *keys_of(one, names[one])) for one in some]
            for one, replies in zip(some, await self._scripts.run(calls), strict=True):
                hashes = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in replies]
                parts = {part: fields for part, fields in zip(names[one], hashes, strict=True) if fields}
                if OWN not in parts:
                    continue
                if set(_parts_of(one, parts[OWN].get(b"metrics"))) <= set(names[one]):
                    found[one] = parts
                else:
                    grown.append(one)

        await in_parts(list(subjects), read)
        return grown

    async def fingerprints(self, subjects: Sequence[Subject]) -> dict[Subject, str]:
        """What `fingerprint` says of each that is stored, worked out by the server: no hash is read."""
        metrics = await self._ask([("HGET", subject_key(one), "metrics") for one in subjects])
        names = {one: _parts_of(one, reply) for one, reply in zip(subjects, metrics, strict=True) if reply is not None}
        found: dict[Subject, str] = {}

        async def read(some: Sequence[Subject]) -> None:
            keys = {one: keys_of(one, [part for part in names[one] if part != MODELS]) for one in some}
            replies = await self._scripts.run([(FINGERPRINT, len(keys[one]), *keys[one]) for one in some])
            found.update({one: reply.decode() for one, reply in zip(some, replies, strict=True)})

        await in_parts(list(names), read)
        return found

    async def restore(self, restores: Sequence[Restore]) -> list[Subject]:
        """Write these subjects, listed before; those that somebody wrote meanwhile are left alone and come back."""
        refused: list[Subject] = []

        async def write(some: Sequence[Restore]) -> None:
            await self._scripts.run([(LIST_SUBJECTS, 1, SUBJECTS, *(str(one.subject) for one in some))])
            for one, written in zip(some, await self._scripts.run([_restore_call(one) for one in some]), strict=True):
                if not written:
                    refused.append(one.subject)

        await in_parts(restores, write)
        return refused

    async def shared(self) -> dict[str, Fields]:
        """The hashes that belong to no subject, without those that are empty."""
        replies = await self._ask([("HGETALL", key) for key in SHARED.values()])
        return {name: fields for name, fields in zip(SHARED, map(_hash, replies), strict=True) if fields}

    async def restore_shared(self, name: str, fields: Mapping[bytes, bytes]) -> None:
        """The hash becomes these fields, in one step."""
        flat = (each for pair in fields.items() for each in pair)
        await self._scripts.run([(REPLACE_HASH, 1, SHARED[name], *flat)])

    async def set_progress(self, progress: Mapping[str, Reached]) -> None:
        """These sources are this far, even where that is back: workers then read from there again."""
        fields = encode_progress(progress)
        if fields:
            await self._ask([("HSET", PROGRESS, *(each for pair in fields.items() for each in pair))])

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        replies = await run_pipeline(self._client, commands)
        with redis_errors():
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return replies


def fingerprint(subject: Subject, parts: Parts) -> str:
    """A short hash of all hashes of a subject but the models: another one says that somebody wrote it.

    A write of models counts the revision on, and changes what is published by them. The same content in another order
    may have another fingerprint.
    """
    names = [part for part in _parts_of(subject, parts[OWN].get(b"metrics")) if part != MODELS]
    flats = [[each for pair in parts.get(part, {}).items() for each in pair] for part in names]
    lengths = ";".join(",".join(str(len(each)) for each in flat) for flat in flats)
    content = b"".join(each for flat in flats for each in flat)
    return sha1(lengths.encode() + b"|" + content, usedforsecurity=False).hexdigest()[:_FINGERPRINT_DIGITS]


def _parts_of(subject: Subject, metrics: bytes | None) -> list[str]:
    return [MODELS, OUTBOX, *slugs_of(subject, metrics), OWN]


def _restore_call(restore: Restore) -> Command:
    names = {*restore.parts, *restore.stored} - {OWN}
    ordered = [*sorted(names), OWN]
    flats = [_flat(restore.parts.get(part, {})) for part in ordered]
    return (
        RESTORE_SUBJECT,
        len(ordered),
        *keys_of(restore.subject, ordered),
        restore.expected_rev,
        *map(len, flats),
        *(each for flat in flats for each in flat),
    )


def _flat(fields: Mapping[bytes, bytes]) -> list[bytes]:
    """The revision last: until it is set, the write has not happened."""
    ordered: Iterable[bytes] = sorted(fields, key=lambda name: (name == b"rev", name))
    return [each for name in ordered for each in (name, fields[name])]


def _hash(reply: Any) -> Fields:
    return dict(reply) if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
