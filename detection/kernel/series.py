"""One closed hour of one series, whole: expect, judge by what was expected, then learn."""

import math

import numpy as np
from numpy.typing import NDArray

from detection.compiled import Record, compiled
from detection.kernel import alert_reference, counts
from detection.kernel.beta_binomial import is_credible, min_calls, rate_threshold
from detection.kernel.row import GAUGE, HOURS_OF_DAY, MEAN, RATIO, ROW_VERSION
from detection.kernel.scale import clip
from detection.kernel.step import begin, learn, look, skip

Whole = NDArray[np.int64]
Numbers = NDArray[np.float64]

# Two days: every hour of the day was seen twice.
READY_AFTER = 48

# Half-life of 500 judged hours.
EXCEEDANCE_RATE = 1.0 - 0.5 ** (1 / 500)
_COUNT_RATE = 0.05
_PRIOR_WEIGHT = 4.0  # observations that the prior's distance counts for while the series' own spread is not known
_LARGEST_DISTANCE = 1000.0
_PERCENT = 100.0


@compiled
def begin_series(row: Record, setup: Record, seed: int) -> None:
    """A record of zeros becomes that of a series nothing is known of; the seed (0..255) tells it from its peers."""
    row.version = ROW_VERSION
    begin(row)
    counts.start(row, setup.prior / _PERCENT if setup.kind == RATIO else 0.0, seed)


@compiled
def expect(row: Record, setup: Record, slot: int, outlook: Record, answer: Record) -> None:
    """Fill in what is expected of the next hour, were it this slot of the week; the row stays as it is."""
    tail = setup.tails[0]
    side = setup.sides[0]
    answer.expected_count = row.expected_count
    if row.n_observed + row.n_before == 0:
        _expect_prior(setup, answer)
        return
    look(row, setup, slot, outlook)
    answer.location = clip(outlook.location, setup.lower, setup.upper)
    answer.lower, answer.upper = outlook.lower, outlook.upper
    threshold = outlook.threshold
    if setup.kind == RATIO:
        hour = slot % HOURS_OF_DAY
        answer.expected_count, _ = counts.expected_calls(row, hour)
        answer.told = threshold / _PERCENT
        answer.counted = counts.threshold(row, answer.location / _PERCENT, hour, tail)
        threshold = max(_PERCENT * counts.joined(row, answer.counted, answer.told), answer.location)
    if row.n_learned < READY_AFTER and side > 0.0 and math.isfinite(setup.prior_threshold):
        # A young series keeps the prior's distance until its own spread is known.
        share = _PRIOR_WEIGHT / (row.n_learned + _PRIOR_WEIGHT)
        if setup.kind == RATIO or setup.prior <= 0.0:
            least = answer.location + (setup.prior_threshold - setup.prior) * share
        else:
            least = answer.location * (setup.prior_threshold / setup.prior) ** share
        threshold = max(threshold, least)
    answer.threshold = clip(threshold, setup.lower, setup.upper)


@compiled
def _expect_prior(setup: Record, answer: Record) -> None:
    """What the catalogue says of a series nobody has seen."""
    low = setup.lower if math.isfinite(setup.lower) else min(setup.prior_threshold, setup.prior)
    high = min(setup.prior_threshold, setup.upper)
    if not math.isfinite(high):
        high = setup.prior
    answer.location = setup.prior
    answer.lower, answer.upper = low, max(high, setup.prior)
    answer.threshold = high if setup.sides[0] > 0.0 else low
    answer.counted, answer.told = high / _PERCENT, high / _PERCENT


@compiled
def judge(row: Record, setup: Record, value: float, count: float, answer: Record) -> None:
    """Fill in the verdict on a value of the hour that `expect` was asked about; the row stays as it is."""
    side = setup.sides[0]
    answer.is_judged = 1 if row.n_learned >= READY_AFTER else 0
    answer.is_exceeded = 1 if side * (value - answer.threshold) > 0.0 else 0
    fewest = min(float(setup.min_calls), max(2.0, math.ceil(answer.expected_count)))
    answer.is_credible = 1 if count >= fewest or setup.min_calls <= 1 else 0
    if setup.kind == RATIO and answer.is_credible:
        rate, unknown = counts.expected_rate(row, answer.location / _PERCENT)
        rho = counts.overdispersion(row)
        rho = rho + (1.0 - rho) * unknown
        failed = math.floor(clip(value, 0.0, _PERCENT) * count / _PERCENT + 0.5)
        answer.is_credible = 1 if is_credible(failed, count, rate, rho, setup.tails[0]) else 0
    way = answer.threshold - answer.location
    fast = (value - answer.location) / way if way != 0.0 else 0.0 if value == answer.location else _LARGEST_DISTANCE
    fast = clip(fast, -_LARGEST_DISTANCE, _LARGEST_DISTANCE)
    noise = _noise(row, setup, count, answer)
    count = _evidence(row, setup, count)
    answer.fast = fast
    answer.score, answer.slow, _, _ = alert_reference.reference_score(row, side * value, fast, count, noise)


