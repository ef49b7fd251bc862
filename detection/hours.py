"""Hours and minutes of event time as whole numbers since the epoch, and the slot of the week that an hour falls on."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
HOUR_MINUTES = 60
WEEK_HOURS = 168

# The first and the last millisecond of the years 1 to 9999 in UTC.
_FIRST_MS, _LAST_MS = -62_135_596_800_000, 253_402_300_799_999

# 1970-01-01 was a Thursday, and slot 0 is Monday, 00 h.
_EPOCH_SLOT = 72


@lru_cache(maxsize=65_536)
def slot_of(hour: int, zone: str) -> int:
    """The hour of the week, 0 to 167 from Monday 00 h on, that this hour since the epoch is in the zone.

    When clocks go forward a slot is jumped over, when they go back one is seen twice: what people do at nine, they do
    at nine of their own clock.
    """
    if zone == "UTC":
        return (hour + _EPOCH_SLOT) % WEEK_HOURS
    local = datetime.fromtimestamp(hour * 3600, ZoneInfo(zone))
    return local.weekday() * 24 + local.hour


def iso(ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC, with a fraction only where there is one."""
    moment = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)
    text = moment.isoformat(timespec="milliseconds" if ms % SECOND_MS else "seconds")
    return text.replace("+00:00", "Z")


def iso_hour(hour: int) -> str:
    """The start of an hour since the epoch, RFC 3339 in UTC."""
    return iso(hour * HOUR_MS)


def parse_ms(text: str) -> int:
    """Milliseconds since the epoch of an RFC 3339 time; ValueError for any other text and for one without an offset.

    What is in the years 1 to 9999 where it was written and not in UTC is refused too: `iso` could not write it.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset from UTC")
    ms = (moment - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)
    if not _FIRST_MS <= ms <= _LAST_MS:
        raise ValueError(f"{text!r} is not in the years 1 to 9999 of UTC")
    return ms
