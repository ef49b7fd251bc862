"""How often thresholds held: the share of judged hours beyond them beside the claimed one, and what they were worth.

The worth is the pinball loss at the quantile that a threshold claims to be (Koenker and Bassett 1978, "Regression
quantiles"), beside that of a seasonal naive threshold on the same hours: the value of the same hour a week before. The
interval is that of `detection.claim`, from sums in place of days.
"""

from dataclasses import dataclass
from typing import Final, Literal

from detection.claim import interval

Span = Literal["day", "week", "month"]

SPAN_HOURS: Final[dict[Span, int]] = {"day": 24, "week": 7 * 24, "month": 30 * 24}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Judged hours summed up, of one series or of many.

    `claimed` sums the share beyond which each hour's threshold claimed to be. `loss` and `naive_loss` sum the pinball
    losses, in the metric's unit, over the `compared` hours: those with a value a week before. `clusters` are
    the days (UTC) of each series with a judged hour; of their judged hours and exceedances, `judged2`, `exceeded2` and
    `product` sum the squares and the products.
    """

    judged: int
    exceeded: int
    claimed: float
    compared: int
    loss: float
    naive_loss: float
    clusters: int
    judged2: int
    exceeded2: int
    product: int

    @property
    def claimed_exceedance(self) -> float | None:
        """None where nothing was judged."""
        return self.claimed / self.judged if self.judged else None

    @property
    def observed_exceedance(self) -> float | None:
        """None where nothing was judged."""
        return self.exceeded / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Bounds of the true share with a confidence of 95 %, exceedances that come in clumps considered."""
        if not self.judged:
            return None
        return interval(self.exceeded / self.judged, self.judged / self.design_effect)

    @property
    def design_effect(self) -> float:
        """How many hours say as much as one independent hour, at least 1; as `detection.claim` has it of days."""
        if self.clusters < 2 or self.exceeded in {0, self.judged}:
            return 1.0
        share = self.exceeded / self.judged
        squares = self.exceeded2 - 2.0 * share * self.product + share * share * self.judged2
        clustered = self.clusters / (self.clusters - 1) * max(squares, 0.0) / (self.judged * self.judged)
        return max(1.0, clustered / (share * (1.0 - share) / self.judged))

    @property
    def pinball_loss(self) -> float | None:
        """The mean of the compared hours; None where there are none."""
        return self.loss / self.compared if self.compared else None

    @property
    def naive_pinball_loss(self) -> float | None:
        """The same of the seasonal naive threshold."""
        return self.naive_loss / self.compared if self.compared else None

    @property
    def skill(self) -> float | None:
        """1 minus the ratio of the two, at most 1, below 0 where naive was better; None without a loss to divide by."""
        return 1.0 - self.loss / self.naive_loss if self.compared and self.naive_loss > 0.0 else None


NOTHING: Final = Tally(
    judged=0,
    exceeded=0,
    claimed=0.0,
    compared=0,
    loss=0.0,
    naive_loss=0.0,
    clusters=0,
    judged2=0,
    exceeded2=0,
    product=0,
)
