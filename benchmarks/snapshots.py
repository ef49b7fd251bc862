"""A snapshot of 100,000 subjects and back: seconds, bytes, peak memory, and whether predictions are the same for all.

Each subject is a biller with three series that have learned four weeks (`benchmarks._population`). Into a folder, by
the commands themselves, each a process of its own: a whole snapshot, one after 1 % of the subjects have changed, one
after nothing has, and a check of every byte. Then Redis is emptied, and the last snapshot restored. What the API
answers of every series, and every byte in Redis, is compared with what it was before. `python -m benchmarks.snapshots
2000` does it with fewer subjects, and writes no results.
"""

import asyncio
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import redis
from rich.console import Console
from rich.progress import Progress

from benchmarks._population import HOUR, INTO_HOUR_MS, SERIES_OF_BILLER, Population, fill
from benchmarks._served import Served, until_it_answers
from benchmarks.context import ROOT, Context
from benchmarks.result import Result, Target
from detection.hours import HOUR_MS, SECOND_MS
from detection.subject_state import Arrivals
from detection.windows import CallWindow
from local.ports import free_port
from local.stack import PARTITIONS, Stack
from settings import Settings
from state.redis_export import RedisExport
from state.redis_store import RedisStore

BILLERS = 100_000
CHANGED = 0.01

