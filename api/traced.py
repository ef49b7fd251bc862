"""One span for each request, named by the template of its path; where no traces are wanted, it is not in the way."""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracing import TRACEPARENT, Traces

# Probes and scrapes come every few seconds, and say nothing.
_UNTRACED: Final = frozenset({"/healthz", "/readyz", "/metrics"})
_HEADER: Final = TRACEPARENT.encode()
_FAILED: Final = 500


class Traced:
    """Begins a trace with each request, or goes on with the one that its `traceparent` names; ends with the app."""

    def __init__(self, app: ASGIApp, *, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            try:
                await self._app(scope, receive, send)
            finally:
                await asyncio.to_thread(self._traces.close)
            return
        if scope["type"] != "http" or scope["path"] in _UNTRACED:
            await self._app(scope, receive, send)
            return
        parent = next((value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER), None)
        method = scope["method"]
        attributes = {"http.request.method": method, "url.path": scope["path"], "url.scheme": scope["scheme"]}
        span = self._traces.begin(method, kind="server", parent=parent, attributes=attributes)
        if span is None:
            await self._app(scope, receive, send)
            return
        status = _FAILED

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with span.timed():
            try:
                await self._app(scope, receive, watched)
            finally:
                route = getattr(scope.get("route"), "path_format", "unmatched")
                span.rename(f"{method} {route}")
                span.set({"http.route": route, "http.response.status_code": status})
                if status >= _FAILED:
                    span.fail(f"answered with {status}")
