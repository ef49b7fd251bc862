"""Seven simple ideas of what the next hour will be, given what is known of the season and of the hours before."""

import math

from detection.scale import Scale

EXPERTS = ("last", "day", "week", "week_half", "yesterday", "average", "regression")


def opinions(
    scale: Scale,
    last: float,
    regressed: float,
    *,
    expected: tuple[float, float, float, float],
    before: tuple[float, float, float],
) -> list[float]:
    """One value per expert, in the unit of the series; `last` and `regressed` already are.

    `expected` are z of the next hour: week mean, day mean, yesterday's, average. `before` are z of the hour before:
    week mean, day mean, yesterday's. What `last` was off from those is expected to go on, in part.
    """
    week, day, yesterday, average = expected
    week_before, day_before, yesterday_before = before
    anchor = scale.anchor
    if scale.is_log:  # as `scale.raw`, seven calls fewer; these z lie between values that were learned
        exp, offset = math.exp, scale.offset
        week_raw = exp(week + anchor) - offset
        week_gap = last - exp(week_before + anchor) + offset
        return [
            last,
            exp(day + anchor) - offset + 0.8 * (last - exp(day_before + anchor) + offset),
            week_raw + 0.9 * week_gap,
            week_raw + 0.5 * week_gap,
            exp(yesterday + anchor) - offset + 0.5 * (last - exp(yesterday_before + anchor) + offset),
            exp(average + anchor) - offset,
            regressed,
        ]
    week_raw = week + anchor
    week_gap = last - week_before - anchor
    return [
        last,
        day + anchor + 0.8 * (last - day_before - anchor),
        week_raw + 0.9 * week_gap,
        week_raw + 0.5 * week_gap,
        yesterday + anchor + 0.5 * (last - yesterday_before - anchor),
        average + anchor,
        regressed,
    ]
