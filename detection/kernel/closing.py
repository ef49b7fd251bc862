"""One pass over the closings of many series: learn what is settled, judge what is closed, expect what comes next.

For each series, in order: the settled hours are learned for good; the closed hours, which late events may still
correct, are judged and learned on a copy; the next hour is expected on a copy of that; and what people are told about
it is written down. All of it is the very code that a single model runs.
"""

import math

import numpy as np
from numpy.typing import NDArray

from detection.compiled import Record, compiled
from detection.kernel import alert_reference
from detection.kernel.bank import Records
from detection.kernel.row import (
    CREEP,
    EXPERTS,
    GAUGE,
    LEAST_SHARE,
    LEVEL_SHIFT,
    NO_DRIFT,
    RATE_SIZES,
    RATIO,
)
from detection.kernel.series import READY_AFTER, describe_rate, expect, learn_hour, skip_hours

Whole = NDArray[np.int64]
Numbers = NDArray[np.float64]

_SHIFT_TOLD_HOURS = 7 * 24
_CREEP_TOLD_HOURS = 14 * 24
_DIGITS = 5
_SIZES = np.array(RATE_SIZES, np.int64)


@compiled
def close_many(
    rows: Records,
    setups: Records,
    kinds: Whole,
    starts: Whole,
    settled: Whole,
    hours: Whole,
    slots: Whole,
    values: Numbers,
    counts: Numbers,
    targets: Whole,
    target_slots: Whole,
    outlooks: Records,
    verdicts: Records,
    answers: Records,
    told: Records,
) -> None:
    """Close series i: its observations are `starts[i]` to `starts[i + 1]`, of which the first `settled[i]` are settled.

    Observation t is of hour `hours[t]`, in slot `slots[t]` of the week; verdict t is on it. Row i learns the settled
    ones. Answer i and told i are about hour `targets[i]`; a target of -1 asks for none.
    """
    copies = np.empty_like(rows[:2])
    numbers = np.zeros(3 + len(_SIZES))
    for i in range(len(rows)):
        setup = setups[kinds[i]]
        first, last = starts[i], starts[i + 1]
        middle = first + settled[i]
        for t in range(first, middle):
            _close(rows[i], setup, hours[t], slots[t], values[t], counts[t], outlooks[0], verdicts[t])
        if targets[i] < 0:
            continue
        copies[0] = rows[i]
        for t in range(middle, last):
            _close(copies[0], setup, hours[t], slots[t], values[t], counts[t], outlooks[0], verdicts[t])
        row = copies[0]
        is_known = row.n_observed + row.n_before > 0
        ahead = targets[i] - row.next_hour if is_known else 0
        if ahead > 0:
            copies[1] = copies[0]
            skip_hours(copies[1], setup, ahead)
            expect(copies[1], setup, target_slots[i], outlooks[0], answers[i])
        else:
            expect(copies[0], setup, target_slots[i], outlooks[0], answers[i])
        tell(copies[0], setup, outlooks[0], answers[i], numbers, told[i])


@compiled
def _close(
    row: Record, setup: Record, hour: int, slot: int, value: float, count: float, outlook: Record, verdict: Record
) -> None:
    gap = hour - row.next_hour if row.n_observed + row.n_before > 0 else 0
    if gap > 0:
        skip_hours(row, setup, gap)
    learn_hour(row, setup, slot, value, count, outlook, verdict)
    row.next_hour = hour + 1


@compiled
def tell(row: Record, setup: Record, outlook: Record, answer: Record, numbers: Numbers, told: Record) -> None:
    """Fill in what people are told beside an answer; `numbers` is scratch for what `describe_rate` fills in."""
    seen = row.n_observed + row.n_before
    told.n_learned, told.judged = seen, row.judged
    told.exceedance_rate = row.exceedance_rate
    told.is_warm = 1 if row.n_learned >= READY_AFTER else 0
    told.expected_count = answer.expected_count if seen else 0.0
    fewest = 1.0 if setup.kind == GAUGE else min(float(setup.min_calls), max(2.0, math.ceil(told.expected_count)))
    told.min_count = int(fewest)
    if not seen:
        return
    told.slot = outlook.slot
    told.day_mean, told.week_mean = rounded(outlook.raw_day), rounded(outlook.raw_week)
    told.spread, told.disagreement = rounded(outlook.scales[0]), rounded(outlook.scales[1])
    told.correction = rounded(math.exp(row.corrections[0]))
    for k in range(EXPERTS):
        weight = outlook.weights[k]
        told.weights[k] = rounded(weight) if weight >= LEAST_SHARE else 0.0
    told.silent = row.silent
    told.is_young = 1 if row.n_learned < READY_AFTER else 0
    told.is_outage = 1 if row.gross_run > 0 else 0
    told.is_counted = 1 if setup.kind == RATIO and answer.counted * 100.0 == answer.threshold else 0
    _tell_drift(row, setup, told)
    if setup.kind == RATIO:
        describe_rate(row, setup, answer.location, _SIZES, numbers)
        told.expected_rate, told.overdispersion = rounded(numbers[0]), rounded(numbers[1])
        told.min_count = max(told.min_count, int(numbers[2]))
        for k in range(len(_SIZES)):
            told.limits[k] = numbers[3 + k]


@compiled
def tell_one(rows: Records, setups: Records, outlooks: Records, answers: Records, told: Records) -> None:
    """`tell` of the first record of each."""
    tell(rows[0], setups[0], outlooks[0], answers[0], np.zeros(3 + len(_SIZES)), told[0])


@compiled
def _tell_drift(row: Record, setup: Record, told: Record) -> None:
    kind = row.shift_kind
    is_shift = kind in (alert_reference.PROVISIONAL_SHIFT, alert_reference.ADOPTED_SHIFT)
    told.drift = NO_DRIFT
    if (is_shift and row.shift_hours <= _SHIFT_TOLD_HOURS) or 0 <= row.adopted_ago <= _SHIFT_TOLD_HOURS:
        told.drift = LEVEL_SHIFT
        if kind != alert_reference.NONE:
            side = setup.sides[0]
            told.has_shift = 1
            told.shift_from, told.shift_to = rounded(side * row.shift_from), rounded(side * row.shift_to)
            told.shift_hours = row.shift_hours
    elif 0 < row.creep_hours <= _CREEP_TOLD_HOURS:
        told.drift = CREEP
        told.creep_rise = rounded(row.creep_rise)


@compiled
def rounded(number: float) -> float:
    """The number in five significant digits, which is what people are told."""
    if number == 0.0 or not math.isfinite(number):
        return number
    exponent = _DIGITS - 1 - math.floor(math.log10(abs(number)))
    if exponent < 0:
        power = 10.0**-exponent
        return round(number / power) * power
    if exponent > 22:  # powers of ten beyond this are no longer exact
        return number
    power = 10.0**exponent
    return round(number * power) / power
