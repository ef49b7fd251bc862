"""Dead letters as they are written and read, and which of them may go back."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from cli.letters import WHY_NOT, Selection, fate
from detection.errors import InputError
from detection.events import observed
from detection.subject import Subject
from state.dead_letters import TOPIC, Letter, decode_letter
from stream import dead_letters
from stream.aggregation import Calls
from stream.dead_letters import DeadLetter, of_crowded, of_late_calls, of_late_observations, of_rejected
from stream.decoding import ObservedAt, Rejected

OBSERVED = ObservedAt(observed({"name": "Mistral", "version": "v1", "timestamp": 1_700_000_000_000, "drift": 0.1}), 5)


def read(letter: DeadLetter, *, place: tuple[int, int] = (0, 3)) -> Letter:
    return decode_letter(*place, 1_700_000_000_000, letter.as_json())


def rejected(value: bytes | None, *, key: bytes | None = b"B1", offset: int = 12) -> DeadLetter:
    return of_rejected("calls", 3, Rejected(SimpleNamespace(value=value, key=key, offset=offset), "no JSON"))


def late_calls() -> DeadLetter:
    def column(number: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
        return np.full(2, number, np.int64)

    calls = Calls(
        subjects=[Subject.biller("B1")],
        sources=["kafka.1/calls/2"],
        subject=column(0),
        source=column(0),
        offset=column(7),
        timestamp_ms=column(1_700_000_000_000),
        latency_us=column(1500),
        outcome=column(0),
    )
    (letter,) = of_late_calls(calls)
    return letter


def test_both_rooms_mean_the_same_topic() -> None:
    assert TOPIC == dead_letters.TOPIC


@pytest.mark.parametrize("value", [b"not json", b"\xff\xfe", b"", '{"ü": 1}'.encode()])
def test_a_record_that_was_refused_is_read_as_it_came(value: bytes) -> None:
    letter = read(rejected(value))
    assert (letter.value, letter.key, letter.is_whole) == (value, b"B1", True)
    assert (letter.origin, letter.place, letter.reason, letter.detail) == ("calls/3/12", "0/3", "invalid", "no JSON")


def test_of_a_long_record_only_the_beginning_is_kept() -> None:
    assert not read(rejected(b"x" * 200_000)).is_whole


def test_late_calls_are_a_batch_of_their_partition() -> None:
    letter = read(late_calls())
    assert (letter.origin, letter.reason, letter.is_whole) == ("calls/2", "late", True)
    assert len(orjson.loads(letter.value or b"")["calls"]) == 2


@pytest.mark.parametrize("make", [of_late_observations, of_crowded])
def test_of_an_observation_the_bytes_are_not_kept(make: object) -> None:
    (letter,) = make([OBSERVED])  # type: ignore[operator]
    assert not read(letter).is_whole


@pytest.mark.parametrize("value", [None, b"", b"nonsense", b"[]", b'{"reason":"late"}', b'{"origin":"calls"}'])
def test_what_is_no_letter_is_shown_as_such(value: bytes | None) -> None:
    assert decode_letter(0, 3, -1, value).reason == "unreadable"


def test_a_letter_that_was_written_twice_is_the_same_letter() -> None:
    once, again = read(rejected(b"x")), read(rejected(b"x"), place=(1, 99))
    assert once.identity == again.identity
    others = [rejected(b"y"), rejected(b"x", key=b"B2"), rejected(b"x", offset=13)]
    assert len({once.identity, *(read(one).identity for one in others)}) == 4


def test_letters_of_late_calls_are_told_apart_by_their_own_place() -> None:
    assert read(late_calls(), place=(0, 3)).identity != read(late_calls(), place=(0, 4)).identity


def test_an_excerpt_is_one_short_line() -> None:
    letter = read(rejected(b"a\nb\x1b[31m" + b"x" * 200))
    assert letter.excerpt(20) == f"a b [31m{'x' * 11}…"
    assert read(rejected(None)).excerpt() == "(no value)"


def test_every_letter_has_one_fate() -> None:
    ready = read(rejected(b"x"))
    assert fate(ready, None, with_late=False, again=False) == "ready"
    for mark in ("sent", "sending"):
        assert fate(ready, mark, with_late=False, again=False) == mark
        assert fate(ready, mark, with_late=False, again=True) == "ready"
    late = read(late_calls())
    assert fate(late, None, with_late=False, again=True) == "late"
    assert fate(late, None, with_late=True, again=False) == "ready"
    (told,) = of_crowded([OBSERVED])
    found = {
        fate(one, None, with_late=True, again=True)
        for one in (
            read(told),
            read(rejected(None)),
            decode_letter(0, 0, 0, b""),
            # Whoever writes into the topic of letters cannot write into every other one.
            replace(ready, topic="thresholds"),
        )
    }
    assert found == {"not whole", "no value", "unreadable"}
    assert found <= WHY_NOT.keys()


def test_letters_are_selected_by_all_that_is_said() -> None:
    letter = read(rejected(b"x"))

    def takes(**said: object) -> bool:
        return Selection.parse(**said).takes(letter)  # type: ignore[arg-type]

    assert takes()
    assert takes(reason="invalid", topic="calls", at=["0/3"], since="2023-11-14T22:13:20Z")
    assert takes(at=["1/3", "0/1-9"])
    assert not takes(reason="late")
    assert not takes(topic="observations")
    assert not takes(at=["0/4-9"])
    assert not takes(at=["1/3"])
    assert not takes(since="2023-11-14T22:13:21Z")
    assert not takes(until="2023-11-14T22:13:20Z")


@pytest.mark.parametrize("said", [{"at": ["3"]}, {"at": ["a/b"]}, {"since": "yesterday"}, {"until": "1"}])
def test_a_selection_that_cannot_be_is_refused(said: dict[str, object]) -> None:
    with pytest.raises(InputError, match="--"):
        Selection.parse(**said)  # type: ignore[arg-type]
