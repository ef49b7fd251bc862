"""What every state store promises, over each of them."""

import asyncio
import copy
from collections.abc import Callable
from dataclasses import replace

import pytest

from detection.catalogue import ERROR_RATE
from detection.challengers.selection import Selection
from detection.errors import UnreadableStateError
from detection.estimate import Scored
from detection.exclusions import NOTHING_EXCLUDED, Exclusion, Exclusions
from detection.rules.alert import Transition
from detection.series_model import SeriesModel
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import CallWindow
from state.keys import CLOCK, models_key, outbox_key, series_key, subject_key
from state.memory_store import MemoryStore
from state.redis_store import RedisStore
from state.store import StateStore
from state.survey import lately_of
from tests.alerts import alert_of
from tests.contract.states import (
    FIRST_HOUR,
    POLICY,
    SOURCE,
    Store,
    advance,
    biller,
    call_window,
    fields,
    gauge_window,
    glanced,
    model,
)

B1 = Subject.biller("B1")


async def load_one(store: StateStore, subject: Subject) -> SubjectState:
    return (await store.load([subject]))[subject]


async def set_field(store: Store, key: str, name: str, value: str | bytes) -> None:
    if isinstance(store, MemoryStore):
        store.hashes[key][name.encode()] = value.encode() if isinstance(value, str) else value
    else:
        await store._client.hset(key, name, value)


async def drop_key(store: Store, key: str) -> None:
    if isinstance(store, MemoryStore):
        del store.hashes[key]
    else:
        await store._client.delete(key)


async def drop_field(store: Store, key: str, name: str) -> None:
    if isinstance(store, MemoryStore):
        del store.hashes[key][name.encode()]
    else:
        await store._client.hdel(key, name)


def facts(state: SubjectState) -> dict[str, object]:
    """Everything of a state that two of them can be compared by."""
    plain = {name: getattr(state, name) for name in SubjectState.__slots__}
    return plain | {"models": {slug: one.to_bytes() for slug, one in state.models.items()}}


@pytest.mark.parametrize("make", [biller, model])
async def test_what_is_loaded_is_what_was_saved(store: Store, make: Callable[[], SubjectState]) -> None:
    state = make()
    assert state.changed
    assert await store.save([state]) == []
    loaded = await load_one(store, state.subject)
    assert facts(loaded) == facts(state)
    assert state.rev == loaded.rev == 1


async def test_saving_again_what_was_loaded_changes_no_field_but_the_revision(store: Store) -> None:
    states = [biller(), model()]
    await store.save(states)
    before = await fields(store)
    loaded = await store.load([state.subject for state in states])
    for state in loaded.values():
        state.changed.update(state.forecasts)
    assert await store.save(list(loaded.values())) == []
    after = await fields(store)
    for state in states:
        assert before[subject_key(state.subject)].pop(b"rev") == b"1"
        assert after[subject_key(state.subject)].pop(b"rev") == b"2"
        assert before[outbox_key(state.subject)].pop(b"published") == b"1"
        assert after[outbox_key(state.subject)].pop(b"published") == b"2"
    assert after == before


async def test_a_subject_goes_on_after_a_reload_as_if_it_had_never_been_stored(store: Store) -> None:
    quiet, stored = biller(hours=60), biller(hours=60)
    await store.save([stored])
    stored = await load_one(store, B1)
    quiet.settled()
    for hour in range(60, 70):
        window = call_window(150_000 + hour, 210_000)
        advance(quiet, {FIRST_HOUR + hour: copy.deepcopy(window)})
        advance(stored, {FIRST_HOUR + hour: window})
        await store.save([stored])
        stored = await load_one(store, B1)
    quiet.rev, quiet.about = stored.rev, stored.about
    quiet.settled()
    assert facts(stored) == facts(quiet)
    assert isinstance(stored.verdicts["average-response-time"], Scored)


async def test_both_stores_hold_the_same_bytes(redis_store: RedisStore) -> None:
    memory = MemoryStore(POLICY)
    for each in (memory, redis_store):
        await each.save([biller(), model()])
        await each.advance_clock(1_763_755_200_000)
    assert await fields(redis_store) == await fields(memory)


