"""What a program of schema version 1 left in Redis is read, goes on, and is of version 3 when it is next written.

`version_1.json` was written by such a program, after 600 hours of the recorded calls of two endpoints and 60 hours of
made-up gauges of a model version; it also holds what that program's models said 0, 1, 6 and 23 hours ahead.
"""

import asyncio
import math
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.errors import UnreadableStateError
from detection.estimate import Scored
from detection.hours import HOUR_MS, parse_ms
from detection.subject import Subject
from detection.subject_state import SubjectState
from detection.windows import Window
from state.keys import CLOCK, SUBJECTS, models_key, series_key, subject_key
from state.memory_store import MemoryStore
from state.series_fields import OBSOLETE
from state.store import StateStore
from tests.contract.states import POLICY, Store, advance, call_window, fields, gauge_window, glanced

RECORDED: dict[str, Any] = orjson.loads(Path(__file__).with_name("version_1.json").read_bytes())
HOURS_AHEAD = (0, 1, 6, 23)
# What the regressions and the bounds had learned is not carried over, but earned again: until then the distance of a
# threshold is another than it was, above all that of the made-up gauge, a pure wave that they knew by heart.
MOST = {"biller": 3, "model": 12}
PROBE = Subject.biller("probe-01")
SUBJECTS_OF_VERSION_1 = [PROBE, Subject.biller("probe-02"), Subject.model("Mistral", "v1")]
SERIES = [(Subject.parse(text), slug) for text, by_slug in RECORDED["forecasts"].items() for slug in by_slug]


async def restored(store: Store) -> Store:
    """The store with what the program of version 1 left in it."""
    texts = sorted(map(str, SUBJECTS_OF_VERSION_1))
    if isinstance(store, MemoryStore):
        store.hashes = {
            key: {name.encode(): value.encode() for name, value in found.items()}
            for key, found in RECORDED["hashes"].items()
        }
        store._index = texts
    else:
        for key, found in RECORDED["hashes"].items():
            await store._client.hset(key, mapping=found)
        await store._client.zadd(SUBJECTS, dict.fromkeys(texts, 0))
    return store


async def load_one(store: StateStore, subject: Subject) -> SubjectState:
    return (await store.load([subject]))[subject]


def stored_model(subject: Subject, slug: str) -> dict[str, Any]:
    """The plain numbers of a model as version 1 stored it; the packed ones as their texts."""
    found: dict[str, Any] = orjson.loads(RECORDED["hashes"][series_key(subject, slug)]["model"])
    return found


def next_window(subject: Subject) -> Window:
    """What an ordinary hour looks like."""
    return call_window(310_000, 420_000) if subject.kind == "biller" else gauge_window(drift=0.1, bias=0.2, memory=7.5)


@pytest.mark.parametrize("subject", SUBJECTS_OF_VERSION_1, ids=str)
async def test_every_field_of_version_1_is_read(store: Store, subject: Subject) -> None:
    await restored(store)
    recorded = RECORDED["hashes"][subject_key(subject)]
    state = await load_one(store, subject)
    assert (state.rev, state.accepted) == (int(recorded["rev"]), int(recorded["accepted"]))
    assert state.watermark_ms == int(recorded["watermark_ms"])
    assert state.windows
    assert sorted(state.forecasts) == recorded["metrics"].split()
    assert sorted(state.models) == sorted(RECORDED["forecasts"][str(subject)])
    for slug, forecast in state.forecasts.items():
        answer = RECORDED["hashes"][series_key(subject, slug)]
        assert forecast.threshold.value == float(answer["threshold"])
        assert forecast.hour == parse_ms(answer["window_start"]) // HOUR_MS
        assert forecast.estimate.n_learned == int(answer["n_learned"])


@pytest.mark.parametrize(("subject", "slug"), SERIES, ids=str)
async def test_a_model_of_version_1_keeps_what_it_has_counted(store: Store, subject: Subject, slug: str) -> None:
    await restored(store)
    model = (await load_one(store, subject)).models[slug]
    was = stored_model(subject, slug)
    assert model.n_learned == was["n_before"] + was["forecaster"]["n_learned"]
    assert model.next_hour == was["next_hour"]
    assert model.judged == was["judged"] > 0
    assert model.exceedance_rate == was["exceedance_rate"]
    assert model.is_signed == was["is_signed"] == (slug == "bias")
    assert model.expected_count == pytest.approx(was["expected_count"], rel=1e-6)


@pytest.mark.parametrize(("subject", "slug"), SERIES, ids=str)
async def test_a_model_of_version_1_expects_about_what_it_expected(store: Store, subject: Subject, slug: str) -> None:
    await restored(store)
    model = (await load_one(store, subject)).models[slug]
    assert model.next_hour is not None
    for ahead, (location, lower, upper, threshold) in zip(
        HOURS_AHEAD, RECORDED["forecasts"][str(subject)][slug], strict=True
    ):
        forecast = model.forecast(model.next_hour + ahead, POLICY)
        estimate = forecast.estimate
        now = (estimate.location, estimate.lower, estimate.upper, forecast.threshold.value)
        assert all(map(math.isfinite, now))
        assert estimate.lower <= estimate.location <= estimate.upper
        assert estimate.location <= forecast.threshold.value
        # Rates of two calls an hour have no band to speak of: a quarter of a percentage point is as good as the same.
        band = max(upper - lower, 0.5 if slug.endswith("-rate") else 0.0)
        assert estimate.location == pytest.approx(location, abs=band / 2)
        distance = forecast.threshold.value - estimate.location
        assert 1 / 3 < distance / (threshold - location) < MOST[subject.kind]


