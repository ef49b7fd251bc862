"""How many of n calls may fail: limits of the Beta-Binomial distribution, for any number of calls, in microseconds.

Exact while the limit is within 256 terms of the distribution's lower end; beyond that a continuous approximation: the
quantile of the Beta distribution (continued fraction and bisection), or of the Gamma and normal ones where they do.
Rates are fractions 0..1; `rho` is the correlation of two calls of one hour, 0 where they fail independently.
"""

import math

import numpy as np

from detection.compiled import compiled

_RHO_BINOMIAL = 1e-10  # below this the calls of an hour are independent
_LONGEST_SUM = 256.0  # terms of the exact distribution
# Calls that a threshold is above its limit's own rate, or below where that rate is to exceed: on it, 100 * (k / n) and
# 100 * k / n would differ in the last bit and decide.
_MARGIN = 1.0 / 64.0
_RATE_LOWEST = 1e-9
_FEW_FAILED = 24  # up to this limit the number of calls itself is averaged over
_MOST_FAILED = 64.0  # unless so many are to be expected of the largest of these numbers
_LONGEST_AVERAGED = 128.0  # terms of each
_COUNT_POINTS = 9


@compiled
def rate_threshold(p: float, rho: float, n: float, tail: float) -> float:
    """Smallest k / n that more than a share k / n of n calls fail in at most `tail` of the hours: P(K > k) <= tail.

    Exact while the limit is within 256 terms of the distribution's lower end; beyond, a continuous approximation.
    """
    n = 1.0 if n < 1.0 else math.floor(n + 0.5)
    limit, _, _ = _limit(p, rho, n, tail)
    return math.ceil(limit - 1e-9) / n


@compiled
def is_credible(failed: float, calls: float, p: float, rho: float, tail: float) -> bool:
    """Whether so many failed calls of so many are evidence: two at least, and P(K >= failed) <= tail.

    For a window that is closed or still open, whatever the threshold of the hour: 1 failed call of 3 never is.
    """
    if failed < 2.0:
        return False
    limit, _, _ = _limit(p, rho, math.floor(calls + 0.5), tail)
    return failed > limit


@compiled
def min_calls(p: float, rho: float, tail: float) -> float:
    """Fewest calls of which any number of failed ones is evidence: all of n fail in at most `tail` of the hours.

    At least 2, for one failed call is none (`is_credible`); at most a million.
    """
    alpha, beta = _shape(p if p > _RATE_LOWEST else _RATE_LOWEST, rho)
    least = math.log(tail)
    low, high = 1.0, 2.0
    while high < 1e6 and _log_chance(high, high, p, alpha, beta) > least:
        low = high
        high *= 2.0
    while high - low > 1.0:
        middle = float(math.floor(0.5 * (low + high)))
        if _log_chance(middle, middle, p, alpha, beta) > least:
            low = middle
        else:
            high = middle
    return high if high < 1e6 else 1e6


def limits_by_count(
    p: float, rho: float, tail: float, counts: tuple[int, ...] = (5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000)
) -> tuple[tuple[int, float], ...]:
    """Per number of calls the highest failed share that is no evidence: beyond it `is_credible` holds."""
    return tuple((n, max(1.0 / n, rate_threshold(p, rho, float(n), tail))) for n in counts)


@compiled
def dithered_threshold(p: float, rho: float, calls: float, deviation: float, tail: float, phase: float) -> float:
    """The threshold of an hour with about so many calls, exceeded in `tail` of the hours on average over the phase.

    `phase` 0..1: below the share of hours that need the lower of two neighbouring limits, it is the lower one.
    """
    calls = 1.0 if calls < 1.0 else calls
    # The variance of K / N has the mean of 1 / N in it.
    usual = calls / (1.0 + (deviation / calls) ** 2 * (calls / (calls + 2.0)))
    n = 1.0 if usual < 1.0 else math.floor(usual + 0.5)
    limit, above, at = _limit(p, rho, n, tail)
    most = calls + 2.5 * deviation
    if limit <= _FEW_FAILED and most * p <= _MOST_FAILED and (deviation > 0.05 or n != calls):
        return _threshold_of_any_count(p, rho, calls, deviation, tail, phase)
    if at == 0.0:
        return _share((limit + phase - 0.5) / n)
    if limit == 0.0:
        return 0.0
    return _share((limit - _MARGIN if phase * at < tail - above else limit + _MARGIN) / n)


