"""What is compressed of the answers, and what is left as it is."""

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from api.compression import Compressed
from detection.subject import Subject
from tests.memory_api import memory_api
from tests.unit.test_api_overview import live

LONG = b'{"a":"' + b"a" * 5000 + b'"}'


async def _ndjson() -> AsyncIterator[bytes]:
    for _ in range(3):
        yield LONG


async def _json(_: Request) -> Response:
    return Response(LONG, media_type="application/json", headers={"ETag": '"1"'})


async def _short(_: Request) -> Response:
    return Response(b"{}", media_type="application/json", headers={"ETag": '"1"'})


async def _lines(_: Request) -> Response:
    return StreamingResponse(_ndjson(), media_type="application/x-ndjson")


async def _text(_: Request) -> Response:
    return PlainTextResponse(LONG)


async def _packed(_: Request) -> Response:
    return Response(
        gzip.compress(LONG), media_type="text/javascript", headers={"Content-Encoding": "gzip", "ETag": 'W/"2"'}
    )


APP = Compressed(
    Starlette(
        routes=[
            Route("/json", _json, methods=["GET", "POST"]),
            Route("/short", _short),
            Route("/lines", _lines),
            Route("/text", _text),
            Route("/packed", _packed),
        ]
    )
)


async def answer(method: str, path: str, accepted: str = "gzip") -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://tidemark") as client:
        return await client.request(method, path, headers={"Accept-Encoding": accepted})


async def test_a_long_answer_is_compressed_and_keeps_its_etag() -> None:
    response = await answer("GET", "/json")
    assert response.headers["content-encoding"] == "gzip"
    assert int(response.headers["content-length"]) < 200
    assert (response.content, response.headers["etag"]) == (LONG, '"1"')
    assert "accept-encoding" in response.headers["vary"].lower()


@pytest.mark.parametrize(
    ("method", "path", "accepted"),
    [
        ("GET", "/json", "identity"),
        ("GET", "/short", "gzip"),
        ("GET", "/lines", "gzip"),
        ("GET", "/text", "gzip"),
        ("POST", "/json", "gzip"),
    ],
)
async def test_what_is_short_streamed_scraped_or_posted_is_left_as_it_is(method: str, path: str, accepted: str) -> None:
    response = await answer(method, path, accepted)
    assert response.status_code == 200
    assert "content-encoding" not in response.headers
    assert response.headers.get("etag", '"1"') == '"1"'


async def test_what_is_compressed_already_is_not_compressed_again() -> None:
    response = await answer("GET", "/packed")
    assert (response.content, response.headers["etag"]) == (LONG, 'W/"2"')


async def test_the_api_compresses_lists_and_neither_streams_nor_metrics() -> None:
    async with memory_api() as api:
        for number in range(5):
            await live(api, Subject.biller(f"B{number}"), 3)
        headers = {"Accept-Encoding": "gzip"}
        page = await api.client.get("/overview", headers=headers)
        stream = await api.client.get("/thresholds", headers=headers | {"Accept": "application/x-ndjson"})
        scraped = await api.client.get("/metrics", headers=headers)
        etag = (await api.client.get("/thresholds", headers=headers)).headers["etag"]
        again = await api.client.get("/thresholds", headers=headers | {"If-None-Match": etag})
    assert page.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in stream.headers
    assert "content-encoding" not in scraped.headers
    assert again.status_code == 304
