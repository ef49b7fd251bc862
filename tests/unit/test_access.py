"""Who may ask what: every endpoint with every kind of key, as docs/access.md says; a wrong key learns nothing."""

import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import httpx
import orjson
import pytest
from fastapi.routing import APIRoute, iter_route_contexts

from api.access import ACCESS, GuardedRoute
from api.app import create_app
from detection.errors import InputError
from settings import Settings
from state.api_keys import SCOPES, ApiKey, decode_keys, encode_key, key_of, new_key
from stream.decoding import decode_calls
from tests.memory_api import NOW_MS, MemoryApi, memory_api

PAGE = (Path(__file__).parents[2] / "docs" / "access.md").read_text(encoding="utf-8")
OWN, FOREIGN = "own-1", "foreign-1"
VALUES = {"metricTypeId": "1", "metric": "drift", "version": "v1", "rule_id": "r", "exclusionId": "e", "name": "n"}


@dataclass(frozen=True)
class Row:
    """One row of the page's table."""

    method: str
    path: str
    takes: str
    reaches: str


def rows() -> Iterator[Row]:
    for method, path, takes, reaches in re.findall(r"(?m)^\| `([A-Z]+) (\S+)` \| (\S+) \| (.+) \|$", PAGE):
        yield Row(method, path, takes.strip("`"), reaches)


ROWS = list(rows())
GUARDED = [row for row in ROWS if row.takes != "everybody"]
each_guarded = pytest.mark.parametrize("row", GUARDED, ids=lambda row: f"{row.method} {row.path}")


@asynccontextmanager
async def guarded(**settings: object) -> AsyncIterator[MemoryApi]:
    async with memory_api(auth="on", **settings) as api:
        yield api


async def made(api: MemoryApi, *scopes: str, subjects: tuple[str, ...] = ("*",), **more: int) -> dict[str, str]:
    """The headers of a new key."""
    kept, text = new_key("kim", scopes, subjects=subjects, now_ms=NOW_MS, **more)
    await api.keys.keep(kept)
    return {"Authorization": f"Bearer {text}"}


async def ask(api: MemoryApi, row: Row, subject: str, headers: dict[str, str]) -> httpx.Response:
    """The endpoint, asked about this biller, or this model."""
    values = VALUES | {"billerId": subject}
    if "{name}" in row.path and "{version}" in row.path:
        values["name"] = subject
    path = re.sub(r"{(\w+)}", lambda found: values[found[1]], row.path)
    query = {"subject": f"biller:{subject}"} if row.reaches.startswith("its own, by") else {}
    return await api.client.request(row.method, path, params=query, json=body_of(row, subject), headers=headers)


def body_of(row: Row, subject: str) -> object:
    match row.path:
        case "/metrics/predict":
            return {"items": [{"metricTypeId": 1, "billerId": subject}]}
        case "/events/calls":
            return {"biller_id": subject, "timestamp": NOW_MS, "latency_ms": 1, "outcome": "ok"}
        case "/events/observations":
            return {"name": subject, "version": "v1", "timestamp": NOW_MS, "drift": 0.1}
        case "/alerts/acknowledge":
            return {"id": f"biller:{subject}/error-rate/r/1", "by": "kim"}
        case "/alerts/feedback":
            return {"id": f"biller:{subject}/error-rate/r/1", "opinion": "false"}
        case _:
            return None


def test_every_route_of_the_app_is_guarded_and_in_the_table() -> None:
    found = set()
    for context in iter_route_contexts(create_app(Settings()).routes):
        route = context.original_route
        if isinstance(route, APIRoute):
            assert isinstance(route, GuardedRoute), route.path
            found |= {(method, route.path_format) for method in route.methods or ()}
    assert found == ACCESS.keys()


def test_the_page_says_what_the_table_says() -> None:
    assert {(row.method, row.path): row.takes for row in ROWS} == {
        place: access.scope or "everybody" for place, access in ACCESS.items()
    }


@each_guarded
async def test_nobody_is_let_in_without_a_key(row: Row) -> None:
    async with guarded() as api:
        answer = await ask(api, row, OWN, {})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["type"] == "urn:tidemark:problem:unauthenticated"


