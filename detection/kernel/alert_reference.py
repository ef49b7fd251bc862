"""The slow side of a series: the alert's own reference, its score, level shifts and slow creep.

The forecaster answers what is normal in the next hour, and follows a long incident within hours. The alert therefore
has a reference beside it that moves by days and weeks: a level and a spread whose teachers are clipped, so that an
incident is measured against the time before it. One score joins both views, and is 1.0 at the alert boundary.

Every value is *oriented*: up is bad. The caller flips the sign where low is bad, and gives a bounded metric as its
distance from the good bound (99 % right as 1 %), because the least spread is a share of the level. Values are in the
metric's unit. A record of zeros has seen nothing. Whatever comes in, all that is stored stays finite.

What is promised about time, in observed hours:

* An outage that ends within 6 hours is not reported, and moves the level by less than 0.17 slow spreads (six steps of
  0.82 %, each clipped at 3.5 spreads).
* A level that stays is reported after `PROVISIONAL` = 12 agreeing hours: the six that an outage may last, and six
  more. Then `is_shift` is true for one hour. An hour agrees fully if it lies two
  deviations from the slow level, in part above one; below one it takes back what an agreeing hour gave, and a silent
  hour half of that (a series that is silent for two thirds of its hours is therefore only followed, never adopted).
* The slow reference itself alarms on until `ADOPTED` = 24 agreeing hours; then it re-centres and the alarm ends.
* What comes back is taken back (`is_shift` again): before the 24th hour when the agreement is used up; in the week
  after it, after 6 hours near the former level, which is restored with its spread.
* A level that moved by less than one deviation of its own noise is no shift. It is followed with a half-life of 84
  hours.
* A rise of 1 % a day is reported within 28 days (`is_creep`) where a whole day's noise is below a twentieth of the
  level, once three weeks have been learned before it.
"""

import math
from typing import Any, Final

from detection.compiled import compiled

FIELDS: Final = [
    ("reference_hours", "<u2"),  # hours learned, saturating
    ("reference_level", "<f4"),
    ("reference_rms", "<f4"),  # root mean square of the clipped distances
    ("reference_deviation", "<f4"),  # their mean absolute value
    ("reference_excess", "<f4"),  # running mean of the distance in spreads
    ("reference_fast", "<f4"),  # running mean of the forecaster's view
    ("reference_alarms", "<f4"),  # alarm runs, forgotten with a half-life of four weeks
    ("reference_loud", "u1"),  # hours in which a further alarm belongs to the last run
    ("shift_agreement", "<f4"),  # agreeing hours, positive upwards, negative downwards
    ("shift_deviation", "<f4"),  # mean absolute distance from the level
    ("shift_distance", "<f4"),  # mean logarithm of the distance of the agreeing hours
    ("shift_count", "u1"),  # agreeing hours in that mean
    ("shift_kept_level", "<f4"),  # level and spread from before the last adoption
    ("shift_kept_spread", "<f4"),
    ("shift_from", "<f4"),  # the last report: from where, to where, how long ago, what
    ("shift_to", "<f4"),
    ("shift_hours", "<u2"),
    ("shift_kind", "u1"),
    ("creep_sum", "<f4"),  # clipped mean of the day so far
    ("creep_observed", "u1"),
    ("creep_hour", "u1"),
    ("creep_weekday", "u1"),
    ("creep_days", "u1"),  # days learned, saturating
    ("creep_reference", "<f4", (7,)),  # the level of each day of the week, weeks ago
    ("creep_noise", "<f4"),  # mean absolute change of the day's distance from it
    ("creep_last", "<f4"),
    ("creep_evidence", "<f4"),  # Page's cumulative sum
    ("creep_rise", "<f4"),  # the last report: how far above the reference, as a share of it
    ("creep_hours", "<u2"),  # hours since it, plus one; 0 while there was none
]

NONE, PROVISIONAL_SHIFT, ADOPTED_SHIFT, WITHDRAWN_SHIFT = range(4)
NO_HOME, AWAY, AT_HOME = range(3)  # whether a former level is remembered, and the value lies near it

