"""What a program of series schema 2 left in Redis is read, goes on, and is of version 3 when it is next written.

`version_2.json` was written by such a program, after some hours of made-up calls and gauges; it also holds the answers
that this program read of it.
"""

from base64 import b64decode
from pathlib import Path
from typing import Any

import orjson
import pytest

from detection.closing import close
from detection.estimate import Scored, WarmingUp
from detection.hours import HOUR_MS
from detection.subject import Subject
from detection.subject_state import SubjectState
from state.keys import SUBJECTS, models_key, series_key
from state.memory_store import MemoryStore
from state.series_fields import OBSOLETE
from tests.contract.states import POLICY, Store, advance, call_window, fields, gauge_window, glanced

RECORDED: dict[str, Any] = orjson.loads(Path(__file__).with_name("version_2.json").read_bytes())
ANSWERS: dict[str, dict[str, dict[str, str]]] = RECORDED["answers"]
SUBJECTS_OF_VERSION_2 = [Subject.parse(text) for text in ANSWERS]
LEARNED, YOUNG, TIMED_OUT, _ = SUBJECTS_OF_VERSION_2


def hashes() -> dict[str, dict[bytes, bytes]]:
    return {
        key: {
            name.encode(): b64decode(value) if key.endswith(":_models") else value.encode()
            for name, value in found.items()
        }
        for key, found in RECORDED["hashes"].items()
    }


async def restored(store: Store) -> None:
    """Put into the store what the program of version 2 left in it."""
    if isinstance(store, MemoryStore):
        store.hashes = hashes()
        store._index = sorted(ANSWERS)
        return
    for key, found in hashes().items():
        await store._client.hset(key, mapping={name: found[name] for name in found})
    await store._client.zadd(SUBJECTS, dict.fromkeys(ANSWERS, 0))


async def load_one(store: Store, subject: Subject) -> SubjectState:
    return (await store.load([subject]))[subject]


def unversioned(answer: dict[str, str] | None) -> dict[str, str]:
    """What is answered, without what differs from version to version: the schema, and the hash of everything stored."""
    assert answer is not None
    return {name: value for name, value in answer.items() if name not in {"schema", "version"}}


@pytest.mark.parametrize("subject", SUBJECTS_OF_VERSION_2, ids=str)
async def test_an_answer_of_version_2_is_read_as_that_program_read_it(store: Store, subject: Subject) -> None:
    await restored(store)
    recorded = ANSWERS[str(subject)]
    answers = (await store.answers([subject]))[subject]
    assert answers.keys() == recorded.keys()
    for slug, answer in answers.items():
        assert answer.keys() == recorded[slug].keys()
        assert answer["schema"] == "2"
        assert unversioned(answer) == unversioned(recorded[slug])
        assert unversioned((await glanced(store, subject, slug))[0]) == unversioned(recorded[slug])


@pytest.mark.parametrize("subject", SUBJECTS_OF_VERSION_2, ids=str)
async def test_what_is_written_next_is_of_version_3_and_answers_the_same(store: Store, subject: Subject) -> None:
    await restored(store)
    state = await load_one(store, subject)
    verdicts, forecasts = dict(state.verdicts), dict(state.forecasts)
    state.changed.update(ANSWERS[str(subject)])
    assert await store.save([state]) == []
    found = await fields(store)
    for slug, recorded in ANSWERS[str(subject)].items():
        series = found[series_key(subject, slug)]
        assert series[b"schema"] == b"3"
        assert not series.keys() & set(OBSOLETE)
        assert unversioned((await store.answers([subject]))[subject][slug]) == unversioned(recorded)
    assert found[models_key(subject)] == hashes()[models_key(subject)]
    again = await load_one(store, subject)
    assert again.verdicts == verdicts
    assert again.forecasts == forecasts


async def test_a_silent_hour_that_closes_leaves_the_verdict_of_version_2(store: Store) -> None:
    await restored(store)
    states = [await load_one(store, subject) for subject in SUBJECTS_OF_VERSION_2]
    verdicts = {state.subject: dict(state.verdicts) for state in states}
    clock_ms = states[0].watermark_ms + 20 * HOUR_MS
    for state in states:
        # Nothing is left to judge: what was the last verdict stays so.
        state.windows.clear()
    assert close(states, clock_ms, POLICY) == [True] * len(states)
    assert await store.save(states) == []
    found = await fields(store)
    for subject in SUBJECTS_OF_VERSION_2:
        assert (await load_one(store, subject)).verdicts == verdicts[subject]
        assert all(found[series_key(subject, slug)][b"schema"] == b"3" for slug in ANSWERS[str(subject)])
    assert isinstance(verdicts[LEARNED]["error-rate"], Scored)
    assert isinstance(verdicts[YOUNG]["error-rate"], WarmingUp)
    assert "average-response-time" not in verdicts[TIMED_OUT]


@pytest.mark.parametrize("subject", SUBJECTS_OF_VERSION_2, ids=str)
async def test_what_version_2_had_learned_goes_on(store: Store, subject: Subject) -> None:
    await restored(store)
    state = await load_one(store, subject)
    records = hashes()[models_key(subject)]
    assert {slug: model.to_bytes() for slug, model in state.models.items()} == {
        slug.decode(): record for slug, record in records.items() if record
    }
    n_learned = {slug: model.n_learned for slug, model in state.models.items()}
    hour = state.watermark_ms // HOUR_MS + 1
    is_biller = subject.kind == "biller"
    usual = call_window(150_000, 250_000) if is_biller else gauge_window(drift=0.1, prediction_accuracy=0.8)
    advance(state, {hour: usual, hour + 3: usual})
    assert await store.save([state]) == []
    again = await load_one(store, subject)
    for slug, before in n_learned.items():
        assert again.models[slug].n_learned > before
