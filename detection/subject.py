"""Who is watched, and which of its metrics: the identity that keys, models and alerts share."""

import re
from dataclasses import dataclass
from typing import Literal

from detection.errors import InvalidSubjectError

Kind = Literal["biller", "model"]

# No braces (they are the cluster hash tag), no colon (it separates the parts of a key), no slash (it separates name
# and version), no white space, no glob characters: an id from outside can then never reach another subject's keys.
PART_RULE = "1 to 128 letters, digits or . _ @ + = - that start with a letter or digit"
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+=-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """A biller, or one version of a model; `id` is the biller id, or `name/version`."""

    kind: Kind
    id: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    def __hash__(self) -> int:
        # Half the time of the generated one; a model's id has a slash, which a biller's cannot have.
        return hash(self.id)

    @classmethod
    def biller(cls, biller_id: str) -> "Subject":
        """Raises InvalidSubjectError for an id that cannot be part of a key."""
        return cls("biller", checked_part("biller_id", biller_id))

    @classmethod
    def model(cls, name: str, version: str) -> "Subject":
        """Raises InvalidSubjectError for a name or version that cannot be part of a key."""
        return cls("model", f"{checked_part('name', name)}/{checked_part('version', version)}")

    @classmethod
    def parse(cls, text: str) -> "Subject":
        """The inverse of `str`; a bare word is a biller, `name/version` a model."""
        kind, colon, rest = text.partition(":")
        if not colon:
            kind, rest = ("model" if "/" in text else "biller"), text
        if kind == "biller":
            return cls.biller(rest)
        if kind == "model":
            name, slash, version = rest.partition("/")
            if slash:
                return cls.model(name, version)
        raise InvalidSubjectError(f"{text[:140]!r} is neither biller:ID nor model:NAME/VERSION")


def is_valid_part(text: str) -> bool:
    """Whether the text can be a biller id, a model name or a version."""
    return _PART.fullmatch(text) is not None


def checked_part(field: str, text: str) -> str:
    """The text itself; raises InvalidSubjectError that names the field."""
    if not is_valid_part(text):
        raise InvalidSubjectError(f"{field} {text[:140]!r}: {PART_RULE}")
    return text
