"""What a worker or the API loads at its start is all that its work then needs."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# In a process of its own: what other tests have called is loaded already.
STREAM = """
import asyncio
from numba.core import caching
from detection.hours import HOUR_MS
from detection.machine_code import load_streaming_code
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

load_streaming_code(Policy())
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


READING = """
import asyncio
from numba.core import caching
from api.ready import Now
from api.threshold_lines import lines_of
from detection.cohorts import Cohorts
from detection.kernel.reply_text import TEXT
from detection.machine_code import load_reading_code
from state.memory_store import MemoryStore
from state.redis_answers import _FIELDS
from state.replies import Replies
from tests.contract.states import POLICY, biller

loads = []
load = caching.Cache.load_overload

def counted(self, *what):
    loads.append(self)
    return load(self, *what)

async def read():
    store = MemoryStore(POLICY)
    state = biller(hours=100)
    await store.save([state])
    load_reading_code()
    caching.Cache.load_overload = counted
    texts = await store.as_stored([state.subject])
    assert lines_of(texts, 0, 1, Now(state.watermark_ms, Cohorts())).count(b"\\n") == 3
    replies = Replies(1)
    replies.take(b"$2\\r\\n{}\\r\\n")
    assert replies.joined(_FIELDS).kind.tolist() == [TEXT]

asyncio.run(read())
print(len(loads))
"""


def test_the_api_reads_thresholds_with_the_machine_code_that_it_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", READING], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 0
