"""Imported once by the process that workers are forked from: loads the compiled models, which takes a second."""

from detection.hours import HOUR_MS
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import CallWindow

_state = SubjectState(Subject.biller("warm"))
_state.absorb(
    Arrivals(
        watermark_ms=9 * HOUR_MS,
        windows={
            hour: CallWindow(calls=2, latency_us=hour + 2, latency_us2=hour + 2, bins={1: 2}) for hour in range(9)
        },
    )
)
_state.learn(Policy())
_state.publish(9 * HOUR_MS, Policy())
