"""Rates of counted calls: how many calls an hour will have, and how many of them may fail before that means something.

Failed calls K of n are Beta-Binomial: their rate is p on average and itself varies from hour to hour, with a variance
rho p (1 - p), rho being the correlation of two calls of one hour, 0..1 (Griffiths 1973; Crowder 1978, "Beta-binomial
ANOVA for proportions"). In alpha and beta: alpha = p (1 - rho) / rho, beta = (1 - p) (1 - rho) / rho.

**Discreteness.** The rate of 5 calls is 0, 20, 40... %, so at p = 1 % "more than 0" happens in 4.9 % and "more than 20"
in 0.1 % of the hours: no fixed limit is exceeded in 1 % of them. Hence the limit is *dithered*: where the smallest
limit k / n that keeps the claim is exceeded too seldom, a known share of the hours gets one just below k / n and not
just above it, by 1/64 of a call, so that k failed calls exceed it. Which hours is no chance: a golden-ratio (Weyl)
sequence that visits all hours of the day alike, one step per learned hour, known when the threshold is published. It is
the randomised test of Neyman and Pearson without its chance, and costs at most 1 % of pinball loss, where a correction
that moves whole limits costs up to 20 % and still misses the claim. What it promises is an average over hours, not each
single one. What it cannot do: a limit is never below 0, so a series that fails in
fewer hours than the claimed share exceeds less often than claimed. One failed call of five may exceed in a lower hour:
whether that is evidence enough for an alert is said by `is_credible`, not by the threshold.

What is left of the error (p, rho, the number of calls are estimates) is corrected by what was measured: the tail that
is asked of the distribution is the claimed one times exp(-correction), and the correction moves by 0.05 * (exceeded -
claimed) an hour: adaptive conformal inference (Gibbs and Candes 2021, equation 2).

Every function works on one record that has at least the fields of `FIELDS`; rates are fractions 0..1, not percent.
"""

import math
from typing import Any

from detection.compiled import compiled
from detection.kernel.beta_binomial import dithered_threshold

HOURS_OF_DAY = 24

FIELDS = [
    ("count_level", "<f4"),  # calls of an hour, without its hour of day; 0: nothing learned
    ("count_variance", "<f4"),  # of calls / expected calls
    ("count_day", "<i2", (HOURS_OF_DAY,)),  # log of the hour of day's factor on the level, in 1/4096
    ("count_hours", "<u2"),  # learned; after 65,535 comes 32,768
    ("seed", "u1"),  # of the golden-ratio sequence
    ("run", "u1"),  # hours in a row that exceeded, up to 255
    ("failed_fast", "<f4"),  # failed calls and calls, forgotten with a memory of six hours
    ("calls_fast", "<f4"),
    ("failed_slow", "<f4"),  # and of three weeks
    ("calls_slow", "<f4"),
    ("rate_losses", "<f4", (2,)),  # recent log loss of the fast rate and of the forecaster's location, less the slow's
    ("excess", "<f4"),  # rho = excess / excess_scale
    ("excess_scale", "<f4"),
    ("tail_correction", "<f4"),  # of the log of the tail
    ("regret", "<f4"),  # recent pinball loss of these thresholds less that of the forecaster's own, in shares
]

_GOLDEN = 40503  # 65,536 / golden ratio, odd
_SEED_STEP = 20077  # odd: 256 different places, neighbours far apart
_DAY_UNIT = 1.0 / 4096.0
_LARGEST_DAY = 32000

