"""Short texts from outside that name something: subjects, metrics, moments, cursors, cohorts, topics."""

import orjson

from api.cursors import read_cursor, write_cursor
from detection.catalogue import biller_metric, gauge, metric_of
from detection.errors import InputError, InvalidSubjectError, UnknownMetricError, UnreadableStateError
from detection.hours import iso, parse_ms
from detection.subject import Subject
from state.cohort_codec import decode_cohorts
from state.keys import models_key, outbox_key, rate_key, series_key
from state.redis_progress import decode_lives, decode_progress, encode_progress
from tests.fuzz.targets.calls import assert_reaches_itself_only


def check(data: bytes) -> None:
    """Each is refused by its own error, or means one thing and is spelt back."""
    text = data.decode(errors="surrogateescape")
    _subject(text)
    _metric(text)
    _moment(text)
    _cursor(text)
    _stored(data)


def _subject(text: str) -> None:
    try:
        subject = Subject.parse(text)
    except InvalidSubjectError as error:
        assert len(str(error)) < 2000
        return
    assert text in {str(subject), subject.id}
    assert_reaches_itself_only(subject)


def _metric(text: str) -> None:
    try:
        known = biller_metric(text)
    except UnknownMetricError:
        pass
    else:
        assert biller_metric(known.slug) == known
    try:
        found = gauge(text)
    except UnknownMetricError:
        return
    assert metric_of(found.slug) == found
    subject = Subject.biller("B1")
    assert series_key(subject, found.slug) not in {models_key(subject), outbox_key(subject), rate_key(found.slug)}


def _moment(text: str) -> None:
    try:
        ms = parse_ms(text)
    except ValueError:
        return
    assert parse_ms(iso(ms)) == ms


def _cursor(text: str) -> None:
    try:
        meant = read_cursor(text)
    except ValueError:
        return
    assert read_cursor(write_cursor(meant)) == meant


def _stored(data: bytes) -> None:
    try:
        progress = decode_progress({b"kafka/calls/0": data})
    except UnreadableStateError:
        pass
    else:
        assert decode_progress(encode_progress(progress)) == progress
    for read in (
        lambda: decode_cohorts({b"error-rate/10-100": data}),
        lambda: decode_lives({b"calls:life": data, b"calls:noticed": data}),
    ):
        try:
            read()
        except (UnreadableStateError, InputError):
            continue


def seeds() -> list[bytes]:
    """What is sent and stored by rights, and what looks like it."""
    texts = [
        "B1", "biller:B1", "model:Mistral/v1", "Mistral/v1", "model:a", "biller:", "biller:a:b", "{B1}", "B*", "B1\n",
        "1", "ERROR_RATE_PERCENTAGE", "average-response-time",
        "prediction_accuracy", "_models", "_outbox", "-", "a-b_c",
        "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456+05:30", "2026-01-01",
        "9999-12-31T23:59:59-23:59",
        "0001-01-01T00:00:00+23:59", "20260101T000000Z", write_cursor("biller:B1"), "YQ", "YQ==", "é", "\u202e", "\x00",
        '{"offset":5120,"time":1763755200000,"record":"9f2c4e6ab1d07735"}', '{"offset":1e308,"time":"x","record":null}',
        '{"judged":5,"measured_exceedance":0.01}', "[]", "null", "1" * 400,
    ]  # fmt: skip
    prior = {"judged": 5, "measured_exceedance": 0.01, "scale": 1.0}
    return [*(one.encode() for one in texts), orjson.dumps(prior), b"\xff\xfe"]
