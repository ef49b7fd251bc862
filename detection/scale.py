"""The scale that a series is learned on: the logarithm where it has a lower bound, its own unit where it has none."""

import math

_OFFSET_SHARE = 0.05  # of the first value above zero
_ZERO_OFFSET = 1e-12  # while only zeros were seen
_Z_HIGHEST = 70.0  # e to this is 1e30, the largest value that is learned


class Scale:
    """z = log(y + offset) - anchor, or z = y - anchor; the anchor makes the z of the first value 0.

    y counts from the lower bound. The offset is a twentieth of the first value above it.
    """

    __slots__ = ("anchor", "is_log", "offset")

    def __init__(self, *, is_log: bool) -> None:
        self.is_log = is_log
        self.offset = _ZERO_OFFSET
        self.anchor = math.log(_ZERO_OFFSET) if is_log else 0.0

    def raw(self, z: float) -> float:
        """The y that stands behind a z, however large."""
        z += self.anchor
        if self.is_log:
            return math.exp(z if z < _Z_HIGHEST else _Z_HIGHEST) - self.offset
        return z

    def learn_one(self, y: float, *, is_first: bool) -> float:
        """The z of y; sets the anchor with the first value, and the offset once it can be known."""
        if not self.is_log:
            if is_first:
                self.anchor = y
            return y - self.anchor
        if self.offset == _ZERO_OFFSET and (y > 0.0 or is_first):
            # Every value so far was a zero, and stays at z = 0: only where that zero lies on the log scale changes.
            self.offset = max(_OFFSET_SHARE * y, _ZERO_OFFSET)
            self.anchor = math.log(y + self.offset if is_first else self.offset)
        return math.log(y + self.offset) - self.anchor

    def copy(self) -> "Scale":
        """An independent twin."""
        twin = Scale.__new__(Scale)
        twin.is_log = self.is_log
        twin.offset = self.offset
        twin.anchor = self.anchor
        return twin
