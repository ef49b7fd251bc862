"""What is read of many subjects at once is what is stored of each, in every store."""

import pytest

from detection.errors import UnreadableStateError
from detection.hours import HOUR_MS
from detection.subject import Subject
from detection.subject_state import Arrivals, SubjectState
from state.keys import subject_key
from state.memory_store import MemoryStore
from state.survey import Lately, Tally, lately_of
from tests.alerts import alert_of
from tests.contract.states import FIRST_HOUR, Store, biller, call_window, gauge_window, model
from tests.contract.test_version_2 import ANSWERS, SUBJECTS_OF_VERSION_2, restored

MINUTE = FIRST_HOUR * 60


def values_of(lately: Lately | None) -> dict[str, tuple[float, int]] | None:
    return None if lately is None else {slug: (one.value, one.count) for slug, one in lately.values.items()}


async def test_a_survey_is_the_answers_the_alerts_and_the_sum_of_the_last_minutes(store: Store) -> None:
    first, second, third = biller("B1", hours=60), biller("B2", hours=3, seed=2), model()
    alert = alert_of(first.subject, "error-rate")
    first.alerts = {alert.key: alert}
    for ago in range(20):
        first.minutes[MINUTE - ago] = call_window(*range(1000, 1000 + ago), errors=ago % 3, timeouts=1)
        third.minutes[MINUTE - ago] = gauge_window(drift=0.1 * ago)
    states = [first, second, third]
    assert await store.save(states) == []
    subjects = [one.subject for one in states]
    surveys = await store.surveys([*subjects, Subject.biller("nobody"), Subject.model("No", "body")])
    answers = await store.answers(subjects)
    assert surveys.keys() == set(subjects)
    for subject, survey in surveys.items():
        assert survey.series.keys() == answers[subject].keys()
        for slug, fields in survey.series.items():
            assert fields.items() <= answers[subject][slug].items()
            assert {"status", "threshold", "valid_until", "last_score"} <= fields.keys()
        expected = lately_of({one.subject: one for one in states}[subject].minutes)
        assert values_of(survey.lately) == values_of(expected)
        assert expected is not None
        assert survey.lately is not None
        assert survey.lately.minute == expected.minute
    assert surveys[first.subject].alerts == {alert.key: alert}
    assert surveys[second.subject].alerts == {}


async def test_series_of_an_older_version_are_surveyed_too(store: Store) -> None:
    await restored(store)
    for subject, survey in (await store.surveys(SUBJECTS_OF_VERSION_2)).items():
        known = {slug: fields for slug, fields in ANSWERS[str(subject)].items() if fields["status"]}
        assert survey.series.keys() == known.keys()
        for slug, fields in survey.series.items():
            assert fields.items() <= known[slug].items()


async def test_a_subject_without_a_closed_hour_has_no_series_in_its_survey(store: Store) -> None:
    state = SubjectState(Subject.biller("B1"))
    state.absorb(Arrivals(watermark_ms=FIRST_HOUR * HOUR_MS, windows={FIRST_HOUR: call_window(5)}))
    assert await store.save([state]) == []
    survey = (await store.surveys([state.subject]))[state.subject]
    assert (survey.series, survey.alerts, survey.lately) == ({}, {}, None)


async def test_a_survey_names_the_key_of_what_it_cannot_read(store: Store) -> None:
    state = biller()
    assert await store.save([state]) == []
    key = subject_key(state.subject)
    if isinstance(store, MemoryStore):
        store.hashes[key][b"minutes"] = b'{"soon":{}}'
    else:
        await store._client.hset(key, "minutes", '{"soon":{}}')
    with pytest.raises(UnreadableStateError, match="B1"):
        await store.surveys([state.subject])


async def test_a_tally_counts_events_answers_and_what_waits_for_the_history(store: Store) -> None:
    state, young = biller(), SubjectState(Subject.model("Mistral", "v1"))
    young.absorb(Arrivals(watermark_ms=5, accepted=3, late=2))
    assert await store.save([state, young]) == []
    subjects = [state.subject, young.subject]
    answers = (await store.answers(subjects))[state.subject]
    told = [{name: fields[name] for name in ("status", "valid_until")} for fields in answers.values()]
    before = await store.tallies([*subjects, Subject.biller("nobody")])
    assert before == {
        state.subject: Tally(accepted=60, late=0, is_pending=True, published=told),
        young.subject: Tally(accepted=3, late=2, is_pending=False, published=[]),
    }
    waiting = await store.outbox(subjects)
    await store.relayed({subject: list(hours) for subject, hours in waiting.items()})
    # What is to be told to others than the history does not wait for it.
    assert await store.announcements([state.subject]) != {}
    assert not (await store.tallies([state.subject]))[state.subject].is_pending


async def test_subjects_are_counted_as_they_are_listed(store: Store) -> None:
    states = [biller(name, hours=1) for name in ("B1", "B10", "B2")] + [model(hours=1)]
    assert await store.save(states) == []
    for prefix in ("", "biller:", "biller:B1", "biller:B10", "model:", "model:x", "z"):
        assert await store.count_subjects(prefix=prefix) == len(await store.subjects(prefix=prefix))
    assert await store.count_subjects() == 4
