"""What somebody sends who means no good, or whose program is broken: refused with a reason, and at no great cost."""

import gzip
import io
import json
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote

import orjson
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from detection.errors import InvalidEventError, InvalidSubjectError
from detection.events import MAX_GAUGES, MAX_LABELS, decode_observation
from detection.hours import HOUR_MS
from detection.subject import Subject
from detection.windows import size
from settings import Settings
from state import keys
from state.dead_letters import decode_letter
from stream.aggregation import aggregate_observations
from stream.dead_letters import of_rejected
from stream.decoding import ObservedAt, decode_calls, decode_observations
from tests.contract.states import POLICY, SOURCE, fields
from tests.fuzz.targets.calls import FUTURE_MS, RECEIVED_MS, Sent
from tests.memory_api import NOW_MS, memory_api
from tests.process_logs import configured_logs

MIB = 1024 * 1024
TRAIN = "/metrics/train/1/B1"
BODIES = ("/events/calls", "/events/observations", TRAIN)
CALL = {"biller_id": "B1", "timestamp": NOW_MS, "latency_ms": 1.5, "outcome": "ok"}
OBSERVATION = {"name": "Mistral", "version": "v1", "timestamp": RECEIVED_MS, "drift": 0.1}

HOSTILE_IDS = [
    "", " ", "B1 ", "B 1", "B1\n", "B1\r\nX-Evil: 1", "\x00", "B\x001", "B1\u202e", "\u200bB1", "B\u00a01",
    "Ｂ1", "B１",
    "é", "{B1}", "B{1", "B1}", "B1}:_models", "a:b", "biller:B1", "B1:error-rate", "*", "B*", "B?", "[a-z]", "B\\1",
    "../B1", "B1/v1", "'", '"', "$(ls)", "=1+1", "+1", "-1", "@SUM(A1)", "_outbox", "subjects ", "x" * 129, "x" * 4096,
]  # fmt: skip


def bomb(unpacked: int) -> bytes:
    """So many zeros, packed a thousand to one."""
    stream = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(stream.compress(bytes(MIB)) for _ in range(unpacked // MIB)) + stream.flush()


@pytest.fixture
def peak_bytes() -> Iterator[list[int]]:
    """What Python had allocated at once at the most, when the test asks for it."""
    tracemalloc.start()
    yield [0]
    tracemalloc.stop()


@pytest.mark.parametrize("path", BODIES)
async def test_a_bomb_takes_no_more_memory_than_a_body_may_have(path: str, peak_bytes: list[int]) -> None:
    packed = bomb(256 * MIB)
    async with memory_api(max_body_bytes=MIB) as api:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        response = await api.client.post(path, content=packed, headers={"Content-Encoding": "gzip"})
        _, peak = tracemalloc.get_traced_memory()
        assert api.log.events == []
    assert response.status_code == 413
    assert peak - before < 8 * MIB


async def test_a_stream_that_unpacks_to_nothing_is_not_read_for_ever() -> None:
    """Members without content add no byte to the body: they are counted themselves."""

    async def members() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield empty * 1000

    empty = gzip.compress(b"", mtime=0)
    async with memory_api() as api:
        response = await api.client.post(BODIES[0], content=members(), headers={"Content-Encoding": "gzip"})
    assert response.status_code == 413
    assert "members" in response.json()["detail"]


async def test_packed_bytes_are_counted_too_where_nobody_says_how_many_come() -> None:
    """Without a Content-Length, what is unpacked was all that was counted: a header alone can be of any length."""

    async def header() -> AsyncIterator[bytes]:
        # The name of a file, in the header of gzip: it ends with the first zero, which never comes.
        yield b"\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\xff"
        for _ in range(100):
            taken.append(65_536)
            yield b"x" * 65_536

    taken: list[int] = []
    async with memory_api(max_body_bytes=MIB) as api:
        response = await api.client.post(BODIES[0], content=header(), headers={"Content-Encoding": "gzip"})
    assert response.status_code == 413
    assert sum(taken) <= 2 * MIB


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "compress", "gzip, gzip", "gzip,br", "identity, gzip"])
async def test_encodings_that_are_not_taken_are_not_looked_into(encoding: str) -> None:
    async with memory_api() as api:
        twice = gzip.compress(gzip.compress(orjson.dumps(CALL)))
        response = await api.client.post(BODIES[0], content=twice, headers={"Content-Encoding": encoding})
    assert response.status_code == 415


