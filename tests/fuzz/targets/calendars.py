"""iCalendar files: refused with a reason, or hours that can be excluded, in a time that their size explains."""

import orjson

from detection.errors import InvalidCalendarError
from detection.exclusions import LONGEST_HOURS, MOST_EXCLUSIONS, Exclusion, Exclusions
from state.calendar_files import read_calendar
from state.exclusion_codec import dump_exclusions, load_exclusions

_FROM, _BEFORE = 490_000, 490_000 + 90 * 24


def check(data: bytes) -> None:
    """Raise for any other error than that of a calendar, and for hours that could not be excluded."""
    try:
        found = read_calendar(data, from_hour=_FROM, before_hour=_BEFORE, zone="Europe/Berlin")
    except InvalidCalendarError as error:
        orjson.dumps(str(error))
        return
    assert len(found) <= MOST_EXCLUSIONS
    for one in found:
        assert one.from_hour < one.before_hour
        assert one.before_hour > _FROM
        assert one.from_hour < _BEFORE
        assert one.before_hour - one.from_hour <= LONGEST_HOURS
    wanted = Exclusions(
        Exclusion(
            from_hour=one.from_hour,
            before_hour=one.before_hour,
            reason=one.summary,
            calendar="c",
            uid=one.uid,
            by="kim",
        )
        for one in found
    )
    assert load_exclusions(dump_exclusions(wanted)) == wanted


def seeds() -> list[bytes]:
    """Events once and again and again, with exceptions, zones and days, and rules that never end."""
    zone = (
        "BEGIN:VTIMEZONE\r\nTZID:Custom\r\nBEGIN:STANDARD\r\nDTSTART:20201025T030000\r\nTZOFFSETFROM:+0200\r\n"
        "TZOFFSETTO:+0100\r\nRRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\n"
    )
    events = [
        "DTSTART:20251201T100000Z\r\nDTEND:20251201T120000Z",
        "DTSTART;VALUE=DATE:20251225\r\nDTEND;VALUE=DATE:20251227",
        "DTSTART;TZID=Europe/Berlin:20251201T020000\r\nDURATION:PT2H\r\nRRULE:FREQ=DAILY;COUNT=5",
        "DTSTART:20200101T100000Z\r\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU;UNTIL=20300101T000000Z\r\nEXDATE:20251202T100000Z",
        "DTSTART;TZID=Custom:20251130T230000\r\nDTEND;TZID=Custom:20251201T010000\r\nRDATE:20251210T100000Z",
        "DTSTART:20251201T100000Z\r\nRRULE:FREQ=YEARLY;BYMONTH=12;BYDAY=4TH\r\nSTATUS:CANCELLED",
        "DTSTART:20251201T100000Z\r\nRRULE:FREQ=SECONDLY",
        "DTSTART:20251201T100000Z\r\nRRULE:FREQ=DAILY;INTERVAL=0",
        "DTSTART:20251201T100000Z\r\nRRULE:FREQ=DAILY;BYHOUR=1,2,3",
        "DTSTART:00010101T000000Z\r\nDTEND:99991231T235959Z",
        "DTSTART:20251201T100000Z\r\nDURATION:-P1D",
        "DTSTART:20251201T100000Z\r\nDURATION:P99999999D",
        "DTSTART:20251201T100000\r\nRECURRENCE-ID:20251201T100000",
        "SUMMARY:nothing else",
    ]
    files = [
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nX-WR-TIMEZONE:Europe/Paris\r\n"
        f"{zone if 'Custom' in one else ''}BEGIN:VEVENT\r\n"
        f"UID:{at}\r\nSUMMARY:down\r\n{one}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
        for at, one in enumerate(events)
    ]
    others = ["", "BEGIN:VCALENDAR", "BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n" * 2, "BEGIN:VEVENT\r\nEND:VEVENT\r\n"]
    return [one.encode() for one in (*files, *others)] + [
        files[0].encode().replace(b"Europe/Paris", b"../../etc/passwd")
    ]
