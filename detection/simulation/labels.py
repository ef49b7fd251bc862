"""Which incidents a scenario has: what happens, to whom, from when to when, and how strongly.

Nothing here knows how incidents are found. What is asked of one is what makes it an incident to a person: it is well
beyond normal, and somebody meets it (as many calls as `WITNESSES` are normal in that time).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from detection.errors import InputError
from detection.hours import HOUR_MS, MINUTE_MS, SECOND_MS
from detection.simulation.billers import biller, expected_calls
from detection.simulation.scenario import Draw, Scenario
from detection.subject import Subject

Kind = Literal["spike", "level-shift", "slow-drift", "timeout-storm", "silent-biller", "platform-wide"]

LATENCY = "average-response-time"
ERRORS = "error-rate"
TIMEOUTS = "timeout-error-rate"
CALLS = "calls"
ACCURACY = "prediction-accuracy"
DRIFT = "drift"
INFERENCE_TIME = "inference-time"

WITNESSES = 50
PLATFORM_SHARE = 0.7

_APART_MS = 2 * HOUR_MS
_TRIES = 5000


@dataclass(frozen=True, slots=True)
class LabelledIncident:
    """The truth about one incident, [start, end), after which all is as it was.

    `metrics` are affected, the first of them most; `calls` stands for a biller that does not call. `strength` is in
    terms of that first metric:

        average-response-time, inference-time    so many times as high (a slow drift: at its end)
        error-rate, timeout-error-rate           so many of 100 calls more (a slow drift: at its end)
        calls                                    the share of calls that is left, 0
        prediction-accuracy                      what it falls to
        drift                                    what is added to it at the end
    """

    kind: Kind
    subjects: tuple[Subject, ...]
    metrics: tuple[str, ...]
    start_ms: int
    end_ms: int
    strength: float


@dataclass(frozen=True, slots=True)
class _Form:
    """How long a kind lasts, in minutes, and how strong it is in each metric that it can strike."""

    kind: Kind
    shortest: int
    longest: int
    strengths: tuple[tuple[tuple[str, ...], float, float], ...]


_SPIKE = _Form("spike", 10, 30, (((LATENCY,), 2.0, 5.0), ((ERRORS,), 10.0, 60.0)))
_SHIFT = _Form("level-shift", 360, 2880, (((LATENCY,), 2.0, 3.0), ((ERRORS,), 10.0, 30.0)))
_DRIFT = _Form("slow-drift", 360, 1440, (((LATENCY,), 2.0, 3.0), ((ERRORS,), 10.0, 30.0)))
_STORM = _Form("timeout-storm", 15, 90, (((TIMEOUTS, LATENCY), 20.0, 60.0),))
_SILENCE = _Form("silent-biller", 30, 180, (((CALLS,), 0.0, 0.0),))
_PLATFORM = _Form(
    "platform-wide",
    15,
    60,
    (((LATENCY,), 2.0, 5.0), ((ERRORS,), 10.0, 60.0), ((TIMEOUTS, LATENCY), 20.0, 60.0)),
)
# By turns, so that every twelve incidents have the same mix.
_OF_BILLERS = (_SPIKE, _STORM, _SILENCE, _SHIFT, _DRIFT, _PLATFORM, _SPIKE, _STORM, _SILENCE, _SHIFT, _DRIFT, _SPIKE)
_OF_MODELS = (
    _Form("level-shift", 60, 360, (((ACCURACY,), 0.05, 0.2),)),
    _Form("spike", 10, 30, (((INFERENCE_TIME,), 2.0, 5.0),)),
    _Form("slow-drift", 360, 1440, (((DRIFT,), 0.3, 0.6),)),
)


@lru_cache(maxsize=16)
def labels(scenario: Scenario) -> tuple[LabelledIncident, ...]:
    """The incidents in the order in which they start; InputError where there is no room for so many.

    Those of one subject lie hours apart. Kinds that last longer than there is time are not drawn.
    """
    of_billers = _placed(scenario, Draw.INCIDENTS, scenario.incidents, _OF_BILLERS, scenario.biller_subjects)
    of_models = _placed(scenario, Draw.MODEL_INCIDENTS, scenario.model_incidents, _OF_MODELS, scenario.model_subjects)
    return tuple(sorted((*of_billers, *of_models), key=lambda one: (one.start_ms, one.end_ms, one.subjects)))


def _placed(
    scenario: Scenario, draw: Draw, count: int, forms: tuple[_Form, ...], subjects: tuple[Subject, ...]
) -> list[LabelledIncident]:
    if not count:
        return []
    minutes = (scenario.hours - scenario.calm_hours) * 60
    fitting = [form for form in forms if form.shortest <= minutes]
    if not fitting or not subjects:
        raise InputError(f"{count} incidents: there is nobody to have them, or no time")
    wanted = [fitting[at % len(fitting)] for at in range(count)]
    # What needs most room is placed first.
    wanted.sort(key=lambda form: (form.kind != "platform-wide", -form.longest))
    rng = scenario.generator(draw, scenario.start_ms // HOUR_MS)
    taken: dict[Subject, list[tuple[int, int]]] = {subject: [] for subject in subjects}
    placed: list[LabelledIncident] = []
    for form in wanted:
        for _ in range(_TRIES):
            one = _drawn(scenario, form, subjects, rng)
            if _is_free(one, taken) and (form.kind == "platform-wide" or _is_witnessed(scenario, one)):
                break
        else:
            raise InputError(
                f"{count} incidents: no room for more than {len(placed)} of them; take fewer, or more hours"
            )
        placed.append(one)
        for subject in one.subjects:
            taken[subject].append((one.start_ms, one.end_ms))
    return placed


def _drawn(
    scenario: Scenario, form: _Form, subjects: tuple[Subject, ...], rng: np.random.Generator
) -> LabelledIncident:
    first_ms = scenario.start_ms + scenario.calm_hours * HOUR_MS
    room_ms = scenario.end_ms - first_ms
    longest_ms = max(min(form.longest * MINUTE_MS, room_ms // 2), form.shortest * MINUTE_MS)
    duration_ms = int(rng.integers(form.shortest * MINUTE_MS, longest_ms + 1)) // SECOND_MS * SECOND_MS
    start_ms = first_ms + int(rng.integers(0, room_ms - duration_ms + 1)) // SECOND_MS * SECOND_MS
    metrics, weakest, strongest = form.strengths[rng.integers(len(form.strengths))]
    struck = math.ceil(PLATFORM_SHARE * len(subjects)) if form.kind == "platform-wide" else 1
    which = sorted(rng.choice(len(subjects), size=struck, replace=False).tolist())
    return LabelledIncident(
        kind=form.kind,
        subjects=tuple(subjects[at] for at in which),
        metrics=metrics,
        start_ms=start_ms,
        end_ms=start_ms + duration_ms,
        strength=round(float(rng.uniform(weakest, strongest)), 3),
    )


def _is_free(one: LabelledIncident, taken: dict[Subject, list[tuple[int, int]]]) -> bool:
    return all(
        one.start_ms >= end_ms + _APART_MS or one.end_ms + _APART_MS <= start_ms
        for subject in one.subjects
        for start_ms, end_ms in taken[subject]
    )


def _is_witnessed(scenario: Scenario, one: LabelledIncident) -> bool:
    """Whether as many calls as `WITNESSES` are normal in that time; a model is always observed."""
    subject = one.subjects[0]
    if subject.kind == "model":
        return True
    of = biller(scenario.seed, scenario.biller_subjects.index(subject))
    minutes = np.arange(one.start_ms // MINUTE_MS, one.end_ms // MINUTE_MS)
    return bool(expected_calls(of, minutes).sum() >= WITNESSES)


def striking(incidents: Sequence[LabelledIncident], subject: Subject) -> tuple[LabelledIncident, ...]:
    """Those that strike the subject, in their order."""
    return tuple(one for one in incidents if subject in one.subjects)
