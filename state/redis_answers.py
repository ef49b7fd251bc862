"""What is published of subjects, read from Redis without loading them: by name, as stored, or a single series."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from detection.kernel.reply_text import ABSENT, TEXT, UNUSUAL
from detection.subject import Subject
from state.as_stored import NO_MINUTES, AsStored, StoredTexts
from state.keys import series_key, series_keys, subject_key
from state.readable_series import answer_fields, held, is_older
from state.redis_exchange import Exchanges
from state.redis_glances import Glances
from state.redis_pipeline import READ_ANSWERS, Command, Scripts, in_parts
from state.replies import Fields, Joined
from state.series_fields import ANSWER_FIELDS, SERIES_SCHEMA, STORED, STORED_FIELDS
from state.survey import Lately
from state.survey_codec import read_lately

_FIELDS: Final = Fields(STORED, b"%d" % SERIES_SCHEMA)
_LINE_FEEDS: Final = len(STORED_FIELDS) - 1

Ask = Callable[[Sequence[Command]], Awaitable[list[Any]]]


class Answers:
    """Readings for `state.redis_store`, through its connections; `slugs` are the series of each subject.

    Exchanges are with one server. On a cluster, whose client costs more for a command than anything else does, a script
    reads each subject.
    """

    def __init__(self, ask: Ask, scripts: Scripts, exchanges: Exchanges | None, glances: Glances) -> None:
        self._ask = ask
        self._scripts = scripts
        self._exchanges = exchanges
        self._glances = glances

    async def read(
        self, subjects: Sequence[Subject], slugs: Mapping[Subject, Sequence[str]]
    ) -> dict[Subject, dict[str, dict[str, str]]]:
        """The readable fields of every series, by metric slug."""
        found: dict[Subject, dict[str, dict[str, str]]] = {}

        async def read(part: Sequence[Subject]) -> None:
            asked = [(subject, slug) for subject in part for slug in slugs[subject]]
            found_of_each = await self._values([series_key(*one) for one in asked])
            for (subject, slug), values in zip(asked, found_of_each, strict=True):
                fields = answer_fields(values)
                if fields is not None:
                    found.setdefault(subject, {})[slug] = fields

        await in_parts(subjects, read)
        return found

    async def as_stored(self, subjects: Sequence[Subject], slugs: Mapping[Subject, Sequence[str]]) -> StoredTexts:
        """A few hundred subjects at a time: it is one question."""
        if self._exchanges is None:
            return StoredTexts.of(await self._by_script(subjects, slugs))
        found = await self._texts(self._exchanges, subjects, slugs)
        if found is None:
            return StoredTexts.of(await self._by_field(subjects, slugs))
        if not found.others:
            return found
        others = await self._by_field([subjects[i] for i in found.others], slugs)
        return replace(found, others=dict(zip(found.others, others, strict=True)))

    @staticmethod
    async def _texts(
        exchanges: Exchanges, subjects: Sequence[Subject], slugs: Mapping[Subject, Sequence[str]]
    ) -> StoredTexts | None:
        """What is one text each, and in `others` which subjects have something else; None where that is not known."""
        commands: list[Command] = []
        for subject in subjects:
            commands.append(("HGET", subject_key(subject), "minutes"))
            commands += [("HGETALL", key) for key in series_keys(subject, slugs[subject])]
        replies = await exchanges.ask_unparsed(commands)
        return None if replies is None else _stored_texts(subjects, slugs, replies.joined(_FIELDS))

    async def _by_script(self, subjects: Sequence[Subject], slugs: Mapping[Subject, Sequence[str]]) -> list[AsStored]:
        found: dict[Subject, AsStored] = {}

        async def read(part: Sequence[Subject]) -> None:
            keys = [(subject_key(one), *series_keys(one, slugs[one])) for one in part]
            calls = [(READ_ANSWERS, len(own), *own, SERIES_SCHEMA, *STORED_FIELDS) for own in keys]
            for subject, (minutes, *texts) in zip(part, await self._scripts.run(calls), strict=True):
                series = [pair for pair in zip(slugs[subject], texts, strict=True) if pair[1] != b""]
                # None where it is not all there is; more line feeds where somebody has written one into a field.
                if all(text is not None and text.count(b"\n") == _LINE_FEEDS for _, text in series):
                    found[subject] = AsStored(subject, series, minutes)

        await in_parts(subjects, read)
        others = [subject for subject in subjects if subject not in found]
        found.update(zip(others, await self._by_field(others, slugs), strict=True))
        return [found[subject] for subject in subjects]

    async def _by_field(self, subjects: Sequence[Subject], slugs: Mapping[Subject, Sequence[str]]) -> list[AsStored]:
        found: dict[Subject, AsStored] = {}

        async def read(part: Sequence[Subject]) -> None:
            minutes = await self._ask([("HGET", subject_key(subject), "minutes") for subject in part])
            values = iter(await self._values([key for one in part for key in series_keys(one, slugs[one])]))
            for subject, own in zip(part, minutes, strict=True):
                pairs = [(slug, next(values)) for slug in slugs[subject]]
                series = [(slug, held(one)) for slug, one in pairs if one[0] is not None]
                found[subject] = AsStored(subject, series, own)

        await in_parts(subjects, read)
        return [found[subject] for subject in subjects]

    async def lately(self, subjects: Sequence[Subject]) -> dict[Subject, Lately]:
        """The last minutes, in sum, of those of the subjects that have any."""
        found: dict[Subject, Lately] = {}

        async def read(part: Sequence[Subject]) -> None:
            replies = await self._ask([("HGET", subject_key(subject), "minutes") for subject in part])
            for subject, reply in zip(part, replies, strict=True):
                one = read_lately(subject, reply)
                if one is not None:
                    found[subject] = one

        await in_parts(subjects, read)
        return found

    async def glance(self, subject: Subject, slug: str) -> AsStored:
        """One series, if there is one, and its subject's last minutes."""
        key = series_key(subject, slug)
        values, minutes = await self._glances.read(
            [("HMGET", key, *STORED_FIELDS), ("HGET", subject_key(subject), "minutes")]
        )
        if is_older(values):
            (values,) = await self._glances.read([("HMGET", key, *ANSWER_FIELDS)])
        return AsStored(subject, [] if values[0] is None else [(slug, held(values))], minutes)

    async def _values(self, keys: Sequence[str]) -> list[Sequence[bytes | None]]:
        """What `answer_fields` needs of each of these series; older versions are asked a second time."""
        found: list[Sequence[bytes | None]] = await self._ask([("HMGET", key, *STORED_FIELDS) for key in keys])
        older = [at for at, values in enumerate(found) if is_older(values)]
        replies = await self._ask([("HMGET", keys[at], *ANSWER_FIELDS) for at in older])
        for at, values in zip(older, replies, strict=True):
            found[at] = values
        return found


