"""What is published of subjects, read from Redis without loading them: by name, as stored, or a single series."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, cast

from detection.subject import Subject
from state.as_stored import AsStored
from state.keys import series_key, series_keys, subject_key
from state.readable_series import answer_fields, held, is_older
from state.redis_glances import Glances
from state.redis_pipeline import READ_ANSWERS, Command, Scripts, in_parts
from state.series_fields import ANSWER_FIELDS, SERIES_SCHEMA, STORED_FIELDS
from state.survey import Lately
from state.survey_codec import read_lately

# How many are read by one call of the script: for about half a millisecond the server does nothing else.
_SUBJECTS_A_CALL: Final = 10

_LINE_FEEDS: Final = len(STORED_FIELDS) - 1

Ask = Callable[[Sequence[Command]], Awaitable[list[Any]]]


class Answers:
    """Readings for `state.redis_store`, through its connections; `slugs` are the series of each subject."""

    def __init__(self, ask: Ask, scripts: Scripts, glances: Glances, *, is_single: bool) -> None:
        self._ask = ask
        self._scripts = scripts
        self._glances = glances
        # On a cluster the subjects of one call would be on many nodes.
        self._subjects_a_call = _SUBJECTS_A_CALL if is_single else 1

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

    async def as_stored(self, subjects: Sequence[Subject], slugs: Mapping[Subject, Sequence[str]]) -> list[AsStored]:
        """Those of the subjects that have a series, in their order."""
        found: dict[Subject, AsStored] = {}

        async def read(part: Sequence[Subject]) -> None:
            texts = iter(await self._texts([(subject_key(one), *series_keys(one, slugs[one])) for one in part]))
            unusual: list[tuple[Subject, bytes | None]] = []
            for subject in part:
                minutes = next(texts)
                each = slugs[subject]
                own = list(islice(texts, len(each)))
                if None in own:
                    unusual.append((subject, minutes))
                    continue
                series = [pair for pair in zip(each, cast("list[bytes]", own), strict=True) if pair[1]]
                if all(text.count(b"\n") == _LINE_FEEDS for _, text in series):
                    found[subject] = AsStored(subject, series, minutes)
                else:  # somebody has written a line feed into one
                    unusual.append((subject, minutes))
            for subject, minutes in unusual:
                values = await self._values(series_keys(subject, slugs[subject]))
                pairs = zip(slugs[subject], values, strict=True)
                some = [(slug, held(one)) for slug, one in pairs if one[0] is not None]
                found[subject] = AsStored(subject, some, minutes)

        await in_parts(subjects, read)
        return [found[subject] for subject in subjects if subject in found and found[subject].series]

    async def _texts(self, keys: Sequence[Sequence[str]]) -> list[bytes | None]:
        """What the script says of each key, in their order; those of a subject stand together."""
        at_once = self._subjects_a_call
        parts = (keys[start : start + at_once] for start in range(0, len(keys), at_once))
        groups = [[key for own in part for key in own] for part in parts]
        asked = (SERIES_SCHEMA, *STORED_FIELDS)
        replies = await self._scripts.run([(READ_ANSWERS, len(group), *group, *asked) for group in groups])
        return [text for reply in replies for text in reply]

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
