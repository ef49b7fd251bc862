"""What the judge inside the hour needs of each series: taken from what was published, and learned from minutes.

A closing says what is expected of the hour. What it cannot know, for it sees hours only, is learned here, slowly: how
single calls differ, and how far the minutes of a healthy biller lie from what was published for them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np

from detection.catalogue import AVERAGE_RESPONSE_TIME, BILLER_METRICS, ERROR_RATE
from detection.exclusions import NOTHING_EXCLUDED, Exclusions
from detection.hours import HOUR_MS, MINUTE_MS, slot_of
from detection.kernel.live import LONGEST
from detection.kernel.live_normal import NORMAL, describe_live
from detection.kernel.row import ANSWER, ROW
from detection.live import SILENCE, SLUGS, LiveNormal
from detection.policy import Policy
from detection.series_model import setup_of
from detection.subject_state import SubjectState
from detection.windows import CallWindow

_ERRORS: Final = 1
_SIZE: Final = ROW.itemsize

# By how much the way to the threshold may grow in an hour, in shares of the level; from what on.
_REACH_GROWTH: Final = 1.05
_REACH_LEAST: Final = 0.05
# Of single calls: how fast it is learned, and by how much an hour may differ.
_SPREAD_RATE: Final = 0.1
_SPREAD_STEP: Final = 1.25
_SPREAD_PRIOR: Final = 1.0
_SPREAD_LEAST: Final = 0.05
# Of minutes: an hour teaches so much.
_NOISE_RATE: Final = 0.01
_NOISE_PRIOR: Final = 0.15
_NOISE_LARGEST: Final = 1.0
# Beyond so many usual squares (and a little) minutes are no noise any more, and teach only as if they were two.
_GROSS: Final = 9.0
_GROSS_LEAST: Final = 0.02
# Of rates, where few failures say little: two weeks, weighed by how much each minute can say.
_RATE_MEMORY: Final = 1.0 - 1.0 / 336.0
_RATE_NOISE_PRIOR: Final = 0.5
_RATE_NOISE_LARGEST: Final = 4.0
_WEIGHT_PRIOR: Final = 20.0
_GROSS_FAILED: Final = 30.0


def live_normals(state: SubjectState, live: Mapping[str, LiveNormal], policy: Policy) -> dict[str, LiveNormal]:
    """`live_normals_of_many` of one biller."""
    return live_normals_of_many([(state, live)], policy)[0]


def live_normals_of_many(
    states: Sequence[tuple[SubjectState, Mapping[str, LiveNormal]]], policy: Policy
) -> list[dict[str, LiveNormal]]:
    """What the judge needs of the hours that were just published, per biller, from what it needed before.

    To be asked right after the closing, before its answers are written and forgotten: it reads the models, what was
    published, the window of the hour that closed and the last minutes. Other subjects than billers have none.
    """
    rows: list[bytes] = []
    places: list[tuple[int, int]] = []
    hours: list[int] = []
    answers = np.zeros(len(states) * len(BILLER_METRICS), ANSWER)
    for at, (state, _) in enumerate(states):
        if state.subject.kind != "biller":
            continue
        for which, metric in enumerate(BILLER_METRICS):
            record = state.models.record(metric.slug)
            if len(record) < _SIZE:
                continue
            answer = answers[len(rows)]
            closed = state.closings.get(metric.slug)
            forecast = state.forecasts.get(metric.slug)
            if closed is not None:
                closings, place = closed
                answers[len(rows)] = closings.answers[place]
                hour = closings.hour[place]
            elif forecast is not None:
                answer["location"], answer["threshold"] = forecast.estimate.location, forecast.threshold.value
                hour = forecast.hour
            else:
                continue
            rows.append(record[:_SIZE])
            places.append((at, which))
            hours.append(hour)
    found: list[dict[str, LiveNormal]] = [{} for _ in states]
    if not rows:
        return found
    records = np.frombuffer(b"".join(rows), ROW)
    setups = np.concatenate([setup_of(metric, policy, is_signed=False) for metric in BILLER_METRICS])
    kinds = np.array([which for _, which in places], np.int64)
    slots = np.array([slot_of(hour, policy.zone) for hour in hours], np.int64)
    normals, silences = np.zeros(len(rows), NORMAL), np.zeros(len(rows), NORMAL)
    describe_live(records, setups, kinds, slots, answers[: len(rows)], normals, silences)
    learned = [_Minutes.of(state, live) for state, live in states]
    for place, (at, which) in enumerate(places):
        slug, hour = SLUGS[which], hours[place]
        live = states[at][1]
        _carry(found[at], slug, hour, normals[place], live, learned[at])
        if which == _ERRORS:
            _carry(found[at], SILENCE, hour, silences[place], live, learned[at])
    return found


def _carry(
    found: dict[str, LiveNormal], slug: str, hour: int, normal: Any, live: Mapping[str, LiveNormal], learned: "_Minutes"
) -> None:
    location, reach = float(normal["location"]), float(normal["reach"])
    if not math.isfinite(location):
        return
    known = live.get(slug)
    before = location
    if known is not None and slug == AVERAGE_RESPONSE_TIME.slug and known.hour < hour and known.location > 0.0:
        # A forecaster that is led astray also doubts itself: that must not blind the judge within hours.
        reach = min(reach, _REACH_GROWTH * max(known.reach, _REACH_LEAST * known.location) * location / known.location)
    if known is not None:
        before = known.location if known.hour == hour - 1 else known.before if known.hour == hour else location
    found[slug] = LiveNormal.rounded(hour, location, before, reach, *learned.spread_and_noise(slug, hour))


@dataclass(slots=True)
class _Minutes:
    """What is learned of a biller's minutes at a closing: how its calls differ, and how its minutes do."""

    live: Mapping[str, LiveNormal]
    newest: int  # the last hour that had a call
    closed: int
    hour: CallWindow | None
    last: list[CallWindow]
    length: int  # minutes that `last` are among
    exclusions: Exclusions

    @classmethod
    def of(cls, state: SubjectState, live: Mapping[str, LiveNormal]) -> Self:
        closed = state.published_hour - 1
        window = state.windows.get(closed)
        oldest = max(state.watermark_ms // MINUTE_MS - LONGEST + 1, closed * 60)
        # All at once, and for reading: minutes that are asked for one by one are written again with the state.
        kept = dict(state.minutes.items())
        last = [kept.get(minute) for minute in range(oldest, closed * 60 + 60)]
        return cls(
            live=live,
            newest=state.watermark_ms // HOUR_MS,
            closed=closed,
            hour=window if isinstance(window, CallWindow) else None,
            last=[one for one in last if isinstance(one, CallWindow) and one.calls],
            length=len(last),
            exclusions=state.exclusions,
        )

    def spread_and_noise(self, slug: str, hour: int) -> tuple[float, float]:
        """Both moved a little towards what the closed hour and its last minutes showed."""
        if self.exclusions.holds(slug, self.closed):
            # As if nobody had called.
            quiet = replace(self, hour=None, last=[], exclusions=NOTHING_EXCLUDED)
            return quiet.spread_and_noise(slug, hour)
        known = self.live.get(slug)
        if slug == SILENCE:
            return self._missed(known, hour), self._noise_of_calls(known)
        if slug == AVERAGE_RESPONSE_TIME.slug:
            return self._spread(known, hour), self._noise_of_latency(known)
        return self._noise_of_rate(known, is_error=slug == ERROR_RATE.slug)

    def _spread(self, known: LiveNormal | None, hour: int) -> float:
        own = _spread_of(self.hour)
        if known is None:
            return _SPREAD_PRIOR if own is None else own
        if own is None or known.hour >= hour:
            return known.spread
        own = min(max(own, known.spread / _SPREAD_STEP), known.spread * _SPREAD_STEP)
        return known.spread + _SPREAD_RATE * (own - known.spread)

    def _missed(self, known: LiveNormal | None, hour: int) -> float:
        if known is None or self.newest >= hour - 2:
            return 0.0
        return known.spread + known.before if known.hour == hour - 1 else known.spread

    def _noise_of_calls(self, known: LiveNormal | None) -> float:
        if known is None or known.hour != self.closed or not self.last or not known.location > 0.0:
            return _NOISE_PRIOR if known is None else known.noise
        expected = known.location / 60.0
        squares = sum((one.calls / expected - 1.0) ** 2 for one in self.last) + self.length - len(self.last)
        return _moved(known.noise, squares / self.length - 1.0 / expected, expected / (expected + 1.0))

    def _noise_of_latency(self, known: LiveNormal | None) -> float:
        answered = sum(one.answered for one in self.last)
        if known is None or known.hour != self.closed or not answered or not known.location > 0.0:
            return _NOISE_PRIOR if known is None else known.noise
        usual = 1000.0 * known.location
        squares = sum(
            one.answered * (one.latency_us / one.answered / usual - 1.0) ** 2 for one in self.last if one.answered
        )
        return _moved(
            known.noise, (squares - len(self.last) * known.spread**2) / answered, answered / (answered + 75.0)
        )

    def _noise_of_rate(self, known: LiveNormal | None, *, is_error: bool) -> tuple[float, float]:
        """The weight of what is known, in squared failures that were expected, and the relative noise of the rate.

        Few failures say little of it: so each minute weighs by the square of how many were to be expected.
        """
        if known is None:
            return _WEIGHT_PRIOR, _RATE_NOISE_PRIOR
        if known.hour != self.closed or not self.last:
            return known.spread, known.noise
        rate = known.location
        squares = weight = 0.0
        for one in self.last:
            expected = rate * one.calls
            failed = one.errors if is_error else one.timeouts
            squares += (failed - expected) ** 2 - expected * (1.0 - rate)
            weight += expected * expected
        square = known.noise * known.noise
        kept = _RATE_MEMORY * known.spread
        if squares > (_GROSS * square + 1.0) * weight + _GROSS_FAILED:
            squares = square * weight
        square = max(kept * square + squares, 0.0) / (kept + weight)
        return kept + weight, math.sqrt(min(square, _RATE_NOISE_LARGEST))


def _moved(noise: float, shown: float, weight: float) -> float:
    square = noise * noise
    if shown > _GROSS * square + _GROSS_LEAST:
        shown = 2.0 * square
    square += _NOISE_RATE * weight * (shown - square)
    return math.sqrt(min(max(square, 0.0), _NOISE_LARGEST))


def _spread_of(window: CallWindow | None) -> float | None:
    if window is None or window.answered < 20 or not window.latency_us:
        return None
    square = window.answered * window.latency_us2 / window.latency_us**2 - 1.0
    return max(math.sqrt(max(square, 0.0)), _SPREAD_LEAST)
