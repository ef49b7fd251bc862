"""What a worker loads before its first batch is all that its batches then need."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# In a process of its own: what other tests have called is loaded already.
STREAM = """
import asyncio
from numba.core import caching
from detection.hours import HOUR_MS
from detection.machine_code import load_machine_code
from detection.policy import Policy
from state.memory_store import MemoryStore
from stream.pipeline import Pipeline
from tests.unit.test_pipeline import POLICY, record

async def no_letters(letters):
    raise AssertionError(letters)

loads = []
load = caching.Cache.load_overload

def counted(self, *what):
    loads.append(self)
    return load(self, *what)

caching.Cache.load_overload = counted

async def stream():
    store = MemoryStore(POLICY)
    pipeline = Pipeline(store, POLICY, log_id="log", future_ms=0, send_dead_letters=no_letters)
    for hour in range(60):
        offsets = range(60 * hour, 60 * hour + 60)
        pipeline.absorb_calls("calls", 0, [record(offset, minutes=offset) for offset in offsets], None)
        await pipeline.flush()
        await pipeline.tick({"calls/0"})
    (state,) = (await store.load(await store.subjects())).values()
    assert state.forecasts["average-response-time"].status == "ready", state.forecasts

load_machine_code(Policy())
before = len(loads)
assert before
asyncio.run(stream())
print(before, len(loads) - before)
"""


def test_a_stream_loads_no_machine_code_that_was_not_loaded_before() -> None:
    done = subprocess.run([sys.executable, "-c", STREAM], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    before, later = map(int, done.stdout.split())
    assert before >= 3
    assert later == 0
