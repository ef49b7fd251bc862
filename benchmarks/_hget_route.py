"""What predict is measured against, a process of its own: `python -m benchmarks._hget_route PORT`.

An empty FastAPI route that answers one field of one hash, as the documentation of FastAPI and redis-py would have it,
with the bytes handed on as they are. Who asks is found out as the API does it, by the same code, called without a
dependency that would have to be solved. uvicorn is told what `tidemark api` tells it.
"""

import gc
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request, Response
from redis.asyncio import Redis

from api.credentials import Gate
from detection.subject import Subject
from settings import Settings
from state.keys import series_key
from state.redis_api_keys import RedisApiKeys


def create_app(settings: Settings) -> FastAPI:
    client = Redis.from_url(settings.redis_url.get_secret_value())
    gate = Gate(RedisApiKeys(client), tokens=None, counts=None, wall_ms=lambda: time.time_ns() // 1_000_000)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await client.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.post("/hget/{biller_id}")
    async def hget(request: Request, biller_id: str) -> Response:
        await gate(request.scope)
        key = series_key(Subject("biller", biller_id), "average-response-time")
        return Response(await client.hget(key, "threshold"), media_type="text/plain")

    return app


if __name__ == "__main__":
    app = create_app(Settings())
    gc.collect()
    gc.freeze()
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        log_config=None,
        access_log=False,
        server_header=False,
    )
