"""How far from the location a value may be, by claim: candidates that measure themselves, mixed, and a control on top.

Each candidate is a quantile of the residual divided by one of four spreads of the hour: the usual error, the experts'
disagreement, the usual error at this hour of the day, and the size of the location itself. Quantiles come from
exponentially forgotten histograms (bins grow with the logarithm of the distance, so that a few cover a core of 0.1 and
tails of 60 spreads) and from online quantile tracking (a pinball gradient step an hour). The mixture is `mixture`'s;
last, adaptive conformal inference (Gibbs and Candes 2021, with the step on the logarithm of the distance) corrects what
is measured to be wrong.
"""

import math

import numpy as np

from detection.compiled import Record, compiled
from detection.kernel.mixture import learn_bounds_mixture, mix_bounds
from detection.kernel.row import BINS, CLAIMS, HISTOGRAMS, TRACKERS
from detection.kernel.scale import clip

_REACH = 60.0  # spreads covered by the histograms
_CORE = 0.1  # up to here bins are equally wide
_EXTENT = math.log1p(_REACH / _CORE)
_BINS_PER_UNIT = BINS / (2.0 * _EXTENT)
_HISTOGRAM_SCALES = (1, 1, 2, 2, 3)
_HISTOGRAM_MEMORY = (0, 1, 0, 1, 1)
_TRACKER_SCALES = (0, 1, 2)
_MEMORIES = (0.97, 0.991)  # an hour
_INCREMENTS = (512.0, 128.0)  # first weight of an hour by memory; it doubles, then everything is halved
_PRIOR_WEIGHT = 13.0  # hours
_PRIOR_FREEDOM = 3.0  # Student's t, of that scale
_PRIOR_SCALE = 0.8
_FIRST_TRACKED = 4.0
_TRACKING_RATE = 0.156
_CONTROL_RATES = (0.05, 0.02, 0.02)  # by claim
# Of the claimed tail: what the threshold's control aims at. Hours above come in clusters, and the control is bounded.
_CONTROL_SHARES = (0.85, 1.0, 1.0)
_CONTROL_LOWEST, _CONTROL_HIGHEST = -1.5, 2.5
_WINSORISED_AT = 2.0  # distances of the bound beyond which a residual is counted as if it were there


def _edge(position: float) -> float:
    return math.copysign(math.expm1(abs(position)) * _CORE, position)


_EDGES = np.array([_edge(-_EXTENT + 2.0 * _EXTENT * i / BINS) for i in range(BINS + 1)])


def _prior() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Share of each bin under Student's t."""
    fine = 50
    edges = np.array([_edge(-_EXTENT + 2.0 * _EXTENT * i / (BINS * fine)) for i in range(BINS * fine + 1)])
    middle = (edges[1:] + edges[:-1]) / 2.0 / _PRIOR_SCALE
    density = (1.0 + middle**2 / _PRIOR_FREEDOM) ** (-(_PRIOR_FREEDOM + 1.0) / 2.0) * np.diff(edges)
    shares = density.reshape(BINS, fine).sum(axis=1)
    return np.asarray(shares / shares.sum())


_PRIOR = _prior()


@compiled
def begin_bounds(row: Record) -> None:
    """The bounds of a series nothing was learned of."""
    for memory in range(len(_MEMORIES)):
        row.increments[memory] = _INCREMENTS[memory]
    for histogram in range(HISTOGRAMS):
        weight = _PRIOR_WEIGHT * _INCREMENTS[_HISTOGRAM_MEMORY[histogram]]
        for i in range(BINS):
            row.bins[histogram, i] = round(weight * _PRIOR[i])
    for tracker in range(TRACKERS):
        row.tracked_unit[tracker] = 1.0
        for claim in range(CLAIMS):
            row.tracked[claim, tracker] = _FIRST_TRACKED


@compiled
def _quantile(row: Record, histogram: int, side: float, tail: float) -> float:
    """The normalised distance on that side beyond which a share `tail` of the weight lies."""
    total = 0
    for i in range(BINS):
        total += row.bins[histogram, i]
    left = tail * total
    if side > 0.0:
        i = BINS - 1
        weight = float(row.bins[histogram, i])
        while weight < left and i > 0:
            left -= weight
            i -= 1
            weight = float(row.bins[histogram, i])
        share = min(left / weight, 1.0) if weight > 0.0 else 1.0
        return _EDGES[i + 1] - share * (_EDGES[i + 1] - _EDGES[i])
    i = 0
    weight = float(row.bins[histogram, i])
    while weight < left and i < BINS - 1:
        left -= weight
        i += 1
        weight = float(row.bins[histogram, i])
    share = min(left / weight, 1.0) if weight > 0.0 else 1.0
    return -(_EDGES[i] + share * (_EDGES[i + 1] - _EDGES[i]))


