"""Requests per second of `POST /metrics/predict/1/{biller}`, its latency at half of them, and what twice as many do.

Beside it, in turns in the same run, with the same load generator, the same Redis and the same uvicorn settings: an
empty FastAPI route that does one HGET. One server process each, on a core of its own; each request of both names an API
key, which both look up with the same code. `python -m benchmarks.predict --ten-minutes` is at half load for so long,
and writes its results; without it, for half a minute.

Half of what a server can answer is found anew every minute: where machines are shared, what it could answer ten minutes
ago may be more than it can now. Each minute the empty route is at half of its own load for a while too.
"""

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import httpx
import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks._flood import FLOOD_SECONDS, Flooded, flooded, p99
from benchmarks._live_billers import fill
from benchmarks._load import Load, Measured
from benchmarks._served import Served, Taken, beside_the_server, until_it_answers
from benchmarks._workers import Workers
from benchmarks.context import Context
from benchmarks.result import Result, Target
from local.ports import free_port
from local.stack import Stack
from settings import Settings
from state.api_keys import new_key
from state.redis_api_keys import RedisApiKeys
from state.redis_store import RedisStore

BILLERS = 1_000
PREDICT = "/metrics/predict/1/{}"
HGET = "/hget/{}"
HALF_LOAD_SECONDS = 30.0
TEN_MINUTES = 600.0

_CONNECTIONS = 32
_ROUNDS = 5
_ROUND_SECONDS = 2.0
_MINUTE_SECONDS = 60.0
_REFERENCE_SHARE = 1 / 6
# What a process may grow by and still be called flat: what Python's allocator keeps of its pages moves that much.
_FLAT_MIB = 5
_EMPTY_ROUTE = "an empty FastAPI route with one HGET"


def run(context: Context) -> list[Result]:
    return measured(context, half_load_seconds=HALF_LOAD_SECONDS)


def measured(context: Context, *, half_load_seconds: float) -> list[Result]:
    """All of it, with so many seconds at half load."""
    with (
        tempfile.TemporaryDirectory(prefix="tidemark-bench-") as name,
        beside_the_server(),
        Stack(Path(name) / "stack") as stack,
        ExitStack() as open_servers,
    ):
        folder, url = Path(name), stack.valkey.url
        with context.part(f"the hours of {BILLERS:,} billers, into Redis"):
            asyncio.run(fill(url, BILLERS))
            key = asyncio.run(_key(url))
        environment = {**stack.environment(), "TIDEMARK_AUTH": "on"}
        ours, theirs = _servers(environment, folder)
        open_servers.enter_context(ours)
        open_servers.enter_context(theirs)
        _check(ours, theirs, key)
        rounds = _in_turns(context, ours, theirs, key)
        half, empty = _half_load(context, ours, theirs, half_load_seconds, key)
        with context.part("twice as much as it can answer"), Workers(stack.environment(), folder) as workers:
            rate = _load_of(ours, key).per_second
            flood = flooded(ours, workers, rate=2 * rate, billers=BILLERS, key=key, redis_url=url)
    return [
        *_saturated(*rounds),
        *_at_half_load(half, empty, half_load_seconds),
        *_flooded(flood, rate),
    ]


def _servers(environment: dict[str, str], folder: Path) -> tuple[Served, Served]:
    port, empty_port = free_port(), free_port()
    ours = Served(
        ["-m", "cli.main", "api"],
        {**environment, "TIDEMARK_HTTP_PORT": str(port)},
        folder / "api.log",
        port,
        PREDICT,
    )
    empty = ["-m", "benchmarks._hget_route", str(empty_port)]
    return ours, Served(empty, environment, folder / "hget.log", empty_port, HGET)


Round = tuple[Measured, Taken]


def _in_turns(context: Context, ours: Served, theirs: Served, key: str) -> tuple[list[Round], list[Round]]:
    """Several rounds of each, so that what else the machine does falls on both alike."""
    found: tuple[list[Round], list[Round]] = ([], [])
    for server in (ours, theirs):
        server.observed(_load(server, 1.0, key))
    for number in range(1, _ROUNDS + 1):
        with context.part(f"round {number} of {_ROUNDS}"):
            for server, rounds in zip((ours, theirs), found, strict=True):
                rounds.append(server.observed(_load(server, _ROUND_SECONDS, key)))
    return found


def _half_load(
    context: Context, ours: Served, theirs: Served, seconds: float, key: str
) -> tuple[list[Round], list[Round]]:
    """Minute by minute; the empty route for a sixth of the time."""
    found: tuple[list[Round], list[Round]] = ([], [])
    minutes = max(round(seconds / _MINUTE_SECONDS), 1)
    for number in range(1, minutes + 1):
        with context.part(f"half load, part {number} of {minutes}"):
            for server, rounds, share in zip((ours, theirs), found, (1.0, _REFERENCE_SHARE), strict=True):
                rate = _load_of(server, key).per_second / 2
                rounds.append(server.observed(_load(server, share * seconds / minutes, key, rate=rate)))
    return found


def _load_of(server: Served, key: str) -> Measured:
    """What it can answer now."""
    return server.observed(_load(server, _ROUND_SECONDS, key))[0]


def _load(server: Served, seconds: float, key: str, *, rate: float = 0.0) -> Load:
    return Load(
        port=server.port,
        path=server.path,
        billers=BILLERS,
        seconds=seconds,
        connections=_CONNECTIONS,
        rate=rate,
        key=key,
        # So that what else the machine does spoils no run: refused ones are not among the answered, and are told.
        may_shed=True,
    )