@each_guarded
async def test_a_scope_opens_what_the_page_says_and_nothing_else(row: Row) -> None:
    async with guarded() as api:
        # All of them before the first request: a key that was made just now may have to wait a second.
        keys = {scope: await made(api, scope) for scope in SCOPES}
        for scope, headers in keys.items():
            answer = await ask(api, row, OWN, headers)
            is_refused = answer.status_code == 403
            assert is_refused == (scope not in {row.takes, "admin"}), scope
            assert answer.status_code != 401


@each_guarded
async def test_a_key_for_some_subjects_reaches_them_alone(row: Row) -> None:
    async with guarded() as api:
        headers = await made(api, "admin", subjects=("biller:own-*", "model:own-*"))
        own = (await ask(api, row, OWN, headers)).status_code
        foreign = (await ask(api, row, FOREIGN, headers)).status_code
    if row.reaches == "a key for all":
        assert (own, foreign) == (403, 403)
    else:
        assert own != 403
        if row.path in {"/thresholds", "/alerts"}:
            assert foreign == own, "these leave out what is foreign"
        else:
            assert foreign == 403


async def test_lists_leave_out_the_subjects_of_others() -> None:
    async with guarded() as api:
        everything = await made(api, "read", "train")
        some = await made(api, "read", subjects=("biller:own-*",))
        for biller in (OWN, FOREIGN):
            rows_of = {"rows": [{"timestamp": NOW_MS - 7_200_000, "value": 5.0, "count": 9}]}
            trained = await api.client.post(f"/metrics/train/1/{biller}", json=rows_of, headers=everything)
            assert trained.status_code == 200, trained.text
        seen = []
        for headers in (everything, some):
            answer = (await api.client.get("/thresholds", headers=headers)).json()
            lines = (await api.client.get("/thresholds", headers=headers | {"Accept": "application/x-ndjson"})).text
            listed = {one["subject"] for one in answer["thresholds"]}
            assert all((subject in lines) == (subject in listed) for subject in ("biller:own-1", "biller:foreign-1"))
            seen.append(listed)
    assert seen == [{"biller:own-1", "biller:foreign-1"}, {"biller:own-1"}]


@pytest.mark.parametrize("others", [[], [{"calls": []}], [{"nothing": 1}]], ids=["alone", "batch", "refused"])
async def test_what_comes_with_a_call_cannot_be_other_billers_calls(others: list[dict[str, object]]) -> None:
    one = {"biller_id": OWN, "timestamp": NOW_MS, "latency_ms": 1, "outcome": "ok"}
    smuggled = {"calls": [one | {"biller_id": FOREIGN}]} | one
    async with guarded() as api:
        headers = await made(api, "ingest", subjects=("biller:own-*",))
        assert (await api.client.post("/events/calls", json=smuggled, headers=headers)).status_code == 202
        ((_, _, sent),) = api.log.events
    records = [
        SimpleNamespace(offset=at, timestamp=NOW_MS, value=value)
        for at, value in enumerate([sent, *map(orjson.dumps, others)])
    ]
    columns, _ = decode_calls(records, future_ms=60_000)
    assert columns.biller_ids == [OWN]


async def test_a_query_that_names_a_foreign_subject_as_well_is_refused() -> None:
    async with guarded() as api:
        headers = await made(api, "read", subjects=("biller:own-*",))
        address = "/alerts/history?subject=biller:own-1&subject=biller:foreign-1"
        answer = await api.client.get(address, headers=headers)
    assert answer.status_code == 403


