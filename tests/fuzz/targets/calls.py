"""Call events: the worker reads them in batches and one by one, the API one by one; all must say the same of them."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import orjson

from api.bodies import Format
from api.event_log import CALLS
from api.events import _checked, _read_call
from api.problems import RefusedError
from detection.errors import InvalidEventError, TidemarkError
from detection.events import MAX_LATENCY_MS, NEWEST_MS, OLDEST_MS, OUTCOME_NAMES, check_call, decode_calls
from detection.subject import Subject, is_valid_part
from state.dead_letters import decode_letter
from state.keys import models_key, outbox_key, series_key, subject_key
from stream import decoding
from stream.aggregation import Calls, aggregate
from stream.dead_letters import of_late_calls, of_rejected
from stream.decoding import CallColumns
from tests.contract.states import POLICY, SOURCE
from tests.fuzz.targets.living import lives_on

RECEIVED_MS = 1_767_225_600_000
FUTURE_MS = 300_000
_GOOD = b'{"biller_id":"good","timestamp":%d,"latency_ms":1.5,"outcome":"ok"}' % RECEIVED_MS
_CALLS = Path(__file__).parents[3] / "examples" / "calls.ndjson.gz"


@dataclass(frozen=True, slots=True)
class Sent:
    """A record of the topic, given to the broker at RECEIVED_MS."""

    value: bytes | None
    offset: int = 0
    timestamp: int = RECEIVED_MS
    key: bytes | None = None


def check(data: bytes) -> None:
    """Raise where two ways to read the same bytes differ, or what was taken cannot be lived with."""
    taken, rejected = decoding.decode_calls([Sent(data, 5)], future_ms=FUTURE_MS)
    assert_decided(data, taken, rejected)
    in_company(data, taken)
    through_the_api(data, taken)
    absorbed(taken)


def assert_decided(data: bytes, taken: CallColumns, rejected: Sequence[decoding.Rejected]) -> None:
    """Taken as a whole or refused as a whole, with everything that is taken in its range."""
    assert len(rejected) <= 1
    assert not (rejected and taken.biller_ids)
    try:
        alone = decode_calls(data)
    except InvalidEventError:
        assert rejected
    else:
        assert len(taken.biller_ids) in {0, len(alone)}
        assert rejected or taken.biller_ids or not alone
        # Machine code reads most of them: to the last bit what the decoder of events says.
        checked = [check_call(one) for one in alone[: len(taken)]]
        assert [subject.id for subject, *_ in checked] == taken.biller_ids
        columns = np.array([numbers for _, *numbers in checked], np.int64).reshape(-1, 3).T
        assert np.array_equal(columns, [taken.timestamp_ms, taken.latency_us, taken.outcome])
    for refused in rejected:
        assert_told(data, refused)
    assert all(is_valid_part(one) for one in taken.biller_ids)
    assert ((taken.timestamp_ms >= OLDEST_MS) & (taken.timestamp_ms < NEWEST_MS)).all()
    assert (taken.timestamp_ms <= RECEIVED_MS + FUTURE_MS).all()
    assert ((taken.latency_us >= 0) & (taken.latency_us <= MAX_LATENCY_MS * 1000)).all()
    assert np.isin(taken.outcome, (0, 1, 2)).all()
    for one in set(taken.biller_ids):
        assert_reaches_itself_only(Subject.biller(one))


def assert_told(data: bytes, rejected: decoding.Rejected) -> None:
    """What is refused is in its letter, byte for byte, with a reason of one bearable line."""
    assert rejected.reason
    assert len(rejected.reason) < 2000
    letter = decode_letter(0, 0, RECEIVED_MS, of_rejected("calls", 3, rejected).as_json())
    assert (letter.reason, letter.value, letter.origin) == ("invalid", data, f"calls/3/{rejected.record.offset}")
    assert letter.is_whole
    assert len(letter.excerpt().splitlines()) <= 1


def assert_reaches_itself_only(subject: Subject) -> None:
    """Its keys name it between the first brace and the next, which is the slot of a cluster, and are its own."""
    keys = [subject_key(subject), models_key(subject), outbox_key(subject), series_key(subject, "error-rate")]
    for key in keys:
        assert key.startswith("tidemark:1:{")
        assert key[key.index("{") + 1 : key.index("}")] == str(subject)
        assert (key.count("{"), key.count("}")) == (1, 1)
    assert Subject.parse(str(subject)) == subject


def in_company(data: bytes, taken: CallColumns) -> None:
    """Its neighbours in a poll change nothing of it, and it nothing of them, whichever path the poll takes."""
    for others in ([Sent(_GOOD, 4), Sent(data, 5), Sent(_GOOD, 6)], [Sent(data, 5), Sent(b"{", 6), Sent(None, 7)]):
        columns, _ = decoding.decode_calls(others, future_ms=FUTURE_MS)
        mine = columns.offset == 5
        assert [one for one, is_mine in zip(columns.biller_ids, mine, strict=True) if is_mine] == taken.biller_ids
        for name in ("timestamp_ms", "latency_us", "outcome"):
            assert np.array_equal(getattr(columns, name)[mine], getattr(taken, name))
        assert np.count_nonzero(~mine) == sum(one.value == _GOOD and one.offset != 5 for one in others)


def through_the_api(data: bytes, taken: CallColumns) -> None:
    """What the API takes, the worker takes too, and what the worker takes as one call, so does the API."""
    forms: tuple[Format, ...] = ("json", "ndjson")
    for form in forms:
        try:
            events = _checked(data, form, CALLS, _read_call, 1000, RECEIVED_MS + FUTURE_MS)
        except (RefusedError, TidemarkError) as error:
            orjson.dumps(str(error))
            # The worker does not look into fields that it does not know; the API wants all of it to be UTF-8.
            is_batch = data.lstrip().startswith(b'{"calls"')
            assert form == "ndjson" or len(taken.biller_ids) != 1 or is_batch or not _is_text(data)
            continue
        assert events
        # No two records of a partition have the same offset.
        sent = [Sent(raw, at) for at, (_, raw) in enumerate(events)]
        columns, rejected = decoding.decode_calls(sent, future_ms=FUTURE_MS)
        assert not rejected, rejected
        assert columns.biller_ids == [key.decode() for key, _ in events]


def _is_text(data: bytes) -> bool:
    try:
        return bool(data.decode())
    except UnicodeDecodeError:
        return False


def absorbed(taken: CallColumns) -> None:
    """What was taken can be counted, learned, published and stored; what of it came too late can be sent again."""
    if not taken.biller_ids:
        return
    subjects = [Subject.biller(one) for one in dict.fromkeys(taken.biller_ids)]
    places = {subject.id: at for at, subject in enumerate(subjects)}
    calls = Calls(
        subjects,
        [SOURCE],
        np.array([places[one] for one in taken.biller_ids], np.int64),
        np.zeros(len(taken.biller_ids), np.int64),
        taken.timestamp_ms,
        taken.latency_us,
        taken.outcome,
        taken.offset,
    )
    counted = aggregate(calls, {}, POLICY)
    late = [letter.as_json() for letter in of_late_calls(counted.late)]
    resent = [one for letter in late for one in decode_calls(decode_letter(0, 0, 0, letter).value or b"")]
    too_late = [counted.late.subjects[at].id for at in counted.late.subject.tolist()]
    assert sorted(one.biller_id for one in resent) == sorted(too_late)
    assert all(one.outcome in OUTCOME_NAMES for one in resent)
    accepted = sum(one.accepted + one.late for one in counted.arrivals.values())
    assert accepted == len(taken.biller_ids)
    for subject, arrived in islice(counted.arrivals.items(), 3):
        lives_on(subject, arrived)


def seeds() -> list[bytes]:
    """Recorded calls, all spellings of a call, and names and numbers from outside."""
    with gzip.open(_CALLS) as lines:
        recorded = [line.strip() for line in islice(lines, 0, 8000, 1000)]
    fields = {"biller_id": "B1", "timestamp": RECEIVED_MS, "latency_ms": 184.2, "outcome": "ok"}
    spelt = [
        fields,
        fields | {"outcome": "error"},
        fields | {"timestamp": "2025-12-31T23:59:59.5+05:30"},
        {"biller_id": "B1", "timestamp": RECEIVED_MS, "latency_ms": 0, "status": 503},
        fields | {"status": 200, "outcome": None, "note": {"a": [1, 2]}},
        {"calls": [fields, fields | {"biller_id": "B2", "outcome": "timeout"}]},
        {"calls": [fields, fields | {"timestamp": RECEIVED_MS - 40 * 3_600_000}]},
        {"calls": []},
        [fields, fields],
        *(fields | {"timestamp": ms} for ms in (0, -1, 2**63, RECEIVED_MS // 1000, RECEIVED_MS * 1000, NEWEST_MS - 1)),
        *(fields | {"biller_id": one} for one in ("", "a:b", "{b}", "a*", "b/c", "\x00", "\u202eB", "B\n", "x" * 200)),
    ]
    raw = [
        b"",
        b"null",
        b"[" * 1000,
        b'{"calls":' * 100,
        b'{"biller_id":"B1","timestamp":1e400,"latency_ms":NaN,"outcome":"ok"}',
        b'{"biller_id":"B1","timestamp":1767225600000,"latency_ms":-0.0,"outcome":"ok"}',
        b'{"biller_id":"\\ud800","timestamp":1767225600000,"latency_ms":1e308,"outcome":"ok"}',
        b'{"biller_id":"\xff","timestamp":1767225600000,"latency_ms":1,"outcome":"ok"}',
        _GOOD + b"\r\n" + _GOOD + b"\n\n",
    ]
    return [*recorded, *(json.dumps(one).encode() for one in spelt), *raw]
