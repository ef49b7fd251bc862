"""Milliseconds since the epoch as PostgreSQL's times, and back."""

from datetime import UTC, datetime, timedelta
from typing import Final

from detection.hours import iso

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_DAY_SECONDS: Final = 86_400


def moment_of(ms: int) -> datetime:
    """The inverse of `ms_of`."""
    return _EPOCH + ms * _MILLISECOND


def ms_of(moment: datetime) -> int:
    """Full milliseconds."""
    since = moment - _EPOCH
    # A fifth of the time of a division by a timedelta, of which statistics would need thousands.
    return (since.days * _DAY_SECONDS + since.seconds) * 1000 + since.microseconds // 1000


def bounds(from_ms: int | None, to_ms: int | None) -> dict[str, str]:
    """Parameters `start` and `end` as texts, because a datetime has no infinity; None leaves the side open."""
    return {
        "start": "-infinity" if from_ms is None else iso(from_ms),
        "end": "infinity" if to_ms is None else iso(to_ms),
    }
