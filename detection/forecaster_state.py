"""Everything that a forecaster learned, as plain numbers under stable names."""

from collections.abc import Mapping
from typing import Any

from detection.errors import UnreadableStateError
from detection.seasonal_model import SeasonalModel

STATE_VERSION = 1

State = dict[str, float | int | list[float]]

# Name in the state, part that holds it (empty: the model itself), attribute.
_FIELDS = (
    ("n_learned", "", "n_learned"),
    ("offset", "scale", "offset"),
    ("anchor", "scale", "anchor"),
    ("hours", "recent", "passed"),
    ("slot", "", "slot"),
    ("silent", "recent", "silent"),
    ("last", "recent", "last"),
    ("largest", "", "largest"),
    ("level", "level", "mean"),
    ("variance", "level", "variance"),
    ("week_before", "recent", "week_before"),
    ("day_before", "recent", "day_before"),
    ("week_deviation", "recent", "week_deviation"),
    ("day_deviation", "recent", "day_deviation"),
    ("slow_spread", "spread", "slow"),
    ("quick_spread", "spread", "quick"),
    ("recent_seen", "recent", "seen"),
    ("averages", "level", "averages"),
    ("day", "season", "day"),
    ("day_count", "season", "day_count"),
    ("week", "season", "week"),
    ("week_seen", "season", "week_seen"),
    ("recent", "recent", "z"),
    ("day_spread", "spread", "day"),
    ("regression_weights", "regression", "weights"),
    ("regression_covariance", "regression", "covariance"),
    ("regression_spread", "regression", "spread"),
    ("regression_n_learned", "regression", "n_learned"),
    ("mixture_slow_regrets", "mixture", "slow_regrets"),
    ("mixture_slow_squares", "mixture", "slow_squares"),
    ("mixture_quick_regrets", "mixture", "quick_regrets"),
    ("mixture_quick_squares", "mixture", "quick_squares"),
    ("mixture_loss", "mixture", "loss"),
    ("mixture_n_learned", "mixture", "n_learned"),
    ("bounds_bins", "bounds", "bins"),
    ("bounds_increment", "bounds", "increment"),
    ("bounds_n_learned", "bounds", "n_learned"),
    ("bounds_units", "bounds", "units"),
    ("bounds_tracked_first", "bounds", "tracked_first"),
    ("bounds_tracked_second", "bounds", "tracked_second"),
    ("bounds_corrections", "bounds", "corrections"),
)


def state_of(model: SeasonalModel) -> State:
    """The state of a model; flat, finite and JSON-ready, its lists are copies."""
    state: State = {"version": STATE_VERSION}
    for name, part, attribute in _FIELDS:
        value = getattr(getattr(model, part) if part else model, attribute)
        state[name] = value[:] if isinstance(value, list) else value
    return state


def restore(model: SeasonalModel, state: Mapping[str, Any]) -> None:
    """Puts a state into a model that learned nothing yet; fields that it does not know are left aside.

    Raises UnreadableStateError for another schema version, a missing field or a list of another length.
    """
    if state.get("version") != STATE_VERSION:
        raise UnreadableStateError(f"forecaster state of version {state.get('version')!r}, not {STATE_VERSION}")
    for name, part, attribute in _FIELDS:
        holder = getattr(model, part) if part else model
        found, value = state.get(name), getattr(holder, attribute)
        if isinstance(value, list):
            if not isinstance(found, list) or len(found) != len(value):
                raise UnreadableStateError(f"forecaster state: {name} is not a list of {len(value)} numbers")
            found = found[:]
        elif not isinstance(found, int | float):
            raise UnreadableStateError(f"forecaster state: {name} is {found!r:.60}, not a number")
        setattr(holder, attribute, found)