@pytest.mark.parametrize("subject", SUBJECTS_OF_VERSION_1, ids=str)
async def test_what_is_written_next_is_of_version_3_and_leaves_nothing_of_version_1(
    store: Store, subject: Subject
) -> None:
    await restored(store)
    state = await load_one(store, subject)
    converted = {slug.encode(): model.to_bytes() for slug, model in state.models.items()}
    state.changed.update(state.forecasts)
    assert await store.save([state]) == []
    found = await fields(store)
    for slug in state.forecasts:
        series = found[series_key(subject, slug)]
        assert series[b"schema"] == b"3"
        assert not series.keys() & set(OBSOLETE)
    assert found[models_key(subject)] == {slug.encode(): converted.get(slug.encode(), b"") for slug in state.forecasts}
    assert found[subject_key(subject)][b"schema"] == b"1"
    again = await load_one(store, subject)
    assert {slug.encode(): model.to_bytes() for slug, model in again.models.items()} == converted
    untouched = {key for key in RECORDED["hashes"] if str(subject) not in key}
    assert all(
        found[key] == {name.encode(): value.encode() for name, value in RECORDED["hashes"][key].items()}
        for key in untouched
    )
    assert CLOCK in untouched


async def test_an_hour_that_closes_is_judged_by_what_version_1_had_learned(store: Store) -> None:
    await restored(store)
    for subject in SUBJECTS_OF_VERSION_1:
        state = await load_one(store, subject)
        judged = {slug: model.judged for slug, model in state.models.items() if model.is_warm}
        assert judged
        hour = state.watermark_ms // HOUR_MS + 1
        advance(state, {hour + more: next_window(subject) for more in range(6)}, offset=1)
        assert await store.save([state]) == []
        loaded = await load_one(store, subject)
        for slug, before in judged.items():
            assert loaded.models[slug].judged > before
            assert isinstance(loaded.verdicts[slug], Scored)


async def test_one_subject_may_have_series_of_both_versions(store: Store) -> None:
    await restored(store)
    state = await load_one(store, PROBE)
    records = {slug: model.to_bytes() for slug, model in state.models.items()}
    answers = (await store.answers([PROBE]))[PROBE]
    state.changed = {"error-rate"}
    assert await store.save([state]) == []
    found = await fields(store)
    versions = {slug: found[series_key(PROBE, slug)][b"schema"] for slug in records}
    assert versions == {"average-response-time": b"1", "error-rate": b"3", "timeout-error-rate": b"1"}
    assert set(found[models_key(PROBE)]) == {b"error-rate"}
    again = await load_one(store, PROBE)
    assert {slug: model.to_bytes() for slug, model in again.models.items()} == records
    both = (await store.answers([PROBE]))[PROBE]
    assert both.keys() == answers.keys()
    assert (await glanced(store, PROBE, "timeout-error-rate"))[0] == answers["timeout-error-rate"]
    assert (await glanced(store, PROBE, "error-rate"))[0] == both["error-rate"]


SLUGS = ["average-response-time", "error-rate", "timeout-error-rate"]


@given(st.lists(st.sets(st.sampled_from(SLUGS)), max_size=4))
def test_whatever_is_written_first_the_models_are_the_same(writes: list[set[str]]) -> None:
    async def written() -> tuple[SubjectState, SubjectState]:
        store = await restored(MemoryStore(POLICY))
        first = await load_one(store, PROBE)
        for changed in writes:
            state = await load_one(store, PROBE)
            state.changed = set(changed)
            assert await store.save([state]) == []
        return first, await load_one(store, PROBE)

    first, last = asyncio.run(written())
    assert last.rev == first.rev + len(writes)
    assert {slug: model.to_bytes() for slug, model in last.models.items()} == {
        slug: model.to_bytes() for slug, model in first.models.items()
    }
    assert last.verdicts == first.verdicts


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("schema", "4", "schema version 4, this program reads 1, 2 and 3"),
        ("schema", "0", "schema version 0, this program reads 1, 2 and 3"),
        ("model", '{"version":99}', "version 99"),
        ("model", '{"version":1}', ""),
        ("model", "{}", ""),
        ("model", "{", "damaged: "),
        ("model", '{"version":1,"next_hour":"f8:no base64"}', "damaged: "),
    ],
)
async def test_what_version_1_cannot_have_written_is_refused_by_the_name_of_its_key(
    store: Store, name: str, value: str, says: str
) -> None:
    await restored(store)
    key = series_key(PROBE, "error-rate")
    if isinstance(store, MemoryStore):
        store.hashes[key][name.encode()] = value.encode()
    else:
        await store._client.hset(key, name, value)
    with pytest.raises(UnreadableStateError) as refused:
        await store.load([PROBE])
    assert str(refused.value).startswith(f"{key}: ")
    assert says in str(refused.value)
    assert set(await store.load(SUBJECTS_OF_VERSION_1[1:])) == set(SUBJECTS_OF_VERSION_1[1:])


async def test_a_model_that_version_1_lost_is_not_silently_learned_anew(store: Store) -> None:
    await restored(store)
    key = series_key(PROBE, "error-rate")
    if isinstance(store, MemoryStore):
        del store.hashes[key][b"model"]
    else:
        await store._client.hdel(key, "model")
    with pytest.raises(UnreadableStateError, match="error-rate: damaged"):
        await store.load([PROBE])
