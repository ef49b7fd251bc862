"""A glob: a text in which `*` stands for any others, none among them, and `?` for one; compiled once."""

import re
from collections.abc import Callable
from fnmatch import translate
from functools import lru_cache

_WILD = re.compile(r"[*?]")


def is_wild(glob: str) -> bool:
    """Whether it can fit more than one text."""
    return _WILD.search(glob) is not None


def literal_beginning(glob: str) -> str:
    """What every text that fits begins with."""
    return _WILD.split(glob, maxsplit=1)[0]


@lru_cache(maxsize=8192)
def matcher(glob: str) -> Callable[[str], bool]:
    """Says whether a text fits, in time that grows with the text's length only, whatever the glob.

    >>> fits = matcher("Mistral/*")
    >>> fits("Mistral/v1"), fits("Llama/v1")
    (True, False)
    """
    if glob == "*":
        return _fits_all
    if not is_wild(glob):
        return glob.__eq__
    # The library's globs know sets of characters too; here a bracket is a bracket.
    match = re.compile(translate(glob.replace("[", "[[]"))).match
    return lambda text: match(text) is not None


def _fits_all(_text: str) -> bool:
    return True
