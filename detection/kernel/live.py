"""How improbable the last minutes of a biller are: tails of counted failures, of mean latency, of missing calls.

Several windows that end with the judged minute are looked at, and each has a share of the chance that is allowed: 1, 2,
3, 5, 10 and 15 minutes. A rate is held against the Beta-Binomial distribution, whose tail is summed from the observed
number outwards, so that a chance of one in a billion is as exact as one in ten; the number of calls against the
negative binomial one; a mean against the reach of the hour's level and the sampling error of so many calls.

Rates are fractions 0..1 here, latencies milliseconds; minutes are minutes since the epoch.
"""

import math

import numpy as np
from numpy.typing import NDArray

from detection.compiled import Record, compiled
from detection.kernel.bank import Records
from detection.kernel.beta_binomial import _growth, _limit, _log_chance, _shape

Whole = NDArray[np.int64]
Numbers = NDArray[np.float64]

SCALES = (1, 2, 3, 5, 10, 15)
LONGEST = 15
LATENCY, ERRORS, TIMEOUTS, CALLS = range(4)
CALL, ERROR, TIMEOUT, LATENCY_US, LATENCY_US2 = range(5)

# What the best window said: its value (ms, a failed share, calls), the calls in it, its minutes, the boundary for so
# many calls. `has_any` is 0 where no window could be judged.
EVIDENCE = np.dtype(
    [
        ("value", "<f8"),
        ("count", "<i8"),
        ("failed", "<i8"),
        ("minutes", "<i8"),
        ("expected", "<f8"),
        ("boundary", "<f8"),
        ("score", "<f8"),
        ("log_chance", "<f8"),
        ("has_any", "u1"),
        ("is_beyond", "u1"),
        ("is_clear", "u1"),
    ]
)

# How unlikely is beyond, and what is worth anybody's time. By scale `log_tails`, the log of the chance that one window
# is beyond, and `deviations`, the standard normal quantile of it. `stretch` is how many times as far as its threshold
# a level may go. Floors: `least_ms` and `least_share` of latencies, `least_rate` (a fraction) and `least_rise` (a
# share) of rates, `least_failed` calls, `least_answered` calls, `least_drop` the share of calls that must be missing.
LIMITS = np.dtype(
    [
        ("log_tails", "<f8", (len(SCALES),)),
        ("deviations", "<f8", (len(SCALES),)),
        ("stretch", "<f8"),
        ("level_deviation", "<f8"),
        ("least_ms", "<f8"),
        ("least_share", "<f8"),
        ("least_rate", "<f8"),
        ("least_rise", "<f8"),
        ("least_failed", "<f8"),
        ("least_answered", "<f8"),
        ("least_drop", "<f8"),
    ]
)

_LONGEST_SUM = 4000
_NEGLIGIBLE = 1e-6
_NEAR = 0.5
_JUST_BEYOND = 1.001
_LARGEST_RHO = 0.5
_FEW_EXPECTED = 3.0
_CLEAR = 0.5  # of the way to the boundary
_CLEAR_MINUTES = 5
_LARGEST_SCORE = 1000.0
_LEAST_VARIED = 0.09
_SCALES = np.array(SCALES, np.int64)


@compiled
def log_rate_tail(failed: float, calls: float, rate: float, rho: float) -> float:
    """Log of the probability that so many of the calls fail, or more: Beta-Binomial, exact; 0 up to the mean."""
    if failed <= calls * rate or failed < 1.0:
        return 0.0
    if failed > calls:
        return -math.inf
    alpha, beta = _shape(rate, rho)
    first = _log_chance(failed, calls, rate, alpha, beta)
    total = 1.0
    term = 1.0
    k = failed
    for _ in range(_LONGEST_SUM):
        if k >= calls:
            break
        term *= _growth(k, calls, rate, alpha, beta)
        total += term
        k += 1.0
        if term < _NEGLIGIBLE * total:
            break
    return min(first + math.log(total), 0.0)


@compiled
def log_silence_tail(calls: float, expected: float, variance: float) -> float:
    """Log of the probability of so few calls, or fewer; 0 from the mean on.

    Poisson with a Gamma level of that relative variance, which is the negative binomial distribution, exact.
    """
    if calls >= expected or not expected > 0.0:
        return 0.0
    size = 1.0 / max(variance, 1e-9)
    # In logs, for sizes of 10^9 and means of 10^-9: P(0) = (1 + expected / size) ** -size.
    share = math.log1p(expected / size)
    first = -size * share
    if calls > 0.0:
        first += math.lgamma(calls + size) - math.lgamma(size) - math.lgamma(calls + 1.0)
        first += calls * (math.log(expected / size) - share)
    odds = expected / (expected + size)
    total = 1.0
    term = 1.0
    n = calls
    for _ in range(_LONGEST_SUM):
        if n <= 0.0:
            break
        term *= n / ((n - 1.0 + size) * odds)
        total += term
        n -= 1.0
        if term < _NEGLIGIBLE * total:
            break
    return min(first + math.log(total), 0.0)


