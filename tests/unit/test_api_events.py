"""Events through HTTP: all of a body or none of it, each under its subject's key, byte for byte as it was sent."""

import gzip
import time
from typing import Any

import orjson
import pytest

from api.event_log import MAX_EVENT_BYTES
from tests.memory_api import MemoryApi, memory_api

CALL = {"biller_id": "B1", "timestamp": "2026-03-02T12:00:00Z", "latency_ms": 184.2, "outcome": "ok"}
OTHER = {"biller_id": "B2", "timestamp": 1_772_452_800_000, "latency_ms": 3, "status": 503}
OBSERVATION = {"name": "Mistral", "version": "v1", "timestamp": "2026-03-02T12:00:00Z", "prediction_accuracy": 0.19}
NDJSON = {"Content-Type": "application/x-ndjson"}


async def send(api: MemoryApi, body: bytes, *, to: str = "calls", **headers: str) -> Any:
    return await api.client.post(f"/events/{to}", content=body, headers={"Content-Type": "application/json"} | headers)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (orjson.dumps([CALL, OTHER]), {}),
        (orjson.dumps({"calls": [CALL, OTHER]}, option=orjson.OPT_INDENT_2), {}),
        (orjson.dumps(CALL) + b"\r\n\n" + orjson.dumps(OTHER), NDJSON),
        (gzip.compress(orjson.dumps([CALL, OTHER])), {"Content-Encoding": "gzip"}),
    ],
)
async def test_every_shape_of_body_becomes_one_event_each(body: bytes, headers: dict[str, str]) -> None:
    async with memory_api() as api:
        response = await send(api, body, **headers)
        events = api.log.events
    assert response.status_code == 202, response.text
    assert response.json() == {"accepted": 2}
    assert [(topic, key, orjson.loads(value)) for topic, key, value in events] == [
        ("calls", b"B1", CALL),
        ("calls", b"B2", OTHER),
    ]


async def test_a_single_event_needs_no_array() -> None:
    async with memory_api() as api:
        assert (await send(api, orjson.dumps(CALL))).json() == {"accepted": 1}
        assert (await send(api, orjson.dumps(OBSERVATION), to="observations")).json() == {"accepted": 1}
        assert [(topic, key) for topic, key, _ in api.log.events] == [("calls", b"B1"), ("observations", b"Mistral/v1")]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({**CALL, "latency_ms": "slow"}, "latency_ms"),
        ({**CALL, "latency_ms": -1}, "latency_ms"),
        ({**CALL, "biller_id": "a:b"}, "biller_id"),
        ({**CALL, "outcome": "good"}, "outcome"),
        ({key: CALL[key] for key in CALL if key != "outcome"}, "outcome"),
        ({key: CALL[key] for key in CALL if key != "timestamp"}, "timestamp"),
        ({**CALL, "timestamp": "2026-03-02T12:00:00"}, "timestamp"),
        ({**CALL, "timestamp": 1_772_452_800}, "timestamp"),
        ({**CALL, "timestamp": time.time_ns() // 1_000_000 + 3_600_000}, "timestamp"),
        (7, "event"),
    ],
)
async def test_one_bad_event_refuses_the_body_and_names_index_and_field(bad: object, field: str) -> None:
    async with memory_api() as api:
        response = await send(api, orjson.dumps([CALL, bad]))
        assert api.log.events == []
    assert response.status_code == 422
    assert response.json()["type"] == "urn:tidemark:problem:invalid-event"
    assert [(one["index"], one["field"]) for one in response.json()["errors"]] == [(1, field)]


