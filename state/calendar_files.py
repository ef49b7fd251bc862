"""An iCalendar file (RFC 5545) as the hours that its events touch: recurrence, exceptions, time zones and DST included.

The libraries do what is hard about it; what is ours is to bound the work that a file can cause.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final, NoReturn
from zoneinfo import ZoneInfo

import icalendar
import recurring_ical_events  # type: ignore[import-untyped]  # it publishes no annotations

from detection.errors import InvalidCalendarError
from detection.exclusions import LONGEST_HOURS, MOST_EXCLUSIONS, hours_touched

MAX_BYTES: Final = 1_000_000
_MOST_EVENTS: Final = 2000
# Of rules, each of which may have to be followed from long ago; those that come once a year cost next to nothing.
_MOST_RULES: Final = 50
_MOST_YEARLY: Final = 500
# What is looked at first, so that a file with far too much in it is soon seen to have it.
_FIRST_DAYS: Final = 4
_LONGEST_TEXT: Final = 128
_OLDEST: Final = date(1970, 1, 1)
_EPOCH: Final = datetime.fromtimestamp(0, UTC)

# Days from one time to the next. More often than daily is nothing that hours can be excluded for.
_DAYS: Final = {"DAILY": 1, "WEEKLY": 7, "MONTHLY": 28, "YEARLY": 365}
# Rules are followed from their beginning, and each time takes some tens of microseconds.
_MOST_STEPS: Final = 100_000
_ONCE_A_DAY: Final = ("BYHOUR", "BYMINUTE", "BYSECOND", "BYSETPOS")
# Ways to name a day that an interval or another such way can make impossible. A rule that never comes is followed to
# the year 9999, which takes most of a second, so a calendar may have a few of them.
_ODD: Final = ("BYYEARDAY", "BYWEEKNO", "BYSETPOS")
_MOST_ODD: Final = 5
_LONGEST_MONTHS: Final = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
_OFTEN_A_YEAR: Final = ("BYMONTH", "BYMONTHDAY", "BYYEARDAY", "BYWEEKNO", "BYDAY")

# What the libraries raise of a text that is none, or contradicts itself; a zone called `Europe` is a folder.
_BROKEN: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, OSError)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One time that an event takes place: the hours [from, before) that it touches, and what it is called."""

    from_hour: int
    before_hour: int
    uid: str
    summary: str


def read_calendar(data: bytes, *, from_hour: int, before_hour: int, zone: str) -> list[Occurrence]:
    """What takes place between these hours, the earliest first; cancelled events are left out.

    Days, and times without a zone, are of the calendar's own zone (`X-WR-TIMEZONE`), else of `zone`: a day is as long
    as it is there. Raises InvalidCalendarError for what cannot be read, and for more than a subject can have excluded.
    """
    if not data.strip():
        _refuse("it is empty")
    try:
        calendars = icalendar.Calendar.from_ical(data, multiple=True)
    except _BROKEN as error:
        _refuse(f"it is no iCalendar text: {error}", cause=error)
    if len(calendars) != 1 or calendars[0].name != "VCALENDAR":
        _refuse(f"it holds {len(calendars)} components at its top instead of one VCALENDAR")
    (calendar,) = calendars
    try:
        _require_bounded(calendar.walk("VEVENT"), before_hour=before_hour)
    except _BROKEN as error:
        _refuse(f"an event cannot be read: {error}", cause=error)
    named = str(calendar.get("X-WR-TIMEZONE") or zone)
    try:
        default = ZoneInfo(named)
    except (ValueError, LookupError, OSError) as error:
        _refuse(f"no IANA time zone is called {named[:80]!r}", cause=error)
    kept: set[Occurrence] = set()
    try:
        query = recurring_ical_events.of(calendar)
        for begin, end in _slices(from_hour, before_hour):
            events = [event for event in query.between(begin, end) if event.get("STATUS") != "CANCELLED"]
            found = {_occurrence(event, default) for event in events}
            kept |= {one for one in found if one.before_hour > from_hour and one.from_hour < before_hour}
            if len(kept) > MOST_EXCLUSIONS:
                break
    except _BROKEN as error:
        _refuse(f"an event cannot be expanded: {error}", cause=error)
    for one in kept:
        if one.before_hour - one.from_hour > LONGEST_HOURS:
            _refuse(f"event {one.uid!r} lasts for more than {LONGEST_HOURS // 24} days")
    if len(kept) > MOST_EXCLUSIONS:
        _refuse(f"its events take place more than {MOST_EXCLUSIONS} times: fewer days ahead may do")
    return sorted(kept, key=lambda one: (one.from_hour, one.before_hour, one.uid))


def _slices(from_hour: int, before_hour: int) -> Iterator[tuple[datetime, datetime]]:
    """The time between, in longer and longer parts; a day more on both sides, as days of zones are not those of UTC."""
    begin, end = (_EPOCH + timedelta(hours=hour) for hour in (from_hour - 24, before_hour + 24))
    length = timedelta(days=_FIRST_DAYS)
    while begin < end:
        yield begin, min(begin + length, end)
        begin, length = begin + length, 2 * length


