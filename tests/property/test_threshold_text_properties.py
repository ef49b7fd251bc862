"""Lines that machine code writes are those that `api.ready` writes, whatever is stored, and none is left out."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from api import threshold_lines
from api.answers import OVERDUE_MS
from api.ready import Now, lines
from api.threshold_lines import lines_of
from detection.catalogue import BILLER_METRICS
from detection.cohorts import SIZES, Cohort, Cohorts, Prior, size_of
from detection.errors import UnreadableStateError
from detection.hours import HOUR_MS, MINUTE_MS, iso
from detection.kernel.threshold_text import NEEDED
from detection.kernel.window_text import LATENCY_US, UNUSUAL, sum_latest
from detection.subject import Subject
from detection.subject_state import KEPT_MINUTES
from detection.windows import CallWindow, GaugeWindow, Window
from state.as_stored import AsStored, Held, StoredTexts
from state.series_fields import STORED_FIELDS
from state.stored_windows import dump_minutes
from state.survey_codec import read_lately

HOUR = 490_000
NOW_MS = HOUR * HOUR_MS + 20 * MINUTE_MS
NOW_MINUTE = NOW_MS // MINUTE_MS

# The first example loads the compiled core.
QUIET = settings(deadline=None, max_examples=200)

# Up to 500, with all digits; Hypothesis' own floats are mostly far smaller than any measured one.
plain = st.integers(0, 5 * 10**17).map(lambda number: number / 1e15)
numbers = st.one_of(
    plain,
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 10.0, 100.0, 1e15, 1e16, 1e22, 1e23, 5e-324, 1e-7, 1.7976931348623157e308]),
    st.integers(-(2**63), 2**64),
)
# Of what is usual there must be much: two things that are not are no better than one.
RARELY = st.integers(0, 9).map(lambda one: one == 0)


def mostly(usual: st.SearchStrategy[bytes], *others: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return RARELY.flatmap(lambda is_rare: st.one_of(*others) if is_rare else usual)


number_texts = st.one_of(
    numbers.map(lambda one: orjson.dumps(one) if -(2**63) <= one < 2**64 else b"1"),
    st.sampled_from(
        [b"", b"inf", b"-inf", b"nan", b"null", b"true", b'"inf"', b"-", b"01", b"1.", b".5", b"+1", b"1e5", b"1E+05",
         b"-0", b"1e99", b"1e100", b"1e400", b"0.00000000000000000000001", b"12345678901234567890", b" 1", b"1 ",
         b"1,2", b"[]"]
    ),
)  # fmt: skip
junk = st.one_of(
    st.binary(max_size=6), st.sampled_from([b"x" * 300, "\u00b5s".encode(), b'"', b"\\", b"\x7f", b"ready "])
)
hours = st.integers(HOUR - 3, HOUR + 2)
times = st.one_of(
    hours.map(lambda hour: iso(hour * HOUR_MS).encode()),
    st.sampled_from(
        [b"2026-02-29T00:00:00Z", b"2026-11-25T09:00:00", b"2026-11-25T09:00:00Z ", b"2026-11-25T09:00:01Z", b""]
    ),
)
values = mostly(
    plain.map(orjson.dumps),
    numbers.map(str).map(str.encode),
    st.sampled_from([b'"inf"', b'"-inf"', b"null", b'""', b'"a"']),
)
verdict_words = mostly(
    st.sampled_from([b"normal", b"exceeded"]), st.sampled_from([b"", b"warming-up", b'a"b', b"a\\nb"])
)
verdict_counts = mostly(st.integers(0, 10**6).map(lambda one: b"%d" % one), number_texts)
verdict_times = mostly(hours.map(lambda hour: iso(hour * HOUR_MS).encode()), times)


@st.composite
def verdicts(draw: st.DrawFn) -> bytes:
    begin = b'{"verdict":"%b","window":"%b","count":%b,"value":%b' % (
        draw(verdict_words), draw(verdict_times), draw(verdict_counts), draw(values)
    )  # fmt: skip
    if draw(RARELY):
        return begin + b"}"
    rest = b',"estimate":%b,"threshold":%b,"score":%b,"is_credible":%b,"is_alert":%b}' % (
        draw(values), draw(values), draw(values), draw(flags), draw(flags)
    )  # fmt: skip
    text = begin + rest
    if draw(RARELY):
        at = draw(st.integers(0, len(text)))
        return text[:at] + draw(junk) + text[at + draw(st.integers(0, 3)) :]
    return text


flags = mostly(st.just(b"true"), st.just(b"false"))
usual: dict[str, st.SearchStrategy[bytes]] = {
    "schema": st.just(b"3"),
    "unit": st.sampled_from([b"ms", b"%", b""]),
    "operator": mostly(st.just(b">"), st.just(b"<")),
    "status": mostly(st.just(b"ready"), st.sampled_from([b"learning", b"prior", b""])),
    "expected_calls": mostly(plain.map(orjson.dumps), st.sampled_from([b"0.0", b"9.999999999999998", b"10.0", b"1e6"])),
    "window_start": hours.map(lambda hour: iso(hour * HOUR_MS).encode()),
    "valid_until": hours.map(lambda hour: iso(hour * HOUR_MS + MINUTE_MS).encode()),
    "n_learned": st.integers(0, 10_000).map(lambda one: b"%d" % one),
    "min_calls": st.integers(0, 30).map(lambda one: b"%d" % one),
    # About what the last minutes come to, so that many are just within and just beyond.
    "threshold": st.one_of(plain.map(lambda one: one / 10), st.integers(0, 30).map(float)).map(orjson.dumps),
    "last": st.one_of(st.just(b""), verdicts()),
    "explanation": st.just(b'{"slot":9}'),
}
nearly = st.sampled_from([b"1,2", b"1x", b"1e5x", b"1.5.5", b"--1", b"01", b"1.", b"-", b"e5", b"1e"])
damage: dict[str, st.SearchStrategy[bytes]] = {name: st.one_of(number_texts, nearly, junk) for name in NEEDED} | {
    "unit": st.one_of(junk, st.sampled_from([b'a"b', b"a\\b", b"\t"])),
    "operator": st.sampled_from([b"", b">=", b"=", b"a"]),
    "status": st.one_of(junk, st.just(b"ready ")),
    "window_start": st.one_of(times, times, junk),
    "valid_until": st.one_of(times, times, junk),
    "last": st.one_of(junk, verdicts()),
}


@st.composite
def helds(draw: st.DrawFn) -> Held:
    """As it is stored, usual or with one field that is not."""
    fields = {name: draw(usual.get(name, plain.map(orjson.dumps))) for name in STORED_FIELDS}
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from(NEEDED))
        fields[name] = draw(damage[name])
    each = [fields[name] for name in STORED_FIELDS]
    joined = b"\n".join(each)
    return joined if joined.count(b"\n") == len(each) - 1 else each


@st.composite
def windows(draw: st.DrawFn) -> CallWindow:
    errors, timeouts = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    latency_us = draw(st.integers(0, 2**58) if draw(RARELY) else st.integers(0, 500_000))
    return CallWindow(errors + timeouts + draw(st.integers(0, 50)), errors, timeouts, latency_us, 0)


minutes = st.dictionaries(st.integers(NOW_MINUTE - 60, NOW_MINUTE), windows(), max_size=12)


@st.composite
def minutes_texts(draw: st.DrawFn) -> bytes | None:
    match draw(st.integers(0, 19)):
        case 0:
            return None
        case 1:
            return draw(st.sampled_from([b"", b"{}", b"{", b"[]", b'{"a":1}']))
        case 2:
            text = dump_minutes(dict(draw(minutes)))
            at = draw(st.integers(0, len(text)))
            return text[:at] + draw(st.binary(max_size=3)) + text[at + draw(st.integers(0, 3)) :]
        case 3:
            return dump_minutes({NOW_MINUTE: GaugeWindow(events=1)})
        case _:
            return dump_minutes(dict(sorted(draw(minutes).items())))


SLUGS = (*(metric.slug for metric in BILLER_METRICS), "drift")
slugs = st.sets(st.sampled_from(SLUGS), min_size=1)


@st.composite
def stored(draw: st.DrawFn) -> AsStored:
    subject = draw(st.sampled_from([Subject.biller("B1"), Subject.biller("b" * 100), Subject.model("Mistral", "v1")]))
    return AsStored(subject, [(slug, draw(helds())) for slug in sorted(draw(slugs))], draw(minutes_texts()))


def cohort(slug: str, size: str, exceedance: float | None) -> Cohort:
    return Cohort(slug, size, 3, exceedance, Prior("log", 9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0))


every_cohort = Cohorts([cohort(slug, size, 0.0125) for slug in SLUGS for size in SIZES])
some_cohorts = Cohorts([cohort("error-rate", "any", None), cohort("average-response-time", "10-100", 1e-7)])
cohorts = st.sampled_from([every_cohort, every_cohort, some_cohorts, Cohorts()])
# When an answer is overdue, to the millisecond.
overdue = st.builds(lambda hour, late: hour * HOUR_MS + MINUTE_MS + OVERDUE_MS + late, hours, st.integers(0, 1))
nows = st.builds(Now, st.one_of(st.integers(NOW_MS - 2 * HOUR_MS, NOW_MS + HOUR_MS), overdue), cohorts)


def outcome(work: Callable[[], bytes]) -> bytes | str:
    """What it answers, or how it fails."""
    try:
        return work()
    except (UnreadableStateError, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        return repr(error)


BEFORE, START, UNTIL = (iso(HOUR * HOUR_MS + late).encode() for late in (-HOUR_MS, 0, MINUTE_MS))
VERDICT = (
    b'{"verdict":"exceeded","window":"%b","count":31,"value":2.5,"estimate":1.25,"threshold":2.25,"score":1.5,'
    b'"is_credible":true,"is_alert":true}' % BEFORE
)
USUAL = dict.fromkeys(STORED_FIELDS, b"7.5") | {
    "schema": b"3",
    "unit": b"ms",
    "operator": b">",
    "status": b"ready",
    "window_start": START,
    "valid_until": UNTIL,
    "n_learned": b"100",
    "min_calls": b"5",
    "last": VERDICT,
}
TRICKY = [
    b"", b"0", b"-0", b"01", b"-01", b"1.", b".5", b"1.5.5", b"--1", b"-", b"+1", b"1e5", b"1E-05", b"1e+05", b"1e",
    b"e5", b"1e5x", b"1e99", b"1e100", b"1e-99", b"1e-100", b"1e400", b"12345678901234567", b"123456789012345678",
    b"0.00000000000000000001", b"1x", b"x1", b"1,2", b"1 ", b" 1", b"1]", b"[]", b"null", b"true", b"inf", b"-inf",
    b"nan", b'"inf"', b'""', b'"', b'a"b', b"a\\b", b"a\tb", b"a\x7fb", "\u00b5s".encode(), b"\xff", b">", b"<", b">=",
    b"ready", b"ready ", b"stale", b"learning", b"prior", b"2026-02-29T00:00:00Z", b"2100-01-01T00:00:00Z",
    START + b" ", START[:-1], START[:-2] + b"1Z", START.replace(b"T", b" "),
]  # fmt: skip


def told(fields: Mapping[str, bytes], minutes: bytes | None = None) -> tuple[bytes | str, bytes | str, bool]:
    """What machine code and Python make of it, and whether it was left to the latter."""
    stored = AsStored(Subject.biller("B1"), [("error-rate", b"\n".join(fields.values()))], minutes)
    now = Now(NOW_MS, every_cohort)
    texts = StoredTexts.of([stored])
    found = outcome(lambda: lines_of(texts, 0, 1, now))
    expected = outcome(lambda: b"".join(line for *_, line in lines(stored, None, now)))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(threshold_lines, "lines", lambda *_: [])
        return found, expected, lines_of(texts, 0, 1, now) == b""


def test_what_is_usual_is_written_by_machine_code() -> None:
    found, expected, is_left = told(USUAL)
    assert found == expected
    assert not is_left
    assert isinstance(found, bytes)
    assert orjson.loads(found)["alert"]["is_alert"]


@pytest.mark.parametrize("name", NEEDED)
def test_whatever_a_field_says_the_line_is_the_same(name: str) -> None:
    for text in TRICKY:
        found, expected, _ = told(USUAL | {name: text})
        assert found == expected, (name, text)


@pytest.mark.parametrize("said", [b"exceeded", BEFORE, b"31", b"2.5", b"1.25", b"2.25", b"1.5", b"true"])
def test_whatever_a_verdict_says_the_line_is_the_same(said: bytes) -> None:
    assert VERDICT.count(said) >= 1
    for text in TRICKY:
        for count in (1, -1):
            found, expected, _ = told(USUAL | {"last": VERDICT.replace(said, text, count)})
            assert found == expected, (said, text)


@pytest.mark.parametrize(
    "expected_calls", [0.0, 5.0, 9.999999999999998, 10.0, 10.000000000000002, 60.0, 1e5, 99999.99999999999, 5e6]
)
def test_a_cohort_is_that_of_its_size_to_the_last_digit(expected_calls: float) -> None:
    found, expected, _ = told(USUAL | {"expected_calls": orjson.dumps(expected_calls)})
    assert found == expected
    assert isinstance(found, bytes)
    assert orjson.loads(found)["cohort"] == f"error-rate/{size_of(expected_calls)}"


@pytest.mark.parametrize("errors", range(7))
@pytest.mark.parametrize("threshold", [0.0, 9.999999999999998, 10.0, 10.000000000000002, 12.0, 15.0])
@pytest.mark.parametrize("operator", [b">", b"<"])
def test_the_last_minutes_are_beyond_a_threshold_to_the_last_digit(
    errors: int, threshold: float, operator: bytes
) -> None:
    minutes = dump_minutes({NOW_MINUTE: CallWindow(calls=30, errors=errors)})
    found, expected, is_left = told(USUAL | {"threshold": orjson.dumps(threshold), "operator": operator}, minutes)
    assert found == expected
    value = 100.0 * errors / 30
    is_beyond = value > threshold if operator == b">" else value < threshold
    assert is_left or not is_beyond
    assert not is_left or is_beyond or abs(value - threshold) < 1e-6


@QUIET
@given(st.lists(stored(), min_size=1, max_size=4), nows)
def test_lines_are_the_same_whoever_writes_them(some: list[AsStored], now: Now) -> None:
    def one_by_one() -> bytes:
        return b"".join(line for each in some for *_, line in lines(each, None, now))

    texts = StoredTexts.of(some)
    assert [texts.one(i) for i in range(len(some))] == some
    assert outcome(lambda: lines_of(texts, 0, len(some), now)) == outcome(one_by_one)


@QUIET
@given(st.lists(stored(), min_size=1, max_size=4), nows, st.sampled_from(["ready", "stale", "learning"]), st.data())
def test_those_that_are_wanted_are_the_same_whoever_writes_them(
    some: list[AsStored], now: Now, status: str, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(some)))
    behind = data.draw(st.integers(first, len(some)))
    slug = data.draw(st.sampled_from(["error-rate", "drift"]))
    from_start = iso(HOUR * HOUR_MS)

    def takes(own: str, its_status: str, window_start: str) -> bool:
        return own >= slug and its_status == status and window_start >= from_start

    def one_by_one() -> bytes:
        return b"".join(
            line
            for each in some[first:behind]
            for own, its_status, begins, line in lines(each, None, now)
            if takes(own, its_status, begins.decode())
        )

    assert outcome(lambda: lines_of(StoredTexts.of(some), first, behind, now, takes)) == outcome(one_by_one)


@QUIET
@given(st.lists(minutes_texts(), min_size=1, max_size=5))
def test_the_last_minutes_are_summed_as_they_are_one_by_one(some: Sequence[bytes | None]) -> None:
    texts = StoredTexts.of([AsStored(Subject.biller("B1"), [], one) for one in some])
    newest, sums = np.empty(len(some), np.int64), np.empty((LATENCY_US + 1, len(some)), np.int64)
    sum_latest(texts.octets, texts.minutes_begin, texts.minutes_end, KEPT_MINUTES, newest, sums)
    for i, one in enumerate(some):
        if newest[i] == UNUSUAL:
            continue
        lately = read_lately(Subject.biller("B1"), one)
        assert newest[i] == (-1 if lately is None else lately.minute)
        if lately is not None:
            total = CallWindow(*sums[:, i].tolist())
            assert {value.metric.slug: value for value in total.values()} == lately.values


@QUIET
@given(minutes)
def test_minutes_as_they_are_stored_are_not_left_to_others(some: dict[int, Window]) -> None:
    assume(all(isinstance(one, CallWindow) and one.latency_us < 2**56 for one in some.values()))
    text = dump_minutes(dict(sorted(some.items())))
    newest, sums = np.empty(1, np.int64), np.empty((LATENCY_US + 1, 1), np.int64)
    place = np.array([0], np.int64)
    sum_latest(np.frombuffer(bytearray(text), np.uint8), place, place + len(text), KEPT_MINUTES, newest, sums)
    assert newest[0] == max(some, default=-1)
