"""What the API reads of a subject without loading it, in every store."""

import asyncio

import pytest

from detection.subject import Subject
from detection.subject_state import SubjectState
from state.as_stored import AsStored
from state.keys import series_key
from state.readable_series import answer_fields
from state.redis_store import RedisStore
from state.series_fields import ANSWER_FIELDS, STORED_FIELDS
from state.survey import lately_of
from state.survey_codec import read_lately
from tests.contract.states import FIRST_HOUR, Store, advance, biller, gauge_window, glanced


async def test_a_glance_is_the_series_answer_and_the_sum_of_the_subjects_minutes(store: Store) -> None:
    state = biller()
    assert await store.save([state]) == []
    subject = state.subject
    answers, lately = await store.answers([subject]), await store.lately([subject])
    assert lately == {subject: lately_of(state.minutes)}
    for slug, fields in answers[subject].items():
        assert await glanced(store, subject, slug) == (fields, lately[subject])


async def test_a_glance_at_what_was_never_seen_is_empty(store: Store) -> None:
    nobody = Subject.biller("nobody")
    assert await glanced(store, nobody, "error-rate") == (None, None)
    assert await store.lately([nobody]) == {}


async def test_a_models_minutes_are_read_in_sum(store: Store) -> None:
    subject = Subject.model("Mistral", "v1")
    state = advance(SubjectState(subject), {FIRST_HOUR: gauge_window(drift=0.1)})
    assert await store.save([state]) == []
    fields, lately = await glanced(store, subject, "drift")
    assert fields is not None
    assert fields["subject"] == "model:Mistral/v1"
    assert lately == lately_of(state.minutes)
    assert (await glanced(store, subject, "accuracy"))[0] is None


async def test_what_is_stored_is_what_answers_and_minutes_are_made_of(store: Store) -> None:
    state, model = (
        biller(),
        advance(SubjectState(Subject.model("Mistral", "v1")), {FIRST_HOUR: gauge_window(drift=0.1)}),
    )
    assert await store.save([state, model]) == []
    subjects = [model.subject, Subject.biller("nobody"), state.subject]
    answers, lately = await store.answers(subjects), await store.lately(subjects)
    texts = await store.as_stored(subjects)
    assert list(texts.subjects) == subjects
    assert texts.one(1) == AsStored(subjects[1], [], None)
    for i in (0, 2):
        one = texts.one(i)
        assert one.subject == subjects[i]
        # Of this version, each is one text.
        own = {slug: found for slug, found in one.series if isinstance(found, bytes)}
        assert {slug: answer_fields(text.split(b"\n")) for slug, text in own.items()} == answers[one.subject]
        assert [slug for slug, _ in one.series] == sorted(answers[one.subject])
        assert read_lately(one.subject, one.minutes) == lately.get(one.subject)


async def test_of_nobody_nothing_is_stored(store: Store) -> None:
    async with asyncio.timeout(2):
        texts = await store.as_stored([])
    assert not texts.subjects
    assert not texts.slugs
    assert texts.first.tolist() == [0]


@pytest.mark.parametrize("store", ["redis", "cluster"], indirect=True)
async def test_what_does_not_fit_in_one_text_is_answered_field_by_field(store: RedisStore) -> None:
    state = biller()
    assert await store.save([state]) == []
    first, second, third = (
        series_key(state.subject, slug) for slug in sorted(metric.slug for metric in state.metrics())
    )
    await store.client.hset(first, "unit", "a\nb")
    await store.client.hset(second, "schema", "2")
    await store.client.hdel(third, "unit")
    found = (await store.as_stored([state.subject])).one(0)
    values = [held for _, held in found.series if not isinstance(held, bytes)]
    assert [len(each) for each in values] == [len(STORED_FIELDS), len(ANSWER_FIELDS), len(STORED_FIELDS)]
    assert [each[STORED_FIELDS.index("unit")] for each in values] == [b"a\nb", b"%", None]
    await store.client.delete(first, second, third)
    assert (await store.as_stored([state.subject])).one(0).series == []