@pytest.mark.parametrize("change", ["expired", "revoked", "cut", "another secret", "another id", "no prefix", "nul"])
async def test_a_key_that_is_not_good_is_refused_without_a_reason_why(change: str) -> None:
    async with guarded() as api:
        kept, text = new_key("kim", ["admin"], now_ms=NOW_MS, expires_ms=NOW_MS + 1000)
        await api.keys.keep(kept)
        match change:
            case "expired":
                api.now_ms += 1000
            case "revoked":
                await api.keys.forget(kept.id)
            case "cut":
                text = text[:-1]
            case "another secret":
                text = text[:16] + new_key("kim", ["admin"], now_ms=NOW_MS)[1][16:]
            case "another id":
                text = f"tm_{'0' * 12}_{text[16:]}"
            case "no prefix":
                text = text[3:]
            case _:
                text += "%00"
        answer = await api.client.get("/thresholds", headers={"Authorization": f"Bearer {text}"})
    assert answer.status_code == 401
    assert answer.json()["detail"] == "the key or token is not known, has expired, or was taken back"


async def test_a_key_comes_in_either_header() -> None:
    async with guarded() as api:
        text = (await made(api, "read"))["Authorization"].removeprefix("Bearer ")
        for headers in ({"X-API-Key": text}, {"authorization": f"bearer {text}"}):
            assert (await api.client.get("/thresholds", headers=headers)).status_code == 200
        assert (await api.client.get("/thresholds", headers={"Authorization": f"Basic {text}"})).status_code == 401


async def test_probes_and_the_page_are_open_to_everybody() -> None:
    async with guarded() as api:
        for row in ROWS:
            if row.takes == "everybody" and "{" not in row.path:
                assert (await api.client.request(row.method, row.path)).status_code not in {401, 403}, row


async def test_without_authentication_nobody_is_asked_for_a_key() -> None:
    async with memory_api() as api:
        assert (await api.client.get("/thresholds")).status_code == 200
        assert (await api.client.get("/thresholds", headers={"Authorization": "Bearer tm_x_y"})).status_code == 200


async def test_what_is_written_is_audited_and_what_is_read_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    async with guarded() as api:
        headers = await made(api, "admin")
        await api.client.get("/thresholds", headers=headers)
        await ask(api, next(row for row in ROWS if row.path == "/events/calls"), OWN, headers)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "audit" in line)
    assert all(part in line for part in ("POST /events/calls", "kim", "202"))
    assert headers["Authorization"].removeprefix("Bearer ")[16:] not in line


def test_nothing_that_is_kept_of_a_key_is_the_key() -> None:
    kept, text = new_key("kim", ["read"], now_ms=NOW_MS)
    assert text.rpartition("_")[2] not in repr(kept)
    assert len(text) == 3 + 12 + 1 + 43


@pytest.mark.slow
def test_the_time_that_a_wrong_key_takes_does_not_tell_how_wrong_it_is() -> None:
    kept = {key.id: key for key, _ in (new_key(str(number), ["read"], now_ms=NOW_MS) for number in range(100))}
    key, text = new_key("kim", ["read"], now_ms=NOW_MS)
    kept[key.id] = key
    first, last = (
        text[:16] + ("A" if text[16] != "A" else "B") + text[17:],
        text[:-1] + ("A" if text[-1] != "A" else "B"),
    )
    wrong = {"first": first, "last": last, "id": f"tm_{'0' * 12}_{text[16:]}"}
    taken: dict[str, list[int]] = {name: [] for name in wrong}
    for _, (name, one) in product(range(3000), wrong.items()):
        started = time.perf_counter_ns()
        found = key_of(one, kept, now_ms=NOW_MS)
        taken[name].append(time.perf_counter_ns() - started)
        assert found is None
    medians = {name: median(times) for name, times in taken.items()}
    assert max(medians.values()) < 1.25 * min(medians.values()), medians


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "root"),
        ({"subjects": ["acme-*"]}, "globs"),
        ({"per_second": 0}, "rate"),
        ({"name": " "}, "name"),
        ({"expires_ms": NOW_MS}, "future"),
    ],
)
def test_a_key_that_cannot_be_is_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        new_key(**dict[str, Any](name="kim", scopes=["read"], now_ms=NOW_MS) | arguments)


def test_a_key_reads_back_as_it_was_kept() -> None:
    kept = ApiKey(id="1", name="k", digest="d", scopes=("read",), created_ms=1, expires_ms=2, per_second=3)
    assert decode_keys({b"1": encode_key(kept)}) == {"1": kept}
