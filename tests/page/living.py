"""A whole Tidemark with half a thousand subjects in it: servers, a worker, an API, and events that went through all."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
from aiokafka import AIOKafkaProducer
from tenacity import Retrying, retry, retry_if_exception_type, retry_if_result, stop_after_delay, wait_fixed

from api.event_producer import ensure_topics, started_producer
from detection.hours import HOUR_MS, MINUTE_MS, parse_ms
from detection.simulation.events import is_call, simulate_events
from detection.simulation.scenario import Scenario
from local.ports import free_port
from local.stack import PARTITIONS, Stack
from settings import Settings
from tests.page.crowd import Crowd
from tests.page.schooling import school
from tests.worker import WorkerProcess

SEED: Final = 4
START_MS: Final = parse_ms("2026-03-02T00:00:00Z")
HOURS: Final = 56
# The last hour is open: its minutes alert.
END_MS: Final = START_MS + HOURS * HOUR_MS + 40 * MINUTE_MS
_READY_SECONDS: Final = 90
_ABSORBED_SECONDS: Final = 300

Messages = Iterator[tuple[str, bytes, bytes]]


@dataclass
class Living:
    """A running Tidemark: `url` is where its page is."""

    url: str
    stack: Stack
    folder: Path
    environment: dict[str, str]
    crowd: Crowd
    settings: Settings
    worker: WorkerProcess
    sent: int = field(default=0)

    def get(self, path: str, **params: Any) -> Any:
        """The JSON that the API answers."""
        answer = httpx.get(f"{self.url}{path}", params=params, trust_env=False, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def feed(self, messages: Messages) -> None:
        """Send them, and wait until the worker has taken what was in them."""
        # A thread of its own: a browser that is driven from this one has a running loop in it.
        with ThreadPoolExecutor(max_workers=1) as apart:
            apart.submit(asyncio.run, self._send(messages)).result()
        wait_until_absorbed(self)

    async def _send(self, messages: Messages) -> None:
        await ensure_topics(self.settings, ["calls", "observations"])
        producer, _ = await started_producer(self.settings.brokers(), linger_ms=20)
        try:
            self.sent += await _sent(producer, messages)
        finally:
            await producer.stop()


@contextmanager
def living(folder: Path, *, billers: int = 500, simulated: int = 6, models: int = 6) -> Iterator[Living]:
    """Everything started and fed; with no billers, simulated ones or models it knows nothing yet."""
    with Stack(folder / "stack") as stack:
        port = free_port()
        environment = {
            **stack.environment(),
            "TIDEMARK_CLOCK": "events",
            # What is summed up of cohorts is there when the tests begin.
            "TIDEMARK_COHORT_SECONDS": "10",
            "TIDEMARK_HTTP_PORT": str(port),
        }
        worker = WorkerProcess(environment, folder / "worker.log")
        api = WorkerProcess(environment, folder / "api.log", ["-m", "cli.main", "api"])
        with worker, api:
            crowd = Crowd(billers, START_MS // HOUR_MS, END_MS)
            settings = Settings(kafka_brokers=stack.broker.bootstrap, kafka_partitions=PARTITIONS, kafka_replicas=1)
            here = Living(f"http://127.0.0.1:{port}", stack, folder, environment, crowd, settings, worker)
            wait_until_ready(here.url)
            school(here.url, seed=SEED, billers=simulated, models=models, before_ms=START_MS)
            if billers or simulated or models:
                here.feed(recorded(crowd, simulated, models))
            yield here
            api.stop()
            worker.stop()


def recorded(crowd: Crowd, simulated: int, models: int) -> Messages:
    """What came until END_MS, hour after hour, as topic, key and value."""
    scenario = Scenario(
        seed=SEED, billers=simulated, models=models, start_ms=START_MS, hours=HOURS + 1, incidents=10, model_incidents=6
    )
    drawn = (event for event in simulate_events(scenario) if event["timestamp"] < END_MS)
    by_hour = groupby(drawn, key=lambda event: event["timestamp"] // HOUR_MS)
    for hour in range(START_MS // HOUR_MS, END_MS // HOUR_MS + 1):
        messages = list(_batches(dict(crowd.of_hour(hour)), minutes=5))
        if simulated or models:
            _, events = next(by_hour)
            busy: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
            for event in events:
                if is_call(event):
                    busy[event["biller_id"]].append(event)
                else:
                    key = f"{event['name']}/{event['version']}".encode()
                    messages.append((event["timestamp"], "observations", key, orjson.dumps(event)))
            messages += _batches(busy, minutes=1)
        # In the order of their times: who came an hour after the others would have been silent for an hour.
        for _, topic, key, value in sorted(messages, key=lambda message: message[0]):
            yield topic, key, value


def _batches(calls: Mapping[str, list[dict[str, Any]]], *, minutes: int) -> Iterator[tuple[int, str, bytes, bytes]]:
    """So many minutes of a biller are one message, sent when the last of them is over.

    Few for who calls often: silence is looked for by the minute.
    """
    for biller, events in calls.items():
        for part, some in groupby(events, key=lambda event: event["timestamp"] // (minutes * MINUTE_MS)):
            yield (part + 1) * minutes * MINUTE_MS, "calls", biller.encode(), orjson.dumps({"calls": list(some)})


async def _sent(producer: AIOKafkaProducer, messages: Messages) -> int:
    waiting: list[asyncio.Future[Any]] = []
    count = 0
    for topic, key, value in messages:
        waiting.append(await producer.send(topic, key=key, value=value))
        count += 1
        if len(waiting) >= 5_000:
            await asyncio.gather(*waiting)
            waiting.clear()
    await asyncio.gather(*waiting)
    return count


_until_it_answers: Final = retry(
    retry=retry_if_exception_type((httpx.HTTPError, AssertionError)),
    stop=stop_after_delay(_READY_SECONDS),
    wait=wait_fixed(0.2),
    reraise=True,
)


@_until_it_answers
def wait_until_ready(url: str) -> None:
    """Until the API reaches everything that it needs."""
    answer = httpx.get(f"{url}/readyz", trust_env=False, timeout=5)
    assert answer.status_code == httpx.codes.OK, answer.text


@_until_it_answers
def wait_until_serving(url: str) -> None:
    """Until the API answers, whatever it reaches."""
    assert httpx.get(f"{url}/healthz", trust_env=False, timeout=5).status_code == httpx.codes.OK


def wait_until_absorbed(here: Living) -> None:
    """Until the worker has read to the end, and the history has what it learned."""

    def missing() -> str:
        assert here.worker.status is None, here.worker.log()[-3000:]
        return _missing(here.get("/pipeline"))

    asking = Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_delay(_ABSORBED_SECONDS),
        wait=wait_fixed(0.5),
        retry_error_callback=lambda last: last.outcome.result() if last.outcome else "",
    )
    what = asking(missing)
    assert not what, what


def _missing(pipeline: dict[str, Any]) -> str:
    lags = [topic["lag"] for topic in pipeline["topics"] or [{"lag": None}]]
    if any(lags) or None in lags:
        return f"lag {lags}"
    if pipeline["history_pending"] != 0:
        return f"{pipeline['history_pending']} windows on their way to the history"
    return ""
