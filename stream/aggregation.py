"""From columns of calls to what arrived for each subject: one vectorised pass over all subjects of a flush.

For each subject, in the order of arrival: what the state already has (its offset is below the stored one) is left out;
what belongs to a window that is already learned, or that an earlier event of this very flush lets be learned, is late;
the rest is summed by hour and by minute in whole numbers. The outcome does not depend on where one flush ends and the
next begins.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.counted_windows import HALF_BITS, CountedWindows, WindowColumns
from detection.events import ERROR, MAX_GAUGES, TIMEOUT, Observed
from detection.hours import HOUR_MS, MINUTE_MS
from detection.kernel.latency_bins import count_bins
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import KEPT_MINUTES, Arrivals, SubjectState, first_open_hour
from detection.windows import NANO, GaugeSum, GaugeWindow, Window, add
from stream.decoding import ObservedAt

Int64s = NDArray[np.int64]

# Bits for the hour or minute beside the number of its subject in one sortable whole number.
_TIME_BITS = 27
_TIME_MASK = (1 << _TIME_BITS) - 1
_HALF_MASK = (1 << HALF_BITS) - 1


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of several sources as columns; `subject` and `source` index the two lists."""

    subjects: Sequence[Subject]
    sources: Sequence[str]
    subject: Int64s
    source: Int64s
    timestamp_ms: Int64s
    latency_us: Int64s
    outcome: Int64s
    offset: Int64s

    def of(self, kept: NDArray[np.bool_] | Int64s) -> "Calls":
        """The calls that the mask keeps, or those at these places."""
        return Calls(
            self.subjects,
            self.sources,
            self.subject[kept],
            self.source[kept],
            self.timestamp_ms[kept],
            self.latency_us[kept],
            self.outcome[kept],
            self.offset[kept],
        )


@dataclass(frozen=True, slots=True)
class Aggregated:
    """What arrived for each subject, the calls that came too late, and how many the state already had."""

    arrivals: Mapping[Subject, Arrivals]
    late: Calls
    replayed: int


def aggregate(calls: Calls, states: Mapping[Subject, SubjectState], policy: Policy) -> Aggregated:
    """What of these calls is new to the states, counted by subject, hour and minute."""
    calls, _ = _sorted(calls, calls.subject)
    fresh = calls.offset >= _stored_offsets(calls, states)
    replayed = int(len(fresh) - np.count_nonzero(fresh))
    if replayed:
        calls = calls.of(fresh)
    if not len(calls.subject):
        return Aggregated({}, calls, replayed)
    late = _late(calls, states, policy)
    arrivals = _arrivals(calls, late)
    on_time = calls.of(~late) if late.any() else calls
    if len(on_time.subject):
        _add_windows(on_time, arrivals)
        _add_minutes(on_time, arrivals)
    return Aggregated(arrivals, calls.of(late), replayed)


@dataclass(frozen=True, slots=True)
class AggregatedObservations:
    """What arrived for each model version, the observations that came too late, and those with too many metrics."""

    arrivals: Mapping[Subject, Arrivals]
    late: Sequence[ObservedAt]
    crowded: Sequence[ObservedAt]


