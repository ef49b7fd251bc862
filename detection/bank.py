"""Many series in one pass: the records of single models side by side, learned by the same compiled code."""

from collections.abc import Sequence
from typing import Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from detection.catalogue import Metric
from detection.damage import damaged
from detection.errors import InputError, InvalidObservationError, UnreadableStateError
from detection.hours import slot_of
from detection.kernel.bank import Records, begin_many, expect_many, judge_many, learn_many, skip_many
from detection.kernel.row import ANSWER, OUTLOOK, ROW, ROW_VERSION, SETUP, copied
from detection.policy import Policy
from detection.prediction import cut_many
from detection.series_model import SeriesModel, is_unbounded, setup_of

Numbers = NDArray[np.float64]


class Bank:
    """N series that are learned hour by hour, in turns; River's `_many` convention, with an array where River has rows.

    It is a `SeriesModel` per series in all but the calls: what is learned and what is answered is the same to the last
    bit, whatever N, and whatever the order of the series. What it does not do is race challengers: their series are
    learned one by one.

    `rows` (N records of `ROW`) is all that is learned; row i belongs to `metrics[i]`. Answers are N records of
    `ANSWER`, made anew at every call. All series live in the policy's time zone.

    Examples
    --------
    >>> from detection.catalogue import AVERAGE_RESPONSE_TIME, ERROR_RATE
    >>> bank = Bank([AVERAGE_RESPONSE_TIME, ERROR_RATE], Policy())
    >>> for hour in range(480_000, 480_048):
    ...     _ = bank.learn_many(hour, np.array([120.0, 1.0]), np.array([600.0, 600.0]))
    >>> bank.forecast_many(480_048)["location"].round().tolist()
    [120.0, 1.0]
    """

    __slots__ = ("_kinds", "_outlooks", "_policy", "_setup_numbers", "_setups", "metrics", "rows")

    def __init__(self, metrics: Sequence[Metric], policy: Policy) -> None:
        self._prepare(metrics, np.zeros(len(metrics), ROW), policy)
        seeds = np.array([crc32(metric.slug.encode()) & 255 for metric in metrics], np.int64)
        begin_many(self.rows, self._setups, self._kinds, seeds)

    def _prepare(self, metrics: Sequence[Metric], rows: Records, policy: Policy) -> None:
        self.metrics = list(metrics)
        self.rows = rows
        self._policy = policy
        self._outlooks = np.zeros(1, OUTLOOK)
        self._setups = np.zeros(0, SETUP)
        self._setup_numbers: dict[tuple[Metric, bool], int] = {}
        # By identity: to hash a metric for every series takes longer than to learn its hour.
        places = {id(metric): place for place, metric in enumerate(self.metrics)}
        each = np.fromiter((places[id(metric)] for metric in self.metrics), np.int64, len(rows))
        pairs, self._kinds = np.unique(2 * each + rows["is_signed"], return_inverse=True)
        numbers = [self._setup_number(self.metrics[pair // 2], is_signed=bool(pair % 2)) for pair in pairs.tolist()]
        self._kinds = np.array(numbers, np.int64)[self._kinds]

    @classmethod
    def from_bytes(cls, metrics: Sequence[Metric], blobs: Sequence[bytes], policy: Policy) -> Self:
        """From what `SeriesModel.to_bytes` or `to_bytes` gave; the records are joined in one copy.

        Raises UnreadableStateError for another version, and for what is no single record.
        """
        for metric, blob in zip(metrics, blobs, strict=True):
            if len(blob) != ROW.itemsize or blob[0] != ROW_VERSION:
                # The single model's words; a state that only it can read has challengers behind the record.
                SeriesModel.from_bytes(metric, blob, policy)
                raise UnreadableStateError(
                    f"{metric}: {len(blob)} bytes are more than a record; a bank has no challengers"
                )
        rows = np.frombuffer(bytearray().join(blobs), ROW)
        for at in np.flatnonzero(damaged(rows)):
            SeriesModel.from_bytes(metrics[int(at)], blobs[int(at)], policy)  # refuses it by name
        bank = object.__new__(cls)
        bank._prepare(metrics, rows, policy)
        return bank

    @classmethod
    def from_models(cls, models: Sequence[SeriesModel], policy: Policy) -> Self:
        """Independent twins of the models; InputError for one that has challengers."""
        for model in models:
            if model.contest is not None:
                raise InputError(f"{model.subject} {model.metric}: a series with challengers is learned by itself")
        return cls.from_bytes([model.metric for model in models], [model.to_bytes() for model in models], policy)

    def to_bytes(self) -> list[bytes]:
        """The record of each series, as `SeriesModel.to_bytes` gives it."""
        data = self.rows.view(np.uint8).data
        size = ROW.itemsize
        return [bytes(data[at : at + size]) for at in range(0, len(data), size)]

    def to_models(self) -> list[SeriesModel]:
        """Independent single models that go on bit for bit."""
        pairs = zip(self.metrics, self.to_bytes(), strict=True)
        return [SeriesModel.from_bytes(metric, data, self._policy) for metric, data in pairs]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_learned(self) -> NDArray[np.int64]:
        """Observations seen so far, by series."""
        learned: NDArray[np.int64] = np.add(self.rows["n_before"], self.rows["n_observed"], dtype=np.int64)
        return learned

    def learn_many(self, hour: int, values: Numbers, counts: Numbers) -> Records:
        """Judge the values of a closed hour by what was expected of them, then learn them; returns the verdicts.

        `values` and `counts` have N numbers; NaN is a silent series, which stays as it is, its verdict all zeros: its
        hour passes when its next value comes. As in a single model, `is_judged` is 0 while a series warms up.

        Raises InvalidObservationError for an infinite value and for an hour at or before the last one that a series
        with a value has learned; then nothing is learned.
        """
        heard = ~np.isnan(values)
        gaps = self._ahead(hour, heard, "is not after the last one learned")
        self._require(np.isfinite(values) | ~heard, hour, "is not finite")
        answers = np.zeros(len(self), ANSWER)
        turning = np.flatnonzero((values < 0.0) & self._is_unsigned())
        for at in turning.tolist():
            self._turn_signed(at, hour, float(values[at]), int(counts[at]), answers[at : at + 1])
        taught = cut_many(values)
        taught[turning] = np.nan
        slots = np.full(len(self), slot_of(hour, self._policy.zone))
        counts = np.asarray(counts, np.float64)
        learn_many(self.rows, self._setups, self._kinds, gaps, slots, taught, counts, self._outlooks, answers)
        self.rows["next_hour"][heard] = hour + 1
        return answers

    def score_many(self, hour: int, values: Numbers, counts: Numbers) -> Records:
        """The verdicts on values, were they this hour's, with what is expected beside them; changes nothing."""
        answers = self.forecast_many(hour)
        counts = np.asarray(counts, np.float64)
        ahead = self._ahead(hour, np.ones(len(self), bool), "is already learned")
        rows = self.rows
        if ahead.any():
            # What an alert remembers fades in silence, so the hours between have to pass, on a copy.
            rows = copied(rows)
            skip_many(rows, self._setups, self._kinds, ahead)
        judge_many(rows, self._setups, self._kinds, cut_many(values), counts, answers)
        return answers

    def forecast_many(self, hour: int) -> Records:
        """What is expected of an hour that is not yet learned, by series; changes nothing."""
        ahead = self._ahead(hour, np.ones(len(self), bool), "is already learned")
        slots = np.full(len(self), slot_of(hour, self._policy.zone))
        answers = np.zeros(len(self), ANSWER)
        expect_many(self.rows, self._setups, self._kinds, ahead, slots, self._outlooks, answers)
        return answers

    def _ahead(self, hour: int, asked: NDArray[np.bool_], refusal: str) -> NDArray[np.int64]:
        """Hours between this one and the next to learn, by series; those that are not asked are not checked."""
        ahead = np.where(self.n_learned > 0, hour - self.rows["next_hour"], 0)
        self._require((ahead >= 0) | ~asked, hour, refusal)
        return ahead

    def _require(self, fine: NDArray[np.bool_], hour: int, refusal: str) -> None:
        if not fine.all():
            at = int(fine.argmin())
            raise InvalidObservationError(f"series {at}, {self.metrics[at]}: hour {hour} {refusal}")

    def _is_unsigned(self) -> NDArray[np.bool_]:
        """Gauges that were 0 or more so far."""
        unbounded = np.zeros(len(self._setups), bool)
        for (metric, is_signed), number in self._setup_numbers.items():
            unbounded[number] = is_unbounded(metric) and not is_signed
        return unbounded[self._kinds]

    def _turn_signed(self, at: int, hour: int, value: float, count: int, answers: Records) -> None:
        """A gauge's first negative value: it begins anew on its own scale, which a single model does."""
        metric = self.metrics[at]
        model = SeriesModel.from_bytes(metric, self.rows[at : at + 1].tobytes(), self._policy)
        if model.is_warm:
            model.score(hour, value, count, self._policy)
            answers[:] = model.answers
        model.learn(hour, value, count, self._policy)
        self.rows[at : at + 1] = model.rows
        self._kinds[at] = self._setup_number(metric, is_signed=True)

    def _setup_number(self, metric: Metric, *, is_signed: bool) -> int:
        number = self._setup_numbers.get((metric, is_signed))
        if number is None:
            number = self._setup_numbers[metric, is_signed] = len(self._setup_numbers)
            setup = setup_of(metric, self._policy, is_signed=is_signed)
            self._setups = np.concatenate([self._setups, setup]) if number else setup
        return number