@compiled
def _share(rate: float) -> float:
    return 0.0 if rate < 0.0 else 1.0 if rate > 1.0 else rate


@compiled
def _count_point(calls: float, deviation: float, i: int) -> tuple[float, float]:
    """The i-th of the numbers of calls that stand for all, and its weight (not normalised); weight 0: none.

    Nearly always the same number: the two whole numbers around it. Otherwise up to nine over 2.5 deviations each way,
    weighed as a normal distribution.
    """
    variance = deviation * deviation
    if variance < 0.3:
        low = float(math.floor(calls))
        if i == 0:
            return low, 1.0 - (calls - low)
        return low + 1.0, (calls - low if i == 1 else 0.0)
    lowest = float(math.floor(calls - 2.5 * deviation + 0.5))
    lowest = lowest if lowest > 1.0 else 1.0
    step = (calls + 2.5 * deviation - lowest) / (_COUNT_POINTS - 1)
    step = step if step > 1.0 else 1.0
    n = math.floor(lowest + i * step + 0.5)
    z = (n - calls) / deviation
    return n, (math.exp(-0.5 * z * z) if z < 3.0 else 0.0)


@compiled
def _threshold_of_any_count(p: float, rho: float, calls: float, deviation: float, tail: float, phase: float) -> float:
    """The dithered threshold where few calls fail and their number N varies: P(K / N > t) averaged over N is `tail`."""
    alpha, beta = _shape(p, rho)
    numbers = np.empty(_COUNT_POINTS)
    failed = np.empty(_COUNT_POINTS)  # the largest number of failed calls not yet passed, and its probability
    chances = np.empty(_COUNT_POINTS)
    above = 0.0
    total = 0.0
    for i in range(_COUNT_POINTS):
        total += _count_point(calls, deviation, i)[1]
    for i in range(_COUNT_POINTS):
        n, weight = _count_point(calls, deviation, i)
        numbers[i] = n
        failed[i] = -1.0
        if weight > 0.0:
            weight /= total
            k = 0.0
            chance = weight * math.exp(_log_chance(0.0, n, p, alpha, beta))
            passed = chance
            while k < n and k < _LONGEST_AVERAGED and weight - passed > 1e-3 * tail * weight:
                chance *= _growth(k, n, p, alpha, beta)
                passed += chance
                k += 1.0
            failed[i] = k
            chances[i] = chance
            above += weight - passed if weight > passed else 0.0
    # Descend through the rates k / n of every n, the largest first, until the tail is used up.
    while True:
        rate = 0.0
        top = 0
        for i in range(_COUNT_POINTS):
            if failed[i] > rate * numbers[i]:
                rate = failed[i] / numbers[i]
                top = i
        if rate == 0.0:
            return 0.0
        at = 0.0
        margin = _MARGIN / numbers[top]
        for i in range(_COUNT_POINTS):
            if failed[i] >= (rate - 1e-9) * numbers[i] and failed[i] > 0.0:
                at += chances[i]
                failed[i] -= 1.0
                chances[i] /= _growth(failed[i], numbers[i], p, alpha, beta)
        if above + at > tail:
            return _share(rate - margin if phase * at < tail - above else rate + margin)
        above += at


@compiled
def _shape(p: float, rho: float) -> tuple[float, float]:
    """Alpha and beta of the rates' distribution; 0, 0 where the calls of an hour are independent."""
    if rho < _RHO_BINOMIAL:
        return 0.0, 0.0
    both = (1.0 - rho) / rho
    return p * both, (1.0 - p) * both


@compiled
def _log_chance(k: float, n: float, p: float, alpha: float, beta: float) -> float:
    """Log of the probability that k of n calls fail."""
    if alpha == 0.0:
        chosen = 0.0 if k == 0.0 else math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)
        return chosen + k * math.log(p) + (n - k) * math.log1p(-p)
    both = alpha + beta
    result = math.lgamma(beta + n - k) - math.lgamma(beta) + math.lgamma(both) - math.lgamma(both + n)
    if k > 0.0:
        result += math.lgamma(n + 1.0) - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0)
        result += math.lgamma(alpha + k) - math.lgamma(alpha)
    return result


