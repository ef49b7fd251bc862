"""The checks themselves; the docstring of each is the law that it holds a model to."""

import math
from collections.abc import Callable, Iterable

import numpy as np

from detection.catalogue import Direction
from detection.checks.checked import Checked
from detection.checks.histories import BEFORE_AUTUMN, BEFORE_SPRING, BERLIN, Hour, daily, hard_histories
from detection.errors import InvalidObservationError
from detection.hours import WEEK_HOURS, slot_of
from detection.prediction import Prediction

Check = Callable[[Checked], None]

_FIRST_HOUR = 489_984
_ZONE, _OTHER_ZONE = "UTC", "Asia/Tokyo"
_AHEAD = (0, 1, 30, 200)
_MANY_HOURS = 52 * WEEK_HOURS
_NIGHT, _DAY = 20.0, 60.0


def check_reading_changes_nothing(model: Checked) -> None:
    """Asked anything any number of times, a model stays what it is, to the bit, and answers alike."""
    for history in hard_histories():
        asked = model.fresh()
        next_hour = _fold(asked, history.hours(), start=history.first_hour)
        before = asked.encode()
        first = asked.ask(next_hour, history.zone)
        _read(asked, next_hour, history.zone)
        _require(_same(asked.ask(next_hour, history.zone), first), f"{history.name}: asked twice, answered twice")
        _require(asked.encode() == before, f"{history.name}: being asked changed what was learned")


def check_having_been_asked_makes_no_difference(model: Checked) -> None:
    """What is learned, and what is said of each value, does not depend on whether, or of what, was asked before."""
    for history in hard_histories():
        quiet, asked = model.fresh(), model.fresh()
        is_after_silence = False
        for hour in history.hours():
            if hour.value is None:
                is_after_silence = True
                continue
            # As another zone's first, then as its own, then as another's again: what is kept of an answer must serve
            # neither another question nor what is learned.
            if hour.at % 7 == 0:
                asked.ask(hour.at, _OTHER_ZONE)
            if hour.at % 23 == 0 or is_after_silence:
                _read(asked, hour.at, hour.zone)
            if hour.at % 2 == 0:
                asked.ask(hour.at, hour.zone)
            if hour.at % 11 == 0:
                asked.ask(hour.at, _OTHER_ZONE)
            is_after_silence = False
            _require(_learn(asked, hour) == _learn(quiet, hour), f"{history.name}: what was asked changed what is said")
        _require(asked.encode() == quiet.encode(), f"{history.name}: what was asked changed what was learned")


def check_a_value_never_softens_its_own_verdict(model: Checked) -> None:
    """Score, then learn: what is answered of an hour is the same whichever value then comes, and stands before it."""
    history = _usual_weeks(2)
    next_hour = _fold(model, history, start=_FIRST_HOUR)
    told = model.ask(next_hour, _ZONE)
    for value in (0.0, told.location, told.threshold, 99.0):
        verdict = model.copy().learn(next_hour, _ZONE, value, 600)
        threshold = getattr(verdict, "threshold", told.threshold)
        _require(
            _same_number(threshold, told.threshold),
            f"{value} was judged by {threshold}, published was {told.threshold}",
        )


def check_same_input_gives_the_same_state(model: Checked) -> None:
    """Two models that are told the same have learned the same, to the bit."""
    for history in hard_histories():
        one, other = model.fresh(), model.fresh()
        _fold(one, history.hours(), start=history.first_hour)
        _fold(other, history.hours(), start=history.first_hour)
        _require(one.encode() == other.encode(), f"{history.name}: told the same, learned something else")


def check_what_is_stored_goes_on_to_the_bit(model: Checked) -> None:
    """Stored and read again after any hour, a model says and learns the same at that hour and at every later one."""
    for history in hard_histories():
        whole, stored = model.fresh(), model.fresh()
        for hour in history.hours():
            if hour.value is None:
                continue
            stored = stored.decode(stored.encode())
            answers = whole.ask(hour.at, hour.zone), stored.ask(hour.at, hour.zone)
            _require(_same(*answers), f"{history.name}: {answers[0]} became {answers[1]} by being stored")
            _require(_learn(whole, hour) == _learn(stored, hour), f"{history.name}: a verdict changed by being stored")
            _require(whole.encode() == stored.encode(), f"{history.name}: what was stored learns otherwise")


