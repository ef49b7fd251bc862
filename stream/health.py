"""The worker's own HTTP port: what Prometheus reads, and what an orchestrator asks.

    /metrics    Prometheus text
    /healthz    200 while the event loop turns and reading goes on; 503 asks for a restart
    /readyz     200 while it is decided where to read; 503 while the store, or a rebalance, is waited for

Answered by a thread of its own, which can say that the event loop stands still.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

# Longer than any step of the loop that is not a defect; long folds run in threads.
_STANDSTILL_SECONDS: Final = 30.0

_JSON: Final = "application/json"


@dataclass(slots=True)
class Health:
    """What is known of the process: written by the event loop, read by the threads that answer."""

    is_ready: Callable[[], bool]
    stalled: str = ""
    _beat: float = field(default_factory=time.monotonic)

    def beat(self) -> None:
        """The event loop has come by."""
        self._beat = time.monotonic()

    def unhealthy(self) -> str:
        """Why the process must be restarted, empty while it must not."""
        silent_seconds = time.monotonic() - self._beat
        if silent_seconds > _STANDSTILL_SECONDS:
            return f"the event loop has stood still for {silent_seconds:.0f} s"
        return self.stalled

    def unready(self) -> str:
        """Why nothing is read now, empty while it is."""
        return self.unhealthy() or ("" if self.is_ready() else "it is not yet decided where to read")


def serve(health: Health, registry: CollectorRegistry, *, host: str, port: int) -> ThreadingHTTPServer:
    """Answer in threads until the process ends, or the returned server is shut down."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/metrics" | "/":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                case "/healthz":
                    self._say(health.unhealthy())
                case "/readyz":
                    self._say(health.unready())
                case _:
                    self._answer(404, _JSON, orjson.dumps({"status": "error", "reason": "no such page"}))

        def _say(self, reason: str) -> None:
            said = {"status": "error", "reason": reason} if reason else {"status": "ok"}
            self._answer(503 if reason else 200, _JSON, orjson.dumps(said))

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Probes come every few seconds, and say nothing."""

    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server
