"""State that nobody can have stored is refused by its key, and a calendar that would never end by its event."""

import numpy as np
import pytest

from detection.closing import close
from detection.damage import damaged
from detection.errors import InvalidCalendarError, UnreadableStateError
from detection.hours import parse_ms
from detection.kernel.row import ROW
from detection.series_model import SeriesModel
from state.calendar_files import read_calendar
from state.codec import decode_models
from state.counts_codec import decode_counts
from state.export import said_of, with_check
from state.keys import models_key, series_key, subject_key
from state.redis_progress import decode_lives
from state.stored_windows import dump_hours
from state.survey_codec import tally_of
from state.window_codec import hour_of, load_minutes, load_window
from tests.contract.states import POLICY, biller, gauge_window
from tests.fuzz.targets.living import Hashes, loaded, written


def record(**numbers: float) -> bytes:
    """What a warm biller's error rate was learned as, with these of its fields."""
    rows = np.frombuffer(bytearray(biller().models.record("error-rate")), ROW)
    for name, number in numbers.items():
        rows[name] = number
    return rows.tobytes()


def test_what_was_learned_is_not_damaged() -> None:
    for hours in (1, 60, 200):
        models = biller(hours=hours).models
        for slug in models:
            assert not damaged(np.frombuffer(models.record(slug), ROW)).any()


@pytest.mark.parametrize(
    "numbers",
    [
        {"level": np.nan}, {"level": np.inf}, {"recent": np.nan}, {"count_level": -np.inf}, {"hour_of_week": np.inf},
        {"next_hour": -1}, {"next_hour": 2**40}, {"n_observed": -5}, {"n_learned": 2**30}, {"adopted_ago": -2},
        {"slot": 168}, {"slot": -1}, {"creep_weekday": 7}, {"is_signed": 2}, {"raw_variance": 1e300},
    ],
    ids=str,
)  # fmt: skip
def test_numbers_that_nobody_learned_are_refused_alone_and_in_company(numbers: dict[str, float]) -> None:
    data = record(**numbers)
    assert damaged(np.frombuffer(data, ROW)).all()
    metric = next(metric for metric in biller().metrics() if metric.slug == "error-rate")
    with pytest.raises(UnreadableStateError, match="error-rate"):
        SeriesModel.from_bytes(metric, data, POLICY)
    state = biller()
    stored: Hashes = {}
    written(state, stored)
    counts = decode_counts(state.subject, stored[subject_key(state.subject)])
    assert counts is not None
    decode_models(counts, stored[models_key(state.subject)] | {b"error-rate": data}, POLICY)
    counts.is_outdated = True
    with pytest.raises(UnreadableStateError, match="biller:B1"):
        close([counts], counts.watermark_ms, POLICY)


def test_a_window_of_the_other_kind_is_refused_by_the_key_of_its_subject() -> None:
    """A biller that had one was closed up to a KeyError, which named nobody."""
    state = biller()
    stored: Hashes = {}
    written(state, stored)
    fields = stored[subject_key(state.subject)]
    others = {490_000: gauge_window(drift=0.1)}
    assert decode_counts(state.subject, fields)
    with pytest.raises(UnreadableStateError, match="biller:B1"):
        decode_counts(state.subject, fields | {b"windows": dump_hours(others)})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"watermark_ms", b"9176400000000000"), (b"watermark_ms", b"-2"), (b"rev", b"-1"), (b"accepted", b"1e3"),
        (b"offsets", b'{"kafka/calls/3":-1}'), (b"offsets", b'{"kafka/calls/3":1e400}'), (b"offsets", b"[]"),
        (b"learned_before", b"9999-12-31T23:00:00Z"), (b"published_hour", b"0001-01-01T00:00:00Z"),
        (b"windows", b'{"2025-11-24T16:00:00Z":{"calls":-1,"errors":0,"timeouts":0,"latency_us":1,"latency_us2":1}}'),
        (b"live", b'{"error-rate":[1,2,3]}'), (b"live", b'{"error-rate":"abcdef"}'), (b"opinions", b"[1]"),
        (b"metrics", b"average-response-time error-rate tiMeout-error-rate"), (b"metrics", b"drift"),
        (b"alerts", b'{"slow/error-rate":{"state":"open","since":"2025-11-24T16:00:00Z"}}'),
    ],
)  # fmt: skip
def test_fields_that_nobody_wrote_are_refused_by_their_key(field: bytes, value: bytes) -> None:
    state = biller()
    stored: Hashes = {}
    written(state, stored)
    stored[subject_key(state.subject)][field] = value
    with pytest.raises(UnreadableStateError, match=r"tidemark:1:\{biller:B1\}"):
        loaded(state.subject, stored)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"estimate", b"1e400"), (b"estimate", b"inf"), (b"estimate", b"nan"), (b"expected_calls", b"-1e400"),
        (b"coverage", b"inf"), (b"measured_exceedance", b"1e999"), (b"threshold", b"nan"),
    ],
)  # fmt: skip
def test_answers_that_were_never_published_are_refused_by_their_key(field: bytes, value: bytes) -> None:
    state = biller()
    state.publish(state.watermark_ms, POLICY)
    stored: Hashes = {}
    written(state, stored)
    key = series_key(state.subject, "error-rate")
    assert "error-rate" in loaded(state.subject, stored).forecasts
    stored[key][field] = value
    with pytest.raises(UnreadableStateError, match=r"tidemark:1:\{biller:B1\}:error-rate"):
        loaded(state.subject, stored)


@pytest.mark.parametrize(
    "text",
    [
        '{"calls":1,"errors":2,"timeouts":0,"latency_us":1,"latency_us2":1}',
        '{"calls":1,"errors":0,"timeouts":0,"latency_us":"-1","latency_us2":1}',
        '{"calls":1,"errors":0,"timeouts":0,"latency_us":"1' + "0" * 400 + '","latency_us2":1}',
        '{"calls":1,"errors":0,"timeouts":0,"latency_us":1,"latency_us2":1,"bins":{"999":1}}',
        '{"events":1,"gauges":{"drift":{"count":0,"sum_nano":1,"minimum":0,"maximum":0}}}',
        '{"events":1,"gauges":{"dr)ift":{"count":1,"sum_nano":1,"minimum":0,"maximum":0}}}',
        '{"events":"1","gauges":{}}',
        "[" * 2000,
    ],
)
def test_windows_that_nobody_counted_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        load_window(text)
    with pytest.raises(ValueError, match=r"."):
        load_minutes('{"2025-11-24T16:00:00Z":' + text + "}")


def test_times_that_cannot_be_written_in_utc_are_no_times() -> None:
    for text in ("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59"):
        with pytest.raises(ValueError, match="years 1 to 9999"):
            parse_ms(text)
    with pytest.raises(ValueError, match="1970 to 2099"):
        hour_of("2100-01-02T00:00:00Z")


def test_readers_that_load_no_state_name_what_is_damaged_too() -> None:
    with pytest.raises(UnreadableStateError):
        decode_lives({b"calls:life": b"two"})
    with pytest.raises(UnreadableStateError):
        tally_of([[b"1", b"many", b"0"], []])
    assert said_of(with_check({"a": 1})) == {"a": 1}


def test_a_rule_that_would_never_end_is_refused() -> None:
    text = (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:20251201T100000Z\r\n"
        "RRULE:FREQ=DAILY;INTERVAL=0\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    with pytest.raises(InvalidCalendarError, match="interval"):
        read_calendar(text.encode(), from_hour=490_000, before_hour=490_100, zone="UTC")