def check_copies_live_on_their_own(model: Checked) -> None:
    """What a copy learns its original does not know, and the other way round; both go on alike."""
    for history in hard_histories():
        original = model.fresh()
        next_hour = _fold(original, history.hours(), start=history.first_hour)
        future = [Hour(next_hour + at, history.zone, 10.0 + 7.0 * (at % 9), 60) for at in range(60)]
        before = original.encode()
        twin = original.copy()
        _require(twin.encode() == before, f"{history.name}: a copy has not learned what its original has")
        _fold(twin, future, start=next_hour)
        _require(original.encode() == before, f"{history.name}: a copy taught its original")
        learned = twin.encode()
        _fold(original, future, start=next_hour)
        _require(twin.encode() == learned, f"{history.name}: an original taught its copy")
        _require(original.encode() == learned, f"{history.name}: a copy learns otherwise than its original")


def check_answers_are_finite_ordered_and_inside_the_bounds(model: Checked) -> None:
    """Whatever was learned: no NaN, no infinity, inside what the metric can be, and the threshold on its side."""
    for history in hard_histories():
        asked = model.fresh()
        for hour in history.hours():
            if hour.value is not None or hour.at % 7 == 0:
                require_sane(asked, asked.ask(hour.at, hour.zone), history.name)
            _learn(asked, hour)
        after = history.first_hour + len(history.values)
        for ahead in _AHEAD:
            require_sane(asked, asked.ask(after + ahead, history.zone), history.name)
        for name, value in asked.explain().items():
            _require(isinstance(value, str) or math.isfinite(value), f"{history.name}: {name} is explained as {value}")


def check_what_is_not_finite_is_refused_and_changes_nothing(model: Checked) -> None:
    """NaN and the infinities raise InvalidObservationError, and are as if they had never been told."""
    next_hour = _fold(model, _usual_weeks(1), start=_FIRST_HOUR)
    before = model.encode()
    for value in (math.nan, math.inf, -math.inf):
        try:
            model.learn(next_hour, _ZONE, value, 60)
        except InvalidObservationError:
            _require(model.encode() == before, f"{value} was refused, and changed what was learned")
        else:
            raise AssertionError(f"{value} was learned")


def check_a_missing_hour_moves_the_season_on(model: Checked) -> None:
    """Hours without a value are not learned, and what comes after them is expected of its own hour of the day."""
    next_hour = _fold(model, _square_days(_FIRST_HOUR, 3 * WEEK_HOURS, _ZONE), start=_FIRST_HOUR)
    for silent_hours in (1, 5, 30, 3 * WEEK_HOURS + 7):
        after = model.copy()
        hour = next_hour + silent_hours
        after.learn(hour, _ZONE, _square(hour, _ZONE), 600)
        for later in (hour + 1, hour + 6, hour + 12, hour + 20):
            _require_expected(after, later, _ZONE, f"{silent_hours} silent hours")


def check_the_season_follows_the_local_clock(model: Checked) -> None:
    """What people do at nine they do at nine of their own clock, before clocks are changed and after."""
    for change in (BEFORE_SPRING, BEFORE_AUTUMN):
        after = model.fresh()
        first_hour = change - 2 * WEEK_HOURS
        next_hour = _fold(after, _square_days(first_hour, 3 * WEEK_HOURS + 12, BERLIN), start=first_hour)
        for hour in range(next_hour, next_hour + 48):
            _require_expected(after, hour, BERLIN, "clocks that were changed")


def check_the_state_does_not_grow(model: Checked) -> None:
    """What is stored after a year is no larger than after three months, but for the digits of its counters."""
    rng = np.random.default_rng(5)
    quarter = 12 * WEEK_HOURS
    size_of_a_quarter = 0
    for at in range(_MANY_HOURS):
        if at % 29:
            model.learn(_FIRST_HOUR + at, _ZONE, daily(at, rng), 1 + at % 400)
        if at == quarter:
            size_of_a_quarter = len(model.encode())
    size = len(model.encode())
    _require(size <= 1.02 * size_of_a_quarter + 16, f"{size_of_a_quarter} bytes grew to {size}")


