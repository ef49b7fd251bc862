"""The composition root of the API: settings in, a FastAPI app out. Nothing is connected before the app starts."""

import gc
import ipaddress
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

import httpx
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import logs
import metrics
import tracing
from api import (
    alerts,
    calendars,
    coverage,
    credentials,
    docs,
    events,
    exclusions,
    health,
    history,
    openapi,
    overview,
    page,
    pipeline,
    predict,
    problems,
    rehearsing,
    rules,
    stats,
    thresholds,
    train,
)
from api.compression import Compressed
from api.connections import Connect, connected
from api.kept import Kept
from api.shedding import Shedding
from api.traced import Traced
from detection.errors import SettingsError
from detection.machine_code import load_reading_code
from metrics import Instruments
from settings import Settings

_ABOUT = """
Tidemark watches the APIs that a payments platform calls. For every biller and every metric it learns from the stream of
calls, and always has an answer to one question: what is the highest value that is still normal in the next hour?

Every error is an `application/problem+json` document (RFC 9457) whose `type` never changes its meaning.
"""


def create_app(settings: Settings, *, connect: Connect = connected) -> FastAPI:
    """The app; what `connect` gives is open from the app's start to its end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with connect(settings) as connections, httpx.AsyncClient() as provider:
            app.state.connections = connections
            app.state.admit = credentials.gate_of(connections, client=provider)
            try:
                yield
            finally:
                await app.state.looking.counting.aclose()

    app = FastAPI(
        title="Tidemark",
        version=_version(),
        description=_ABOUT,
        lifespan=lifespan,
        # The framework's own pages take their scripts from the internet.
        docs_url=None,
        redoc_url=None,
        # An address without the last part of its path would be sent on to the same one with an empty part.
        redirect_slashes=False,
        # Requests are traced and counted below; the framework would look with each of them whether it is to do so too.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.registry = CollectorRegistry()
    app.state.instruments = metrics.instruments(app.state.registry)
    app.state.series_count = health.SeriesCount()
    app.state.overviews = Kept[overview.Page](overview.KEPT_SECONDS)
    app.state.looking = pipeline.Looking()
    for room in (
        predict,
        thresholds,
        rules,
        rehearsing,
        alerts,
        stats,
        history,
        coverage,
        train,
        exclusions,
        calendars,
        events,
        health,
        overview,
        pipeline,
        page,
        docs,
    ):
        # The routes themselves: each router in the app would be gone through twice with every request. A dependency of
        # the app would not reach them, and need not: GuardedRoute is what asks who may.
        app.router.routes.extend(room.router.routes)
    page.install(app)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(Compressed)
    app.add_middleware(_Counted, instruments=app.state.instruments)
    traces = tracing.connect(settings, "api")
    if traces is not None:
        app.add_middleware(Traced, traces=traces)
    # Around all others, so that what is refused costs next to nothing.
    app.add_middleware(
        Shedding,
        refused=app.state.instruments.shed_requests,
        most=settings.requests_at_once,
        longest_turn_ms=settings.longest_turn_ms,
    )
    return app


def serve(settings: Settings) -> None:
    """Serve until stopped; raises SettingsError for an address that others can reach, unless it was asked for."""
    refuse_unprotected(settings)
    logs.configure(settings)
    app = create_app(settings)
    threading.Thread(target=load_reading_code, name="machine-code", daemon=True).start()
    # What was imported lives as long as the process. Looking through all of it for garbage again and again would stop
    # every request that is under way for a tenth of a second.
    gc.collect()
    gc.freeze()
    # What is made for a request has hardly any cycles: a hundred times fewer looks for them are enough.
    gc.set_threshold(70_000, 20, 50)
    uvicorn.run(
        app,
        host=settings.http_host,
        port=settings.http_port,
        log_config=None,
        access_log=False,
        server_header=False,
    )


def refuse_unprotected(settings: Settings) -> None:
    """Raise SettingsError where requests of others would be answered without asking who they are."""
    if settings.auth == "on" or settings.insecure or _is_loopback(settings.http_host):
        return
    raise SettingsError(
        f"TIDEMARK_HTTP_HOST is {settings.http_host!r}, which others can reach, and requests are not authenticated: "
        "set TIDEMARK_AUTH=on and make a key with `tidemark keys create`, or listen on 127.0.0.1 behind a proxy that "
        "authenticates, or set TIDEMARK_INSECURE=true"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _version() -> str:
    try:
        return version("tidemark")
    except PackageNotFoundError:
        return "0"


class _Counted:
    """Counts and times each request by the template of its path, until the last byte of its answer was handed over."""

    def __init__(self, app: ASGIApp, *, instruments: Instruments) -> None:
        self._app = app
        self._requests = instruments.http_requests
        self._seconds = instruments.http_request_seconds
        # Looking an instrument up by its labels costs more than counting with it; routes, methods and statuses are few.
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        started = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path_format", "unmatched")
            requests, seconds = self._of(route, scope["method"], status)
            requests.inc()
            seconds.observe(time.perf_counter() - started)

    def _of(self, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
        found = self._children.get((route, method, status))
        if found is None:
            found = self._requests.labels(route, method, str(status)), self._seconds.labels(route)
            self._children[route, method, status] = found
        return found
