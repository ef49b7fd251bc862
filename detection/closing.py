"""The closings of many subjects in one pass: what `SubjectState.learn` and `publish` do one by one, side by side.

Both ways lead to the same bytes (`tests/property/test_closing_properties.py`): the records of all series are laid side
by side, and the compiled core runs over them what it runs over one. What it cannot do, race challengers and begin a
gauge anew that turns negative, is left to the single way.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from detection.catalogue import Metric
from detection.damage import damaged
from detection.errors import UnreadableStateError
from detection.estimate import Scored, Status
from detection.explanation import Parts, explain_many
from detection.hours import slot_of
from detection.judged_hours import judged_hours
from detection.kernel.bank import Records, begin_many
from detection.kernel.closing import close_many
from detection.kernel.row import ANSWER, OUTLOOK, ROW, ROW_VERSION, SETUP, TOLD
from detection.policy import Policy
from detection.prediction import cut_many
from detection.rules.points import of_verdict
from detection.series_model import SeriesModel, setup_of
from detection.subject_state import SubjectState

_SIZE = ROW.itemsize
_EMPTY = bytes(_SIZE)


@dataclass(slots=True)
class Closings:
    """What the closings of N series have come to, as columns; read-only, but for `encoded`, which is a codec's own.

    `hour` is the hour that is forecast, `answers` (`ANSWER`) the forecast, `told` (`TOLD`) what is said beside it.
    Where `is_judged`, `last_hour`, `last_value` and `last_count` are the last closed window, and `verdicts` (`ANSWER`)
    what it was judged by, which is all zeros where the series was still warming up.
    """

    policy: Policy
    metrics: list[Metric] = field(default_factory=list)
    hour: list[int] = field(default_factory=list)
    status: list[Status] = field(default_factory=list)
    answers: Records = field(default_factory=lambda: np.zeros(0, ANSWER))
    told: Records = field(default_factory=lambda: np.zeros(0, TOLD))
    explanations: list[Parts] = field(default_factory=list)
    is_judged: list[bool] = field(default_factory=list)
    last_hour: list[int] = field(default_factory=list)
    last_value: list[float] = field(default_factory=list)
    last_count: list[int] = field(default_factory=list)
    verdicts: Records = field(default_factory=lambda: np.zeros(0, ANSWER))
    encoded: list[list[bytes]] | None = None

    def __len__(self) -> int:
        return len(self.metrics)


@dataclass(slots=True)
class _Series:
    """One series of one subject, with the windows that close: the settled ones first."""

    state: SubjectState
    metric: Metric
    settled: list[tuple[int, float, int]] = field(default_factory=list)
    closed: list[tuple[int, float, int]] = field(default_factory=list)


def close(states: Sequence[SubjectState], clock_ms: int, policy: Policy) -> list[bool]:
    """Learn and publish for each state what is due; returns, for each, whether anything of it was.

    What is published is then in `state.closings`, which the codecs know how to write, and not in its forecasts and
    verdicts, which are gone where there are newer ones: the state is no longer whole.
    """
    series: list[_Series] = []
    changed = []
    for state in states:
        if _is_special(state, policy):
            state.learn(policy)
            changed.append(state.publish(clock_ms, policy))
            continue
        found = _due(state, clock_ms, policy)
        changed.append(found is not None)
        series += found or ()
    if series:
        _close(series, policy)
    return changed


def _is_special(state: SubjectState, policy: Policy) -> bool:
    """Gauges may turn negative, challengers are objects, and verdicts that were read are kept: all that one by one."""
    return (
        state.subject.kind != "biller"
        or bool(state.verdicts)
        or policy.selection.chooses(str(state.subject), state.metrics())
    )


def _due(state: SubjectState, clock_ms: int, policy: Policy) -> list[_Series] | None:
    """The state's series with the windows that are due, its hours moved on; None where nothing is."""
    if state.is_whole:
        state.trained_before = state.settled_before
    settled = state.settle(policy)
    if not state.move_published_hour(clock_ms, policy):
        # What is settled makes the answers outdated: so nothing was.
        return None
    by_slug = {metric.slug: _Series(state, metric) for metric in state.metrics()}
    for hour, window in settled:
        for value in state.learnable(hour, window):
            by_slug[value.metric.slug].settled.append((hour, value.value, value.count))
    for hour, window in state.closed_windows():
        for value in state.learnable(hour, window):
            by_slug[value.metric.slug].closed.append((hour, value.value, value.count))
    return list(by_slug.values())


