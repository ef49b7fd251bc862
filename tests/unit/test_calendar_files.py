"""iCalendar files as hours: recurrence and its exceptions, days, time zones, DST, and what is refused."""

import pytest

from detection.errors import InvalidCalendarError
from detection.hours import HOUR_MS, iso_hour, parse_ms
from state.calendar_files import Occurrence, read_calendar

ZONE = """BEGIN:VTIMEZONE
TZID:Europe/Berlin
BEGIN:DAYLIGHT
DTSTART:19810329T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
END:DAYLIGHT
BEGIN:STANDARD
DTSTART:19961027T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
END:STANDARD
END:VTIMEZONE
"""


def calendar(*events: str, head: str = "") -> bytes:
    """A file of events, of which the lines between BEGIN and END are given."""
    body = "".join(f"BEGIN:VEVENT\nUID:{at}\n{event}\nEND:VEVENT\n" for at, event in enumerate(events, start=1))
    text = f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//tests\n{head}{ZONE}{body}END:VCALENDAR\n"
    return text.replace("\n", "\r\n").encode()


def read(data: bytes, *, start: str = "2026-01-01T00:00:00Z", days: int = 400, zone: str = "UTC") -> list[Occurrence]:
    from_hour = parse_ms(start) // HOUR_MS
    return read_calendar(data, from_hour=from_hour, before_hour=from_hour + days * 24, zone=zone)


def spans(found: list[Occurrence]) -> list[tuple[str, int]]:
    return [(iso_hour(one.from_hour), one.before_hour - one.from_hour) for one in found]


def test_an_event_is_every_hour_that_it_touches() -> None:
    event = "SUMMARY:Switch of provider\nDTSTART:20260301T013000Z\nDTEND:20260301T033000Z"
    assert read(calendar(event)) == [
        Occurrence(
            parse_ms("2026-03-01T01:00:00Z") // HOUR_MS,
            parse_ms("2026-03-01T04:00:00Z") // HOUR_MS,
            "1",
            "Switch of provider",
        )
    ]


@pytest.mark.parametrize(
    ("event", "hours"),
    [
        ("DTSTART:20260301T013000Z\nDURATION:PT20M", 1),
        ("DTSTART:20260301T010000Z\nDTEND:20260301T020000Z", 1),
        ("DTSTART:20260301T013000Z", 1),
        ("DTSTART:20260301T013000Z\nDTEND:20260301T013000Z", 1),
        ("DTSTART;VALUE=DATE:20260301", 24),
        ("DTSTART;VALUE=DATE:20260301\nDTEND;VALUE=DATE:20260303", 48),
    ],
)
def test_an_event_has_an_end_however_it_is_said(event: str, hours: int) -> None:
    assert [n for _, n in spans(read(calendar(event)))] == [hours]


def test_a_day_is_one_of_the_zone_that_is_asked_for_and_as_long_as_it_is_there() -> None:
    days = [f"DTSTART;VALUE=DATE:2026{day}" for day in ("0328", "0329", "1025")]
    assert spans(read(calendar(*days), zone="Europe/Berlin")) == [
        ("2026-03-27T23:00:00Z", 24),
        ("2026-03-28T23:00:00Z", 23),
        ("2026-10-24T22:00:00Z", 25),
    ]
    assert spans(read(calendar(days[0]), zone="Asia/Kolkata")) == [("2026-03-27T18:00:00Z", 25)], (
        "half hours are touched"
    )


def test_the_calendars_own_zone_goes_before_the_one_that_is_asked_for() -> None:
    head = "X-WR-TIMEZONE:America/Sao_Paulo\n"
    found = read(calendar("DTSTART;VALUE=DATE:20260421", "DTSTART:20260422T080000\nDURATION:PT1H", head=head))
    assert spans(found) == [("2026-04-21T03:00:00Z", 24), ("2026-04-22T11:00:00Z", 1)]


def test_what_comes_every_week_at_night_stays_at_the_clocks_time_when_clocks_change() -> None:
    event = (
        "DTSTART;TZID=Europe/Berlin:20260301T030000\nDTEND;TZID=Europe/Berlin:20260301T050000\n"
        "RRULE:FREQ=WEEKLY;BYDAY=SU;COUNT=6"
    )
    assert spans(read(calendar(event))) == [
        ("2026-03-01T02:00:00Z", 2),
        ("2026-03-08T02:00:00Z", 2),
        ("2026-03-15T02:00:00Z", 2),
        ("2026-03-22T02:00:00Z", 2),
        ("2026-03-29T01:00:00Z", 2),
        ("2026-04-05T01:00:00Z", 2),
    ]


def test_exceptions_moved_and_cancelled_events_are_honoured() -> None:
    weekly = "DTSTART:20260302T010000Z\nDURATION:PT1H\nRRULE:FREQ=WEEKLY;COUNT=4\nEXDATE:20260309T010000Z"
    data = calendar(
        weekly,
        "STATUS:CANCELLED\nDTSTART:20260501T000000Z\nDURATION:PT1H",
    ).replace(
        b"END:VCALENDAR",
        b"BEGIN:VEVENT\r\nUID:1\r\nRECURRENCE-ID:20260316T010000Z\r\nDTSTART:20260317T060000Z\r\nDURATION:PT2H\r\n"
        b"END:VEVENT\r\nEND:VCALENDAR",
    )
    assert spans(read(data)) == [
        ("2026-03-02T01:00:00Z", 1),
        ("2026-03-17T06:00:00Z", 2),
        ("2026-03-23T01:00:00Z", 1),
    ]


