"""How series of version 1 kept their models, which is still read: JSON with long runs of numbers packed, exactly.

A run of floats is a text, base64 of little-endian numbers behind the name of their form:

    i2:   int16, in hundred-thousandths; -32768 stands for -0.0
    i4:   int32, in hundred-thousandths; -2147483648 stands for -0.0
    f8:   float64

A float that JSON cannot say is `float:inf`, `float:-inf` or `float:nan`.
"""

from binascii import a2b_base64
from typing import Any, Final

import numpy as np
import orjson

_SCALE: Final = 100_000.0
_WHOLE: Final[dict[str, tuple[np.dtype[Any], int]]] = {
    "i2:": (np.dtype("<i2"), -(2**15)),
    "i4:": (np.dtype("<i4"), -(2**31)),
}
_DOUBLE: Final = np.dtype("<f8")


def load(data: bytes | str) -> Any:
    """The state as plain values; ValueError for what version 1 cannot have written."""
    return _unpacked(orjson.loads(data))


def _unpacked(value: Any) -> Any:
    match value:
        case str():
            return _numbers(value)
        case dict():
            return {key: _unpacked(item) for key, item in value.items()}
        case list():
            return [_unpacked(item) for item in value]
        case _:
            return value


def _numbers(text: str) -> Any:
    mark = text[:3]
    if mark == "f8:":
        return np.frombuffer(a2b_base64(text[3:], strict_mode=True), _DOUBLE).tolist()
    if mark in _WHOLE:
        dtype, minus_zero = _WHOLE[mark]
        whole = np.frombuffer(a2b_base64(text[3:], strict_mode=True), dtype)
        values = whole / _SCALE
        values[whole == minus_zero] = -0.0
        return values.tolist()
    return float(text[6:]) if text.startswith("float:") else text