def _close(series: list[_Series], policy: Policy) -> None:
    metrics = [one.metric for one in series]
    rows = _rows(series, metrics)
    setups, kinds = _setups(metrics, rows, policy)
    observed = [each for one in series for each in (*one.settled, *one.closed)]
    sizes = [len(one.settled) + len(one.closed) for one in series]
    starts = np.zeros(len(series) + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    settled = np.array([len(one.settled) for one in series], np.int64)
    hours = np.array([each[0] for each in observed], np.int64)
    values = np.array([each[1] for each in observed], np.float64)
    counts = np.array([each[2] for each in observed], np.float64)
    last = starts[1:] - 1
    is_judged = np.array(sizes) > 0
    # What the model knows, copies included, ends before the target: it was trained, maybe, beyond what is published.
    known_to = np.where(rows["n_observed"] + rows["n_before"].astype(np.int64) > 0, rows["next_hour"], 0)
    if len(hours):
        known_to = np.where(is_judged, hours[last] + 1, known_to)
    published = np.array([one.state.published_hour for one in series], np.int64)
    targets = np.maximum(published, known_to)
    answers, told = np.zeros(len(series), ANSWER), np.zeros(len(series), TOLD)
    verdicts = np.zeros(len(hours), ANSWER)
    close_many(
        rows,
        setups,
        kinds,
        starts,
        settled,
        hours,
        _slots(hours, policy.zone),
        cut_many(values),
        counts,
        targets,
        _slots(targets, policy.zone),
        np.zeros(1, OUTLOOK),
        verdicts,
        answers,
        told,
    )
    is_silent = np.isnan([answers[name] for name in ("location", "lower", "upper", "threshold")]).any(axis=0)
    if is_silent.any():
        one = series[int(is_silent.argmax())]
        raise UnreadableStateError(f"{one.state.subject}: {one.metric}: damaged model state: no number follows from it")
    ahead = np.where(told["n_learned"] > 0, targets - known_to, 0)
    at = np.where(is_judged, last, 0)
    ends = (hours[at], values[at], counts[at].astype(np.int64)) if len(hours) else (at, at, at)
    closings = Closings(
        policy=policy,
        metrics=metrics,
        hour=targets.tolist(),
        status=_statuses(told, ahead, policy),
        answers=answers,
        told=told,
        explanations=explain_many(metrics, told, answers),
        is_judged=is_judged.tolist(),
        last_hour=ends[0].tolist(),
        last_value=ends[1].tolist(),
        last_count=ends[2].tolist(),
        verdicts=_chosen(verdicts, at) if len(hours) else np.zeros(len(series), ANSWER),
    )
    _hand_out(series, rows, closings)
    is_settled = np.arange(len(hours)) < np.repeat(starts[:-1] + settled, sizes)
    _hand_out_judged(series, np.repeat(np.arange(len(series)), sizes), hours, verdicts, is_settled, policy)


def _hand_out(series: list[_Series], rows: Records, closings: Closings) -> None:
    data = rows.tobytes()
    verdicts = closings.verdicts
    is_alert = (
        np.array(closings.is_judged)
        & (np.array(closings.last_hour) == np.array(closings.hour) - 1)
        & (verdicts["is_judged"] == 1)
        & (verdicts["is_credible"] == 1)
        & (verdicts["score"] > 1.0)
    ).tolist()
    for at, one in enumerate(series):
        state, slug = one.state, one.metric.slug
        if one.settled:
            state.models.put_record(slug, data[at * _SIZE : (at + 1) * _SIZE])
            state.relearned.add(slug)
        state.closings[slug] = (closings, at)
        state.changed.add(slug)
        state.is_whole = False
        state.forecasts.pop(slug, None)
        state.verdicts.pop(slug, None)
        if is_alert[at] or (state.alerts and slug in state.watched):
            _point(state, closings, at)


def _hand_out_judged(
    series: list[_Series],
    owners: NDArray[np.int64],
    hours: NDArray[np.int64],
    verdicts: Records,
    is_settled: NDArray[np.bool_],
    policy: Policy,
) -> None:
    """Let each state know how its learned hours compared with what was published of them."""
    at = np.flatnonzero(is_settled & (verdicts["is_judged"] == 1))
    judged = judged_hours(_chosen(verdicts, at), coverage=policy.coverage)
    for owner, hour, one in zip(owners[at].tolist(), hours[at].tolist(), judged, strict=True):
        whose = series[owner]
        whose.state.judged.setdefault(hour, {})[whose.metric.slug] = one


def _chosen(records: Records, at: NDArray[np.int64]) -> Records:
    """These of the records, as whole bytes: numpy copies records field by field, which takes far longer."""
    return records.view(f"V{records.itemsize}")[at].view(records.dtype)


def _point(state: SubjectState, closings: Closings, at: int) -> None:
    """Let rules look at the verdict on the hour before the one that is forecast, if there is one."""
    hour = closings.hour[at] - 1
    verdict = closings.verdicts[at]
    if not (closings.is_judged[at] and closings.last_hour[at] == hour and verdict["is_judged"]):
        return
    metric = closings.metrics[at]
    scored = Scored(
        hour,
        closings.last_value[at],
        closings.last_count[at],
        float(verdict["location"]),
        float(verdict["threshold"]),
        float(verdict["score"]),
        is_exceeded=bool(verdict["is_exceeded"]),
        is_credible=bool(verdict["is_credible"]),
    )
    state.points.append((metric.slug, of_verdict(state.subject, metric, scored)))


def _rows(series: Sequence[_Series], metrics: list[Metric]) -> Records:
    """The records side by side; those of series nothing is known of begin here."""
    blobs = []
    young = []
    for at, one in enumerate(series):
        record = one.state.models.record(one.metric.slug)
        if not record:
            young.append(at)
            record = _EMPTY
        elif len(record) < _SIZE or record[0] != ROW_VERSION:
            raise _unreadable(one, record)
        # Behind the record is what challengers knew that nobody selects any more.
        blobs.append(record[:_SIZE])
    rows = np.frombuffer(bytearray().join(blobs), ROW)
    is_damaged = damaged(rows)
    if is_damaged.any():
        raise _unreadable(series[int(is_damaged.argmax())], blobs[int(is_damaged.argmax())])
    if young:
        fresh = np.zeros(len(young), ROW)
        seeds = np.array([crc32(metrics[at].slug.encode()) & 255 for at in young], np.int64)
        setups, kinds = _setups([metrics[at] for at in young], fresh, Policy())
        begin_many(fresh, setups, kinds, seeds)
        rows[young] = fresh
    return rows


def _unreadable(one: _Series, record: bytes) -> UnreadableStateError:
    """What the single model says of such a record, and whose it is."""
    try:
        SeriesModel.from_bytes(one.metric, record, Policy())
    except UnreadableStateError as error:
        return UnreadableStateError(f"{one.state.subject}: {error}")
    return UnreadableStateError(f"{one.state.subject}: {one.metric}: damaged model state")


def _setups(metrics: list[Metric], rows: Records, policy: Policy) -> tuple[Records, NDArray[np.int64]]:
    """The distinct setups of these series, and the number of each series' own."""
    numbers: dict[tuple[int, int], int] = {}
    found: list[Records] = []
    kinds = np.empty(len(metrics), np.int64)
    # By identity: to hash a metric for every series takes longer than to learn its hour.
    for at, (metric, is_signed) in enumerate(zip(metrics, rows["is_signed"].tolist(), strict=True)):
        number = numbers.get((id(metric), is_signed))
        if number is None:
            number = numbers[id(metric), is_signed] = len(found)
            found.append(setup_of(metric, policy, is_signed=bool(is_signed)))
        kinds[at] = number
    return (np.concatenate(found) if found else np.zeros(0, SETUP)), kinds


def _slots(hours: NDArray[np.int64], zone: str) -> NDArray[np.int64]:
    distinct, places = np.unique(hours, return_inverse=True)
    return np.array([slot_of(hour, zone) for hour in distinct.tolist()], np.int64)[places]


def _statuses(told: Records, ahead: NDArray[np.int64], policy: Policy) -> list[Status]:
    return [
        "prior"
        if not n_learned
        else "stale"
        if hours > policy.stale_after_hours
        else "ready"
        if is_warm
        else "learning"
        for n_learned, hours, is_warm in zip(
            told["n_learned"].tolist(), ahead.tolist(), told["is_warm"].tolist(), strict=True
        )
    ]