def _require_bounded(events: Sequence[Any], *, before_hour: int) -> None:
    """Refuse what would take too long to expand."""
    if len(events) > _MOST_EVENTS:
        _refuse(f"it has {len(events)} events, {_MOST_EVENTS} are the most")
    end_day = (_EPOCH + timedelta(hours=before_hour)).date()
    rules = yearly = odd = steps = 0
    for event in events:
        uid = str(event.get("UID", ""))[:_LONGEST_TEXT]
        began = _first_day(event, uid)
        if sum(len(dates.dts) for dates in _listed(event, "RDATE")) > MOST_EXCLUSIONS:
            _refuse(f"event {uid!r} has more than {MOST_EXCLUSIONS} dates")
        for rule in _listed(event, "RRULE"):
            days = _days_between(rule, uid)
            odd += _may_never_come(rule, days, uid)
            steps += max((end_day - began).days, 0) // days
            if days == _DAYS["YEARLY"] and _is_rare(rule):
                yearly += 1
            else:
                rules += 1
    if odd > _MOST_ODD:
        _refuse(f"it has {odd} rules that may never come, by {', '.join(_ODD)} or INTERVAL; {_MOST_ODD} are the most")
    if steps > _MOST_STEPS:
        _refuse("its rules began too long ago to follow all of them: let the daily ones begin later")
    if rules > _MOST_RULES or yearly > _MOST_YEARLY:
        _refuse(f"it has {rules + yearly} rules, {_MOST_RULES} are the most, or {_MOST_YEARLY} that come once a year")


def _first_day(event: Any, uid: str) -> date:
    start = getattr(event.get("DTSTART"), "dt", None)
    if not isinstance(start, date):
        _refuse(f"event {uid!r} has no beginning")
    day = start.date() if isinstance(start, datetime) else start
    if day < _OLDEST:
        _refuse(f"event {uid!r} begins before 1970")
    end = getattr(event.get("DTEND"), "dt", None)
    if isinstance(end, date) and _moment(end, UTC) < _moment(start, UTC):
        # The library would take it for one from its end to its beginning.
        _refuse(f"event {uid!r} ends before it begins")
    return day


def _days_between(rule: Any, uid: str) -> int:
    rates = {str(rate).upper() for rate in rule.get("FREQ", [])}
    if len(rates) != 1 or not rates <= _DAYS.keys():
        _refuse(f"event {uid!r} comes more often than daily")
    if any(len(rule.get(part, [])) > 1 for part in _ONCE_A_DAY):
        _refuse(f"event {uid!r} comes several times a day by one rule")
    if any(interval < 1 for interval in rule.get("INTERVAL", [])):
        # The library would follow it for ever.
        _refuse(f"event {uid!r} comes again after an interval of less than 1")
    return _DAYS[rates.pop()]


def _may_never_come(rule: Any, days: int, uid: str) -> bool:
    """Whether following the rule may find nothing; one that certainly never comes, or may take long, is refused."""
    months = [int(month) for month in rule.get("BYMONTH", [])]
    dates = [int(day) for day in rule.get("BYMONTHDAY", [])]
    nths = [int(nth) for nth in (str(day)[:-2] for day in rule.get("BYDAY", [])) if nth]
    if not all(1 <= month <= 12 for month in months):
        _refuse(f"event {uid!r} has a BYMONTH that is no month")
    possible = [
        (month, day) for month in months or [1] for day in dates if 1 <= abs(day) <= _LONGEST_MONTHS.get(month, 31)
    ]
    if dates and not possible:
        _refuse(f"event {uid!r} has a BYMONTHDAY that its months do not have")
    if days < _DAYS["MONTHLY"]:
        if nths or any(rule.get(part) for part in (*_ODD, "BYMONTHDAY")):
            # Every single day would be looked at; monthly and yearly rules can say the same.
            _refuse(f"event {uid!r} comes daily or weekly, and may choose days by BYMONTH and weekdays alone")
        return False
    if any(abs(nth) > (5 if months or days == _DAYS["MONTHLY"] else 53) for nth in nths):
        _refuse(f"event {uid!r} has a BYDAY that no month or year has")
    is_chosen = bool(months or dates or nths)
    is_apart = any(interval > 1 for interval in rule.get("INTERVAL", []))
    return any(rule.get(part) for part in _ODD) or (is_chosen and is_apart) or bool(dates and nths)


def _listed(event: Any, name: str) -> list[Any]:
    """A property that may be there once, several times or not at all."""
    found = event.get(name, [])
    return found if isinstance(found, list) else [found]


def _is_rare(rule: Any) -> bool:
    """Whether a yearly rule means one day of the year: the fourth Thursday, and not every one."""
    days = [str(day) for day in rule.get("BYDAY", [])]
    return all(len(rule.get(part, [])) <= 1 for part in _OFTEN_A_YEAR) and all(len(day) > len("TH") for day in days)


def _occurrence(event: Any, default: tzinfo) -> Occurrence:
    begin = _moment(event["DTSTART"].dt, default)
    end = _moment(event["DTEND"].dt, default) if "DTEND" in event else begin
    # What begins and ends at once still touches its hour.
    from_hour, before_hour = hours_touched(_ms(begin), max(_ms(end), _ms(begin) + 1))
    return Occurrence(
        from_hour, before_hour, str(event.get("UID", ""))[:_LONGEST_TEXT], str(event.get("SUMMARY", ""))[:_LONGEST_TEXT]
    )


def _moment(when: date, default: tzinfo) -> datetime:
    if not isinstance(when, datetime):
        return datetime.combine(when, time(), default)
    return when.replace(tzinfo=default) if when.tzinfo is None else when


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _refuse(reason: str, *, cause: Exception | None = None) -> NoReturn:
    raise InvalidCalendarError(f"the calendar cannot be taken: {reason}") from cause
