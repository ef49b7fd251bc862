"""The ways into the compiled core: over arrays of records, of which a single series is one of length 1.

Row i is understood by setup `setups[kinds[i]]`; the outlook and the answers are scratch of the caller's. Every function
does one series after the other with the very code that a single series is learned by, so a bank and single models agree
to the last bit.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.compiled import compiled
from detection.kernel.series import begin_series, expect, judge, learn_hour, skip_hours
from detection.kernel.step import begin, learn, look, skip

Records = NDArray[np.void]
Whole = NDArray[np.int64]
Numbers = NDArray[np.float64]


@compiled
def begin_many(rows: Records, setups: Records, kinds: Whole, seeds: Whole) -> None:
    """Records of zeros become those of series nothing is known of."""
    for i in range(len(rows)):
        begin_series(rows[i], setups[kinds[i]], seeds[i])


@compiled
def expect_many(
    rows: Records, setups: Records, kinds: Whole, ahead: Whole, slots: Whole, outlooks: Records, answers: Records
) -> None:
    """Answer i: what is expected of the hour `ahead[i]` hours after series i's next one; the rows stay as they are."""
    copies = np.empty_like(rows[:1])
    for i in range(len(rows)):
        setup = setups[kinds[i]]
        if ahead[i] == 0:
            expect(rows[i], setup, slots[i], outlooks[0], answers[i])
        else:
            copies[0] = rows[i]
            skip_hours(copies[0], setup, ahead[i])
            expect(copies[0], setup, slots[i], outlooks[0], answers[i])


@compiled
def skip_many(rows: Records, setups: Records, kinds: Whole, hours: Whole) -> None:
    """Let `hours[i]` hours pass in silence."""
    for i in range(len(rows)):
        if hours[i] > 0:
            skip_hours(rows[i], setups[kinds[i]], hours[i])


@compiled
def judge_many(
    rows: Records, setups: Records, kinds: Whole, values: Numbers, counts: Numbers, answers: Records
) -> None:
    """Add the verdict on value i to answer i, which holds what was expected of its hour; the rows stay as they are."""
    for i in range(len(rows)):
        judge(rows[i], setups[kinds[i]], values[i], counts[i], answers[i])


@compiled
def learn_many(
    rows: Records,
    setups: Records,
    kinds: Whole,
    gaps: Whole,
    slots: Whole,
    values: Numbers,
    counts: Numbers,
    outlooks: Records,
    answers: Records,
) -> None:
    """Let `gaps[i]` hours pass without a value, then judge and learn value i; where that is NaN, nothing happens."""
    for i in range(len(rows)):
        if math.isnan(values[i]):
            continue
        setup = setups[kinds[i]]
        if gaps[i] > 0:
            skip_hours(rows[i], setup, gaps[i])
        learn_hour(rows[i], setup, slots[i], values[i], counts[i], outlooks[0], answers[i])


@compiled
def fold_one(
    rows: Records,
    setups: Records,
    gaps: Whole,
    slots: Whole,
    values: Numbers,
    counts: Numbers,
    outlooks: Records,
    answers: Records,
) -> None:
    """Learn many hours of one series, in order; answer t is the verdict on value t, which followed `gaps[t]` hours."""
    for t in range(len(values)):
        if gaps[t] > 0:
            skip_hours(rows[0], setups[0], gaps[t])
        learn_hour(rows[0], setups[0], slots[t], values[t], counts[t], outlooks[0], answers[t])


@compiled
def begin_forecaster(rows: Records) -> None:
    """The forecaster alone, without counts and references."""
    begin(rows[0])


@compiled
def look_forecaster(rows: Records, setups: Records, slot: int, outlooks: Records) -> None:
    """What the forecaster alone expects of its next hour."""
    look(rows[0], setups[0], slot, outlooks[0])


@compiled
def learn_forecaster(rows: Records, setups: Records, value: float, outlooks: Records) -> None:
    """The forecaster alone learns the hour that it was just asked about."""
    learn(rows[0], setups[0], value, outlooks[0])


@compiled
def skip_forecaster(rows: Records, setups: Records, hours: int) -> None:
    """The forecaster alone lets hours pass."""
    skip(rows[0], setups[0], hours)


__all__: list[Any] = [
    "begin_forecaster", "begin_many", "expect_many", "fold_one", "judge_many",
    "learn_forecaster", "learn_many", "look_forecaster", "skip_forecaster",
]  # fmt: skip
