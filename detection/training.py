"""Training is the live path's learning over a data set: which rows are new, and the fold that they lead to.

What a model knows is the history: the rows that were trained with and the windows that were learned live, in the order
of their hours. `train` brings the model to the fold over the history and the new rows:

    every new row is after the model's last hour     learn forward from where the model is
    otherwise                                        fold the whole history again, in order

Both give the same model bit for bit, so half a data set and then the other half, in either order, equals all at once.

The new rows go to the history first and the model is stored after. A crash between the two leaves rows in the history
that the model has not learned; the next training of the series sees more rows up to the model's last hour than the
model has learned, or rows after it, and folds them in: sending the same request again repairs the state.

Excluded hours (`detection.exclusions`) are part of the history and not of any fold. What is excluded, or no longer is,
is the whole history folded again: `refold`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from detection.backtest import Tally
from detection.catalogue import Metric
from detection.errors import InvalidRowError
from detection.estimate import Verdict
from detection.events import ERROR, TIMEOUT, CallEvent, check_call
from detection.exclusions import NOTHING_EXCLUDED, Exclusions
from detection.hours import HOUR_MS
from detection.policy import Policy
from detection.rows import Observation, Row
from detection.series_model import SeriesModel
from detection.subject_state import SubjectState, first_open_hour
from detection.windows import CallWindow, latency_bin

Mode = Literal["merge", "replace"]


@dataclass(frozen=True, slots=True)
class Sifted:
    """A data set, row by row: what is new, what is known already, and what is refused with its reason."""

    accepted: list[Row]
    duplicates: list[Row]
    rejected: list[InvalidRowError]


@dataclass(frozen=True, slots=True)
class Trained:
    """What training did to a state; `is_changed` says whether there is anything to store in it."""

    tally: Tally
    is_changed: bool


def sift(
    rows: Iterable[Row],
    *,
    known: Mapping[int, Observation],
    model: SeriesModel | None,
    open_from: int,
    closed_before: int,
    exclusions: Exclusions = NOTHING_EXCLUDED,
) -> Sifted:
    """Sort out what cannot be learned, or need not.

    When the series is to start over, `known` is empty and `model` None. Windows from `open_from` on still take live
    events (see `first_open`), hours from `closed_before` on are not over. A row that does not give its count matches
    a known row by its value alone. A row of an excluded hour is accepted: the history keeps it, no model learns it.
    """
    forgotten_before = _forgotten_before(model, known, exclusions)
    accepted: dict[int, Row] = {}
    duplicates: list[Row] = []
    rejected: list[InvalidRowError] = []
    for row in rows:
        twin = accepted.get(row.hour)
        before = known.get(row.hour)
        if row.hour >= closed_before:
            rejected.append(InvalidRowError(row.row, "timestamp", "its hour is not over yet"))
        elif row.hour >= open_from:
            rejected.append(InvalidRowError(row.row, "timestamp", "its window is still open for live events"))
        elif twin is not None:
            if (twin.value, twin.count) == (row.value, row.count):
                duplicates.append(row)
            else:
                rejected.append(InvalidRowError(row.row, "timestamp", f"row {twin.row} gives this hour other values"))
        elif before is None and row.hour < forgotten_before:
            rejected.append(
                InvalidRowError(
                    row.row,
                    "timestamp",
                    "the model has learned later hours, and the history no longer holds all it has learned, so it "
                    "cannot be folded again; mode=replace starts the series over",
                )
            )
        elif before is None:
            accepted[row.hour] = row
        elif row.value == before.value and row.count in (None, before.count):
            duplicates.append(row)
        else:
            rejected.append(
                InvalidRowError(
                    row.row,
                    "value" if row.value != before.value else "count",
                    f"this hour is known with {before.value!r} of {before.count}; mode=replace starts the series over",
                )
            )
    return Sifted(list(accepted.values()), duplicates, rejected)


def first_open(state: SubjectState, *, closed_before: int, policy: Policy) -> int:
    """The first hour that is not yet the models' to learn: live events may still change it, or it is not over."""
    if state.watermark_ms < 0:
        return closed_before
    # Windows stay open that a shorter grace period, set meanwhile, would have let be learned already: a model that was
    # trained beyond them could not learn them any more.
    return min(closed_before, first_open_hour(state, state.watermark_ms, policy), *state.windows)


