"""For how long PostgreSQL keeps what: apart from the tables, so that settings need no database."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keeping:
    """Days of raw observation events, of minutes, of hours and learned values, and of alerts and the rules' audit."""

    events_days: int = 30
    minutes_days: int = 90
    hours_days: int = 1830
    alerts_days: int = 1830
