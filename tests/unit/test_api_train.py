"""Training through HTTP, over stores in memory: every format, every refusal, and nothing twice."""

import gzip
import json
from typing import Any

import pytest

from detection.backtest import backtest
from detection.catalogue import AVERAGE_RESPONSE_TIME
from detection.errors import DependencyError
from detection.hours import HOUR_MS, iso_hour
from detection.rows import Observation
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState, first_open_hour
from detection.windows import CallWindow, Window
from state.history import Row
from tests.memory_api import NOW_HOUR, NOW_MS, MemoryApi, memory_api

B1 = Subject.biller("B1")
SLUG = AVERAGE_RESPONSE_TIME.slug
PATH = "/metrics/train/average-response-time/B1"


def observations(count: int = 72) -> list[Observation]:
    start = NOW_HOUR - count
    return [Observation(start + at, 150.0 + 11.0 * ((start + at) % 24), 40 + at % 5) for at in range(count)]


def rows(count: int = 72) -> list[dict[str, Any]]:
    return [{"timestamp": iso_hour(one.hour), "value": one.value, "count": one.count} for one in observations(count)]


async def train(api: MemoryApi, given: list[dict[str, Any]], *, mode: str = "merge") -> Any:
    response = await api.client.post(PATH, params={"mode": mode}, json={"rows": given})
    assert response.status_code == 200, response.text
    return response.json()


async def stored_model(api: MemoryApi) -> object:
    return (await api.store.load([B1]))[B1].models[SLUG].to_state()


async def test_training_answers_what_predict_then_answers() -> None:
    async with memory_api() as api:
        answer = await train(api, rows())
        predicted = (await api.client.post("/metrics/predict/1/B1")).json()
    assert (answer["accepted"], answer["duplicate"], answer["rejected_total"]) == (72, 0, 0)
    assert answer["is_changed"]
    assert answer["backtest"]["n"] == 24
    assert answer["prediction"] == predicted
    assert (predicted["status"], predicted["n_learned"]) == ("ready", 72)


@pytest.mark.parametrize("count", [1, 20, 47, 48, 71])
async def test_predict_after_training_is_what_the_backtest_said_of_the_next_hour(count: int) -> None:
    given = observations()
    async with memory_api() as api:
        api.now_ms = given[count].hour * HOUR_MS + 120_000
        await train(api, rows()[:count])
        predicted = (await api.client.post("/metrics/predict/1/B1")).json()
        policy = api.settings.policy()
    said = list(backtest(AVERAGE_RESPONSE_TIME, given, policy))[count].forecast
    assert predicted["window_start"] == iso_hour(said.hour)
    estimate = said.estimate
    assert [predicted[name] for name in ("estimate", "lower", "upper", "threshold", "status")] == [
        estimate.location,
        estimate.lower,
        estimate.upper,
        said.threshold.value,
        said.status,
    ]


async def test_training_again_with_the_same_rows_writes_nothing() -> None:
    async with memory_api() as api:
        await train(api, rows())
        before = api.dump()
        api.now_ms += 5 * HOUR_MS
        again = await train(api, rows())
        replaced = await train(api, rows(), mode="replace")
        from_history = await api.client.post(PATH, json={"source": "history"})
        assert api.dump() == before
    assert (again["accepted"], again["duplicate"], again["is_changed"]) == (0, 72, False)
    assert not replaced["is_changed"]
    assert not from_history.json()["is_changed"]


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
async def test_half_and_then_the_other_half_is_all_at_once(order: slice) -> None:
    async with memory_api() as whole, memory_api() as halves:
        await train(whole, rows())
        for half in [rows()[:31], rows()[31:]][order]:
            await train(halves, half)
        assert await stored_model(halves) == await stored_model(whole)
        assert [await halves.history.read(B1, SLUG)] == [await whole.history.read(B1, SLUG)]


