"""The one record in which everything that a series has learned sits: flat, packed, little-endian.

Its bytes are the codec. Narrow fields are narrow while they are in use, so that writing a record and reading it back
changes nothing, at any step.
What is on the scale of the values themselves is float64, because values may be as large as 1e30 and their squares must
stay finite; what is normalised, or a logarithm, is float32.
"""

from typing import Any, Final

import numpy as np

from detection.kernel.alert_reference import FIELDS as REFERENCE_FIELDS
from detection.kernel.counts import FIELDS as COUNT_FIELDS

ROW_VERSION: Final = 2

HOURS_OF_DAY: Final = 24
HOURS_OF_WEEK: Final = 168
LAGS: Final = 25  # hours kept one by one: yesterday's same hour, and the one before it

SEASONAL_TERMS: Final = 12
SHORT_TERMS: Final = 5
RAW_TERMS: Final = 8
EXPERTS: Final = 9
CLAIMS: Final = 3  # the threshold, the upper and the lower bound of the interval
SCALES: Final = 4
HISTOGRAMS: Final = 5
TRACKERS: Final = 3
CANDIDATES: Final = HISTOGRAMS + TRACKERS
BINS: Final = 48
DISCOUNTS: Final = 2


def _triangle(terms: int) -> int:
    """Numbers in the upper triangle of a symmetric matrix."""
    return terms * (terms + 1) // 2


FORECASTER_FIELDS: Final[list[tuple[Any, ...]]] = [
    # Observations seen, those learned; hours since the first, silent hours since the last; the next hour's slot.
    ("n_observed", "<i4"),
    ("n_learned", "<i4"),
    ("hours", "<i4"),
    ("silent", "<i4"),
    ("slot", "<i2"),
    # Scale: z = log(value + offset), or the value itself.
    ("has_offset", "u1"),
    ("offset", "<f8"),
    ("z_mean", "<f8"),
    ("z_variance", "<f8"),
    ("raw_mean", "<f8"),
    ("raw_variance", "<f8"),
    ("level", "<f8"),
    ("largest", "<f8"),
    ("peak", "<f8"),
    # The last hours: values (silent ones imputed), averages of z, and the seasonal means of the hour before.
    ("last", "<f8"),
    ("before_last", "<f8"),
    ("recent", "<f4", (LAGS,)),
    ("averages", "<f4", (3,)),
    ("week_before", "<f4"),
    ("day_before", "<f4"),
    # Season, of z; NaN is an hour of the week not seen yet.
    ("hour_of_week", "<f4", (HOURS_OF_WEEK,)),
    ("hour_of_day", "<f4", (HOURS_OF_DAY,)),
    ("day_count", "u1", (HOURS_OF_DAY,)),
    # Spread: usual |value - location|, slow, quick and by hour of day.
    ("slow_spread", "<f8"),
    ("quick_spread", "<f8"),
    ("day_spread", "<f4", (HOURS_OF_DAY,)),
    # Recursive least squares: weights, upper triangle of the covariance, robust spread of the error.
    ("seasonal_weights", "<f4", (SEASONAL_TERMS,)),
    ("seasonal_covariance", "<f4", (_triangle(SEASONAL_TERMS),)),
    ("seasonal_error", "<f4", (1,)),
    ("short_weights", "<f4", (SHORT_TERMS,)),
    ("short_covariance", "<f4", (_triangle(SHORT_TERMS),)),
    ("short_error", "<f4", (1,)),
    ("raw_weights", "<f4", (RAW_TERMS,)),
    ("raw_covariance", "<f4", (_triangle(RAW_TERMS),)),
    ("raw_error", "<f4", (1,)),
    # Mixture of the experts, slow and quick discount.
    ("expert_regrets", "<f4", (DISCOUNTS, EXPERTS)),
    ("expert_squares", "<f4", (DISCOUNTS, EXPERTS)),
    ("expert_loss", "<f8", (DISCOUNTS,)),
    # Bounds: histograms of the normalised residual, tracked quantiles, their mixture, and the control on top.
    ("n_settled", "<i4"),
    ("increments", "<f4", (2,)),
    ("bins", "<u2", (HISTOGRAMS, BINS)),
    ("tracked", "<f4", (CLAIMS, TRACKERS)),
    ("tracked_unit", "<f4", (TRACKERS,)),
    ("bound_regrets", "<f4", (CLAIMS, DISCOUNTS, CANDIDATES)),
    ("bound_squares", "<f4", (CLAIMS, DISCOUNTS, CANDIDATES)),
    ("corrections", "<f4", (CLAIMS,)),
    # Hours in a row that were too far out to be learned; what was adopted last: hours ago (-1 never), ratio of levels.
    ("gross_run", "<i2"),
    ("gross_last", "<f8"),
    ("adopted_ago", "<i4"),
    ("adopted_ratio", "<f4"),
]

SERIES_FIELDS: Final[list[tuple[Any, ...]]] = [
    ("version", "u1"),
    ("is_signed", "u1"),
    ("next_hour", "<i8"),  # hours since the epoch; 0 before the first observation
    ("n_before", "<i4"),  # observations of an earlier forecaster, on another scale
    ("judged", "<i4"),
    ("exceedance_rate", "<f8"),
    ("expected_count", "<f4"),
]

