"""Alerts and changes of rules in PostgreSQL: each alert as it was last, each change of a rule once."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any, Final

from psycopg.rows import class_row

from state.database import Database
from state.json_text import json_text
from state.partitions import ALERTS, RULE_AUDIT


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One alert at one revision; `subject` is `model:NAME/VERSION` or `biller:ID`, `metric` a slug."""

    id: str
    opened_at: datetime
    subject: str
    metric: str
    rule: str
    severity: str
    owner: str
    state: str
    value: float | None
    boundary: float | None
    worst: float | None
    count: int
    line: str
    rev: int
    resolved_at: datetime | None = None
    reason: str | None = None
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    feedback: str | None = None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """Who did what to a rule: `before` and `after` are the rule as JSON, None where there was or is none."""

    at: datetime
    rule_id: str
    action: str
    by: str
    rev: int
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """Which alerts, by when they were opened: `start <= opened_at < end`; None lets all pass."""

    subject: str | None = None
    metric: str | None = None
    rule: str | None = None
    state: str | None = None
    start: datetime | None = None
    end: datetime | None = None


# Where a page ended: the time and the id of its last row.
Position = tuple[datetime, str]

# Sorted by the key, so that two writers of the same alerts wait for each other instead of dead-locking.
_RECORD: Final = """
insert into alerts as known
select * from jsonb_populate_recordset(null::alerts, %s::jsonb) as given order by given.id, given.opened_at
on conflict (id, opened_at) do update set
    subject = excluded.subject, metric = excluded.metric, rule = excluded.rule, severity = excluded.severity,
    owner = excluded.owner, state = excluded.state, value = excluded.value, boundary = excluded.boundary,
    worst = excluded.worst, count = excluded.count, resolved_at = excluded.resolved_at, reason = excluded.reason,
    acknowledged_by = excluded.acknowledged_by, acknowledged_at = excluded.acknowledged_at,
    feedback = excluded.feedback, line = excluded.line, detail = excluded.detail, rev = excluded.rev
-- A store that lost writes counts their revisions again, but what is over stays over.
where excluded.rev > known.rev or (known.resolved_at is null and excluded.resolved_at is not null)
"""
_ALERTS: Final = """
select * from alerts
where (%(subject)s::text is null or subject = %(subject)s) and (%(metric)s::text is null or metric = %(metric)s)
    and (%(rule)s::text is null or rule = %(rule)s) and (%(state)s::text is null or state = %(state)s)
    and opened_at >= coalesce(%(start)s::timestamptz, '-infinity')
    and opened_at < coalesce(%(end)s::timestamptz, 'infinity')
    and (opened_at, id) < (coalesce(%(after_at)s::timestamptz, 'infinity'), coalesce(%(after_id)s::text, ''))
order by opened_at desc, id desc limit %(limit)s
"""
_AUDIT: Final = """
insert into rule_audit
select * from jsonb_populate_recordset(null::rule_audit, %s::jsonb) as given order by given.rule_id, given.rev
on conflict do nothing
"""
_AUDITED: Final = """
select * from rule_audit
where (%(rule_id)s::text is null or rule_id = %(rule_id)s)
    and at >= coalesce(%(start)s::timestamptz, '-infinity') and at < coalesce(%(end)s::timestamptz, 'infinity')
    and (at, rule_id, rev) < (
        coalesce(%(after_at)s::timestamptz, 'infinity'), coalesce(%(after_id)s::text, ''), %(after_rev)s::bigint
    )
order by at desc, rule_id desc, rev desc limit %(limit)s
"""


class AlertHistory:
    """What alerts have come to, and what rules were; DependencyError while PostgreSQL does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, alerts: Iterable[AlertRow]) -> None:
        """Keep these, in any order and any number of times: of each alert its greatest revision stays."""
        newest: dict[tuple[str, datetime], AlertRow] = {}
        for alert in sorted(alerts, key=attrgetter("rev")):
            newest[alert.id, alert.opened_at] = alert
        if not newest:
            return
        async with self._database.transaction({ALERTS: [opened_at for _, opened_at in newest]}) as connection:
            await connection.execute(_RECORD, (_text([asdict(alert) for alert in newest.values()]),))

    async def alerts(
        self, wanted: AlertFilter = AlertFilter(), *, after: Position | None = None, limit: int = 100
    ) -> list[AlertRow]:
        """The newest first, those behind the position `after`, which is the `opened_at` and `id` of the last seen."""
        after_at, after_id = after or (None, None)
        values = {**asdict(wanted), "after_at": after_at, "after_id": after_id, "limit": limit}
        async with self._database.connection() as connection, connection.cursor(row_factory=class_row(AlertRow)) as one:
            await one.execute(_ALERTS, values)
            return await one.fetchall()

    async def alert(self, alert_id: str) -> AlertRow | None:
        """The alert with this id, the youngest if there are several."""
        async with self._database.connection() as connection, connection.cursor(row_factory=class_row(AlertRow)) as one:
            await one.execute("select * from alerts where id = %s order by opened_at desc limit 1", (alert_id,))
            return await one.fetchone()

    async def record_audit(self, changes: Iterable[AuditRow]) -> None:
        """Keep these changes; one that is known (by rule, revision and time) stays as it is."""
        rows = list(changes)
        if not rows:
            return
        async with self._database.transaction({RULE_AUDIT: [row.at for row in rows]}) as connection:
            await connection.execute(_AUDIT, (_text([asdict(row) for row in rows]),))

    async def audit(
        self,
        *,
        rule_id: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        after: tuple[datetime, str, int] | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        """Changes with `start <= at < end`, newest first, behind `after`: `at`, `rule_id` and `rev` of the last one."""
        after_at, after_id, after_rev = after or (None, None, 0)
        values = {
            "rule_id": rule_id,
            "start": start,
            "end": end,
            "after_at": after_at,
            "after_id": after_id,
            "after_rev": after_rev,
            "limit": limit,
        }
        async with self._database.connection() as connection, connection.cursor(row_factory=class_row(AuditRow)) as one:
            await one.execute(_AUDITED, values)
            return await one.fetchall()


def _text(rows: list[dict[str, Any]]) -> str:
    return json_text(rows).decode()