_LEVEL_RATE = 0.05
_DAY_RATE = 0.08
_VARIANCE_RATE = 0.03
_FAST = 1.0 - 1.0 / 6.0
_SLOW = 1.0 - 1.0 / 504.0
_LOSS_FORGETTING = 0.98
_LOSS_LARGEST = 2.0  # of one hour, against the slow rate
_RHO_FORGETTING = 0.998
_RHO_YOUNG = 3.0
_RHO_PRIOR = 0.005
_RHO_LARGEST = 0.5
_PRIOR_CALLS = 20.0  # that the prior rate counts for
_RUN_ADOPTED = 6  # hours in a row that exceeded, after which they are the new rate
_REGRET_FORGETTING = 0.998
_CORRECTION_RATE = 0.05
# A series that fails in fewer hours than claimed drives it down for nothing: not far, or a rise is met too loosely.
_CORRECTION_LOWEST, _CORRECTION_HIGHEST = -1.0, 3.0


@compiled
def start(row: Any, prior_rate: float, seed: int) -> None:
    """Makes the fields those of a series that learned nothing; the seed sets which hours are dithered (0..255).

    Different seeds keep many series that were born together from having their lower limits in the same hours.
    """
    row.count_level = 0.0
    row.count_variance = 1.0
    for hour in range(HOURS_OF_DAY):
        row.count_day[hour] = 0
    row.count_hours = 0
    row.seed = seed & 255
    row.run = 0
    row.failed_fast = prior_rate * _PRIOR_CALLS
    row.calls_fast = _PRIOR_CALLS
    row.failed_slow = prior_rate * _PRIOR_CALLS
    row.calls_slow = _PRIOR_CALLS
    row.rate_losses[0] = 0.0
    row.rate_losses[1] = 0.0
    row.regret = 0.0
    row.excess = _RHO_PRIOR * 10.0
    row.excess_scale = 10.0
    row.tail_correction = 0.0


@compiled
def expected_calls(row: Any, hour: int) -> tuple[float, float]:
    """Calls that the next hour will have, being this hour of the day (0..23), and their standard deviation.

    Given that it has any: hours without calls are not learned. 1, 1 before the first.
    """
    if row.count_hours == 0:
        return 1.0, 1.0
    expected = row.count_level * math.exp(row.count_day[hour] * _DAY_UNIT)
    return expected, expected * math.sqrt(1.0 * row.count_variance)


@compiled
def overdispersion(row: Any) -> float:
    """Correlation rho of two calls of one hour, 0..0.5: 0 where the calls fail independently."""
    rho = 1.0 * row.excess / row.excess_scale
    return 0.0 if not rho > 0.0 else _RHO_LARGEST if rho > _RHO_LARGEST else rho


@compiled
def expected_rate(row: Any, location: float) -> tuple[float, float]:
    """Share of the next hour's calls that will fail, and the over-dispersion that not knowing it better amounts to.

    A mean of three: the failed share of six hours, that of three weeks, and the forecaster's `location` (NaN: none),
    each by exp(-recent log loss). The location alone will not do: where most hours have no failed call it is their
    median, 0.
    A rate that was learned from s calls has a Beta posterior; its predictive is the Beta-Binomial with 1 / (s + 1) more
    of over-dispersion.
    """
    # Stored numbers are single precision, and so would be what is computed of them alone: exp overflows at 89.
    fast_weight = math.exp(-1.0 * row.rate_losses[0])
    rate = 1.0 * row.failed_slow / row.calls_slow + fast_weight * row.failed_fast / row.calls_fast
    total = 1.0 + fast_weight
    known = row.calls_slow + fast_weight * row.calls_fast
    if location >= 0.0:
        weight = math.exp(-1.0 * row.rate_losses[1])
        rate += weight * _possible(location, row.calls_slow)
        total += weight
        known += weight * row.calls_slow
    rate = _possible(rate / total, row.calls_slow)
    size = row.count_level if row.count_level > 1.0 else 1.0
    known /= total * (1.0 + (size - 1.0) * overdispersion(row))
    return rate, 1.0 / (known + 1.0)