def test_only_what_takes_place_between_is_read_and_whole() -> None:
    event = "DTSTART:20260301T220000Z\nDURATION:PT4H\nRRULE:FREQ=DAILY"
    found = spans(read(calendar(event), start="2026-03-05T01:00:00Z", days=2))
    assert found == [(f"2026-03-0{day}T22:00:00Z", 4) for day in (4, 5, 6)]
    assert spans(read(calendar(event), start="2026-03-05T02:00:00Z", days=1)) == [("2026-03-05T22:00:00Z", 4)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it is empty"),
        (b"\xff\xfe", "no iCalendar text"),
        (b"hello", "it"),
        (b"BEGIN:VEVENT\r\nEND:VEVENT\r\n", "instead of one VCALENDAR"),
        (calendar("SUMMARY:never"), "event '1' has no beginning"),
        (calendar("DTSTART:19691231T000000Z"), "begins before 1970"),
        (calendar("DTSTART:20260301T000000Z\nRRULE:FREQ=SECONDLY"), "more often than daily"),
        (calendar("DTSTART:20260301T000000Z\nRRULE:FREQ=HOURLY;COUNT=3"), "more often than daily"),
        (calendar("DTSTART:20260301T000000Z\nRRULE:FREQ=DAILY;BYMINUTE=0,30"), "several times a day"),
        (calendar("DTSTART:20260301T000000Z\nRRULE:FREQ=YEARLY;BYMONTH=0"), "a BYMONTH that is no month"),
        (
            calendar("DTSTART:20260301T000000Z\nRRULE:FREQ=MONTHLY;BYMONTH=2;BYMONTHDAY=30"),
            "a BYMONTHDAY that its",
        ),
        (calendar("DTSTART:20260301T000000Z\nRRULE:FREQ=DAILY;BYMONTHDAY=7"), "daily or weekly, and may choose"),
        (calendar("DTSTART:20260301T000000Z\nRRULE:FREQ=MONTHLY;BYDAY=6TH"), "BYDAY that no month or year has"),
        (
            calendar(*["DTSTART:20260301T000000Z\nRRULE:FREQ=YEARLY;BYWEEKNO=53;BYMONTH=6"] * 6),
            "6 rules that may",
        ),
        (calendar("DTSTART:20260301T000000Z\nRRULE:FREQ=DAILY"), "take place more than 200 times"),
        (calendar("DTSTART:20260301T000000Z\nDTEND:20270401T000000Z"), "more than 366 days"),
        (calendar("DTSTART:20260301T000000Z\nDTEND:20260228T000000Z"), "ends before it begins"),
        (calendar("DTSTART;VALUE=DATE:20260301", head="X-WR-TIMEZONE:Mars/Base\n"), "zone is called 'Mars/Base'"),
        (calendar("DTSTART;TZID=Europe:20260301T000000"), "no iCalendar text"),
        (calendar(*["DTSTART:20260301T000000Z\nRRULE:FREQ=DAILY;COUNT=3"] * 51), "51 rules, 50 are the most"),
        (calendar(*["DTSTART:19700101T000000Z\nRRULE:FREQ=DAILY;COUNT=3"] * 5), "began too long ago"),
        (calendar(*["DTSTART:19900101T000000Z\nRRULE:FREQ=YEARLY;BYDAY=TH"] * 51), "51 rules, 50 are the most"),
        (calendar("DTSTART:20260301T000000Z\nRDATE:" + ",".join(["20260302T000000Z"] * 201)), "more than 200 dates"),
        (calendar(*["DTSTART:20260301T000000Z"] * 2001), "2001 events, 2000 are the most"),
    ],
)
def test_what_cannot_be_taken_is_refused_and_said(data: bytes, said: str) -> None:
    with pytest.raises(InvalidCalendarError, match=said):
        read(data, days=399 + 61)


def test_holidays_that_come_every_year_may_be_many() -> None:
    fixed = [f"DTSTART;VALUE=DATE:1990{at % 12 + 1:02}{at % 28 + 1:02}\nRRULE:FREQ=YEARLY" for at in range(60)]
    movable = "DTSTART;VALUE=DATE:19901122\nRRULE:FREQ=YEARLY;BYMONTH=11;BYDAY=4TH"
    found = spans(read(calendar(*fixed, movable), days=365))
    assert len(found) == 61
    assert ("2026-11-26T00:00:00Z", 24) in found


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=WEEKLY;BYMONTH=12;BYDAY=SU",
        "FREQ=DAILY;BYMONTH=12;UNTIL=20251205T000000Z",
        "FREQ=MONTHLY;BYMONTHDAY=-1",
        "FREQ=MONTHLY;BYDAY=-1FR",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
        "FREQ=MONTHLY;BYDAY=MO,TU;BYSETPOS=1",
    ],
)
def test_what_people_write_of_a_rule_is_taken(rule: str) -> None:
    assert read(calendar(f"DTSTART:20251201T100000Z\nRRULE:{rule}"), days=60) is not None


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidCalendarError, match="'Nowhere'"):
        read(calendar("DTSTART;VALUE=DATE:20260301"), zone="Nowhere")