async def test_a_stale_write_is_refused_and_changes_nothing(store: Store) -> None:
    await store.save([biller()])
    first, second = await load_one(store, B1), await load_one(store, B1)
    advance(first, {FIRST_HOUR + 60: call_window(100_000)}, offset=2)
    assert await store.save([first]) == []
    before = await fields(store)
    advance(second, {FIRST_HOUR + 61: call_window(900_000)}, offset=3)
    changed = set(second.changed)
    assert await store.save([second]) == [B1]
    assert await fields(store) == before
    assert second.rev == 1
    assert second.changed == changed


async def test_a_new_subject_is_refused_where_one_is_stored_already(store: Store) -> None:
    await store.save([biller(seed=1)])
    before = await fields(store)
    assert await store.save([biller(seed=2)]) == [B1]
    assert await fields(store) == before


async def test_one_refused_subject_does_not_stop_the_others(store: Store) -> None:
    await store.save([biller("B1")])
    states = [biller("A1"), biller("B1"), biller("C1")]
    assert await store.save(states) == [B1]
    assert [state.rev for state in states] == [1, 0, 1]


async def test_writers_at_the_same_time_never_lose_an_update(store: Store) -> None:
    await store.save([biller(hours=3)])
    calls_before = (await load_one(store, B1)).accepted

    async def add_calls(writer: int) -> None:
        for step in range(5):
            while True:
                state = await load_one(store, B1)
                state.accepted += 1
                state.offsets[f"writer/{writer}/0"] = step + 1
                if not await store.save([state]):
                    break

    await asyncio.gather(*(add_calls(writer) for writer in range(6)))
    state = await load_one(store, B1)
    assert state.accepted == calls_before + 30
    assert state.rev == 31
    assert {offset for source, offset in state.offsets.items() if source != SOURCE} == {5}


async def test_only_changed_series_are_written(store: Store) -> None:
    await store.save([biller()])
    error_rate = series_key(B1, "error-rate")
    timeouts = series_key(B1, "timeout-error-rate")
    models = models_key(B1)
    for key in (error_rate, timeouts):
        await set_field(store, key, "status", "stale")
        await set_field(store, models, key.rsplit(":", 1)[1], "as it was")
    state = biller()
    state.rev = 1
    state.changed = {"error-rate"}
    await store.save([state])
    found = await fields(store)
    assert found[error_rate][b"status"] == b"ready"
    assert found[timeouts][b"status"] == b"stale"
    assert found[models][b"error-rate"] == state.models["error-rate"].to_bytes()
    assert found[models][b"timeout-error-rate"] == b"as it was"


async def test_what_was_learned_is_stored_as_the_bytes_of_its_record(store: Store) -> None:
    state = biller()
    await store.save([state])
    found = await fields(store)
    assert found[models_key(B1)] == {slug.encode(): one.to_bytes() for slug, one in state.models.items()}
    assert all(b"model" not in found[series_key(B1, slug)] for slug in state.models)


async def test_a_model_that_is_trained_anew_leaves_nothing_of_the_old_one(store: Store) -> None:
    await store.save([biller(hours=60)])
    young = biller(hours=3)
    young.rev = 1
    young.verdicts.clear()
    await store.save([young])
    loaded = await load_one(store, B1)
    assert loaded.models["error-rate"].n_learned == young.models["error-rate"].n_learned < 48
    assert loaded.verdicts == {}


async def test_challengers_come_back_with_the_series_that_they_were_selected_for() -> None:
    policy = replace(POLICY, selection=Selection.parse("biller:B1/error-rate=ewa"))
    store = MemoryStore(policy)
    states = [biller("B1"), biller("B2")]
    for state in states:
        chosen = state.models["error-rate"] = SeriesModel(ERROR_RATE, policy, str(state.subject))
        for hour in range(60):
            chosen.learn(FIRST_HOUR + hour, float(hour % 3), 200, policy)
    await store.save(states)
    loaded = await store.load([state.subject for state in states])
    assert [one.models["error-rate"].contest is None for one in loaded.values()] == [False, True]
    for state in states:
        assert loaded[state.subject].models["error-rate"].to_bytes() == state.models["error-rate"].to_bytes()


