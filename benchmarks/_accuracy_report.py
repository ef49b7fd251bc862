"""Tidemark's back-test beside the references: what the accuracy benchmark prints, and what its page is made of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks._reference_rows import ALL, ReferenceRow, Scope
from benchmarks.references.method import Method, run
from benchmarks.references.quantile_rule import QuantileRule
from benchmarks.references.sigma_rule import SigmaRule
from detection.alert_evaluation import AlertAccuracy, ScoredSeries, at_cut, judge
from detection.errors import InputError
from detection.evaluation import (
    GroupAccuracy,
    Paired,
    Prediction,
    Recording,
    SeriesAccuracy,
    measure,
    paired,
    summarise,
)

Predictions = Mapping[str, Mapping[int, Prediction]]

OURS = "Tidemark"
REFERENCE = "reference mixture"
ALERT_REFERENCE = "mean 168 h + 3 sigma"

_ALERT_REFERENCES: tuple[Callable[[], Method], ...] = (lambda: SigmaRule(168), lambda: SigmaRule(24), QuantileRule)


@dataclass(frozen=True, slots=True)
class Ratios:
    """Tidemark divided by a reference, over series: the 10 %, 50 % and 90 % quantiles, and where it is better."""

    p10: float
    median: float
    p90: float
    better_share: float
    worst_series: str


@dataclass(frozen=True, slots=True)
class Line:
    """One reference, and Tidemark divided by it, series by series."""

    method: str
    theirs: GroupAccuracy
    paired: Paired
    relmae: Ratios
    pinball99: Ratios


@dataclass(frozen=True, slots=True)
class Comparison:
    """Tidemark and every reference that was measured on all series of the group, the best one first."""

    group: str
    scope: Scope
    ours: GroupAccuracy
    lines: tuple[Line, ...]

    def line(self, method: str) -> Line:
        """InputError where the method was not measured on the group."""
        for one in self.lines:
            if one.method == method:
                return one
        raise InputError(f"{method} was not measured on {self.group}")


@dataclass(frozen=True, slots=True)
class Alarms:
    """Alarm runs per week at the boundary on series that nobody labelled, over all and on the worst of them."""

    series: int
    per_week: float
    worst_per_week: float
    worst_series: str


@dataclass(frozen=True, slots=True)
class AlertLine:
    """One method's alerts by family of labelled series, and on those without labels."""

    method: str
    families: Mapping[str, AlertAccuracy]
    unlabelled: Alarms


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was compared; `alerts` begins with Tidemark's."""

    overall: Comparison
    families: tuple[Comparison, ...]
    sources: tuple[Comparison, ...]
    refitted: tuple[Comparison, ...]
    alerts: tuple[AlertLine, ...]

    def alert_line(self, method: str) -> AlertLine:
        return next(one for one in self.alerts if one.method == method)


def source_of(name: str) -> str:
    """Where a series of the examples comes from: what its name begins with."""
    return name.partition("-")[0]


def report(recordings: Mapping[str, Recording], predictions: Predictions, rows: Sequence[ReferenceRow]) -> Report:
    """Judge what was said of each recording that is long enough, beside the rows that were measured on it."""
    known = {name: one for name, one in recordings.items() if one.scored_hours()}
    names = list(known)
    families = sorted({one.family for one in known.values()})
    sources = sorted({source_of(name) for name in names})
    everywhere = _Field(known, predictions, [row for row in rows if row.scope == ALL], ALL)
    refitted = []
    for scope in sorted({row.scope for row in rows if row.scope != ALL}):
        field = _Field(known, predictions, [row for row in rows if row.scope == scope], scope)
        refitted += [field.compare(f"{len(group)} series", group) for group in field.groups()]
    return Report(
        overall=everywhere.compare("all", names),
        families=tuple(everywhere.compare(one, [n for n in names if known[n].family == one]) for one in families),
        sources=tuple(everywhere.compare(one, [n for n in names if source_of(n) == one]) for one in sources),
        refitted=tuple(refitted),
        alerts=(_alerts(OURS, known, predictions), *(_measured_alerts(known, make) for make in _ALERT_REFERENCES)),
    )


class _Field:
    """Everything that was measured on the same hours."""

    def __init__(
        self,
        recordings: Mapping[str, Recording],
        predictions: Predictions,
        rows: Sequence[ReferenceRow],
        scope: Scope,
    ) -> None:
        self._scope = scope
        self._theirs: dict[str, dict[str, SeriesAccuracy]] = {}
        for row in rows:
            self._theirs.setdefault(row.method, {})[row.series] = row.accuracy
        measured = {row.series for row in rows}
        self._ours = {
            name: measure(one, predictions.get(name, {}), frozenset(scope.hours(one)))
            for name, one in recordings.items()
            if name in measured or scope == ALL
        }

    def groups(self) -> list[list[str]]:
        """The different sets of series that methods were measured on, the largest first."""
        sets = {tuple(sorted(of)) for of in self._theirs.values()}
        return [list(group) for group in sorted(sets, key=len, reverse=True)]

    def compare(self, group: str, names: Sequence[str]) -> Comparison:
        ours = [self._ours[name] for name in names]
        lines = [
            self._line(method, names, ours) for method, of in self._theirs.items() if all(name in of for name in names)
        ]
        return Comparison(
            group, self._scope, summarise(ours), tuple(sorted(lines, key=lambda line: line.theirs.pinball99))
        )

    def _line(self, method: str, names: Sequence[str], ours: Sequence[SeriesAccuracy]) -> Line:
        theirs = [self._theirs[method][name] for name in names]
        return Line(
            method,
            summarise(theirs),
            paired(ours, theirs),
            _ratios(names, [one.relmae for one in ours], [one.relmae for one in theirs]),
            _ratios(names, [one.pinball99 for one in ours], [one.pinball99 for one in theirs]),
        )


def _ratios(names: Sequence[str], ours: Sequence[float], theirs: Sequence[float]) -> Ratios:
    ratios = {name: mine / other for name, mine, other in zip(names, ours, theirs, strict=True) if other > 0.0}
    numbers = np.array(list(ratios.values()))
    p10, median, p90 = np.quantile(numbers, (0.1, 0.5, 0.9)).tolist()
    return Ratios(p10, median, p90, float((numbers < 1.0).mean()), max(ratios, key=lambda name: ratios[name]))


def _measured_alerts(recordings: Mapping[str, Recording], make: Callable[[], Method]) -> AlertLine:
    said: dict[str, dict[int, Prediction]] = {}
    method = ""
    for name, recording in recordings.items():
        ((method, said[name]),) = run(recording, make(), frozenset(recording.scored_hours())).items()
    return _alerts(method, recordings, said)


def _alerts(method: str, recordings: Mapping[str, Recording], predictions: Predictions) -> AlertLine:
    scored = {name: ScoredSeries.of(one, predictions[name]) for name, one in recordings.items()}
    families = sorted({one.family for one in recordings.values() if one.labels})
    groups = {
        family: [scored[name] for name, one in recordings.items() if one.family == family and one.labels]
        for family in families
    }
    silent = {name: scored[name] for name, one in recordings.items() if not one.labels}
    each = {name: at_cut([one], 1.0).false_alarms_per_week for name, one in silent.items()}
    worst = max(each, key=lambda name: each[name])
    return AlertLine(
        method,
        {family: judge(group) for family, group in groups.items()},
        Alarms(len(silent), at_cut(list(silent.values()), 1.0).false_alarms_per_week, each[worst], worst),
    )
