"""The short way to an answer about a series says what the long way says, byte for byte."""

from collections.abc import Iterator

import orjson
import pytest

from api import ready
from api.answers import listed, prediction
from api.ready import Now, lines, predicted
from api.threshold_lines import lines_of
from detection.catalogue import metric_of
from detection.cohorts import Cohorts
from detection.hours import HOUR_MS
from detection.subject import Subject
from state.as_stored import AsStored
from state.keys import series_key
from state.readable_series import answer_fields
from state.survey import Lately
from state.survey_codec import read_lately
from tests.contract.states import values_of
from tests.contract.test_version_2 import SUBJECTS_OF_VERSION_2, restored
from tests.memory_api import NOW_MS, MemoryApi, memory_api
from tests.unit import test_api_cohorts as cohorts_api
from tests.unit import test_api_overview as overview_api

SLUG = "average-response-time"
B1 = Subject.biller("B1")
INFINITE = (
    b'{"verdict":"exceeded","window":"2026-03-02T11:00:00Z","count":3,"value":"inf","estimate":1.0,'
    b'"threshold":"inf","score":1000.0,"is_credible":true,"is_alert":true}'
)


def _the_long_way(stored: AsStored, now: Now) -> list[bytes]:
    found = []
    for slug, fields, lately in _fields(stored):
        item = listed(
            stored.subject, metric_of(slug), fields, lately=lately, clock_ms=now.clock_ms, cohorts=now.cohorts
        )
        found.append(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE))
    return found


def _predictions_the_long_way(stored: AsStored, now: Now) -> list[tuple[str, bytes]]:
    found = []
    for slug, fields, lately in _fields(stored):
        metric = metric_of(slug)
        item = prediction(stored.subject, metric, fields, lately=lately, clock_ms=now.clock_ms, cohorts=now.cohorts)
        found.append((item["version"], orjson.dumps(item)))
    return found


def _fields(stored: AsStored) -> Iterator[tuple[str, dict[str, str], Lately | None]]:
    lately = read_lately(stored.subject, stored.minutes)
    for slug, held in stored.series:
        fields = answer_fields(values_of(held))
        assert fields is not None
        if fields["status"]:
            yield slug, fields, lately


def _predictions(stored: AsStored, now: Now) -> list[tuple[str, bytes]]:
    singles = [(slug, AsStored(stored.subject, [(slug, held)], stored.minutes)) for slug, held in stored.series]
    found = [predicted(single, metric_of(slug), now) for slug, single in singles]
    return [one for one in found if one is not None]


async def _lines(api: MemoryApi, subject: Subject, *, clock_ms: int = NOW_MS) -> list[bytes]:
    """The lines of a subject, which are the same every way, as its predictions are."""
    texts = await api.store.as_stored([subject])
    stored = texts.one(0)
    now = Now(clock_ms, Cohorts(await api.store.cohorts()))
    found = [line for *_, line in lines(stored, None, now)]
    assert found
    assert found == _the_long_way(stored, now)
    assert b"".join(found) == lines_of(texts, 0, 1, now)
    assert _predictions(stored, now) == _predictions_the_long_way(stored, now)
    return found


async def test_a_ready_series_takes_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async with memory_api() as api:
        await cohorts_api.live(api, "B1", 100, latency_ms=200)
        expected = await _lines(api, B1)
        monkeypatch.delattr(ready, "_the_long_way")
        texts = await api.store.as_stored([B1])
        stored = texts.one(0)
        now = Now(NOW_MS, Cohorts())
        found = [line for *_, line in lines(stored, SLUG, now)]
        monkeypatch.delattr(ready, "_usual")
        assert lines_of(texts, 0, 1, now) == b"".join(expected)
        monkeypatch.undo()
        predictions = _predictions(stored, now)
    assert found == expected[:1]
    assert b'"status":"ready"' in found[0]
    assert b'"source":"hour"' in found[0]
    assert b" is expected after 100 learned hours: up to " in predictions[0][1]


async def test_of_a_series_that_was_never_published_nothing_is_predicted() -> None:
    async with memory_api() as api:
        await cohorts_api.live(api, "B1", 1, latency_ms=200)
        nobody = await api.store.glance(Subject.biller("nobody"), SLUG)
        api.store.hashes[series_key(B1, SLUG)][b"status"] = b""
        unpublished = await api.store.glance(B1, SLUG)
    assert unpublished.series
    for stored in (nobody, unpublished):
        assert predicted(stored, metric_of(SLUG), Now(NOW_MS, Cohorts())) is None