@compiled
def bound_distances(row: Record, setup: Record, outlook: Record) -> None:
    """Fill in, by claim, the candidates and the distance of the bound from the location, which is not negative."""
    for claim in range(CLAIMS):
        side, tail = setup.sides[claim], setup.tails[claim]
        for histogram in range(HISTOGRAMS):
            scale = outlook.scales[_HISTOGRAM_SCALES[histogram]]
            outlook.candidates[claim, histogram] = scale * _quantile(row, histogram, side, tail)
        for tracker in range(TRACKERS):
            scale = outlook.scales[_TRACKER_SCALES[tracker]]
            outlook.candidates[claim, HISTOGRAMS + tracker] = scale * row.tracked[claim, tracker]
        distance = mix_bounds(row, outlook, claim) * math.exp(row.corrections[claim])
        outlook.bounds[claim] = max(distance, 0.0)


@compiled
def learn_bounds(row: Record, setup: Record, outlook: Record, residual: float, unit: float, is_settled: bool) -> None:  # noqa: FBT001 (compiled)
    """Learn the residual (value - location) of the hour that was looked at; `unit` is a usual error.

    Until `is_settled` only weights and control learn: the spreads of the first hours are guesses.
    """
    learn_bounds_mixture(row, setup, outlook, residual, unit)
    for claim in range(CLAIMS):
        is_beyond = setup.sides[claim] * residual > outlook.bounds[claim]
        step = _CONTROL_RATES[claim] * ((1.0 if is_beyond else 0.0) - _CONTROL_SHARES[claim] * setup.tails[claim])
        row.corrections[claim] = clip(row.corrections[claim] + step, _CONTROL_LOWEST, _CONTROL_HIGHEST)
    if not is_settled:
        return
    row.n_settled += 1
    high, low = _reach(setup, outlook, 1.0), _reach(setup, outlook, -1.0)
    residual = clip(residual, -low, high)
    for memory in range(len(_MEMORIES)):
        _forget(row, memory)
    for histogram in range(HISTOGRAMS):
        z = clip(residual / outlook.scales[_HISTOGRAM_SCALES[histogram]], -_REACH, _REACH)
        position = math.copysign(math.log1p(abs(z) / _CORE), z) + _EXTENT
        i = min(max(int(position * _BINS_PER_UNIT), 0), BINS - 1)
        weight = round(row.increments[_HISTOGRAM_MEMORY[histogram]])
        row.bins[histogram, i] = min(row.bins[histogram, i] + weight, 65_535)
    for tracker in range(TRACKERS):
        _track(row, setup, tracker, clip(residual / outlook.scales[_TRACKER_SCALES[tracker]], -_REACH, _REACH))


@compiled
def _reach(setup: Record, outlook: Record, side: float) -> float:
    """How far out on that side a residual is still counted as what it is."""
    furthest = 0.0
    for claim in range(CLAIMS):
        if setup.sides[claim] == side:
            furthest = max(furthest, outlook.bounds[claim])
    return _WINSORISED_AT * max(furthest, outlook.grain)


@compiled
def _forget(row: Record, memory: int) -> None:
    """Let the next hour weigh more instead of every bin less; when it weighs double, halve everything."""
    row.increments[memory] = row.increments[memory] / _MEMORIES[memory]
    if row.increments[memory] < 2.0 * _INCREMENTS[memory]:
        return
    row.increments[memory] = 0.5 * row.increments[memory]
    for histogram in range(HISTOGRAMS):
        if _HISTOGRAM_MEMORY[histogram] == memory:
            for i in range(BINS):
                row.bins[histogram, i] = row.bins[histogram, i] >> 1


@compiled
def _track(row: Record, setup: Record, tracker: int, z: float) -> None:
    """One pinball gradient step of each claim's quantile."""
    size = abs(z)
    unit = row.tracked_unit[tracker]
    if row.n_settled > 20:
        size = min(size, 10.0 * unit)
    unit += max(0.01, 1.0 / row.n_settled) * (size - unit)
    row.tracked_unit[tracker] = unit
    for claim in range(CLAIMS):
        is_beyond = setup.sides[claim] * z > row.tracked[claim, tracker]
        row.tracked[claim, tracker] += _TRACKING_RATE * unit * ((1.0 if is_beyond else 0.0) - setup.tails[claim])