def _saturated(ours: Sequence[Round], theirs: Sequence[Round]) -> list[Result]:
    def per_second(rounds: Sequence[Round]) -> float:
        return median(one.per_second for one, _ in rounds)

    def microseconds(rounds: Sequence[Round]) -> float:
        return median(1e6 * taken.cpu_seconds / one.answered for one, taken in rounds)

    return [
        Result(
            name=f"predict, {BILLERS:,} billers, {_CONNECTIONS} connections, with API keys",
            value=per_second(ours),
            unit="requests/s",
            reference=_EMPTY_ROUTE,
            reference_value=per_second(theirs),
            target=Target(ratio_at_least=0.8),
        ),
        Result(
            name="processor time of a prediction",
            value=microseconds(ours),
            unit="us",
            reference=_EMPTY_ROUTE,
            reference_value=microseconds(theirs),
        ),
    ]


def _at_half_load(half: Sequence[Round], empty: Sequence[Round], seconds: float) -> list[Result]:
    ours, theirs = ([ms for one, _ in rounds for ms in one.latencies_ms] for rounds in (half, empty))
    refused = sum(one.shed for one, _ in half)
    taken = Taken(0.0, [mib for _, one in half for mib in one.memory_mib])
    reference = "the empty route at half of its own load, in the same minutes"
    rates = [one.per_second for one, _ in half]
    return [
        Result(
            name=f"predict at half load for {seconds:.0f} s, 99th percentile",
            value=float(np.percentile(ours, 99)),
            unit="ms",
            reference=reference,
            reference_value=float(np.percentile(theirs, 99)),
            target=Target(at_most=5),
        ),
        Result(
            name="the same of the median minute",
            value=median(one.p99_ms for one, _ in half),
            unit="ms",
            reference=reference,
            reference_value=median(one.p99_ms for one, _ in empty),
        ),
        Result(
            name=f"predict at half load, median, at {min(rates):,.0f} to {max(rates):,.0f} requests/s",
            value=float(np.percentile(ours, 50)),
            unit="ms",
            reference=reference,
            reference_value=float(np.percentile(theirs, 50)),
        ),
        Result(
            name=f"predict at half load, refused of {len(ours) + refused:,} requests",
            value=float(refused),
            unit="requests",
            target=Target(at_most=0),
        ),
        Result(
            name="predict at half load, growth of memory after the first third",
            value=taken.growth_mib,
            unit="MiB",
            target=Target(at_most=_FLAT_MIB),
        ),
    ]


def _flooded(flood: Flooded, rate: float) -> list[Result]:
    before, during = flood.before, flood.during
    return [
        Result(
            name=f"answered while {flood.offered / rate:.1f} times as much was due for {FLOOD_SECONDS} s",
            value=flood.flood.per_second,
            unit="requests/s",
            reference="what it answers at most",
            reference_value=rate,
        ),
        Result(
            name="of what was answered then, refused with 503 and Retry-After",
            value=100 * flood.shed_share,
            unit="%",
            target=Target(at_least=1),
        ),
        Result(name="predictions that were let in then, 99th percentile", value=flood.flood.p99_ms, unit="ms"),
        Result(
            name="/readyz then, 99th percentile",
            value=p99(during["ready"]),
            unit="ms",
            reference="before",
            reference_value=p99(before["ready"]),
            target=Target(at_most=1000),
        ),
        Result(
            name=f"POST /events/calls then, 99th percentile; all {flood.calls:,} calls were learned once",
            value=p99(during["events"]),
            unit="ms",
            reference="before",
            reference_value=p99(before["events"]),
            target=Target(at_most=1000),
        ),
        Result(
            name="of /readyz and POST /events/calls, from the flood on, not answered with 200 and 202",
            value=float(flood.harmed),
            unit="requests",
            target=Target(at_most=0),
        ),
        Result(
            name="until predictions were answered as before",
            value=flood.recovered_seconds,
            unit="s",
            target=Target(at_most=5),
        ),
    ]


async def _key(url: str) -> str:
    """An API key that may ask and send events."""
    store = RedisStore.connect(url, Settings().policy())
    kept, text = new_key("benchmark", ["read", "ingest"], now_ms=0)
    await RedisApiKeys(store.client).keep(kept)
    await store.aclose()
    return text


def _check(ours: Served, theirs: Served, key: str) -> None:
    """Wait for both; both must answer the same threshold, of a model that is ready, and nobody without a key."""
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client() as client:
        urls = [f"http://127.0.0.1:{server.port}{server.path.format('B000007')}" for server in (ours, theirs)]
        for url in urls:
            until_it_answers(client, url)
        found, empty = (client.post(url, headers=headers) for url in urls)
        refused = client.post(urls[0])
    answer = found.raise_for_status().json()
    if answer["status"] != "ready" or answer["threshold"] != float(empty.raise_for_status().text):
        raise RuntimeError(f"not what is to be measured: {found.text} beside {empty.text}")
    if refused.status_code != httpx.codes.UNAUTHORIZED:
        raise RuntimeError(f"an API that lets everybody in: {refused.status_code}")


def main() -> None:
    """The long form, written like the short one."""
    from benchmarks.__main__ import table, write

    console = Console()
    with Progress(console=console) as progress:
        results = measured(Context(console=console, progress=progress), half_load_seconds=TEN_MINUTES)
    console.print(table("predict", results))
    console.print(f"written to benchmarks/results/{write('predict', results).name}")


if __name__ == "__main__":
    if sys.argv[1:] != ["--ten-minutes"]:
        sys.exit("python -m benchmarks predict takes two minutes; python -m benchmarks.predict --ten-minutes twelve")
    main()