async def test_replace_starts_over_from_exactly_the_given_rows() -> None:
    async with memory_api() as api, memory_api() as fresh:
        await train(api, rows())
        answer = await train(api, rows()[10:60], mode="replace")
        await train(fresh, rows()[10:60])
        assert await stored_model(api) == await stored_model(fresh)
        assert len(await api.history.read(B1, SLUG)) == 50
    assert (answer["accepted"], answer["is_changed"]) == (50, True)


async def test_replace_with_a_part_of_the_history_keeps_that_part_only() -> None:
    given = observations()
    async with memory_api() as api:
        await train(api, rows())
        part = {"source": "history", "from": iso_hour(given[10].hour), "to": iso_hour(given[60].hour)}
        response = await api.client.post(PATH, params={"mode": "replace"}, json=part)
        assert response.json()["accepted"] == 50
        assert [row.hour for row in await api.history.read(B1, SLUG)] == [one.hour for one in given[10:60]]


async def test_a_lost_store_is_learned_again_from_the_history() -> None:
    async with memory_api() as api:
        await train(api, rows())
        learned = await stored_model(api)
        api.store.hashes.clear()
        api.store._index.clear()
        response = await api.client.post(PATH, json={"source": "history"})
        assert response.json()["is_changed"]
        assert await stored_model(api) == learned


async def test_a_crash_between_the_history_and_the_state_is_repaired_by_the_same_request() -> None:
    async with memory_api() as whole, memory_api() as api:
        await train(whole, rows())
        await train(api, rows()[20:50])
        await api.history.add_training(B1, SLUG, [(one.hour, one.value, one.count) for one in observations()])
        answer = await train(api, rows())
        assert (answer["accepted"], answer["duplicate"], answer["is_changed"]) == (0, 72, True)
        assert await stored_model(api) == await stored_model(whole)
        assert not (await train(api, rows()))["is_changed"]


async def test_another_writer_is_never_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    async with memory_api() as api:
        load, others = api.store.load, 3

        async def load_then_lose(subjects: list[Subject]) -> dict[Subject, SubjectState]:
            nonlocal others
            found = await load(subjects)
            if others:
                others -= 1
                other = (await load(subjects)).get(B1) or SubjectState(B1)
                other.accepted += 1
                assert await api.store.save([other]) == []
            return found

        monkeypatch.setattr(api.store, "load", load_then_lose)
        answer = await train(api, rows())
        state = (await load([B1]))[B1]
        assert (state.accepted, state.models[SLUG].n_learned) == (3, 72)
        assert answer["accepted"] + answer["duplicate"] == 72

        others = 1000
        response = await api.client.post(PATH, json={"rows": [{"timestamp": iso_hour(NOW_HOUR - 99), "value": 1.0}]})
    assert response.status_code == 409
    assert response.headers["retry-after"] == "1"


async def test_live_windows_and_training_meet_in_one_fold() -> None:
    async with memory_api() as api:
        policy = api.settings.policy()
        given = observations()
        live = {one.hour: CallWindow(one.count, 0, 0, round(one.value * 1000) * one.count) for one in given[-10:]}
        state = SubjectState(B1)
        state.absorb(Arrivals(watermark_ms=NOW_MS - 60_000, windows=dict(live)))
        state.learn(policy)
        state.publish(NOW_MS, policy)
        await api.store.save([state])

        answer = await train(api, rows()[:-10])
        assert answer["accepted"] == 62
        open_rows = await api.client.post(PATH, json={"rows": rows()[-1:]})
        learned = await train(api, rows()[-10:-1])
        async with memory_api() as whole:
            await train(whole, rows()[:-1])
            assert await stored_model(api) == await stored_model(whole)
    assert open_rows.status_code == 422
    assert "still open" in open_rows.json()["errors"][0]["reason"]
    assert (learned["duplicate"], learned["is_changed"]) == (9, False)


