"""States of which only a part is loaded, or written: what is left out stays as it is, and nothing is made up for it."""

import asyncio
import copy
from dataclasses import replace

import pytest

from detection.closing import close
from detection.errors import UnreadableStateError
from detection.hours import HOUR_MS
from detection.subject import Subject
from detection.subject_state import SubjectState
from state.keys import models_key, series_key, subject_key
from state.memory_store import MemoryStore
from state.series_fields import OBSOLETE
from tests.contract.states import FIRST_HOUR, POLICY, Store, advance, arrivals, biller, call_window, fields, model
from tests.contract.test_state_store import drop_field, load_one, set_field

B1 = Subject.biller("B1")
SLUGS = ("average-response-time", "error-rate", "timeout-error-rate")
LATER = FIRST_HOUR + 62


async def counts_of(store: Store, subject: Subject = B1) -> SubjectState:
    return (await store.load_counts([subject]))[subject]


async def give_models(store: Store, *states: SubjectState) -> None:
    assert await store.load_models(states) == []


async def test_counts_are_loaded_without_models_and_answers(store: Store) -> None:
    state = biller()
    await store.save([state])
    found = await counts_of(store)
    assert not found.has_models
    assert not found.is_whole
    assert not found.models
    assert not found.forecasts
    assert not found.verdicts
    assert found.known == {*SLUGS}
    whole = await load_one(store, B1)
    for name in ("rev", "watermark_ms", "learned_before", "published_hour", "accepted", "late", "offsets", "windows"):
        assert getattr(found, name) == getattr(whole, name) == getattr(state, name)
    assert found.minutes == whole.minutes == state.minutes
    assert found.settled_before == whole.settled_before == state.settled_before
    assert await store.load_counts([Subject.biller("B2")]) == {}


async def test_a_write_of_counts_leaves_series_and_models_alone_byte_for_byte(store: Store) -> None:
    await store.save([biller()])
    before = await fields(store)
    state = await counts_of(store)
    state.absorb(arrivals({FIRST_HOUR + 59: call_window(120_000)}, offset=7))
    assert await store.save([state]) == []
    after = await fields(store)
    assert before.pop(subject_key(B1)) != after.pop(subject_key(B1))
    assert before == after
    again = await load_one(store, B1)
    assert (again.rev, again.accepted, again.offsets) == (2, state.accepted, state.offsets)
    assert again.windows == state.windows
    assert again.minutes == state.minutes


async def test_hours_a_data_set_has_taught_stay_settled_for_whoever_loads_counts_alone(store: Store) -> None:
    state = biller(hours=3)
    ahead = state.models["error-rate"]
    for hour in range(40):
        ahead.learn(FIRST_HOUR + 100 + hour, 1.0, 50, POLICY)
    await store.save([state])
    found = await counts_of(store)
    assert found.settled_before == FIRST_HOUR + 140 > found.learned_before
    await store.save([found])
    assert (await counts_of(store)).settled_before == FIRST_HOUR + 140


async def test_closed_in_company_from_its_parts_a_subject_is_what_it_would_be_whole(store: Store) -> None:
    whole_store = MemoryStore(POLICY)
    await whole_store.save([biller("B1"), biller("B2", seed=2)])
    await store.save([biller("B1"), biller("B2", seed=2)])
    subjects = [B1, Subject.biller("B2")]
    for step in range(4):
        hour = LATER + 2 * step
        windows = {hour: call_window(140_000, 9_000_000 * step + 1, 210_000)}
        for whole in (await whole_store.load(subjects)).values():
            advance(whole, copy.deepcopy(dict(windows)), offset=2 + step)
            await whole_store.save([whole])
        states = list((await store.load_counts(subjects)).values())
        await give_models(store, *states)
        for state in states:
            state.absorb(arrivals(copy.deepcopy(dict(windows)), offset=2 + step))
        assert close(states, states[0].watermark_ms, POLICY) == [True, True]
        assert await store.save(states) == []
        assert await fields(store) == whole_store.hashes


async def test_publishing_alone_does_not_write_the_records_again(store: Store) -> None:
    await store.save([biller()])
    state = await counts_of(store)
    await give_models(store, state)
    before = await fields(store)
    for slug in SLUGS:
        await set_field(store, models_key(B1), slug, "as it was")
    assert close([state], LATER * HOUR_MS, POLICY) == [True]
    assert not state.relearned
    assert await store.save([state]) == []
    found = await fields(store)
    assert set(found[models_key(B1)].values()) == {b"as it was"}
    for slug in SLUGS:
        key = series_key(B1, slug)
        assert found[key][b"window_start"] > before[key][b"window_start"]