LARGEST: Final = 1e30
LEAST: Final = 1e-12
LEVEL_RATE: Final = 1.0 - 2.0 ** (-1.0 / 84.0)
SPREAD_RATE: Final = 1.0 - 2.0 ** (-1.0 / 336.0)
WARM_UP: Final = 12
GROWN_UP: Final = 48
CLIP: Final = 3.5
LEAST_SHARE: Final = 0.3
BOUNDARY: Final = 3.4
PERSISTENCE: Final = 0.8
PERSISTENCE_RATE: Final = 0.5
LARGEST_EXCESS: Final = 12.0
FAST_WEIGHT: Final = 0.25
FAST_PERSISTENCE: Final = 0.5
LEAST_FAST: Final = 0.15
LARGEST_FAST: Final = 20.0
FEW_CALLS: Final = 4.0
ALARM_GAP: Final = 4
ALARM_FORGETTING: Final = 2.0 ** (-1.0 / 672.0)
ALARMS_PER_WEEK: Final = math.log(2.0) / 4.0
ALARM_BUDGET: Final = 1.5
LARGEST_BOUNDARY: Final = 2.0

OUTAGE: Final = 6.0
PROVISIONAL: Final = 12.0
ADOPTED: Final = 24.0
SHIFT_CLIP: Final = 3.5
SILENCE_TAKES: Final = 0.5
KEPT_HOURS: Final = 168
YOUNG_AGAIN: Final = 24

DAY_HOURS: Final = 24
LEAST_DAY: Final = 6
CREEP_RATE: Final = 0.25
CREEP_WARM_UP: Final = 21
CREEP_NOISE_RATE: Final = 0.02
CREEP_ALLOWANCE: Final = 0.35
CREEP_LIMIT: Final = 12.0
CREEP_CLIP: Final = 4.0
CREEP_DAY_CLIP: Final = 2.0
CREEP_LEAST_NOISE: Final = 0.03
CREEP_LEAST_RISE: Final = 0.1
LARGEST_RISE: Final = 1e6


@compiled
def reference_score(
    row: Any, value: float, fast: float, count: float, noise: float
) -> tuple[float, float, float, float]:
    """The alert score and what it is made of; reads only.

    Answers score, slow, fast and boundary: `score = slow ** 0.75 * fast ** 0.25 / boundary`, 1.0 at the alert boundary,
    5.5 at most, below the slow level negative (`slow / boundary`).

    `slow` is the distance from the slow level in 3.4 slow spreads, eight tenths of it an exponential mean that counts
    this hour half: a lone peak is weakened, an incident is not. `fast` is the forecaster's (value - estimate) /
    (threshold - estimate), half of it averaged likewise, within 0.15..20. `boundary` is the root of the alarm runs a
    week over the budget of 1.5, within 1..2: a series that alarms every day has peaks, not incidents.

    `count` is the number of calls behind the value, 0 if unknown: the distance shrinks by sqrt(count / (count + 4)).
    `noise` is the standard error of the value of so few calls at the usual level, in its unit, 0 if unknown.
    """
    if math.isnan(value):
        return 0.0, 0.0, LEAST_FAST, 1.0
    value = min(max(value, -LARGEST), LARGEST)
    excess = _excess(row, value, count, noise)
    running = row.reference_excess + PERSISTENCE_RATE * (excess - row.reference_excess)
    slow = ((1.0 - PERSISTENCE) * excess + PERSISTENCE * running) / BOUNDARY
    view = _bounded_fast(fast)
    running_view = row.reference_fast + PERSISTENCE_RATE * (view - row.reference_fast)
    joined = max((1.0 - FAST_PERSISTENCE) * view + FAST_PERSISTENCE * running_view, LEAST_FAST)
    weekly = row.reference_alarms * ALARMS_PER_WEEK / ALARM_BUDGET
    boundary = min(math.sqrt(max(weekly, 1.0)), LARGEST_BOUNDARY)
    score = slow if slow <= 0.0 else slow ** (1.0 - FAST_WEIGHT) * joined**FAST_WEIGHT
    return score / boundary, slow, joined, boundary