def check_the_order_of_two_series_never_matters(model: Checked) -> None:
    """Models share nothing: two of them learn the same one after the other, hour by hour, and in the other order."""
    histories = [history for history in hard_histories() if history.name in {"gaps", "both extremes"}]
    apart = [model.fresh() for _ in histories]
    for one, history in zip(apart, histories, strict=True):
        _fold(one, history.hours(), start=history.first_hour)
    for order in (1, -1):
        together = [model.fresh() for _ in histories]
        turns = list(zip(*(history.hours() for history in histories), strict=False))
        for turn in turns:
            for one, hour in list(zip(together, turn, strict=True))[::order]:
                _learn(one, hour)
        for one, history in zip(together, histories, strict=True):
            _fold(one, list(history.hours())[len(turns) :], start=history.first_hour)
        states = [one.encode() for one in together]
        _require(states == [one.encode() for one in apart], "a series learned from another one's turn")


def require_sane(model: Checked, said: Prediction, history: str) -> None:
    """AssertionError for an answer that is not finite, out of order, or outside what the metric can be."""
    numbers = (said.lower, said.location, said.upper, said.threshold)
    _require(all(map(math.isfinite, numbers)), f"{history}: {said} is not finite")
    _require(said.lower <= said.location <= said.upper, f"{history}: {said} is out of order")
    _require(all(model.lower <= one <= model.upper for one in numbers), f"{history}: {said} cannot be")
    _require(
        _is_beyond(said.threshold, said.location, model.direction),
        f"{history}: {said} has its threshold on the wrong side",
    )


CHECKS: tuple[Check, ...] = (
    check_reading_changes_nothing,
    check_having_been_asked_makes_no_difference,
    check_a_value_never_softens_its_own_verdict,
    check_same_input_gives_the_same_state,
    check_what_is_stored_goes_on_to_the_bit,
    check_copies_live_on_their_own,
    check_answers_are_finite_ordered_and_inside_the_bounds,
    check_what_is_not_finite_is_refused_and_changes_nothing,
    check_a_missing_hour_moves_the_season_on,
    check_the_season_follows_the_local_clock,
    check_the_state_does_not_grow,
    check_the_order_of_two_series_never_matters,
)


def _require(is_so: bool, otherwise: str) -> None:  # noqa: FBT001 (an assert that outlives python -O)
    if not is_so:
        raise AssertionError(otherwise)


def _learn(model: Checked, hour: Hour) -> object:
    return None if hour.value is None else model.learn(hour.at, hour.zone, hour.value, hour.count)


def _fold(model: Checked, hours: Iterable[Hour], *, start: int) -> int:
    """Learns the hours that have a value; the hour after the last one, `start` when there is none."""
    next_hour = start
    for hour in hours:
        _learn(model, hour)
        next_hour = hour.at + 1
    return next_hour


def _read(model: Checked, hour: int, zone: str) -> None:
    """Everything that can be asked of a model, of this hour and of later ones, and a copy that learns."""
    for ahead in _AHEAD:
        model.ask(hour + ahead, zone)
    model.explain()
    model.copy().learn(hour, zone, 1e6, 3)
    model.encode()


def _same(one: Prediction, other: Prediction) -> bool:
    pairs = zip(
        (one.location, one.lower, one.upper, one.threshold),
        (other.location, other.lower, other.upper, other.threshold),
        strict=True,
    )
    return all(_same_number(a, b) for a, b in pairs)


def _same_number(one: float, other: float) -> bool:
    """Equal, or both no number: whether an answer is one is another check's question."""
    return one == other or (math.isnan(one) and math.isnan(other))


def _is_beyond(threshold: float, location: float, direction: Direction) -> bool:
    return threshold >= location if direction == "above" else threshold <= location


def _usual_weeks(weeks: int) -> list[Hour]:
    rng = np.random.default_rng(2)
    return [Hour(_FIRST_HOUR + at, _ZONE, daily(at, rng), 600) for at in range(weeks * WEEK_HOURS)]


def _square(hour: int, zone: str) -> float:
    """High from 8 to 20 h, low at night."""
    return _DAY if 8 <= slot_of(hour, zone) % 24 < 20 else _NIGHT


def _square_days(first_hour: int, hours: int, zone: str) -> list[Hour]:
    return [Hour(hour, zone, _square(hour, zone), 600) for hour in range(first_hour, first_hour + hours)]


def _require_expected(model: Checked, hour: int, zone: str, after: str) -> None:
    expected, location = _square(hour, zone), model.ask(hour, zone).location
    half_way = 0.5 * (_DAY + _NIGHT)
    _require(
        (location > half_way) == (expected > half_way),
        f"after {after}, {location:g} is expected of an hour of {expected:g}",
    )