@compiled
def _evidence(row: Record, setup: Record, count: float) -> float:
    """Calls behind a value; 0, for unknown, where a value was never counted: each of them stands for one."""
    return 0.0 if setup.kind == GAUGE or row.expected_count <= 1.0 else count


@compiled
def _noise(row: Record, setup: Record, count: float, answer: Record) -> float:
    """Standard error of a rate of so few calls; 0 for what is no rate."""
    if setup.kind != RATIO or count < 1.0:
        return 0.0
    rate, _ = counts.expected_rate(row, answer.location / _PERCENT)
    rho = counts.overdispersion(row)
    return _PERCENT * math.sqrt(rate * (1.0 - rate) * (1.0 + (count - 1.0) * rho) / count)


@compiled
def learn_hour(
    row: Record, setup: Record, slot: int, value: float, count: float, outlook: Record, answer: Record
) -> None:
    """Expect, judge, then learn the next hour: an observation never softens its own verdict."""
    expect(row, setup, slot, outlook, answer)
    judge(row, setup, value, count, answer)
    if row.n_observed == 0:
        look(row, setup, slot, outlook)
    if answer.is_judged:
        row.judged += 1
        rate = max(EXCEEDANCE_RATE, 1.0 / row.judged)
        row.exceedance_rate += rate * (float(answer.is_exceeded) - row.exceedance_rate)
    value = clip(value, setup.lower, setup.upper)
    side = setup.sides[0]
    if setup.kind == RATIO:
        _learn_counts(row, setup, slot, value, count, answer)
    elif count > 0.0:
        seen = row.n_observed + row.n_before + 1
        row.expected_count += max(_COUNT_RATE, 1.0 / seen) * (count - row.expected_count)
    if setup.kind == MEAN and value == 0.0:
        alert_reference.reference_skip(row)  # a mean latency of exactly 0 is silence
    else:
        noise = _noise(row, setup, count, answer)
        evidence = _evidence(row, setup, count)
        alert_reference.reference_learn(row, side * value, answer.fast, evidence, noise)
    learn(row, setup, value, outlook)


@compiled
def _learn_counts(row: Record, setup: Record, slot: int, value: float, count: float, answer: Record) -> None:
    tail = setup.tails[0]
    hour = slot % HOURS_OF_DAY
    rate = value / _PERCENT
    failed = math.floor(rate * count + 0.5)
    if row.n_learned >= READY_AFTER:
        counts.learn_joined(row, rate, answer.counted, answer.told, tail)
    counts.learn(row, failed, count, answer.location / _PERCENT, answer.counted, hour, tail)
    row.expected_count, _ = counts.expected_calls(row, hour)


@compiled
def describe_rate(row: Record, setup: Record, location: float, sizes: Whole, numbers: Numbers) -> None:
    """Fill in the expected rate in %, the over-dispersion, the fewest calls that are evidence, then limits in %.

    Limit i is the highest rate of `sizes[i]` calls that is no evidence; `location` is what is expected, in %.
    """
    rate, unknown = counts.expected_rate(row, location / _PERCENT)
    rho = counts.overdispersion(row)
    numbers[0], numbers[1] = _PERCENT * rate, rho
    rho = rho + (1.0 - rho) * unknown
    tail = setup.tails[0]
    numbers[2] = min_calls(rate, rho, tail)
    for i in range(len(sizes)):
        numbers[3 + i] = _PERCENT * max(1.0 / sizes[i], rate_threshold(rate, rho, float(sizes[i]), tail))


@compiled
def skip_hours(row: Record, setup: Record, hours: int) -> None:
    """Hours without a value pass: the season moves on, silence is its own signal."""
    skip(row, setup, hours)
    for _ in range(min(hours, 24 * 366)):
        alert_reference.reference_skip(row)
