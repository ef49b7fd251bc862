"""Who speaks for a series: forecasters compared on the same hours, and the one rule by which another one takes over."""

import copy
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from detection.catalogue import Direction
from detection.challengers.fields import Fields, State
from detection.errors import SettingsError

HALF_LIFE = 336  # judged hours, of every mean below
LEAST_JUDGED = 336  # hours of the term, before which nobody takes over
BLOCK = 24  # judged hours that make one bet
TERM = 1344  # judged hours, 8 weeks, after which the evidence begins at 1 again
MARGIN = 0.95  # a taker's pinball loss must be below this share of the speaker's
EVIDENCE = 20.0  # 1 / 0.05
BAND = (0.5, 2.0)  # of the claim, that a taker's measured exceedance must lie in
LOST = 4.0  # of the claim: a speaker beyond this hands over to the one it took over from by rule

_KEEP = 0.5 ** (1.0 / HALF_LIFE)
_MOST_BET = 0.9
_LOSS_CUT = 100.0  # times the speaker's mean
_CUT_AFTER = 48  # judged hours


class Opinion(Protocol):
    """What a forecaster said of an hour before its value was known."""

    @property
    def location(self) -> float:
        """Expected value."""

    @property
    def threshold(self) -> float:
        """Bound that claims the coverage."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one forecaster does. Ratios are to the forecaster that every series has, 1.0 when neither erred.

    `mae_ratio` below 1 is skill; `pinball` is in the unit of the series; `exceedance` is the measured share; `evidence`
    is the e-value against "no better than the speaker", which at most 1 in 20 terms would see reach 20 by chance.
    """

    name: str
    is_speaking: bool
    judged: int
    mae_ratio: float
    pinball: float
    pinball_ratio: float
    exceedance: float
    evidence: float


@dataclass(frozen=True, slots=True)
class Decision:
    """A change of the one who speaks, with the figures that decided it: those of the taker, then of the former."""

    taker: str
    former: str
    reason: Literal["better", "lost coverage"]
    judged: int
    pinball_ratio: float  # the taker's / the former's
    mae_ratio: float
    exceedance: float
    former_exceedance: float
    evidence: float


@dataclass(slots=True)
class _Runner:
    """One forecaster's forgetting means, and its bets against the speaker."""

    error: float = 0.0
    pinball: float = 0.0
    exceeded: float = 0.0
    block: float = 0.0  # pinball loss of the hours of the block that is not full
    log_wealth: float = 0.0
    gains: float = 0.0
    squares: float = 0.0

    def learn(self, error: float, pinball: float, is_exceeded: bool) -> None:  # noqa: FBT001 (a value, not a mode)
        """Takes in the losses of one hour."""
        self.error = _KEEP * self.error + (1.0 - _KEEP) * error
        self.pinball = _KEEP * self.pinball + (1.0 - _KEEP) * pinball
        self.exceeded = _KEEP * self.exceeded + (1.0 - _KEEP) * is_exceeded
        self.block += pinball

    def bet(self, speaker: float) -> None:
        """Stakes a share of the wealth on having lost less in this block than the speaker, less the margin."""
        own, other = self.block, MARGIN * speaker
        gain = (other - own) / (other + own) if other + own > 0.0 else 0.0
        # The stake is set by the blocks before this one alone; that is what makes the wealth a fair game.
        stake = min(max(self.gains / (1.0 + self.squares), 0.0), _MOST_BET)
        self.log_wealth += math.log1p(stake * gain)
        self.gains += gain
        self.squares += gain * gain

    def begin_term(self) -> None:
        """Forgets what was won and lost; the means stay."""
        self.block = self.log_wealth = self.gains = self.squares = 0.0