async def test_an_observation_that_is_none_names_its_field() -> None:
    async with memory_api() as api:
        text = await send(api, orjson.dumps({**OBSERVATION, "drift": "high"}), to="observations")
        nobody = await send(api, orjson.dumps({"drift": 1.0}), to="observations")
    assert text.json()["errors"][0]["field"] == "drift"
    assert nobody.status_code == 422


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b'{"calls": 7}', b'"call"', b"\xff"])
async def test_a_body_that_holds_no_event_is_refused(body: bytes) -> None:
    async with memory_api() as api:
        response = await send(api, body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"


async def test_a_body_that_is_too_large_is_refused() -> None:
    async with memory_api(max_body_bytes=2000, max_rows=2) as api:
        plain = await send(api, b" " * 2001)
        packed = await send(api, gzip.compress(bytes(10_000_000)), **{"Content-Encoding": "gzip"})
        many = await send(api, orjson.dumps([CALL] * 3))
        table = await send(api, b"biller_id\n", **{"Content-Type": "text/csv"})
        assert api.log.events == []
    assert [one.status_code for one in (plain, packed, many, table)] == [413, 413, 413, 415]


async def test_an_event_that_no_broker_takes_is_refused_by_its_index_and_none_is_sent() -> None:
    long = orjson.dumps({**CALL, "note": "x" * MAX_EVENT_BYTES})
    async with memory_api() as api:
        listed = await send(api, b"[%s,%s]" % (orjson.dumps(CALL), long))
        line = await send(api, orjson.dumps(CALL) + b"\n" + long, **NDJSON)
        single = await send(api, long)
        assert api.log.events == []
        room = MAX_EVENT_BYTES - len(orjson.dumps({**CALL, "note": ""}))
        longest = orjson.dumps({**CALL, "note": "x" * room})
        taken = await send(api, longest)
    for response, index in ((listed, 1), (line, 1), (single, 0)):
        assert response.status_code == 413
        assert response.json()["type"] == "urn:tidemark:problem:too-large"
        assert [(one["index"], one["field"]) for one in response.json()["errors"]] == [(index, "event")]
    assert taken.status_code == 202


async def test_without_a_broker_the_caller_is_told_to_come_back() -> None:
    async with memory_api() as api:
        api.log.is_away = True
        response = await send(api, orjson.dumps(CALL))
        ready = await api.client.get("/readyz")
        alive = await api.client.get("/healthz")
        predicted = await api.client.post("/metrics/predict/1/B1")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"
    assert response.json()["type"] == "urn:tidemark:problem:dependency-unavailable"
    assert ready.status_code == 503
    assert ready.json()["dependencies"] == {
        "redis": {"status": "ok"},
        "postgres": {"status": "ok"},
        "kafka": {"status": "error", "reason": "no answer in time"},
    }
    assert (alive.status_code, predicted.status_code) == (200, 200)


async def test_requests_are_counted_by_the_template_of_their_path() -> None:
    async with memory_api() as api:
        await api.client.post("/metrics/predict/1/B1")
        await api.client.post("/metrics/predict/1/B2")
        await api.client.post("/metrics/predict/gauges/drift/Mistral/v1")
        await api.client.get("/B3")
        text = (await api.client.get("/metrics")).text
    path = "/metrics/predict/{metricTypeId}/{billerId}"
    assert f'tidemark_http_requests_total{{method="POST",route="{path}",status="200"}} 2.0' in text
    gauges = "/metrics/predict/gauges/{metric}/{name}/{version}"
    assert f'tidemark_http_requests_total{{method="POST",route="{gauges}",status="200"}} 1.0' in text
    assert 'tidemark_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
    assert 'tidemark_series{status="ready"} 0.0' in text
    assert "B3" not in text


async def test_every_endpoint_is_described_with_an_example_of_what_it_answers() -> None:
    async with memory_api() as api:
        document = (await api.client.get("/openapi.json")).json()
    assert len(document["paths"]) == 33
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            status, good = next(one for one in operation["responses"].items() if one[0].startswith("2"))
            assert ("content" in good) == (status != "204"), (method, path)
            assert all("example" in content for content in good.get("content", {}).values()), (method, path)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                assert "example" in content or "examples" in content, (method, path)
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known


def references(node: object) -> list[str]:
    match node:
        case dict():
            here = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return [*here, *(one for child in node.values() for one in references(child))]
        case list():
            return [one for child in node for one in references(child)]
        case _:
            return []
