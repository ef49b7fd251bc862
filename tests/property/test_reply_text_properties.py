"""Replies are read as the store's server means them, in either protocol and however the network cuts them."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from detection.kernel.reply_text import ABSENT, TEXT, UNUSUAL
from state.replies import Fields, Replies

NAMES = (b"schema", b"unit", b"last", b"upper", b"lower")
VERSION = b"3"
FIELDS = Fields(NAMES, VERSION)

Hash = list[tuple[bytes, bytes]]
# Nothing, a string, or a hash.
Reply = bytes | Hash | None

strings = st.one_of(st.binary(max_size=12), st.sampled_from([b"", b"\r\n", b"$-1\r\n", b"%1\r\n", b"x" * 3000]))
values = strings.filter(lambda text: b"\n" not in text)


@st.composite
def usual_hashes(draw: st.DrawFn) -> Hash:
    found = [(name, VERSION if name == b"schema" else draw(values)) for name in NAMES]
    return draw(st.one_of(st.just(found), st.permutations(found)))


hashes = st.one_of(
    usual_hashes(),
    st.lists(st.tuples(st.one_of(st.sampled_from(NAMES), strings), strings), max_size=6),
    usual_hashes().flatmap(lambda one: st.sampled_from([one[:-1], [*one, one[0]], [*one[1:], one[1]]])),
    st.builds(
        lambda one, changed, text: [(name, text if name == changed else value) for name, value in one],
        usual_hashes(),
        st.sampled_from(NAMES),
        st.one_of(strings, st.sampled_from([b"\n", b"a\nb", b"3\n", b"33", b"2"])),
    ),
)
replies = st.lists(st.one_of(st.none(), strings, hashes), min_size=1, max_size=6)
# What else a server may say: an error, a number, an array in an array, a pushed message, a hash of numbers, nonsense.
others = st.sampled_from(
    [b"-ERR no\r\n", b":1\r\n", b"*1\r\n*0\r\n", b">1\r\n+a\r\n", b"%1\r\n$1\r\na\r\n:1\r\n", b"$x\r\n"]
)
cuts = st.lists(st.integers(1, 400), max_size=40)


# The first example loads the compiled core.
FIRST_LOADS = settings(deadline=None)


def bulk(text: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text)


def sent(reply: Reply, version: int) -> bytes:
    """As a server of RESP2 or RESP3 sends it."""
    if reply is None:
        return b"_\r\n" if version == 3 else b"$-1\r\n"
    if isinstance(reply, bytes):
        return bulk(reply)
    head = b"%%%d\r\n" % len(reply) if version == 3 else b"*%d\r\n" % (2 * len(reply))
    return head + b"".join(bulk(part) for pair in reply for part in pair)


def expected(reply: Reply) -> tuple[int, bytes]:
    if reply is None or reply == []:
        return ABSENT, b""
    if isinstance(reply, bytes):
        return TEXT, reply
    fields = dict(reply)
    is_usual = len(fields) == len(reply) and fields.keys() == set(NAMES) and fields[b"schema"] == VERSION
    if not is_usual or any(b"\n" in value for value in fields.values()):
        return UNUSUAL, b""
    return TEXT, b"\n".join(fields[name] for name in NAMES)


def taken(count: int, octets: bytes, lengths: Sequence[int]) -> Replies:
    """All of it, in pieces."""
    found = Replies(count)
    done = 0
    for length in (*lengths, len(octets)):
        piece, done = octets[done : done + length], done + length
        found.take(piece)
        if found.are_whole or not found.are_usual:
            break
    return found


@FIRST_LOADS
@given(replies, st.sampled_from([2, 3]), cuts)
def test_replies_are_joined_as_they_are_meant(some: list[Reply], version: int, lengths: list[int]) -> None:
    octets = b"".join(sent(one, version) for one in some)
    found = taken(len(some), octets, lengths)
    assert found.are_whole
    assert found.are_usual
    assert not found.has_more
    assert found.octets == octets
    joined = found.joined(FIELDS)
    text = joined.octets.tobytes()
    ends = joined.end.tolist()
    told = [(kind, text[begin:end]) for kind, begin, end in zip(joined.kind.tolist(), ends[:-1], ends[1:], strict=True)]
    assert told == [expected(one) for one in some]


@FIRST_LOADS
@given(replies, others, st.sampled_from([2, 3]), cuts)
def test_what_else_is_among_them_is_left_to_others(
    some: list[Reply], other: bytes, version: int, lengths: list[int]
) -> None:
    octets = b"".join(sent(one, version) for one in some) + other
    found = taken(len(some) + 1, octets, lengths)
    assert not found.are_usual
    assert octets.startswith(found.octets)


@FIRST_LOADS
@given(replies, st.integers(1, 400))
def test_what_has_not_all_come_is_waited_for(some: list[Reply], missing: int) -> None:
    octets = b"".join(sent(one, 2) for one in some)
    found = Replies(len(some))
    found.take(octets[: -min(missing, len(octets))])
    assert not found.are_whole
    assert found.are_usual


def test_what_comes_behind_the_last_one_is_seen() -> None:
    found = Replies(1)
    found.take(b"$1\r\na\r\n_\r\n")
    assert found.are_whole
    assert found.has_more
