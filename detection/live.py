"""Evidence inside the hour: what the last minutes of a biller say, held against what was published for their hour.

    after a closing    `live_normals` (of its own module) keeps what the judge needs, a few numbers a series
    at each flush      `judge_minutes` judges every minute that is closed since

A minute is judged by windows of 1, 2, 3, 5, 10 and 15 minutes that end with it, and speaks through the one that is
least likely. What is allowed is said as people count it, in false alerts per biller and week, and is shared among the
metrics and the windows; from it follows how many failed calls of so many, how slow a mean of so many, how few calls
are beyond. One failed call of three never is.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Final, Self

import numpy as np

from detection.catalogue import AVERAGE_RESPONSE_TIME, ERROR_RATE, TIMEOUT_ERROR_RATE
from detection.hours import MINUTE_MS
from detection.kernel.bank import Records
from detection.kernel.live import EVIDENCE, LIMITS, LONGEST, SCALES, judge_live
from detection.kernel.live_normal import NORMAL
from detection.rules.alert import Judged
from detection.windows import CallWindow, Window

# Pseudo metric: the number of calls, which can be too small.
SILENCE: Final = "calls"
SLUGS: Final = (AVERAGE_RESPONSE_TIME.slug, ERROR_RATE.slug, TIMEOUT_ERROR_RATE.slug, SILENCE)

_WEEK_MINUTES: Final = 7 * 24 * 60
_WEEK_HOURS: Final = 7 * 24
# Windows that overlap are not all the same: so many independent ones for each that does not overlap.
_OVERLAP: Final = 1.5
_THRESHOLD_TAIL: Final = 0.01
_LEVELS_PER_HOUR: Final = 1


@dataclass(frozen=True, slots=True)
class LiveNormal:
    """What was published of one series for the hour `hour`, as its minutes are judged; `LiveNormal(*numbers)` reads it.

    `location` is the mean (ms), the failed share 0..1 or the number of calls that is expected of the hour, `before` of
    the hour before it. `reach` is how much the level of an hour varies by itself: for a latency the way to its
    threshold, for a rate the over-dispersion, for calls the relative variance. `noise` is the relative standard
    deviation of a minute's level from what was published, beyond what sampling explains. `spread` is the standard
    deviation of one call's latency relative to the mean; for a rate how much `noise` is known by (squared failures that
    were expected); for calls how many were missed in whole silent hours.
    """

    hour: int
    location: float
    before: float
    reach: float
    spread: float = 1.0
    noise: float = 0.0

    @classmethod
    def rounded(cls, hour: int, *numbers: float) -> Self:
        """In five significant digits, as it is stored: a worker that was restarted goes on like one that was not."""
        return cls(hour, *(float(f"{number:.5g}") for number in numbers))

    def numbers(self) -> tuple[int, float, float, float, float, float]:
        """As it is stored: plain numbers."""
        return (self.hour, self.location, self.before, self.reach, self.spread, self.noise)


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePolicy:
    """What is beyond, in people's terms.

    `false_alerts` is how many are accepted per biller and week. Below the floors nothing is worth anybody's time,
    however certain: a latency must be `least_ms` and a share `least_share` above what is expected, a failed share
    `least_rate` (of 1) and a share `least_rise`, with `least_failed` failed calls; of the calls a share `least_drop`
    must be missing.
    """

    false_alerts: float = 0.03
    least_ms: float = 20.0
    least_share: float = 0.4
    least_rate: float = 0.02
    least_rise: float = 0.5
    least_failed: int = 4
    least_answered: int = 10
    least_drop: float = 0.9


@lru_cache(maxsize=64)
def limits_of(policy: LivePolicy) -> Records:
    """The policy as chances: one record of `LIMITS`."""
    limits = np.zeros(1, LIMITS)
    of_metric = policy.false_alerts / len(SLUGS)
    for at, scale in enumerate(SCALES):
        chance = of_metric / len(SCALES) * scale / _WEEK_MINUTES / _OVERLAP
        limits["log_tails"][0, at] = math.log(chance)
        limits["deviations"][0, at] = NormalDist().inv_cdf(1.0 - chance) if chance > 1e-12 else 7.1
    # Beyond its threshold a level is taken to fall off exponentially.
    limits["stretch"] = math.log(of_metric / _WEEK_HOURS) / math.log(_THRESHOLD_TAIL)
    limits["level_deviation"] = NormalDist().inv_cdf(1.0 - of_metric / _WEEK_HOURS / _LEVELS_PER_HOUR)
    for name in ("least_ms", "least_share", "least_rate", "least_rise", "least_failed", "least_answered", "least_drop"):
        limits[name] = getattr(policy, name)
    return limits


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one window said of one series: so many calls in so many minutes, and how far that is from what is normal.

    `value` and `boundary` are in the metric's unit (of `calls`: calls in the window), `score` is 1.0 at the boundary.
    `chance` is how often a single window of a healthy biller says as much. Beyond and clear are never both: an incident
    that is over leaves the long windows later than the last minutes, and those are believed.
    """

    slug: str
    minute: int
    minutes: int
    value: float
    count: int
    failed: int
    expected: float
    boundary: float
    score: float
    chance: float
    is_beyond: bool
    is_clear: bool

    @property
    def sentence(self) -> str:
        """For an operator."""
        span = "the last minute" if self.minutes == 1 else f"the last {self.minutes} minutes"
        if self.slug == SILENCE:
            return (
                f"{self.count} calls in {span}; at least {math.ceil(self.boundary)} would be normal, "
                f"{self.expected:.0f} usual"
            )
        if self.slug == AVERAGE_RESPONSE_TIME.slug:
            return (
                f"{self.count} calls took {self.value:.0f} ms on average in {span}; "
                f"up to {self.boundary:.0f} ms would be normal, {self.expected:.0f} ms usual"
            )
        what = "timed out" if self.slug == TIMEOUT_ERROR_RATE.slug else "failed"
        most = math.floor(self.boundary * self.count / 100.0 + 1e-9)
        return f"{self.failed} of {self.count} calls {what} in {span}; at most {most} would be normal"

    def judged(self) -> Judged:
        """As the life cycle of alerts takes it."""
        detail: dict[str, float | str] = {
            "minutes": self.minutes,
            "expected": float(f"{self.expected:.5g}"),
            "chance": float(f"{self.chance:.2g}"),
            "sentence": self.sentence,
        }
        return Judged(
            at_ms=(self.minute + 1) * MINUTE_MS,
            value=self.value,
            # What stands behind a silence are the calls that are missing.
            count=max(round(self.expected), 1) if self.slug == SILENCE else self.count,
            boundary=self.boundary,
            score=self.score,
            is_beyond=self.is_beyond,
            is_clear=self.is_clear,
            span="minute",
            estimate=self.expected,
            detail=detail,
        )


