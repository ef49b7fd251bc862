"""Replies of the store's server as they come in, and the texts in them: no Python object is made for a field."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from detection.kernel.reply_text import Octets, Whole, find_replies, join_values
from detection.kernel.subject_text import FIELDS, NUMBERS, TEXTS, read_subjects

_OTHER: Final = -1


class Fields:
    """The fields that a hash must have to be one text, in their order, and the version that the first of them says."""

    def __init__(self, names: Sequence[bytes], version: bytes) -> None:
        self.names = np.frombuffer(b"".join(names), np.uint8)
        self.name_end = np.cumsum([0, *map(len, names)], dtype=np.int64)
        self.version = np.frombuffer(version, np.uint8)


class Joined(NamedTuple):
    """A text of each of N replies: of a string what it says, of a hash its values, a line each.

    Text i is in `octets` from `end[i]` to `end[i + 1]`. Its `kind` is ABSENT, TEXT, or UNUSUAL for a hash with other
    fields or with a line feed in a value; only a TEXT is not empty.
    """

    octets: Octets
    end: Whole
    kind: Whole


class Hashes(NamedTuple):
    """What is in each of N replies that are subjects' own hashes, as `detection.kernel.subject_text` reads them.

    Reply i is from `end[i]` to `end[i + 1]`. Where its `kind` is TEXT, its NUMBERS are in `numbers`, and `text_at` has
    where each of its TEXTS begins and ends.
    """

    end: list[int]
    kind: list[int]
    numbers: list[list[int]]
    text_at: list[list[list[int]]]


class Replies:
    """So many replies, of which some have come in."""

    def __init__(self, count: int) -> None:
        self.octets = bytearray()
        self._end = np.zeros(count + 1, np.int64)
        self._found = 0

    @property
    def are_usual(self) -> bool:
        """Whether what has come in are strings, hashes of strings and nothing else."""
        return self._found != _OTHER

    @property
    def has_more(self) -> bool:
        """Whether something has come in behind the last of them."""
        return len(self.octets) > int(self._end[-1])

    @property
    def are_whole(self) -> bool:
        """Whether all of them have come in."""
        return self._found == len(self._end) - 1

    def take(self, octets: bytes) -> None:
        """What has come in next."""
        self.octets += octets
        self._found = find_replies(np.frombuffer(self.octets, np.uint8), self._end, self._found)

    def joined(self, fields: Fields) -> Joined:
        """Of all replies, once they are whole and usual."""
        count = len(self._end) - 1
        found = Joined(np.empty(len(self.octets), np.uint8), np.empty(count + 1, np.int64), np.empty(count, np.int64))
        join_values(
            np.frombuffer(self.octets, np.uint8), self._end, fields.names, fields.name_end, fields.version, *found
        )
        return found

    def subjects(self, schema: bytes) -> Hashes:
        """Of all replies, once they are whole and usual; those of that version alone are read."""
        count = len(self._end) - 1
        kind, field_at = np.empty(count, np.int64), np.empty(2 * FIELDS, np.int64)
        numbers, text_at = np.empty((count, NUMBERS), np.int64), np.empty((count, TEXTS, 2), np.int64)
        read_subjects(
            np.frombuffer(self.octets, np.uint8),
            self._end,
            np.frombuffer(schema, np.uint8),
            numbers.ravel(),
            text_at.ravel(),
            kind,
            field_at,
        )
        return Hashes(self._end.tolist(), kind.tolist(), numbers.tolist(), text_at.tolist())


def fields_of(reply: Any) -> Mapping[bytes, bytes]:
    """The hash that HGETALL answered, in whichever version of the protocol."""
    return reply if isinstance(reply, dict) else pairs_of(reply)


def pairs_of(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """A hash that came as names and values by turns."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