@compiled
def reference_learn(row: Any, value: float, fast: float, count: float, noise: float) -> None:
    """One observed hour, after it was scored with the same arguments.

    The reference knows no season: a shift of a strongly seasonal series is noticed later, in its busy hours.
    """
    if math.isnan(value):
        reference_skip(row)
        return
    value = min(max(value, -LARGEST), LARGEST)
    _age(row)
    if row.reference_hours == 0:
        row.reference_level = value
    excess = _excess(row, value, count, noise)
    score = reference_score(row, value, fast, count, noise)[0]
    _count_alarm(row, score)
    row.reference_excess += PERSISTENCE_RATE * (excess - row.reference_excess)
    row.reference_fast += PERSISTENCE_RATE * (_bounded_fast(fast) - row.reference_fast)
    spread = _spread(row)
    _learn_day(row, value, spread)
    if row.reference_hours >= GROWN_UP or row.shift_kind != NONE:
        _weigh_shift(row, value)
    _learn_deviation(row, value)
    _learn_level(row, value)
    if row.creep_hour >= DAY_HOURS:
        _close_day(row)


@compiled
def reference_skip(row: Any) -> None:
    """A silent hour: time passes, persistence fades, nothing is learned."""
    _age(row)
    row.reference_excess *= 1.0 - PERSISTENCE_RATE
    row.reference_fast *= 1.0 - PERSISTENCE_RATE
    agreement = row.shift_agreement
    row.shift_agreement = (
        max(agreement - SILENCE_TAKES, 0.0) if agreement > 0.0 else min(agreement + SILENCE_TAKES, 0.0)
    )
    row.creep_hour += 1
    if row.creep_hour >= DAY_HOURS:
        _close_day(row)


@compiled
def is_shift(row: Any) -> bool:
    """Whether a shift from `shift_from` to `shift_to` was reported, or taken back, in this very hour."""
    return bool(row.shift_hours == 0 and row.shift_kind in (PROVISIONAL_SHIFT, WITHDRAWN_SHIFT))


@compiled
def is_adopted(row: Any) -> bool:
    """Whether the slow reference has taken over a new level in this very hour."""
    return bool(row.shift_hours == 0 and row.shift_kind == ADOPTED_SHIFT)


@compiled
def is_creep(row: Any) -> bool:
    """Whether a slow rise has been found in this very hour."""
    return bool(row.creep_hours == 1)


@compiled
def _age(row: Any) -> None:
    row.reference_alarms *= ALARM_FORGETTING
    if row.reference_loud > 0:
        row.reference_loud -= 1
    if row.shift_hours < 65535:
        row.shift_hours += 1
    if 0 < row.creep_hours < 65535:
        row.creep_hours += 1


@compiled
def _spread(row: Any) -> float:
    """Half root mean square, half mean absolute, both as of a Gaussian; at least a share of the level."""
    own = 0.5 * row.reference_rms + 0.5 * 1.2533 * row.reference_deviation
    return float(max(own, LEAST_SHARE * abs(row.reference_level) + LEAST))


@compiled
def _excess(row: Any, value: float, count: float, noise: float) -> float:
    if row.reference_hours < WARM_UP:
        return 0.0
    spread = _spread(row)
    if noise > 0.0:
        spread = math.hypot(spread, min(noise, LARGEST))
    excess = (value - row.reference_level) / spread
    if count > 0.0:
        excess *= math.sqrt(count / (count + FEW_CALLS))
    return float(min(max(excess, -2.0), LARGEST_EXCESS))


@compiled
def _bounded_fast(fast: float) -> float:
    return min(fast, LARGEST_FAST) if fast > 0.0 else 0.0


@compiled
def _count_alarm(row: Any, score: float) -> None:
    if score > 1.0:
        if row.reference_loud == 0:
            row.reference_alarms += 1.0
        row.reference_loud = ALARM_GAP + 1