async def live(api: MemoryApi, given: list[Observation]) -> None:
    """The biller's hours as they come from the stream, late ones left out; the learned ones are in the outbox."""
    policy = api.settings.policy()
    state = (await api.store.load([B1])).get(B1) or SubjectState(B1)
    first = first_open_hour(state, state.watermark_ms, policy)
    windows: dict[int, Window] = {
        one.hour: CallWindow(one.count, 0, 0, round(one.value * 1000) * one.count) for one in given if one.hour >= first
    }
    state.absorb(Arrivals(watermark_ms=(given[-1].hour + 1) * HOUR_MS, windows=windows))
    state.learn(policy)
    state.publish(NOW_MS, policy)
    assert await api.store.save([state]) == []


async def test_a_worker_that_learns_while_the_history_is_read_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    given = observations()
    async with memory_api() as api, memory_api() as quiet:
        await live(api, given[:-20])
        outbox, others = api.store.outbox, [given[-20:-10], given[-10:]]

        async def learn_then_read(subjects: list[Subject]) -> Any:
            if others:
                await live(api, others.pop(0))
            return await outbox(subjects)

        monkeypatch.setattr(api.store, "outbox", learn_then_read)
        older = [{"timestamp": iso_hour(given[0].hour - 1 - at), "value": 100.0 + at} for at in range(5)]
        await train(api, older)
        for part in (given[:-20], given[-20:-10], given[-10:]):
            await live(quiet, part)
        await train(quiet, older)
        assert await stored_model(api) == await stored_model(quiet)


async def test_a_worker_that_read_the_outbox_before_the_series_was_replaced_brings_nothing_back() -> None:
    given = observations()
    async with memory_api() as api, memory_api() as fresh:
        await live(api, given[:-2])
        on_its_way = await api.store.outbox([B1])
        replaced = rows()[10:20]
        await train(api, replaced, mode="replace")
        await train(fresh, replaced)
        await api.history.record(on_its_way)
        assert [row.hour for row in await api.history.read(B1, SLUG)] == [one.hour for one in given[10:20]]
        assert len(await api.history.read(B1, "error-rate")) == 69
        assert not (await train(api, replaced))["is_changed"]
        assert await stored_model(api) == await stored_model(fresh)
        await live(api, given[-2:])
        await api.history.record(await api.store.outbox([B1]))
        assert [row.origin for row in await api.history.read(B1, SLUG)] == ["train"] * 10 + ["live"] * 2


async def test_training_again_changes_nothing_when_a_live_call_came_for_an_hour_that_was_trained() -> None:
    """The biller's other metrics have not learned that hour, and this one does not know a second value of it."""
    given = observations()
    strays = [Observation(given[10].hour + 1, 900.0, 1), Observation(given[-3].hour, 900.0, 1)]
    async with memory_api() as api:
        await train(api, [row for at, row in enumerate(rows()[:-2]) if at != 11])
        trained = await stored_model(api)
        await live(api, [*strays, given[-2]])
        await live(api, given[-2:])
        await api.history.record(await api.store.outbox([B1]))
        before = api.dump()
        again = await train(api, [row for at, row in enumerate(rows()[:-2]) if at != 11])
        from_history = (await api.client.post(PATH, json={"source": "history"})).json()
        assert trained != await stored_model(api)
        assert api.dump() == before
    assert (again["accepted"], again["duplicate"], again["is_changed"]) == (0, 69, False)
    assert not from_history["is_changed"]


async def test_bad_rows_are_listed_and_the_good_ones_taken() -> None:
    good = rows(3)
    bad: list[Any] = [
        {"timestamp": iso_hour(NOW_HOUR - 9), "value": "many"},
        7,
        {**good[0], "cuont": 1},
        {"value": 1.0},
    ]
    async with memory_api() as api:
        answer = await train(api, [good[0], *bad, good[1], good[2]])
        nothing = await api.client.post(PATH, json={"rows": bad})
    assert answer["accepted"] == 3
    assert [(one["row"], one["field"]) for one in answer["rejected"]] == [
        (2, "value"),
        (3, "row"),
        (4, "cuont"),
        (5, "timestamp"),
    ]
    assert nothing.status_code == 422
    assert [(one["row"], one["field"]) for one in nothing.json()["errors"]][:2] == [(1, "value"), (2, "row")]