async def test_a_series_that_has_learned_nothing_is_not_taken_for_a_lost_one(store: Store) -> None:
    state = advance(model(), {FIRST_HOUR + 60: gauge_window(memory=7.5, drift=0.1, prediction_accuracy=0.8)}, offset=2)
    assert "memory" in state.forecasts
    assert "memory" not in state.models
    await store.save([state])
    loaded = await load_one(store, state.subject)
    assert facts(loaded) == facts(state)


async def test_a_model_that_is_given_up_leaves_no_record(store: Store) -> None:
    await store.save([biller()])
    state = await load_one(store, B1)
    del state.models["error-rate"]
    state.changed = state.relearned = {"error-rate"}
    await store.save([state])
    assert set((await load_one(store, B1)).models) == {"average-response-time", "timeout-error-rate"}


async def test_a_written_state_has_nothing_left_to_write(store: Store) -> None:
    state = biller()
    await store.save([state])
    assert not state.changed
    assert not state.learned


async def test_subjects_that_are_not_stored_are_left_out(store: Store) -> None:
    await store.save([biller()])
    unknown = Subject.biller("B2")
    assert list(await store.load([unknown, B1])) == [B1]
    assert [head.subject for head in await store.heads([unknown, B1])] == [B1]
    assert list(await store.answers([unknown, B1])) == [B1]
    assert list(await store.lately([unknown, B1])) == [B1]
    assert list(await store.outbox([unknown, B1])) == [B1]
    assert await glanced(store, unknown, "error-rate") == (None, None)
    assert await store.load([]) == {}
    assert await store.save([]) == []


async def test_a_head_tells_what_is_to_be_done_for_a_subject(store: Store) -> None:
    state = biller()
    learned = len(state.learned)
    await store.save([state])
    await store.announced(await store.announcements([B1]))
    (head,) = await store.heads([B1])
    assert head.rev == 1
    assert head.watermark_ms == state.watermark_ms
    assert head.published_hour == state.published_hour
    assert head.offsets == {SOURCE: 1}
    assert head.unrelayed == learned > 0


async def test_what_is_unrelayed_is_told_of_many_subjects_at_once(store: Store) -> None:
    nothing_new = replace(biller(), learned={}, changed=set())
    quiet = [replace(nothing_new, subject=Subject.biller(f"Q{number}")) for number in range(300)]
    waiting = biller()
    await store.save([*quiet[:200], waiting, *quiet[200:]])
    subjects = [*(state.subject for state in quiet), Subject.biller("unknown"), B1]
    assert await store.unrelayed(subjects) == [B1]
    await store.announced(await store.announcements([B1]))
    assert await store.unrelayed(subjects) == [B1]
    await store.relayed({B1: list((await store.outbox([B1]))[B1])})
    assert await store.unrelayed(subjects) == []
    assert await store.unrelayed([]) == []


async def test_answers_are_the_readable_fields_without_the_model(store: Store) -> None:
    state = biller()
    await store.save([state])
    answer = (await store.answers([B1]))[B1]["average-response-time"]
    forecast = state.forecasts["average-response-time"]
    assert float(answer["threshold"]) == forecast.threshold.value
    assert answer["operator"] == ">"
    assert answer["unit"] == "ms"
    assert answer["window_start"] < answer["window_end"] < answer["valid_until"]
    assert answer["claimed_exceedance"] == "0.01"
    assert answer["last_verdict"] in {"warming-up", "normal", "exceeded"}
    assert "model" not in answer
    assert (await glanced(store, B1, "average-response-time"))[0] == answer
    lately = (await store.lately([B1]))[B1]
    assert (await glanced(store, B1, "average-response-time"))[1] == lately == lately_of(state.minutes)


async def test_the_version_of_an_answer_changes_with_the_answer_alone(store: Store) -> None:
    await store.save([biller()])
    first = (await store.answers([B1]))[B1]
    state = await load_one(store, B1)
    state.accepted += 1
    state.changed.update(state.forecasts)
    await store.save([state])
    assert (await store.answers([B1]))[B1] == first
    advance(state, {FIRST_HOUR + 60: call_window(100_000), FIRST_HOUR + 61: call_window(100_000)}, offset=2)
    await store.save([state])
    later = (await store.answers([B1]))[B1]
    assert all(later[slug]["version"] != first[slug]["version"] for slug in first)


