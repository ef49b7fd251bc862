"""Every error is a problem document, and every error of the tree has a status."""

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


async def test_what_nobody_foresaw_is_a_problem_without_internals() -> None:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def broken() -> None:
        raise RuntimeError("the password is hunter2")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://tidemark") as client:
        response = await client.get("/")
    assert response.status_code == 500
    assert response.json()["type"] == "urn:tidemark:problem:internal"
    assert "hunter2" not in response.text


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org", ""])  # noqa: S104 (that they are refused)
def test_an_address_that_others_reach_is_refused_unless_asked_for(host: str) -> None:
    with pytest.raises(SettingsError, match="TIDEMARK_INSECURE"):
        refuse_unprotected(Settings(http_host=host))
    refuse_unprotected(Settings(http_host=host, insecure=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_the_loopback_is_served(host: str) -> None:
    refuse_unprotected(Settings(http_host=host))