def train(
    state: SubjectState,
    metric: Metric,
    *,
    known: Mapping[int, Observation],
    added: Sequence[Row],
    anew: bool,
    policy: Policy,
) -> Trained:
    """Bring the state's model of the metric to the fold over `known` and `added`; what is published is not yet renewed.

    `anew` folds everything again even when learning forward would do. The state is unchanged when the fold leads to
    the model that is there.
    """
    stored = state.models.get(metric.slug)
    everything = {**known, **{row.hour: row.observation() for row in added}}
    ordered = learnable(everything, metric, state.exclusions)
    if stored is None or anew or _n_learnable(stored, everything, state.exclusions) > stored.n_learned:
        model = SeriesModel(metric, policy, str(state.subject))
    else:
        model = stored.copy()
        ordered = [one for one in ordered if model.next_hour is None or one.hour >= model.next_hour]
    tally, last = fold(model, ordered, policy)
    is_changed = bool(everything) and _record_of(model) != _record_of(stored)
    if is_changed:
        _learned(state, metric, model, last)
    return Trained(tally, is_changed=is_changed)


def refold(state: SubjectState, metric: Metric, *, known: Mapping[int, Observation], policy: Policy) -> Trained:
    """Bring the state's model to what it would be had it never seen an hour that is excluded now, to the last bit.

    `known` is the whole history of the series, by hour. The last verdict and the counters of what was judged are those
    of the fold as well, so what is published is outdated in any case.
    """
    model = SeriesModel(metric, policy, str(state.subject))
    tally, last = fold(model, learnable(known, metric, state.exclusions), policy)
    is_changed = _record_of(model) != _record_of(state.models.get(metric.slug))
    _learned(state, metric, model, last)
    return Trained(tally, is_changed=is_changed)


def learnable(known: Mapping[int, Observation], metric: Metric, exclusions: Exclusions) -> list[Observation]:
    """What a model is a fold over: the known hours that are not excluded, oldest first."""
    return [known[hour] for hour in sorted(known) if not exclusions.holds(metric.slug, hour)]


def n_missing(state: SubjectState, metric: Metric, known: Mapping[int, Observation]) -> int:
    """How many of the hours that the state's model has learned are not among the known ones; 0 where all are."""
    stored = state.models.get(metric.slug)
    return 0 if stored is None else max(stored.n_learned - _n_learnable(stored, known, state.exclusions), 0)


def fold(model: SeriesModel, observations: Iterable[Observation], policy: Policy) -> tuple[Tally, Verdict | None]:
    """Let the model learn the observations, oldest first; how well it had forecast them, and its last verdict."""
    tally = Tally.of(model.metric, policy)
    verdict: Verdict | None = None
    for verdict in model.learn_all(list(observations), policy):
        tally.add(verdict)
    return tally, verdict


def rows_of_calls(calls: Iterable[tuple[int, CallEvent]], metric: Metric) -> list[Row]:
    """The metric's hourly values of raw calls, counted exactly as live calls are; a row is numbered as its first call.

    Raises InvalidEventError for a call that `check_call` refuses: the caller has checked them.
    """
    windows: dict[int, CallWindow] = {}
    first: dict[int, int] = {}
    for number, call in calls:
        _, ms, microseconds, outcome = check_call(call)
        hour = ms // HOUR_MS
        first.setdefault(hour, number)
        windows.setdefault(hour, CallWindow()).add(_window_of_one(microseconds, outcome))
    return [
        Row(first[hour], hour, value.value, value.count)
        for hour, window in sorted(windows.items())
        for value in window.values()
        if value.metric == metric
    ]


def _window_of_one(microseconds: int, outcome: int) -> CallWindow:
    if outcome == TIMEOUT:
        return CallWindow(calls=1, timeouts=1)
    return CallWindow(
        calls=1,
        errors=int(outcome == ERROR),
        latency_us=microseconds,
        latency_us2=microseconds * microseconds,
        bins={latency_bin(microseconds): 1},
    )


def _learned(state: SubjectState, metric: Metric, model: SeriesModel, last: Verdict | None) -> None:
    """The state's model is this one, which has judged that last."""
    slug = metric.slug
    state.models.pop(slug, None)
    state.verdicts.pop(slug, None)
    if model.n_learned:
        state.models[slug] = model
    if last is not None:
        state.verdicts[slug] = last
    state.changed.add(slug)
    state.relearned.add(slug)
    state.is_outdated = True


def _record_of(model: SeriesModel | None) -> bytes:
    """As it is stored: a series that has learned nothing has no record."""
    return b"" if model is None or not model.n_learned else model.to_bytes()


def _forgotten_before(model: SeriesModel | None, known: Mapping[int, Observation], exclusions: Exclusions) -> int:
    """Where the history holds fewer rows than the model has learned, the hour after its last one; 0 elsewhere."""
    if model is None or model.next_hour is None or _n_learnable(model, known, exclusions) >= model.n_learned:
        return 0
    return model.next_hour


def _n_learnable(model: SeriesModel, known: Mapping[int, Observation], exclusions: Exclusions) -> int:
    if model.next_hour is None:
        return 0
    slug, end = model.metric.slug, model.next_hour
    return sum(1 for hour in known if hour < end and not exclusions.holds(slug, hour))
