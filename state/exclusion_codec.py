"""A subject's exclusions as JSON that people can read; exact both ways."""

from functools import lru_cache
from typing import Any, Final

import orjson

from detection.exclusions import Exclusion, Exclusions
from detection.hours import HOUR_MS, iso, iso_hour, parse_ms

# One that people made has no calendar, and one of all series names no metric.
_OPTIONAL: Final = ("metric", "calendar", "uid")


def dump_exclusions(exclusions: Exclusions) -> bytes:
    """By id, the earliest first."""
    return orjson.dumps({one.id: exclusion_fields(one) for one in exclusions})


# Those of a calendar are the same for many subjects, and every write of a subject begins with reading its own.
@lru_cache(maxsize=512)
def load_exclusions(data: bytes) -> Exclusions:
    """The inverse; KeyError, TypeError or ValueError for what `dump_exclusions` cannot have written."""
    return Exclusions(_exclusion(plain) for plain in orjson.loads(data).values())


def exclusion_fields(one: Exclusion) -> dict[str, Any]:
    """Everything but its id: moments in RFC 3339, the metric only where it is not all of them."""
    plain = {
        "from": iso_hour(one.from_hour),
        "to": iso_hour(one.before_hour),
        "metric": one.slug,
        "reason": one.reason,
        "by": one.by,
        "at": iso(one.at_ms),
        "calendar": one.calendar,
        "uid": one.uid,
    }
    return {name: value for name, value in plain.items() if value or name not in _OPTIONAL}


def _exclusion(plain: dict[str, Any]) -> Exclusion:
    return Exclusion(
        from_hour=parse_ms(plain["from"]) // HOUR_MS,
        before_hour=parse_ms(plain["to"]) // HOUR_MS,
        slug=plain.get("metric"),
        reason=plain["reason"],
        by=plain["by"],
        at_ms=parse_ms(plain["at"]),
        calendar=plain.get("calendar", ""),
        uid=plain.get("uid", ""),
    )
