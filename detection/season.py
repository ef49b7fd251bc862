"""What is usual at each hour of the day and of the week."""

HOURS_OF_DAY = 24
HOURS_OF_WEEK = 168

_DAY_RATE = 0.15
_WEEK_RATE = 0.25
_LARGEST_COUNT = 255  # of values at an hour of the day; its rates stand still long before


class Season:
    """Means of z by hour of the week and by hour of the day, each falling back on the next coarser one until seen.

    `day_count` is how many values each hour of the day has seen; `week_seen` holds per weekday the hours seen, as bits.
    """

    __slots__ = ("day", "day_count", "week", "week_seen")

    def __init__(self) -> None:
        self.day = [0.0] * HOURS_OF_DAY
        self.day_count = [0] * HOURS_OF_DAY
        self.week = [0.0] * HOURS_OF_WEEK
        self.week_seen = [0] * 7

    def means(self, slot: int, otherwise: float) -> tuple[float, float]:
        """Means of the hour of week and of the hour of day; `otherwise` where even that hour was never seen."""
        weekday, hour = divmod(slot, HOURS_OF_DAY)
        day = self.day[hour] if self.day_count[hour] else otherwise
        return (self.week[slot] if self.week_seen[weekday] >> hour & 1 else day), day

    def learn_one(self, slot: int, z: float, means: tuple[float, float], *, weeks: int, is_rounded: bool) -> None:
        """Moves the means of the slot, which were `means`, towards z; `weeks` is the age of the series.

        Rounded to a thousandth of a percent of a value on the log scale, 192 numbers are short in the stored state.
        """
        week, day = means
        weekday, hour = divmod(slot, HOURS_OF_DAY)
        if self.week_seen[weekday] >> hour & 1:
            rate = 1.0 / (1 + weeks)
            week += (rate if rate > _WEEK_RATE else _WEEK_RATE) * (z - week)
        else:
            week = z
            self.week_seen[weekday] |= 1 << hour
        count = self.day_count[hour]
        count = self.day_count[hour] = count + 1 if count < _LARGEST_COUNT else count
        if count > 1:
            rate = 1.0 / count
            day += (rate if rate > _DAY_RATE else _DAY_RATE) * (z - day)
        else:
            day = z
        self.week[slot] = round(week, 5) if is_rounded else week
        self.day[hour] = round(day, 5) if is_rounded else day

    def copy(self) -> "Season":
        """An independent twin."""
        twin = Season.__new__(Season)
        twin.day = self.day[:]
        twin.day_count = self.day_count[:]
        twin.week = self.week[:]
        twin.week_seen = self.week_seen[:]
        return twin
