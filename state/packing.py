"""Model state as JSON that a person can read: scalars as they are, long runs of numbers packed, exactly.

A list of `PACKED_FROM` or more floats becomes a text, base64 of little-endian numbers behind the name of their form:

    i2:   int16, in hundred-thousandths, where that is exact; -32768 stands for -0.0
    i4:   int32, in hundred-thousandths, where that is exact; -2147483648 stands for -0.0
    f8:   float64, for everything else

A float that JSON cannot say becomes `float:inf`, `float:-inf` or `float:nan`. `load` undoes all of it, and
`tidemark inspect` shows the result.
"""

import math
from array import array
from binascii import a2b_base64, b2a_base64
from typing import Any, Final

import numpy as np
import orjson

PACKED_FROM: Final = 3
SCALE: Final = 100_000.0

_FLOAT: Final = {float}
_MARKS: Final = ("i2:", "i4:", "f8:", "float:")
_WHOLE: Final[dict[str, tuple[np.dtype[Any], int]]] = {
    "i2:": (np.dtype("<i2"), -(2**15)),
    "i4:": (np.dtype("<i4"), -(2**31)),
}
_DOUBLE: Final = np.dtype("<f8")

# A dict of the copy, the key in it, and the list whose text belongs there.
_Run = tuple[dict[str, Any], str, list[float]]


def dump(state: dict[str, Any]) -> bytes:
    """JSON of nested dicts with texts, numbers, None and flat lists of numbers; TypeError for anything else."""
    runs: list[_Run] = []
    plain = _plain(state, runs)
    if runs:
        _pack(runs)
    data = orjson.dumps(plain)
    # What JSON cannot say is written as null, in silence.
    return orjson.dumps(_spelt_out(plain)) if b"null" in data else data


def load(data: bytes | str) -> Any:
    """The inverse of `dump`; ValueError for what it cannot have written."""
    return _unpacked(orjson.loads(data))


def _plain(state: dict[str, Any], runs: list[_Run]) -> dict[str, Any]:
    """A copy whose long lists are still to be packed: they are gathered, because numpy is quick only in bulk."""
    copy = state.copy()
    for key, value in state.items():
        kind = type(value)
        if kind is list:
            if len(value) >= PACKED_FROM and set(map(type, value)) == _FLOAT:
                runs.append((copy, key, value))
        elif kind is dict:
            copy[key] = _plain(value, runs)
        elif kind is str and value.startswith(_MARKS):
            raise TypeError(f"{key}: {value[:40]!r} would be read as numbers")
    return copy


def _pack(runs: list[_Run]) -> None:
    """Put the text of each run into its place."""
    joined = array("d")
    starts = []
    for _, _, run in runs:
        starts.append(len(joined))
        joined.fromlist(run)
    values = np.frombuffer(joined)
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = np.rint(values * SCALE)
        is_exact = scaled / SCALE == values
    size = np.abs(scaled)
    # A run with a number that is not exact is larger than anything.
    size[~is_exact] = np.inf
    sizes = np.maximum.reduceat(size, starts).tolist()
    negative_zero = np.signbit(values) & (values == 0.0)
    has_negative_zero = bool(negative_zero.any())
    doubles = values.astype(_DOUBLE, copy=False).tobytes()
    for (holder, key, run), start, largest in zip(runs, starts, sizes, strict=True):
        end = start + len(run)
        if largest >= 2**31:
            holder[key] = "f8:" + _base64(doubles[8 * start : 8 * end])
            continue
        mark = "i2:" if largest < 2**15 else "i4:"
        dtype, minus_zero = _WHOLE[mark]
        whole = scaled[start:end].astype(dtype)
        if has_negative_zero:
            whole[negative_zero[start:end]] = minus_zero
        holder[key] = mark + _base64(whole.tobytes())


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def _spelt_out(value: Any) -> Any:
    match value:
        case dict():
            return {key: _spelt_out(item) for key, item in value.items()}
        case list():
            return [_spelt_out(item) for item in value]
        case float() if not math.isfinite(value):
            return f"float:{value!r}"
    return value


def _unpacked(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return _numbers(value)
    if kind is dict:
        return {key: item if type(item) in _SCALARS else _unpacked(item) for key, item in value.items()}
    if kind is list:
        return [_numbers(item) if type(item) is str else item for item in value]
    return value


_SCALARS: Final = frozenset({int, float, bool, type(None)})


def _numbers(text: str) -> Any:
    mark = text[:3]
    if mark == "f8:":
        return np.frombuffer(a2b_base64(text[3:], strict_mode=True), _DOUBLE).tolist()
    if mark in _WHOLE:
        dtype, minus_zero = _WHOLE[mark]
        whole = np.frombuffer(a2b_base64(text[3:], strict_mode=True), dtype)
        values = whole / SCALE
        values[whole == minus_zero] = -0.0
        return values.tolist()
    return float(text[6:]) if text.startswith("float:") else text
