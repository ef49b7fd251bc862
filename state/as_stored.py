"""A subject's published series as the store has them, undecoded: for whoever hands on hundreds of thousands of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from detection.subject import Subject


@dataclass(frozen=True, slots=True)
class AsStored:
    """`series` are slugs, in their order, with the values of ANSWER_FIELDS; `minutes` is the text of the last ones."""

    subject: Subject
    series: Sequence[tuple[str, Sequence[bytes | None]]]
    minutes: bytes | None