async def test_what_is_not_judged_anew_keeps_its_stored_verdict(store: Store) -> None:
    await store.save([biller()])
    before = await fields(store)
    state = await counts_of(store)
    await give_models(store, state)
    # Long after the last window was learned: nothing is closed any more, and the answer is of another hour.
    state.windows.clear()
    assert close([state], LATER * HOUR_MS, POLICY) == [True]
    await store.save([state])
    after = await fields(store)
    for slug in SLUGS:
        assert after[series_key(B1, slug)][b"last"] == before[series_key(B1, slug)][b"last"] != b""
        assert after[series_key(B1, slug)][b"window_start"] != before[series_key(B1, slug)][b"window_start"]


async def test_models_of_a_subject_that_was_written_meanwhile_are_not_loaded(store: Store) -> None:
    await store.save([biller("B1"), biller("B2")])
    states = list((await store.load_counts([B1, Subject.biller("B2")])).values())
    other = await counts_of(store)
    await store.save([other])
    assert await store.load_models(states) == [B1]
    assert [state.has_models for state in states] == [False, True]
    assert set(states[1].models) == {*SLUGS}
    assert await store.save(states) == [B1]


async def test_whoever_was_written_after_his_models_were_loaded_is_refused(store: Store) -> None:
    await store.save([biller()])
    state = await counts_of(store)
    await give_models(store, state)
    await store.save([await counts_of(store)])
    before = await fields(store)
    close([state], LATER * HOUR_MS, POLICY)
    assert await store.save([state]) == [B1]
    assert await fields(store) == before
    assert state.changed == {*SLUGS}


async def test_models_that_are_there_are_not_loaded_again(store: Store) -> None:
    await store.save([biller()])
    state = await load_one(store, B1)
    models = state.models
    await store.save([await counts_of(store)])
    assert await store.load_models([state]) == []
    assert state.models is models


async def test_a_missing_record_is_refused_and_an_empty_one_has_learned_nothing(store: Store) -> None:
    await store.save([biller()])
    await set_field(store, models_key(B1), "error-rate", "")
    state = await counts_of(store)
    await give_models(store, state)
    assert set(state.models) == {"average-response-time", "timeout-error-rate"}
    await drop_field(store, models_key(B1), "error-rate")
    with pytest.raises(UnreadableStateError, match=r"biller:B1\}:_models: error-rate: missing$"):
        await store.load_models([await counts_of(store)])


async def test_what_an_older_version_wrote_is_loaded_whole(store: Store) -> None:
    await store.save([biller("B1"), biller("B2")])
    for name in ("about", "settled_before"):
        await drop_field(store, subject_key(B1), name)
    found = await store.load_counts([B1, Subject.biller("B2")])
    assert [found[subject].has_models for subject in (B1, Subject.biller("B2"))] == [True, False]
    assert found[B1].is_whole
    assert set(found[B1].forecasts) == {*SLUGS}


async def test_counts_kept_of_what_an_older_version_wrote_are_not_given_models(store: Store) -> None:
    await store.save([biller()])
    await drop_field(store, subject_key(B1), "about")
    state = await counts_of(store)
    # As a worker does once it has written them.
    state.shed()
    assert await store.load_models([state]) == [B1]
    assert not state.has_models


async def test_what_older_versions_kept_vanishes_when_all_series_are_written(store: Store) -> None:
    await store.save([biller()])
    await drop_field(store, subject_key(B1), "about")
    for slug in SLUGS:
        for name in OBSOLETE:
            await set_field(store, series_key(B1, slug), name.decode(), "old")
    state = await load_one(store, B1)
    state.changed = {"error-rate"}
    await store.save([state])
    found = await fields(store)
    assert b"about" not in found[subject_key(B1)]
    assert not found[series_key(B1, "error-rate")].keys() & {*OBSOLETE}
    assert found[series_key(B1, "timeout-error-rate")].keys() >= {*OBSOLETE}
    state.changed = {*SLUGS}
    await store.save([state])
    found = await fields(store)
    assert found[subject_key(B1)][b"about"]
    assert not any(found[series_key(B1, slug)].keys() & {*OBSOLETE} for slug in SLUGS)


