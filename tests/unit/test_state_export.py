"""The lines of an exported state: everything is in them, and whatever happens to them is noticed where it happened."""

import random

import orjson
import pytest

from detection.errors import InputError
from detection.subject import Subject
from state.codec import slugs_of
from state.export import MODELS, OUTBOX, OWN, Header, Parts, Reader, Writer, keys_of
from state.memory_store import MemoryStore
from state.store import Reached
from tests.contract.states import POLICY, biller, model

HEADER = Header(
    "kafka",
    "2026-03-01T10:00:00Z",
    is_partial=True,
    progress={"kafka/calls/0": Reached(7, 1_700_000_000_000, "9f2c4e6ab1d07735")},
    shared={"clock": {b"ms": b"1700000000000"}},
)


async def stored(*subjects: str) -> dict[Subject, Parts]:
    """Subjects with a past, as the store has them, by part."""
    store = MemoryStore(POLICY)
    assert await store.save([*(biller(one, seed=number) for number, one in enumerate(subjects)), model()]) == []
    found: dict[Subject, Parts] = {}
    for subject in await store.subjects():
        names = [OWN, MODELS, OUTBOX, *slugs_of(subject, store.hashes[keys_of(subject, [OWN])[0]][b"metrics"])]
        hashes = {part: store.hashes.get(key, {}) for part, key in zip(names, keys_of(subject, names), strict=True)}
        found[subject] = {part: fields for part, fields in hashes.items() if fields}
    return found


def lines_of(found: dict[Subject, Parts]) -> list[bytes]:
    writer = Writer()
    return [
        writer.header(HEADER),
        *(writer.subject(subject, parts) for subject, parts in found.items()),
        writer.trailer(),
    ]


def read(lines: list[bytes]) -> list[object]:
    return list(Reader(lines).subjects())


async def test_what_was_written_is_read_field_by_field() -> None:
    found = await stored("B1", "B2")
    reader = Reader(lines_of(found))
    assert reader.header == HEADER
    back = list(reader.subjects())
    assert {one.subject: one.parts for one in back} == found
    assert [one.line for one in back] == [2, 3, 4]
    for one in back:
        state = one.state(POLICY)
        assert (state.rev, state.watermark_ms) == (one.rev, one.watermark_ms)
        assert set(state.models) == {slug.decode() for slug in found[one.subject][MODELS]}


async def test_the_same_state_gives_the_same_lines() -> None:
    assert lines_of(await stored("B1")) == lines_of(await stored("B1"))


async def test_a_record_is_base64_and_everything_else_is_text() -> None:
    line = orjson.loads(lines_of(await stored("B1"))[1])
    assert set(line["packed"]) == {MODELS}
    assert set(line["hashes"]) >= {OWN, OUTBOX, "error-rate"}


async def test_any_changed_byte_is_noticed_in_its_line() -> None:
    lines = lines_of(await stored("B1", "B2"))
    chance = random.Random(3)
    for _ in range(300):
        number = chance.randrange(len(lines))
        at = chance.randrange(len(lines[number]) - 1)
        damaged = bytearray(lines[number])
        damaged[at] ^= 1 << chance.randrange(8)
        if damaged[at] == ord("\n"):
            continue
        changed = [*lines]
        changed[number] = bytes(damaged)
        with pytest.raises(InputError, match=rf"^line {number + 1}: "):
            read(changed)


async def test_a_line_that_is_missing_doubled_or_moved_is_noticed() -> None:
    lines = lines_of(await stored("B1", "B2", "B3"))
    header, first, second, third, other, trailer = lines
    for changed in (
        [header, first, third, other, trailer],
        [header, first, first, second, third, other, trailer],
        [header, second, first, third, other, trailer],
        [header, first, second, third, other],
        [header, first, second, third, other, trailer, other],
        [header, first, second, third, other, trailer[:40]],
        [header],
    ):
        with pytest.raises(InputError, match=r"^line "):
            read(changed)


async def test_lines_of_two_files_do_not_make_a_third() -> None:
    one, other = lines_of(await stored("B1")), lines_of(await stored("B2"))
    with pytest.raises(InputError, match=r"^line 4: lines are missing or changed"):
        read([one[0], other[1], *one[2:]])


@pytest.mark.parametrize("name", ["format", "schema"])
def test_a_file_of_another_version_is_refused_by_its_header(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"state.export.{name.upper()}", 99)
    lines = lines_of({})
    monkeypatch.undo()
    with pytest.raises(InputError, match=rf"^line 1: has .*{name} 99.*this program reads"):
        read(lines)


async def test_a_series_of_another_version_is_refused_with_its_key() -> None:
    found = await stored("B1")
    subject = Subject.biller("B1")
    found[subject]["error-rate"] |= {b"schema": b"77"}
    back = list(Reader(lines_of(found)).subjects())
    with pytest.raises(InputError, match=r"^line 2: tidemark:1:\{biller:B1\}:error-rate"):
        back[0].state(POLICY)


async def test_a_record_that_is_none_is_refused() -> None:
    found = await stored("B1")
    found[Subject.biller("B1")][MODELS] |= {b"error-rate": b"\x02short"}
    back = list(Reader(lines_of(found)).subjects())
    with pytest.raises(InputError, match=r"^line 2: "):
        back[0].state(POLICY)


def test_another_file_is_not_taken_for_one() -> None:
    with pytest.raises(InputError, match=r"no line of `tidemark state export`"):
        Reader([b'{"a":1}\n'])
    with pytest.raises(InputError, match=r"^line 1: "):
        Reader([])
