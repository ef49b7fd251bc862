"""How learned windows compared lies in the outbox beside them, over each store."""

import orjson
import pytest

from detection.errors import UnreadableStateError
from detection.subject import Subject
from detection.subject_state import SubjectState
from state.keys import outbox_key
from state.memory_store import MemoryStore
from state.window_codec import dump_window, hour_text
from tests.contract.states import FIRST_HOUR, POLICY, Store, biller, fields, model

B1 = Subject.biller("B1")
# What a subject has learned in its first two days is judged by nothing.
JUDGED_FROM = FIRST_HOUR + 48


async def put(store: Store, name: str, value: bytes) -> None:
    """An entry of the outbox, as somebody else wrote it."""
    if isinstance(store, MemoryStore):
        store.hashes.setdefault(outbox_key(B1), {})[name.encode()] = value
    else:
        await store._client.hset(outbox_key(B1), name, value)


@pytest.mark.parametrize("state", [biller(hours=60), model(hours=60)], ids=["biller", "model"])
async def test_what_is_judged_waits_beside_its_window_and_comes_back_exactly(store: Store, state: SubjectState) -> None:
    learned = dict(state.learned)
    judged = {hour: dict(by_slug) for hour, by_slug in state.judged.items()}
    assert set(judged) == {hour for hour in learned if hour >= JUDGED_FROM} != set()
    # The states are shared by the stores: each writes its own.
    state.rev, state.about = 0, b""
    state.learned, state.judged = dict(learned), dict(judged)
    state.changed = set(state.models)
    assert await store.save([state]) == []
    found = (await store.learned_hours([state.subject]))[state.subject]
    assert {hour: one.window for hour, one in found.items()} == learned
    assert {hour: one.judged for hour, one in found.items() if one.judged} == judged
    assert await store.outbox([state.subject]) == {state.subject: learned}
    assert state.judged == {}
    state.learned, state.judged = learned, judged
    await store.relayed({state.subject: list(learned)})
    assert await store.learned_hours([state.subject]) == {}


async def test_an_entry_can_be_read_by_people(store: Store) -> None:
    await store.save([biller(hours=60)])
    entry = orjson.loads((await fields(store))[outbox_key(B1)][hour_text(JUDGED_FROM).encode()])
    assert set(entry) == {"calls", "errors", "timeouts", "latency_us", "latency_us2", "bins", "judged"}
    assert set(entry["judged"]) == {"average-response-time", "error-rate", "timeout-error-rate"}
    one = entry["judged"]["error-rate"]
    assert one["threshold"] > one["estimate"] >= one["lower"] >= 0.0
    assert (one["coverage"], one["is_credible"] in {True, False}) == (POLICY.coverage, True)


async def test_an_entry_of_an_older_version_is_read_without(store: Store) -> None:
    state = biller(hours=60)
    window = state.learned[JUDGED_FROM]
    await put(store, hour_text(JUDGED_FROM), dump_window(window))
    (one,) = (await store.learned_hours([B1]))[B1].values()
    assert (one.window, dict(one.judged)) == (window, {})


@pytest.mark.parametrize("judged", [b"7", b'{"error-rate":{}}', b'{"error-rate":{"estimate":"high"}}'])
async def test_an_entry_that_nobody_can_have_written_names_its_key(store: Store, judged: bytes) -> None:
    window = dump_window(biller(hours=2).windows[FIRST_HOUR + 1])
    await put(store, hour_text(FIRST_HOUR), window[:-1] + b',"judged":' + judged + b"}")
    with pytest.raises(UnreadableStateError, match=r"_outbox: damaged"):
        await store.learned_hours([B1])