@compiled
def _growth(k: float, n: float, p: float, alpha: float, beta: float) -> float:
    """P(K = k + 1) / P(K = k)."""
    if alpha == 0.0:
        return (n - k) * p / ((k + 1.0) * (1.0 - p))
    return (n - k) * (alpha + k) / ((k + 1.0) * (beta + n - k - 1.0))


@compiled
def _limit(p: float, rho: float, n: float, tail: float) -> tuple[float, float, float]:
    """Smallest k with P(K > k) <= tail, that probability, and P(K = k).

    From the continuous approximation k is any real number, the probability is the tail itself, and P(K = k) is 0.
    """
    if not p > _RATE_LOWEST * 1e-3:
        return 0.0, 0.0, 1.0
    if p >= 1.0 - 1e-12:
        return n, 0.0, 1.0
    mean = n * p
    deviation = math.sqrt(mean * (1.0 - p) * (1.0 + (n - 1.0) * rho))
    first = float(math.floor(mean - 9.0 * deviation - 3.0))
    first = first if first > 0.0 else 0.0
    last = mean + 4.0 * deviation + 6.0
    last = last if last < n else n
    alpha, beta = _shape(p, rho)
    # With alpha or beta below 1 the rates pile up at 0 or 1, where no approximation is as good as the sum.
    if last - first > _LONGEST_SUM:
        all_failed = math.exp(_log_chance(n, n, p, alpha, beta)) if 0.0 < beta < 1.0 else 0.0
        if all_failed > tail:
            return n, 0.0, all_failed
        if not 0.0 < alpha < 1.0:
            return _wide_limit(p, rho, n, tail), tail, 0.0
    k = first
    at = math.exp(_log_chance(k, n, p, alpha, beta))
    above = 1.0 - at
    while above > tail and k < n:
        if k - first > _LONGEST_SUM:
            return _wide_limit(p, rho, n, tail), tail, 0.0
        at *= _growth(k, n, p, alpha, beta)
        above -= at
        k += 1.0
    return k, (above if above > 0.0 else 0.0), at


@compiled
def _wide_limit(p: float, rho: float, n: float, tail: float) -> float:
    """The real x with P(K > x) = tail, about, of a distribution that spreads over many k.

    Nearly symmetric: Cornish-Fisher with the Beta-Binomial's skewness, and the kurtosis of the Beta that has its mean
    and variance. Skewed: the rates' own spread then outweighs that of sampling, and the quantile is that same Beta's.
    """
    spread = rho + (1.0 - rho) / n  # that Beta's 1 / (alpha + beta + 1)
    both = (1.0 - spread) / spread
    alpha, beta = p * both, (1.0 - p) * both
    deviation = math.sqrt(p * (1.0 - p) * spread)
    if rho < _RHO_BINOMIAL:
        skewness = (1.0 - 2.0 * p) / math.sqrt(n * p * (1.0 - p))
        kurtosis = (1.0 - 6.0 * p * (1.0 - p)) / (n * p * (1.0 - p))
    else:
        own = (1.0 - rho) / rho
        # Skewness of the Beta-Binomial (Johnson, Kemp & Kotz 2005, section 6.2.2).
        skewness = (
            (own + 2.0 * n) * (1.0 - 2.0 * p) / (own + 2.0) * math.sqrt((1.0 + own) / (n * p * (1.0 - p) * (n + own)))
        )
        kurtosis = 6.0 * ((alpha - beta) ** 2 * (both + 1.0) - alpha * beta * (both + 2.0))
        kurtosis /= alpha * beta * (both + 2.0) * (both + 3.0)
        kurtosis *= rho / spread
    if -0.4 < skewness < 0.4:
        z = _normal_upper_quantile(tail)
        z += (
            skewness * (z * z - 1.0) / 6.0
            + kurtosis * z * (z * z - 3.0) / 24.0
            - skewness * skewness * z * (2.0 * z * z - 5.0) / 36.0
        )
        rate = p + z * deviation
    else:
        rate = _beta_upper_quantile(alpha, beta, tail)
    return _share(rate) * n