async def test_gzip_within_gzip_is_unpacked_once_and_then_no_event() -> None:
    async with memory_api() as api:
        twice = gzip.compress(gzip.compress(orjson.dumps(CALL)))
        response = await api.client.post(BODIES[0], content=twice, headers={"Content-Encoding": "gzip"})
        assert api.log.events == []
    assert response.status_code == 422


@pytest.mark.parametrize("beginning", ["[", '{"a":', '{"calls":[', '{"rows":[', '{"x":{"y":'])
@pytest.mark.parametrize("path", [*BODIES, "/rules"])
async def test_json_of_a_hundred_thousand_levels_is_refused(path: str, beginning: str) -> None:
    deep = beginning * 100_000
    async with memory_api() as api:
        for body in (deep.encode(), (deep + "]" * 100_000).encode()):
            method = "PUT" if path == "/rules" else "POST"
            response = await api.client.request(
                method, path, content=body, headers={"Content-Type": "application/json"}
            )
            assert 400 <= response.status_code < 500, response.text


@pytest.mark.parametrize("beginning", ["[", '{"a":', '{"biller_id":', '{"calls":['])
def test_a_deep_record_is_one_dead_letter(beginning: str) -> None:
    deep = (beginning * 100_000).encode()
    for decode in (decode_calls, decode_observations):
        _, rejected = decode([Sent(deep)], future_ms=FUTURE_MS)
        (refused,) = rejected
        assert refused.reason
        assert len(refused.reason) < 300


NOT_NUMBERS = ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", '"1"', "null", "[]", "true", "0x10", "1_0", "١"]


@pytest.mark.parametrize("number", [*NOT_NUMBERS, "-1", "-0.001", "3600001", "9223372036854775808", "1" * 400])
def test_what_no_call_can_have_taken_is_refused(number: str) -> None:
    value = b'{"biller_id":"B1","timestamp":%d,"latency_ms":%b,"outcome":"ok"}' % (RECEIVED_MS, number.encode())
    columns, rejected = decode_calls([Sent(value)], future_ms=FUTURE_MS)
    assert not columns.biller_ids
    assert len(rejected) == 1


@pytest.mark.parametrize("number", [*NOT_NUMBERS, "1.0000001e15", "-1e16", "9" * 400, "1e308"])
def test_what_no_gauge_can_show_is_refused(number: str) -> None:
    value = b'{"name":"a","version":"b","timestamp":%d,"drift":%b}' % (RECEIVED_MS, number.encode())
    found, rejected = decode_observations([Sent(value)], future_ms=FUTURE_MS)
    assert not found
    assert len(rejected) == 1


def test_minus_zero_is_zero() -> None:
    value = b'{"biller_id":"B1","timestamp":%d,"latency_ms":-0.0,"outcome":"ok"}' % RECEIVED_MS
    columns, _ = decode_calls([Sent(value)], future_ms=FUTURE_MS)
    assert columns.latency_us.tolist() == [0]


@pytest.mark.parametrize("field", ["timestamp", "value", "count"])
@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "1e400", "9223372036854775808", "-1e309", '"inf"', '"nan"', "[]"]
)
async def test_training_learns_nothing_from_a_row_that_has_no_number(field: str, number: str) -> None:
    row = {"timestamp": str(NOW_MS - 50 * HOUR_MS), "value": "1.5", "count": "10"} | {field: number}
    cells = ",".join(f'"{name}":{text}' for name, text in row.items())
    body = f'{{"rows":[{{{cells}}}]}}'
    async with memory_api() as api:
        response = await api.client.post(TRAIN, content=body)
        assert api.dump() == {}
    assert response.status_code == 422, response.text


