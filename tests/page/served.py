"""The API over memory, behind a real port: for what a browser must see of data that no servers are needed for."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import uvicorn
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.memory_api import MemoryApi, memory_api

Fill = Callable[[MemoryApi], Awaitable[None]]


@contextmanager
def served(fill: Fill | None = None, **settings: object) -> Iterator[str]:
    """Its address, once it answers; `fill` puts something into the memory first."""
    started = threading.Event()
    addresses: list[str] = []
    servers: list[uvicorn.Server] = []

    async def run() -> None:
        async with memory_api(**settings) as api:
            if fill is not None:
                await fill(api)
            server = uvicorn.Server(uvicorn.Config(api.app, port=0, lifespan="off", log_config=None))
            servers.append(server)
            serving = asyncio.create_task(server.serve())
            addresses.append(await _address(server))
            started.set()
            await serving

    thread = threading.Thread(target=asyncio.run, args=(run(),), daemon=True)
    thread.start()
    if not started.wait(120):
        raise TimeoutError("the API over memory did not start")
    try:
        yield addresses[0]
    finally:
        servers[0].should_exit = True
        thread.join(30)


@retry(retry=retry_if_exception_type(AssertionError), stop=stop_after_delay(60), wait=wait_fixed(0.02), reraise=True)
async def _address(server: uvicorn.Server) -> str:
    assert server.started
    host, port = server.servers[0].sockets[0].getsockname()
    return f"http://{host}:{port}"