ROW: Final = np.dtype([*SERIES_FIELDS, *FORECASTER_FIELDS, *REFERENCE_FIELDS, *COUNT_FIELDS])


_AT = {name: ROW.fields[name][1] for name in ("next_hour", "n_before", "n_observed")} if ROW.fields else {}


def next_hour_of(record: bytes) -> int:
    """The hour after the last one learned, of a record's bytes; 0 before the first."""
    if len(record) < ROW.itemsize:
        return 0
    seen = int.from_bytes(record[_AT["n_observed"] : _AT["n_observed"] + 4], "little")
    seen += int.from_bytes(record[_AT["n_before"] : _AT["n_before"] + 4], "little")
    return int.from_bytes(record[_AT["next_hour"] : _AT["next_hour"] + 8], "little", signed=True) if seen else 0


def copied(rows: np.ndarray[tuple[int], np.dtype[np.void]]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    """The same records, to be written to apart; `ndarray.copy` goes field by field, which takes 50 times as long."""
    return np.frombuffer(bytearray(rows.tobytes()), rows.dtype)


MEAN, RATIO, GAUGE = range(3)

# How values of one series are to be understood. By claim: `sides` +1 upper or -1 lower, `tails` the share outside.
SETUP: Final = np.dtype(
    [
        ("kind", "u1"),
        ("lower", "<f8"),
        ("upper", "<f8"),
        ("base", "<f8"),
        ("is_log", "u1"),
        ("sides", "<f8", (CLAIMS,)),
        ("tails", "<f8", (CLAIMS,)),
        ("prior", "<f8"),
        ("prior_threshold", "<f8"),
        ("min_calls", "<i4"),
    ]
)

# What is said of one hour before it is known, and of its value once it is.
ANSWER: Final = np.dtype(
    [
        ("location", "<f8"),
        ("lower", "<f8"),
        ("upper", "<f8"),
        ("threshold", "<f8"),
        ("counted", "<f8"),
        ("told", "<f8"),
        ("expected_count", "<f8"),
        ("is_judged", "u1"),
        ("is_exceeded", "u1"),
        ("is_credible", "u1"),
        ("score", "<f8"),
        ("slow", "<f8"),
        ("fast", "<f8"),
    ]
)

# What was looked at for one hour, and is needed again when its value is learned; never kept.
OUTLOOK: Final = np.dtype(
    [
        ("slot", "<i8"),
        ("location", "<f8"),
        ("lower", "<f8"),
        ("upper", "<f8"),
        ("threshold", "<f8"),
        ("week", "<f8"),
        ("day", "<f8"),
        ("is_new_week", "u1"),
        ("raw_week", "<f8"),
        ("raw_day", "<f8"),
        ("week_deviation", "<f8"),
        ("day_deviation", "<f8"),
        ("unit", "<f8"),
        ("raw_unit", "<f8"),
        ("least", "<f8"),
        ("grain", "<f8"),
        ("seasonal_terms", "<f8", (SEASONAL_TERMS,)),
        ("short_terms", "<f8", (SHORT_TERMS,)),
        ("raw_terms", "<f8", (RAW_TERMS,)),
        ("regressions", "<f8", (3,)),
        ("opinions", "<f8", (EXPERTS,)),
        ("weights", "<f8", (EXPERTS,)),
        ("mixtures", "<f8", (DISCOUNTS,)),
        ("scales", "<f8", (SCALES,)),
        ("candidates", "<f8", (CLAIMS, CANDIDATES)),
        ("bound_mixtures", "<f8", (CLAIMS, DISCOUNTS)),
        ("bounds", "<f8", (CLAIMS,)),
    ]
)

# What people are told beside an answer, rounded for reading. A weight of 0 is left out, and so is `limits` where the
# series is no rate: `limits[k]` is the highest rate, in %, of RATE_SIZES[k] calls that is no evidence.
RATE_SIZES: Final = (5, 20, 100, 1_000, 10_000)
LEAST_SHARE: Final = 0.05  # the smallest weight of an expert that is told
NO_DRIFT, LEVEL_SHIFT, CREEP = range(3)
TOLD: Final = np.dtype(
    [
        ("n_learned", "<i8"),
        ("judged", "<i8"),
        ("exceedance_rate", "<f8"),
        ("is_warm", "u1"),
        ("expected_count", "<f8"),
        ("min_count", "<i8"),
        ("slot", "<i8"),
        ("day_mean", "<f8"),
        ("week_mean", "<f8"),
        ("spread", "<f8"),
        ("disagreement", "<f8"),
        ("correction", "<f8"),
        ("weights", "<f8", (EXPERTS,)),
        ("silent", "<i8"),
        ("is_young", "u1"),
        ("is_outage", "u1"),
        ("is_counted", "u1"),
        ("drift", "u1"),
        ("has_shift", "u1"),
        ("shift_from", "<f8"),
        ("shift_to", "<f8"),
        ("shift_hours", "<i8"),
        ("creep_rise", "<f8"),
        ("expected_rate", "<f8"),
        ("overdispersion", "<f8"),
        ("limits", "<f8", (len(RATE_SIZES),)),
    ]
)