async def test_learned_windows_wait_in_the_outbox_until_they_are_relayed(store: Store) -> None:
    state = biller(hours=10)
    learned = dict(state.learned)
    await store.save([state])
    assert await store.outbox([B1]) == {B1: learned}
    await store.relayed({B1: sorted(learned)[:4]})
    assert list((await store.outbox([B1]))[B1]) == sorted(learned)[4:]
    await store.relayed({B1: sorted(learned)})
    await store.relayed({B1: sorted(learned), Subject.biller("B2"): [1], Subject.biller("B3"): []})
    assert await store.outbox([B1]) == {}
    await store.announced(await store.announcements([B1]))
    assert outbox_key(B1) not in await fields(store)
    (head,) = await store.heads([B1])
    assert head.unrelayed == 0


async def test_what_was_published_is_announced_once_for_all_writes_before_the_telling(store: Store) -> None:
    state = biller(hours=60)
    await store.save([state])
    (first,) = (await store.announcements([B1])).values()
    state.changed.update(state.forecasts)
    await store.save([state])
    (second,) = (await store.announcements([B1])).values()
    assert (first.published, second.published) == (b"1", b"2")
    await store.announced({B1: first})
    assert (await store.announcements([B1]))[B1].published == b"2", "it was published again after it was told"
    await store.announced({B1: second})
    assert await store.announcements([B1, Subject.biller("B2")]) == {}


async def test_exclusions_are_kept_with_their_subject_and_written_only_when_they_are_others(store: Store) -> None:
    state = biller(hours=60)
    exclusions = Exclusions(
        [
            Exclusion(from_hour=FIRST_HOUR + 70, before_hour=FIRST_HOUR + 74, reason="outage", by="kim", at_ms=7),
            Exclusion(from_hour=FIRST_HOUR + 90, before_hour=FIRST_HOUR + 91, slug="error-rate", calendar="c", uid="1"),
        ]
    )
    await store.save([state])
    stored = await load_one(store, B1)
    assert stored.exclusions == NOTHING_EXCLUDED
    stored.exclusions, stored.has_new_exclusions = exclusions, True
    assert await store.save([stored]) == []
    assert not stored.has_new_exclusions
    counts = (await store.load_counts([B1]))[B1]
    assert counts.exclusions == (await load_one(store, B1)).exclusions == exclusions
    await set_field(store, subject_key(B1), "exclusions", b"{}")
    counts.accepted += 1
    assert await store.save([counts]) == []
    assert (await load_one(store, B1)).exclusions == NOTHING_EXCLUDED, "it was written although it was no other"
    await drop_field(store, subject_key(B1), "exclusions")
    assert (await load_one(store, B1)).exclusions == NOTHING_EXCLUDED, "an older version has no such field"


@pytest.mark.parametrize("damaged", [b"[]", b"{", b'{"a":{"from":"2026"}}', b'{"a":7}'])
async def test_damaged_exclusions_are_refused_with_the_key(store: Store, damaged: bytes) -> None:
    await store.save([biller(hours=3)])
    await set_field(store, subject_key(B1), "exclusions", damaged)
    for load in (store.load, store.load_counts):
        with pytest.raises(UnreadableStateError, match="damaged"):
            await load([B1])


