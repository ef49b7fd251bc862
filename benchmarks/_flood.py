"""Twice as many predictions as the API can answer, beside somebody who uses it as ever and a worker that reads on."""

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import orjson

from benchmarks._bystander import CALLS, Seen
from benchmarks._load import Load, Measured
from benchmarks._served import Served
from benchmarks._workers import Workers, accepted
from benchmarks.context import ROOT

BEFORE_SECONDS = 8
FLOOD_SECONDS = 20
AFTER_SECONDS = 8

_OK = 200
_TAKEN = 202
# More than the API takes at a time: where fewer ask, they wait for each other, and nobody needs to be refused.
_CONNECTIONS = 768
_ACCEPTED_WITHIN_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Flooded:
    """What the flood came to, and what the bystander saw before, during and after it."""

    offered: float
    flood: Measured
    before: dict[str, Seen]
    during: dict[str, Seen]
    recovered_seconds: float
    harmed: int
    calls: int

    @property
    def shed_share(self) -> float:
        """Of what was answered at all."""
        return self.flood.shed / (self.flood.shed + self.flood.answered)


def p99(seen: Seen) -> float:
    """Milliseconds."""
    ordered = sorted(ms for _, _, ms in seen)
    return ordered[len(ordered) * 99 // 100]


def flooded(server: Served, workers: Workers, *, rate: float, billers: int, key: str, redis_url: str) -> Flooded:
    """At `rate` predictions a second; RuntimeError where the workers do not take every event once.

    That is, of those that were answered with 202.
    """
    known = accepted(redis_url)
    spec = {
        "port": server.port,
        "seconds": BEFORE_SECONDS + FLOOD_SECONDS + AFTER_SECONDS,
        "key": key,
        "billers": billers,
    }
    with ExitStack() as ending:
        bystander = ending.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks._bystander", orjson.dumps(spec).decode()],
                cwd=ROOT,
                stdout=subprocess.PIPE,
            )
        )
        time.sleep(BEFORE_SECONDS)
        started = time.monotonic()
        load = Load(
            port=server.port,
            path=server.path,
            billers=billers,
            seconds=FLOOD_SECONDS,
            connections=_CONNECTIONS,
            rate=rate,
            key=key,
            may_shed=True,
        )
        flood, _ = server.observed(load)
        ended = time.monotonic()
        said, _ = bystander.communicate(timeout=AFTER_SECONDS + 60)
    seen: dict[str, Seen] = orjson.loads(said)
    posted = CALLS * len([status for _, status, _ in seen["events"] if status == _TAKEN])
    workers.until(posted, within_seconds=_ACCEPTED_WITHIN_SECONDS)
    if accepted(redis_url) - known != posted:
        raise RuntimeError(f"{accepted(redis_url) - known:,} of {posted:,} calls were accepted")
    after = [one for one in seen["predict"] if one[0] > ended]
    usual = p99([one for one in seen["predict"] if one[0] < started])
    late = [moment + ms / 1000 - ended for moment, status, ms in after if status != 200 or ms > 2 * usual]
    return Flooded(
        offered=(flood.answered + flood.shed + flood.unsent) / flood.seconds,
        flood=flood,
        before={name: [one for one in found if one[0] < started] for name, found in seen.items()},
        during={name: [one for one in found if started + 1 < one[0] < ended] for name, found in seen.items()},
        recovered_seconds=_first_quiet(late),
        harmed=len([1 for moment, status, _ in seen["ready"] if moment > started and status != _OK])
        + len([1 for moment, status, _ in seen["events"] if moment > started and status != _TAKEN]),
        calls=posted,
    )


def _first_quiet(late: Sequence[float]) -> float:
    """The end of the last late answer that follows the one before it, or the flood, within a second."""
    end = 0.0
    for moment in late:
        if moment - end > 1.0:
            break
        end = moment
    return end