@compiled
def judge_live(
    minutes: Numbers,
    first: Whole,
    last_call: Whole,
    begin: Whole,
    end: Whole,
    normals: Records,
    limits: Records,
    evidence: Records,
) -> None:
    """Judge the minutes [`begin[b]`, `end[b]`) of biller b, each by the windows that end with it.

    `minutes[b, i]` counts the calls of minute `first[b] + i`, zeros where there was none: calls, errors, timeouts, the
    sums of microseconds and of their squares. `last_call[b]` is the last minute before `first[b]` that had a call, -1
    where that is not known. Evidence [b, i, m] is on metric m in minute `begin[b] + i`.
    """
    for b in range(len(minutes)):
        for minute in range(begin[b], end[b]):
            at = minute - first[b]
            if at < 0 or at >= minutes.shape[1]:
                continue
            found = evidence[b, minute - begin[b]]
            limit = limits[0]
            _judge_latency(minutes[b], at, first[b], normals[b, LATENCY], limit, found[LATENCY])
            _judge_rate(minutes[b], at, first[b], ERROR, normals[b, ERRORS], limit, found[ERRORS])
            _judge_rate(minutes[b], at, first[b], TIMEOUT, normals[b, TIMEOUTS], limit, found[TIMEOUTS])
            _judge_calls(minutes[b], at, first[b], last_call[b], normals[b, CALLS], limit, found[CALLS])


@compiled
def _expected(normal: Record, minute: int, length: int) -> float:
    """The mean location of the minutes of a window that ends with this one: what lies before the hour has its own."""
    since = normal.hour * 60
    before = min(max(since - (minute - length + 1), 0), length)
    return float((normal.location * (length - before) + normal.before * before) / length)


@compiled
def _judge_latency(minutes: Numbers, at: int, first: int, normal: Record, limit: Record, found: Record) -> None:
    _forget(found)
    if not normal.location > 0.0:
        return
    recent = math.nan
    answered, total, squares = 0.0, 0.0, 0.0
    length = 0
    for scale in range(len(_SCALES)):
        while length < _SCALES[scale] and length <= at:
            answered += minutes[at - length, CALL] - minutes[at - length, TIMEOUT]
            total += minutes[at - length, LATENCY_US]
            squares += minutes[at - length, LATENCY_US2]
            length += 1
        if length < _SCALES[scale] or answered < limit.least_answered:
            continue
        expected = _expected(normal, first + at, length)
        value = total / answered / 1000.0
        sampling = squares / answered / 1e6 - value * value
        usual = normal.spread * expected
        # Its own spread, where that is larger: a single huge call lifts both the mean and the doubt about it.
        variance = max(sampling * answered / (answered - 1.0), usual * usual) / answered
        doubt = limit.deviations[scale] * math.sqrt(variance)
        reach = max(limit.stretch * normal.reach, limit.level_deviation * normal.noise * expected)
        least = max(expected * limit.least_share, limit.least_ms)
        way = max(math.hypot(reach, doubt), least)
        score = (value - expected) / way
        if length <= _CLEAR_MINUTES or math.isnan(recent):
            recent = (value - expected) / max(reach, least)
        if not found.has_any or score > found.score:
            _note(found, value, answered, 0.0, length, expected, expected + way, score, score * limit.log_tails[scale])
    _conclude(found, recent)


