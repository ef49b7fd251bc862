"""One series' learned state: a fold over its closed windows, one observation or one missing hour at a time."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Self
from zlib import crc32

import msgspec
import numpy as np

from detection.catalogue import Metric
from detection.challengers.names import DEFAULT
from detection.challengers.race import Opinion
from detection.damage import damaged
from detection.errors import InvalidObservationError, UnreadableStateError
from detection.estimate import Estimate, Forecast, Scored, Status, Threshold, Verdict, WarmingUp
from detection.explanation import Parts, explain_many, for_reading
from detection.hours import slot_of
from detection.judged_hours import JudgedHour, judged_hour
from detection.kernel.bank import Records, begin_many, expect_many, fold_one, judge_many, learn_many
from detection.kernel.closing import tell_one
from detection.kernel.row import (
    ANSWER,
    GAUGE,
    MEAN,
    OUTLOOK,
    RATIO,
    ROW,
    ROW_VERSION,
    SETUP,
    TOLD,
    copied,
)
from detection.kernel.series import EXCEEDANCE_RATE, READY_AFTER, skip_hours
from detection.policy import Policy
from detection.prediction import Prediction, cut, cut_many, write_setup
from detection.rows import Observation
from detection.version_1 import carry_over

if TYPE_CHECKING:
    from detection.challengers.contest import Contest

_KINDS: Final = {"mean": MEAN, "ratio": RATIO, "gauge": GAUGE}
_FIRST = np.zeros(1, np.int64)  # the setup of a single model; never written to


class SeriesModel:
    """Score, then learn; between two observations every missing hour moves the season on without being learned.

    `next_hour` is the hour (since the epoch, UTC) after the last one learned; None before the first.

    A gauge of unknown bounds is taken as 0 or more, which lets it be learned on the logarithmic scale. Its first
    negative value says otherwise (`is_signed`): what was learned on that scale means nothing on the other one, so a new
    forecaster begins with that value, and `n_before` keeps the number of observations learned before.

    `judged` counts the hours that were scored, `exceedance_rate` is the share of them that exceeded the threshold
    published for them: over all of them at first, then with a half-life of 500 hours.

    Everything sits in one record (`detection.kernel.row`); a bank learns many of them with the same compiled code.
    """

    __slots__ = ("_answers", "_outlooks", "_setups", "_standing", "contest", "metric", "rows", "subject")

    def __init__(self, metric: Metric, policy: Policy, subject: str = "") -> None:
        self.subject = subject
        self.contest = _contest(metric, policy, subject, is_signed=False)
        self._prepare(metric, np.zeros(1, ROW), setup_of(metric, policy, is_signed=False))
        begin_many(self.rows, self._setups, _FIRST, np.array([crc32(metric.slug.encode()) & 255]))

    def _prepare(self, metric: Metric, rows: Records, setups: Records) -> None:
        self.metric = metric
        self.rows = rows
        self._setups = setups
        self._outlooks = np.zeros(1, OUTLOOK)
        self._answers = np.zeros(1, ANSWER)
        # What stood beside the last verdict: the ends of the band, and the expected calls.
        self._standing = (0.0, 0.0, 0.0)

    @property
    def next_hour(self) -> int | None:
        """The hour after the last one learned; None before the first."""
        return int(self.rows["next_hour"][0]) if self.n_learned else None

    @property
    def is_signed(self) -> bool:
        """Whether a gauge has shown that it can be negative."""
        return bool(self.rows["is_signed"][0])

    @property
    def n_learned(self) -> int:
        """Observations seen so far."""
        row = self.rows[0]
        return int(row["n_before"]) + int(row["n_observed"])

    @property
    def is_warm(self) -> bool:
        """Whether enough was learned to judge."""
        return bool(self.rows["n_learned"][0] >= READY_AFTER)

    @property
    def judged(self) -> int:
        """Hours that were scored."""
        return int(self.rows["judged"][0])

    @property
    def exceedance_rate(self) -> float:
        """Share of the judged hours that exceeded the threshold published for them, lately."""
        return float(self.rows["exceedance_rate"][0])

    @property
    def expected_count(self) -> float:
        """Calls that the next hour is expected to have."""
        return float(self.rows["expected_count"][0])

    @property
    def answers(self) -> Records:
        """What was answered last, one record of `ANSWER`; overwritten by the next question."""
        return self._answers

    def copy(self) -> Self:
        """An independent twin: what it learns, this one does not."""
        twin = object.__new__(type(self))
        twin.subject = self.subject
        twin.contest = None if self.contest is None else self.contest.copy()
        twin._prepare(self.metric, copied(self.rows), self._setups)
        return twin

    def learn(self, hour: int, value: float, count: int, policy: Policy) -> Verdict:
        """Judge the value of a closed hour by what was expected of it, then learn it; returns the verdict.

        Raises InvalidObservationError for a value that is not finite and for an hour at or before the last one learned.
        """
        self._require(hour, value)
        if value < 0.0 and not self.is_signed and is_unbounded(self.metric):
            verdict = self.score(hour, value, count, policy)
            self._begin_signed(policy)
            self._learn(hour, value, count, policy)
            return verdict
        if self.contest is not None:  # judged by what the speaker expects, as it is published
            verdict = self.score(hour, value, count, policy)
            self._learn(hour, value, count, policy)
            return verdict
        is_warm = self.is_warm
        self._learn(hour, value, count, policy)
        return self._verdict(hour, value, count) if is_warm else WarmingUp(hour, value, count)

    def judged_hour(self, verdict: Scored, policy: Policy) -> JudgedHour:
        """The verdict that `learn` or `score` gave last, with what else had been said of its hour."""
        lower, upper, expected_calls = self._standing
        return judged_hour(verdict, band=(lower, upper), coverage=policy.coverage, expected_calls=expected_calls)

    def learn_all(self, observations: Sequence[Observation], policy: Policy) -> list[Verdict]:
        """`learn` of each, oldest first; in one pass of the compiled core where that can be, a third of the time."""
        values = np.array([one.value for one in observations])
        hours = np.array([one.hour for one in observations], np.int64)
        first = hours[:1] if self.next_hour is None else np.array([self.next_hour])
        gaps = np.diff(hours, prepend=first - 1) - 1 if len(hours) else hours
        turns_signed = is_unbounded(self.metric) and not self.is_signed and bool((values < 0.0).any())
        if self.contest is not None or turns_signed or not np.isfinite(values).all() or (gaps < 0).any():
            return [self.learn(one.hour, one.value, one.count, policy) for one in observations]
        counts = np.array([one.count for one in observations], np.float64)
        slots = np.array([slot_of(one.hour, policy.zone) for one in observations], np.int64)
        answers = np.zeros(len(values), ANSWER)
        fold_one(self.rows, self._setups, gaps, slots, cut_many(values), counts, self._outlooks, answers)
        if len(hours):
            self.rows["next_hour"][0] = hours[-1] + 1
        names = ("is_judged", "location", "threshold", "score", "is_exceeded", "is_credible")
        told = zip(*(answers[name].tolist() for name in names), strict=True)
        return [
            Scored(
                hour=one.hour,
                value=one.value,
                count=one.count,
                estimate=location,
                threshold=threshold,
                score=score,
                is_exceeded=bool(is_exceeded),
                is_credible=bool(is_credible),
            )
            if is_judged
            else WarmingUp(one.hour, one.value, one.count)
            for one, (is_judged, location, threshold, score, is_exceeded, is_credible) in zip(
                observations, told, strict=True
            )
        ]

    def score(self, hour: int, value: float, count: int, policy: Policy) -> Verdict:
        """The verdict on a value, were it this hour's; changes nothing."""
        if not self.is_warm:
            return WarmingUp(hour, value, count)
        rows = self.rows
        ahead = self._expect(hour, policy)
        if ahead > 0:  # what the alert remembers fades in the silent hours between
            rows = copied(rows)
            skip_hours(rows[0], self._setups[0], ahead)
        judge_many(rows, self._setups, _FIRST, np.array([cut(value)]), np.array([float(count)]), self._answers)
        return self._verdict(hour, value, count)

    def forecast(self, hour: int, policy: Policy) -> Forecast:
        """What is expected of an hour that is not yet learned; changes nothing, never says NaN.

        Raises UnreadableStateError where what was stored of the series is such that nothing follows from it.
        """
        ahead = self._expect(hour, policy)
        told = np.zeros(1, TOLD)
        tell_one(self.rows, self._setups, self._outlooks, self._answers, told)
        answer, said = self._answers[0], told[0]
        n, judged = int(said["n_learned"]), int(said["judged"])
        location, lower, upper = float(answer["location"]), float(answer["lower"]), float(answer["upper"])
        if any(map(math.isnan, (location, lower, upper, answer["threshold"]))):
            raise UnreadableStateError(f"{self.metric}: damaged model state: no number follows from it")
        fewest = int(said["min_count"])
        return Forecast(
            hour=hour,
            estimate=Estimate(location, lower, upper, float(said["expected_count"]), n),
            threshold=Threshold(float(answer["threshold"]), self.metric.direction, policy.coverage, fewest),
            status=self._status(ahead, policy),
            measured_exceedance=float(said["exceedance_rate"]) if judged else None,
            judged=judged,
            explanation=self._explanation(told),
        )

    def to_bytes(self) -> bytes:
        """The record, and behind it what its challengers know, as MessagePack; `from_bytes` goes on bit for bit."""
        record = self.rows.tobytes()
        return record if self.contest is None else record + msgspec.msgpack.encode(self.contest.to_state())

    @classmethod
    def from_bytes(cls, metric: Metric, data: bytes, policy: Policy, subject: str = "") -> Self:
        """Raises UnreadableStateError for another version, and for what is no such record."""
        if not data or data[0] != ROW_VERSION:
            found = data[0] if data else "none"
            raise UnreadableStateError(f"{metric}: model state of version {found}, this program reads {ROW_VERSION}")
        size = ROW.itemsize
        if len(data) < size:
            raise UnreadableStateError(f"{metric}: model state of {len(data)} bytes instead of {size}")
        rows = np.frombuffer(bytearray(data[:size]), ROW)
        if damaged(rows)[0]:
            raise UnreadableStateError(f"{metric}: damaged model state")
        is_signed = bool(rows["is_signed"][0])
        model = object.__new__(cls)
        model.subject = subject
        model.contest = _contest(metric, policy, subject, is_signed=is_signed, data=data[size:])
        model._prepare(metric, rows, setup_of(metric, policy, is_signed=is_signed))
        return model

    @classmethod
    def from_version_1(cls, metric: Metric, state: Mapping[str, Any], policy: Policy, subject: str = "") -> Self:
        """A series that goes on with what a state of schema version 1 knew; raises UnreadableStateError for no such."""
        model = cls(metric, policy, subject)
        carry_over(metric, state, model.rows)
        if model.is_signed:
            model.contest = _contest(metric, policy, subject, is_signed=True)
            model._prepare(metric, model.rows, setup_of(metric, policy, is_signed=True))
        return model

    def to_state(self) -> dict[str, Any]:
        """The record beside its version."""
        return {"version": ROW_VERSION, "row": self.to_bytes()}

    @classmethod
    def from_state(cls, metric: Metric, state: dict[str, Any], policy: Policy) -> Self:
        """The inverse of `to_state`; raises UnreadableStateError likewise."""
        if state.get("version") != ROW_VERSION:
            raise UnreadableStateError(
                f"{metric}: model state of version {state.get('version')}, this program reads {ROW_VERSION}"
            )
        return cls.from_bytes(metric, state["row"], policy)

    def readable(self) -> dict[str, Any]:
        """Every field of the record by name: numbers, and lists of them."""
        return {name: self.rows[name][0].tolist() for name in ROW.names or ()}

    def _require(self, hour: int, value: float) -> None:
        if not math.isfinite(value):
            raise InvalidObservationError(f"{self.metric} of hour {hour}: {value} is not finite")
        next_hour = self.next_hour
        if next_hour is not None and hour < next_hour:
            raise InvalidObservationError(
                f"{self.metric}: hour {hour} is not after the last one learned, {next_hour - 1}"
            )

    def _learn(self, hour: int, value: float, count: int, policy: Policy) -> None:
        next_hour = self.next_hour
        gap = 0 if next_hour is None else hour - next_hour
        slot = slot_of(hour, policy.zone)
        learn_many(
            self.rows,
            self._setups,
            _FIRST,
            np.array([gap]),
            np.array([slot]),
            np.array([cut(value)]),
            np.array([float(count)]),
            self._outlooks,
            self._answers,
        )
        self.rows["next_hour"][0] = hour + 1
        if self.contest is not None:
            self._learn_contest(self.contest, gap, value, slot)

    def _begin_signed(self, policy: Policy) -> None:
        """Start anew on the value's own scale; what was counted goes on."""
        before, standing = self.rows[0], self._standing
        rows = SeriesModel(self.metric, policy).rows
        self.contest = _contest(self.metric, policy, self.subject, is_signed=True)
        rows["is_signed"] = 1
        rows["n_before"] = self.n_learned
        for name in ("next_hour", "judged", "exceedance_rate", "expected_count"):
            rows[name] = before[name]
        self._prepare(self.metric, rows, setup_of(self.metric, policy, is_signed=True))
        self._standing = standing

    def _expect(self, hour: int, policy: Policy) -> int:
        """Fill in the answer for that hour; returns how many hours lie between it and the next one to learn."""
        next_hour = self.next_hour
        ahead = 0 if next_hour is None else hour - next_hour
        if ahead < 0:
            raise InvalidObservationError(f"{self.metric}: hour {hour} is already learned")
        slots = np.array([slot_of(hour, policy.zone)])
        expect_many(self.rows, self._setups, _FIRST, np.array([ahead]), slots, self._outlooks, self._answers)
        if self.contest is not None and self.n_learned:
            default = self._default()
            self._speak(self.contest.expected(default, int(slots[0]), ahead), default)
        return ahead

    def _default(self) -> Prediction:
        """What the default forecaster said, counts included."""
        answer = self._answers[0]
        return Prediction(
            float(answer["location"]), float(answer["lower"]), float(answer["upper"]), float(answer["threshold"])
        )

    def _speak(self, spoken: Opinion, default: Prediction) -> bool:
        """Let the answer be the speaker's; returns whether that is a challenger."""
        if spoken is default:
            return False
        answer = self._answers[0]
        answer["location"], answer["threshold"] = spoken.location, spoken.threshold
        answer["lower"] = min(getattr(spoken, "lower", default.lower), spoken.location)
        answer["upper"] = max(getattr(spoken, "upper", default.upper), spoken.location)
        return True

    def _learn_contest(self, contest: "Contest", gap: int, value: float, slot: int) -> None:
        """The challengers judge and learn the hour; the exceedance that is measured is that of who spoke."""
        if gap > 0:
            contest.skip(gap)
        answer = self._answers[0]
        default, is_judged = self._default(), bool(answer["is_judged"])
        was_exceeded = bool(answer["is_exceeded"])
        if self._speak(contest.expected(default, slot), default) and is_judged:
            share = max(EXCEEDANCE_RATE, 1.0 / self.judged)
            self.rows["exceedance_rate"][0] += share * (self._is_exceeded(value) - was_exceeded)
        contest.learn_one(self.metric.clip(value), slot, default if is_judged else None)

    def _is_exceeded(self, value: float) -> bool:
        value, threshold = cut(value), float(self._answers["threshold"][0])
        return value > threshold if self.metric.direction == "above" else value < threshold

    def _explanation(self, told: Records) -> Parts:
        (parts,) = explain_many([self.metric], told, self._answers)
        return parts if self.contest is None or not self.n_learned else parts | for_reading(self.contest.explain())

    def _verdict(self, hour: int, value: float, count: int) -> Scored:
        answer = self._answers[0]
        estimate, threshold = float(answer["location"]), float(answer["threshold"])
        self._standing = (float(answer["lower"]), float(answer["upper"]), float(answer["expected_count"]))
        return Scored(
            hour=hour,
            value=value,
            count=count,
            estimate=estimate,
            threshold=threshold,
            score=float(answer["score"]),
            is_exceeded=self._is_exceeded(value),
            is_credible=bool(answer["is_credible"]),
        )

    def _status(self, ahead: int, policy: Policy) -> Status:
        if self.n_learned == 0:
            return "prior"
        if ahead > policy.stale_after_hours:
            return "stale"
        return "ready" if self.is_warm else "learning"