@compiled
def _normal_upper_quantile(tail: float) -> float:
    """The z that a standard normal exceeds with this probability: Acklam's start, one step of Halley's method."""
    q = tail if tail < 0.5 else 1.0 - tail
    t = math.sqrt(-2.0 * math.log(q))
    z = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)))
    for _ in range(2):
        error = (0.5 * math.erfc(z / math.sqrt(2.0)) - q) * math.sqrt(2.0 * math.pi) * math.exp(0.5 * z * z)
        z += error / (1.0 - 0.5 * z * error)
    return z if tail < 0.5 else -z


@compiled
def _beta_upper_quantile(alpha: float, beta: float, tail: float) -> float:
    """The x that Beta(alpha, beta) exceeds with this probability: Newton's method on log(tail), kept in a bracket."""
    low, high = 0.0, 1.0
    mean = alpha / (alpha + beta)
    x = mean + 3.0 * math.sqrt(mean * (1.0 - mean) / (alpha + beta + 1.0))
    if x >= 1.0:
        x = 0.5 * (1.0 + mean)
    scale = math.lgamma(alpha + beta) - math.lgamma(alpha) - math.lgamma(beta)
    for _ in range(40):
        above = _beta_above(x, alpha, beta, scale)
        if above > tail:
            low = x
        else:
            high = x
        density = math.exp(scale + (alpha - 1.0) * math.log(x) + (beta - 1.0) * math.log1p(-x))
        # Newton's step of the log of the tail: exact for an exponential tail; by log x where the rates pile up at 0.
        following = -1.0
        if above > 0.0 and density > 0.0:
            step = above / density * math.log(above / tail)
            following = x + step if alpha > 1.0 or step > 0.0 else x * math.exp(step / x)
        if not low < following < high:
            following = 0.5 * (low + high)
        if math.fabs(following - x) < 1e-6 * x:
            return following
        x = following
    return x


@compiled
def _beta_above(x: float, alpha: float, beta: float, scale: float) -> float:
    """P(Beta(alpha, beta) > x); `scale` is -log B(alpha, beta).

    The continued fraction of the incomplete beta function (DLMF 8.17.22) by the modified method of Lentz; where beta is
    large against alpha that of the gamma distribution which the Beta then is (DiDonato & Morris 1992, section 6).
    """
    if beta > 500.0 and alpha < 0.1 * beta:
        number = beta + 0.5 * (alpha - 1.0)
        return _gamma_above(-number * math.log1p(-x), alpha)
    front = math.exp(scale + alpha * math.log(x) + beta * math.log1p(-x))
    if x > (alpha + 1.0) / (alpha + beta + 2.0):
        return front * _beta_fraction(1.0 - x, beta, alpha) / beta
    return 1.0 - front * _beta_fraction(x, alpha, beta) / alpha


@compiled
def _beta_fraction(x: float, a: float, b: float) -> float:
    c = 1.0
    d = 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / d if d != 0.0 else 1e30
    result = d
    for m in range(1, 300):
        even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        d = 1.0 / (1.0 + even * d)
        c = 1.0 + even / c
        result *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        d = 1.0 / (1.0 + odd * d)
        c = 1.0 + odd / c
        result *= d * c
        if math.fabs(d * c - 1.0) < 1e-9:
            break
    return result


@compiled
def _gamma_above(x: float, shape: float) -> float:
    """P(Gamma(shape, 1) > x): a series below the shape + 1, a continued fraction above (DLMF 8.11.4, 8.9.2)."""
    front = math.exp(shape * math.log(x) - x - math.lgamma(shape))
    if x < shape + 1.0:
        term = 1.0 / shape
        total = term
        at = shape
        for _ in range(500):
            at += 1.0
            term *= x / at
            total += term
            if term < 1e-10 * total:
                break
        return 1.0 - front * total
    b = x + 1.0 - shape
    c = 1e300
    d = 1.0 / b
    result = d
    for i in range(1, 300):
        a = -i * (i - shape)
        b += 2.0
        d = 1.0 / (a * d + b)
        c = b + a / c
        result *= c * d
        if math.fabs(c * d - 1.0) < 1e-9:
            break
    return front * result
