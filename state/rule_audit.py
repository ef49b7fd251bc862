"""Who changed which rule, when, from what to what: how changes get from the store to the audit in PostgreSQL.

A change waits in the store's hash, where it was written together with the rule, until the audit has it: one that was
told twice is there once, and none is lost while PostgreSQL is away.
"""

from collections.abc import Sequence
from typing import Protocol, cast

from state.alert_history import AlertHistory, AuditRow
from state.database import Database
from state.moments import moment_of, ms_of
from state.rule_store import Action, RuleChange, RuleStore

# Where a change is in the audit: time in milliseconds, rule, revision.
Place = tuple[int, str, int]


class RuleAudit(Protocol):
    """What was changed; DependencyError while it does not answer."""

    async def keep(self, changes: Sequence[RuleChange]) -> None:
        """Keep these; one that is known already changes nothing."""
        ...

    async def read(self, *, rule_id: str | None = None, before: Place | None = None, limit: int) -> list[RuleChange]:
        """The newest first, of all rules or of this one; those behind `before` only."""
        ...


class PostgresRuleAudit:
    """A `RuleAudit` in the tables of `state.migrate.migrate`."""

    def __init__(self, database: Database) -> None:
        self._history = AlertHistory(database)

    async def keep(self, changes: Sequence[RuleChange]) -> None:
        await self._history.record_audit(
            AuditRow(
                at=moment_of(one.at_ms),
                rule_id=one.rule_id,
                action=one.action,
                by=one.by,
                rev=one.revision,
                before=one.before,
                after=one.after,
            )
            for one in changes
        )

    async def read(self, *, rule_id: str | None = None, before: Place | None = None, limit: int) -> list[RuleChange]:
        after = None if before is None else (moment_of(before[0]), *before[1:])
        return [_change(row) for row in await self._history.audit(rule_id=rule_id, after=after, limit=limit)]


async def relay_changes(store: RuleStore, audit: RuleAudit) -> int:
    """Bring the changes that wait in the store to the audit, and only then forget them there; how many there were."""
    waiting = await store.waiting()
    if waiting:
        await audit.keep(waiting)
        await store.audited({one.revision for one in waiting})
    return len(waiting)


def _change(row: AuditRow) -> RuleChange:
    before, after = (None if fields is None else dict(fields) for fields in (row.before, row.after))
    return RuleChange(row.rev, ms_of(row.at), row.rule_id, cast(Action, row.action), row.by, before, after)