@compiled
def _learn_level(row: Any, value: float) -> None:
    """Means of what is clipped at 3.5 spreads; the first two days as plain means."""
    hours = row.reference_hours
    distance = value - row.reference_level
    if hours >= WARM_UP:
        limit = CLIP * _spread(row)
        distance = min(max(distance, -limit), limit)
    young = 1.0 / (hours + 1.0)
    rate = young if hours < GROWN_UP else max(LEVEL_RATE, young)
    spread_rate = young if hours < GROWN_UP else max(SPREAD_RATE, young)
    row.reference_level += rate * distance
    if hours > 0:
        square = (1.0 * row.reference_rms) ** 2  # times 1.0: in single precision the square would overflow
        row.reference_rms = math.sqrt(max(square + spread_rate * (distance * distance * (1.0 - rate) - square), 0.0))
        row.reference_deviation += spread_rate * (abs(distance) - row.reference_deviation)
    if hours < 65535:
        row.reference_hours = hours + 1


@compiled
def _shift_spread(row: Any) -> float:
    return float(max(1.2533 * row.shift_deviation, LEAST_SHARE * abs(row.reference_level) + LEAST))


@compiled
def _learn_deviation(row: Any, value: float) -> None:
    hours = row.reference_hours
    gap = abs(value - row.reference_level)
    if hours >= WARM_UP:
        gap = min(gap, SHIFT_CLIP * _shift_spread(row))
    rate = 1.0 / (hours + 1.0) if hours < GROWN_UP else max(SPREAD_RATE, 1.0 / (hours + 1.0))
    row.shift_deviation += rate * (gap - row.shift_deviation)


@compiled
def _weigh_shift(row: Any, value: float) -> None:
    """Agreeing hours, up or down; a disagreeing one takes back what an agreeing one gave.

    Fewer than an outage's are forgotten at the first hour on the other side, so that the nights and weekends of an
    unknown season do not delay a report.
    """
    distance = (value - row.reference_level) / _shift_spread(row)
    before = row.shift_agreement
    if abs(before) < OUTAGE and before * distance < -abs(before):
        before = 0.0
        row.shift_count = 0
        row.shift_distance = 0.0
    side = -1.0 if before < 0.0 or (before == 0.0 and distance < 0.0) else 1.0
    step = min(max(side * distance - 1.0, -1.0), 1.0)
    kept = row.shift_kind == ADOPTED_SHIFT and row.shift_hours < KEPT_HOURS
    home = NO_HOME
    if kept:
        home = AT_HOME if abs(value - row.shift_kept_level) < 2.0 * row.shift_kept_spread else AWAY
    if step > 0.0:
        gap = math.log(max(abs(value - row.reference_level), LEAST))
        if row.shift_count < 255:
            row.shift_count += 1
        row.shift_distance += (gap - row.shift_distance) / row.shift_count
        if home == AT_HOME:
            step = ADOPTED / OUTAGE
    agreement = max(abs(before) + step, 0.0)
    reached = row.reference_level + side * math.exp(row.shift_distance)
    row.shift_agreement = side * agreement
    if agreement == 0.0:
        row.shift_count = 0
        row.shift_distance = 0.0
        if row.shift_kind == PROVISIONAL_SHIFT:
            _report_shift(row, row.shift_to, row.shift_from, WITHDRAWN_SHIFT)
    elif agreement >= ADOPTED:
        _adopt(row, reached, home)
    elif agreement >= PROVISIONAL and row.shift_kind != PROVISIONAL_SHIFT and home != AT_HOME:
        _report_shift(row, row.reference_level, reached, PROVISIONAL_SHIFT)


@compiled
def _report_shift(row: Any, start: float, end: float, kind: int) -> None:
    row.shift_from = start
    row.shift_to = end
    row.shift_hours = 0
    row.shift_kind = kind


