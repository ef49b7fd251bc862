"""Label sets by number: few to a subject, many events to each.

A subject has at most so many label sets (a request id that is sent as a label would otherwise make a window of each
event): what is more than that is counted as one set, `OTHER`, by its windows and its raw rows alike.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from psycopg import AsyncConnection

from state.database import Database
from state.json_text import json_text

NONE: Final = 0
OTHER: Final = 1

# Label sets that are remembered, about 200 bytes each; all are forgotten when there are more.
_REMEMBERED: Final = 200_000

# Whoever numbers a label set holds this lock, so that nobody waits for the same ones in another order.
_LOCK: Final = int.from_bytes(b"labelset", "big")

_READ: Final = """
select subject, id, labels from subject_label_sets join label_sets on id = label_set where subject = any(%s)
"""
_INSERT: Final = (
    "insert into label_sets (labels) select one::jsonb from unnest(%s::text[]) as one on conflict do nothing"
)
_FIND: Final = "select one, id from unnest(%s::text[]) as one join label_sets on labels = one::jsonb"
_ASSIGN: Final = """
insert into subject_label_sets (subject, label_set) select * from unnest(%s::text[], %s::bigint[])
on conflict do nothing
"""

# A subject's text and the key of a label set.
Pair = tuple[str, bytes]


EMPTY: Final = json_text({})
_OTHER_KEY: Final = b""


class LabelSets:
    """The numbers of label sets, at most `most` to a subject beside the empty one; remembers them."""

    def __init__(self, database: Database, *, most: int) -> None:
        self._database = database
        self._most = most
        self._known: dict[str, dict[bytes, int]] = {}
        self._remembered = 0

    async def ids(self, pairs: Iterable[Pair]) -> dict[Pair, int]:
        """The number of each pair's label set, `OTHER` where its subject has too many; DependencyError."""
        if self._remembered > _REMEMBERED:
            self._known, self._remembered = {}, 0
        wanted: dict[str, set[bytes]] = {}
        for subject, key in pairs:
            wanted.setdefault(subject, set()).add(key)
        new = {subject: keys for subject, keys in wanted.items() if self._is_news(subject, keys)}
        if new:
            await self._learn(new)
        return {
            (subject, key): self._known[subject].get(key, OTHER) for subject, keys in wanted.items() for key in keys
        }

    def _is_news(self, subject: str, keys: set[bytes]) -> bool:
        known = self._known.get(subject)
        if known is None:
            return True
        unknown = keys - known.keys()
        return bool(unknown) and (EMPTY in unknown or _OTHER_KEY not in known)

    async def _learn(self, wanted: Mapping[str, set[bytes]]) -> None:
        found: dict[str, dict[bytes, int]] = {subject: {} for subject in wanted}
        async with self._database.transaction() as connection:
            await connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK,))
            cursor = await connection.execute(_READ, (list(wanted),))
            for subject, number, labels in await cursor.fetchall():
                found[subject][_OTHER_KEY if labels is None else json_text(labels)] = number
            new: list[Pair] = []
            for subject, keys in wanted.items():
                room = self._most - len(found[subject].keys() - {EMPTY, _OTHER_KEY})
                # The empty one is the first of them, and needs no room.
                unknown = sorted(keys - found[subject].keys(), key=lambda key: (key != EMPTY, key))
                fitting = unknown[: max(room, 0) + (EMPTY in unknown)]
                new += [(subject, key) for key in fitting]
                if len(fitting) < len(unknown):
                    new.append((subject, _OTHER_KEY))
            numbers = await self._number(connection, {key for _, key in new if key != _OTHER_KEY})
            numbers[_OTHER_KEY] = OTHER
            await connection.execute(_ASSIGN, ([subject for subject, _ in new], [numbers[key] for _, key in new]))
        for subject, key in new:
            found[subject][key] = numbers[key]
        self._known |= found
        self._remembered += sum(map(len, found.values()))

    async def _number(self, connection: AsyncConnection, keys: set[bytes]) -> dict[bytes, int]:
        texts = [key.decode() for key in sorted(keys)]
        await connection.execute(_INSERT, (texts,))
        cursor = await connection.execute(_FIND, (texts,))
        return {text.encode(): number for text, number in await cursor.fetchall()}
