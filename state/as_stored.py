"""A subject's published series as the store has them, undecoded: for whoever hands on hundreds of thousands of them."""

from collections.abc import Sequence
from typing import NamedTuple

from detection.subject import Subject

# What is stored of a series. Of this version the values of STORED_FIELDS in one text, a line each; where that is not
# all of it, a list of those of ANSWER_FIELDS.
Held = bytes | Sequence[bytes | None]


class AsStored(NamedTuple):
    """`series` are slugs, in their order, with what is held of them; `minutes` is the text of the last ones."""

    subject: Subject
    series: Sequence[tuple[str, Held]]
    minutes: bytes | None
