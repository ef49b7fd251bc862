"""How far the sources are, in every store: never back, and nothing over what was lost."""

import orjson
import pytest

from detection.errors import UnreadableStateError
from state.keys import PROGRESS
from state.memory_store import MemoryStore
from state.redis_progress import decode_progress
from state.store import LogLife, Reached
from tests.contract.states import Store

ONE, OTHER = "kafka/calls/0", "kafka/calls/1"
NOW_MS = 1_763_755_200_000


async def test_sources_move_on_in_one_step_and_say_what_was_stored_before(store: Store) -> None:
    assert await store.progress() == {}
    reached = {ONE: Reached(7, NOW_MS, "9f2c4e6ab1d07735"), OTHER: Reached(0)}
    assert await store.advance_progress({ONE: 0, OTHER: 0}, reached) == {ONE: 0, OTHER: 0}
    assert await store.progress() == reached
    assert await store.advance_progress({ONE: 7, OTHER: 0}, {ONE: Reached(9)}) == {ONE: 7, OTHER: 0}
    assert (await store.progress())[ONE] == Reached(9)


async def test_progress_never_goes_back(store: Store) -> None:
    await store.advance_progress({ONE: 0}, {ONE: Reached(9, NOW_MS, "new")})
    assert await store.advance_progress({ONE: 0}, {ONE: Reached(8, NOW_MS, "old")}) == {ONE: 9}
    assert await store.progress() == {ONE: Reached(9, NOW_MS, "new")}


@pytest.mark.parametrize("stored", [None, 5])
async def test_nothing_moves_where_the_store_has_less_than_it_acknowledged(store: Store, stored: int | None) -> None:
    await store.advance_progress({ONE: 0}, {ONE: Reached(100)})
    if stored is not None:
        await store.advance_progress({OTHER: 0}, {OTHER: Reached(stored)})
    known = {ONE: 100, OTHER: 50}
    assert (await store.advance_progress(known, {ONE: Reached(120)}))[OTHER] == (stored or 0)
    assert (await store.progress())[ONE] == Reached(100)


async def test_asking_alone_moves_nothing(store: Store) -> None:
    await store.advance_progress({ONE: 0}, {ONE: Reached(5)})
    assert await store.advance_progress({ONE: 5, OTHER: 0}, {}) == {ONE: 5, OTHER: 0}
    assert await store.progress() == {ONE: Reached(5)}
    assert await store.advance_progress({}, {}) == {}


async def test_a_new_life_of_a_topic_drops_the_progress_of_that_topic_alone(store: Store) -> None:
    sources = ["kafka/calls/0", "kafka.1/calls/3", "kafka/observations/0"]
    await store.advance_progress(dict.fromkeys(sources, 0), dict.fromkeys(sources, Reached(4)))
    await store.note_recreated("calls", now_ms=NOW_MS)
    await store.note_recreated("calls", now_ms=NOW_MS + 1000)
    assert await store.log_lives() == {"calls": LogLife(life=0, recreated=2, noticed="2025-11-21T20:00:01Z")}
    assert await store.renew_log("calls", now_ms=NOW_MS) == 1
    assert await store.renew_log("calls", now_ms=NOW_MS) == 2
    assert (await store.log_lives())["calls"].life == 2
    assert await store.progress() == {"kafka/observations/0": Reached(4)}


async def test_the_fields_are_readable_and_the_same_in_every_store(store: Store) -> None:
    await store.advance_progress({ONE: 0}, {ONE: Reached(7, NOW_MS, "9f2c4e6ab1d07735")})
    if isinstance(store, MemoryStore):
        text = store.hashes[PROGRESS][ONE.encode()]
    else:
        text = await store._client.hget(PROGRESS, ONE)  # type: ignore[assignment]
    assert text == b'{"offset":7,"time":1763755200000,"record":"9f2c4e6ab1d07735"}'
    assert orjson.loads(text)["offset"] == 7


@pytest.mark.parametrize(
    "text",
    [
        b"7",
        b"{}",
        b"",
        b'{"offset":null,"time":0,"record":""}',
        b'{"offset":-1,"time":0,"record":""}',
        b'{"offset":9223372036854775808,"time":0,"record":""}',
        b'{"offset":0,"time":-2,"record":""}',
    ],
)
def test_a_field_that_nobody_can_have_kept_is_refused_by_its_name(text: bytes) -> None:
    with pytest.raises(UnreadableStateError, match="kafka/calls/0"):
        decode_progress({ONE.encode(): text})