class Race:
    """Forecasters of one series on the same hours; `speaker` is the one whose thresholds are published.

    An hour is judged for all of them or for none, by what each said before its value was known: absolute error,
    pinball loss of the threshold, and whether the threshold was exceeded; all as means with a half-life of 336 judged
    hours. One hour's loss is cut at 100 times the speaker's mean, so that a single 1e9 does not decide for months.

    **The rule.** At the end of a block of 24 judged hours a forecaster takes over when all of this holds; of several,
    the one with the least pinball loss:

    1. at least 336 hours were judged since the last change (and since the beginning);
    2. its mean pinball loss is below 0.95 of the speaker's;
    3. the evidence for that is at least 20: a wealth that begins at 1 and stakes, block by block, a share of itself on
       gain = (0.95 S - L) / (0.95 S + L), S and L the block's pinball losses of the speaker and its own. Were the gain
       0 or less in the mean, given the past, the wealth would be a supermartingale and reach 20 in at most 1 of 20
       terms, however often one looks (Ville 1939; Waudby-Smith and Ramdas 2024, "Estimating means of bounded random
       variables by betting"). A term ends after 1344 judged hours or with a change: the wealth is 1 again;
    4. its measured exceedance lies within 0.5 and 2 times the claim.

    Going back is the same rule with the roles exchanged: the former speaker races on, must be better by the same
    margin, with new evidence, and no sooner than 336 hours later. So two that are about as good do not take turns. One
    thing goes faster: a speaker other than the first name, whose measured exceedance is above 4 times the claim after
    336 judged hours, hands over to the first name at once.

    The same hours give the same state, bit for bit; no clock and no chance is asked.

    Parameters
    ----------
    names
        The forecasters; the first one is what every series has.
    speaker
        Who speaks at the beginning.
    direction
        The side of the threshold.
    coverage
        What the thresholds claim.
    """

    STATE_VERSION = 1

    def __init__(
        self, names: tuple[str, ...], *, speaker: str, direction: Direction = "above", coverage: float = 0.99
    ) -> None:
        if speaker not in names or len(set(names)) != len(names):
            raise SettingsError(f"a race of {', '.join(names)} cannot begin with {speaker}")
        self._names = names
        self._speaker = speaker
        self._is_above = direction == "above"
        self._tail = 1.0 - coverage
        self._runners = {name: _Runner() for name in names}
        self._judged = 0
        self._term = 0  # judged hours since the evidence began
        self._since_change = 0
        self._in_block = 0
        self._changes = 0

    @property
    def speaker(self) -> str:
        """Whose thresholds are to be published."""
        return self._speaker

    @property
    def changes(self) -> int:
        """How often another one took over."""
        return self._changes

    def learn_one(self, value: float, told: Mapping[str, Opinion]) -> Decision | None:
        """Judges one hour by what every forecaster had told of it; returns the change that it led to, if any."""
        speaking = self._runners[self._speaker]
        mass = self._mass()
        is_cut = self._judged >= _CUT_AFTER
        most_error = _LOSS_CUT * speaking.error / mass if is_cut and speaking.error > 0.0 else math.inf
        most_pinball = _LOSS_CUT * speaking.pinball / mass if is_cut and speaking.pinball > 0.0 else math.inf
        for name, runner in self._runners.items():
            opinion = told[name]
            gap = value - opinion.threshold if self._is_above else opinion.threshold - value
            pinball = gap * (1.0 - self._tail) if gap > 0.0 else -gap * self._tail
            runner.learn(min(abs(value - opinion.location), most_error), min(pinball, most_pinball), gap > 0.0)
        self._judged += 1
        self._term += 1
        self._since_change += 1
        self._in_block += 1
        return self._end_block() if self._in_block == BLOCK else None

    def standings(self) -> tuple[Standing, ...]:
        """How each forecaster does, in the order of the names."""
        first = self._runners[self._names[0]]
        mass = self._mass()
        return tuple(
            Standing(
                name=name,
                is_speaking=name == self._speaker,
                judged=self._judged,
                mae_ratio=_ratio(runner.error, first.error),
                pinball=runner.pinball / mass,
                pinball_ratio=_ratio(runner.pinball, first.pinball),
                exceedance=runner.exceeded / mass,
                evidence=_evidence(runner),
            )
            for name, runner in self._runners.items()
        )

    def copy(self) -> Self:
        """An independent twin."""
        twin = copy.copy(self)
        twin._runners = {  # noqa: SLF001 (our own twin)
            name: dataclasses.replace(runner) for name, runner in self._runners.items()
        }
        return twin

    def to_state(self) -> State:
        """Plain numbers, and the names they belong to."""
        return {
            "version": self.STATE_VERSION,
            "speaker": self._speaker,
            "judged": self._judged,
            "term": self._term,
            "since_change": self._since_change,
            "in_block": self._in_block,
            "changes": self._changes,
            "runners": {
                name: [it.error, it.pinball, it.exceeded, it.block, it.log_wealth, it.gains, it.squares]
                for name, it in self._runners.items()
            },
        }

    def restore(self, state: object) -> None:
        """Gives a new race of the same names what `to_state` told; raises UnreadableStateError."""
        fields = Fields(state, "race")
        fields.expect("version", self.STATE_VERSION)
        speakers = [name for name in self._names if fields.part("speaker") == name]
        if not speakers:
            raise fields.refuse("speaker", f"is {fields.part('speaker')!r:.60}, none of {', '.join(self._names)}")
        (self._speaker,) = speakers
        self._judged = fields.whole("judged")
        self._term = fields.whole("term")
        self._since_change = fields.whole("since_change")
        self._in_block = fields.whole("in_block", 0, BLOCK - 1)
        self._changes = fields.whole("changes")
        runners = Fields(fields.part("runners"), "race")
        self._runners = {name: _Runner(*runners.numbers(name, 7)) for name in self._names}

    def _end_block(self) -> Decision | None:
        speaking = self._runners[self._speaker]
        for name, runner in self._runners.items():
            if name != self._speaker:
                runner.bet(speaking.block)
        for runner in self._runners.values():
            runner.block = 0.0
        self._in_block = 0
        decision = self._decide() if self._since_change >= LEAST_JUDGED else None
        if decision is not None:
            self._speaker = decision.taker
            self._changes += 1
            self._since_change = 0
        if decision is not None or self._term >= TERM:
            self._term = 0
            for runner in self._runners.values():
                runner.begin_term()
        return decision

    def _decide(self) -> Decision | None:
        speaking = self._runners[self._speaker]
        mass = self._mass()
        low, high = BAND[0] * self._tail, BAND[1] * self._tail
        takers = [
            (runner.pinball, name)
            for name, runner in self._runners.items()
            if name != self._speaker
            and runner.pinball < MARGIN * speaking.pinball
            and _evidence(runner) >= EVIDENCE
            and low <= runner.exceeded / mass <= high
        ]
        if takers:
            return self._change(min(takers)[1], "better")
        if self._speaker != self._names[0] and speaking.exceeded / mass > LOST * self._tail:
            return self._change(self._names[0], "lost coverage")
        return None

    def _change(self, taker: str, reason: Literal["better", "lost coverage"]) -> Decision:
        one, former = self._runners[taker], self._runners[self._speaker]
        mass = self._mass()
        return Decision(
            taker=taker,
            former=self._speaker,
            reason=reason,
            judged=self._judged,
            pinball_ratio=_ratio(one.pinball, former.pinball),
            mae_ratio=_ratio(one.error, former.error),
            exceedance=one.exceeded / mass,
            former_exceedance=former.exceeded / mass,
            evidence=_evidence(one),
        )

    def _mass(self) -> float:
        """Weight of all hours in the means, so far; 1 before the first."""
        return 1.0 - _KEEP**self._judged if self._judged else 1.0


def _ratio(one: float, other: float) -> float:
    """Of two losses; 1 when neither lost, at most 1e9."""
    return 1.0 if one == other else min(one / other, 1e9) if other > 0.0 else 1e9


def _evidence(runner: _Runner) -> float:
    return math.exp(min(runner.log_wealth, 700.0))