@compiled
def _adopt(row: Any, reached: float, home: int) -> None:
    """Re-centre, and be young again: the next day decides quickly how wide the new level is."""
    former = float(row.reference_level)
    if home == AT_HOME:
        row.reference_level = row.shift_kept_level
        row.reference_rms = row.shift_kept_spread
        row.reference_deviation = row.shift_kept_spread / 1.2533
        _report_shift(row, former, row.shift_kept_level, WITHDRAWN_SHIFT)
    else:
        if home == NO_HOME:
            row.shift_kept_level = former
            row.shift_kept_spread = _spread(row)
        wider = min(max(abs(reached) / max(abs(former), LEAST), 1.0), 4.0)
        row.reference_level = reached
        row.reference_rms = min(row.reference_rms * wider, LARGEST)
        row.reference_deviation = min(row.reference_deviation * wider, LARGEST)
        row.shift_deviation = min(row.shift_deviation * wider, LARGEST)
        row.reference_hours = YOUNG_AGAIN
        _report_shift(row, former, reached, ADOPTED_SHIFT)
    for day in range(7):
        row.creep_reference[day] += row.reference_level - former
    row.creep_sum += row.reference_level - former
    row.creep_evidence = 0.0
    row.shift_agreement = 0.0
    row.shift_count = 0
    row.shift_distance = 0.0
    row.reference_excess = 0.0


@compiled
def _learn_day(row: Any, value: float, spread: float) -> None:
    limit = CREEP_DAY_CLIP * spread
    distance = value - row.reference_level
    if row.reference_hours >= WARM_UP:
        distance = min(max(distance, -limit), limit)
    row.creep_observed += 1
    row.creep_sum += (row.reference_level + distance - row.creep_sum) / row.creep_observed
    row.creep_hour += 1


@compiled
def _close_day(row: Any) -> None:
    """Page's cumulative sum (Biometrika 41, 1954) of the day's level above the same weekday's, weeks ago.

    The reference follows at a quarter a week, so it is four weeks old on average, and it is frozen while there is
    evidence against it. Noise is measured on the changes from day to day, which a creep hardly touches.

    River's detectors were tried on the same daily levels. PageHinkley compares with the mean of all days: it reports
    the weekly season sixteen times a year, and on weekly levels finds at best 70 % of the creeps in 28 days. ADWIN
    finds none, in 1.9 kB.
    """
    observed, level, weekday = row.creep_observed, float(row.creep_sum), row.creep_weekday
    row.creep_observed = 0
    row.creep_sum = 0.0
    row.creep_hour = 0
    row.creep_weekday = (weekday + 1) % 7
    if observed < LEAST_DAY:
        return
    days = row.creep_days
    if days < 255:
        row.creep_days = days + 1
    reference = float(row.creep_reference[weekday])
    if days < 7:
        row.creep_reference[weekday] = level
        return
    distance = level - reference
    change = abs(distance - row.creep_last)
    row.creep_last = distance
    if days > 7:
        limit = change if days < CREEP_WARM_UP else min(change, 4.0 * row.creep_noise + LEAST)
        row.creep_noise += max(CREEP_NOISE_RATE, 1.0 / (days - 7.0)) * (limit - row.creep_noise)
    noise = max(row.creep_noise / 1.1284, CREEP_LEAST_NOISE * abs(reference), LEAST)
    if days >= CREEP_WARM_UP:
        step = min(max(distance / noise, -CREEP_CLIP), CREEP_CLIP)
        row.creep_evidence = max(row.creep_evidence + step - CREEP_ALLOWANCE, 0.0)
    if row.creep_evidence < 0.25 * CREEP_LIMIT:
        row.creep_reference[weekday] += max(CREEP_RATE, 7.0 / (days + 7.0)) * distance
    elif row.creep_evidence > CREEP_LIMIT and distance > CREEP_LEAST_RISE * abs(reference):
        row.creep_rise = min(distance / max(abs(reference), LEAST), LARGEST_RISE)
        row.creep_hours = 1
        row.creep_evidence = 0.0
        for day in range(7):
            row.creep_reference[day] += distance