def aggregate_observations(
    observed: Sequence[tuple[str, ObservedAt]], states: Mapping[Subject, SubjectState], policy: Policy
) -> AggregatedObservations:
    """As `aggregate`, for observation events with their sources: their fields are free, so one by one.

    An observation that would give its subject more than MAX_GAUGES metrics is refused: each is a model to keep, and an
    id in the name of a field would make one of every event.
    """
    arrivals: dict[Subject, Arrivals] = {}
    counted: dict[Subject, tuple[dict[int, Window], dict[int, Window]]] = {}
    slugs: dict[Subject, set[str]] = {}
    late: list[ObservedAt] = []
    crowded: list[ObservedAt] = []
    for source, one in observed:
        event = one.observed
        state = states.get(event.subject)
        if state is not None and one.offset < state.offsets.get(source, 0):
            continue
        known_slugs = slugs.setdefault(event.subject, set())
        if not known_slugs and state is not None:
            known_slugs.update(metric.slug for metric in state.metrics())
        if len(known_slugs | event.gauges.keys()) > MAX_GAUGES:
            crowded.append(one)
            continue
        known = arrivals.get(event.subject)
        if known is None:
            watermark_ms = -1 if state is None else state.watermark_ms
            hours, minutes = counted[event.subject] = {}, {}
            known = arrivals[event.subject] = Arrivals(watermark_ms=watermark_ms, windows=hours, minutes=minutes)
        known.watermark_ms = max(known.watermark_ms, event.timestamp_ms)
        known.offsets[source] = max(known.offsets.get(source, 0), one.offset + 1)
        if event.timestamp_ms // HOUR_MS < first_open_hour(state, known.watermark_ms, policy):
            known.late += 1
            late.append(one)
            continue
        known.accepted += 1
        known_slugs.update(event.gauges)
        known.observed.append(event)
        for windows, unit_ms in zip(counted[event.subject], (HOUR_MS, MINUTE_MS), strict=True):
            _add_gauges(windows, event, unit_ms)
    return AggregatedObservations(arrivals, late, crowded)