_AT_ONCE = 1000
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command said, and what it took: seconds of the wall, of a core, and the most memory."""

    said: Mapping[str, Any]
    seconds: float
    cpu_seconds: float
    peak_mib: float


def run(context: Context) -> list[Result]:
    return measured(context, BILLERS)


def measured(context: Context, billers: int) -> list[Result]:
    """All of it, with so many billers."""
    with tempfile.TemporaryDirectory(prefix="tidemark-bench-") as name, Stack(Path(name) / "stack") as stack:
        folder = Path(name)
        environment = {
            **stack.environment(),
            "TIDEMARK_CLOCK": "events",
            "TIDEMARK_SNAPSHOT_URL": f"file://{folder}/snapshots",
        }
        url = stack.valkey.url
        population = Population(billers=billers, partitions=PARTITIONS, log_id=environment["TIDEMARK_KAFKA_LOG_ID"])
        with context.part(f"{billers:,} billers with four weeks behind them, into Redis"):
            fill(url, population)
        full = _command(context, environment, "create")
        with context.part("a call of every hundredth biller"):
            changed = asyncio.run(_change(url, population))
        some = _command(context, environment, "create")
        none = _command(context, environment, "create")
        verified = _command(context, environment, "verify")
        before = _content(context, environment, folder)
        redis.Redis.from_url(url).flushall()
        restored = _command(context, environment, "restore", "--force")
        after = _content(context, environment, folder)
        _require(
            (full.said["written"], some.said["written"], none.said["written"], restored.said["new"])
            == (billers, changed, 0, billers),
            "not what changed was written",
        )
        _require(before == after, "Redis or the API answers otherwise after the restore")
        alone = _alone(context, environment, url, population)
    return _results(billers, full, some, none, verified, restored, alone, answers=before[1])


def _results(
    billers: int, full: Ran, some: Ran, none: Ran, verified: Ran, restored: Ran, alone: Ran, *, answers: int
) -> list[Result]:
    of_all = f"{billers:,} subjects ({SERIES_OF_BILLER * billers:,} series)"
    named = {
        f"whole snapshot of {of_all}": full,
        f"snapshot after {CHANGED:.0%} of them have changed": some,
        "snapshot after nothing has changed": none,
        "check of every byte": verified,
        "restore into an empty Redis": restored,
        "restore of one subject": alone,
    }
    results = [Result(name=name, value=one.seconds, unit="s") for name, one in named.items()]
    results += [
        Result(name=f"{name}: of a core", value=one.cpu_seconds, unit="s of CPU") for name, one in named.items()
    ]
    results += [
        Result(name=f"{name}: most memory", value=one.peak_mib, unit="MiB", target=Target(at_most=500))
        for name, one in named.items()
    ]
    results += [
        Result(name=f"{name}: uploaded", value=float(one.said["uploaded_bytes"]) / _MIB, unit="MiB")
        for name, one in named.items()
        if "uploaded_bytes" in one.said
    ]
    bytes_of_one = full.said["uploaded_bytes"] / billers
    results.append(Result(name="snapshot bytes of one subject", value=bytes_of_one, unit="bytes"))
    results.append(
        Result(
            name="series of which the API answers the same after the restore, and every byte of Redis is the same",
            value=float(answers),
            unit="series",
            target=Target(at_least=float(SERIES_OF_BILLER * billers)),
        )
    )
    return results


def _command(context: Context, environment: Mapping[str, str], *arguments: str) -> Ran:
    """`tidemark snapshots ARGUMENTS --json`; RuntimeError where it fails."""
    command = [sys.executable, "-m", "cli.main", "snapshots", *arguments, "--json"]
    with context.part(f"snapshots {' '.join(arguments)}"), tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=said)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    _require(process.returncode == 0, f"{arguments} ended with {process.returncode}")
    ran = Ran(orjson.loads(text), seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
    context.say(f"{' '.join(arguments)}: {seconds:.1f} s, {ran.cpu_seconds:.1f} s of CPU, {ran.peak_mib:,.0f} MiB")
    return ran


async def _change(url: str, population: Population) -> int:
    """One more call of every hundredth biller, as a worker would count it; how many they were."""
    policy = Settings().policy()
    store = RedisStore.connect(url, policy, timeout_seconds=60)
    subjects = [population.subject(number) for number in range(0, population.billers, round(1 / CHANGED))]
    at_ms = HOUR * HOUR_MS + INTO_HOUR_MS + SECOND_MS
    call = CallWindow(calls=1, errors=0, timeouts=0, latency_us=200_000, latency_us2=200_000**2)
    try:
        for start in range(0, len(subjects), _AT_ONCE):
            states = await store.load(subjects[start : start + _AT_ONCE])
            for number, state in enumerate(states.values()):
                source = next(iter(state.offsets), f"{population.log_id}/calls/0")
                state.absorb(
                    Arrivals(
                        watermark_ms=at_ms,
                        accepted=1,
                        windows={HOUR: replace(call, bins={70: 1})},
                        minutes={at_ms // 60_000: replace(call, bins={})},
                        offsets={source: number + 1},
                    )
                )
            _require(not await store.save(list(states.values())), "somebody else wrote to Redis")
    finally:
        await store.aclose()
    return len(subjects)


def _content(context: Context, environment: Mapping[str, str], folder: Path) -> tuple[str, int, str]:
    """A hash of every answer of the API, how many there are, and a hash of all of Redis."""
    port = free_port()
    served = {**environment, "TIDEMARK_HTTP_PORT": str(port)}
    digest, count = hashlib.sha256(), 0
    with (
        context.part("what the API answers of every series"),
        Served(["-m", "cli.main", "api"], served, folder / "api.log", port, "/thresholds"),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client,
    ):
        until_it_answers(client, "/readyz")
        with client.stream("GET", "/thresholds", headers={"accept": "application/x-ndjson"}) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines():
                digest.update(line.encode())
                count += 1
    with context.part("every byte in Redis"):
        return digest.hexdigest(), count, asyncio.run(_bytes_of(environment["TIDEMARK_REDIS_URL"]))


async def _bytes_of(url: str) -> str:
    """A hash of every field of every subject, whatever the order in which Redis keeps them."""
    store = RedisStore.connect(url, Settings().policy(), timeout_seconds=60)
    digest, after = hashlib.sha256(), ""
    try:
        while page := await store.subjects(after=after, limit=_AT_ONCE):
            after = str(page[-1])
            for subject, parts in (await RedisExport(store.client).read(page)).items():
                digest.update(str(subject).encode())
                for part in sorted(parts):
                    digest.update(repr((part, sorted(parts[part].items()))).encode())
    finally:
        await store.aclose()
    return digest.hexdigest()


def _alone(context: Context, environment: Mapping[str, str], url: str, population: Population) -> Ran:
    """One subject, of which Redis has lost everything, from the whole snapshot."""
    subject = population.subject(population.billers // 2)
    client = redis.Redis.from_url(url)
    keys = list(client.scan_iter(f"tidemark:*{{{subject}}}*", count=10_000))
    client.delete(*keys)
    ran = _command(context, environment, "restore", "--force", "--subject", str(subject))
    _require(ran.said["new"] == 1, "the one subject was not restored")
    return ran


def _require(is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - the claim itself
    if not is_so:
        raise RuntimeError(otherwise)


if __name__ == "__main__":
    with Progress(console=Console()) as shown:
        for result in measured(Context(Console(), shown), int(sys.argv[1])):
            shown.console.print(f"{result.name}: {result.value:,.2f} {result.unit}")
