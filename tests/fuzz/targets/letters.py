"""Dead letters: what reads them takes whatever lies in the topic."""

import orjson

from cli.letters import fate
from state.dead_letters import Letter, decode_letter
from stream.dead_letters import DeadLetter


def check(data: bytes) -> None:
    """Any bytes are a letter, if only an unreadable one, that can be shown, told from others and decided about."""
    letter = decode_letter(2, 7, 1_767_225_600_000, data)
    assert letter == decode_letter(2, 7, 1_767_225_600_000, data)
    assert_shown(letter)
    for again in (False, True):
        decided = fate(letter, None, with_late=again, again=again)
        assert decided != "ready" or (letter.value is not None and letter.topic in {"calls", "observations"})


def assert_shown(letter: Letter) -> None:
    """On one line and in a bearable length; what identifies it is a text that Redis can be asked for."""
    assert len(letter.excerpt()) <= 80
    assert letter.excerpt().isprintable() or not letter.excerpt()
    assert letter.identity.encode()
    orjson.dumps([letter.reason, letter.detail, letter.origin, letter.place, letter.excerpt()])


def seeds() -> list[bytes]:
    """Letters of each kind, and what is none."""
    origin: dict[str, int | str] = {"topic": "calls", "partition": 3, "offset": 120}
    letters = [
        DeadLetter("invalid", "why", dict(origin), key="B1", value='{"a":'),
        DeadLetter("invalid", "why", dict(origin), value_base64="/w=="),
        DeadLetter("invalid", "why", dict(origin), value="x" * 200, value_bytes=10**7),
        DeadLetter("late", "why", {"source": "kafka/calls/3"}, value={"calls": [{"biller_id": "B1", "offset": 3}]}),
        DeadLetter("late", "why", {"topic": "observations", "offset": 4}, value={"subject": "model:a/b", "drift": 0.1}),
    ]
    wrong = [
        {"reason": "late", "detail": "why", "origin": {"source": "calls"}},
        {"reason": "late", "detail": "why", "origin": {"topic": 1, "partition": "x"}},
        {"reason": {}, "detail": [], "origin": {"offset": 1e308}},
        {"reason": "invalid", "detail": "why", "origin": origin, "value_base64": "%"},
    ]
    return [*(one.as_json() for one in letters), *map(orjson.dumps, wrong), b"", b"null", b"[]", b"[" * 1500, b"\xff"]
