"""The scale that challengers learn on: the logarithm far from the base, a straight line near it, with a sign."""

import math

_UNIT_SHARE = 0.1  # of the first distance from the base that is not zero
_LEAST_SHARE = 1e-5  # of the unit, below which a value is lost on the straight part: a millionth of the first distance


class AsinhScale:
    """z = asinh((y - base) / unit): about log(2 |y - base| / unit) far from the base, of either sign, and 0 at it.

    It needs no bound and no offset, and |z| stays below 142 for values up to 1e30, whatever the first one was: River's
    regressors square what they are given. While every value was the base itself the unit is not known, and every z is 0
    with any unit.
    """

    __slots__ = ("base", "unit")

    def __init__(self, base: float) -> None:
        self.base = base
        self.unit = 0.0

    def learn_one(self, y: float) -> float:
        """The z of y; sets the unit by the first y that is not the base."""
        if self.unit == 0.0:
            self.unit = _UNIT_SHARE * abs(y - self.base)
        return self.z(y)

    def is_misled_by_first(self, y: float) -> bool:
        """Whether y, not the base, is so much smaller than the value that set the unit that the two share no scale."""
        return 0.0 < abs(y - self.base) < _LEAST_SHARE * self.unit

    def z(self, y: float) -> float:
        """Where y lies on this scale."""
        return 0.0 if self.unit == 0.0 else math.asinh((y - self.base) / self.unit)

    def y(self, z: float) -> float:
        """The inverse; finite for |z| up to 300."""
        return self.base + self.unit * math.sinh(min(max(z, -300.0), 300.0))

    def copy(self) -> "AsinhScale":
        """An independent twin."""
        twin = AsinhScale(self.base)
        twin.unit = self.unit
        return twin