async def test_the_list_of_rejected_rows_is_capped_and_counted() -> None:
    async with memory_api() as api:
        answer = await train(api, [*rows(2), *({"value": 1.0} for _ in range(500))])
    assert (answer["rejected_total"], len(answer["rejected"])) == (500, 50)


def as_csv(given: list[dict[str, Any]]) -> bytes:
    lines = ["timestamp,label,value,count", *(f"{row['timestamp']},x,{row['value']!r},{row['count']}" for row in given)]
    return "\r\n".join(lines).encode()


def as_ndjson(given: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in given).encode()


@pytest.mark.parametrize(
    ("media_type", "encode"), [("text/csv; charset=utf-8", as_csv), ("application/x-ndjson", as_ndjson)]
)
@pytest.mark.parametrize("is_packed", [False, True])
async def test_every_format_leads_to_the_same_model(media_type: str, encode: Any, is_packed: bool) -> None:
    body = encode(rows())
    headers = {"Content-Type": media_type}
    if is_packed:
        body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
    async with memory_api() as api, memory_api() as plain:
        response = await api.client.post(PATH, content=body, headers=headers)
        assert response.status_code == 200, response.text
        await train(plain, rows())
        assert api.dump() == plain.dump()


async def test_raw_calls_are_counted_to_hours() -> None:
    start = (NOW_HOUR - 5) * HOUR_MS
    calls = [
        {"timestamp": start, "latency_ms": 100.0, "outcome": "ok"},
        {"timestamp": start + 7, "latency_ms": 300.0, "status": 503},
        {"timestamp": start + 9, "latency_ms": 3.0, "outcome": "timeout"},
        {"timestamp": start + HOUR_MS, "latency_ms": 50.0, "outcome": "ok"},
        {"timestamp": start, "latency_ms": "slow", "outcome": "ok"},
        {"timestamp": start, "latency_ms": 1.0},
        {"timestamp": start, "latency_ms": 1.0, "outcome": "ok", "biller_id": "B2"},
    ]
    async with memory_api() as api:
        response = await api.client.post(PATH, json={"calls": calls})
        kept = await api.history.read(B1, SLUG)
        lines = "\n".join(json.dumps(call) for call in calls[:4]).encode()
        again = await api.client.post(PATH, content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert kept == [Row(NOW_HOUR - 5, 200.0, 2, "train"), Row(NOW_HOUR - 4, 50.0, 1, "train")]
    assert [(one["row"], one["field"]) for one in response.json()["rejected"]] == [
        (5, "latency_ms"),
        (6, "outcome"),
        (7, "biller_id"),
    ]
    assert (again.json()["duplicate"], again.json()["is_changed"]) == (2, False)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"[", "body"),
        (b"[]", "body"),
        (b'{"rows": [], "calls": []}', "body"),
        (b'{"rows": {}}', "rows"),
        (b'{"rows": []}', "rows"),
        (b'{"rows": [], "mode": "replace"}', "mode"),
        (b'{"source": "elsewhere"}', "source"),
        (b'{"source": "history", "from": "yesterday"}', "from"),
        (b'{"source": "history", "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}', "to"),
    ],
)
async def test_a_broken_structure_names_what_is_wrong(body: bytes, field: str) -> None:
    async with memory_api() as api:
        response = await api.client.post(PATH, content=body, headers={"Content-Type": "application/json"})
        assert api.dump() == {}
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("body", "row", "field"),
    [
        (b"value,count\n1,2\n", None, "timestamp"),
        (b"timestamp,value,value\n", None, "value"),
        (b"timestamp,value\n2026-03-01T00:00:00Z,1,2\n", 1, "row"),
        (b'timestamp,value\n2026-03-01T00:00:00Z,"1\n', 1, "row"),
        (b"timestamp,value\n\xff\xfe,1\n", None, "body"),
        (b"timestamp,value\n", None, "body"),
    ],
)
async def test_a_broken_table_names_row_and_field(body: bytes, row: int | None, field: str) -> None:
    async with memory_api() as api:
        response = await api.client.post(PATH, content=body, headers={"Content-Type": "text/csv"})
    assert response.status_code == 422
    error = response.json()["errors"][0]
    assert (error.get("row"), error["field"]) == (row, field)


