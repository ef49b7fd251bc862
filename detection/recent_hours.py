"""The hours just passed, one by one, silent ones among them."""

_KEPT = 25  # yesterday's hour and the one before it


class RecentHours:
    """The z of each of the last 25 hours, and the last value with what was usual for it, however long ago.

    `passed` counts all hours, `silent` those since the last value. `z[hour % 25]` holds where `seen` has that bit.
    """

    __slots__ = (
        "day_before",
        "day_deviation",
        "last",
        "passed",
        "seen",
        "silent",
        "week_before",
        "week_deviation",
        "z",
    )

    def __init__(self) -> None:
        self.passed = 0
        self.silent = 0
        self.z = [0.0] * _KEPT
        self.seen = 0
        self.last = 0.0
        self.week_before = 0.0  # the season's means at the last value, and the deviation of its z from them
        self.day_before = 0.0
        self.week_deviation = 0.0
        self.day_deviation = 0.0

    def last_z(self) -> float:
        """The z of the hour before the next one, which must not have been silent."""
        return self.z[(self.passed - 1) % _KEPT]

    def yesterday(self, otherwise: float, otherwise_before: float) -> tuple[float, float]:
        """The z a day before the next hour and the one before that; the others where those hours were silent."""
        at = (self.passed + 1) % _KEPT
        before = self.passed % _KEPT
        return (
            self.z[at] if self.seen >> at & 1 else otherwise,
            self.z[before] if self.seen >> before & 1 else otherwise_before,
        )

    def faded(self, week: float, day: float) -> float:
        """The z taken for a silent hour: its season's means plus what is left of the last deviation."""
        hours = self.silent if self.silent < 1000 else 1000
        return 0.5 * (week + self.week_deviation * 0.9**hours) + 0.5 * (day + self.day_deviation * 0.8**hours)

    def learn_one(self, y: float, z: float, means: tuple[float, float], *, is_rounded: bool) -> None:
        """Moves on by an hour with a value; rounded, its z is short in the stored state."""
        at = self.passed % _KEPT
        self.z[at] = round(z, 5) if is_rounded else z
        self.seen |= 1 << at
        self.passed += 1
        self.silent = 0
        self.last = y
        self.week_before, self.day_before = week, day = means
        self.week_deviation, self.day_deviation = z - week, z - day

    def skip(self, hours: int) -> None:
        """Moves on by that many hours without a value."""
        for hour in range(self.passed, self.passed + min(hours, _KEPT)):
            self.z[hour % _KEPT] = 0.0
            self.seen &= ~(1 << hour % _KEPT)
        self.passed += hours
        self.silent += hours

    def copy(self) -> "RecentHours":
        """An independent twin."""
        twin = RecentHours.__new__(RecentHours)
        twin.passed = self.passed
        twin.silent = self.silent
        twin.z = self.z[:]
        twin.seen = self.seen
        twin.last = self.last
        twin.week_before = self.week_before
        twin.day_before = self.day_before
        twin.week_deviation = self.week_deviation
        twin.day_deviation = self.day_deviation
        return twin
