"""`tidemark simulate` delivers every event once, in order for each subject, wherever it is told to."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli import outlets
from cli.main import app
from cli.outlets import CALLS, OBSERVATIONS
from cli.simulating import at_speed, simulate
from detection.hours import HOUR_MS, parse_ms
from detection.simulation.events import Event, is_call, simulate_events
from detection.simulation.scenario import Scenario
from local.broker import Broker
from local.ports import free_port
from settings import Settings
from tests.integration.test_replay import consumed

START = "2026-03-02T08:00:00Z"
SCENARIO = Scenario(seed=4, billers=3, models=2, start_ms=parse_ms(START), hours=2, incidents=2, model_incidents=2)
OPTIONS = ("--seed", "4", "--billers", "3", "--models", "2", "--start", START, "--hours", "2", "--incidents", "2")


def run(*options: str) -> Result:
    return CliRunner().invoke(app, ["simulate", *options])


@contextmanager
def running(broker: Broker) -> Iterator[Broker]:
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def lines(output: bytes) -> list[Event]:
    return [json.loads(line) for line in output.splitlines()]


def test_standard_output_has_the_events_and_nothing_else(tmp_path: Path) -> None:
    done = run(*OPTIONS, "--to", "-", "--labels", str(tmp_path / "incidents.json"), "--json")
    assert done.exit_code == 0, done.output
    expected = list(simulate_events(SCENARIO))
    assert lines(done.stdout_bytes) == expected
    summary = json.loads(done.stderr)
    assert (summary["calls"], summary["observations"]) == (sum(map(is_call, expected)), 2 * 120)
    assert (summary["first_event_ms"], summary["last_event_ms"]) == (
        expected[0]["timestamp"],
        expected[-1]["timestamp"],
    )
    assert run(*OPTIONS, "--to", "-").stdout_bytes == done.stdout_bytes


@pytest.mark.parametrize("name", ["incidents.json", "incidents.ndjson"])
def test_the_labels_are_written_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    away = f"http://127.0.0.1:{free_port()}"
    done = run(*OPTIONS, "--url", away, "--labels", str(file))
    assert done.exit_code == 3
    assert away in done.stderr
    text = file.read_text()
    found: list[dict[str, Any]] = json.loads(text) if name.endswith(".json") else lines(text.encode())
    assert Counter(one["subjects"][0].split(":")[0] for one in found) == {"biller": 2, "model": 2}
    for one in found:
        assert set(one) == {"kind", "subjects", "metrics", "strength", "start", "end", "start_ms", "end_ms"}
        assert SCENARIO.start_ms <= parse_ms(one["start"]) == one["start_ms"] < one["end_ms"] <= SCENARIO.end_ms
        assert parse_ms(one["end"]) == one["end_ms"]


async def test_every_event_arrives_once_in_its_topic_and_in_order_for_its_subject(tmp_path: Path) -> None:
    # A broker of its own: others read the topics of the shared one from their beginning.
    with running(Broker(tmp_path)) as broker:
        done = await asyncio.to_thread(run, *OPTIONS, "--to", "kafka", "--brokers", broker.bootstrap, "--json")
        assert done.exit_code == 0, done.output
        summary = json.loads(done.stdout)
        settings = Settings(kafka_brokers=broker.bootstrap)
        arrived = {topic: await consumed(settings, topic, count=summary[topic]) for topic in (CALLS, OBSERVATIONS)}
    for topic, by_partition in arrived.items():
        found: defaultdict[bytes, list[Event]] = defaultdict(list)
        for pairs in by_partition.values():
            for key, value in pairs:
                found[key].append(json.loads(value))
        wanted: defaultdict[bytes, list[Event]] = defaultdict(list)
        for event in simulate_events(SCENARIO):
            if is_call(event) == (topic == CALLS):
                subject = event["biller_id"] if is_call(event) else f"{event['name']}/{event['version']}"
                wanted[subject.encode()].append(event)
        assert found == wanted


class _Api(BaseHTTPRequestHandler):
    """Takes events as the API does, or refuses all of them."""

    status = 202
    taken: list[tuple[str, Event]]
    requests: list[int]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert self.headers["content-type"] == "application/x-ndjson"
        events = lines(body)
        self.taken += [(self.path, event) for event in events]
        self.requests.append(len(events))
        self.send_response(self.status)
        answer = b'{"detail": "the broker is away"}'
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def served(status: int) -> tuple[HTTPServer, type[_Api]]:
    handler = type("Handler", (_Api,), {"status": status, "taken": [], "requests": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, handler


def test_the_api_is_given_every_event_in_requests_of_one_kind() -> None:
    server, handler = served(202)
    try:
        done = run(*OPTIONS, "--url", f"http://127.0.0.1:{server.server_port}", "--json")
    finally:
        server.shutdown()
        server.server_close()
    assert done.exit_code == 0, done.output
    assert max(handler.requests) < len(handler.taken) / 2
    expected = list(simulate_events(SCENARIO))
    for path, of_kind in (("/events/calls", True), ("/events/observations", False)):
        assert [event for at, event in handler.taken if at == path] == [
            event for event in expected if is_call(event) == of_kind
        ]


def test_an_api_that_refuses_ends_the_run_with_its_own_words() -> None:
    server, _ = served(503)
    try:
        done = run(*OPTIONS, "--url", f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert done.exit_code == 3
    assert "the broker is away" in done.stderr


def test_a_broker_that_is_away_ends_with_exit_code_3() -> None:
    done = run(*OPTIONS, "--to", "kafka", "--brokers", f"127.0.0.1:{free_port()}")
    assert done.exit_code == 3
    assert "Kafka" in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--start", "yesterday"),
        ("--start", "2026-03-02T08:30:00Z"),
        ("--hours", "0"),
        ("--billers", "1", "--models", "0", "--incidents", "500"),
        ("--live", "--speed", "60"),
        ("--live", "--start", START),
        ("--speed", "0"),
        ("--to", "a-pigeon"),
        ("--labels", "/nowhere/incidents.json"),
    ],
)
def test_what_cannot_be_simulated_is_refused_before_anything_is_sent(options: tuple[str, ...]) -> None:
    done = run("--to", "-", *options)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


async def test_a_speed_keeps_the_pace_of_event_time(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    begun = time.monotonic()
    # Two hours of event time at 4000 times their pace, less the wait for the first event.
    async with outlets.stdout() as outlet:
        done = await simulate(simulate_events(SCENARIO), outlet, pace=at_speed(4000, SCENARIO.start_ms))
    assert 1.6 < time.monotonic() - begun < 20
    assert done.events == len(capfdbinary.readouterr().out.splitlines())


def test_a_run_stops_by_itself_after_the_seconds_it_was_given() -> None:
    begun = time.monotonic()
    done = run(*OPTIONS, "--to", "-", "--speed", "1", "--for", "0.5", "--json")
    assert done.exit_code == 0
    assert time.monotonic() - begun < 20
    assert json.loads(done.stderr)["calls"] < sum(map(is_call, simulate_events(SCENARIO)))


def test_live_goes_on_from_now_until_it_is_interrupted(tmp_path: Path) -> None:
    begun_ms = time.time_ns() // 1_000_000
    command = [sys.executable, "-m", "cli.main", "simulate", "--live", "--to", "-", "--billers", "30", "--json"]
    labels = tmp_path / "incidents.json"
    command += ["--labels", str(labels)]
    # Unbuffered: `communicate` knows nothing of what was read ahead.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as live:
        try:
            assert live.stdout is not None
            seen = [json.loads(live.stdout.readline()) for _ in range(20)]
            live.send_signal(signal.SIGINT)
            rest, told = live.communicate(timeout=30)
        finally:
            live.kill()
    ended_ms = time.time_ns() // 1_000_000
    assert live.returncode == 0, told
    assert all(begun_ms <= event["timestamp"] <= ended_ms for event in (*seen, *lines(rest)))
    summary = json.loads(told)
    assert summary["calls"] + summary["observations"] == 20 + len(lines(rest))
    assert len(json.loads(labels.read_text())) == 6


def test_live_begins_with_the_hours_before_now_when_they_are_asked_for() -> None:
    now_ms = time.time_ns() // 1_000_000
    done = run("--live", "--hours", "2", "--billers", "2", "--models", "1", "--to", "-", "--for", "0.2", "--json")
    assert done.exit_code == 0, done.output
    first = lines(done.stdout_bytes)[0]["timestamp"]
    assert now_ms - 3 * HOUR_MS - 60_000 <= first <= now_ms - 2 * HOUR_MS + 60_000
