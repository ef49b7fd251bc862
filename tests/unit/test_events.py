"""What the outside world sends, decoded strictly."""

import json
import re
from pathlib import Path

import pytest

from detection.errors import InvalidEventError
from detection.events import (
    MAX_CALLS_IN_BATCH,
    MAX_GAUGES,
    MAX_LABELS,
    MAX_LATENCY_MS,
    check_call,
    decode_calls,
    decode_observation,
)

CALL = {"biller_id": "B1", "timestamp": "2026-03-01T10:00:00Z", "latency_ms": 12.5, "outcome": "ok"}
OBSERVATION = {"name": "Mistral", "version": "v1", "timestamp": 1_772_359_200_000, "drift": 0.1}


@pytest.mark.parametrize("indent", [None, 2])
def test_a_batch_is_a_batch_however_it_is_spaced(indent: int | None) -> None:
    payload = json.dumps({"calls": [CALL, CALL]}, indent=indent).encode()
    assert len(decode_calls(payload)) == 2


def test_an_observation_has_one_gauge_for_each_number() -> None:
    found = decode_observation(json.dumps(OBSERVATION | {"inference_time": 3, "labels": {"region": "eu"}}).encode())
    assert found.gauges == {"drift": 0.1, "inference-time": 3.0}
    assert str(found.subject) == "model:Mistral/v1"


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("drift", 10**400, "drift"),
        ("drift", 1e300, "drift"),
        ("drift", True, "drift"),
        ("drift", "0.1", "drift"),
        ("drift", None, "drift"),
        ("version", 1, "version"),
        ("version", "v1/x", "version"),
        ("timestamp", "yesterday", "timestamp"),
        ("timestamp", 1_772_359_200, "timestamp"),
        ("timestamp", None, "timestamp"),
        ("ümlaut", 1, "ümlaut"),
    ],
)
def test_what_is_no_observation_is_refused_by_the_name_of_its_field(field: str, value: object, named: str) -> None:
    payload = json.dumps(OBSERVATION | {field: value}, ensure_ascii=False).encode()
    with pytest.raises(InvalidEventError, match=named):
        decode_observation(payload)


@pytest.mark.parametrize("depth", range(900, 1100, 9))
def test_a_nested_value_is_refused_however_deep_it_is(depth: int) -> None:
    payload = json.dumps(OBSERVATION)[:-1].encode() + b', "deep": ' + b"[" * depth + b"]" * depth + b"}"
    with pytest.raises(InvalidEventError):
        decode_observation(payload)


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b"null", b"[" * 5000, b'{"calls":' * 2000, b"\xff"])
def test_what_is_no_event_at_all_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidEventError):
        decode_calls(payload)
    with pytest.raises(InvalidEventError):
        decode_observation(payload)


def test_what_the_page_for_producers_shows_is_taken_and_its_limits_are_ours() -> None:
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text(encoding="utf-8")
    single, several, observation = (one.encode() for one in re.findall(r"```json\n(.*?)```", page, re.DOTALL))
    assert [check_call(one)[1:] for one in decode_calls(single)] == [(1_767_603_600_000, 184_200, 0)]
    assert len([check_call(one) for one in decode_calls(several)]) == 2
    assert set(decode_observation(observation).gauges) == {"prediction-accuracy", "inference-ms"}
    for limit in (
        f"0 to {MAX_LATENCY_MS:,.0f}",
        f"up to {MAX_CALLS_IN_BATCH:,} of them",
        f"at most {MAX_GAUGES}",
        f"up to {MAX_LABELS} texts",
    ):
        assert limit in page, limit