@compiled
def threshold(row: Any, location: float, hour: int, tail: float) -> float:
    """Highest failed share of the next hour's calls that is still normal: exceeded in `tail` of the normal hours. Pure.

    `location` is the forecaster's estimate (NaN: none), `hour` the hour of the day.
    """
    rate, unknown = expected_rate(row, location)
    rho = overdispersion(row)
    rho = rho + (1.0 - rho) * unknown
    calls, deviation = expected_calls(row, hour)
    asked = tail * math.exp(-1.0 * row.tail_correction)
    asked = asked if asked < 0.5 else 0.5
    return dithered_threshold(rate, rho, calls, deviation, asked, _phase(row))


@compiled
def _phase(row: Any) -> float:
    """The hour's place in the golden-ratio sequence, 0..1."""
    return ((int(row.count_hours) * _GOLDEN + int(row.seed) * _SEED_STEP) & 65535) / 65536.0


@compiled
def learn(row: Any, failed: float, calls: float, location: float, published: float, hour: int, tail: float) -> None:
    """Learns a closed hour: so many calls, so many of them failed; one without calls teaches nothing.

    `location` and `hour` as they were given to `threshold`, `published` what it answered for this hour. What lies
    beyond the threshold teaches as if it lay on it, though no less than one failed call. The second to sixth hour in a
    row beyond it teach nothing but the usual number of calls, for an outage is not normal; from the seventh on the rate
    has changed, and they teach it in full.
    """
    if not calls >= 1.0:
        return
    rate, unknown = expected_rate(row, location)
    rho = overdispersion(row)
    expected, _ = expected_calls(row, hour)
    _learn_count(row, calls, expected, hour)

    is_exceeded = failed > published * calls
    run = int(row.run)
    row.run = 0 if not is_exceeded else run + 1 if run < 255 else 255
    if is_exceeded and 1 <= run < _RUN_ADOPTED:
        if run == 1:
            _correct(row, 1.0 - tail)
        return
    _correct(row, 1.0 - tail if is_exceeded else -tail)
    highest = published * calls
    highest = highest if highest > 1.0 else 1.0
    is_adopted = is_exceeded and run >= _RUN_ADOPTED
    taught = failed if failed < highest or is_adopted else highest
    if not is_adopted:
        _learn_overdispersion(row, taught, calls, rate, unknown)
    _learn_losses(row, taught, calls, location, rho)
    row.failed_fast = _FAST * row.failed_fast + taught
    row.calls_fast = _FAST * row.calls_fast + calls
    row.failed_slow = _SLOW * row.failed_slow + taught
    row.calls_slow = _SLOW * row.calls_slow + calls


@compiled
def _correct(row: Any, error: float) -> None:
    """One step of the tail's correction: `error` is 1 or 0 for exceeded or not, less the claimed share."""
    row.tail_correction += _CORRECTION_RATE * error
    row.tail_correction = min(max(row.tail_correction, _CORRECTION_LOWEST), _CORRECTION_HIGHEST)


@compiled
def joined(row: Any, counted: float, told: float) -> float:
    """The threshold to publish: the counted one, or what the forecaster `told` where that lost less of late.

    One or the other, never a mean of both: between two limits a mean of them is no limit.
    """
    return told if row.regret > 0.0 else counted


@compiled
def learn_joined(row: Any, rate: float, counted: float, told: float, tail: float) -> None:
    """Learns which of the two thresholds of a closed hour with the failed share `rate` had the smaller pinball loss."""
    row.regret = _REGRET_FORGETTING * row.regret + _pinball(rate, counted, tail) - _pinball(rate, told, tail)


@compiled
def _pinball(value: float, threshold: float, tail: float) -> float:
    gap = value - threshold
    return (1.0 - tail) * gap if gap > 0.0 else -tail * gap


@compiled
def _possible(rate: float, calls: float) -> float:
    """The rate, at least a fifth of a failed call among those that are known, and as far from 1."""
    # Of more than 10^11 calls it is still far enough from 1 for its complement to have a logarithm.
    least = max(0.2 / (calls + 1.0), 1e-12)
    return least if not rate > least else 1.0 - least if rate > 1.0 - least else rate