@pytest.mark.parametrize("hours", [1, 5, 30, 100])
@pytest.mark.parametrize("later_hours", [0, 1, 2, 3, 40])
async def test_every_age_and_every_delay_is_the_same_both_ways(hours: int, later_hours: int) -> None:
    async with memory_api() as api:
        await cohorts_api.live(api, "B1", hours, latency_ms=200)
        await _lines(api, B1, clock_ms=NOW_MS + later_hours * HOUR_MS)


async def test_what_a_series_borrows_is_the_same_both_ways() -> None:
    async with memory_api() as api:
        await cohorts_api.populate(api)
        await cohorts_api.live(api, "B1", 3, latency_ms=150)
        young, ready = await _lines(api, B1), await _lines(api, Subject.biller("R1"))
    assert b'"cohort":"average-response-time/10-100"' in young[0]
    assert b'"cohort":"average-response-time/10-100"' in ready[0]


async def test_a_live_alert_is_the_same_both_ways() -> None:
    async with memory_api() as api:
        await overview_api.live(api, B1, 100, failing=True)
        found = await _lines(api, B1)
    assert any(b'"source":"minutes"' in line for line in found)


async def test_an_hour_that_alerts_is_the_same_both_ways() -> None:
    async with memory_api() as api:
        await cohorts_api.live(api, "B1", 100, latency_ms=200)
        stored = api.store.hashes[series_key(B1, SLUG)]
        last = orjson.loads(stored[b"last"]) | {"verdict": "exceeded", "score": 2.5, "is_alert": True}
        stored[b"last"] = orjson.dumps(last)
        found = await _lines(api, B1)
    assert b'"is_alert":true' in found[0]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        (b"upper", b"inf"),
        (b"lower", b"-inf"),
        (b"last", b""),
        (b"unit", b'"a\\b"'),
        (b"unit", b"a\nb"),
        (b"measured_exceedance", b""),
        (b"measured_exceedance", b"0.0125"),
        (b"claimed_exceedance", b"inf"),
        (b"operator", b"<"),
        (b"last", INFINITE),
        (b"last", b'{"verdict":"warming-up","window":"2026-03-02T11:00:00Z","count":3,"value":1.5}'),
    ],
)
async def test_what_is_unusual_is_the_same_both_ways(field: bytes, text: bytes) -> None:
    async with memory_api() as api:
        await cohorts_api.live(api, "B1", 100, latency_ms=200)
        api.store.hashes[series_key(B1, SLUG)][field] = text
        for line in await _lines(api, B1):
            orjson.loads(line)


async def test_models_and_older_versions_are_the_same_both_ways() -> None:
    async with memory_api() as api:
        await restored(api.store)
        texts = await api.store.as_stored(SUBJECTS_OF_VERSION_2)
        now = Now(NOW_MS, Cohorts())
        every = b""
        for i in range(len(SUBJECTS_OF_VERSION_2)):
            stored = texts.one(i)
            found = [line for *_, line in lines(stored, None, now)]
            every += b"".join(found)
            assert found == _the_long_way(stored, now)
            assert _predictions(stored, now) == _predictions_the_long_way(stored, now)
        assert lines_of(texts, 0, len(SUBJECTS_OF_VERSION_2), now) == every
        model = Subject.model("Other", "v9")
        await overview_api.live(api, model, 100)
        await _lines(api, model)


@pytest.mark.parametrize("text", [b'1,"status":"broken"', b"1,2", b"1]", b""])
async def test_a_number_that_is_none_never_reaches_a_line(text: bytes) -> None:
    async with memory_api() as api:
        await cohorts_api.live(api, "B1", 100, latency_ms=200)
        api.store.hashes[series_key(B1, SLUG)][b"lower"] = text
        texts = await api.store.as_stored([B1])
        if text:
            with pytest.raises(ValueError, match="could not convert"):
                lines_of(texts, 0, 1, Now(NOW_MS, Cohorts()))
        else:
            await _lines(api, B1)


async def test_who_asks_for_one_metric_does_not_hear_of_another_that_is_damaged() -> None:
    async with memory_api() as api:
        await cohorts_api.live(api, "B1", 100, latency_ms=200)
        other = series_key(B1, "error-rate")
        api.store.hashes[other][b"lower"] = b"1,2"
        headers = {"Accept": "application/x-ndjson"}
        found = await api.client.get("/thresholds", params={"metric": SLUG}, headers=headers)
        assert [orjson.loads(line)["metric"] for line in found.content.splitlines()] == [SLUG]
        del api.store.hashes[other][b"unit"]
        assert (await api.client.get("/thresholds", params={"metric": SLUG}, headers=headers)).content == found.content
