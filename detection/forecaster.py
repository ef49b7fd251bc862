"""What one series will be in the next hour, and how far from it is still normal."""

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from river.time_series.base import Forecaster

from detection.catalogue import Direction
from detection.errors import InvalidObservationError, UnreadableStateError
from detection.explanation import shares
from detection.kernel.bank import begin_forecaster, learn_forecaster, look_forecaster, skip_forecaster
from detection.kernel.row import FORECASTER_FIELDS, HOURS_OF_WEEK, OUTLOOK, ROW_VERSION, SETUP, copied
from detection.prediction import Prediction, cut, write_setup

_ROW = np.dtype(FORECASTER_FIELDS)


class SeasonalForecaster(Forecaster):
    """Experts over a daily and a weekly season on the log scale, mixed online, with bounds that measure themselves.

    An hour is learned in order: `predict` (pure), then `learn_one` for its value or `skip` when there is none. The slot
    is the hour of the week in the subject's own time zone, 0..167, Monday 00h = 0; it may jump or repeat (daylight
    saving), the order of hours itself never does.

    The arithmetic is compiled, in `detection.kernel.step`: what is learned sits in one flat record, about 3 kB. With a
    finite `lower` bound the season lives on log(value - lower + offset), without one on the value itself. Same inputs
    give the same state, bit for bit.

    Examples
    --------
    >>> model = SeasonalForecaster(lower=0.0)
    >>> for hour in range(24 * 14):
    ...     model.learn_one(100.0 if hour % 24 < 12 else 200.0)
    >>> [round(location, -1) for location in model.forecast(horizon=24)][10:14]
    [100.0, 100.0, 200.0, 200.0]
    """

    STATE_VERSION = ROW_VERSION

    def __init__(
        self,
        lower: float = -math.inf,
        upper: float = math.inf,
        direction: Direction = "above",
        coverage: float = 0.99,
        interval: float = 0.95,
    ) -> None:
        self.lower = lower
        self.upper = upper
        self.direction = direction
        self.coverage = coverage
        self.interval = interval
        self._rows = np.zeros(1, _ROW)
        self._setups = np.zeros(1, SETUP)
        self._outlooks = np.zeros(1, OUTLOOK)
        self._looked_at: int | None = None  # the slot that the outlook is of; never part of the state
        write_setup(
            self._setups[0], lower=lower, upper=upper, direction=direction, coverage=coverage, interval=interval
        )
        begin_forecaster(self._rows)

    @property
    def n_learned(self) -> int:
        """Values seen so far, outages included."""
        return int(self._rows["n_observed"][0])

    @property
    def slot(self) -> int:
        """Hour of the week that comes next, 0..167."""
        return int(self._rows["slot"][0])

    def predict(self, slot: int | None = None, ahead: int = 0) -> Prediction:
        """The hour `ahead` hours after the next one, pure; `slot` is that hour's own, by default counted on.

        Before the first value it is the lower bound, or 0 without one, with no width: the caller's prior speaks then.
        """
        if ahead > 0:
            later = self.copy()
            later.skip(ahead)
            return later.predict(slot)
        self._look(slot)
        outlook = self._outlooks[0]
        location = min(max(float(outlook["location"]), self.lower), self.upper)
        return Prediction(location, float(outlook["lower"]), float(outlook["upper"]), float(outlook["threshold"]))

    def forecast(self, horizon: int, xs: list[dict[str, Any]] | None = None) -> list[float]:
        """Locations of the next `horizon` hours, each as if the hours before it were silent; `xs` may carry slots."""
        later = self.copy()
        locations = []
        for step in range(horizon):
            slot = None if xs is None else xs[step].get("slot")
            if slot is not None:
                later._rows["slot"][0] = int(slot) % HOURS_OF_WEEK  # noqa: SLF001 (our own twin)
            locations.append(later.predict().location)
            later.skip()
        return locations

    def learn_one(self, y: float, x: Mapping[str, Any] | None = None) -> None:
        """Learns the value of the next hour and moves on; `x` may carry its slot.

        Raises InvalidObservationError for a value that is not finite; one outside the bounds is learned as the bound.
        """
        if not math.isfinite(y):
            raise InvalidObservationError(f"{y} is not finite")
        given = None if x is None else x.get("slot")
        self._look(None if given is None else int(given))
        self._looked_at = None
        learn_forecaster(self._rows, self._setups, cut(min(max(float(y), self.lower), self.upper)), self._outlooks)

    def skip(self, hours: int = 1) -> None:
        """Lets hours without a value pass: the season moves on, nothing is learned."""
        if hours > 0:
            self._looked_at = None
            skip_forecaster(self._rows, self._setups, hours)

    def explain(self) -> dict[str, float | str]:
        """The parts of the next hour's prediction, in numbers; a series' model says more of them, and in words."""
        self._look(None)
        return shares(self._rows[0], self._outlooks[0])

    def copy(self) -> Self:
        """An independent twin."""
        twin = type(self)(self.lower, self.upper, self.direction, self.coverage, self.interval)
        twin._rows = copied(self._rows)  # noqa: SLF001 (our own twin)
        return twin

    def to_state(self) -> dict[str, Any]:
        """The record as bytes, with its version; `from_state` goes on bit for bit."""
        return {"version": ROW_VERSION, "row": self._rows.tobytes()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any], **parameters: Any) -> Self:
        """Raises UnreadableStateError for another version, and for what is no such record."""
        if state.get("version") != ROW_VERSION:
            raise UnreadableStateError(
                f"forecaster state of version {state.get('version')}, this program reads {ROW_VERSION}"
            )
        row = state.get("row")
        if not isinstance(row, bytes) or len(row) != _ROW.itemsize:
            raise UnreadableStateError(f"forecaster state is no record of {_ROW.itemsize} bytes")
        model = cls(**parameters)
        model._rows = np.frombuffer(bytearray(row), _ROW)
        return model

    def _look(self, slot: int | None) -> None:
        slot = self.slot if slot is None else int(slot) % HOURS_OF_WEEK
        if slot != self._looked_at:
            look_forecaster(self._rows, self._setups, slot, self._outlooks)
            self._looked_at = slot