def setup_of(metric: Metric, policy: Policy, *, is_signed: bool) -> Records:
    """How values of that metric are to be understood, as the compiled core takes it; shared, never written to."""
    return _setup_of(metric, policy.coverage, policy.min_calls, is_signed)


@lru_cache(maxsize=4_096)
def _setup_of(metric: Metric, coverage: float, min_calls: int, is_signed: bool) -> Records:  # noqa: FBT001 (a cache key)
    setups = np.zeros(1, SETUP)
    setup = setups[0]
    write_setup(
        setup,
        lower=0.0 if is_unbounded(metric) and not is_signed else metric.lower,
        upper=metric.upper,
        direction=metric.direction,
        coverage=coverage,
        interval=0.95,
    )
    setup["kind"] = _KINDS[metric.kind]
    setup["prior"], setup["prior_threshold"] = metric.prior, metric.prior_threshold
    setup["min_calls"] = 1 if metric.kind == "gauge" else min_calls
    return setups


def _contest(metric: Metric, policy: Policy, subject: str, *, is_signed: bool, data: bytes = b"") -> "Contest | None":
    """The challengers that are selected for a series, as `data` left them; None where nobody is."""
    challengers = policy.selection.challengers_of(subject, metric.slug)
    forecaster = policy.selection.forecaster_of(subject, metric.slug)
    if not challengers and forecaster == DEFAULT:
        return None
    # River takes two seconds to load, and few have chosen anybody of it.
    from detection.challengers.contest import Contest  # noqa: PLC0415

    params: dict[str, Any] = {
        "forecaster": forecaster,
        "lower": 0.0 if is_unbounded(metric) and not is_signed else metric.lower,
        "upper": metric.upper,
        "direction": metric.direction,
        "coverage": policy.coverage,
    }
    if not data:
        return Contest(challengers, **params)
    try:
        state = msgspec.msgpack.decode(data)
    except msgspec.DecodeError as error:
        raise UnreadableStateError(f"{metric}: damaged state of its challengers: {error}") from error
    return Contest.resumed(state, challengers, **params)


def is_unbounded(metric: Metric) -> bool:
    """Whether its values may turn out to be negative: a gauge that nobody has bounded."""
    return metric.kind == "gauge" and metric.lower == -math.inf
