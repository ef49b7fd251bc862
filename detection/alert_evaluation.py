"""How good alerts were: which labelled incidents their scores found, and at what price in false alarms.

Labelled hours at most four hours apart are one incident. Hours whose score is above a cut are flagged; a flagged hour
inside an incident, or up to two hours away from it, finds it; a run of flagged hours (joined alike)
that comes near no incident is one false alarm. One cut serves all series of a group, as one setting would.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from detection.errors import InputError
from detection.evaluation import Prediction, Recording
from detection.hours import WEEK_HOURS

BOUNDARY = 1.0
"""The score at which an alert is raised."""
CUTS = tuple(0.05 * 400 ** (step / 119) for step in range(120))
"""The cuts that are tried, from 0.05 to 20."""

NEAR_HOURS = 2
"""So far from an incident a flagged hour still finds it."""
_SAME_RUN_HOURS = 4
# An alert that is always on would merge all its false alarms into one: such a cut does not count.
_MOST_FLAGGED = 0.02
_MOST_FLAGGED_OF_A_SERIES = 0.10

_Hours = npt.NDArray[np.int64]
_Run = tuple[int, int]


@dataclass(frozen=True, slots=True)
class ScoredSeries:
    """The scored hours of one series, ascending, what score each had, and the incidents as first and last hour."""

    hours: _Hours
    scores: npt.NDArray[np.float64]
    incidents: tuple[_Run, ...]

    @classmethod
    def of(cls, recording: Recording, predictions: Mapping[int, Prediction]) -> Self:
        """Incidents that were over before the first scored hour are left out; InputError where there is none."""
        hours = recording.scored_hours()
        if not hours:
            raise InputError(f"{recording.name}: no hour to score")
        scores = [predictions[hour].score_of(recording.values[hour]) for hour in hours]
        marked = sorted(hour for hour, is_marked in recording.labels.items() if is_marked)
        incidents = tuple((first, last) for first, last in runs(marked) if last >= hours[0])
        return cls(np.array(hours), np.array(scores), incidents)

    def is_quiet(self) -> npt.NDArray[np.bool_]:
        """By scored hour, whether it is near no incident."""
        quiet = np.ones(len(self.hours), dtype=bool)
        for first, last in self.incidents:
            quiet &= (self.hours < first - NEAR_HOURS) | (self.hours > last + NEAR_HOURS)
        return quiet


@dataclass(frozen=True, slots=True, kw_only=True)
class AtCut:
    """What alerts at one cut find and cost; shares of 1.

    `flagged_away` is the share of flagged hours among those near no incident, over the group and in its worst series.
    """

    cut: float
    recall: float
    precision: float
    false_alarms_per_week: float
    flagged_away: float
    flagged_away_worst: float

    @property
    def f1(self) -> float:
        """The harmonic mean of recall and precision."""
        return 2.0 * self.recall * self.precision / max(1e-9, self.recall + self.precision)

    @property
    def counts(self) -> bool:
        """Whether it stays off for long enough that its false alarms can be counted."""
        return self.flagged_away <= _MOST_FLAGGED and self.flagged_away_worst <= _MOST_FLAGGED_OF_A_SERIES


@dataclass(frozen=True, slots=True)
class AlertAccuracy:
    """A group of series at every cut, and at the boundary that alerts are raised at."""

    series: int
    incidents: int
    sweep: tuple[AtCut, ...]
    at_boundary: AtCut

    @property
    def best_f1(self) -> float:
        return max((one.f1 for one in self.sweep if one.counts), default=0.0)

    def recall(self, *, false_alarms_per_week: float) -> float:
        """The most that any cut finds at no more false alarms per series and week than these."""
        limit = false_alarms_per_week
        return max((one.recall for one in self.sweep if one.counts and one.false_alarms_per_week <= limit), default=0.0)


def judge(group: Sequence[ScoredSeries]) -> AlertAccuracy:
    """InputError for an empty group."""
    return AlertAccuracy(
        series=len(group),
        incidents=sum(len(one.incidents) for one in group),
        sweep=tuple(at_cut(group, cut) for cut in CUTS),
        at_boundary=at_cut(group, BOUNDARY),
    )


def at_cut(group: Sequence[ScoredSeries], cut: float) -> AtCut:
    """What alerts at this cut find and cost; a week is 168 scored hours.

    Without incidents in the group every run of flagged hours is a false alarm, and nothing can be found.
    """
    if not group:
        raise InputError("no series to judge alerts on")
    found = false_alarms = away = flagged_away = 0
    worst = 0.0
    for series in group:
        flagged = series.scores > cut
        hours = series.hours[flagged]
        quiet = series.is_quiet()
        found += sum(_is_found(incident, hours) for incident in series.incidents)
        false_alarms += sum(not _is_near(run, series.incidents) for run in runs(hours.tolist()))
        n_quiet, n_loud = int(quiet.sum()), int((flagged & quiet).sum())
        away += n_quiet
        flagged_away += n_loud
        worst = max(worst, n_loud / max(1, n_quiet))
    return AtCut(
        cut=cut,
        recall=found / max(1, sum(len(one.incidents) for one in group)),
        precision=found / max(1, found + false_alarms),
        false_alarms_per_week=false_alarms * WEEK_HOURS / sum(len(one.hours) for one in group),
        flagged_away=flagged_away / max(1, away),
        flagged_away_worst=worst,
    )


def runs(hours: Iterable[int]) -> list[_Run]:
    """Ascending hours as runs, first and last hour of each; neighbours in a run are at most four hours apart."""
    found: list[_Run] = []
    for hour in hours:
        if found and hour - found[-1][1] <= _SAME_RUN_HOURS:
            found[-1] = (found[-1][0], hour)
        else:
            found.append((hour, hour))
    return found


def _is_found(incident: _Run, flagged: _Hours) -> bool:
    first, last = incident
    return bool(((flagged >= first - NEAR_HOURS) & (flagged <= last + NEAR_HOURS)).any())


def _is_near(run: _Run, incidents: Iterable[_Run]) -> bool:
    return any(run[0] <= last + NEAR_HOURS and run[1] >= first - NEAR_HOURS for first, last in incidents)
