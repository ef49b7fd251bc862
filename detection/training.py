"""Training is the live path's learning over a data set: which rows are new, and the fold that they lead to.

What a model knows is the history: the rows that were trained with and the windows that were learned live, in the order
of their hours. `train` brings the model to the fold over the history and the new rows:

    every new row is after the model's last hour     learn forward from where the model is
    otherwise                                        fold the whole history again, in order

Both give the same model bit for bit, so half a data set and then the other half, in either order, equals all at once.

The new rows go to the history first and the model is stored after. A crash between the two leaves rows in the history
that the model has not learned; the next training of the series sees more rows up to the model's last hour than the
model has learned, or rows after it, and folds them in: sending the same request again repairs the state.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from detection.backtest import Tally
from detection.catalogue import Metric
from detection.errors import InvalidRowError
from detection.estimate import Verdict
from detection.events import ERROR, TIMEOUT, CallEvent, check_call
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
) -> Sifted:
    """Sort out what cannot be learned, or need not.

    When the series is to start over, `known` is empty and `model` None. Windows from `open_from` on still take live
    events (see `first_open`), hours from `closed_before` on are not over. A row that does not give its count matches
    a known row by its value alone.
    """
    forgotten_before = _forgotten_before(model, known)
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
    ordered = [everything[hour] for hour in sorted(everything)]
    if stored is None or anew or _learnable(stored, everything) > stored.n_learned:
        model = SeriesModel(metric, policy, str(state.subject))
    else:
        model = stored.copy()
        ordered = [one for one in ordered if model.next_hour is None or one.hour >= model.next_hour]
    tally, last = fold(model, ordered, policy)
    if last is None or (stored is not None and stored.to_bytes() == model.to_bytes()):
        return Trained(tally, is_changed=False)
    state.models[metric.slug] = model
    state.verdicts[metric.slug] = last
    state.changed.add(metric.slug)
    state.relearned.add(metric.slug)
    state.is_outdated = True
    return Trained(tally, is_changed=True)


def unlearn(
    state: SubjectState, metric: Metric, *, known: Mapping[int, Observation], excluded: Collection[int], policy: Policy
) -> Trained:
    """Bring the state's model to what it would be had it never seen the excluded hours, to the last bit.

    `known` is the whole history of the series, by hour; the rest of it is folded again. The counters of what was judged
    are those of that fold as well.
    """
    stored = state.models.get(metric.slug)
    model = SeriesModel(metric, policy, str(state.subject))
    tally, last = fold(model, [known[hour] for hour in sorted(known) if hour not in excluded], policy)
    if stored is not None and stored.to_bytes() == model.to_bytes():
        return Trained(tally, is_changed=False)
    state.models[metric.slug] = model
    state.verdicts.pop(metric.slug, None)
    if last is not None:
        state.verdicts[metric.slug] = last
    state.changed.add(metric.slug)
    state.relearned.add(metric.slug)
    state.is_outdated = True
    return Trained(tally, is_changed=True)


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


def _forgotten_before(model: SeriesModel | None, known: Mapping[int, Observation]) -> int:
    """Where the history holds fewer rows than the model has learned, the hour after its last one; 0 elsewhere."""
    if model is None or model.next_hour is None or _learnable(model, known) >= model.n_learned:
        return 0
    return model.next_hour


def _learnable(model: SeriesModel, known: Mapping[int, Observation]) -> int:
    if model.next_hour is None:
        return 0
    return sum(1 for hour in known if hour < model.next_hour)