async def test_what_is_told_of_a_series_is_told_again_only_when_it_has_changed() -> None:
    store = MemoryStore(POLICY)
    await store.save([biller()])
    told = copy.deepcopy(store.hashes)
    for changed, expected in ((POLICY, b"somebody else's"), (replace(POLICY, coverage=0.95), b"%")):
        again = MemoryStore(changed)
        again.hashes = copy.deepcopy(told)
        for slug in SLUGS:
            again.hashes[series_key(B1, slug)][b"unit"] = b"somebody else's"
        state = await counts_of(again)
        await give_models(again, state)
        close([state], LATER * HOUR_MS, changed)
        await again.save([state])
        assert again.hashes[series_key(B1, "error-rate")][b"unit"] == expected
        assert (again.hashes[subject_key(B1)][b"about"] == told[subject_key(B1)][b"about"]) == (changed is POLICY)


async def test_a_gauge_that_appears_is_among_the_metrics_and_has_a_record(store: Store) -> None:
    state = model(drift=0.1)
    await store.save([state])
    about = (await fields(store))[subject_key(state.subject)][b"about"]
    seen = model(drift=0.1, memory=7.0)
    again = await counts_of(store, state.subject)
    await give_models(store, again)
    for window in seen.windows.values():
        again.windows.clear()
        again.absorb(arrivals({LATER: window}, offset=2))
    again.learn(POLICY)
    again.publish(again.watermark_ms + 2 * HOUR_MS, POLICY)
    await store.save([again])
    found = await fields(store)
    own = found[subject_key(state.subject)]
    assert own[b"metrics"] == b"drift memory"
    assert own[b"about"] != about
    assert found[models_key(state.subject)][b"memory"] == b""
    assert (await counts_of(store, state.subject)).known == {"drift", "memory"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("rev", "many"), ("windows", "[]"), ("settled_before", "soon")],
)
async def test_damaged_counts_are_refused_by_the_name_of_their_key(store: Store, name: str, value: str) -> None:
    await store.save([biller()])
    await set_field(store, subject_key(B1), name, value)
    with pytest.raises(UnreadableStateError) as refused:
        await store.load_counts([B1])
    assert str(refused.value).startswith(f"{subject_key(B1)}: ")


@pytest.mark.parametrize("value", ["{", "[]", '{"soon":{}}', '{"2025-11-21T20:00:00Z":{"calls":3}}'])
async def test_damaged_minutes_are_refused_by_the_name_of_their_key_when_they_are_looked_at(
    store: Store, value: str
) -> None:
    await store.save([biller()])
    await set_field(store, subject_key(B1), "minutes", value)
    state = await counts_of(store)
    with pytest.raises(UnreadableStateError, match=r"biller:B1\}: damaged minutes"):
        list(state.minutes.values())


async def test_minutes_that_nobody_looked_at_are_not_written_again(store: Store) -> None:
    await store.save([biller()])
    state = await counts_of(store)
    await set_field(store, subject_key(B1), "minutes", "{}")
    await store.save([state])
    assert (await fields(store))[subject_key(B1)][b"minutes"] == b"{}"


async def test_a_head_tells_whether_what_is_published_was_corrected_since(store: Store) -> None:
    await store.save([biller()])
    (head,) = await store.heads([B1])
    assert not head.is_outdated
    state = await counts_of(store)
    # Its last hour but one is closed, and still takes events.
    state.published_hour = FIRST_HOUR + 60
    state.absorb(arrivals({FIRST_HOUR + 59: call_window(120_000)}, offset=7))
    await store.save([state])
    (head,) = await store.heads([B1])
    assert head.is_outdated


async def test_writers_of_many_subjects_at_the_same_time_never_lose_an_update(store: Store) -> None:
    subjects = [Subject.biller(f"B{number}") for number in range(12)]
    await store.save([SubjectState(subject, watermark_ms=1) for subject in subjects])

    async def count(writer: int) -> None:
        for step in range(4):
            # Neighbours have some of their subjects in common.
            left = [subjects[(3 * writer + at) % 12] for at in range(6)]
            while left:
                states = await store.load_counts(left)
                for state in states.values():
                    state.accepted += 1
                    state.offsets[f"writer/{writer}/0"] = step + 1
                left = await store.save(list(states.values()))

    await asyncio.gather(*(count(writer) for writer in range(4)))
    found = await store.load_counts(subjects)
    assert {state.accepted for state in found.values()} == {8}
    assert {state.rev for state in found.values()} == {9}
    assert {offset for state in found.values() for offset in state.offsets.values()} == {4}
