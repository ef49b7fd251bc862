"""JSON as PostgreSQL's jsonb takes it: it knows no NUL, so the character for what cannot be shown stands for it."""

import re
from typing import Any, Final

import orjson

# An escape that is not itself escaped.
_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")


def json_text(value: Any) -> bytes:
    """One text for equal values: the keys of objects are in order."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return _NUL.sub(rb"\1\\ufffd", text) if b"\\u0000" in text else text