@compiled
def _learn_overdispersion(row: Any, failed: float, calls: float, rate: float, unknown: float) -> None:
    """One step of the moment estimate: E (k - np)^2 = npq (1 + (n - 1) (rho + what not knowing p adds)).

    Weighed by 1 / (npq + 1/2), for where few calls fail the square says little.
    """
    variance = calls * rate * (1.0 - rate)
    weight = 1.0 / (variance + 0.5)
    residual = failed - calls * rate
    usual = variance * (1.0 + (calls - 1.0) * unknown)
    # The rates of the first days are guesses, whose errors look like over-dispersion: these hours are forgotten sooner.
    forgetting = 1.0 - _RHO_YOUNG / (row.count_hours + 30.0)
    forgetting = forgetting if forgetting < _RHO_FORGETTING else _RHO_FORGETTING
    row.excess = forgetting * row.excess + weight * (residual * residual - usual)
    row.excess_scale = forgetting * row.excess_scale + weight * (calls - 1.0) * variance


@compiled
def _learn_losses(row: Any, failed: float, calls: float, location: float, rho: float) -> None:
    """Adds the hour's log losses against the slow rate's, divided by the variance inflation.

    That makes of the binomial's likelihood the over-dispersed quasi-likelihood (Wedderburn 1974).
    """
    scale = 1.0 / (1.0 + (calls - 1.0) * rho)
    slow = _log_loss(failed, calls, _possible(1.0 * row.failed_slow / row.calls_slow, row.calls_slow))
    fast = _log_loss(failed, calls, _possible(1.0 * row.failed_fast / row.calls_fast, row.calls_slow))
    told = _log_loss(failed, calls, _possible(location, row.calls_slow)) if location >= 0.0 else slow
    row.rate_losses[0] = _LOSS_FORGETTING * row.rate_losses[0] + _clipped((fast - slow) * scale, _LOSS_LARGEST)
    row.rate_losses[1] = _LOSS_FORGETTING * row.rate_losses[1] + _clipped((told - slow) * scale, _LOSS_LARGEST)


@compiled
def _clipped(value: float, largest: float) -> float:
    return largest if value > largest else -largest if value < -largest else value


@compiled
def _log_loss(failed: float, calls: float, rate: float) -> float:
    fine = calls - failed
    return -failed * math.log(rate) - (fine if fine > 0.0 else 0.0) * math.log1p(-rate)


@compiled
def _learn_count(row: Any, calls: float, expected: float, hour: int) -> None:
    """Moves level, hour of day and spread towards the calls of the hour, by no more than four usual deviations."""
    hours = int(row.count_hours)
    row.count_hours = hours + 1 if hours < 65535 else 32768
    if hours == 0:
        row.count_level = calls
        return
    relative = calls / expected - 1.0
    rate = 1.0 / (hours + 1.0)
    variance = 1.0 * row.count_variance
    square = relative * relative
    square = square if square < 16.0 * variance else 16.0 * variance
    variance_rate = rate if rate > _VARIANCE_RATE else _VARIANCE_RATE
    # Never nothing, or one other count could not teach at all.
    variance += variance_rate * (square - variance)
    row.count_variance = variance if variance > 1e-4 else 1e-4
    reach = math.sqrt(square)
    step = reach if relative > 0.0 else -reach
    step = step if step < 3.0 else 3.0
    row.count_level *= 1.0 + (rate if rate > _LEVEL_RATE else _LEVEL_RATE) * step
    row.count_level = max(row.count_level, 1e-3)
    # A factor waits until the level stands, half a day.
    if hours >= 12:
        day = row.count_day[hour] + round(_DAY_RATE * step / _DAY_UNIT)
        row.count_day[hour] = _LARGEST_DAY if day > _LARGEST_DAY else -_LARGEST_DAY if day < -_LARGEST_DAY else day
