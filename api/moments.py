"""A moment as RFC 3339 writes it, and not as everything else that could be taken for one."""

import re
from datetime import datetime
from typing import Annotated, Final

from pydantic import AwareDatetime, BeforeValidator

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]", re.ASCII)


def _must_name_a_day(given: object) -> object:
    """Raises ValueError for a number, in a text too: pydantic takes `0.5` for seconds since the epoch."""
    if not isinstance(given, datetime) and not (isinstance(given, str) and _DAY.match(given)):
        raise ValueError("is not a date and time of RFC 3339, such as 2026-11-21T20:00:00Z")
    return given


Moment = Annotated[AwareDatetime, BeforeValidator(_must_name_a_day)]
