"""Reading a stored state field by field: every number is asked for by name and refused unless it can be one."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from detection.errors import UnreadableStateError

# Numbers, lists of them, and the same again for a part; JSON-ready as it stands.
State = dict[str, Any]


class Fields:
    """The fields of one part's state; `of` names the part in what is raised, which is UnreadableStateError alone."""

    __slots__ = ("_of", "_state")

    def __init__(self, state: object, of: str) -> None:
        if not isinstance(state, Mapping):
            raise UnreadableStateError(f"{of}: its state is no object")
        self._state = state
        self._of = of

    def expect(self, name: str, value: str | int) -> None:
        """Refuses the state unless this field holds exactly this value."""
        found = self._state.get(name)
        if isinstance(found, bool) or type(found) is not type(value) or found != value:
            raise UnreadableStateError(f"{self._of}: {name} is {found!r:.60}, this program reads {value!r}")

    def number(self, name: str) -> float:
        """A finite number."""
        return self._finite(name, self._state.get(name))

    def whole(self, name: str, lowest: int = 0, highest: int = 2**53) -> int:
        """A whole number within these bounds."""
        return self._whole(name, self._state.get(name), lowest, highest)

    def numbers(self, name: str, least: int, most: int | None = None) -> list[float]:
        """A list of finite numbers, `least` of them, or any number up to `most`."""
        return [self._finite(name, value) for value in self._list(name, least, most)]

    def wholes(self, name: str, least: int, most: int | None = None, highest: int = 2**53) -> list[int]:
        """A list of whole numbers from 0 to `highest`."""
        return [self._whole(name, value, 0, highest) for value in self._list(name, least, most)]

    def parts(self, name: str, length: int) -> Sequence[object]:
        """The states of this many parts, not yet read."""
        return self._list(name, length, None)

    def part(self, name: str) -> object:
        """The state of a part, not yet read."""
        return self._state.get(name)

    def refuse(self, name: str, reason: str) -> UnreadableStateError:
        """The error for a field that is a number, and yet cannot be."""
        return UnreadableStateError(f"{self._of}: {name} {reason}")

    def _list(self, name: str, least: int, most: int | None) -> list[object]:
        found = self._state.get(name)
        longest = least if most is None else most
        if not isinstance(found, list) or not least <= len(found) <= longest:
            raise self.refuse(name, f"is not a list of {least if least == longest else f'{least} to {longest}'} items")
        return found

    def _finite(self, name: str, found: object) -> float:
        # Whole numbers are finite too, except those that no float can hold.
        if isinstance(found, bool) or not isinstance(found, int | float) or not _is_finite(found):
            raise self.refuse(name, f"holds {found!r:.60}, not a finite number")
        return float(found)

    def _whole(self, name: str, found: object, lowest: int, highest: int) -> int:
        if isinstance(found, bool) or not isinstance(found, int) or not lowest <= found <= highest:
            raise self.refuse(name, f"holds {found!r:.60}, not a whole number from {lowest} to {highest}")
        return found


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:
        return False
