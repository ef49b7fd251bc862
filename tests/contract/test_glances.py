"""What the API reads of a subject without loading it, in every store."""

from detection.subject import Subject
from detection.subject_state import SubjectState
from state.series_codec import answer_fields
from state.survey import lately_of
from state.survey_codec import read_lately
from tests.contract.states import FIRST_HOUR, Store, advance, biller, gauge_window


async def test_a_glance_is_the_series_answer_and_the_sum_of_the_subjects_minutes(store: Store) -> None:
    state = biller()
    assert await store.save([state]) == []
    subject = state.subject
    answers, lately = await store.answers([subject]), await store.lately([subject])
    assert lately == {subject: lately_of(state.minutes)}
    for slug, fields in answers[subject].items():
        assert await store.glance(subject, slug) == (fields, lately[subject])


async def test_a_glance_at_what_was_never_seen_is_empty(store: Store) -> None:
    nobody = Subject.biller("nobody")
    assert await store.glance(nobody, "error-rate") == (None, None)
    assert await store.lately([nobody]) == {}


async def test_a_models_minutes_are_read_in_sum(store: Store) -> None:
    subject = Subject.model("Mistral", "v1")
    state = advance(SubjectState(subject), {FIRST_HOUR: gauge_window(drift=0.1)})
    assert await store.save([state]) == []
    fields, lately = await store.glance(subject, "drift")
    assert fields is not None
    assert fields["subject"] == "model:Mistral/v1"
    assert lately == lately_of(state.minutes)
    assert (await store.glance(subject, "accuracy"))[0] is None


async def test_what_is_stored_is_what_answers_and_minutes_are_made_of(store: Store) -> None:
    state, model = (
        biller(),
        advance(SubjectState(Subject.model("Mistral", "v1")), {FIRST_HOUR: gauge_window(drift=0.1)}),
    )
    assert await store.save([state, model]) == []
    subjects = [model.subject, Subject.biller("nobody"), state.subject]
    answers, lately = await store.answers(subjects), await store.lately(subjects)
    found = await store.as_stored(subjects)
    assert [one.subject for one in found] == [model.subject, state.subject]
    for one in found:
        assert {slug: answer_fields(values) for slug, values in one.series} == answers[one.subject]
        assert [slug for slug, _ in one.series] == sorted(answers[one.subject])
        assert read_lately(one.subject, one.minutes) == lately.get(one.subject)
