"""The challengers of one series and their race, as one part of its model."""

from collections.abc import Mapping
from typing import Any, Self

from detection.catalogue import Direction
from detection.challengers.challenger import Challenger
from detection.challengers.fields import Fields, State
from detection.challengers.names import DEFAULT, NAMES, checked_name
from detection.challengers.race import Decision, Opinion, Race, Standing
from detection.challengers.registry import challenger

# Two days: every hour of the day was seen twice. Before that the default model speaks, and nobody is judged.
READY_AFTER = 48


class Contest:
    """Steps every challenger through the hours that the default model learns, and says who speaks.

    The default model stays outside: what it expects is handed in. Its estimate, band and threshold are those of the
    series until the `speaker` is another one.

    Parameters
    ----------
    challengers
        Names on the allow-list that race for the series.
    forecaster
        Who speaks at the beginning; without challengers, for good.
    lower, upper, direction, coverage
        As of the series.
    """

    STATE_VERSION = 1

    def __init__(
        self,
        challengers: tuple[str, ...],
        *,
        forecaster: str = DEFAULT,
        lower: float,
        upper: float,
        direction: Direction,
        coverage: float,
    ) -> None:
        checked_name(forecaster, (DEFAULT, *NAMES))
        self._is_open = bool(challengers)
        chosen = dict.fromkeys((forecaster, *challengers) if forecaster != DEFAULT else challengers)
        self._challengers: dict[str, Challenger] = {
            name: challenger(name, lower=lower, upper=upper, direction=direction, coverage=coverage) for name in chosen
        }
        self._race = Race((DEFAULT, *chosen), speaker=forecaster, direction=direction, coverage=coverage)
        self._forecaster = forecaster

    @classmethod
    def resumed(cls, state: object, challengers: tuple[str, ...], **params: Any) -> Self:
        """The contest that `to_state` told of, or a new one when it was another selection's: then all race anew.

        Raises UnreadableStateError for another version and for what is no such state.
        """
        contest = cls(challengers, **params)
        stored = Fields(state, "contest").part("challengers")
        if isinstance(stored, Mapping) and stored.keys() == contest._challengers.keys():
            contest.restore(state)
        return contest

    @property
    def speaker(self) -> str:
        """Whose answers are those of the series; the default model's while a challenger has learned too little."""
        name = self._race.speaker if self._is_open else self._forecaster
        one = self._challengers.get(name)
        return DEFAULT if one is None or one.n_learned < READY_AFTER else name

    def standings(self) -> tuple[Standing, ...]:
        """How each forecaster does."""
        return self._race.standings()

    def expected(self, default: Opinion, slot: int, ahead: int = 0) -> Opinion:
        """What the speaker expects; the default model's expectation itself when it is the speaker. Pure."""
        speaking = self._challengers.get(self.speaker)
        return default if speaking is None else speaking.predict(slot, ahead)

    def learn_one(self, value: float, slot: int, default: Opinion | None) -> Decision | None:
        """Judges the hour, then has every challenger learn it.

        `default` is what the default model expected of it, None while it is too young to be judged.
        """
        decision = None
        if default is not None and all(one.n_learned >= READY_AFTER for one in self._challengers.values()):
            told: dict[str, Opinion] = {DEFAULT: default}
            told |= {name: one.predict(slot) for name, one in self._challengers.items()}
            decision = self._race.learn_one(value, told)
        for one in self._challengers.values():
            one.learn_one(value, {"slot": slot})
        return decision if self._is_open else None

    def skip(self, hours: int = 1) -> None:
        """Lets hours without a value pass."""
        for one in self._challengers.values():
            one.skip(hours)

    def explain(self) -> dict[str, float | str]:
        """Who speaks, and each forecaster's figures."""
        explanation: dict[str, float | str] = {"speaker": self.speaker}
        for standing in self.standings():
            explanation[f"{standing.name}_mae_ratio"] = standing.mae_ratio
            explanation[f"{standing.name}_pinball_ratio"] = standing.pinball_ratio
            explanation[f"{standing.name}_exceedance"] = standing.exceedance
            explanation[f"{standing.name}_evidence"] = standing.evidence
        return explanation

    def copy(self) -> Self:
        """An independent twin."""
        twin = self.__class__.__new__(self.__class__)
        twin.__dict__.update(self.__dict__)
        twin._challengers = {name: one.copy() for name, one in self._challengers.items()}  # noqa: SLF001 (our own twin)
        twin._race = self._race.copy()  # noqa: SLF001
        return twin

    def to_state(self) -> State:
        """Plain numbers and lists of them under the names of the forecasters."""
        return {
            "version": self.STATE_VERSION,
            "race": self._race.to_state(),
            "challengers": {name: one.to_state() for name, one in self._challengers.items()},
        }

    def restore(self, state: object) -> None:
        """Gives a new contest of the same names what `to_state` told.

        Raises UnreadableStateError for another version, for other names, and for what is no such state.
        """
        fields = Fields(state, "contest")
        fields.expect("version", self.STATE_VERSION)
        stored = fields.part("challengers")
        if not isinstance(stored, Mapping) or stored.keys() != self._challengers.keys():
            found = ", ".join(map(str, stored)) if isinstance(stored, Mapping) else "no object"
            raise fields.refuse("challengers", f"are {found!r:.200}, not {', '.join(self._challengers)!r}")
        self._race.restore(fields.part("race"))
        for name, one in self._challengers.items():
            one.restore(stored[name])