async def test_an_alert_is_kept_with_its_subject_and_what_became_of_it_in_the_outbox(store: Store) -> None:
    state = biller(hours=60)
    alert = alert_of(B1, "error-rate")
    opened = Transition("opened", alert, alert.since_ms)
    state.alerts, state.opinions = {alert.key: alert}, {"error-rate": 2}
    state.transitions.append(opened)
    await store.save([state])
    stored = await load_one(store, B1)
    assert stored.alerts == {alert.key: alert}
    assert stored.opinions == {"error-rate": 2}
    assert await store.alerts([B1, Subject.biller("B2")]) == {B1: {alert.key: alert}}
    assert (await store.load_counts([B1]))[B1].alerts == {alert.key: alert}
    worse = Transition("worse", replace(alert, told=9.5, acknowledged_by="kim", acknowledged_ms=7), alert.since_ms + 1)
    resolved = Transition("resolved", replace(worse.alert, state="resolved", resolved_ms=9), alert.since_ms + 2)
    stored.alerts = {}
    stored.transitions += [worse, resolved]
    await store.save([stored])
    (told,) = (await store.announcements([B1])).values()
    assert list(told.alerts.values()) == [replace(opened, rev=1), replace(worse, rev=2), replace(resolved, rev=2)]
    assert (await load_one(store, B1)).alerts == {}
    assert await store.alerts([B1]) == {}
    await store.announced({B1: told})
    assert await store.announcements([B1]) == {}
    await store.relayed({B1: list((await store.outbox([B1]))[B1])})
    # The history takes its own, later or sooner.
    kept = (await store.alert_history([B1, Subject.biller("B2")]))[B1]
    assert list(kept.values()) == list(told.alerts.values())
    await store.alert_history_kept({B1: kept})
    assert await store.alert_history([B1]) == {}
    assert (await store.heads([B1]))[0].unrelayed == 0


async def test_a_long_replay_in_one_write_is_kept_whole(store: Store) -> None:
    state = SubjectState(B1)
    state.learned = {FIRST_HOUR + hour: call_window(hour + 1) for hour in range(9000)}
    await store.save([state])
    assert len((await store.outbox([B1]))[B1]) == 9000


async def test_whole_numbers_beyond_64_bits_come_back_exactly(store: Store) -> None:
    state = SubjectState(B1, watermark_ms=1)
    state.windows[FIRST_HOUR] = CallWindow(calls=3, latency_us=2**53 + 1, latency_us2=2**200 + 1)
    state.learned[FIRST_HOUR] = CallWindow(calls=3, latency_us=2**70 + 3, latency_us2=2**201 + 1)
    learned = dict(state.learned)
    await store.save([state])
    assert (await load_one(store, B1)).windows == state.windows
    assert await store.outbox([B1]) == {B1: learned}


async def test_subjects_are_paged_in_the_order_of_their_text(store: Store) -> None:
    ids = ["B10", "B1", "b1", "A.1", "B2", "B1-x"]
    states = [SubjectState(Subject.biller(one)) for one in ids] + [SubjectState(Subject.model("M", "v1"))]
    await store.save(states)
    ordered = sorted(str(state.subject) for state in states)
    assert [str(one) for one in await store.subjects()] == ordered
    paged: list[str] = []
    while page := await store.subjects(after=paged[-1] if paged else "", limit=2):
        paged += [str(one) for one in page]
    assert paged == ordered
    assert [one.id for one in await store.subjects(prefix="biller:B1")] == ["B1", "B1-x", "B10"]
    assert [one.id for one in await store.subjects(prefix="biller:B1", after="biller:B1-x")] == ["B10"]
    assert [one.id for one in await store.subjects(prefix="model:", limit=1)] == ["M/v1"]
    assert await store.subjects(prefix="biller:", after="model:") == []
    assert await store.subjects(prefix="nothing") == []


async def test_saving_a_subject_twice_lists_it_once(store: Store) -> None:
    state = SubjectState(B1)
    await store.save([state])
    await store.save([state])
    assert await store.subjects() == [B1]


async def test_the_clock_never_goes_back(store: Store) -> None:
    assert await store.clock() == -1
    assert await store.advance_clock(1_763_755_200_000) == 1_763_755_200_000
    assert await store.advance_clock(1_763_755_199_999) == 1_763_755_200_000
    assert await store.clock() == 1_763_755_200_000
    assert (await fields(store))[CLOCK][b"time"] == b"2025-11-21T20:00:00Z"
    shown = await asyncio.gather(*(store.advance_clock(1_763_755_200_000 + ms) for ms in range(20)))
    assert max(shown) == await store.clock() == 1_763_755_200_019


