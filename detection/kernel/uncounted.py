"""Arrays that nobody counts the holders of, for scanners of text, whose functions are a few instructions long.

Numba counts who holds an array that is handed to a function, up and down at each call, unless it can prove that it need
not. Where a function returns in the midst of a loop it cannot, and to read a call took three quarters of its time for
that counting; an index, too, is first asked whether it counts from the end.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

Elements = TypeVar("Elements")


def _uncounted(_: Any, array: Any) -> tuple[Any, Any]:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        structure = cgutils.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
        return structure.data

    is_plain = isinstance(array, types.Array) and array.ndim == 1 and array.layout == "C"
    return (types.CPointer(array.dtype)(array), emit) if is_plain else (None, None)


# The elements of a contiguous array of one dimension, in compiled code: they can be read and written by their places, and
# nothing else. Whoever asks keeps the array meanwhile, and no place is counted from the end.
uncounted: Callable[[Elements], Elements] = intrinsic(_uncounted)
