"""Every error is a problem document, and every error of the tree has a status."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from api import problems
from api.app import refuse_unprotected
from detection.errors import InputError, OperatorError, RetryError, SettingsError, TidemarkError
from settings import Settings
from tests.memory_api import memory_api


def leaves(kind: type[TidemarkError]) -> set[type[TidemarkError]]:
    below = [leaf for child in kind.__subclasses__() for leaf in leaves(child)]
    return set(below) or {kind}


def test_every_leaf_of_the_error_tree_has_a_status() -> None:
    assert leaves(TidemarkError) <= problems.KINDS.keys()


def test_the_status_says_what_the_caller_can_do() -> None:
    for error, kind in problems.KINDS.items():
        if issubclass(error, InputError):
            assert 400 <= kind.status < 500
        elif issubclass(error, RetryError):
            assert kind.retry_after is not None
        else:
            assert issubclass(error, OperatorError)
            assert kind.status == 500


def test_no_two_kinds_share_a_type() -> None:
    names = [kind.name for kind in problems.KINDS.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("DELETE", "/thresholds", 405, "method-not-allowed"),
        ("GET", "/thresholds?limit=many", 422, "invalid-request"),
        ("POST", "/metrics/predict/latency/B1", 404, "unknown-metric"),
        ("POST", "/metrics/predict/1/{B1}", 422, "invalid-subject"),
        ("POST", "/metrics/predict/gauges/a b/M/v1", 404, "unknown-metric"),
        ("POST", "/metrics/train/1/B1?mode=start-over", 422, "invalid-request"),
    ],
)
async def test_a_refused_request_is_a_problem(method: str, path: str, status: int, name: str) -> None:
    async with memory_api() as api:
        response = await api.client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"urn:tidemark:problem:{name}"
    assert problem["status"] == status
    assert {"title", "detail", "instance"} <= problem.keys()


async def test_an_unknown_metric_names_the_valid_ones() -> None:
    async with memory_api() as api:
        response = await api.client.post("/metrics/predict/latency/B1")
    for text in ("1", "average-response-time", "ERROR_RATE_PERCENTAGE", "timeout-error-rate"):
        assert text in response.json()["detail"]


async def test_a_malformed_biller_id_names_its_field() -> None:
    async with memory_api() as api:
        response = await api.client.post("/metrics/predict/1/a:b")
    assert [error["field"] for error in response.json()["errors"]] == ["billerId"]


@pytest.mark.parametrize("verb", ["predict", "train"])
@pytest.mark.parametrize(
    "biller_id", ["", "a/b", "a%2Fb", "a/", "/", "%2F", "a/%0Ab", "B1%0A", "B1%20", "%FF", "a" * 129]
)
async def test_a_biller_id_that_no_path_can_hold_is_refused_by_its_name(verb: str, biller_id: str) -> None:
    async with memory_api() as api:
        response = await api.client.post(f"/metrics/{verb}/1/{biller_id}", json={"rows": []})
        without_it = await api.client.post(f"/metrics/{verb}/1")
        assert api.dump() == {}
    assert response.status_code == 422
    assert response.json()["type"] == "urn:tidemark:problem:invalid-subject"
    assert [error["field"] for error in response.json()["errors"]] == ["billerId"]
    assert without_it.status_code == 404


@pytest.mark.parametrize("verb", ["predict", "train"])
async def test_a_version_with_a_slash_is_refused_by_its_name(verb: str) -> None:
    async with memory_api() as api:
        responses = [
            await api.client.post(f"/metrics/{verb}/gauges/drift/Mistral/{version}", json={"rows": []})
            for version in ("", "v/1", "v%2F1")
        ]
        no_version = await api.client.post(f"/metrics/{verb}/gauges/drift/Mistral", json={"rows": []})
    for response in responses:
        assert response.status_code == 422
        assert [error["field"] for error in response.json()["errors"]] == ["version"]
    assert no_version.status_code == 404
    assert "'gauges' is no metric type" in no_version.json()["detail"]


_DEEP = {depth: b"[" * depth + b"]" * depth for depth in (900, 980, 1000, 100_000)}


@pytest.mark.parametrize("deep", _DEEP.values(), ids=map(str, _DEEP))
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/metrics/predict/1/B1", b"%s"),
        ("/metrics/predict/1/B1", b'{"sample": {"value": %s}}'),
        ("/metrics/predict/1/B1", b'{"sample": {"value": 1, "timestamp": %s}}'),
        ("/metrics/predict", b'{"items": [{"metricTypeId": 1, "billerId": %s}]}'),
        ("/metrics/train/1/B1", b"%s"),
        ("/metrics/train/1/B1", b'{"rows": [{"timestamp": %s, "value": 1}]}'),
        ("/metrics/train/1/B1", b'{"rows": [{"timestamp": "2026-03-02T00:00:00Z", "value": %s}]}'),
        ("/metrics/train/1/B1", b'{"rows": [{"timestamp": "2026-03-02T00:00:00Z", "value": 1, "count": {"a": %s}}]}'),
        ("/metrics/train/1/B1", b'{"calls": [{"biller_id": %s, "timestamp": 1772452800000, "latency_ms": 1}]}'),
        ("/metrics/train/1/B1", b'{"calls": [{"timestamp": %s, "latency_ms": 1, "outcome": "ok"}]}'),
        ("/metrics/train/1/B1", b'{"source": "history", "from": %s}'),
        ("/metrics/train/1/B1", b'{"source": "history", "to": {"a": %s}}'),
        ("/metrics/train/1/B1", b'{"source": %s}'),
        ("/events/calls", b"%s"),
        ("/events/calls", b'{"calls": [{"biller_id": "B1", "timestamp": %s, "latency_ms": 1, "outcome": "ok"}]}'),
        ("/events/calls", b'{"biller_id": "B1", "timestamp": 1772452800000, "latency_ms": 1, "outcome": %s}'),
        ("/events/observations", b'{"name": "M", "version": "v1", "timestamp": 1772452800000, "drift": %s}'),
        ("/events/observations", b'{"name": %s, "version": "v1", "timestamp": 1772452800000, "drift": 1}'),
    ],
)
@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
async def test_what_is_nested_deep_is_refused(path: str, body: bytes, deep: bytes, media_type: str) -> None:
    async with memory_api() as api:
        response = await api.client.post(path, content=body % deep, headers={"Content-Type": media_type})
        assert api.dump() == {}
        assert api.log.events == []
    assert response.status_code in {413, 415, 422}, response.text
    assert response.headers["content-type"] == "application/problem+json"


async def test_an_observation_that_is_just_not_too_deep_to_be_decoded_is_refused() -> None:
    """Which depth that is depends on the stack of calls, so all that it can be are in one body."""
    event = b'{"name": "M", "version": "v1", "timestamp": 1772452800000, "drift": %s1%s}'
    body = b"\n".join(event % (b'{"a":' * depth, b"}" * depth) for depth in range(800, 1100))
    async with memory_api() as api:
        response = await api.client.post(
            "/events/observations", content=body, headers={"Content-Type": "application/x-ndjson"}
        )
    assert response.status_code == 422
    assert response.json()["detail"].startswith("300 of the events are refused")


@pytest.mark.parametrize(
    ("path", "stored"),
    [
        ("/metrics/predict/1/B1", "Nothing of this request was stored"),
        ("/metrics/train/1/B1", "may be in the history; the same request again completes it"),
        ("/events/calls", "may have been taken; what is sent again is counted again"),
    ],
)
async def test_what_nobody_foresaw_is_a_problem_without_internals(path: str, stored: str) -> None:
    app = FastAPI()
    problems.install(app)

    @app.get(path)
    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tidemark") as client:
        response = await client.get(path)
    assert response.status_code == 500
    assert response.json()["type"] == "urn:tidemark:problem:internal"
    assert stored in response.json()["detail"]
    assert "hunter2" not in response.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org", ""])  # noqa: S104 (that they are refused)
def test_an_address_that_others_reach_is_refused_unless_asked_for(host: str) -> None:
    with pytest.raises(SettingsError, match="TIDEMARK_INSECURE"):
        refuse_unprotected(Settings(http_host=host))
    refuse_unprotected(Settings(http_host=host, insecure=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_the_loopback_is_served(host: str) -> None:
    refuse_unprotected(Settings(http_host=host))


_UNREADABLE = {
    "no text": b"o\xe4xk\xf3",
    "deep": b"[" * 100_000,
    "digits": b'{"id": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("body", _UNREADABLE.values(), ids=_UNREADABLE)
@pytest.mark.parametrize("path", ["/alerts/acknowledge", "/alerts/feedback", "/billers/B1/exclusions"])
async def test_a_body_that_the_framework_cannot_parse_is_refused_like_any_other(path: str, body: bytes) -> None:
    async with memory_api() as api:
        response = await api.client.post(path, content=body, headers={"Content-Type": "application/json"})
    # Larger ones are refused for their length.
    expected = ("too-large", 413) if len(body) > 65_536 else ("invalid-request", 422)
    assert (response.json()["type"].rpartition(":")[2], response.status_code) == expected


@pytest.mark.parametrize("path", ["/alerts/acknowledge", "/alerts/feedback", "/models/Mistral/v1/exclusions"])
async def test_a_body_that_the_framework_reads_is_read_no_further_than_it_may_be_long(path: str) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 4096
            yield b" " * 4096

    async with memory_api() as api:
        response = await api.client.post(path, content=endless(), headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert response.json()["type"] == "urn:tidemark:problem:too-large"
    assert sent < 100_000


@pytest.mark.parametrize(
    "address", ["/alerts/history?rule=%00", "/alerts/history?metric=a%00", "/rules/audit?rule=a%00b"]
)
async def test_a_text_that_postgresql_cannot_hold_is_refused_before_it_is_asked(address: str) -> None:
    async with memory_api() as api:
        response = await api.client.get(address)
    assert response.status_code == 422, response.text
    assert response.json()["type"] == "urn:tidemark:problem:invalid-request"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/rules", "GET, PUT"),
        ("/rules/any", "DELETE, GET, PUT"),
        ("/rules/dry-run", "POST"),
        ("/billers/B1/exclusions", "GET, POST"),
    ],
)
async def test_a_method_that_is_not_taken_is_answered_with_all_that_are(path: str, allowed: str) -> None:
    async with memory_api() as api:
        response = await api.client.request("TRACE", path)
    assert response.status_code == 405
    assert response.headers["allow"] == allowed


async def test_a_method_that_nothing_takes_needs_no_key_to_be_refused() -> None:
    async with memory_api(auth="on") as api:
        assert (await api.client.request("TRACE", "/healthz")).status_code == 405
        assert (await api.client.get("/rules")).status_code == 401


@pytest.mark.parametrize("moment", ["0.5", "1763755200", "21"])
@pytest.mark.parametrize(
    "address", ["/thresholds?changed_since=", "/alerts/history?from=", "/history?subject=B1&metric=1&to="]
)
async def test_a_number_is_no_moment(address: str, moment: str) -> None:
    async with memory_api() as api:
        assert (await api.client.get(address + moment)).status_code == 422


@pytest.mark.parametrize(
    "sample",
    ['{"value": true}', '{"value": "1"}', '{"value": 1, "count": true}', '{"value": 1, "timestamp": 1763755200.5}'],
)
async def test_a_sample_is_what_its_description_says_and_nothing_that_could_be_taken_for_it(sample: str) -> None:
    async with memory_api() as api:
        response = await api.client.post("/metrics/predict/1/B1", content=f'{{"sample": {sample}}}')
    assert response.status_code == 422, response.text