def _add_gauges(windows: dict[int, Window], event: Observed, unit_ms: int) -> None:
    sums = {slug: GaugeSum(1, round(value * NANO), value, value) for slug, value in event.gauges.items()}
    add(windows.setdefault(event.timestamp_ms // unit_ms, GaugeWindow()), GaugeWindow(1, sums))


def _stored_offsets(calls: Calls, states: Mapping[Subject, SubjectState]) -> Int64s:
    """For each call the offset below which its subject's state already has its source."""
    width = len(calls.sources)
    # A subject's calls come from one source, or many in a row do: there are far fewer runs than calls to be sorted.
    pair = calls.subject * width + calls.source
    starts, rank = _groups(pair)
    pairs, inverse = np.unique(pair[starts], return_inverse=True)
    stored = np.zeros(len(pairs), np.int64)
    for at, one in enumerate(pairs.tolist()):
        state = states.get(calls.subjects[one // width])
        if state is not None:
            stored[at] = state.offsets.get(calls.sources[one % width], 0)
    return stored[inverse][rank]


def _late(calls: Calls, states: Mapping[Subject, SubjectState], policy: Policy) -> NDArray[np.bool_]:
    """Whether each call's hour is learned by the time the call arrives; calls are sorted by subject."""
    starts, rank = _groups(calls.subject)
    watermark = np.full(len(starts), -1, np.int64)
    learned = np.zeros(len(starts), np.int64)
    for at, code in enumerate(calls.subject[starts].tolist()):
        state = states.get(calls.subjects[code])
        if state is not None:
            watermark[at] = state.watermark_ms
            learned[at] = state.settled_before
    # A running maximum within each subject: ranks rise, so a later subject's least value exceeds an earlier's greatest.
    oldest = calls.timestamp_ms.min()
    seen = np.maximum(calls.timestamp_ms, watermark[rank]) - oldest
    shift = seen.max() + 1
    newest = np.maximum.accumulate(seen + rank * shift) - rank * shift + oldest
    grace_ms = max(policy.grace_ms, policy.close_after_ms)
    first_open = np.maximum((newest - grace_ms) // HOUR_MS, learned[rank])
    return np.asarray(calls.timestamp_ms // HOUR_MS < first_open)


def _arrivals(calls: Calls, late: NDArray[np.bool_]) -> dict[Subject, Arrivals]:
    starts, rank = _groups(calls.subject)
    newest = np.maximum.reduceat(calls.timestamp_ms, starts).tolist()
    late_counts = np.bincount(rank, weights=late, minlength=len(starts)).astype(np.int64).tolist()
    totals = np.diff(np.append(starts, len(rank))).tolist()
    subjects = [calls.subjects[code] for code in calls.subject[starts].tolist()]
    arrivals = {
        subject: Arrivals(watermark_ms=newest[at], accepted=totals[at] - late_counts[at], late=late_counts[at])
        for at, subject in enumerate(subjects)
    }
    width = len(calls.sources)
    pair = rank * width + calls.source
    order = np.argsort(pair, kind="stable")
    first, _ = _groups(pair[order])
    reached = np.maximum.reduceat(calls.offset[order], first).tolist()
    for one, offset in zip(pair[order][first].tolist(), reached, strict=True):
        arrivals[subjects[one // width]].offsets[calls.sources[one % width]] = offset + 1
    return arrivals


def _add_windows(calls: Calls, arrivals: Mapping[Subject, Arrivals]) -> None:
    calls, rows, key = _by_moment(calls, calls.timestamp_ms // HOUR_MS)
    at, number, count = np.empty(len(rows) + 1, np.int64), *np.empty((2, len(key)), np.int64)
    count_bins(calls.latency_us, calls.outcome != TIMEOUT, rows, at, number, count)
    columns = WindowColumns(key[rows] & _TIME_MASK, _sums(calls, rows), at, number, count)
    for subject, counted in _of_subjects(calls, columns, key[rows]):
        arrivals[subject].windows = counted


def _add_minutes(calls: Calls, arrivals: Mapping[Subject, Arrivals]) -> None:
    """The last minutes only: what is older is dropped by the state anyway."""
    starts, rank = _groups(calls.subject)
    newest = np.maximum.reduceat(calls.timestamp_ms, starts)[rank] // MINUTE_MS
    minute = calls.timestamp_ms // MINUTE_MS
    kept = minute > newest - KEPT_MINUTES
    calls, minute = calls.of(kept), minute[kept]
    calls, rows, key = _by_moment(calls, minute)
    columns = WindowColumns.without_bins(key[rows] & _TIME_MASK, _sums(calls, rows))
    for subject, counted in _of_subjects(calls, columns, key[rows]):
        arrivals[subject].minutes = counted


def _by_moment(calls: Calls, moment: Int64s) -> tuple[Calls, Int64s, Int64s]:
    """The calls by subject and hour or minute, where each of these begins, and for each call both in one number."""
    calls, key = _sorted(calls, (calls.subject << _TIME_BITS) | moment)
    return calls, _groups(key)[0], key


def _sorted(calls: Calls, key: Int64s) -> tuple[Calls, Int64s]:
    """Both in the order of the key, as they mostly are."""
    if not (key[1:] < key[:-1]).any():
        return calls, key
    order = np.argsort(key, kind="stable")
    return calls.of(order), key[order]


def _of_subjects(calls: Calls, columns: WindowColumns, keys: Int64s) -> Iterator[tuple[Subject, CountedWindows]]:
    """Each subject's part of the columns, whose rows have these keys."""
    codes = keys >> _TIME_BITS
    begins, _ = _groups(codes)
    ends = np.append(begins[1:], len(codes)).tolist()
    for code, begin, end in zip(codes[begins].tolist(), begins.tolist(), ends, strict=True):
        yield calls.subjects[code], CountedWindows(columns, begin, end)


def _sums(calls: Calls, starts: Int64s) -> Int64s:
    """For each run of calls between two starts, a column of what `detection.counted_windows` takes for a window."""
    answered = (calls.outcome != TIMEOUT).astype(np.int64)
    latency = calls.latency_us * answered
    high, low = latency >> HALF_BITS, latency & _HALF_MASK
    counts = np.diff(np.append(starts, len(latency)))
    return np.stack(
        [
            counts,
            np.add.reduceat((calls.outcome == ERROR).astype(np.int64), starts),
            counts - np.add.reduceat(answered, starts),
            np.add.reduceat(latency, starts),
            np.add.reduceat(high * high, starts),
            np.add.reduceat(high * low, starts),
            np.add.reduceat(low * low, starts),
        ]
    )


def _groups(ordered: Int64s) -> tuple[Int64s, Int64s]:
    """Where each run of equal values begins, and for each place the number of its run."""
    changes = np.empty(len(ordered), np.bool_)
    changes[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=changes[1:])
    return np.flatnonzero(changes), np.cumsum(changes) - 1