def _stored_texts(subjects: Sequence[Subject], slugs: Mapping[Subject, Sequence[str]], joined: Joined) -> StoredTexts:
    """Each subject's minutes are followed by its series."""
    count = np.array([len(slugs[subject]) for subject in subjects], np.int64)
    owner = np.repeat(np.arange(len(subjects)), count)
    place = np.arange(len(owner)) + owner + 1
    minutes = np.cumsum(count + 1) - count - 1
    some = [slug for subject in subjects for slug in slugs[subject]]
    kind = joined.kind[place]
    others = np.unique(owner[kind == UNUSUAL])
    is_text = (kind == TEXT) & ~np.isin(owner, others)
    if not is_text.all():
        owner, place = owner[is_text], place[is_text]
        some = [slug for slug, is_one in zip(some, is_text.tolist(), strict=True) if is_one]
    return StoredTexts(
        subjects=subjects,
        slugs=some,
        owner=owner,
        first=np.searchsorted(owner, np.arange(len(subjects) + 1)),
        octets=joined.octets,
        begin=joined.end[place],
        end=joined.end[place + 1],
        minutes_begin=np.where(joined.kind[minutes] == ABSENT, NO_MINUTES, joined.end[minutes]),
        minutes_end=joined.end[minutes + 1],
        others={i: AsStored(subjects[i], (), None) for i in others.tolist()},
    )
