"""Hashes of a subject as they lie in Redis: refused by the key that is damaged, or as good as any other state.

An input is lines: the subject, then `PART FIELD VALUE`, with a part as the last one of the key, `.` for the subject's
own hash. What was learned has a target of its own, and is named in place of its bytes: `_models SLUG =1` is the record
of SLUG in the second of the states that are known here.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import orjson

from detection.errors import UnreadableStateError
from detection.subject import Subject
from detection.subject_state import SubjectState
from state.codec import HEAD_FIELDS, decode, decode_models, head, slugs_of
from state.counts_codec import decode_counts, decode_many_counts, subject_fields
from state.export import MODELS, OUTBOX, OWN
from state.keys import models_key, outbox_key, series_key, subject_key
from state.outbox_codec import decode_outbox
from state.readable_series import answer_fields
from state.replies import Replies
from state.series_fields import ANSWER_FIELDS
from state.stored_windows import dump_minutes
from state.survey_codec import survey_commands, survey_of, tally_commands, tally_of
from tests.contract.states import POLICY, biller, model
from tests.fuzz.targets.living import Fields, Hashes, endures, values_of, written

Parts = dict[str, Fields]
Found = TypeVar("Found")

_OLDER = Path(__file__).parents[2] / "contract"


def check(data: bytes) -> None:
    """Raise for any other error than that of damaged state, and for a state that was read and cannot go on."""
    subject, parts = read(data)
    stored = hashes_of(subject, parts)
    own = parts.get(OWN, {})
    slugs = _or_damaged(lambda: slugs_of(subject, own.get(b"metrics"))) or []
    _looked_at(subject, slugs, stored)
    try:
        found = head(subject, values_of(own, HEAD_FIELDS), 0)
        counts = decode_counts(subject, own)
        _read_at_once(subject, own, counts)
        if counts is not None:
            list(counts.minutes.items())
            decode_models(counts, parts.get(MODELS, {}), POLICY)
        series = {slug: parts.get(slug, {}) for slug in slugs}
        state = decode(subject, own, series, parts.get(MODELS, {}), POLICY)
        decode_outbox(subject, parts.get(OUTBOX, {}))
    except UnreadableStateError as error:
        assert "tidemark:1:" in str(error), error
        return
    assert found is not None
    endures(state, stored)


def _read_at_once(subject: Subject, own: Fields, counts: SubjectState | None) -> None:
    """By machine code, from what the server says: nothing else than what was read field by field."""
    replies = Replies(1)
    texts = [text for pair in own.items() for text in pair]
    replies.take(b"%%%d\r\n" % len(own) + b"".join(b"$%d\r\n%b\r\n" % (len(text), text) for text in texts))
    found, older = decode_many_counts([subject], replies)
    assert (list(found), older) == (([subject], []) if counts else ([], [subject]))
    for state in found.values():
        assert counts is not None
        assert subject_fields(state, rev=state.rev) == subject_fields(counts, rev=counts.rev)
        assert (dump_minutes(state.minutes), state.known) == (dump_minutes(counts.minutes), counts.known)
        assert (state.alerts, state.live, state.about) == (counts.alerts, counts.live, counts.about)
        assert (state.opinions, state.exclusions) == (counts.opinions, counts.exclusions)


def _looked_at(subject: Subject, slugs: list[str], stored: Hashes) -> None:
    """By those that answer people without loading a state."""

    def replies(commands: list[tuple[str, ...]]) -> list[list[bytes | None]]:
        return [
            list(stored.get(key, {})) if command == "HKEYS" else values_of(stored.get(key, {}), names)
            for command, key, *names in commands
        ]

    _or_damaged(lambda: survey_of(subject, slugs, replies(survey_commands(subject, slugs))))
    _or_damaged(lambda: tally_of(replies(tally_commands(subject, slugs))))
    for slug in slugs:
        values = values_of(stored.get(series_key(subject, slug), {}), ANSWER_FIELDS)
        _or_damaged(partial(answer_fields, values))


def _or_damaged(ask: Callable[[], Found]) -> Found | None:
    try:
        return ask()
    except UnreadableStateError:
        return None


def read(data: bytes) -> tuple[Subject, Parts]:
    """The subject and its hashes that these lines are; lines that are none are left out."""
    first, _, rest = data.partition(b"\n")
    subject = Subject.model("Mistral", "v1") if first.startswith(b"model") else Subject.biller("B1")
    parts: Parts = {}
    for line in rest.split(b"\n"):
        part, _, field = line.partition(b" ")
        name, _, value = field.partition(b" ")
        if name:
            slug = OWN if part == b"." else part.decode(errors="replace")
            parts.setdefault(slug, {})[name] = _record(name, value) if slug == MODELS else value
    return subject, parts


def hashes_of(subject: Subject, parts: Parts) -> Hashes:
    """By their keys."""
    keys = {OWN: subject_key(subject), MODELS: models_key(subject), OUTBOX: outbox_key(subject)}
    return {keys.get(part) or series_key(subject, part): dict(fields) for part, fields in parts.items()}


def _record(slug: bytes, value: bytes) -> bytes:
    if not value.startswith(b"="):
        return value
    states = known()
    which = int(value[1:]) if value[1:].isdigit() and len(value) < 4 else 0
    return states[which % len(states)][1].get(MODELS, {}).get(slug, b"")


@cache
def known() -> list[tuple[Subject, Parts]]:
    """States that the pipeline made: young and warm billers, and model versions."""
    states = [biller(hours=2), biller(hours=60), model(hours=3), model(hours=60), model(hours=60, profit=-5.0)]
    found = []
    for state in states:
        stored: Hashes = {}
        written(state, stored)
        found.append((state.subject, parts_of(state.subject, stored)))
    return found


def parts_of(subject: Subject, stored: Hashes) -> Parts:
    """By the last part of their keys."""
    root = subject_key(subject)
    return {key.removeprefix(root).removeprefix(":"): fields for key, fields in stored.items() if root in key}


def lines_of(subject: Subject, parts: Parts, which: int) -> Iterator[bytes]:
    """The input that these hashes are, which are those of the state of that number."""
    yield str(subject).encode()
    for part, fields in parts.items():
        for name, value in fields.items():
            told = b"=%d" % which if part == MODELS and value else value
            yield b" ".join((part.encode() or b".", name, told))


def seeds() -> list[bytes]:
    """What the pipeline writes, what programs of older versions wrote, and fields that no program writes."""
    found = [
        b"\n".join(lines_of(subject, {part: fields for part, fields in parts.items() if part != OUTBOX}, at))
        for at, (subject, parts) in enumerate(known())
    ]
    for name in ("version_1.json", "version_2.json"):
        older = orjson.loads((_OLDER / name).read_bytes())["hashes"]
        for subject in (Subject.biller("B1"), Subject.model("Mistral", "v1")):
            stored = {key: {one.encode(): str(two).encode() for one, two in it.items()} for key, it in older.items()}
            parts = parts_of(subject, stored)
            if OWN in parts:
                found.append(b"\n".join(lines_of(subject, parts, 1 if subject.kind == "biller" else 3)))
    young = found[0]
    wrong = [
        (b". rev 1", b". rev -1"),
        (b". watermark_ms ", b". watermark_ms 9"),
        (b"2025-", b"9999-"),
        (b"2025-", b"0001-"),
        (b'"calls":', b'"calls":-'),
        (b'"latency_us":', b'"latency_us":"1e5","x":'),
        (b'"bins":{', b'"bins":{"999999":1,"'),
        (b" prior", b" ready"),
    ]
    return [*found, *(young.replace(one, other) for one, other in wrong), b"biller:B1\n. schema 1\n. rev 1"]