@compiled
def _judge_rate(
    minutes: Numbers, at: int, first: int, column: int, normal: Record, limit: Record, found: Record
) -> None:
    _forget(found)
    if not 0.0 < normal.location < 1.0:
        return
    recent = math.nan
    calls, failed = 0.0, 0.0
    length = 0
    for scale in range(len(_SCALES)):
        while length < _SCALES[scale] and length <= at:
            calls += minutes[at - length, CALL]
            failed += minutes[at - length, column]
            length += 1
        if length < _SCALES[scale] or calls < 1.0:
            continue
        expected = _expected(normal, first + at, length)
        log_tail = limit.log_tails[scale]
        # The same in two words: the correlation of two calls, and the relative variance of the level.
        varied = max(normal.noise * normal.noise, normal.reach * (1.0 - expected) / expected, _LEAST_VARIED)
        rho = min(varied * expected / (1.0 - expected), _LARGEST_RHO)
        # Levels of rates are skewed: as likely so many times as high as that part of it.
        spread = math.sqrt(math.log1p(varied))
        level = expected * max(math.exp(limit.level_deviation * spread), 1.0 + limit.least_rise)
        level = max(level, expected + limit.least_rate)
        boundary = max(level, (limit.least_failed - 1.0) / calls)
        log_chance = log_rate_tail(failed, calls, expected, rho)
        rate = failed / calls
        score = min(log_chance / log_tail, (rate - expected) / (boundary - expected))
        if score > _NEAR:
            highest, _, _ = _limit(expected, rho, calls, math.exp(log_tail))
            boundary = max(boundary, math.floor(highest + 1e-9) / calls)
            if score > 1.0:
                score = max((rate - expected) / (boundary - expected), _JUST_BEYOND)
        if (length <= _CLEAR_MINUTES or math.isnan(recent)) and calls >= limit.least_answered:
            recent = (rate - expected) / (level - expected)
        if not found.has_any or score > found.score:
            _note(found, rate, calls, failed, length, expected, boundary, score, log_chance)
    _conclude(found, recent)


@compiled
def _judge_calls(
    minutes: Numbers, at: int, first: int, last_call: int, normal: Record, limit: Record, found: Record
) -> None:
    _forget(found)
    if not normal.location > 0.0:
        return
    recent = math.nan
    calls = 0.0
    length, silent = 0, 0
    for scale in range(len(_SCALES)):
        while length < _SCALES[scale] and length <= at:
            calls += minutes[at - length, CALL]
            length += 1
            if calls == 0.0:
                silent = length
        if length < _SCALES[scale]:
            continue
        expected = _expected(normal, first + at, length) * length / 60.0
        variance = max(normal.reach, normal.noise * normal.noise)
        recent_one = _judge_silence(calls, expected, variance, length, limit, scale, found)
        if length <= _CLEAR_MINUTES or math.isnan(recent):
            recent = recent_one
    if silent == LONGEST:
        # A silence that began before all of these windows.
        while silent <= at and minutes[at - silent, CALL] == 0.0:
            silent += 1
        last = first + at - silent if silent <= at else last_call
        if last >= 0:
            since = normal.hour * 60
            minute = first + at
            missed = normal.location * min(minute - max(last, since - 1), 60) / 60.0
            if last < since:
                missed += normal.spread + normal.before * min(since - 1 - last, 60) / 60.0
            recent = _judge_silence(0.0, missed, normal.reach, minute - last, limit, len(_SCALES) - 1, found)
    _conclude(found, recent)


@compiled
def _judge_silence(
    calls: float, expected: float, variance: float, length: int, limit: Record, scale: int, found: Record
) -> float:
    """Whether so few calls are the best evidence; the share of the usual ones that is missing, of what must be."""
    log_chance = log_silence_tail(calls, expected, variance)
    missing = (1.0 - calls / expected) / limit.least_drop
    score = min(log_chance / limit.log_tails[scale], missing)
    if not found.has_any or score > found.score:
        boundary = (1.0 - limit.least_drop) * expected
        # As few as this would still be normal, if the chance alone decides.
        if score > _NEAR:
            low, high = -1.0, math.floor(boundary)
            while high > low:
                middle = math.ceil(0.5 * (low + high))
                if log_silence_tail(middle, expected, variance) > limit.log_tails[scale]:
                    high = middle - 1.0
                else:
                    low = middle
            boundary = min(boundary, low + 1.0)
        _note(found, calls, calls, 0.0, length, expected, boundary, score, log_chance)
    return missing if expected >= _FEW_EXPECTED else math.nan


@compiled
def _forget(found: Record) -> None:
    found.value = 0.0
    found.count, found.failed, found.minutes = 0, 0, 0
    found.expected, found.boundary, found.score, found.log_chance = 0.0, 0.0, 0.0, 0.0
    found.has_any, found.is_beyond, found.is_clear = 0, 0, 0


@compiled
def _note(
    found: Record, value: float, count: float, failed: float, length: int,
    expected: float, boundary: float, score: float, log_chance: float,
) -> None:  # fmt: skip
    found.value = value
    found.count, found.failed, found.minutes = int(count), int(failed), length
    found.expected, found.boundary = expected, boundary
    found.score = min(score, _LARGEST_SCORE)
    found.log_chance = log_chance
    found.has_any = 1


@compiled
def _conclude(found: Record, recent: float) -> None:
    """Clear is what the last minutes say alone; beyond is what no such word stands against."""
    found.is_clear = 1 if recent < _CLEAR else 0
    found.is_beyond = 1 if found.has_any and found.score > 1.0 and not found.is_clear else 0
