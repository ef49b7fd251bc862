"""A subject's published series as the store has them, undecoded: for whoever hands on hundreds of thousands of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from detection.subject import Subject

# What is stored of a series. Of this version the values of STORED_FIELDS in one text, a line each; where that is not
# all of it, a list of those of ANSWER_FIELDS.
Held = bytes | Sequence[bytes | None]

Octets = NDArray[np.uint8]
Whole = NDArray[np.int64]

# Where the minutes of a subject begin that has none.
NO_MINUTES = -1


class AsStored(NamedTuple):
    """`series` are slugs, in their order, with what is held of them; `minutes` is the text of the last ones."""

    subject: Subject
    series: Sequence[tuple[str, Held]]
    minutes: bytes | None


@dataclass(frozen=True, slots=True)
class StoredTexts:
    """What is stored of many subjects, all texts in one array, so that it can be worked on at once.

    Series j is `slugs[j]` of `subjects[owner[j]]`, in their order; its text is from `begin[j]` to `end[j]` of `octets`.
    Those of subject i are the ones from `first[i]` to `first[i + 1]`, and its minutes are from `minutes_begin[i]` to
    `minutes_end[i]`, with NO_MINUTES as their beginning where there are none. A subject of which something is no text
    has no series here, but is whole in `others`, by its place.
    """

    subjects: Sequence[Subject]
    slugs: Sequence[str]
    owner: Whole
    first: Whole
    octets: Octets
    begin: Whole
    end: Whole
    minutes_begin: Whole
    minutes_end: Whole
    others: Mapping[int, AsStored] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Sequence[AsStored]) -> Self:
        """The same of subjects that were read one by one."""
        others = {i: one for i, one in enumerate(found) if not all(isinstance(held, bytes) for _, held in one.series)}
        series = [
            (i, slug, held)
            for i, one in enumerate(found)
            if i not in others
            for slug, held in one.series
            if isinstance(held, bytes)
        ]
        texts = [held for *_, held in series] + [one.minutes or b"" for one in found]
        end = np.cumsum([len(text) for text in texts], dtype=np.int64)
        begin = end - np.array([len(text) for text in texts], np.int64)
        owner = np.array([i for i, *_ in series], np.int64)
        count = len(series)
        minutes_begin = np.where([one.minutes is None for one in found], NO_MINUTES, begin[count:])
        return cls(
            subjects=[one.subject for one in found],
            slugs=[slug for _, slug, _ in series],
            owner=owner,
            first=np.searchsorted(owner, np.arange(len(found) + 1)),
            octets=np.frombuffer(bytearray(b"".join(texts)), np.uint8),
            begin=begin[:count],
            end=end[:count],
            minutes_begin=minutes_begin.astype(np.int64),
            minutes_end=end[count:],
            others=others,
        )

    def one(self, i: int) -> AsStored:
        """What is stored of subject i."""
        if i in self.others:
            return self.others[i]
        series = [(self.slugs[j], self.text(j)) for j in range(self.first[i], self.first[i + 1])]
        begin, end = self.minutes_begin[i], self.minutes_end[i]
        minutes = None if begin == NO_MINUTES else self.octets[begin:end].tobytes()
        return AsStored(self.subjects[i], series, minutes)

    def text(self, j: int) -> bytes:
        """What is stored of series j."""
        return self.octets[self.begin[j] : self.end[j]].tobytes()
