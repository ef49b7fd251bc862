"""What the API says of a history that is away, and of questions that cannot be answered."""

from typing import Any

import pytest

from api.cursors import write_cursor
from tests.contract.states import biller
from tests.memory_api import memory_api

SERIES = {"subject": "biller:B1", "metric": "error-rate"}


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/history", SERIES),
        ("/history/sparklines", SERIES),
        ("/history", SERIES | {"from": "0001-01-01T00:00:00+14:00", "to": "9999-12-31T23:59:59-14:00"}),
        ("/coverage", {}),
        ("/coverage", {"subject": "biller:B1"}),
        ("/coverage/cohorts", {}),
    ],
)
async def test_a_history_that_is_away_is_named(path: str, query: dict[str, str]) -> None:
    async with memory_api() as api:
        assert await api.store.save([biller(hours=60)]) == []
        response = await api.client.get(path, params=query)
    assert response.status_code == 503
    problem = response.json()
    assert problem["type"] == "urn:tidemark:problem:dependency-unavailable"
    assert "postgres" in problem["detail"]


@pytest.mark.parametrize(
    ("path", "query", "status", "kind", "word"),
    [
        ("/history", {"metric": "error-rate"}, 422, "invalid-request", "subject"),
        ("/history", {"subject": "biller:B1"}, 422, "invalid-request", "metric"),
        ("/history", SERIES | {"subject": "model:M"}, 422, "invalid-subject", "model:M"),
        ("/history", SERIES | {"metric": "drift"}, 404, "unknown-metric", "drift"),
        ("/history", {"subject": "model:M/v1", "metric": "a b"}, 404, "unknown-metric", "a b"),
        ("/history", SERIES | {"limit": "10001"}, 422, "invalid-request", "limit"),
        ("/history", SERIES | {"from": "2026-11-21T00:00:00"}, 422, "invalid-request", "from"),
        ("/history", SERIES | {"cursor": "zzz"}, 422, "invalid-request", "cursor"),
        ("/history", SERIES | {"cursor": write_cursor("9" * 30)}, 422, "invalid-request", "cursor"),
        ("/history/sparklines", {"metric": "error-rate"}, 422, "invalid-request", "subject"),
        ("/history/sparklines", SERIES | {"subject": ["biller:B1"] * 101}, 422, "invalid-request", "subject"),
        ("/history/sparklines", SERIES | {"hours": "0"}, 422, "invalid-request", "hours"),
        ("/coverage", {"span": "year"}, 422, "invalid-request", "span"),
        ("/coverage", {"cursor": "zzz"}, 422, "invalid-request", "cursor"),
        ("/coverage", {"cursor": write_cursor("model:M drift")}, 422, "invalid-request", "cursor"),
        ("/coverage", {"subject": "biller:B9"}, 404, "unknown-subject", "B9"),
        ("/coverage/cohorts", {"span": ""}, 422, "invalid-request", "span"),
    ],
)
async def test_what_cannot_be_answered_says_why(
    path: str, query: dict[str, Any], status: int, kind: str, word: str
) -> None:
    async with memory_api() as api:
        response = await api.client.get(path, params=query)
    assert (response.status_code, response.json()["type"]) == (status, f"urn:tidemark:problem:{kind}"), response.text
    assert word in response.json()["detail"]
