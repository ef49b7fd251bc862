"""One back-tested series as columns: what a picture of it is drawn from."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from detection.backtest import Predicted, Tally
from detection.catalogue import Metric
from detection.estimate import Scored, Verdict

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Hours = NDArray[np.int64]


def score_of(verdict: Verdict) -> float:
    """The verdict's score, always a finite number.

    An hour that was not judged has 0.0, the score of an hour as expected: a model that is warming up raises no alert,
    so no value of such an hour may look like one.
    """
    return verdict.score if isinstance(verdict, Scored) else 0.0


@dataclass(frozen=True, slots=True)
class Trace:
    """An element for each observed hour (since the epoch, UTC), ascending; values in the unit of the metric.

    `claimed` is the share of normal hours that may lie beyond the threshold. Hours that were not judged are never
    exceeded: there was no verdict.
    """

    series: str
    metric: Metric
    claimed: float
    tally: Tally
    hours: Hours
    values: Floats
    estimates: Floats
    lowers: Floats
    uppers: Floats
    thresholds: Floats
    scores: Floats
    is_judged: Flags
    is_exceeded: Flags
    is_labelled: Flags

    @classmethod
    def of(
        cls, series: str, metric: Metric, predicted: Sequence[Predicted], *, tally: Tally, labelled: Collection[int]
    ) -> Self:
        """Of a series with at least one hour; `labelled` are the hours of known anomalies."""

        def floats(numbers: Sequence[float]) -> Floats:
            return np.array(numbers, dtype=np.float64)

        def flags(truths: Sequence[bool]) -> Flags:
            return np.array(truths, dtype=np.bool_)

        return cls(
            series=series,
            metric=metric,
            claimed=1.0 - predicted[-1].forecast.threshold.coverage,
            tally=tally,
            hours=np.array([one.observation.hour for one in predicted], dtype=np.int64),
            values=floats([one.observation.value for one in predicted]),
            estimates=floats([one.forecast.estimate.location for one in predicted]),
            lowers=floats([one.forecast.estimate.lower for one in predicted]),
            uppers=floats([one.forecast.estimate.upper for one in predicted]),
            thresholds=floats([one.forecast.threshold.value for one in predicted]),
            scores=floats([score_of(one.verdict) for one in predicted]),
            is_judged=flags([isinstance(one.verdict, Scored) for one in predicted]),
            is_exceeded=flags([isinstance(one.verdict, Scored) and one.verdict.is_exceeded for one in predicted]),
            is_labelled=flags([one.observation.hour in labelled for one in predicted]),
        )