YEARS_OFF = [0, 1, RECEIVED_MS // 1000, RECEIVED_MS * 1000, -RECEIVED_MS, 2**63 - 1, -(2**63), 2**64, 10**30]


@pytest.mark.parametrize("ms", [*YEARS_OFF, RECEIVED_MS + FUTURE_MS + 1, RECEIVED_MS + 10 * 365 * 24 * HOUR_MS])
def test_an_event_of_a_clock_that_is_years_off_is_a_dead_letter_with_its_reason(ms: int) -> None:
    call = json.dumps({**CALL, "timestamp": ms}).encode()
    columns, rejected = decode_calls([Sent(call)], future_ms=FUTURE_MS)
    assert not columns.biller_ids
    letter = decode_letter(0, 0, 0, of_rejected("calls", 0, rejected[0]).as_json())
    assert letter.reason == "invalid"
    assert "timestamp" in letter.detail or "integer" in letter.detail.lower()
    found, rejected = decode_observations(
        [Sent(json.dumps(OBSERVATION | {"timestamp": ms}).encode())], future_ms=FUTURE_MS
    )
    assert not found
    assert len(rejected) == 1


async def test_a_clock_that_was_years_behind_closes_no_million_windows() -> None:
    """Two hours a quarter of a century apart are two windows; the silence between them is passed in one step."""
    rows = [{"timestamp": ms, "value": 5.0, "count": 10} for ms in (946_688_400_000, NOW_MS - 50 * HOUR_MS)]
    async with memory_api() as api:
        begun = time.process_time()
        response = await api.client.post(TRAIN, content=orjson.dumps({"rows": rows}))
        seconds = time.process_time() - begun
        stored = await fields(api.store)
    assert response.status_code == 200, response.text
    assert sum(len(one) for key, one in stored.items() if key.endswith("_outbox")) <= len(rows)
    assert seconds < 10


@pytest.mark.parametrize("one", HOSTILE_IDS)
def test_no_key_can_be_made_of_a_hostile_id(one: str) -> None:
    for make in (Subject.biller, lambda text: Subject.model(text, "v1"), lambda text: Subject.model("Mistral", text)):
        with pytest.raises(InvalidSubjectError):
            make(one)
    call = json.dumps({**CALL, "timestamp": RECEIVED_MS, "biller_id": one}).encode()
    columns, rejected = decode_calls([Sent(call)], future_ms=FUTURE_MS)
    assert not columns.biller_ids
    assert "\n" not in rejected[0].reason
    with pytest.raises(InvalidEventError):
        decode_observation(json.dumps(OBSERVATION | {"name": one}).encode())


def test_half_of_a_surrogate_pair_is_no_text() -> None:
    call = b'{"biller_id":"\\ud800","timestamp":%d,"latency_ms":1,"outcome":"ok"}' % RECEIVED_MS
    _, rejected = decode_calls([Sent(call)], future_ms=FUTURE_MS)
    assert orjson.dumps(rejected[0].reason)


@pytest.mark.parametrize("one", [one for one in HOSTILE_IDS if one.strip(" ./")])
async def test_nothing_is_stored_for_a_hostile_id_in_an_address(one: str) -> None:
    body = orjson.dumps({"rows": [{"timestamp": NOW_MS - 50 * HOUR_MS, "value": 1.0}]})
    async with memory_api() as api:
        for path in (
            f"/metrics/train/1/{quote(one, safe='')}",
            f"/metrics/train/gauges/drift/{quote(one, safe='')}/v1",
        ):
            response = await api.client.post(path, content=body)
            assert 400 <= response.status_code < 500, response.text
            assert "x-evil" not in response.headers
        assert api.dump() == {}


PARTS = st.text(
    st.sampled_from("ABCabc019._@+=-"), min_size=1, max_size=8
).filter(lambda text: text[0].isalnum())  # fmt: skip
SUBJECTS = st.one_of(st.builds(Subject.biller, PARTS), st.builds(Subject.model, PARTS, PARTS))
SLUGS = st.text(st.sampled_from("abc019-"), min_size=1, max_size=8).filter(lambda text: text[0].isalnum())


def keys_of(subject: Subject, slug: str) -> list[str]:
    return [
        keys.subject_key(subject),
        keys.models_key(subject),
        keys.outbox_key(subject),
        keys.series_key(subject, slug),
    ]


@given(SUBJECTS, SUBJECTS, SLUGS, SLUGS)
def test_two_subjects_share_no_key_and_no_subject_reaches_what_is_nobodys(
    one: Subject, other: Subject, slug: str, other_slug: str
) -> None:
    mine, theirs = keys_of(one, slug), keys_of(other, other_slug)
    assert len(set(mine)) == len(mine)
    assert one == other or not {*mine} & {*theirs}
    nobodys = {
        keys.SUBJECTS, keys.CLOCK, keys.COHORTS, keys.PROGRESS, keys.LOG, keys.ALERTING, keys.NOTIFIED, keys.RULES,
        keys.API_KEYS, keys.REPLAYED, keys.rate_key(slug),
    }  # fmt: skip
    assert not nobodys & {*mine}
    # What Redis Cluster hashes: between the first brace and the next one after it.
    assert {key.partition("{")[2].partition("}")[0] for key in mine} == {str(one)}


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_feed_in_what_was_sent_begins_no_line_of_the_log(
    log_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = io.StringIO()
    monkeypatch.setattr("sys.stderr", text)
    with configured_logs(Settings(log_format=log_format)):
        structlog.get_logger().warning("events.refused", reason="B1\n2026-01-01 [error] forged", key="\x1b[2J\r\nb")
    assert len(text.getvalue().splitlines()) == 1
    assert "\x1b[2J" not in text.getvalue()


async def test_a_line_feed_in_an_address_makes_no_header() -> None:
    async with memory_api() as api:
        for path in ("/stats/billers/B1%0d%0aX-Evil:%201", "/rules/a%0d%0aX-Evil:%201", "/%0d%0aX-Evil:%201"):
            response = await api.client.get(path)
            assert 400 <= response.status_code < 500
            assert "x-evil" not in response.headers


@pytest.mark.parametrize("first", "=+-@\t\r|%")
def test_no_name_that_a_table_shows_is_a_formula(first: str) -> None:
    """What a spreadsheet calculates begins with one of these; ids and metrics begin with a letter or a digit."""
    with pytest.raises(InvalidSubjectError):
        Subject.biller(f"{first}SUM(A1)")
    named = json.dumps(OBSERVATION | {f"{first}SUM": 1}).encode()
    if first.isspace():
        # Space around a name is no part of it.
        assert "sum" in decode_observation(named).gauges
        return
    with pytest.raises(InvalidEventError):
        decode_observation(named)


def test_a_subject_has_no_more_metrics_than_it_may_however_they_come() -> None:
    observed = [
        (SOURCE, ObservedAt(decode_observation(json.dumps(OBSERVATION | {f"id-{at}": at}).encode()), at))
        for at in range(1000)
    ]
    counted = aggregate_observations(observed, {}, POLICY)
    (arrived,) = counted.arrivals.values()
    assert arrived.windows is not None
    assert sum(map(size, arrived.windows.values())) == MAX_GAUGES - 1
    assert len(counted.crowded) == 1000 - (MAX_GAUGES - 1)


def test_an_event_has_no_more_labels_than_it_may() -> None:
    labels = {f"l{at}": "x" for at in range(MAX_LABELS + 1)}
    with pytest.raises(InvalidEventError, match="labels"):
        decode_observation(json.dumps(OBSERVATION | {"labels": labels}).encode())
    with pytest.raises(InvalidEventError, match="labels"):
        decode_observation(json.dumps(OBSERVATION | {"labels": {"region": "x" * 129}}).encode())


def test_a_huge_record_is_refused_by_a_letter_that_fits_into_a_message() -> None:
    huge = b'{"biller_id":"' + b"\xff" * (20 * MIB)
    _, rejected = decode_calls([Sent(huge)], future_ms=FUTURE_MS)
    letter = of_rejected("calls", 0, rejected[0]).as_json()
    assert len(letter) < 900_000
    assert not decode_letter(0, 0, 0, letter).is_whole
