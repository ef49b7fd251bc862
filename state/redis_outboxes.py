"""What waits in the subjects' outboxes: read for those who are to be told, and taken out when they were."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from detection.rules.alert import Transition
from detection.subject import Subject
from state.keys import outbox_key
from state.outbox_codec import PUBLISHED, decode_alert_history, decode_announcements, decode_outbox, outbox_fields
from state.redis_pipeline import FORGET_PUBLISHED, READ_HASHES, Command, Scripts, in_parts
from state.replies import fields_of, pairs_of
from state.store import Announcements, LearnedHour

Ask = Callable[[Sequence[Command]], Awaitable[list[Any]]]


class Outboxes:
    """For `state.redis_store`, through its connections: `ask` to read, `tell` to write. As `state.store.StateStore`."""

    def __init__(self, ask: Ask, tell: Ask, scripts: Scripts) -> None:
        self._ask = ask
        self._tell = tell
        self._scripts = scripts

    async def learned_hours(self, subjects: Sequence[Subject]) -> dict[Subject, dict[int, LearnedHour]]:
        found: dict[Subject, dict[int, LearnedHour]] = {}

        async def read(part: Sequence[Subject]) -> None:
            replies = await self._scripts.run([(READ_HASHES, 1, outbox_key(subject)) for subject in part])
            for subject, (reply,) in zip(part, replies, strict=True):
                hours = decode_outbox(subject, pairs_of(reply))
                if hours:
                    found[subject] = hours

        await in_parts(subjects, read)
        return found

    async def relayed(self, hours: Mapping[Subject, Sequence[int]]) -> None:
        async def delete(part: Sequence[Subject]) -> None:
            await self._tell(
                [("HDEL", outbox_key(subject), *outbox_fields(hours[subject])) for subject in part if hours[subject]]
            )

        await in_parts(list(hours), delete)

    async def alert_history(self, subjects: Sequence[Subject]) -> dict[Subject, dict[str, Transition]]:
        read = {subject: decode_alert_history(subject, fields) async for subject, fields in self._read(subjects)}
        return {subject: found for subject, found in read.items() if found}

    async def alert_history_kept(self, names: Mapping[Subject, Iterable[str]]) -> None:
        async def delete(part: Sequence[Subject]) -> None:
            await self._tell([("HDEL", outbox_key(subject), *names[subject]) for subject in part])

        await in_parts([subject for subject in names if names[subject]], delete)

    async def announcements(self, subjects: Sequence[Subject]) -> dict[Subject, Announcements]:
        read = {subject: decode_announcements(subject, fields) async for subject, fields in self._read(subjects)}
        return {subject: found for subject, found in read.items() if found is not None}

    async def _read(self, subjects: Sequence[Subject]) -> AsyncIterator[tuple[Subject, Mapping[bytes, bytes]]]:
        """Those that are not empty."""
        found: list[tuple[Subject, Mapping[bytes, bytes]]] = []

        async def read(part: Sequence[Subject]) -> None:
            replies = await self._ask([("HGETALL", outbox_key(subject)) for subject in part])
            found.extend((subject, fields_of(reply)) for subject, reply in zip(part, replies, strict=True) if reply)

        await in_parts(subjects, read)
        for one in found:
            yield one

    async def announced(self, told: Mapping[Subject, Announcements]) -> None:
        async def delete(part: Sequence[Subject]) -> None:
            with_alerts = [subject for subject in part if told[subject].alerts]
            await self._tell([("HDEL", outbox_key(subject), *told[subject].alerts) for subject in with_alerts])
            published = [(subject, told[subject].published) for subject in part if told[subject].published]
            await self._scripts.run([(FORGET_PUBLISHED, 1, outbox_key(one), PUBLISHED, rev) for one, rev in published])

        await in_parts(list(told), delete)
