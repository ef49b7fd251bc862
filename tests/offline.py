"""The recorded calls folded without the stream path: plain Python from the file to the models."""

import gzip
import json
from datetime import datetime

from detection.hours import HOUR_MS, MINUTE_MS
from detection.policy import Policy
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from detection.windows import CallWindow, latency_bin
from tests.worker import CALLS


def fold(policy: Policy, *, limit: int | None = None) -> tuple[dict[Subject, SubjectState], int]:
    """The state of every biller of the file after its first `limit` calls, and the newest time among them."""
    arrivals: dict[Subject, Arrivals] = {}
    newest = -1
    with gzip.open(CALLS, "rt") as lines:
        for at, line in enumerate(lines):
            if limit is not None and at >= limit:
                break
            call = json.loads(line)
            ms = round(datetime.fromisoformat(call["timestamp"]).timestamp() * 1000)
            newest = max(newest, ms)
            one = arrivals.setdefault(Subject.biller(call["biller_id"]), Arrivals(watermark_ms=ms))
            one.watermark_ms = max(one.watermark_ms, ms)
            one.accepted += 1
            assert isinstance(one.windows, dict)
            _count(one.windows.setdefault(ms // HOUR_MS, CallWindow()), call, with_bins=True)
            assert isinstance(one.minutes, dict)
            _count(one.minutes.setdefault(ms // MINUTE_MS, CallWindow()), call, with_bins=False)
    states = {}
    for subject, arrived in arrivals.items():
        state = states[subject] = SubjectState(subject)
        state.absorb(arrived)
        state.learn(policy)
        state.publish(newest, policy)
    return states, newest


def _count(window: object, call: dict[str, object], *, with_bins: bool) -> None:
    assert isinstance(window, CallWindow)
    latency_us = round(float(str(call["latency_ms"])) * 1000)
    window.calls += 1
    if call["outcome"] == "timeout":
        window.timeouts += 1
        return
    if call["outcome"] == "error":
        window.errors += 1
    window.latency_us += latency_us
    window.latency_us2 += latency_us**2
    if with_bins:
        key = latency_bin(latency_us)
        window.bins[key] = window.bins.get(key, 0) + 1