def judge_minutes(
    live: Mapping[str, LiveNormal],
    minutes: Mapping[int, Window],
    from_minute: int,
    to_minute: int,
    policy: LivePolicy = LivePolicy(),
) -> list[Evidence]:
    """What the minutes [`from_minute`, `to_minute`) of one biller say, oldest first; all of them must be known.

    `minutes` are the last ones with calls, by minutes since the epoch, whatever their order. Older minutes than the
    15 before the newest asked for are not judged. A series without a normal says nothing.
    """
    return judge_many_minutes([(live, minutes, from_minute, to_minute)], policy)[0]


Question = tuple[Mapping[str, LiveNormal], Mapping[int, Window], int, int]


def judge_many_minutes(
    questions: Sequence[Question],
    policy: LivePolicy = LivePolicy(),
    *,
    watched: Sequence[Collection[str]] | None = None,
) -> list[list[Evidence]]:
    """`judge_minutes` of many billers in one pass.

    With `watched`, the series of each biller that somebody looks at anyhow, only those and what is beyond are answered:
    most billers have neither, and to put their evidence into words takes longer than to find it.
    """
    number = len(questions)
    if not number:
        return []
    first, last, begin, end = ([0] * number for _ in range(4))
    # Whole columns at a time: to set an array's element takes longer than to judge it.
    places: list[int] = []
    counts: list[tuple[float, ...]] = []
    for at, (_, minutes, from_minute, to_minute) in enumerate(questions):
        start = max(from_minute, to_minute - LONGEST)
        begin[at], end[at] = start, to_minute
        first[at] = origin = to_minute - _SPAN
        last_call = -1
        for minute, window in minutes.items():
            if minute >= to_minute or not isinstance(window, CallWindow):
                continue
            if minute >= origin:
                places.append(at * _SPAN + minute - origin)
                counts.append(
                    (window.calls, window.errors, window.timeouts, float(window.latency_us), float(window.latency_us2))
                )
            if minute < start and minute > last_call and window.calls:
                last_call = minute
        last[at] = last_call
    counted = np.zeros((number * _SPAN, 5))
    if places:
        counted[places] = counts
    judged = np.zeros((number, LONGEST, len(SLUGS)), EVIDENCE)
    judge_live(
        counted.reshape(number, _SPAN, 5),
        np.array(first, np.int64),
        np.array(last, np.int64),
        np.array(begin, np.int64),
        np.array(end, np.int64),
        normal_records([live for live, *_ in questions]),
        limits_of(policy),
        judged,
    )
    is_loud = (judged["is_beyond"] == 1).any(axis=(1, 2)).tolist()
    answers: list[list[Evidence]] = []
    for at, (since, until) in enumerate(zip(begin, end, strict=True)):
        wanted = None if watched is None else watched[at]
        if wanted is not None and not wanted and not is_loud[at]:
            answers.append([])
            continue
        every = (one for minute in range(since, until) for one in evidence_of(judged[at, minute - since], minute))
        answers.append([one for one in every if wanted is None or one.is_beyond or one.slug in wanted])
    return answers


def normal_records(lives: Sequence[Mapping[str, LiveNormal]]) -> Records:
    """Records of `NORMAL`, one a biller and metric; by those of a series that has no normal nothing is judged."""
    known = [live.get(slug) for live in lives for slug in SLUGS]
    normals = np.array([_NO_NORMAL if one is None else one.numbers() for one in known], NORMAL)
    return normals.reshape(len(lives), len(SLUGS))


_NO_NORMAL: Final = (0, math.nan, math.nan, math.nan, 0.0, 0.0)
_SPAN: Final = 2 * LONGEST - 1
_PERCENT_OR_ONE: Final = {SILENCE: 1.0, AVERAGE_RESPONSE_TIME.slug: 1.0}


def evidence_of(judged: Records, minute: int) -> Iterable[Evidence]:
    """The evidence in one minute's records of `EVIDENCE`, one a metric; none of a series that could not be judged."""
    for slug, one in zip(SLUGS, judged.tolist(), strict=True):
        value, count, failed, minutes, expected, boundary, score, log_chance, has_any, is_beyond, is_clear = one
        if has_any:
            unit = _PERCENT_OR_ONE.get(slug, 100.0)
            yield Evidence(
                slug, minute, minutes, unit * value, count, failed, unit * expected, unit * boundary, score,
                math.exp(max(log_chance, -700.0)), bool(is_beyond), bool(is_clear),
            )  # fmt: skip
