"""Weights of experts that are right by turns, learned from their losses alone."""

_SLOW, _QUICK = 0.998, 0.97  # discounts an hour: memories of three weeks and of a day and a half
_LEAST = 1e-290  # what decays below it counts as zero: the reciprocal of a subnormal number is infinite


class ExpertMixture:
    """ML-Poly (Gaillard, Stoltz, van Erven 2014, "A second-order bound with excess losses", algorithm 3, p = 2).

    Absolute loss by its gradient, regrets discounted at two speeds whose mixtures are averaged: the slow one knows the
    series, the quick one notices that it changed. Regrets are in units of the usual loss and cut at five of them;
    `..._regrets[k]` and `..._squares[k]` are the discounted sums of expert k's and of their squares, and its weight is
    proportional to regret+ / (1 + squares).
    River's `ensemble.EWARegressor` has a fixed learning rate and no discount, and wraps one learning model per expert;
    these experts share one season.
    """

    __slots__ = ("loss", "n_learned", "quick_regrets", "quick_squares", "slow_regrets", "slow_squares")

    def __init__(self, size: int) -> None:
        self.slow_regrets = [0.0] * size
        self.slow_squares = [0.0] * size
        self.quick_regrets = [0.0] * size
        self.quick_squares = [0.0] * size
        self.loss = 0.0
        self.n_learned = 0

    def mix(self, opinions: list[float]) -> tuple[list[float], float, float]:
        """The experts' weights averaged over the discounts (sum 1), and the mixture of each discount alone."""
        slow, quick = [0.0] * len(opinions), [0.0] * len(opinions)
        slow_total = quick_total = slow_sum = quick_sum = 0.0
        slow_squares, quick_squares = self.slow_squares, self.quick_squares
        slow_regrets, quick_regrets = self.slow_regrets, self.quick_regrets
        for k, opinion in enumerate(opinions):
            slow_regret, quick_regret = slow_regrets[k], quick_regrets[k]
            if slow_regret > 0.0:
                weight = slow[k] = slow_regret / (1.0 + slow_squares[k])
                slow_total += weight
                slow_sum += weight * opinion
            if quick_regret > 0.0:
                weight = quick[k] = quick_regret / (1.0 + quick_squares[k])
                quick_total += weight
                quick_sum += weight * opinion
        # Equal weights while no regret is positive.
        if slow_total <= _LEAST:
            slow, slow_total, slow_sum = [1.0] * len(opinions), float(len(opinions)), sum(opinions)
        if quick_total <= _LEAST:
            quick, quick_total, quick_sum = [1.0] * len(opinions), float(len(opinions)), sum(opinions)
        half_slow, half_quick = 0.5 / slow_total, 0.5 / quick_total
        weights = [half_slow * a + half_quick * b for a, b in zip(slow, quick)]  # noqa: B905
        return weights, slow_sum / slow_total, quick_sum / quick_total

    def learn_one(self, y: float, opinions: list[float], slow_mix: float, quick_mix: float) -> None:
        """Learns the value `y` of an hour for which `mix(opinions)` gave these two mixtures."""
        n = self.n_learned = self.n_learned + 1
        loss = self.loss
        error = abs(y - 0.5 * (slow_mix + quick_mix))
        rate = 1.0 / n
        if n > 20 and error > 3.0 * loss:
            error = 3.0 * loss
        loss = self.loss = loss + (rate if rate > 0.01 else 0.01) * (error - loss)
        if loss <= _LEAST:
            return
        unit = 1.0 / loss
        slow_slope = unit if slow_mix > y else -unit if slow_mix < y else 0.0
        quick_slope = unit if quick_mix > y else -unit if quick_mix < y else 0.0
        slow_regrets, slow_squares = self.slow_regrets, self.slow_squares
        quick_regrets, quick_squares = self.quick_regrets, self.quick_squares
        for k, opinion in enumerate(opinions):
            regret = slow_slope * (slow_mix - opinion)
            regret = 5.0 if regret > 5.0 else -5.0 if regret < -5.0 else regret
            slow_regrets[k] = _SLOW * slow_regrets[k] + regret
            slow_squares[k] = _SLOW * slow_squares[k] + regret * regret
            regret = quick_slope * (quick_mix - opinion)
            regret = 5.0 if regret > 5.0 else -5.0 if regret < -5.0 else regret
            quick_regrets[k] = _QUICK * quick_regrets[k] + regret
            quick_squares[k] = _QUICK * quick_squares[k] + regret * regret

    def copy(self) -> "ExpertMixture":
        """An independent twin."""
        twin = ExpertMixture.__new__(ExpertMixture)
        twin.slow_regrets = self.slow_regrets[:]
        twin.slow_squares = self.slow_squares[:]
        twin.quick_regrets = self.quick_regrets[:]
        twin.quick_squares = self.quick_squares[:]
        twin.loss = self.loss
        twin.n_learned = self.n_learned
        return twin


def weighted_median(values: list[float], weights: list[float]) -> float:
    """The smallest value at which half of the weight is reached; the weights sum to 1."""
    passed = 0.0
    for value, weight in sorted(zip(values, weights)):  # noqa: B905 (hot path)
        passed += weight
        if passed >= 0.4999:
            return value
    return value
