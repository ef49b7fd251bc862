"""`/rules` over stores in memory."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from detection.hours import iso_hour
from tests.memory_api import NOW_HOUR, MemoryApi, memory_api

YAML = {"Content-Type": "application/yaml"}
ACCURACY: dict[str, Any] = {
    "id": "accuracy",
    "metric": "prediction_accuracy",
    "condition": "lower than",
    "boundary": 0.3,
    "severity": "critical",
}
BOOK = b"""\
rules:
  - id: accuracy
    metric: prediction_accuracy
    condition: lower than
    boundary: 0.3
  - id: slow
    metric: inference_time
    condition: higher than
    boundary: 500
"""


@pytest.fixture
async def api() -> AsyncIterator[MemoryApi]:
    async with memory_api() as started:
        yield started


async def test_where_nobody_wrote_a_rule_the_defaults_are_in_force(api: MemoryApi) -> None:
    answer = await api.client.get("/rules")
    assert answer.status_code == 200
    assert answer.headers["ETag"] == '"0"'
    body = answer.json()
    assert (body["revision"], body["defaults"]) == (0, True)
    assert [(one["rule"]["id"], one["source"], one["changed"]) for one in body["rules"]] == [
        ("biller-failures", "default", None),
        ("biller-latency", "default", None),
        ("biller-silent", "default", None),
        ("model-threshold", "default", None),
    ]


async def test_a_rule_is_written_read_and_written_again(api: MemoryApi) -> None:
    created = await api.client.put("/rules/accuracy?by=ann", json=ACCURACY)
    assert (created.status_code, created.headers["ETag"]) == (201, '"1"')
    read = await api.client.get("/rules/accuracy")
    assert read.json() == created.json()
    assert read.json()["rule"]["metric"] == "prediction-accuracy"
    assert (read.json()["by"], read.json()["source"]) == ("ann", "api")
    changed = await api.client.put("/rules/accuracy", json={**ACCURACY, "boundary": 0.4})
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')
    again = await api.client.put("/rules/accuracy", json={**ACCURACY, "boundary": 0.4})
    assert again.headers["ETag"] == '"2"'
    assert (await api.client.get("/rules")).headers["ETag"] == '"2"'


async def test_a_rule_may_leave_out_its_id_and_must_not_have_another_one(api: MemoryApi) -> None:
    fields = {name: value for name, value in ACCURACY.items() if name != "id"}
    assert (await api.client.put("/rules/accuracy", json=fields)).json()["rule"]["id"] == "accuracy"
    refused = await api.client.put("/rules/other", json=ACCURACY)
    assert refused.status_code == 422
    assert refused.json()["errors"] == [{"field": "id", "reason": "the address says other, the rule accuracy"}]


async def test_a_rule_in_yaml_is_refused_with_lines(api: MemoryApi) -> None:
    text = b"metric: x\ncondition: lower then\nwindow:\n  n: 0\n"
    refused = await api.client.put("/rules/accuracy", content=text, headers=YAML)
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:tidemark:problem:invalid-rule"
    assert [one["field"] for one in refused.json()["errors"]] == ["condition", "window.n"]
    assert refused.json()["errors"][0]["reason"].startswith("line 2, column 1: 'lower then' is none of")


async def test_what_curl_sends_without_a_type_may_be_yaml(api: MemoryApi) -> None:
    curl = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await api.client.put("/rules", content=BOOK, headers=curl)).status_code == 200
    refused = await api.client.put("/rules", content=BOOK, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:tidemark:problem:invalid-request")
    refused = await api.client.put("/rules", content=BOOK, headers={"Content-Type": "text/csv"})
    assert refused.status_code == 415


async def test_an_unknown_rule_is_not_found(api: MemoryApi) -> None:
    for answer in (await api.client.get("/rules/nothing"), await api.client.delete("/rules/nothing")):
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:tidemark:problem:unknown-rule")


async def test_only_the_rule_that_was_read_is_written_over(api: MemoryApi) -> None:
    url = "/rules/accuracy"
    absent = await api.client.put(url, json=ACCURACY, headers={"If-Match": '"1"'})
    assert (absent.status_code, absent.json()["type"]) == (412, "urn:tidemark:problem:precondition-failed")
    assert (await api.client.put(url, json=ACCURACY, headers={"If-None-Match": "*"})).status_code == 201
    assert (await api.client.put(url, json=ACCURACY, headers={"If-None-Match": "*"})).status_code == 412
    other = {**ACCURACY, "boundary": 0.4}
    assert (await api.client.put(url, json=other, headers={"If-Match": '"1"'})).status_code == 200
    assert (await api.client.put(url, json=ACCURACY, headers={"If-Match": '"1"'})).status_code == 412
    assert (await api.client.delete(url, headers={"If-Match": '"1"'})).status_code == 412
    assert (await api.client.delete(url, headers={"If-Match": '"2"'})).status_code == 204
    assert (await api.client.get(url)).status_code == 404


async def test_an_unchanged_book_is_not_sent_again(api: MemoryApi) -> None:
    assert (await api.client.get("/rules", headers={"If-None-Match": '"0"'})).status_code == 304
    await api.client.put("/rules/accuracy", json=ACCURACY)
    assert (await api.client.get("/rules", headers={"If-None-Match": '"0"'})).status_code == 200
    assert (await api.client.get("/rules/accuracy", headers={"If-None-Match": 'W/"1"'})).status_code == 304


async def test_a_default_is_replaced_by_a_rule_with_its_id_and_comes_back(api: MemoryApi) -> None:
    refused = await api.client.delete("/rules/model-threshold")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:tidemark:problem:default-rule")
    mine = {"metric": "*", "kind": "model", "condition": "outside threshold", "is_enabled": False}
    assert (await api.client.put("/rules/model-threshold", json=mine)).status_code == 200
    assert (await api.client.get("/rules/model-threshold")).json()["rule"]["is_enabled"] is False
    assert (await api.client.delete("/rules/model-threshold")).status_code == 204
    assert (await api.client.get("/rules/model-threshold")).json()["source"] == "default"


async def test_a_whole_book_is_tried_before_it_is_written(api: MemoryApi) -> None:
    await api.client.put("/rules/old", json={**ACCURACY, "id": "old"})
    await api.client.put("/rules/slow", json={"metric": "x", "condition": "higher than", "boundary": 1})
    tried = await api.client.put("/rules?dry_run=true", content=BOOK, headers=YAML)
    expected = {"created": ["accuracy"], "changed": ["slow"], "deleted": ["old"], "unchanged": 0, "revision": 3}
    assert tried.json() == {**expected, "is_applied": False}
    assert (await api.client.get("/rules")).headers["ETag"] == '"2"'
    written = await api.client.put("/rules?by=ann", content=BOOK, headers={**YAML, "If-Match": '"2"'})
    assert written.json() == {**expected, "is_applied": True}
    again = await api.client.put("/rules", content=BOOK, headers=YAML)
    assert again.json() == {
        "revision": 3,
        "is_applied": True,
        "created": [],
        "changed": [],
        "deleted": [],
        "unchanged": 2,
    }
    late = await api.client.put("/rules", json={"rules": []}, headers={"If-Match": '"2"'})
    assert late.status_code == 412


async def test_a_file_leaves_alone_what_was_made_one_by_one(api: MemoryApi) -> None:
    await api.client.put("/rules/mine", json={**ACCURACY, "id": "mine"})
    await api.client.put("/rules?source=file", content=BOOK, headers=YAML)
    await api.client.put("/rules?source=file", json={"rules": [], "defaults": False})
    body = (await api.client.get("/rules")).json()
    assert [(one["rule"]["id"], one["source"]) for one in body["rules"]] == [("mine", "api")]
    assert body["defaults"] is False


async def test_every_change_is_audited_also_those_of_the_time_when_postgres_was_away(api: MemoryApi) -> None:
    api.rule_audit.is_away = True
    await api.client.put("/rules/accuracy?by=ann", json=ACCURACY)
    await api.client.put("/rules/accuracy?by=bob", json={**ACCURACY, "boundary": 0.4})
    refused = await api.client.get("/rules/audit")
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:tidemark:problem:dependency-unavailable")
    api.rule_audit.is_away = False
    await api.client.delete("/rules/accuracy?by=ann")
    body = (await api.client.get("/rules/audit?limit=2")).json()
    assert [(one["revision"], one["action"], one["by"]) for one in body["changes"]] == [
        (3, "deleted", "ann"),
        (2, "changed", "bob"),
    ]
    assert (body["changes"][1]["before"]["boundary"], body["changes"][1]["after"]["boundary"]) == (0.3, 0.4)
    rest = (await api.client.get(f"/rules/audit?limit=2&cursor={body['next_cursor']}")).json()
    assert [one["revision"] for one in rest["changes"]] == [1]
    assert rest["next_cursor"] is None
    assert (await api.client.get("/rules/audit?rule=other")).json()["changes"] == []
    assert (await api.client.get("/rules/audit?cursor=x")).status_code == 422
    assert not any(name.startswith(b"_change") for name in api.rules.fields)


async def test_a_dry_run_says_which_alerts_would_have_opened(api: MemoryApi) -> None:
    values = [0.8] * 30 + [0.2] * 3 + [0.8] * 10 + [0.1] + [0.8] * 4
    rows = [{"timestamp": iso_hour(NOW_HOUR - len(values) + at), "value": value} for at, value in enumerate(values)]
    trained = await api.client.post("/metrics/train/gauges/prediction-accuracy/Mistral/v1", json={"rows": rows})
    assert trained.status_code == 200, trained.text
    before = api.dump()
    answer = await api.client.post("/rules/dry-run", json=ACCURACY)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["series"], body["hours"], body["is_complete"], body["alerts_total"]) == (1, len(values), True, 2)
    first, second = body["alerts"]
    assert first["opened"] == iso_hour(NOW_HOUR - len(values) + 31)
    assert first["resolved"] == iso_hour(NOW_HOUR - len(values) + 34)
    assert first["line"].startswith("ALERT prediction_accuracy lower than 0.3, {'name': 'Mistral', 'version': 'v1'")
    assert second["value"] == pytest.approx(0.1)
    (rule,) = body["rules"]
    assert (rule["id"], rule["series"], rule["alerts"]) == ("accuracy", 1, 2)
    assert sum(rule["weeks"].values()) == 2
    assert rule["by_series"] == {"model:Mistral/v1:prediction-accuracy": 2}
    later = await api.client.post(f"/rules/dry-run?from={iso_hour(NOW_HOUR - 10)}", json=ACCURACY)
    assert (later.json()["hours"], later.json()["alerts_total"]) == (10, 1)
    earlier = await api.client.post(f"/rules/dry-run?to={iso_hour(NOW_HOUR - 10)}", json={"rules": [ACCURACY]})
    assert earlier.json()["alerts_total"] == 1
    other = await api.client.post("/rules/dry-run", json={**ACCURACY, "subject": "Llama/*"})
    assert (other.json()["series"], other.json()["alerts_total"]) == (0, 0)
    assert api.dump() == before


async def test_a_dry_run_learns_what_a_learned_boundary_is_made_of(api: MemoryApi) -> None:
    values = [0.8 + 0.01 * (at % 5) for at in range(24 * 21)] + [0.2] * 3 + [0.81] * 5
    rows = [
        {"timestamp": iso_hour(NOW_HOUR - len(values) + at), "value": value, "count": 50}
        for at, value in enumerate(values)
    ]
    await api.client.post("/metrics/train/gauges/prediction-accuracy/Mistral/v1", json={"rows": rows})
    rule = {"id": "learned", "metric": "*", "condition": "outside threshold", "kind": "model"}
    body = (await api.client.post(f"/rules/dry-run?from={iso_hour(NOW_HOUR - 24)}", json=rule)).json()
    assert body["alerts_total"] == 1
    assert body["alerts"][0]["opened"] == iso_hour(NOW_HOUR - 7)


async def test_a_dry_run_refuses_a_time_that_ends_before_it_begins(api: MemoryApi) -> None:
    url = "/rules/dry-run?from=2026-03-02T00:00:00Z&to=2026-03-01T00:00:00Z"
    assert (await api.client.post(url, json=ACCURACY)).status_code == 422


async def test_rules_are_described_without_references_that_lead_nowhere(api: MemoryApi) -> None:
    document = (await api.client.get("/openapi.json")).json()
    body = document["paths"]["/rules/{rule_id}"]["put"]["requestBody"]["content"]["application/json"]["schema"]
    assert "$ref" not in str(body)
    assert body["properties"]["window"]["properties"].keys() == {"n", "m"}