@pytest.mark.parametrize(
    ("key", "version", "readable"),
    [
        (subject_key(B1), "2", "1"),
        (subject_key(B1), "", "1"),
        (series_key(B1, "error-rate"), "4", "1, 2 and 3"),
        (series_key(B1, "error-rate"), "0", "1, 2 and 3"),
        (series_key(B1, "error-rate"), "two", "1, 2 and 3"),
    ],
)
async def test_another_schema_version_is_refused_by_the_name_of_its_key(
    store: Store, key: str, version: str, readable: str
) -> None:
    await store.save([biller()])
    await set_field(store, key, "schema", version)
    with pytest.raises(UnreadableStateError) as refused:
        await store.load([B1])
    assert str(refused.value) == f"{key}: schema version {version}, this program reads {readable}"


async def test_a_record_of_another_version_is_refused_by_the_name_of_its_key(store: Store) -> None:
    state = biller()
    await store.save([state])
    newer = b"\x03" + state.models["error-rate"].to_bytes()[1:]
    await set_field(store, models_key(B1), "error-rate", newer)
    with pytest.raises(UnreadableStateError) as refused:
        await store.load([B1])
    assert str(refused.value).startswith(f"{models_key(B1)}: error-rate: ")
    assert "version 3, this program reads 2" in str(refused.value)


@pytest.mark.parametrize(
    ("key", "name", "value"),
    [
        (subject_key(B1), "rev", "many"),
        (subject_key(B1), "windows", "[]"),
        (subject_key(B1), "watermark_ms", ""),
        (subject_key(B1), "metrics", "error-rate no/metric"),
        (series_key(B1, "error-rate"), "threshold", "high"),
        (series_key(B1, "error-rate"), "status", "fine"),
        (series_key(B1, "error-rate"), "last", "fast"),
        (series_key(B1, "error-rate"), "last", '{"verdict":"normal"}'),
        (models_key(B1), "error-rate", "x"),
        (models_key(B1), "error-rate", "\x02"),
        (models_key(B1), "error-rate", "\x02" * 100),
    ],
)
async def test_damaged_state_is_refused_by_the_name_of_its_key(store: Store, key: str, name: str, value: str) -> None:
    await store.save([biller()])
    await set_field(store, key, name, value)
    with pytest.raises(UnreadableStateError) as refused:
        await store.load([B1])
    assert str(refused.value).startswith(f"{key}: ")


async def test_a_series_that_somebody_deleted_is_not_silently_learned_anew(store: Store) -> None:
    await store.save([biller()])
    await drop_key(store, series_key(B1, "error-rate"))
    with pytest.raises(UnreadableStateError, match="error-rate: missing"):
        await store.load([B1])


async def test_a_record_that_somebody_deleted_is_not_silently_learned_anew(store: Store) -> None:
    await store.save([biller()])
    await drop_field(store, models_key(B1), "error-rate")
    with pytest.raises(UnreadableStateError, match=r"_models: error-rate: missing$"):
        await store.load([B1])
    await drop_key(store, models_key(B1))
    with pytest.raises(UnreadableStateError, match=r"_models: average-response-time: missing$"):
        await store.load([B1])


async def test_gauges_named_like_our_own_keys_and_fields_reach_none_of_them(store: Store) -> None:
    state = model(outbox=1.0, clock=2.0, model=3.0, models=4.0)
    slugs = {"outbox", "clock", "model", "models"}
    learned = dict(state.learned)
    await store.save([state])
    assert await store.outbox([state.subject]) == {state.subject: learned}
    assert set((await store.answers([state.subject]))[state.subject]) == slugs
    again = await load_one(store, state.subject)
    again.changed = {"models"}
    await store.save([again])
    assert set((await load_one(store, state.subject)).models) == slugs


async def test_subjects_whose_ids_look_alike_have_no_key_in_common(store: Store) -> None:
    subjects = [
        Subject.biller("B1"),
        Subject.biller("B1.error-rate"),
        Subject.biller("model"),
        Subject.model("B1", "error-rate"),
        Subject.model("biller", "B1"),
    ]
    seen: set[str] = set()
    for subject in subjects:
        before = set(await fields(store))
        state = biller() if subject.kind == "biller" else model()
        state.subject = subject
        await store.save([state])
        added = set(await fields(store)) - before
        assert len(added) == 3 + len(state.forecasts)
        assert not added & seen
        assert all(f"{{{subject}}}" in key for key in added)
        seen |= added


async def test_a_store_that_answers_can_be_pinged(store: Store) -> None:
    await store.ping()
