"""Observation events: what the worker makes of them, what the API makes of them, and what becomes of what is taken."""

import math
import re

import orjson

from api.bodies import Format
from api.event_log import OBSERVATIONS
from api.events import _checked, _read_observation
from api.problems import RefusedError
from detection.catalogue import gauge, metric_of
from detection.errors import InvalidEventError, TidemarkError
from detection.events import MAX_GAUGE, MAX_GAUGES, MAX_LABELS, NEWEST_MS, OLDEST_MS, Observed, decode_observation
from state.dead_letters import decode_letter
from state.keys import series_key
from stream import decoding
from stream.aggregation import aggregate_observations
from stream.dead_letters import of_crowded, of_late_observations
from stream.decoding import ObservedAt
from tests.contract.states import POLICY, SOURCE
from tests.fuzz.targets.calls import FUTURE_MS, RECEIVED_MS, Sent, assert_reaches_itself_only, assert_told
from tests.fuzz.targets.living import lives_on

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)


def check(data: bytes) -> None:
    """Raise where two ways to read the same bytes differ, or what was taken cannot be lived with."""
    found, rejected = decoding.decode_observations([Sent(data, 5)], future_ms=FUTURE_MS)
    assert len(found) + len(rejected) == 1
    for refused in rejected:
        assert_told(data, refused)
    try:
        alone = decode_observation(data)
    except InvalidEventError:
        assert rejected
    else:
        assert alone.timestamp_ms > RECEIVED_MS + FUTURE_MS or [one.observed for one in found] == [alone]
    for one in found:
        assert_in_range(one.observed)
        absorbed(one)
    through_the_api(data, [one.observed for one in found])


def assert_in_range(observed: Observed) -> None:
    """Everything that a model would learn is finite and bounded, and no name of a field is more than a metric."""
    assert OLDEST_MS <= observed.timestamp_ms < NEWEST_MS
    assert 1 <= len(observed.gauges) <= MAX_GAUGES
    assert len(observed.labels) <= MAX_LABELS
    assert_reaches_itself_only(observed.subject)
    for slug, value in observed.gauges.items():
        assert _SLUG.fullmatch(slug)
        assert type(value) is float
        assert math.isfinite(value)
        assert abs(value) <= MAX_GAUGE
        assert metric_of(slug) == gauge(slug)
        assert series_key(observed.subject, slug).endswith(f"}}:{slug}")


def absorbed(one: ObservedAt) -> None:
    """It can be counted, learned, published and stored, and told of where it is late or too much."""
    counted = aggregate_observations([(SOURCE, one)], {}, POLICY)
    assert not counted.late
    assert not counted.crowded
    for subject, arrived in counted.arrivals.items():
        lives_on(subject, arrived)
    for letter in (*of_late_observations([one]), *of_crowded([one])):
        decoded = decode_letter(0, 0, 0, letter.as_json())
        assert decoded.topic == "observations"
        assert not decoded.is_whole


def through_the_api(data: bytes, found: list[Observed]) -> None:
    """What the API takes, the worker takes too, and the other way round."""
    forms: tuple[Format, ...] = ("json", "ndjson")
    for form in forms:
        try:
            events = _checked(data, form, OBSERVATIONS, _read_observation, 1000, RECEIVED_MS + FUTURE_MS)
        except (RefusedError, TidemarkError) as error:
            orjson.dumps(str(error))
            assert form == "ndjson" or not found, error
            continue
        taken, rejected = decoding.decode_observations([Sent(raw) for _, raw in events], future_ms=FUTURE_MS)
        assert not rejected, rejected
        assert [one.observed.subject.id for one in taken] == [key.decode() for key, _ in events]


def seeds() -> list[bytes]:
    """All spellings of an observation, and names and numbers from outside."""
    fields = {"name": "Mistral", "version": "v1", "timestamp": RECEIVED_MS, "prediction_accuracy": 0.193, "drift": 0.1}
    spelt = [
        fields,
        fields | {"timestamp": "2025-12-31T23:59:59.5+05:30", "inference_time": 12},
        fields | {"labels": {"region": "eu", "tier": "\u202e"}},
        fields | {"prediction-accuracy": 1},
        fields | {"drift": -1e15, "PSI": 5e-324},
        fields | {"drift": "0.1"},
        fields | {"drift": True},
        fields | {"a b": 1},
        fields | {f"m{at}": at for at in range(70)},
        {"observations": [fields, fields | {"version": "v2"}]},
        [fields],
        *(fields | {"name": one} for one in ("", "a:b", "{b}", "a*", "b/c", "\x00", "\u202eB", "B\n", "x" * 200)),
        *(fields | {"timestamp": one} for one in (0, 1.5, None, "now", "2026-01-01", RECEIVED_MS * 1000)),
    ]
    raw = [
        b'{"name":"a","version":"b","timestamp":1767225600000,"x":1e400}',
        b'{"name":"a","version":"b","timestamp":1767225600000,"x":%s}' % (b"9" * 400),
        b'{"name":"a","version":"b","timestamp":1767225600000,"x":-0.0,"x":NaN}',
        b'{"name":"\\ud800","version":"b","timestamp":1767225600000,"x":1}',
        b'{"name":"a","version":"b","timestamp":%s,"x":1}' % (b"[" * 900),
    ]
    return [*map(orjson.dumps, spelt), *raw]
