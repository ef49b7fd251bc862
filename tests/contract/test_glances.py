"""What the API reads of a subject without loading it, in every store."""

from detection.subject import Subject
from detection.subject_state import SubjectState
from tests.contract.states import FIRST_HOUR, Store, advance, biller, gauge_window


async def test_a_glance_is_the_series_answer_and_the_subjects_minutes(store: Store) -> None:
    state = biller()
    assert await store.save([state]) == []
    subject = state.subject
    answers, minutes = await store.answers([subject]), await store.minutes([subject])
    assert minutes == {subject: state.minutes}
    for slug, fields in answers[subject].items():
        assert await store.glance(subject, slug) == (fields, state.minutes)


async def test_a_glance_at_what_was_never_seen_is_empty(store: Store) -> None:
    nobody = Subject.biller("nobody")
    assert await store.glance(nobody, "error-rate") == (None, {})
    assert await store.minutes([nobody]) == {}


async def test_a_models_minutes_are_read_as_they_were_written(store: Store) -> None:
    subject = Subject.model("Mistral", "v1")
    state = advance(SubjectState(subject), {FIRST_HOUR: gauge_window(drift=0.1)})
    assert await store.save([state]) == []
    fields, minutes = await store.glance(subject, "drift")
    assert fields is not None
    assert fields["subject"] == "model:Mistral/v1"
    assert minutes == state.minutes
    assert (await store.glance(subject, "accuracy"))[0] is None
