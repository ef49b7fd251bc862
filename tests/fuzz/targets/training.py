"""Bodies of `POST /metrics/train`: JSON, NDJSON and CSV, packed and not, of rows and of calls.

The first byte of an input says which form its body is said to have, and of which series; what is said to be gzip is
mostly packed here, as a mutation of packed bytes is hardly ever gzip.
"""

import gzip
import math

import orjson

from api.bodies import Format, _Unpacking
from api.datasets import DataSet, read_data_set
from api.problems import RefusedError
from detection.catalogue import BILLER_METRICS, gauge
from detection.errors import TooLargeError
from detection.events import NEWEST_MS, OLDEST_MS
from detection.hours import HOUR_MS
from detection.rows import Row
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.training import first_open, sift, train
from tests.contract.states import POLICY
from tests.fuzz.targets.living import Hashes, assert_speaks, loaded, written

_FORMS: tuple[Format, ...] = ("json", "ndjson", "csv")
_SERIES = (
    *((Subject.biller("B1"), metric) for metric in BILLER_METRICS),
    (Subject.model("Mistral", "v1"), gauge("drift")),
)
_MAX_ROWS = 100
_MAX_BYTES = 64 * 1024
_PACKED, _RAW = 1, 2
# What may be said by the first byte: the form, the series, and how the body is packed.
_WAYS = len(_FORMS) * len(_SERIES) * 3


def check(data: bytes) -> None:
    """Refused as a body, or row by row with each row's place and reason; what is taken can be learned and stored."""
    if not data:
        return
    way, body = data[0] % _WAYS, data[1:]
    form = _FORMS[way % len(_FORMS)]
    subject, metric = _SERIES[way // len(_FORMS) % len(_SERIES)]
    try:
        body = unpacked(body, way // (len(_FORMS) * len(_SERIES)))
        found = read_data_set(body, form, subject=subject, metric=metric, max_rows=_MAX_ROWS)
    except RefusedError as error:
        assert 400 <= error.kind.status < 500
        orjson.dumps([error.detail, *(fault.fields() for fault in error.faults)])
        return
    except TooLargeError as error:
        orjson.dumps(str(error))
        return
    if not isinstance(found, DataSet):
        assert found.from_hour < found.before_hour
        return
    assert len(found.rows) + len(found.rejected) <= _MAX_ROWS
    for refused in found.rejected:
        assert 1 <= refused.row <= _MAX_ROWS
        assert len(str(refused)) < 1000
        orjson.dumps(str(refused))
    for row in found.rows:
        assert row.hour * HOUR_MS + HOUR_MS > OLDEST_MS
        assert row.hour * HOUR_MS < NEWEST_MS
        assert math.isfinite(row.value)
        assert metric.lower <= row.value <= metric.upper
        assert row.count is None or 1 <= row.count <= 2**53
    learned(found.rows, way)


def unpacked(body: bytes, how: int) -> bytes:
    """The body as it is, packed and unpacked, or taken for packed."""
    if how == 0:
        return body
    unpack = _Unpacking(_MAX_BYTES)
    text = unpack.feed(gzip.compress(body, 1, mtime=0) if how == _PACKED else body)
    if len(text) > _MAX_BYTES:
        raise TooLargeError(f"the body has more than {_MAX_BYTES} bytes, unpacked")
    unpack.finish()
    return text


def learned(rows: list[Row], way: int) -> None:
    """Both halves, one after the other, lead to what all at once leads to."""
    subject, metric = _SERIES[way // len(_FORMS) % len(_SERIES)]
    state = SubjectState(subject)
    closed_before = NEWEST_MS // HOUR_MS
    open_from = first_open(state, closed_before=closed_before, policy=POLICY)
    sifted = sift(rows, known={}, model=None, open_from=open_from, closed_before=closed_before)
    assert len(sifted.accepted) + len(sifted.duplicates) + len(sifted.rejected) == len(rows)
    if not sifted.accepted:
        return
    train(state, metric, known={}, added=sifted.accepted, anew=False, policy=POLICY)
    newest = max(row.hour for row in sifted.accepted)
    assert_speaks(state.models[metric.slug].forecast(newest + 1, POLICY))
    state.publish((newest + 1) * HOUR_MS, POLICY)
    half = len(sifted.accepted) // 2
    other = SubjectState(subject)
    known = {row.hour: row.observation() for row in sifted.accepted[:half]}
    train(other, metric, known={}, added=sifted.accepted[:half], anew=False, policy=POLICY)
    train(other, metric, known=known, added=sifted.accepted[half:], anew=False, policy=POLICY)
    assert other.models.record(metric.slug) == state.models.record(metric.slug)
    stored: Hashes = {}
    written(state, stored)
    assert loaded(subject, stored).models.record(metric.slug) == state.models.record(metric.slug)


def seeds() -> list[bytes]:
    """Rows and calls in every form, and what goes wrong with each."""
    hour = 1_767_225_600_000
    rows = [{"timestamp": hour + at * HOUR_MS, "value": 12.5 * at, "count": at + 1} for at in range(3)]
    calls = [{"timestamp": hour + at * 9_000, "latency_ms": 3.5 * at, "outcome": "ok"} for at in range(3)]
    table = (
        b"timestamp,value,count\n2026-01-01T00:00:00Z,12.5,100\n1767229200000,13,\n2026-01-01T02:00:00+05:30,1e3,7\n"
    )
    table_of_calls = (
        b"biller_id,timestamp,latency_ms,outcome,status\nB1,1767225600000,3.5,ok,\nB1,1767225600001,4,,503\n"
    )
    documents = [
        {"rows": rows}, {"calls": calls}, {"source": "history"}, {"rows": []},
        {"source": "history", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"},
        {"rows": [*rows, *rows]}, {"rows": [{"timestamp": "2026-01-01T00:00:00Z", "value": "0x1p4"}, 5, None, []]},
    ]  # fmt: skip
    lines = [b"\n".join(map(orjson.dumps, rows)), b"\r\n".join(map(orjson.dumps, calls)), b"\n\n{}\nnull\n"]
    tables = [
        table, table_of_calls, b"\xef\xbb\xbf" + table, table.replace(b",", b";"), table.replace(b"12.5", b'"12.5"'),
        b'timestamp,value\n1767225600000,"1\n2"\n', b"timestamp,value,value\n", b"timestamp,value\n1767225600000,NaN\n",
        b"timestamp,value\n1767225600000,=1+1\n1767225600000,inf\n1767225600000,1e400\n", b"\xff\xfe", b'"\x00',
    ]  # fmt: skip
    raw = [b"[" * 1500, b'{"rows":' * 200, b'{"rows":[{"timestamp":1767225600000,"value":%b}]}' % (b"9" * 400)]
    bodies = [
        *((0, one) for one in (*map(orjson.dumps, documents), *raw)),
        *((1, one) for one in (*lines, *raw)),
        *((2, one) for one in tables),
    ]
    plain = [bytes([form + 3 * (at % len(_SERIES))]) + body for at, (form, body) in enumerate(bodies)]
    packed = gzip.compress(table, mtime=0)
    gzipped = [packed, packed + packed, packed[:-5], packed[:20], gzip.compress(b"0" * 300_000, mtime=0), b"\x1f\x8b"]
    return [*plain, *(bytes([2 + 2 * 12]) + one for one in gzipped), bytes([2 + 12]) + table]
