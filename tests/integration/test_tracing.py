"""Traces reach a collector: of a request, and of its events through a real worker, from their fetch to the commit."""

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from local.ports import free_port
from local.stack import Stack
from tests.collector import Collector, Seen
from tests.worker import WorkerProcess, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

FIRST_HOUR_MS = 490_000 * 3_600_000
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"
# The parts of a write that closes an hour, in the order in which they begin.
STEPS = ["batch", "load", "aggregate", "close", "judge", "write", "progress", "commit"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One for this file: its workers read whole topics."""
    with Stack(tmp_path_factory.mktemp("traced")) as running:
        yield running


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def environment(stack: Stack, collector: Collector) -> dict[str, str]:
    return {
        **stack.environment(),
        "TIDEMARK_CLOCK": "events",
        "TIDEMARK_FLUSH_SECONDS": "0.2",
        "TIDEMARK_OTLP_ENDPOINT": collector.url,
        # How long spans wait for company, in ms; by default five seconds.
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }


@pytest.fixture
async def client(environment: Mapping[str, str], tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Of an API process."""
    port = free_port()
    told = {**environment, "TIDEMARK_HTTP_PORT": str(port)}
    with WorkerProcess(told, tmp_path / "api.log", command=("-m", "cli.main", "api")) as api:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

            async def unready() -> str:
                assert api.status is None, api.log()
                try:
                    return "" if (await client.get("/readyz")).status_code == 200 else "not ready"
                except httpx.TransportError as error:
                    return repr(error)

            await eventually(unready, within_seconds=120)
            yield client
        assert api.stop() in {0, -15}, api.log()


def calls(biller: str, *hours: int) -> list[dict[str, object]]:
    return [
        {"biller_id": biller, "timestamp": FIRST_HOUR_MS + hour * 3_600_000, "latency_ms": 20.0, "outcome": "ok"}
        for hour in hours
    ]


def writes(collector: Collector) -> list[Seen]:
    return [one for one in collector.roots() if one.name == "ingest"]


async def test_one_trace_follows_a_batch_from_its_fetch_to_the_commit(
    stack: Stack, environment: Mapping[str, str], collector: Collector, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    answer = await client.post("/events/calls", json=calls("B1", 0, 2, 2), headers={"traceparent": CALLER})
    assert answer.status_code == 202
    with WorkerProcess(environment, tmp_path / "worker.log") as worker:

        async def missing() -> str:
            assert worker.status is None, worker.log()
            return "" if any(one.all("commit") for one in writes(collector)) else "no trace of a write is complete"

        await eventually(missing, within_seconds=120)
        async with AIOKafkaProducer(bootstrap_servers=stack.broker.bootstrap, enable_idempotence=False) as producer:
            await producer.send_and_wait("calls", b"no call", key=b"B1")

        async def unrefused() -> str:
            refused = [one for one in writes(collector) if one.all("commit") and one.attributes["tidemark.dead"]]
            return "" if refused else "no trace of a refused record"

        await eventually(unrefused, within_seconds=120)
        assert worker.stop() == 0, worker.log()

    write, refusing = writes(collector)
    assert write.service == "tidemark-worker"
    assert [part.name for part in write.parts] == STEPS
    assert write.attributes == {
        "tidemark.batches": 1,
        "tidemark.events": 3,
        "tidemark.accepted": 3,
        "tidemark.late": 0,
        "tidemark.replayed": 0,
        "tidemark.dead": 0,
        "tidemark.subjects": 1,
        "tidemark.closed_windows": 1,
        "tidemark.learned_windows": 1,
        "tidemark.conflicts": 0,
    }
    [batch] = write.all("batch")
    assert batch.shape() == {"read": {}, "absorb": {"decode": {}}}
    assert batch.attributes["messaging.destination.name"] == "calls"
    assert batch.attributes["messaging.batch.message_count"] == 3
    assert batch.attributes["tidemark.last_offset"] == 2
    assert batch.attributes["tidemark.taken"] == 3
    for part in write.parts:
        assert write.sent.start_time_unix_nano <= part.sent.start_time_unix_nano <= part.sent.end_time_unix_nano
        assert part.sent.end_time_unix_nano <= write.sent.end_time_unix_nano
    assert [part.name for part in refusing.parts] == ["batch", "dead-letters", "progress", "commit"]
    assert refusing.attributes["tidemark.dead"] == 1

    [request] = [one for one in collector.roots() if one.service == "tidemark-api"]
    assert (request.name, request.trace_id) == ("POST /events/calls", TRACE)
    assert request.attributes["http.response.status_code"] == 202
    [produced] = request.parts
    assert produced.name == "produce"
    # Where the events come from is a link: a batch has many senders.
    assert batch.links == [(TRACE, produced.sent.span_id.hex())]


async def test_a_request_whose_sender_wants_no_trace_has_none_and_probes_never_have(
    collector: Collector, client: httpx.AsyncClient
) -> None:
    assert (await client.get("/thresholds", headers={"traceparent": f"{CALLER[:-2]}00"})).status_code == 200
    assert (await client.get("/healthz")).status_code == 200
    assert (await client.get("/nowhere", headers={"traceparent": "nonsense"})).status_code == 404

    async def missing() -> str:
        return "" if collector.roots() else "no span has arrived"

    await eventually(missing, within_seconds=30)
    [span] = collector.roots()
    assert span.name == "GET unmatched"
    assert span.attributes["http.response.status_code"] == 404


async def test_a_worker_whose_collector_is_away_writes_and_stops_as_ever(
    stack: Stack, environment: Mapping[str, str], tmp_path: Path
) -> None:
    told = {**environment, "TIDEMARK_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    port = free_port()
    told["TIDEMARK_WORKER_HTTP_PORT"] = str(port)
    async with AIOKafkaProducer(bootstrap_servers=stack.broker.bootstrap, enable_idempotence=False) as producer:
        await producer.send_and_wait(
            "calls", b'{"biller_id":"B2","timestamp":%d,"latency_ms":1,"outcome":"ok"}' % FIRST_HOUR_MS
        )
    with WorkerProcess(told, tmp_path / "worker.log") as worker:

        async def unwritten() -> str:
            assert worker.status is None, worker.log()
            try:
                async with httpx.AsyncClient() as client:
                    text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            except httpx.TransportError as error:
                return repr(error)
            return "" if 'tidemark_events_total{result="accepted",topic="calls"}' in text else "nothing is written"

        await eventually(unwritten, within_seconds=120)
        assert worker.stop() == 0, worker.log()
