"""What the worker answers on its own port."""

import urllib.error
import urllib.request
from collections.abc import Iterator

import orjson
import pytest
from prometheus_client import CollectorRegistry, Gauge

from stream import health
from stream.health import Health


class Port:
    """A served health, asked over HTTP."""

    def __init__(self) -> None:
        self.is_ready = True
        self.health = Health(is_ready=lambda: self.is_ready)
        registry = CollectorRegistry()
        Gauge("tidemark_anything", "Anything.", registry=registry).set(3)
        self.server = health.serve(self.health, registry, host="127.0.0.1", port=0)

    def ask(self, path: str) -> tuple[int, str]:
        url = f"http://127.0.0.1:{self.server.server_address[1]}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def port() -> Iterator[Port]:
    port = Port()
    yield port
    port.server.shutdown()
    port.server.server_close()


def test_metrics_are_prometheus_text(port: Port) -> None:
    status, text = port.ask("/metrics")
    assert status == 200
    assert "tidemark_anything 3.0" in text


def test_a_worker_that_waits_for_its_place_is_healthy_and_not_ready(port: Port) -> None:
    port.is_ready = False
    assert port.ask("/healthz") == (200, '{"status":"ok"}')
    status, text = port.ask("/readyz")
    assert status == 503
    assert "where to read" in orjson.loads(text)["reason"]
    port.is_ready = True
    assert port.ask("/readyz")[0] == 200


def test_a_stalled_worker_is_neither(port: Port) -> None:
    port.health.stalled = "nothing was read for 61 s"
    assert orjson.loads(port.ask("/healthz")[1]) == {"status": "error", "reason": "nothing was read for 61 s"}
    assert port.ask("/readyz")[0] == 503


def test_an_event_loop_that_stands_still_is_unhealthy(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_STANDSTILL_SECONDS", -1.0)
    status, text = port.ask("/healthz")
    assert status == 503
    assert "event loop" in text
    monkeypatch.setattr(health, "_STANDSTILL_SECONDS", 30.0)
    port.health.beat()
    assert port.ask("/healthz")[0] == 200


def test_another_page_is_not_there(port: Port) -> None:
    assert port.ask("/nothing")[0] == 404
