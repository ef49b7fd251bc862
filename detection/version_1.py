"""Model states of schema version 1, carried over into today's record.

Version 1 kept named numbers and lists: a season, the last day, spreads, counters. They are kept, so that a series goes
on with what it knew of its normal; its regressions, mixtures, histograms and references begin as those of a new series
do, and are earned again within days. A fold over the history gives the exact state, and needs none of this.
"""

import math
from collections.abc import Mapping
from typing import Any

from detection.catalogue import Metric
from detection.errors import UnreadableStateError
from detection.kernel.bank import Records
from detection.kernel.row import HOURS_OF_DAY, HOURS_OF_WEEK, LAGS

VERSION = 1


def carry_over(metric: Metric, state: Mapping[str, Any], rows: Records) -> None:
    """Put what a version 1 state knows into a record that nothing was learned in.

    Raises UnreadableStateError for what is no such state.
    """
    try:
        if state["version"] != VERSION or state["forecaster"]["version"] != VERSION:
            raise UnreadableStateError(f"{metric}: model state of version {state['version']}, not {VERSION}")
        _counters(state, rows)
        if state["forecaster"]["n_learned"] > 0:
            _season(state["forecaster"], rows, is_log=not state["is_signed"])
            _references(metric, rows)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise UnreadableStateError(f"{metric}: damaged model state of version {VERSION}: {error!r}") from error


def _counters(state: Mapping[str, Any], rows: Records) -> None:
    old = state["forecaster"]
    rows["is_signed"] = bool(state["is_signed"])
    rows["next_hour"] = 0 if state["next_hour"] is None else int(state["next_hour"])
    rows["n_before"] = int(state["n_before"])
    rows["judged"] = int(state["judged"])
    rows["exceedance_rate"] = float(state["exceedance_rate"])
    rows["expected_count"] = float(state["expected_count"])
    rows["n_observed"] = rows["n_learned"] = int(old["n_learned"])
    if not 0 <= int(old["slot"]) < HOURS_OF_WEEK:
        raise ValueError(f"slot {old['slot']}")
    rows["hours"], rows["silent"], rows["slot"] = int(old["hours"]), int(old["silent"]), int(old["slot"])


def _season(old: Mapping[str, Any], rows: Records, *, is_log: bool) -> None:
    """Version 1 counted z from its first value, the `anchor`; now it is the logarithm itself."""
    anchor, offset = float(old["anchor"]), float(old["offset"])
    row = rows[0]
    row["has_offset"] = is_log and float(old["largest"]) > 0.0
    row["offset"] = offset if is_log else 0.0

    def value_of(z: float) -> float:
        return max(math.exp(min(z, 69.0)) - offset, 0.0) if is_log else z

    row["z_mean"] = float(old["level"]) + anchor
    row["z_variance"] = float(old["variance"])
    row["averages"] = [float(z) + anchor for z in old["averages"]]
    row["last"] = row["before_last"] = float(old["last"])
    row["largest"] = row["peak"] = float(old["largest"])
    row["slow_spread"], row["quick_spread"] = float(old["slow_spread"]), float(old["quick_spread"])
    row["expert_loss"] = float(old["slow_spread"])
    row["day_spread"] = _numbers(old, "day_spread", HOURS_OF_DAY)
    row["day_count"] = [int(count) for count in _numbers(old, "day_count", HOURS_OF_DAY)]
    row["hour_of_day"] = [z + anchor for z in _numbers(old, "day", HOURS_OF_DAY)]
    row["hour_of_week"] = [
        z + anchor if int(old["week_seen"][slot // HOURS_OF_DAY]) >> slot % HOURS_OF_DAY & 1 else math.nan
        for slot, z in enumerate(_numbers(old, "week", HOURS_OF_WEEK))
    ]
    row["week_before"] = float(old["week_before"]) + anchor
    row["day_before"] = float(old["day_before"]) + anchor
    hours, seen = int(old["hours"]), int(old["recent_seen"])
    for at, z in enumerate(_numbers(old, "recent", LAGS)):
        row["recent"][at] = value_of(z + anchor) if seen >> at & 1 else row["last"]
    # The record counts its ring by the same hours.
    row["hours"] = hours
    values = [value_of(float(z)) for z in row["hour_of_day"]]
    mean = sum(values) / HOURS_OF_DAY
    row["raw_mean"] = mean
    row["raw_variance"] = sum((value - mean) ** 2 for value in values) / HOURS_OF_DAY + 2.0 * row["slow_spread"] ** 2
    row["level"] = abs(mean)
    row["adopted_ago"] = -1


def _references(metric: Metric, rows: Records) -> None:
    """The slow reference and the counts begin at the level of the season, a day old."""
    row = rows[0]
    side = 1.0 if metric.direction == "above" else -1.0
    deviation = math.sqrt(max(float(row["raw_variance"]), 0.0))
    row["reference_level"] = side * float(row["raw_mean"])
    row["reference_rms"] = min(deviation, 1e30)
    row["reference_deviation"] = row["shift_deviation"] = min(0.8 * deviation, 1e30)
    row["reference_hours"] = 24
    if metric.kind == "ratio":
        row["count_level"] = float(row["expected_count"])
        row["count_hours"] = min(int(row["n_learned"]), 65_535)
        known = float(row["calls_slow"])
        row["failed_slow"] = row["failed_fast"] = known * min(max(float(row["raw_mean"]) / 100.0, 0.0), 1.0)


def _numbers(state: Mapping[str, Any], name: str, size: int) -> list[float]:
    found = [float(number) for number in state[name]]
    if len(found) != size or not all(map(math.isfinite, found)):
        raise ValueError(f"{name} is not {size} finite numbers")
    return found
