"""Whether a threshold kept what it claims: the share of judged hours beyond it, and how sure that share is.

The interval is that of Clopper and Pearson (1934, "The use of confidence or fiducial limits illustrated in the case of
the binomial"), with the number of hours that the sample is worth in place of the number that it has: exceedances come
in clumps, an hour of an incident beside the next one, and an interval that takes them for independent is too narrow.
How much they clump is Kish's design effect (1965, "Survey Sampling") with days as clusters: the variance of the share
over days, relative to the one that independent hours would have. Korn and Graubard (1998, "Confidence intervals for
proportions with small expected number of positive counts estimated from survey data") put the two together. One hour
beyond its threshold among seven is no evidence against a claim of one in a hundred; Wilson's interval takes it for one.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Standing = Literal["kept", "more than claimed", "fewer than claimed", "unknown"]

CONFIDENCE: Final = 0.95
"""How often an interval made like this holds the true share."""

_DAY_HOURS: Final = 24


@dataclass(frozen=True, slots=True)
class Days:
    """The judged days of one or more series: how many hours of each were judged, and how many of these exceeded."""

    judged: Counts
    exceeded: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claimed share of hours beyond the threshold beside the observed one; shares of 1.

    `low` and `high` bound the true share with a confidence of 95 %. `clumping` is the design effect, 1.0 where
    exceedances are independent: so many hours say as much as one independent hour. `observed`, `low` and `high` are
    None where nothing was judged.
    """

    claimed: float
    judged: int
    exceeded: int
    observed: float | None
    low: float | None
    high: float | None
    clumping: float
    standing: Standing


def days_of(hours: Counts, is_exceeded: NDArray[np.bool_]) -> Days:
    """The judged hours (since the epoch, ascending) of one series by their day, UTC."""
    starts = np.flatnonzero(np.diff(hours // _DAY_HOURS, prepend=-1))
    if not starts.size:
        return Days(np.zeros(0, np.int64), np.zeros(0, np.int64))
    return Days(
        judged=np.diff(starts, append=hours.size).astype(np.int64),
        exceeded=np.add.reduceat(is_exceeded.astype(np.int64), starts),
    )


def together(parts: list[Days]) -> Days:
    """The days of several series; a day of each is a cluster of its own."""
    nothing = np.zeros(0, np.int64)
    return Days(
        np.concatenate([nothing, *(one.judged for one in parts)]),
        np.concatenate([nothing, *(one.exceeded for one in parts)]),
    )


def held(claimed: float, days: Days) -> Claim:
    """Hold the claimed share against what was observed.

    >>> held(0.01, Days(np.full(100, 24), np.zeros(100, np.int64))).standing
    'fewer than claimed'
    """
    judged, exceeded = int(days.judged.sum()), int(days.exceeded.sum())
    if judged == 0:
        return Claim(
            claimed=claimed, judged=0, exceeded=0, observed=None, low=None, high=None, clumping=1.0, standing="unknown"
        )
    effect = _design_effect(days, exceeded / judged, judged)
    low, high = interval(exceeded / judged, judged / effect)
    standing: Standing = "more than claimed" if low > claimed else "fewer than claimed" if high < claimed else "kept"
    return Claim(
        claimed=claimed,
        judged=judged,
        exceeded=exceeded,
        observed=exceeded / judged,
        low=low,
        high=high,
        clumping=effect,
        standing=standing,
    )


def interval(share: float, size: float) -> tuple[float, float]:
    """The 95 % interval of a share that was observed in a sample of this size, above 0 and not always whole.

    >>> [round(end, 4) for end in interval(1 / 7, 7.0)]
    [0.0036, 0.5787]
    """
    # It takes longer to load than a worker has to start, and is asked minutes later.
    from scipy.special import betaincinv  # noqa: PLC0415

    seen = share * size
    tail = (1.0 - CONFIDENCE) / 2.0
    low = 0.0 if share <= 0.0 else float(betaincinv(seen, size - seen + 1.0, tail))
    high = 1.0 if share >= 1.0 else float(betaincinv(seen + 1.0, size - seen, 1.0 - tail))
    return low, high


def _design_effect(days: Days, share: float, judged: int) -> float:
    """At least 1: that days are more alike than chance would have them is chance."""
    n = days.judged.size
    if n < 2 or share in {0.0, 1.0}:
        return 1.0
    gaps = days.exceeded - share * days.judged
    clustered = n / (n - 1) * float((gaps * gaps).sum()) / (judged * judged)
    return max(1.0, clustered / (share * (1.0 - share) / judged))
