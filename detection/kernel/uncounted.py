"""Arrays that nobody counts the holders of, for scanners of text, whose functions are a few instructions long.

Numba counts who holds an array that is handed to a function, up and down at each call, unless it can prove that it need
not. Where a function returns in the midst of a loop it cannot, and to read a call took two thirds of its time for
that counting; an index, too, is first asked whether it counts from the end.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba.core import cgutils, types
from numba.extending import intrinsic

Elements = TypeVar("Elements")

# Numba's annotations do not know what is called here.
_types: Any = types
_structures: Any = cgutils


def _uncounted(_: Any, array: Any) -> tuple[Any, Any] | None:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        structure = _structures.create_struct_proxy(signature.args[0])(context, builder, arguments[0])
        return structure.data

    is_plain = isinstance(array, _types.Array) and array.ndim == 1 and array.layout == "C"
    return (_types.CPointer(array.dtype)(array), emit) if is_plain else None


# The elements of a contiguous array of one dimension, in compiled code: they are read and written by their places, and
# nothing else. No place is counted from the end. Only for what the interpreter has handed in, and so keeps: an array
# that compiled code has made is gone after its last mention.
uncounted = cast("Callable[[Elements], Elements]", intrinsic(_uncounted))
