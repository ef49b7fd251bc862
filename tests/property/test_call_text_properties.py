"""What machine code reads of calls is what the decoder of events reads of them; the rest is left to that."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detection.errors import InvalidEventError
from detection.events import OUTCOME_NAMES, CallEvent, check_call, decode_calls, latency_us, outcome_code
from detection.kernel.call_text import UNREAD, read_calls

Read = tuple[str, int, int, int]

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+=-]{0,127}", fullmatch=True)
TIMES = st.integers(0, 10**15 - 1)
# As producers write them: so many digits behind the point.
PLACES = st.tuples(st.integers(0, 3_599_999), st.integers(0, 8)).flatmap(
    lambda one: st.integers(0, 10 ** one[1] - 1).map(
        lambda rest: f"{one[0]}.{rest:0{one[1]}}" if one[1] else str(one[0])
    )
)
SPACE = st.sampled_from(["", " ", "\n", "\t ", "\r\n"])


def read(texts: Sequence[bytes]) -> list[Read | None]:
    """Id, time, latency and outcome of each text, None for those that are left."""
    text = b"".join(texts)
    ends = np.cumsum([len(one) for one in texts], dtype=np.int64)
    time, latency, outcome, biller = np.empty((4, len(texts)), np.int64)
    ids = np.empty((len(texts), 2), np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    known = read_calls(np.frombuffer(text, np.uint8), starts, ends, time, latency, outcome, biller, ids)
    names = [text[start:end].decode() for start, end in ids[:known].tolist()]
    return [
        None if outcome[at] == UNREAD else (names[biller[at]], int(time[at]), int(latency[at]), int(outcome[at]))
        for at in range(len(texts))
    ]


def by_the_decoder(text: bytes) -> Read:
    (call,) = decode_calls(text)
    assert isinstance(call, CallEvent)
    assert isinstance(call.timestamp, int)
    return call.biller_id, call.timestamp, latency_us(call.latency_ms), outcome_code(call)


@st.composite
def plain_calls(draw: st.DrawFn) -> bytes:
    """Calls as they may be sent, each of them to be read."""
    fields = {
        "biller_id": json.dumps(draw(IDS)),
        "timestamp": str(draw(TIMES)),
        "latency_ms": draw(PLACES),
    }
    way = draw(st.sampled_from(["outcome", "status", "both"]))
    if way != "status":
        fields["outcome"] = json.dumps(draw(st.sampled_from(OUTCOME_NAMES)))
    if way != "outcome":
        fields["status"] = str(draw(st.integers(100, 599)))
    # What nobody asks for: texts and numbers.
    for name in draw(st.lists(st.sampled_from(["region", "try", "timestamps", "biller", "b", ""]), unique=True)):
        fields[name] = draw(
            st.one_of(
                st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\')).map(json.dumps),
                st.integers(-(10**14), 10**14).map(str),
                st.sampled_from(["0.5", "-0.25", "-0", "12.000"]),
            )
        )
    names = draw(st.permutations(list(fields)))
    space = [draw(SPACE) for _ in range(4)]
    members = (space[3] + ",").join(
        f"{space[0]}{json.dumps(name)}{space[1]}:{space[2]}{fields[name]}" for name in names
    )
    return f"{space[0]}{{{members}{space[1]}}}{space[2]}".encode()


# The first one waits for the machine code.
@settings(deadline=None)
@given(st.lists(plain_calls(), min_size=1, max_size=8))
def test_plain_calls_are_read_as_the_decoder_reads_them(texts: list[bytes]) -> None:
    assert read(texts) == [by_the_decoder(text) for text in texts]


GOOD = b'{"biller_id":"B1","timestamp":1767225600000,"latency_ms":12.5,"outcome":"ok"}'


@settings(deadline=None)
@given(plain_calls(), st.data())
@example(GOOD, None)
def test_what_is_read_of_a_damaged_call_is_what_the_decoder_reads_of_it(
    text: bytes, data: st.DataObject | None
) -> None:
    if data is not None:
        changed = bytearray(text)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(changed)))
            how = data.draw(st.sampled_from(["put", "take", "change"]))
            letter = data.draw(st.sampled_from(b'{}[]":,.-+eE0123456789abnl\\ \n\x00\x7f\x80\xc3'))
            if how == "put":
                changed.insert(at, letter)
            elif at < len(changed):
                if how == "take":
                    del changed[at]
                else:
                    changed[at] = letter
        text = bytes(changed)
    # In company: what is wrong with one must not reach the others.
    before, found, after = read([GOOD, text, GOOD])
    assert before == after == ("B1", 1767225600000, 12500, 0)
    if found is not None:
        assert found == by_the_decoder(text)
        assert read([text]) == [found]


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_whatever_is_read_of_any_bytes_the_decoder_reads_too(text: bytes) -> None:
    (found,) = read([text])
    assert found is None or found == by_the_decoder(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        GOOD[:-1],
        GOOD + b"x",
        GOOD + GOOD,
        GOOD.replace(b"12.5", b"12."),
        GOOD.replace(b"12.5", b".5"),
        GOOD.replace(b"12.5", b"012.5"),
        GOOD.replace(b"12.5", b"-1"),
        GOOD.replace(b"12.5", b"NaN"),
        GOOD.replace(b"12.5", b"3600000.0001"),
        GOOD.replace(b"1767225600000", b"1767225600000.5"),
        GOOD.replace(b"1767225600000", b"01767225600000"),
        GOOD.replace(b'"ok"', b'"OK"'),
        GOOD.replace(b'"ok"', b"null"),
        GOOD.replace(b'"outcome":"ok"', b'"status":99'),
        GOOD.replace(b'"outcome":"ok"', b'"status":600'),
        GOOD.replace(b"B1", b""),
        GOOD.replace(b"B1", b"-B1"),
        GOOD.replace(b"B1", b"B 1"),
        GOOD.replace(b"B1", b"B" * 129),
        GOOD.replace(b'"B1"', b"1"),
        GOOD.replace(b",", b",,", 1),
        GOOD.replace(b"}", b",}"),
        GOOD.replace(b"}", b',"more":01}'),
        GOOD.replace(b"}", b',"more":"a\nb"}'),
    ],
)
def test_what_is_no_call_is_not_read(text: bytes) -> None:
    assert read([text, GOOD])[0] is None
    with pytest.raises(InvalidEventError):
        check_call(decode_calls(text)[0])


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace(b"12.5", b"1.25e1"),
        GOOD.replace(b"12.5", b"12.5000000000000000000"),
        GOOD.replace(b"1767225600000", b'"2026-01-01T00:00:00Z"'),
        GOOD.replace(b"B1", b"\\u00421"),
        GOOD.replace(b"}", b',"more":[1,{}]}'),
        GOOD.replace(b"}", b',"more":null}'),
        GOOD.replace(b"}", b',"biller_id":"B1"}'),
    ],
)
def test_what_is_unusual_is_left_to_the_decoder(text: bytes) -> None:
    assert read([text]) == [None]
    assert decode_calls(text)[0].biller_id == "B1"


def test_many_ids_have_each_its_own_number_and_only_one() -> None:
    texts = [GOOD.replace(b"B1", b"B%d" % (number % 7000)) for number in range(20_000)]
    found = read(texts)
    assert [one[0] for one in found if one] == [f"B{number % 7000}" for number in range(20_000)]
    ids = np.empty((len(texts), 2), np.int64)
    time, latency, outcome, biller = np.empty((4, len(texts)), np.int64)
    text, ends = np.frombuffer(b"".join(texts), np.uint8), np.cumsum([len(one) for one in texts], dtype=np.int64)
    known = read_calls(text, np.concatenate([[0], ends[:-1]]), ends, time, latency, outcome, biller, ids)
    # An id may have a second number where many share a place, which at this load hardly any do.
    assert 7000 <= known < 7010
