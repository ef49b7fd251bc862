"""What had been published of an hour before it was learned, and how its value compared with it."""

from collections.abc import Iterable
from itertools import repeat

import msgspec

from detection.estimate import Scored
from detection.kernel.bank import Records


class JudgedHour(msgspec.Struct, frozen=True, gc=False):
    """The forecast that stood for one hour of one series, and the verdict on the hour's value.

    `estimate`, `lower`, `upper` and `threshold` are in the metric's unit; `score` is 1.0 exactly where an alert is due.
    `coverage` is the share of normal hours that the threshold claimed to hold, and `expected_calls` how many calls were
    expected of the hour. A struct and not a dataclass: a million of them are made and written when an hour closes.
    """

    estimate: float
    lower: float
    upper: float
    threshold: float
    score: float
    is_exceeded: bool
    is_credible: bool
    coverage: float
    expected_calls: float


def judged_hour(verdict: Scored, *, band: tuple[float, float], coverage: float, expected_calls: float) -> JudgedHour:
    """Of a verdict, and of what else was said of its hour; `band` are the ends of the 95 % band."""
    return JudgedHour(
        verdict.estimate,
        *band,
        verdict.threshold,
        verdict.score,
        verdict.is_exceeded,
        verdict.is_credible,
        coverage,
        expected_calls,
    )


def judged_hours(verdicts: Records, *, coverage: float) -> Iterable[JudgedHour]:
    """One for each of these verdicts (`ANSWER`), as `judged_hour` makes it."""
    numbers = (verdicts[name].tolist() for name in ("location", "lower", "upper", "threshold", "score"))
    claims = ((verdicts[name] == 1).tolist() for name in ("is_exceeded", "is_credible"))
    return map(JudgedHour, *numbers, *claims, repeat(coverage), verdicts["expected_count"].tolist())