async def test_bodies_that_are_too_large_are_refused_while_they_are_read() -> None:
    async with memory_api(max_body_bytes=10_000, max_rows=50) as api:
        plain = await api.client.post(PATH, content=b" " * 10_001)
        chunked = await api.client.post(PATH, content=endless())
        packed = await api.client.post(
            PATH, content=gzip.compress(bytes(50_000_000)), headers={"Content-Encoding": "gzip"}
        )
        many = await api.client.post(PATH, json={"rows": rows(51)})
        broken = await api.client.post(PATH, content=b"no gzip", headers={"Content-Encoding": "gzip"})
        cut = await api.client.post(
            PATH, content=gzip.compress(b'{"rows": []}')[:-9], headers={"Content-Encoding": "gzip"}
        )
        strange = await api.client.post(PATH, content=b"<rows/>", headers={"Content-Type": "application/xml"})
        assert api.dump() == {}
    assert [one.status_code for one in (plain, chunked, packed, many)] == [413] * 4
    assert packed.json()["type"] == "urn:tidemark:problem:too-large"
    assert [one.status_code for one in (broken, cut, strange)] == [415] * 3


async def endless() -> Any:
    while True:
        yield b" " * 1000


async def test_a_history_that_is_away_is_said_and_nothing_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with memory_api() as api:

        async def away(*_: object) -> None:
            raise DependencyError("postgres", "connection refused")

        monkeypatch.setattr(api.history, "add_training", away)
        response = await api.client.post(PATH, json={"rows": rows()})
        assert api.dump() == {}
    assert response.status_code == 503
    assert "postgres" in response.json()["detail"]
    assert response.headers["retry-after"] == "5"


async def test_a_gauge_is_trained_as_a_metric_is() -> None:
    path = "gauges/prediction_accuracy/Mistral/v1"
    given = [{"timestamp": row["timestamp"], "value": 0.8} for row in rows()]
    async with memory_api() as api:
        answer = (await api.client.post(f"/metrics/train/{path}", json={"rows": given})).json()
        predicted = (await api.client.post(f"/metrics/predict/{path}")).json()
        calls = await api.client.post(f"/metrics/train/{path}", json={"calls": []})
    assert answer["prediction"] == predicted
    assert (predicted["subject"], predicted["operator"], predicted["n_learned"]) == ("model:Mistral/v1", "<", 72)
    assert calls.status_code == 422


async def test_an_hour_that_training_is_first_to_publish_is_shown_to_the_rules() -> None:
    async with memory_api() as api:
        rule = {"metric": "error-rate", "condition": "higher than", "boundary": 20}
        assert (await api.client.put("/rules/many-errors", json=rule | {"id": "many-errors"})).is_success
        state = SubjectState(B1)
        window = CallWindow(calls=10, errors=6, latency_us=1_000_000)
        state.absorb(Arrivals(watermark_ms=NOW_HOUR * HOUR_MS - 1, windows={NOW_HOUR - 1: window}))
        await api.store.save([state])
        await train(api, rows()[:-10])
        (alert,) = (await api.store.alerts([B1]))[B1].values()
        assert (alert.rule, alert.value, alert.state) == ("many-errors", 60.0, "open")
        assert list(await api.hints.hinted()) == [B1]
        (told,) = (await api.store.announcements([B1])).values()
        assert [one.event for one in told.alerts.values()] == ["opened"]
