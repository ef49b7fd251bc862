"""A mute window: a time, once or every week, in which nobody is told of what a rule opens."""

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from detection.hours import parse_ms

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: Final[tuple[Weekday, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_Text = Annotated[str, Meta(max_length=256)]
_MOMENT: Final = re.compile(r"\d{4}-")
_CLOCK: Final = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]", re.ASCII)


class Mute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A time in which nobody is told, whatever opens.

    Once, between two RFC 3339 moments (`since`, `until`); or every week, on `days` (all of them where left out) between
    two times of day of `zone`, over midnight where `until` is not after `since`. The day is the one of its beginning.
    Times of day are what clocks of the zone show: one that is skipped when clocks go forward is over at once, one that
    comes twice when they go back holds twice.
    """

    since: str
    until: str
    days: tuple[Weekday, ...] = ()
    zone: _Text = "UTC"
    reason: _Text = ""

    def __post_init__(self) -> None:
        try:
            _read(self)
        except ValueError as error:
            raise ValueError(f"mute from {self.since!r} until {self.until!r}: {error}") from error

    def holds(self, ms: int) -> bool:
        """Whether the moment, in milliseconds since the epoch, lies in it."""
        once = _read(self)
        if once is not None:
            return once[0] <= ms < once[1]
        local = datetime.fromtimestamp(ms // 1000, ZoneInfo(self.zone))
        time = f"{local:%H:%M}"
        if self.since < self.until:
            return self._on(local) and self.since <= time < self.until
        return (time >= self.since and self._on(local)) or (time < self.until and self._on(local - timedelta(days=1)))

    def _on(self, local: datetime) -> bool:
        return not self.days or WEEKDAYS[local.weekday()] in self.days


@lru_cache(maxsize=4096)
def _read(mute: Mute) -> tuple[int, int] | None:
    """The two moments in milliseconds since the epoch, None where it comes back every week."""
    try:
        ZoneInfo(mute.zone)
    except (ValueError, KeyError, OSError) as error:
        raise ValueError(f"no IANA time zone is called {mute.zone!r}") from error
    if _MOMENT.match(mute.since) or _MOMENT.match(mute.until):
        if mute.days:
            raise ValueError("`days` belong to times of day, not to moments")
        since, until = _moment(mute.since), _moment(mute.until)
        if since >= until:
            raise ValueError("it ends before it begins")
        return since, until
    for name, text in (("since", mute.since), ("until", mute.until)):
        if not _CLOCK.fullmatch(text):
            raise ValueError(
                f"`{name}` is neither a time of day such as '22:00' nor a moment such as '2026-11-21T22:00:00Z'"
            )
    return None


def _moment(text: str) -> int:
    try:
        return parse_ms(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text!r} is no moment with its offset, such as '2026-11-21T22:00:00Z'") from error
